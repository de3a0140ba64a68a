"""MiAMixCollator: inputs, outputs, views, keys, workers, replay, bad input."""

import collections
import copy
import dataclasses
import pickle
import random
import sys
import threading
import time
import warnings

import albumentations as A
import cloudpickle
import cv2
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader

from miamix_cpu import (
    EpochIndex,
    EpochSampler,
    Indexed,
    MiAMix,
    MiAMixCollator,
    MiAMixConfig,
    MixedBatch,
    MixPlan,
    MixSchedule,
    TwoViews,
)
from miamix_cpu.config import METHODS
from miamix_cpu.plan.streams import PLAN, VIEWS, stream
from tests.shared_memory import lies_in_shared_memory
from tests.transforms import Fails, Grows, Numbers, draws_from_everything, fails_on_seven, returns_nothing

pytestmark = pytest.mark.filterwarnings(
    "ignore:a batch of one sample came out unmixed", "ignore:the transform returned the arrays"
)

EVERYTHING = MiAMixConfig(methods=METHODS, weights=(1,) * 6, k_max=4, p_aug=0.5, p_self=0.3)
NO_SELF = MiAMixConfig(p_self=0.0)


def crop(side=6):
    return A.Compose([A.RandomCrop(side, side), A.HorizontalFlip()])


def samples_of(n, *, side=8, channels=3, seed=0, num_classes=10):
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 256, (side, side, channels), dtype=np.uint8), i % num_classes) for i in range(n)]


def same(one, two):
    """Whether two results hold the same bytes."""
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and one.shape == two.shape and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))


# Results -------------------------------------------------------------------------------------------------------------


def test_images_and_targets():
    images, targets = MiAMixCollator(10, seed=0, transform=crop())(samples_of(12))
    assert (images.shape, images.dtype) == ((12, 3, 6, 6), torch.float32)
    assert (targets.shape, targets.dtype) == ((12, 10), torch.float32)
    assert images.is_contiguous()
    assert 0 <= images.min() < images.max() <= 1
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(12))
    F.cross_entropy(torch.zeros(12, 10), targets)


@pytest.mark.parametrize("n", [1, 2, 3, 33])
def test_any_batch_size(n):
    images, targets = MiAMixCollator(10, seed=0, transform=crop())(samples_of(n))
    assert len(images) == len(targets) == n


def test_equals_miamix_called_by_hand():
    samples = samples_of(20)
    batch = MiAMixCollator(10, NO_SELF, seed=3, dtype="uint8", return_batch=True)(samples)
    images, labels = (np.array(column) for column in zip(*samples, strict=True))
    expected = MiAMix(10, NO_SELF)(images, labels, rng=stream(batch.plan.key, PLAN))
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected.images)
    np.testing.assert_array_equal(batch.targets.numpy(), expected.targets)


