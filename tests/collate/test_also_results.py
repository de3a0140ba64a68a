"""What comes out of the front doors for entries that are mixed along: places, types, layouts, and the same bytes."""

import copy
from typing import Any, NamedTuple

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig, MixSchedule, TwoViews
from tests.collate.common import EVERYTHING, UNMIXED, same
from tests.collate.test_also import turned

pytestmark = UNMIXED
N = 8
ALSO = {"classes": "choose", "weights": ("soft", 5), "depth": "blend"}
MIXED = EVERYTHING.replace(p_self=0.0)
CROP = A.Compose([A.RandomCrop(14, 14), A.D4()], additional_targets={"depth": "mask", "classes": "mask"})


class Scenes:
    """Samples that are dicts: an image, a label, and what belongs to the image; `kind` makes something else of them."""

    def __init__(self, kind=dict, n=N):
        self.kind, self.n = kind, n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        rng = np.random.default_rng(i)
        sample = {
            "id": i, "image": rng.integers(0, 256, (20, 24, 3), np.uint8), "label": i % 3,
            "classes": rng.integers(-9, 9, (20, 24), np.int16), "weights": rng.integers(0, 5, (20, 24), np.uint8),
            "name": f"scene {i}", "depth": rng.random((20, 24, 2), np.float32),
        }  # fmt: skip
        return self.kind(sample)


class Scene(NamedTuple):
    image: Any
    label: Any
    id: int
    classes: Any
    name: str


def as_tuple(sample):
    return tuple(sample[key] for key in ("image", "label", "id", "classes", "name"))


def collator(config=MIXED, **options):
    return MiAMixCollator(3, config, **{"seed": 2, "also": ALSO, **options})


def scenes(kind=dict, n=N):
    return [Scenes(kind)[i] for i in range(n)]


@pytest.mark.parametrize("transform", [None, CROP, turned], ids=["none", "albumentations", "callable"])
@pytest.mark.parametrize("index_key", [None, "id"])
def test_workers_make_the_same_bytes(transform, index_key):
    batches = []
    for workers in (0, 2):
        collate = collator(transform=transform, index_key=index_key, return_masks=True)
        batches.append(list(DataLoader(Scenes(n=16), 8, collate_fn=collate, num_workers=workers)))
    assert all(same(one, other) for one, other in zip(*batches, strict=True))
    assert not torch.equal(batches[0][0]["depth"], batches[0][1]["depth"])


@pytest.mark.parametrize("transform", [CROP, turned], ids=["albumentations", "callable"])
def test_workers_make_the_same_pairs_of_views(transform):
    batches = []
    for workers in (0, 2):
        dataset = TwoViews(Scenes(n=16), transform, seed=1, also=ALSO)
        batches.append(list(DataLoader(dataset, 8, collate_fn=collator(), num_workers=workers)))
    assert all(same(one, other) for one, other in zip(*batches, strict=True))


@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
def test_entries_have_their_own_dtype_and_the_images_layout(dtype, memory_format):
    result = collator(dtype=dtype, memory_format=memory_format)(scenes())
    assert list(result) == ["image", "label", "id", "classes", "weights", "name", "depth"]
    kinds = {key: (result[key].dtype, tuple(result[key].shape)) for key in ("image", *ALSO)}
    assert kinds == {
        "image": (getattr(torch, dtype), (N, 3, 20, 24)), "classes": (torch.int16, (N, 20, 24)),
        "weights": (torch.float32, (N, 5, 20, 24)), "depth": (torch.float32, (N, 2, 20, 24)),
    }  # fmt: skip
    last = memory_format == "channels_last"
    assert result["image"].is_contiguous(memory_format=getattr(torch, "channels_last" if last else "contiguous_format"))
    assert result["depth"].stride()[1] == (1 if last else 480)
    assert result["weights"].is_contiguous()
    plain = collator(dtype="uint8")(scenes())
    assert all(torch.equal(result[key], plain[key]) for key in ALSO)  # whatever becomes of images
    assert result["id"].tolist() == list(range(N))


