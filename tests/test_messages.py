"""What people give by mistake, and what they are told: the remedy, and never a wall of numbers."""

import collections
import io
import re
import warnings

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig, TwoViews, normalize_on_device
from miamix_cpu.checks import short
from miamix_cpu.samples.labels import read_labels

PLAIN = MiAMixConfig.plain("mixup")
IMAGE = np.zeros((8, 8, 3), np.uint8)


def told(function, *arguments, **options):
    """The error's type and words."""
    with pytest.raises(Exception, match=r".") as caught:
        function(*arguments, **options)
    words = str(caught.value)
    assert len(words) < 600, words
    return type(caught.value), words


# G. Units and shapes that are nearly surely wrong ------------------------------------------------------------------------

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
THE_RIGHT_ONES = "mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)"


@pytest.mark.parametrize("make", [
    lambda: MiAMixCollator(10, **IMAGENET), lambda: MiAMixBatch(10, **IMAGENET), lambda: MiAMix(10, **IMAGENET),
    lambda: normalize_on_device(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), **IMAGENET),
    lambda: MiAMix(10, mean=IMAGENET["mean"], std=(0.2, 0.2, 0.2)), lambda: MiAMix(10, mean=(0, 0, 0), std=IMAGENET["std"]),
], ids=["collator", "batch", "MiAMix", "device", "mean", "std"])  # fmt: skip
def test_units_of_255_are_refused(make):
    kind, words = told(make)
    assert kind is ValueError
    assert "must be in units of [0, 1]" in words
    assert any(part in words for part in THE_RIGHT_ONES.split(", s"))


def test_the_numbers_to_give_are_named():
    assert THE_RIGHT_ONES in told(MiAMix, 10, **IMAGENET)[1]


def test_one_class_has_nothing_to_classify():
    kind, words = told(MiAMixCollator(1, PLAIN, seed=0), [(IMAGE, 0), (IMAGE, 0)])
    assert kind is ValueError
    assert "give num_classes=2, or for a single output labels that are vectors of one float, [0.0] or [1.0]" in words
    samples = [(IMAGE, np.float32([i % 2])) for i in range(4)]
    _, targets = MiAMixCollator(1, MiAMixConfig.plain("mixup"), seed=0)(samples)
    assert targets.shape == (4, 1)


def test_many_channels_and_few_rows_are_refused_with_the_two_ways_to_say_it():
    samples = [(np.zeros((13, 64, 64), np.uint8), 0)] * 2
    kind, words = told(MiAMixCollator(10, PLAIN, seed=0), samples)
    assert kind is ValueError
    assert "layout='channels_first' if it is (C, H, W), or layout='channels_last' if it really has so many" in words
    first = MiAMixCollator(10, PLAIN, seed=0, layout="channels_first")(samples)[0]
    last = MiAMixCollator(10, PLAIN, seed=0, layout="channels_last")(samples)[0]
    assert (first.shape, last.shape) == ((2, 13, 64, 64), (2, 64, 13, 64))
    kind, words = told(MiAMix(10, PLAIN), np.zeros((2, 13, 64, 64), np.uint8), [0, 1], rng=np.random.default_rng(0))
    assert "looks like (N, C, H, W): give images.transpose(0, 2, 3, 1)" in words


@pytest.mark.parametrize("mix", [
    lambda images: MiAMixCollator(10, PLAIN, seed=0)([(image, 0) for image in images]),
    lambda images: MiAMix(10, PLAIN)(images, [0] * len(images), rng=np.random.default_rng(0)),
], ids=["collator", "MiAMix"])  # fmt: skip
def test_floats_that_nobody_divided_are_warned_of_once(mix, rng):
    images = rng.integers(0, 256, (4, 8, 8, 3)).astype(np.float32)
    with pytest.warns(UserWarning, match=r"float images hold values from \d+ to 2\d\d.*never divided by 255: divide"):
        mix(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mix(images / 255)
        mix((images / 255 - 0.5) / 0.2)
        mix(images - 1000)  # Hounsfield units


# H. Labels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [
    np.array([[3], [7]]), [np.array([3]), np.array([7])], [torch.tensor([3]), torch.tensor([7])], [[3], [7]],
    torch.tensor([[3], [7]]),
], ids=str)  # fmt: skip
def test_labels_of_one_entry_are_the_integers_that_they_hold(labels):
    assert read_labels(labels, 9).tolist() == [3, 7]
    with pytest.raises(ValueError, match=r"label of sample 1 must be in \[0, 5\], got 7"):
        read_labels(labels, 6)


def test_object_columns_of_lists_as_ray_has_them():
    column = np.empty(4, dtype=object)
    for i in range(4):
        column[i] = [0.0, 1.0] if i % 2 else [1.0, 0.0]
    mixed = MiAMixBatch(2, PLAIN)({"image": np.zeros((4, 8, 8, 3), np.uint8), "label": column})
    assert mixed["label"].shape == (4, 2)