@pytest.mark.parametrize("workers", [0, 2])
def test_identity(workers):
    """Who is mixed with whom, read back from the pixels, through the collator: a wrong partner's pixels would pass
    any test that uses one second view for all."""
    n = 40
    pairs = []
    for i in range(n):
        first, second = np.zeros((2, 16, 16, 3), np.uint8)
        first[..., 0], second[..., 1], second[..., 2] = 6 * i, 6 * i, 255
        pairs.append(((first, second), i))
    collate = MiAMixCollator(n, EVERYTHING, seed=1, return_batch=True)
    (batch,) = DataLoader(pairs, n, num_workers=workers, collate_fn=collate)
    means = batch.images.double().mean(dim=(2, 3)).numpy() * 255
    lam = 1 - means[:, 2] / 255
    np.testing.assert_allclose(lam, batch.lam, atol=1e-5)
    np.testing.assert_allclose(means[:, 0], 6 * lam * np.arange(n), atol=1e-2)
    np.testing.assert_allclose(means[:, 1], 6 * (1 - lam) * batch.partner.numpy(), atol=1e-2)
    for i in range(n):
        expected = np.zeros(n)
        expected[i] += batch.lam[i]
        expected[batch.partner[i]] += 1 - batch.lam[i]
        np.testing.assert_allclose(batch.targets[i], expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8", torch.float16, np.float32])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("workers", [0, 1])
def test_dtypes_and_memory_formats(dtype, memory_format, workers):
    samples = samples_of(6)
    reference, _ = MiAMixCollator(10, NO_SELF, seed=0)(samples)
    collate = MiAMixCollator(10, NO_SELF, seed=0, dtype=dtype, memory_format=memory_format)
    ((images, _),) = DataLoader(samples, 6, num_workers=workers, collate_fn=collate)
    name = str(dtype).removeprefix("torch.") if isinstance(dtype, (str, torch.dtype)) else "float32"
    assert images.dtype == getattr(torch, name)
    assert images.shape == (6, 3, 8, 8)
    kind = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    assert images.is_contiguous(memory_format=kind)
    values = images.float() / 255 if name == "uint8" else images.float()
    tolerance = {"float32": 0, "float16": 5e-4, "bfloat16": 4e-3, "uint8": 0.51 / 255}[name]
    assert (values - reference).abs().max() <= tolerance


@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_in_a_worker_the_batch_is_written_into_shared_memory(memory_format, monkeypatch):
    """What the kernel fills is the memory that travels: its tensor is shared, and nobody copies it."""
    from miamix_cpu import keyed as module
    from miamix_cpu.workers import transport

    monkeypatch.setattr(transport, "get_worker_info", lambda: object())
    monkeypatch.setattr(MiAMixCollator, "_settle_in_worker", lambda self: None)
    written = []
    mix_views = module.mix_views
    monkeypatch.setattr(
        module, "mix_views", lambda plan, first, second, out, *rest, **options: written.append(out.ctypes.data)
        or mix_views(plan, first, second, out, *rest, **options),
    )  # fmt: skip
    images, targets = MiAMixCollator(2000, NO_SELF, seed=0, memory_format=memory_format)(samples_of(16, side=32))
    assert lies_in_shared_memory(images)
    assert lies_in_shared_memory(targets)
    assert images.data_ptr() == written[0]


def test_normalisation_is_fused():
    samples = samples_of(5)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    plain, _ = MiAMixCollator(10, NO_SELF, seed=0)(samples)
    found, _ = MiAMixCollator(10, NO_SELF, seed=0, mean=mean, std=std)(samples)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    torch.testing.assert_close(found, (plain - mean) / std, atol=2e-6, rtol=0)


@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("side", [1, 9])
def test_bytes_are_mixed_alike_whether_masks_are_made_or_not(side, channels, planar, memory_format):
    """Masks that are constant, or but for a box, are not made unless they are wanted."""
    samples = samples_of(32, side=side, channels=channels)
    if planar:
        samples = [(torch.from_numpy(image).permute(2, 0, 1).contiguous(), label) for image, label in samples]
    config = MiAMixConfig(methods=("mixup", "cutmix"), weights=(1, 1), p_self=0, p_aug=0, p_smooth=0)
    options = {"config": config, "seed": 0, "dtype": "uint8", "memory_format": memory_format}
    without, _ = MiAMixCollator(10, **options)(samples)
    wanted, _, masks = MiAMixCollator(10, **options, return_masks=True)(samples)
    assert masks.unique().numel() > 2
    assert torch.equal(without, wanted)


def test_pair_targets_smoothing_and_masks():
    samples = samples_of(9)
    images, (y_a, y_b, lam), masks = MiAMixCollator(10, NO_SELF, seed=0, targets="pair", return_masks=True)(samples)
    _, soft = MiAMixCollator(10, NO_SELF, seed=0)(samples)
    hot = F.one_hot(y_a, 10) * lam[:, None] + F.one_hot(y_b, 10) * (1 - lam[:, None])
    torch.testing.assert_close(soft, hot, atol=1e-6, rtol=0)
    assert y_a.dtype == y_b.dtype == torch.int64
    assert masks.shape == (9, 8, 8)
    torch.testing.assert_close(masks.mean(dim=(1, 2)), lam, atol=1e-6, rtol=0)
    _, smooth = MiAMixCollator(10, NO_SELF, seed=0, label_smoothing=0.1)(samples)
    torch.testing.assert_close(smooth, hot * 0.9 + 0.01, atol=1e-6, rtol=0)
    assert images.shape == (9, 3, 8, 8)


def test_return_batch():
    samples = [(image, label, f"name {label}", label * 2) for image, label in samples_of(5)]
    batch = MiAMixCollator(10, NO_SELF, seed=0, return_batch=True, return_masks=True)(samples)
    assert isinstance(batch, MixedBatch)
    assert all(
        isinstance(value, torch.Tensor)
        for value in (batch.images, batch.targets, batch.lam, batch.partner, batch.masks)
    )
    assert batch.extras[2] == [f"name {i}" for i in range(5)]
    assert batch.extras[3].tolist() == [0, 2, 4, 6, 8]
    assert batch.describe(2).startswith("sample 2 with sample ")
    assert batch.to(torch.float64).images.dtype == torch.float64
    assert batch.to("cpu").plan is batch.plan
    Pair = collections.namedtuple("Pair", "one two")
    nested = dataclasses.replace(batch, extras={"a": [torch.zeros(1)], "b": Pair(torch.zeros(1), "text")}).to("meta")
    assert nested.extras["a"][0].device == nested.extras["b"].one.device == nested.images.device == torch.device("meta")
    assert nested.extras["b"].two == "text"
    restored = pickle.loads(pickle.dumps(batch))
    assert torch.equal(restored.images, batch.images)


# Samples -------------------------------------------------------------------------------------------------------------


def test_longer_tuples_and_lists():
    samples = [[image, label, label * 2, {"a": label}] for image, label in samples_of(4)]
    images, _, doubled, nested = MiAMixCollator(10, NO_SELF, seed=0)(samples)
    assert images.shape == (4, 3, 8, 8)
    assert doubled.tolist() == [0, 2, 4, 6]
    assert nested["a"].tolist() == [0, 1, 2, 3]


def test_dicts():
    samples = [{"img": image, "y": label, "id": label * 2} for image, label in samples_of(4)]
    plain = MiAMixCollator(10, NO_SELF, seed=0)(samples_of(4))
    found = MiAMixCollator(10, NO_SELF, seed=0, keys=("img", "y"))(samples)
    assert list(found) == ["img", "y", "id"]
    assert same((found["img"], found["y"]), plain)
    renamed = MiAMixCollator(
        10, NO_SELF, seed=0, keys=("img", "y"), out_keys=("pixel_values", "labels"), return_masks=True
    )
    found = renamed(samples)
    assert list(found) == ["pixel_values", "labels", "masks", "id"]
    assert found["id"].tolist() == [0, 2, 4, 6]


def kinds_of_images():
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (8, 9, 3), dtype=np.uint8) for _ in range(6)]
    yield "array", arrays, {}
    yield "read-only", [frozen(array) for array in arrays], {}
    yield "fortran", [np.asfortranarray(array) for array in arrays], {}
    yield "negative", [array[::-1, ::-1].copy()[::-1, ::-1] for array in arrays], {}
    yield "strided", [np.repeat(array, 2, axis=1)[:, ::2] for array in arrays], {}
    yield "pil", [Image.fromarray(array) for array in arrays], {}
    yield "tensor", [torch.from_numpy(array).permute(2, 0, 1) for array in arrays], {}
    yield "contiguous tensor", [torch.from_numpy(array).permute(2, 0, 1).contiguous() for array in arrays], {}
    yield "planar array", [array.transpose(2, 0, 1) for array in arrays], {"layout": "channels_first"}
    yield "interleaved tensor", [torch.from_numpy(array) for array in arrays], {"layout": "channels_last"}


