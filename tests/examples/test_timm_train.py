"""The patch to timm's train.py that docs/integrations.md shows, line by line against timm's own loader functions."""

import warnings
from collections import defaultdict
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.torchvision_wheel import import_torchvision
from miamix_cpu import MiAMixCollator, MiAMixConfig, MixSchedule
from tests.examples import needs

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's ImageDataset closes none
SIZE, CLASSES, BATCH, SMOOTHING = (3, 32, 32), 4, 16, 0.1
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
# --aa rand-m9-mstd0.5-inc1 --scale 0.5 1 --hflip 0.3 --color-jitter 0.2
AUGMENTATION = {
    "auto_augment": "rand-m9-mstd0.5-inc1", "scale": (0.5, 1.0), "hflip": 0.3, "color_jitter": 0.2,
    "interpolation": "random",
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    """timm.data, which needs torchvision."""
    needs("timm", "torchvision")
    import_torchvision()
    import timm.data

    return timm.data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of pictures, 48 for training and 16 for validation, none of them as large as what comes out."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for split, count in ("train", 12), ("validation", 4):
        for label in range(CLASSES):
            (root / split / f"class{label}").mkdir(parents=True)
            for i in range(count):
                height, width = generator.integers(36, 48, 2)
                pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / f"class{label}" / f"{i}.png")
    return root


def patched(data, folder, *, prefetcher, off=0, rank=0, workers=0, config=None, **more):
    """What train.py does with the patch: (collate_fn, dataset_train, loader_train)."""
    dataset_train = data.create_dataset("", root=folder, split="train", is_training=True)
    collate_fn = MiAMixCollator(
        CLASSES,
        config,
        seed=42 + rank,
        dtype="uint8" if prefetcher else "float32",
        label_smoothing=SMOOTHING,
        schedule=MixSchedule(off=off or None),
    )
    loader_train = data.create_loader(
        dataset_train, SIZE, BATCH, is_training=True, collate_fn=collate_fn, use_prefetcher=prefetcher,
        mean=MEAN, std=STD, num_workers=workers, device=torch.device("cpu"), **AUGMENTATION, **more
    )  # fmt: skip
    collate_fn.transform, dataset_train.transform = dataset_train.transform, None
    return collate_fn, dataset_train, loader_train


class Recorder:
    """A transform that keeps what went in and came out."""

    def __init__(self, transform):
        self.transform, self.calls = transform, []

    def __call__(self, image):
        self.calls.append((image, self.transform(image)))
        return self.calls[-1][1]

    def by_picture(self):
        """The views of each picture."""
        views = defaultdict(list)
        for image, view in self.calls:
            views[image.tobytes()].append(view)
        return list(views.values())


def two_views(transform, image):
    """As the documentation has it, for --train-img-sizes."""
    return transform(image), transform(image)


@pytest.mark.parametrize("prefetcher", [True, False])
def test_the_transform_is_timms_own_and_is_called_once_a_view(data, folder, prefetcher):
    """What the user asked for by --aa, --scale, --hflip: taken out of the dataset, which then augments no more."""
    collate, dataset, loader = patched(data, folder, prefetcher=prefetcher)
    own = data.create_transform(SIZE, is_training=True, use_prefetcher=prefetcher, mean=MEAN, std=STD, **AUGMENTATION)
    assert repr(collate.transform) == repr(own)
    for word in "RandAugment", "scale=(0.5, 1.0)", "RandomHorizontalFlip(p=0.3)":
        assert word in repr(own)
    assert dataset.transform is None
    sizes = {image.size for image, _ in dataset}
    assert (32, 32) not in sizes

    collate.transform = recorder = Recorder(collate.transform)
    images, _ = next(iter(loader))
    assert images.shape == (BATCH, *SIZE)
    assert {image.size for image, _ in recorder.calls} <= sizes  # pictures as they are on disk
    assert {tuple(view.shape) for _, view in recorder.calls} == {SIZE}
    assert {view.dtype for _, view in recorder.calls} == {torch.uint8 if prefetcher else torch.float32}
    views = recorder.by_picture()
    twice = [pair for pair in views if len(pair) == 2]
    assert all(len(pair) <= 2 for pair in views)
    assert len(twice) > BATCH // 2
    assert not any(torch.equal(*pair) for pair in twice)


