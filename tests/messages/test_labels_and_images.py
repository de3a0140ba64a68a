"""Labels and images that are not what they should be."""

import io
import re

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image

from miamix_cpu import MiAMixBatch, MiAMixCollator, TwoViews
from miamix_cpu.samples.labels import read_labels
from tests.messages.common import IMAGE, PLAIN, told

# Labels ------------------------------------------------------------------------------------------------------------------


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
    assert "got the float 1: if it is a class, pass int(label)" in words


# Images ------------------------------------------------------------------------------------------------------------------


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
    ([((IMAGE, IMAGE), 1)], "the image of item 0 must be one image, because TwoViews makes both views"),
])  # fmt: skip
def test_items_that_two_views_cannot_be_made_of(items, words):
    with pytest.raises((TypeError, ValueError), match=words):
        TwoViews(items, lambda image: image)[0]


def test_pictures_of_16_bits_are_not_told_to_be_clipped():
    _, words = told(MiAMixCollator(10, PLAIN, seed=0), [(Image.new("I;16", (8, 8)), 0)] * 2)
    assert "use np.asarray(image).astype(np.float32) / 65535" in words
    assert "convert" not in words