def frozen(array):
    array = array.copy()
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(("images", "options"), [pytest.param(i, o, id=name) for name, i, o in kinds_of_images()])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_kinds_of_images(images, options, memory_format):
    """The same picture in any clothes is mixed to the same values, and not modified."""
    arrays = next(kinds_of_images())[1]
    before = copy.deepcopy(images)
    collate = MiAMixCollator(
        6, NO_SELF, seed=0, dtype="uint8", return_batch=True, memory_format=memory_format, **options
    )
    batch = collate([(image, i) for i, image in enumerate(images)])
    expected = MiAMix(6, NO_SELF).render(batch.plan, np.array(arrays), range(6))
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected.images)
    for image, old in zip(images, before, strict=True):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(old))


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_channels(channels, memory_format, rng):
    shape = (7, 5) if channels is None else (7, 5, channels)
    samples = [(rng.integers(0, 256, shape, dtype=np.uint8), i) for i in range(4)]
    images, _ = MiAMixCollator(4, NO_SELF, seed=0, memory_format=memory_format)(samples)
    assert images.shape == (4, channels or 1, 7, 5)


def test_float_images_are_taken_as_they_are(rng):
    samples = [((rng.standard_normal((4, 4, 3)) * 50).astype(np.float32), 0) for _ in range(3)]
    images, _ = MiAMixCollator(2, MiAMixConfig.plain("mixup", p_self=1), seed=0, transform=lambda x: x)(samples)
    np.testing.assert_allclose(images.permute(0, 2, 3, 1), [image for image, _ in samples], rtol=1e-6)


# Views ---------------------------------------------------------------------------------------------------------------


def recording(calls):
    def transform(image):
        calls.append(int(image[0, 0, 0]))
        return image

    return transform


def numbered(n):
    return [(np.full((4, 4, 3), i, np.uint8), i) for i in range(n)]


def test_first_views_in_order_then_second_ones_of_partners_only():
    calls = []
    batch = MiAMixCollator(9, MiAMixConfig(p_self=0.5), seed=2, transform=recording(calls), return_batch=True)(
        numbered(9)
    )
    assert calls == [*range(9), *np.unique(batch.partner).tolist()]


def test_a_published_baseline_calls_the_transform_once_a_sample():
    calls = []
    MiAMixCollator(9, MiAMixConfig.plain("cutmix"), seed=2, transform=recording(calls))(numbered(9))
    assert calls == [*range(9)]


def test_cutmix_baseline_pastes_the_partners_first_view():
    """Published CutMix: a binary, axis-aligned hole that shows the partner's one view."""
    collate = MiAMixCollator(
        10, MiAMixConfig.plain("cutmix"), seed=0, transform=crop(), dtype="uint8", return_masks=True, return_batch=True
    )
    samples = samples_of(12)
    batch = collate(samples)
    first = collate.plain(crop())
    views = Transformed(batch.plan.key, samples)
    masks = batch.masks.numpy()
    assert set(np.unique(masks)) <= {0, 1}
    expected = np.where(masks[..., None] == 1, views, views[batch.partner.numpy()])
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected)
    assert first.schedule.probability == 0
    for hole in 1 - masks:
        rows, columns = hole.any(axis=1), hole.any(axis=0)
        np.testing.assert_array_equal(hole, np.outer(rows, columns))