@pytest.mark.parametrize("label", [1.0, np.float32(1), torch.tensor(1.0)], ids=["float", "numpy", "tensor"])
def test_float_labels(label):
    kind, words = told(read_labels, [0, label], 9)
    assert kind is TypeError
    assert "label of sample 1 must be an integer class" in words
    assert "got the float 1: give int(label)" in words


# H. Images ---------------------------------------------------------------------------------------------------------------


def truncated_picture():
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    return Image.open(io.BytesIO(file.getvalue()[:1500]))  # read when its pixels are asked for


@pytest.mark.parametrize("transform", [None, A.Compose([A.HorizontalFlip()]), lambda picture: picture.rotate(90)])
def test_a_truncated_file_is_named_by_its_sample(transform):
    good = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    collate = MiAMixCollator(10, PLAIN, seed=0, transform=transform)
    with pytest.raises(OSError, match="truncated") as caught:
        collate([(good, 0), (truncated_picture(), 1)])
    assert any(re.search(r"image of sample 1|first view of sample 1", note) for note in caught.value.__notes__)


def test_a_file_that_only_the_transform_reads():
    from miamix_cpu import EpochIndex, Indexed

    collate = MiAMixCollator(10, PLAIN, seed=0, transform=lambda picture: picture.rotate(90))
    dataset = Indexed([(truncated_picture(), 0)])
    with pytest.raises(OSError, match="truncated") as caught:
        collate([dataset[EpochIndex(0, 0)]])
    assert "raised when the image was read, for the first view of sample 0" in caught.value.__notes__


@pytest.mark.parametrize(("items", "words"), [
    ([None], r"item 0 must be \(image, label, ...\) or a dict, got None"),
    ([{"img": IMAGE, "label": 1}], "item 0 has no 'image', it has 'img', 'label'; see `key`"),
    ([IMAGE], r"item 0 must be \(image, label, ...\) or a dict, got ndarray of uint8 \(8, 8, 3\)"),
    ([((IMAGE, IMAGE), 1)], "the image of item 0 must be one image, of which TwoViews makes two"),
])  # fmt: skip
def test_items_that_two_views_cannot_be_made_of(items, words):
    with pytest.raises((TypeError, ValueError), match=words):
        TwoViews(items, lambda image: image)[0]


# N. What a batch is made of ----------------------------------------------------------------------------------------------


def becomes_a_tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def test_a_layout_that_is_said_is_trusted_where_the_transform_changes_the_kind():
    samples = [(np.zeros((32, 32, 64), np.uint8), i) for i in range(2)]
    with pytest.raises(ValueError, match=r"Say layout='channels_(first|last)'"):
        MiAMixCollator(10, PLAIN, seed=0, transform=becomes_a_tensor)(samples)
    collate = MiAMixCollator(10, PLAIN, seed=0, transform=becomes_a_tensor, layout="channels_last")
    assert collate(samples)[0].shape == (2, 64, 32, 32)
    flip = A.Compose([A.HorizontalFlip()])
    pair, _ = TwoViews([(np.zeros((8, 8, 9), np.uint8), 0)], flip, layout="channels_last")[0]
    assert pair[0].shape == (8, 8, 9)


def test_pictures_of_16_bits_are_not_told_to_be_clipped():
    _, words = told(MiAMixCollator(10, PLAIN, seed=0), [(Image.new("I;16", (8, 8)), 0)] * 2)
    assert "give np.asarray(image).astype(np.float32) / 65535" in words
    assert "convert" not in words


@pytest.mark.parametrize("samples", [
    (np.zeros((4, 8, 8), np.uint8), np.arange(4)), [torch.zeros(4, 8, 8), torch.arange(4)],
    {"image": np.zeros((4, 8, 8, 3), np.uint8), "label": np.arange(4)},
    (np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)), [torch.zeros(4, 3, 8, 8), torch.arange(4)],
    torch.zeros(4, 3, 8, 8),
], ids=["grey", "grey tensors", "columns", "arrays", "tensors", "one tensor"])  # fmt: skip
def test_a_whole_batch_belongs_elsewhere(samples):
    kind, words = told(MiAMixCollator(10, PLAIN, seed=0), samples)
    assert kind is TypeError
    assert words.startswith("samples must be a list, one sample each, got ")
    assert "to MiAMixBatch" in words


def test_a_loader_without_a_batch_size_is_told():
    batches = [{"image": np.zeros((4, 8, 8, 3), np.uint8), "label": np.arange(4)}]
    loader = DataLoader(batches, batch_size=None, collate_fn=MiAMixCollator(10, PLAIN, seed=0))
    with pytest.raises(TypeError, match=r"DataLoader\(batch_size=None\).*MiAMixBatch"):
        next(iter(loader))