@pytest.mark.parametrize("off", [0, 1])
@pytest.mark.parametrize("prefetcher", [True, False])
def test_two_epochs_in_persistent_workers(data, folder, prefetcher, off):
    """--mixup-off-epoch 0, timm's default, mixes to the end; 1 leaves the second epoch unmixed, in the same workers."""
    from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy, create_classification_loss

    losses = [
        SoftTargetCrossEntropy(),
        BinaryCrossEntropy(),
        create_classification_loss(smoothing=SMOOTHING, soft_targets=True),
        create_classification_loss("bce", smoothing=SMOOTHING, soft_targets=True),
    ]
    collate, _, loader = patched(data, folder, prefetcher=prefetcher, off=off, workers=2)
    inner = loader.loader if prefetcher else loader
    mixed, workers, means, stds = [], [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for epoch in range(2):
            collate.set_epoch(epoch)
            largest = []
            for images, targets in loader:
                assert images.dtype == targets.dtype == torch.float32
                assert images.shape == (BATCH, *SIZE)
                assert targets.shape == (BATCH, CLASSES)
                torch.testing.assert_close(targets.sum(dim=1), torch.ones(BATCH))
                assert targets.min() >= SMOOTHING / CLASSES - 1e-6
                logits = torch.randn(BATCH, CLASSES, requires_grad=True)
                for loss in losses:
                    loss(logits, targets).backward()
                assert torch.isfinite(logits.grad).all()
                largest.append(targets.amax(dim=1))
                means.append(images.mean())
                stds.append(images.std())
            workers.append([worker.pid for worker in inner._iterator._workers])
            mixed.append((torch.cat(largest) < 1 - SMOOTHING + SMOOTHING / CLASSES - 1e-5).float().mean().item())
    assert workers[0] == workers[1]
    assert mixed[0] > 0.3
    assert mixed[1] > 0.3 if off == 0 else mixed[1] == 0
    assert abs(np.mean(means)) < 1  # normalised, and only once
    assert 0.4 < np.mean(stds) < 2


@pytest.mark.parametrize("prefetcher", [True, False])
def test_evaluation_stays_plain(data, folder, prefetcher):
    dataset = data.create_dataset("", root=folder, split="validation", is_training=False)
    loader = data.create_loader(
        dataset, SIZE, BATCH, use_prefetcher=prefetcher, mean=MEAN, std=STD, device=torch.device("cpu"), num_workers=0
    )
    _, targets = next(iter(loader))
    assert targets.dtype == torch.int64
    assert targets.shape == (BATCH,)


def test_erased_views_are_normalised_by_timm(data, folder):
    """Without the prefetcher timm's transform ends in floats, with --reprob's rectangles: no `mean` and `std` of ours."""
    collate, _, loader = patched(data, folder, prefetcher=False, re_prob=1.0, re_mode="const")
    collate.transform = recorder = Recorder(collate.transform)
    next(iter(loader))
    assert all((view == 0).any() for _, view in recorder.calls)


@pytest.mark.parametrize("prefetcher", [True, False])
def test_train_img_sizes(data, folder, prefetcher):
    """The dataset is wrapped and augments each batch at its size: one view, and no transform for the collator."""
    collate, dataset, loader = patched(
        data, folder, prefetcher=prefetcher, input_size_choices=(24, 32), config=MiAMixConfig(p_self=0.0)
    )
    assert collate.transform is None
    assert dataset.transform is None
    loader.dataset.transforms = recorders = tuple(map(Recorder, loader.dataset.transforms))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sizes = [tuple(images.shape[2:]) for images, _ in loader]
    assert sum(len(recorder.calls) for recorder in recorders) == BATCH * len(sizes)
    assert set(sizes) == {(24, 24), (32, 32)}


@pytest.mark.parametrize("prefetcher", [True, False])
def test_train_img_sizes_with_two_views(data, folder, prefetcher):
    collate, _, loader = patched(data, folder, prefetcher=prefetcher, input_size_choices=(24, 32))
    assert collate.transform is None
    recorders = tuple(map(Recorder, loader.dataset.transforms))
    loader.dataset.transforms = tuple(partial(two_views, recorder) for recorder in recorders)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # self-pairs have their second view
        batches = list(loader)
    assert {tuple(images.shape[2:]) for images, _ in batches} == {(24, 24), (32, 32)}
    for recorder in recorders:
        for pair in recorder.by_picture():
            assert len(pair) == 2
            assert not torch.equal(*pair)


def test_repeated_augmentation_needs_a_seed_by_rank(data, folder):
    """--aug-repeats 3 on three ranks gives all of them the same samples: only the seed tells their batches apart."""
    from timm.data.distributed_sampler import RepeatAugSampler

    batches = []
    for rank in 0, 0, 1, 2:
        collate, dataset, _ = patched(data, folder, prefetcher=True, rank=rank)
        indices = list(RepeatAugSampler(dataset, num_replicas=3, rank=len(batches) % 3, num_repeats=3))[:BATCH]
        batches.append(collate([dataset[i] for i in indices])[0])
    first, same, *others = batches
    assert torch.equal(first, same)
    assert not any(torch.equal(first, other) for other in others)