def Transformed(key, samples):
    from miamix_cpu.views.transform import Transform

    return np.array(
        Transform(crop()).make([image for image, _ in samples], False, range(len(samples)), stream(key, VIEWS), str)
    )


def test_pairs_from_the_dataset():
    dataset = TwoViews(Numbers(12), crop(), seed=0)
    samples = [dataset[i] for i in range(12)]
    batch = MiAMixCollator(10, seed=0, dtype="uint8", return_batch=True)(samples)
    first, second = (np.array([pair[j] for pair, _ in samples]) for j in (0, 1))
    expected = MiAMix(10).render(batch.plan, first, [label for _, label in samples], second=second)
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected.images)


@pytest.mark.parametrize("transform", [
    crop(), A.Compose([A.RandomCrop(6, 6), A.Normalize()]), A.Compose([A.RandomCrop(6, 6), ToTensorV2()]), A.RandomCrop(6, 6),
    draws_from_everything, lambda image: torch.from_numpy(image).permute(2, 0, 1), lambda image: Image.fromarray(image).resize((6, 6)),
], ids=["crop", "normalize", "tensor", "single", "globals", "to tensor", "pil"])  # fmt: skip
def test_transforms_of_all_kinds(transform):
    samples = samples_of(8)
    images, _ = MiAMixCollator(10, seed=0, transform=transform)(samples)
    assert images.dtype == torch.float32
    assert images.shape[:2] == (8, 3)
    assert same(MiAMixCollator(10, seed=0, transform=transform)(samples)[0], images)


def test_the_transform_never_changes_the_mix():
    samples = samples_of(16)
    plans = [
        MiAMixCollator(10, seed=0, transform=transform, return_batch=True)(samples).plan
        for transform in (crop(8), lambda image: image[::-1], A.Compose([A.VerticalFlip()]))
    ]
    for plan in plans[1:]:
        assert plan.layers.tobytes() == plans[0].layers.tobytes()
        assert plan.partner.tobytes() == plans[0].partner.tobytes()