def test_columns_by_position_for_a_function_of_columns():
    with pytest.raises(TypeError, match=r"give columns, {'image': ..., 'label': ...}, to MiAMixBatch"):
        MiAMixBatch(10, PLAIN)((np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)))


@pytest.mark.parametrize("samples", [
    [[{"image": np.zeros((3, 64, 64)), "label": 1}] * 4] * 2, [[np.zeros((64, 64))] * 4] * 2,
    [(IMAGE, [np.zeros(500)] * 3)] * 2, [(IMAGE, np.zeros(5000))] * 2, [(IMAGE, "x" * 5000)] * 2,
    [({"a": np.zeros(5000)}, 1)] * 2,
])  # fmt: skip
def test_no_message_prints_an_array(samples):
    told(MiAMixCollator(10, PLAIN, seed=0), samples)


@pytest.mark.parametrize(("value", "words"), [
    (np.zeros((3, 4)), "ndarray of float64 (3, 4)"), (torch.zeros(2), "Tensor of torch.float32 (2,)"), (7, "7"),
    ([np.zeros(3)] * 2, "a list of 2 (ndarray)"), ({"a": [1]}, "a dict of 1 (list)"), ("x" * 500, None), ([1, 2], "[1, 2]"),
    (list(range(1000)), "[0, 1, 2, 3, 4, 5, ...]"),
])  # fmt: skip
def test_values_are_cut_short(value, words):
    assert len(short(value)) <= 200
    assert words is None or short(value) == words


Pair = collections.namedtuple("Pair", "picture target name")


def test_named_tuples_come_back_as_they_went_in():
    samples = [Pair(IMAGE, i, i) for i in range(4)]
    batch = MiAMixCollator(10, PLAIN, seed=0)(samples)
    assert type(batch) is Pair
    assert batch.picture.shape == (4, 3, 8, 8)
    assert batch.name.tolist() == [0, 1, 2, 3]
    assert (
        type(MiAMixCollator(10, PLAIN, seed=0, return_masks=True)(samples)) is tuple
    )  # there is a part without a name
    assert type(TwoViews(samples, lambda image: image)[0]) is Pair
    assert type(MiAMixBatch(10, PLAIN)(samples)) is Pair


