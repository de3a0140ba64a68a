"""What `MiAMix` says of arguments that it cannot use."""

import numpy as np
import pytest

from miamix_cpu import MiAMix

pytestmark = pytest.mark.filterwarnings("ignore:.*come out unmixed")

IMAGES = np.zeros((2, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"num_classes": 0}, ValueError, "num_classes must be at least 1, got 0"),
    ({"num_classes": "10"}, TypeError, "num_classes must be an integer, got '10'"),
    ({"num_classes": 2, "config": {"k_max": 3}}, TypeError, "config must be a MiAMixConfig"),
    ({"num_classes": 2, "dtype": "int8"}, ValueError, "dtype must be 'uint8' or 'float32' or 'float16', got 'int8'"),
    ({"num_classes": 2, "targets": "hard"}, ValueError, "targets must be 'soft' or 'pair', got 'hard'"),
    ({"num_classes": 2, "label_smoothing": 2}, ValueError, r"label_smoothing must be in \[0, 1\], got 2"),
    ({"num_classes": 2, "label_smoothing": 0.1, "targets": "pair"}, ValueError, "label_smoothing needs targets='soft'"),
    ({"num_classes": 2, "mean": (0.5,)}, ValueError, "mean and std must be set together"),
    ({"num_classes": 2, "mean": (0.5,), "std": (0,)}, ValueError, "std above 0"),
    ({"num_classes": 2, "mean": (0.5, 0.5), "std": (1,)}, ValueError, "one value per channel"),
    ({"num_classes": 2, "mean": (0.5,), "std": (1,), "dtype": "uint8"}, ValueError, "mean and std need a float dtype"),
])  # fmt: skip
def test_bad_options_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        MiAMix(**arguments)


@pytest.mark.parametrize(("options", "call", "error", "words"), [
    ({}, {"images": IMAGES[:0]}, ValueError, r"images must have the shape .* no empty axis, got \(0, 4, 4, 3\)"),
    ({}, {"images": IMAGES.astype(np.int64)}, TypeError, "images must be uint8 or float32, got int64"),
    ({}, {"images": np.zeros((2, 3, 32, 32), np.uint8)}, ValueError, r"images must be \(N, H, W, C\)"),
    ({}, {"second": IMAGES[:1]}, ValueError, "second must be uint8 .* like images, got uint8"),
    ({}, {"second": IMAGES.astype(np.float32)}, ValueError, "second must be uint8 .* like images, got float32"),
    ({}, {"labels": [0]}, ValueError, "labels must have one label for each of 2 images, got 1"),
    ({}, {"labels": [0, 2]}, ValueError, r"label of sample 1 must be in \[0, 1\], got 2"),
    ({}, {"rng": 0}, TypeError, "rng must be a numpy.random.Generator, got int"),
    ({"dtype": "uint8"}, {"images": IMAGES.astype(np.float32)}, ValueError, "floats are never rescaled"),
    ({"mean": (0,) * 3, "std": (1,) * 3}, {"images": IMAGES.astype(np.float32)}, ValueError, "remove mean and std here"),
    ({"mean": (0,), "std": (1,)}, {}, ValueError, "mean and std must have one value for each of 3 channels, got 1"),
    ({"label_smoothing": 0.1}, {"labels": [[1, 1], [1, 0]]}, ValueError, "labels that sum to 1, got 2 for sample 0"),
])  # fmt: skip
def test_bad_batches_are_named(options, call, error, words, rng):
    with pytest.raises(error, match=words):
        MiAMix(2, **options)(**{"images": IMAGES, "labels": [0, 1], "rng": rng, **call})


def test_a_plan_for_other_images_is_refused(rng):
    plan = MiAMix(2).plan(2, 4, 5, rng=rng)
    with pytest.raises(
        ValueError, match=r"images must be 2 images of 4 x 5 pixels, as in the plan, got \(2, 4, 4, 3\)"
    ):
        MiAMix(2).render(plan, IMAGES, [0, 1])
    with pytest.raises(ValueError, match="height must be at least 1, got 0"):
        MiAMix(2).plan(2, 0, 5, rng=rng)