def test_warning_without_a_second_view():
    collate = MiAMixCollator(10, MiAMixConfig(), seed=0)
    with pytest.warns(
        UserWarning, match=r"p_self=0.1, but there is no second view .* about 10% of the images come out unmixed"
    ):
        collate(samples_of(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collate(samples_of(4, seed=1))
        MiAMixCollator(10, NO_SELF, seed=0)(samples_of(4))


# Keys ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [None, crop(), draws_from_everything], ids=["none", "albumentations", "globals"])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_do_not_matter(workers, transform):
    def batches(workers):
        collate = MiAMixCollator(10, NO_SELF, seed=4, transform=transform)
        return list(DataLoader(Numbers(40), 8, num_workers=workers, collate_fn=collate))

    assert same(batches(workers), batches(0))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_start_methods_do_not_matter(method):
    def batches(**options):
        collate = MiAMixCollator(10, seed=4, transform=crop())
        return list(DataLoader(Numbers(32), 8, collate_fn=collate, **options))

    found = batches(num_workers=2, multiprocessing_context=method)
    assert same(found, batches())


def test_seed_epoch_and_samples_matter():
    def first(seed=0, epoch=0, **options):
        collate = MiAMixCollator(10, NO_SELF, seed=seed)
        collate.set_epoch(epoch)
        return collate(samples_of(6, **options))[0]

    base = first()
    assert same(first(), base)
    for changed in (first(seed=1), first(epoch=1)):
        assert not same(changed, base)
    swapped = samples_of(6)[::-1]
    plans = [
        MiAMixCollator(10, NO_SELF, seed=0, return_batch=True)(samples).plan for samples in (samples_of(6), swapped)
    ]
    assert plans[0].key != plans[1].key


def test_labels_shapes_and_dtypes_are_part_of_the_key():
    def key(samples):
        return MiAMixCollator(10, NO_SELF, seed=0, return_batch=True, transform=lambda x: np.zeros((4, 4), np.uint8))(
            samples
        ).plan.key

    image = np.zeros((4, 6), np.uint8)
    base = key([(image, 1), (image, 2)])
    assert key([(image, np.int64(1)), (image, torch.tensor(2))]) == base
    different = [
        [(image, 1), (image, 3)], [(image.reshape(6, 4), 1), (image, 2)], [(image.astype(np.float32), 1), (image, 2)],
        [(image.reshape(6, 4), 1), (image.reshape(6, 4), 2)], [(image, 1), (image, 2), (image, 3)],
    ]  # fmt: skip
    assert len({base, *map(key, different)}) == 1 + len(different)


def test_an_index_is_hashed_instead_of_the_image():
    def key(images, index_key=2, as_dict=False):
        collate = MiAMixCollator(10, NO_SELF, seed=0, index_key=index_key, return_batch=True)
        samples = [(image, 0, i) for i, image in enumerate(images)]
        return collate(
            [dict(zip(("image", "label", "id"), s, strict=True)) for s in samples] if as_dict else samples
        ).plan.key

    one, two = ([image for image, _ in samples_of(3, seed=seed)] for seed in (0, 1))
    assert key(one) == key(two)
    assert key(one, "id", as_dict=True) == key(one)
    assert key(one, None) != key(two, None)
    with pytest.raises(ValueError, match="index_key must be a position in samples of 3 entries, got 7"):
        key(one, 7)
    with pytest.raises(ValueError, match="samples have no 'key'"):
        key(one, "key", as_dict=True)


def test_the_epoch_that_travels_with_the_samples_is_used():
    def batches(epoch):
        collate = MiAMixCollator(10, seed=0, transform=crop())
        dataset = Numbers(16)
        loader = DataLoader(
            Indexed(dataset), 8, sampler=EpochSampler(range(16), epoch=epoch), collate_fn=collate, num_workers=1
        )
        return list(loader), list(loader)

    first, second = batches(0)
    assert not same(first, second)
    assert same(batches(1)[0], second)


def test_samples_of_two_epochs_are_refused():
    dataset = Indexed(Numbers(4))
    with pytest.raises(ValueError, match=r"samples of a batch must be of one epoch, got \[0, 1\]"):
        MiAMixCollator(10, NO_SELF, seed=0)([dataset[EpochIndex(0, 1)], dataset[EpochIndex(1, 2)]])


def test_seed_is_taken_from_torch_without_disturbing_it():
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    assert MiAMixCollator(10).seed == 77
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("transform", [None, crop(), draws_from_everything], ids=["none", "albumentations", "globals"])
def test_global_generators_are_not_drawn_from(transform):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    MiAMixCollator(10, NO_SELF, seed=0, transform=transform)(samples_of(6))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@pytest.mark.parametrize(
    ("option", "in_worker"), [({}, 1), ({"opencv_threads": None}, 3)], ids=["default", "left alone"]
)
def test_opencvs_thread_pool_in_workers(option, in_worker):
    """Each view is as grey as OpenCV has threads; the parent's setting stays."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        collate = MiAMixCollator(10, NO_SELF, seed=0, dtype="uint8", transform=as_grey_as_there_are_threads, **option)
        ((images, _),) = DataLoader(Numbers(4), 4, num_workers=1, collate_fn=collate)
        assert images.unique().tolist() == [in_worker]
        without = MiAMixCollator(10, NO_SELF, seed=0, **option)
        batches = list(DataLoader(ThreadsOfOpenCV(), 1, num_workers=1, collate_fn=without))
        assert [int(labels.argmax()) for _, labels in batches] == [3, in_worker, in_worker]
        collate.set_epoch(1)
        assert collate([Numbers(4)[i] for i in range(4)])[0].unique().tolist() == [3]
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_opencv_that_is_imported_later(monkeypatch):
    """Its pool is set by the first batch that finds it, and from then on left to the caller."""
    monkeypatch.setattr("miamix_cpu.collate.get_worker_info", lambda: object())
    collate, before = MiAMixCollator(10, NO_SELF, seed=0), cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "cv2")
            collate(samples_of(2))
        assert cv2.getNumThreads() == 3
        collate(samples_of(3))
        assert cv2.getNumThreads() == 1
        cv2.setNumThreads(2)
        collate(samples_of(4))
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


class ThreadsOfOpenCV:
    """A dataset that uses OpenCV itself; the collator sees that at its first batch."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        time.sleep(0.1)
        return np.full((2, 2), index, np.uint8), cv2.getNumThreads()


def as_grey_as_there_are_threads(image):
    return np.full((2, 2), cv2.getNumThreads(), np.uint8)


# Epochs and schedules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_set_epoch_of_a_copy_reaches_its_workers(method, copied):
    collate = copied(MiAMixCollator(10, seed=0, transform=crop()))
    loader = DataLoader(
        Numbers(8), 8, collate_fn=collate, num_workers=1, persistent_workers=True, multiprocessing_context=method
    )
    epochs = []
    for epoch in range(2):
        collate.set_epoch(epoch)
        epochs += list(loader)
    assert not same(*epochs)


def test_images_are_read_once(monkeypatch):
    from miamix_cpu.samples import images as module

    calls = []
    as_array = module.as_array
    monkeypatch.setattr(
        module, "as_array", lambda image, *rest, **options: calls.append(image) or as_array(image, *rest, **options)
    )
    samples = [(Image.fromarray(image), label, label) for image, label in samples_of(4)]
    MiAMixCollator(10, NO_SELF, seed=0)(samples)
    assert len(calls) == 4
    calls.clear()
    MiAMixCollator(10, NO_SELF, seed=0, index_key=2, transform=lambda image: np.asarray(image))(samples)
    assert not any(isinstance(image, Image.Image) for image in calls)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_set_epoch_reaches_live_persistent_workers(method):
    def epochs(collate, **options):
        loader = DataLoader(Numbers(16), 8, collate_fn=collate, **options)
        for epoch in range(3):
            collate.set_epoch(epoch)
            yield list(loader)

    schedule = MixSchedule(off=2)
    options = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": method}
    found = list(epochs(MiAMixCollator(10, seed=0, transform=crop(), schedule=schedule), **options))
    expected = list(epochs(MiAMixCollator(10, seed=0, transform=crop(), schedule=schedule)))
    assert same(found, expected)
    assert not same(found[0], found[1])
    for _, targets in found[2]:
        assert torch.equal(targets.max(dim=1).values, torch.ones(8))


def test_outside_the_schedule_first_views_and_hard_targets():
    calls = []
    collate = MiAMixCollator(
        9, MiAMixConfig(p_self=0.3), seed=0, transform=recording(calls), schedule=MixSchedule(start=1), dtype="uint8"
    )
    collate.set_epoch(0)
    images, targets = collate(numbered(9))
    assert calls == [*range(9)]
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1), [image for image, _ in numbered(9)])
    assert torch.equal(targets, torch.eye(9))
    collate.set_epoch(1)
    assert not torch.equal(collate(numbered(9))[1], torch.eye(9))