def test_a_batch_of_one_that_comes_out_unmixed_is_warned_of_once():
    collate = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0)
    with pytest.warns(UserWarning, match=r"a batch of one sample came out unmixed.*drop_last=True"):
        collate([(IMAGE, 0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collate([(IMAGE, 1)])
        twice = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0, transform=A.Compose([A.HorizontalFlip()]))
        twice([(IMAGE, 0)])  # mixed with another view of itself


def test_self_pairs_without_a_second_view_are_warned_of_once():
    images = np.zeros((64, 8, 8, 3), np.uint8)
    mix, rng = MiAMix(10), np.random.default_rng(0)
    with pytest.warns(UserWarning, match=r"\d of 64 samples are mixed with themselves and come out unmixed.*second="):
        mix(images, [0] * 64, rng=rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mix(images, [0] * 64, rng=rng)
        MiAMix(10)(images, [0] * 64, second=images, rng=rng)
        MiAMix(10, MiAMixConfig(p_self=0.0))(images, [0] * 64, rng=rng)


def test_replay_refuses_other_samples(rng):
    samples = [(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), i) for i in range(4)]
    collate = MiAMixCollator(10, PLAIN, seed=0, return_batch=True)
    plan = collate(samples).plan
    assert torch.equal(collate.replay(samples, plan).images, collate.replay(samples, plan).images)
    for others in (samples[::-1], [(IMAGE, i) for i in range(4)], [(image, 0) for image, _ in samples]):
        with pytest.raises(ValueError, match=r"the plan was drawn for other samples.*MiAMix.render"):
            collate.replay(others, plan)


def test_a_saved_plan_knows_its_samples(tmp_path, rng):
    from miamix_cpu import MixPlan

    samples = [(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), i) for i in range(4)]
    collate = MiAMixCollator(10, PLAIN, seed=0, return_batch=True)
    collate(samples).plan.save(tmp_path / "plan.npz")
    plan = MixPlan.load(tmp_path / "plan.npz")
    collate.replay(samples, plan)
    with pytest.raises(ValueError, match="other samples"):
        collate.replay(samples[::-1], plan)
    plan.samples = None  # as saved by an earlier version
    collate.replay(samples[::-1], plan)


def test_extras_may_be_collated_otherwise():
    samples = [(IMAGE, i, torch.full((2,), i)) for i in range(3)]
    _, _, extras = MiAMixCollator(10, PLAIN, seed=0, collate_extras=torch.cat)(samples)
    assert extras.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(TypeError, match="collate_extras must be callable, got 3"):
        MiAMixCollator(10, collate_extras=3)

    def fails(values):
        raise KeyError("no")

    with pytest.raises(KeyError) as caught:
        MiAMixCollator(10, PLAIN, seed=0, collate_extras=fails)(samples)
    assert caught.value.__notes__ == ["raised by fails, for the samples' 2"]


@pytest.mark.parametrize(("config", "words"), [
    ("cutmix", r"did you mean MiAMixConfig.plain\('cutmix'\)"), (lambda image: image, "transform=..."),
])  # fmt: skip
def test_what_is_given_for_the_configuration(config, words):
    with pytest.raises(TypeError, match=words):
        MiAMixCollator(10, config)


def test_normalisation_on_the_device_can_be_compiled():
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    compiled = torch.compile(normalize_on_device, fullgraph=True, backend="eager")
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    assert torch.equal(compiled(images, mean, std), normalize_on_device(images, mean, std))


# F. torch's default device -----------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere():
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize("options", [
    {}, {"targets": "pair"}, {"dtype": "bfloat16", "return_masks": True}, {"return_batch": True},
    {"memory_format": "channels_last"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("in_a_worker", [False, True])
def test_the_default_device_is_not_ours(options, in_a_worker, elsewhere, monkeypatch):
    from miamix_cpu.workers.shared_buffers import Lender
    from tests.shared_memory import as_a_worker

    def check():
        batch = MiAMixCollator(10, PLAIN, seed=0, **options)(
            [(np.zeros((64, 64, 3), np.uint8), i, i) for i in range(8)]
        )
        parts = [batch.images, batch.targets, batch.lam, batch.extras[2]] if options.get("return_batch") else batch
        flat = [part for whole in parts for part in (whole if isinstance(whole, tuple) else (whole,))]
        assert {part.device.type for part in flat} == {"cpu"}

    if in_a_worker:
        with as_a_worker(monkeypatch, Lender()):
            check()
    else:
        check()


def test_two_views_and_losses_under_a_default_device(elsewhere):
    from miamix_cpu import mixed_accuracy

    TwoViews([(IMAGE, 0)], A.Compose([A.HorizontalFlip()]))[0]
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8, device="cpu")
    assert normalize_on_device(images, (0.5,) * 3, (0.2,) * 3).device.type == "cpu"
    logits, targets = torch.zeros(2, 3, device="cpu"), torch.eye(3, device="cpu")[:2]
    assert mixed_accuracy(logits, targets).device.type == "cpu"


# What a newcomer stumbled over -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [MiAMix, MiAMixBatch, MiAMixCollator])
def test_a_field_of_the_configuration_is_named(make):
    with pytest.raises(
        TypeError, match=r"alpha is a field of MiAMixConfig: \w+\(..., config=MiAMixConfig\(alpha=...\)\)"
    ):
        make(10, alpha=0.2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'aplha'"):
        make(10, aplha=0.2)


def test_weights_that_kept_their_defaults():
    with pytest.raises(ValueError, match=r"methods changed and weights kept their defaults; give weights=\(1, 1\)"):
        MiAMixConfig(methods=("mixup", "cutmix"))
    with pytest.raises(ValueError, match=r"got 1; give weights=\(1, 1\)"):
        MiAMixConfig(methods=("mixup", "cutmix"), weights=(3,))


@pytest.mark.parametrize(("name", "guess"), [("cutmx", True), ("agmx", True), ("resizemix", False), ("puzzle", False)])
def test_no_name_is_suggested_that_is_not_near(name, guess):
    with pytest.raises(ValueError, match=r"The methods are mixup, cutmix") as caught:
        MiAMixConfig.plain(name)
    assert ("did you mean" in str(caught.value)) == guess


def test_files_that_are_no_plans(tmp_path):
    import pickle

    from miamix_cpu import MixPlan

    path = tmp_path / "plan.npz"
    path.write_bytes(pickle.dumps({"a": 1}))
    kind, words = told(MixPlan.load, path)
    assert kind is ValueError
    assert "is not a saved plan, an .npz file that MixPlan.save wrote" in words
    assert "unsafe" not in words
    assert "pickle" not in words


def test_a_plan_of_another_version_names_both(tmp_path):
    from miamix_cpu import MixPlan, __version__

    path = tmp_path / "plan.npz"
    MiAMix(10).plan(2, 8, 8, rng=np.random.default_rng(0)).save(path)
    with np.load(path) as file:
        parts = {name: file[name] for name in file.files}
    np.savez(path, **{**parts, "methods": np.array(["mixup"]), "version": np.array("9.9")})
    with pytest.raises(
        ValueError, match=rf"written by miamix_cpu 9.9, .* this one, {re.escape(__version__)}: render it"
    ):
        MixPlan.load(path)
