"""Transforms that write to what they are given: the sample stays as it is."""

import random
import warnings

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from miamix_cpu import MiAMixCollator, MiAMixConfig, TwoViews
from tests.views.common import darken, make


def darken_it(image, **parameters):
    return darken(image)


def draw(image):
    return cv2.rectangle(image, (0, 0), (3, 3), (7, 7, 7), -1)


def draw_on_pil(image):
    ImageDraw.Draw(image).rectangle((0, 0, 3, 3), fill=(7, 7, 7))
    return image


def subtract(image):
    return image.sub_(10)


class InPlace(A.ImageOnlyTransform):
    """A caller's class in a Compose, which writes to what Albumentations hands it."""

    def __init__(self):
        super().__init__(p=1.0)

    def apply(self, image, **parameters):
        image -= 10
        return image


IN_PLACE = [
    (darken, np.full((8, 8, 3), 100, np.uint8)), (subtract, torch.full((3, 8, 8), 100, dtype=torch.uint8)),
    (A.Compose([A.HorizontalFlip(p=0.5), InPlace()]), np.full((8, 8, 3), 100, np.uint8)),
    (A.Compose([A.Lambda(image=darken_it)]), np.full((8, 8, 3), 100, np.uint8)),
]  # fmt: skip


@pytest.mark.parametrize(("transform", "image"), IN_PLACE, ids=["array", "tensor", "class", "lambda"])
def test_a_transform_that_works_in_place(transform, image):
    samples = [(image, i) for i in range(8)]
    config = MiAMixConfig(p_self=0.5)
    images, _ = MiAMixCollator(10, config, transform=transform, seed=0, dtype="uint8")(samples)
    assert images.unique().tolist() == [90]
    (first, second), _ = TwoViews(samples, transform)[0]
    assert np.unique(first).tolist() == np.unique(second).tolist() == [90]
    assert not np.shares_memory(np.asarray(first), np.asarray(second))
    assert np.unique(image).tolist() == [100]


@pytest.mark.parametrize(("transform", "image"), [
    (draw, np.full((8, 8, 3), 100, np.uint8)), (draw_on_pil, Image.new("RGB", (8, 8), (100, 100, 100))),
], ids=["opencv", "pil"])  # fmt: skip
def test_a_transform_that_draws_on_the_picture(transform, image):
    (first, second), _ = TwoViews([(image, 0)], transform)[0]
    for view in map(np.asarray, (first, second)):
        assert view[0, 0, 0] == 7
        assert view[7, 7, 0] == 100
    assert np.unique(image).tolist() == [100]


def test_a_transform_may_write_where_the_sample_may_not_be_written_to():
    image = np.full((8, 8, 3), 100, np.uint8)
    image.flags.writeable = False
    assert np.unique(make(darken, [image])[0]).tolist() == [90]


def test_albumentations_gets_the_image_itself_and_two_views_do_not_share_it():
    """Its own transforms write to nothing, so they need no copy; what comes out of TwoViews has memory of its own."""
    image = np.full((8, 8, 3), 100, np.uint8)
    compose = A.Compose([A.NoOp()])
    assert np.shares_memory(make(compose, [image])[0], image)
    (first, second), _ = TwoViews([(image, 0)], compose)[0]
    assert not np.shares_memory(first, image)
    assert not np.shares_memory(first, second)


def whole_library():
    """Albumentations' own transforms that work on a picture alone."""
    for name in sorted(set(dir(A)) - {"BasicTransform", "DualTransform", "ImageOnlyTransform", "Lambda", "NoOp"}):
        kind = getattr(A, name)
        if isinstance(kind, type) and issubclass(kind, A.BasicTransform):
            try:
                yield name, kind(p=1.0)
            except (TypeError, ValueError):  # needs arguments, or more than a picture
                continue


def test_no_transform_of_albumentations_writes_to_its_image(rng):
    """What spares us a copy of every image."""
    tried = 0
    pictures = [rng.integers(0, 256, (48, 48, 3), dtype=np.uint8), rng.random((48, 48, 3), dtype=np.float32)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, transform in whole_library():
            for picture in pictures:
                before = picture.copy()
                try:
                    for seed in range(3):
                        transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
                        A.Compose([transform])(image=picture)
                except (KeyError, ValueError, TypeError, cv2.error, NotImplementedError):
                    continue
                np.testing.assert_array_equal(picture, before, err_msg=name)
                tried += 1
    assert tried > 100


def test_a_picture_keeps_its_attributes(tmp_path):
    picture = Image.new("RGB", (8, 8))
    picture.save(tmp_path / "a.png")
    opened = Image.open(tmp_path / "a.png")
    opened.patient = 7
    seen = []

    def looks(image):
        seen.append((image.filename, image.format, image.patient))
        return image.rotate(90)

    TwoViews([(opened, 0)], looks)[0]
    assert seen == [(str(tmp_path / "a.png"), "PNG", 7)] * 2