def test_a_probability_mixes_some():
    collate = MiAMixCollator(400, NO_SELF, seed=0, schedule=MixSchedule(probability=0.25), return_batch=True)
    batch = collate([(np.zeros((2, 2), np.uint8), i) for i in range(400)])
    assert 60 < batch.plan.mixed.sum() < 140
    unmixed = ~batch.plan.mixed
    assert torch.equal(batch.targets[unmixed], torch.eye(400)[unmixed])
    assert batch.describe(int(np.argmax(unmixed))).endswith("not mixed")


def test_plain_is_the_unmixed_twin():
    collate = MiAMixCollator(
        10, seed=0, transform=crop(), dtype="float16", label_smoothing=0.1, memory_format="channels_last"
    )
    plain = collate.plain()
    images, targets = plain(samples_of(5))
    assert (images.shape, images.dtype) == ((5, 3, 8, 8), torch.float16)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(targets, torch.eye(10)[:5])
    assert collate.plain(crop())(samples_of(5))[0].shape == (5, 3, 6, 6)
    assert collate.transform is not None
    assert collate.label_smoothing == 0.1
    plain.set_epoch(7)
    assert collate.epoch == 0


def test_a_repeated_batch_warns_once():
    collate = MiAMixCollator(10, NO_SELF, seed=0)
    collate(samples_of(4))
    with pytest.warns(UserWarning, match="the same batch came twice in epoch 0") as found:
        collate(samples_of(4))
    assert found[0].filename == __file__
    collate(samples_of(4))
    plain = collate.plain()
    plain(samples_of(4))
    plain(samples_of(4))


# Replay, pickling, threads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [crop(), draws_from_everything], ids=["albumentations", "globals"])
def test_replay_makes_the_views_too(transform, tmp_path):
    samples = samples_of(12)
    collate = MiAMixCollator(10, EVERYTHING, seed=5, transform=transform, return_batch=True)
    batch = collate(samples)
    batch.plan.save(tmp_path / "plan.npz")
    other = MiAMixCollator(10, seed=99, transform=transform, return_batch=True)
    again = other.replay(samples, MixPlan.load(tmp_path / "plan.npz"))
    assert torch.equal(again.images, batch.images)
    assert torch.equal(again.targets, batch.targets)


def test_replay_of_what_cannot_be(rng):
    collate = MiAMixCollator(10, seed=0, transform=crop())
    with pytest.raises(ValueError, match="the plan has no key"):
        collate.replay(samples_of(3), MiAMix(10).plan(3, 6, 6, rng=rng))
    plan = MiAMixCollator(10, seed=0, transform=crop(), return_batch=True)(samples_of(3)).plan
    with pytest.raises(ValueError, match="the plan is for 3 images of 6 x 6 pixels, got 4 of 6 x 6"):
        collate.replay(samples_of(4), plan)


@pytest.mark.parametrize("module", [pickle, cloudpickle])
def test_a_collator_pickles(module):
    collate = MiAMixCollator(10, seed=0, transform=crop(), schedule=MixSchedule(off=3))
    collate.set_epoch(2)
    expected = collate(samples_of(6))
    again = module.loads(module.dumps(collate))
    assert again.epoch == 2
    again.set_epoch(1)
    again.set_epoch(2)
    assert same(again(samples_of(6)), expected)