@pytest.mark.parametrize("kind", [as_tuple, lambda s: list(as_tuple(s)), lambda s: Scene(*as_tuple(s))], ids=["tuple", "list", "named"])  # fmt: skip
def test_entries_keep_their_positions(kind):
    samples = scenes(kind)
    before = copy.deepcopy(samples)
    result = collator(also={3: "choose"})(samples)
    by_key = collator(also={"classes": "choose"})(scenes())
    assert torch.equal(result[3], by_key["classes"])
    assert result[2].tolist() == list(range(N))
    assert result[4] == [f"scene {i}" for i in range(N)]
    assert isinstance(result, Scene if isinstance(samples[0], Scene) else tuple)
    for sample, kept in zip(samples, before, strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(sample, kept, strict=True))


# ---- maps in the label's place


def as_segmentation(sample):
    return {"image": sample["image"], "label": sample["weights"], "id": sample["id"]}


@pytest.mark.parametrize("way", ["choose", "blend", ("soft", 5)], ids=str)
@pytest.mark.parametrize("transform", [None, CROP, turned], ids=["none", "albumentations", "callable"])
@pytest.mark.parametrize("kind", [dict, tuple])
def test_a_map_in_the_labels_place_is_the_target(kind, transform, way):
    """Whether samples are dicts or tuples, and in a MixedBatch."""
    samples, key = [Scenes(as_segmentation)[i] for i in range(N)], "label"
    if kind is tuple:
        samples, key = [tuple(sample.values()) for sample in samples], 1
    options = {"transform": transform, "dtype": "uint8", "index_key": "id" if kind is dict else 2}
    if transform is turned and kind is tuple:
        options["transform"] = lambda entries: turned(entries)
    result = collator(also={key: way}, **options)(samples)
    batch = collator(also={key: way}, return_batch=True, return_masks=True, **options)(samples)
    images, targets, ids = result.values() if kind is dict else result
    assert kind is tuple or list(result) == ["image", "label", "id"]
    assert torch.equal(images, batch.images)
    assert torch.equal(targets, batch.targets)
    assert ids.tolist() == batch.extras["id" if kind is dict else 2].tolist() == list(range(N))
    assert list(batch.extras) == ["id" if kind is dict else 2]
    apart = [{"image": s["image"], "label": 0, "map": s["label"], "id": s["id"]} for s in scenes(as_segmentation)]
    if transform is CROP:
        options["transform"] = A.Compose(CROP.transforms, additional_targets={"map": "mask"})
    elsewhere = collator(also={"map": way}, **{**options, "index_key": None})
    assert targets.shape == elsewhere(apart)["map"].shape
    if transform is None and way == "choose":
        maps = torch.from_numpy(np.stack([sample["map"] for sample in apart]))
        assert (targets == maps)[batch.masks >= 0.5].all()
        assert (targets != maps)[batch.masks < 0.5].float().mean() > 0.5


def test_a_map_in_the_labels_place_goes_into_columns():
    samples = scenes(as_segmentation)
    columns = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    options = {"also": {"label": ("soft", 5)}, "index_key": "id", "seed": 2, "out_keys": ("pixels", "labels")}
    mixed = MiAMixBatch(3, MIXED, **options)(columns)
    collated = collator(dtype="uint8", memory_format="channels_last", **options)(samples)
    assert list(mixed) == list(collated) == ["pixels", "labels", "id"]
    np.testing.assert_array_equal(mixed["labels"], collated["labels"].numpy())
    images, targets, ids = MiAMixBatch(3, MIXED, also={1: ("soft", 5)}, index_key=2, seed=2)(
        [tuple(sample.values()) for sample in samples]
    )
    np.testing.assert_array_equal(targets, mixed["labels"])
    np.testing.assert_array_equal(images, mixed["pixels"])
    assert ids.tolist() == list(range(N))


# ---- evaluation, replay, schedules


def assert_unmixed(result, samples):
    np.testing.assert_array_equal(result["classes"], np.stack([sample["classes"] for sample in samples]))
    np.testing.assert_array_equal(result["depth"].permute(0, 2, 3, 1), np.stack([s["depth"] for s in samples]))
    one_hot = np.eye(5, dtype=np.float32)[np.stack([sample["weights"] for sample in samples])]
    np.testing.assert_array_equal(result["weights"].permute(0, 2, 3, 1), one_hot)


def test_evaluation_leaves_entries_unmixed():
    collate = collator(transform=CROP, dtype="uint8")
    assert_unmixed(collate.plain()(scenes()), scenes())
    for transform in (A.Compose([A.CenterCrop(4, 6)], additional_targets={"depth": "mask", "classes": "mask"}), middle):
        plain = collate.plain(transform)(scenes())
        assert_unmixed(plain, [middle(sample) for sample in scenes()])
        np.testing.assert_array_equal(plain["image"][0], scenes()[0]["image"][8:12, 9:15].transpose(2, 0, 1))


