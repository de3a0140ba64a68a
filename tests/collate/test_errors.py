"""Bad options and samples are named, and errors arrive as they are."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from miamix_cpu import EpochIndex, Indexed, MiAMixCollator
from tests.collate.common import NO_SELF, UNMIXED, crop, numbered
from tests.transforms import Fails, Grows, fails_on_seven, returns_nothing

pytestmark = UNMIXED


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
    (GREY, {}, TypeError, "samples must be a list of samples, got ndarray"),
    ([(GREY, 0), GREY], {}, TypeError, r"sample 1 must be \(image, label, ...\) or a dict, got ndarray"),
    ([(GREY,)], {}, TypeError, "sample 0 must be .* got a tuple of 1"),
    ([(GREY, 0), (GREY, 0, 1)], {}, ValueError, "sample 1 has 3 entries, sample 0 has 2"),
    ([{"image": GREY, "label": 0}, (GREY, 0)], {}, TypeError, "sample 1 must be a dict like sample 0, got a tuple of 2"),
    ([{"image": GREY, "labels": 0}], {}, ValueError, "sample 0 has no 'label', it has 'image', 'labels'; see `keys`"),
    ([{"image": GREY, "label": 0}, {"image": GREY, "label": 0, "id": 1}], {}, ValueError, "sample 1 has the keys"),
    ([{"image": GREY, "label": 0, "masks": 1}], {"return_masks": True}, ValueError, "samples have the key 'masks'"),
    ([(GREY, 0), (GREY[:3], 0)], {}, ValueError, r"image of sample 1 has shape \(3, 4, 3\), image of sample 0 has \(4, 4, 3\)"),
    ([(GREY.astype(np.int32), 0)], {}, TypeError, "image of sample 0 must be uint8 or float32, got int32"),
    ([(GREY, 0), ("x.png", 0)], {}, TypeError, "image of sample 1 must be an array, a PIL image or a tensor, got 'x.png'"),
    ([(np.zeros((3, 32, 32), np.uint8), 0)], {}, ValueError, "Set layout='channels_first'"),
    ([(GREY, 0), (GREY, 10)], {}, ValueError, r"label of sample 1 must be in \[0, 9\], got 10"),
    ([(GREY, float("nan"))], {}, ValueError, "label of sample 0 is NaN"),
    ([(GREY, [0.5, 0.5])], {}, ValueError, r"label of sample 0 must be an integer class, or have num_classes=10 values, got shape \(2,\)"),
    ([(GREY, np.ones(10))], {"label_smoothing": 0.1}, ValueError, "multi-label targets can't be smoothed"),
    ([(GREY.astype(np.float32), 0)], {"dtype": "uint8"}, ValueError, "floats are never rescaled"),
    ([(GREY.astype(np.float32), 0)], {"mean": (0.5,) * 3, "std": (1,) * 3}, ValueError, "remove mean and std here"),
    ([(GREY, 0)], {"mean": (0.5,), "std": (1,)}, ValueError, "one value for each of 3 channels, got 1"),
    ([((GREY, GREY), 0), (GREY, 0)], {}, ValueError, r"image of sample 1 must be a pair \(first view, second view\), got ndarray"),
    ([((GREY, GREY, GREY), 0)], {}, ValueError, "image of sample 0 must be a pair .* got a tuple of 3"),
    ([((GREY, GREY), 0)], {"transform": crop(2)}, ValueError, "samples are already pairs of views"),
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
    with pytest.raises(
        ValueError, match=r"second view of sample 0 is .*both must have the same shape, dtype and layout"
    ):
        collate([(np.zeros((3, 3, 3), np.uint8), 0)] * 4)