def test_threads_share_a_collator():
    batches = [samples_of(8, seed=seed) for seed in range(24)]
    for transform in (crop(), draws_from_everything):
        expected = [MiAMixCollator(10, seed=0, transform=transform, dtype="float16")(samples) for samples in batches]
        shared = MiAMixCollator(10, seed=0, transform=transform, dtype="float16")
        found = [None] * 24

        def work(start, shared=shared, found=found):
            for i in range(start, 24, 8):
                found[i] = shared(batches[i])

        threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert same(found, expected)


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"seed": 1.5}, TypeError, "seed must be an integer, got 1.5"),
    ({"dtype": "int8"}, ValueError, "dtype must be 'float32' or 'uint8' or 'float16' or 'bfloat16', got 'int8'"),
    ({"layout": "hwc"}, ValueError, "layout must be 'auto' or 'channels_last' or 'channels_first', got 'hwc'"),
    ({"memory_format": "nchw"}, ValueError, "memory_format must be"),
    ({"schedule": 3}, TypeError, "schedule must be a MixSchedule, got 3"),
    ({"keys": "image"}, TypeError, r"keys must be a pair of names \(image, label\), got 'image'"),
    ({"out_keys": ("a", "a")}, ValueError, "out_keys must be two different names"),
    ({"transform": 5}, TypeError, "transform must be callable, got 5"),
    ({"opencv_threads": "all"}, TypeError, "opencv_threads must be an integer, got 'all'"),
    ({"num_classes": 0}, ValueError, "num_classes must be at least 1, got 0"),
    ({"mean": (0.5,), "std": (1.0,), "dtype": "uint8"}, ValueError, "mean and std need a float dtype"),
    ({"targets": "pair", "label_smoothing": 0.1}, ValueError, "label_smoothing needs targets='soft'"),
])  # fmt: skip
def test_bad_options_are_named(options, error, words):
    with pytest.raises(error, match=words):
        MiAMixCollator(**{"num_classes": 10, **options})


@pytest.mark.parametrize("epoch", [-1, 1.5, "2"])
def test_bad_epochs_are_named(epoch):
    with pytest.raises((ValueError, TypeError), match="epoch must be"):
        MiAMixCollator(10).set_epoch(epoch)


GREY = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(("samples", "options", "error", "words"), [
    ([], {}, ValueError, "samples must hold at least one sample, got an empty batch"),
    (GREY, {}, TypeError, "samples must be a list, one sample each, got ndarray"),
    ([(GREY, 0), GREY], {}, TypeError, r"sample 1 must be \(image, label, ...\) or a dict, got ndarray"),
    ([(GREY,)], {}, TypeError, "sample 0 must be .* got a tuple of 1"),
    ([(GREY, 0), (GREY, 0, 1)], {}, ValueError, "sample 1 has 3 entries, sample 0 has 2"),
    ([{"image": GREY, "label": 0}, (GREY, 0)], {}, TypeError, "sample 1 must be a dict like sample 0, got a tuple of 2"),
    ([{"image": GREY, "labels": 0}], {}, ValueError, "sample 0 has no 'label', it has 'image', 'labels'; see `keys`"),
    ([{"image": GREY, "label": 0}, {"image": GREY, "label": 0, "id": 1}], {}, ValueError, "sample 1 has the keys"),
    ([{"image": GREY, "label": 0, "masks": 1}], {"return_masks": True}, ValueError, "samples hold the key 'masks'"),
    ([(GREY, 0), (GREY[:3], 0)], {}, ValueError, r"image of sample 1 has shape \(3, 4, 3\), image of sample 0 has \(4, 4, 3\)"),
    ([(GREY.astype(np.int32), 0)], {}, TypeError, "image of sample 0 must be uint8 or float32, got int32"),
    ([(GREY, 0), ("x.png", 0)], {}, TypeError, "image of sample 1 must be an array, a PIL image or a tensor, got 'x.png'"),
    ([(np.zeros((3, 32, 32), np.uint8), 0)], {}, ValueError, "Say layout='channels_first'"),
    ([(GREY, 0), (GREY, 10)], {}, ValueError, r"label of sample 1 must be in \[0, 9\], got 10"),
    ([(GREY, float("nan"))], {}, ValueError, "label of sample 0 is NaN"),
    ([(GREY, [0.5, 0.5])], {}, ValueError, r"label of sample 0 must be an integer class, or have num_classes=10 values, got shape \(2,\)"),
    ([(GREY, np.ones(10))], {"label_smoothing": 0.1}, ValueError, "multi-label can't be smoothed"),
    ([(GREY.astype(np.float32), 0)], {"dtype": "uint8"}, ValueError, "floats are never rescaled"),
    ([(GREY.astype(np.float32), 0)], {"mean": (0.5,) * 3, "std": (1,) * 3}, ValueError, "remove mean and std here"),
    ([(GREY, 0)], {"mean": (0.5,), "std": (1,)}, ValueError, "one value for each of 3 channels, got 1"),
    ([((GREY, GREY), 0), (GREY, 0)], {}, ValueError, r"image of sample 1 must be a pair \(first view, second view\), got ndarray"),
    ([((GREY, GREY, GREY), 0)], {}, ValueError, "image of sample 0 must be a pair .* got a tuple of 3"),
    ([((GREY, GREY), 0)], {"transform": crop(2)}, ValueError, "samples hold pairs of views already"),
    ([((GREY, GREY[:3]), 0)], {}, ValueError, r"second view of sample 0 is uint8 \(3, 4, 3\), first view of sample 0 is uint8 \(4, 4, 3\)"),
    ([(GREY, 0)], {"transform": returns_nothing}, TypeError, "the transform returned nothing for the first view of sample 0"),
    ([(GREY, 0), (GREY, 0)], {"transform": Grows()}, ValueError, r"the transform's first view of sample 1 has shape \(4, 6, 3\), the transform's first view of sample 0 has \(4, 5, 3\)"),
    ([Indexed([(GREY, 0)])[EpochIndex(0, 0)], (GREY, 0)], {}, TypeError, "sample 1 must come from an Indexed dataset like sample 0, got a tuple of 2"),
    ([(GREY, 0, 1.5)], {"index_key": 2}, TypeError, "the index of sample 0 must be an integer, a string or bytes, got float"),
])  # fmt: skip
def test_bad_samples_are_named(samples, options, error, words):
    collate = MiAMixCollator(10, NO_SELF, seed=0, **options)
    with pytest.raises(error, match=words):
        collate(samples)