def middle(entries):
    return {key: value[8:12, 9:15] if isinstance(value, np.ndarray) else value for key, value in entries.items()}


def test_a_schedule_that_has_not_begun_leaves_entries_unmixed():
    assert_unmixed(collator(schedule=MixSchedule(probability=0.0))(scenes()), scenes())


@pytest.mark.parametrize("transform", [None, CROP, turned], ids=["none", "albumentations", "callable"])
def test_replay_makes_the_same_entries(transform):
    collate = collator(transform=transform, return_batch=True)
    batch = collate(scenes())
    again = collate.replay(scenes(), batch.plan)
    assert torch.equal(again.images, batch.images)
    assert all(torch.equal(again.extras[key], batch.extras[key]) for key in ALSO)


def test_entries_change_neither_the_images_nor_the_plan():
    """They are not hashed, and draw nothing."""
    for transform in (None, CROP, lambda x: turned(x) if isinstance(x, dict) else turned({"image": x})["image"]):
        with_also = collator(transform=transform, return_batch=True, also=ALSO)(scenes())
        without = collator(transform=transform, return_batch=True, also=None)(scenes())
        assert torch.equal(with_also.images, without.images)
        assert torch.equal(with_also.targets, without.targets)
        assert with_also.plan.layers.tobytes() == without.plan.layers.tobytes()
        assert with_also.masks is None


def test_only_what_is_not_mixed_is_collated():
    seen = []

    def collate_extras(values):
        seen.append(values)
        return values

    result = collator(collate_extras=collate_extras)(scenes())
    assert seen == [result["id"], result["name"]] == [list(range(N)), [f"scene {i}" for i in range(N)]]


# ---- the other front doors


@pytest.mark.parametrize("transform", [None, CROP, turned], ids=["none", "albumentations", "callable"])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_columns_and_rows_equal_the_collator(memory_format, transform):
    samples = scenes()
    columns = {key: [sample[key] for sample in samples] for key in samples[0]}
    columns |= {key: np.stack(columns[key]) for key in ("image", "depth", "label", "weights")}
    options = {"also": ALSO, "transform": transform, "memory_format": memory_format, "return_masks": True}
    before = copy.deepcopy(columns)
    mixed = MiAMixBatch(3, MIXED, seed=2, **options)(columns)
    theirs = collator(dtype="uint8", **options)(samples)
    assert list(mixed) == ["image", "label", "masks", "id", "classes", "weights", "name", "depth"]
    assert mixed["name"] is columns["name"]
    for key in ("image", "depth", "classes", "weights", "label", "masks"):
        expected = theirs[key].numpy()
        moved = memory_format == "channels_last" and key in ("image", "depth")
        np.testing.assert_array_equal(mixed[key], np.moveaxis(expected, 1, -1) if moved else expected)
        assert mixed[key].dtype == expected.dtype
    assert all(np.array_equal(columns[key], before[key]) for key in columns)
    rows = MiAMixBatch(3, MIXED, seed=2, **options)(samples)
    assert all(np.array_equal(rows[key], mixed[key]) for key in mixed)
    assert "masks" not in MiAMixBatch(3, MIXED, seed=2, **{**options, "return_masks": False})(samples)


@pytest.mark.parametrize("has_seconds", [False, True])
def test_arrays_equal_the_collator(has_seconds):
    """And lists of arrays or tensors, with the views and entries that the collator was given as pairs."""
    first, other = scenes(), scenes(n=2 * N)[N:] if has_seconds else None
    samples = first
    if has_seconds:
        samples = [{key: (a[key], b[key]) for key in a} | {"label": a["label"]} for a, b in zip(first, other, strict=True)]  # fmt: skip
    config = MIXED.replace(second_view="independent", p_self=0.3 if has_seconds else 0)
    batch = collator(config, dtype="uint8", return_batch=True, collate_extras=list)(samples)
    stacked = [{key: np.stack([s[key] for s in part]) for key in ("image", *ALSO)} for part in (first, other or [])[: 1 + has_seconds]]  # fmt: skip
    given = {"also": {key: stacked[0][key] for key in ALSO}}
    if has_seconds:
        given |= {"second": stacked[1]["image"], "second_also": {key: list(map(torch.from_numpy, stacked[1][key])) for key in ALSO}}  # fmt: skip
    mix = MiAMix(3, config, also=ALSO)
    mixed = mix.render(batch.plan, stacked[0]["image"], [s["label"] for s in first], **given)
    np.testing.assert_array_equal(mixed.images, batch.images.permute(0, 2, 3, 1))
    assert list(mixed.extras) == list(ALSO)
    assert mixed.masks is None
    for key in ("classes", "weights"):
        np.testing.assert_array_equal(mixed.extras[key], batch.extras[key])
    np.testing.assert_array_equal(mixed.extras["depth"], batch.extras["depth"].permute(0, 2, 3, 1))


