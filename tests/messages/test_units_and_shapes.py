"""Units and shapes that are nearly surely wrong."""

import warnings

import albumentations as A
import numpy as np
import pytest
import torch

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig, TwoViews, normalize_on_device
from tests.messages.common import IMAGE, PLAIN, told

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
    assert (
        "set num_classes=2, or, for a network with a single output, pass labels that are vectors of one float, [0.0] or [1.0]"
        in words
    )
    samples = [(IMAGE, np.float32([i % 2])) for i in range(4)]
    _, targets = MiAMixCollator(1, MiAMixConfig.plain("mixup"), seed=0)(samples)
    assert targets.shape == (4, 1)


def test_many_channels_and_few_rows_are_refused_with_the_two_ways_to_say_it():
    samples = [(np.zeros((13, 64, 64), np.uint8), 0)] * 2
    kind, words = told(MiAMixCollator(10, PLAIN, seed=0), samples)
    assert kind is ValueError
    assert "layout='channels_first' if it is (C, H, W), or layout='channels_last' if it really has that many" in words
    first = MiAMixCollator(10, PLAIN, seed=0, layout="channels_first")(samples)[0]
    last = MiAMixCollator(10, PLAIN, seed=0, layout="channels_last")(samples)[0]
    assert (first.shape, last.shape) == ((2, 13, 64, 64), (2, 64, 13, 64))
    kind, words = told(MiAMix(10, PLAIN), np.zeros((2, 13, 64, 64), np.uint8), [0, 1], rng=np.random.default_rng(0))
    assert "looks like (N, C, H, W): use np.moveaxis(images, -3, -1)" in words


@pytest.mark.parametrize("mix", [
    lambda images: MiAMixCollator(10, PLAIN, seed=0)([(image, 0) for image in images]),
    lambda images: MiAMix(10, PLAIN)(images, [0] * len(images), rng=np.random.default_rng(0)),
], ids=["collator", "MiAMix"])  # fmt: skip
def test_floats_that_nobody_divided_are_warned_of_once(mix, rng):
    images = rng.integers(0, 256, (4, 8, 8, 3)).astype(np.float32)
    with pytest.warns(UserWarning, match=r"float images have values from \d+ to 2\d\d.*never divided by 255: divide"):
        mix(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mix(images / 255)
        mix((images / 255 - 0.5) / 0.2)
        mix(images - 1000)  # Hounsfield units


def becomes_a_tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def test_a_layout_that_is_said_is_trusted_where_the_transform_changes_the_kind():
    samples = [(np.zeros((32, 32, 64), np.uint8), i) for i in range(2)]
    with pytest.raises(ValueError, match=r"Set layout='channels_(first|last)'"):
        MiAMixCollator(10, PLAIN, seed=0, transform=becomes_a_tensor)(samples)
    collate = MiAMixCollator(10, PLAIN, seed=0, transform=becomes_a_tensor, layout="channels_last")
    assert collate(samples)[0].shape == (2, 64, 32, 32)
    flip = A.Compose([A.HorizontalFlip()])
    pair, _ = TwoViews([(np.zeros((8, 8, 9), np.uint8), 0)], flip, layout="channels_last")[0]
    assert pair[0].shape == (8, 8, 9)


def test_normalisation_on_the_device_can_be_compiled():
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    compiled = torch.compile(normalize_on_device, fullgraph=True, backend="eager")
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    assert torch.equal(compiled(images, mean, std), normalize_on_device(images, mean, std))


@pytest.mark.parametrize("shape", [(3, 16, 32, 32), (1, 24, 24, 24)], ids=["clip", "volume"])
def test_a_clip_with_its_channels_first_is_refused_with_what_to_do(shape):
    samples = [(torch.zeros(shape, dtype=torch.uint8), label) for label in range(4)]
    with pytest.raises(ValueError, match=rf"image of sample 0 .* it has {shape[1]} channels.*image.transpose\(0, 1\)"):
        MiAMixCollator(4, PLAIN, seed=0)(samples)
    images, _ = MiAMixCollator(4, PLAIN, seed=0)([(clip.transpose(0, 1), label) for clip, label in samples])
    assert images.shape == (4, *shape)
    read_so, _ = MiAMixCollator(4, PLAIN, seed=0, layout="channels_first")(samples)
    assert read_so.shape == (4, shape[1], shape[0], *shape[2:])