def test_palettes_are_not_mixed_as_intensities():
    picture = Image.fromarray(np.zeros((4, 4, 3), np.uint8)).convert("P")
    with pytest.raises(TypeError, match=r"image of sample 0 is a PIL image of mode 'P'"):
        MiAMixCollator(10, seed=0, transform=crop(2))([(picture, 0)])
    converted, _ = MiAMixCollator(10, seed=0, transform=lambda image: image.convert("RGB"))([(picture, 0)])
    assert converted.shape == (1, 3, 4, 4)


def test_tensors_made_of_arrays_are_read_as_tensors(rng):
    """`layout` says what the samples hold; a transform like torchvision's ToTensor turns it round."""
    pictures = rng.integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    samples = [(picture, i) for i, picture in enumerate(pictures)]

    def to_tensor(image):
        return torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))

    batches = [
        MiAMixCollator(10, seed=0, layout=layout, transform=to_tensor)(samples)[0]
        for layout in ("auto", "channels_last")
    ]
    assert batches[0].shape == (3, 3, 5, 4)
    assert torch.equal(*batches)


@pytest.mark.parametrize("entry", [None, "ragged"])
def test_an_entry_that_cannot_be_collated_is_named(entry):
    samples = [
        {"image": GREY, "label": i, "boxes": None if entry is None else np.zeros((i, 4), np.float32)} for i in range(2)
    ]
    with pytest.raises((TypeError, RuntimeError)) as raised:
        MiAMixCollator(10, NO_SELF, seed=0)(samples)
    assert "raised by default_collate, for the samples' 'boxes'" in raised.value.__notes__


@pytest.mark.parametrize(
    "second", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 5, 3), np.uint8), torch.zeros(3, 4, 4, dtype=torch.uint8)]
)
def test_a_second_view_that_differs_is_named(second):
    calls = []

    def transform(image):
        calls.append(image)
        return image if len(calls) <= 2 else copy.deepcopy(second)

    with pytest.raises(ValueError, match=r"second view of sample 0 is .*, first view of sample 0 is uint8"):
        MiAMixCollator(10, NO_SELF, seed=0, transform=transform)([(GREY, 0), (GREY, 1)])


def test_a_transforms_error_keeps_its_type_and_gains_the_sample():
    samples = numbered(9)
    with pytest.raises(KeyError, match="seven") as caught:
        MiAMixCollator(9, seed=0, transform=fails_on_seven)(samples)
    assert caught.value.__notes__ == ["raised by the transform, for the first view of sample 7"]


@pytest.mark.parametrize(("dataset", "transform", "error", "words"), [
    (numbered(9), fails_on_seven, KeyError, "raised by the transform, for the first view of sample 7"),
    (Fails(9), None, OSError, "disk on fire"),
    ([(GREY, 0), (GREY, 99)], None, ValueError, "label of sample 1 must be in"),
])  # fmt: skip
def test_errors_arrive_from_workers_as_they_are(dataset, transform, error, words):
    loader = DataLoader(dataset, 9, num_workers=1, collate_fn=MiAMixCollator(10, NO_SELF, seed=0, transform=transform))
    with pytest.raises(error, match=words):
        list(loader)


def test_second_views_of_another_layout_are_refused():
    """Of three by three pixels and three channels only the kind tells which axis is which."""
    calls = []

    def transform(image):
        calls.append(image)
        return image if len(calls) <= 4 else torch.from_numpy(image)

    collate = MiAMixCollator(2, transform=transform, seed=0)
    with pytest.raises(ValueError, match=r"second view of sample 0 is .*both must be alike"):
        collate([(np.zeros((3, 3, 3), np.uint8), 0)] * 4)