# ---- kinds of maps


def palette(classes):
    image = Image.fromarray(classes.astype(np.uint8), "L").convert("P")
    image.putpalette([value for index in range(256) for value in (255 - index, 7, index)])
    assert np.array_equal(np.asarray(image), classes) or image.putdata(classes.ravel().tolist()) is None
    return image


@pytest.mark.parametrize("way", ["choose", ("soft", 5)], ids=str)
@pytest.mark.parametrize("transform", [None, CROP, lambda x: {key: value.crop((1, 2, 9, 9)) for key, value in x.items()}],
                         ids=["none", "albumentations", "pictures"])  # fmt: skip
def test_the_indices_of_a_palette_are_classes(transform, way):
    def picture(sample, made):
        return {"image": Image.fromarray(sample["image"]), "label": 0, "map": made(sample["weights"])}

    transform = A.Compose([A.RandomCrop(14, 14), A.D4()]) if transform is CROP else transform
    found = [
        collator(also={"map": way}, transform=transform, index_key=None)([picture(s, made) for s in scenes()])
        for made in (palette, Image.fromarray)
    ]
    assert same(*found)
    assert (found[0]["map"] if way == "choose" else found[0]["map"].argmax(1)).unique().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("transform", [None, CROP], ids=["none", "albumentations"])
def test_numbers_in_another_byte_order_are_the_same_numbers(transform):
    also = {"classes": "choose", "depth": "blend"}
    swapped = [{**s, **{key: s[key].astype(s[key].dtype.newbyteorder(">")) for key in also}} for s in scenes()]
    found = [collator(also=also, transform=transform)(samples) for samples in (scenes(), swapped)]
    assert same(*found)


@pytest.mark.parametrize("layout", ["auto", "channels_first", "channels_last"])
@pytest.mark.parametrize("transform", [None, CROP], ids=["none", "albumentations"])
def test_layouts_of_entries_are_those_of_images(layout, transform):
    """As `layout` says, or by their type."""
    result = collator(transform=transform)(scenes())

    def laid_out(value):
        if value.ndim == 2:
            return value
        return np.moveaxis(value, -1, 0) if layout == "channels_first" else torch.from_numpy(value).movedim(-1, 0) if layout == "auto" else value  # fmt: skip

    samples = [{**sample, **{key: laid_out(sample[key]) for key in ("image", *ALSO)}} for sample in scenes()]
    found = collator(transform=transform, layout=layout, index_key="id")(samples)
    expected = collator(transform=transform, index_key="id")(scenes())
    assert all(torch.equal(found[key], expected[key]) for key in ("image", *ALSO))
    assert result["depth"].shape == found["depth"].shape


def test_features_are_not_mixed_along():
    for make in (MiAMix, MiAMixBatch, MiAMixCollator):
        with pytest.raises(ValueError, match='also can\'t be combined with mixes="features"'):
            make(
                3, MiAMixConfig(mixes="features", methods=("mixup",), weights=(1,), p_self=0.0), also={"map": "choose"}
            )
    images, maps = np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 8, 8), np.uint8)
    mix = MiAMix(3, MiAMixConfig(mixes="features", methods=("mixup",), weights=(1,), p_self=0.0))
    plan = mix(images, [0] * 4, rng=np.random.default_rng(0)).plan
    with pytest.raises(ValueError, match="also can't be combined"):
        MiAMix(3, also={"map": "choose"}).render(plan, images, [0] * 4, also={"map": maps})
    samples = [{"image": image, "label": 0, "map": map_} for image, map_ in zip(images, maps, strict=True)]
    with pytest.raises(ValueError, match="also can't be combined"):
        collator(also={"map": "choose"}, return_batch=True).replay(samples, plan)
