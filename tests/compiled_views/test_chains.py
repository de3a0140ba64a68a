"""1,000 random Composes of known transforms: images of the shapes and dtypes that Albumentations makes, or no images."""

import warnings

import numpy as np
import pytest

A = pytest.importorskip("albumentations", reason="Albumentations is not installed")

from miamix_cpu.compiled_views.program import BadView, Program  # noqa: E402
from miamix_cpu.compiled_views.working import Working  # noqa: E402
from tests.compiled_views.test_equal import CASES, images, made, suits  # noqa: E402


def composed(rng, dtype, channels):
    """A random Compose that ends in one size, some of it in groups."""
    names = [name for name in CASES if name not in ("ToTensorV2", "Normalize", "ToFloat", "GridDropout")]

    def one():
        while True:
            name = str(rng.choice(names))
            cases = CASES[name][1]
            options = cases[rng.integers(len(cases))]
            if options.get("scale") == (0.9, 1.0) and name == "Erasing":
                continue  # where no box fits, Albumentations raises an error, and a program leaves the image as it is
            if name in ("RandomCrop", "CenterCrop", "Crop") and len(options) < 5:
                continue
            if name == "RandomResizedCrop" and "ratio" in options:
                continue
            if "w2h_ratio" in options:
                options = {**options, "min_max_height": (3, 5)}  # crops of no width are refused by both
            transform = made(name, options)
            if suits(transform, dtype, channels):
                transform.p = float(rng.choice([1, 0.5]))
                return transform

    parts = []
    for _ in range(rng.integers(1, 5)):
        kind = rng.integers(6)
        if kind == 0:
            parts.append(A.OneOf([one(), one()], p=0.8))
        elif kind == 1:
            parts.append(A.SomeOf([one(), one(), one()], n=2))
        elif kind == 2:
            parts.append(A.Compose([one(), one()], p=0.5))
        else:
            parts.append(one())
    parts.append(A.Resize(7, 9))
    if rng.random() < 0.3 and dtype == np.uint8:
        parts.append(A.ToFloat())
    return A.Compose(parts)


@pytest.mark.parametrize("block", range(10))
def test_random_chains(block):
    for turn in range(100):
        rng = np.random.default_rng((block, turn))
        dtype = (np.uint8, np.float32)[rng.integers(2)]
        channels = int(rng.choice([0, 1, 3, 4, 6]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            transform = composed(rng, dtype, max(1, channels))
            sizes = [(int(rng.integers(8, 40)), int(rng.integers(8, 40))) for _ in range(4)]
            given = images(rng, dtype, channels, sizes)
            program = Program(transform)
            if program.unfit(max(1, channels)):
                continue
            working = Working(given)
            program.run(working, program.draw(rng, np.array(sizes).T))
            expected = [transform(image=image)["image"] for image in given]
        for got, theirs in zip(working.arrays, expected, strict=True):
            assert (got.shape, got.dtype) == (theirs.shape, theirs.dtype), transform
        for image in given:
            assert image.dtype == dtype


def test_an_image_that_is_too_small_is_named():
    program = Program(A.Compose([A.RandomCrop(8, 8)]))
    with pytest.raises(BadView, match=r"RandomCrop: 8 x 8 pixels exceed the image's 9 x 7") as raised:
        program.draw(np.random.default_rng(0), np.array([[8, 9], [8, 7]]))
    assert raised.value.position == 1
