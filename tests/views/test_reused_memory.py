"""Transforms that write their results into the same memory again: no view is written over."""

import itertools
import random

import numpy as np
import pytest
import torch
from PIL import Image

from miamix_cpu import MiAMixCollator, MiAMixConfig, MixSchedule, TwoViews
from tests.views.common import PLAIN, grey


class Reuses:
    """As a fast transform does: its result is written into the same memory each time."""

    def __init__(self, kind):
        self.memory = np.zeros((8, 8, 3), np.uint8) if kind == "array" else torch.zeros((3, 8, 8), dtype=torch.uint8)

    def __call__(self, image):
        self.memory[:] = random.randrange(256)
        return self.memory


class Ring(Reuses):
    """Several results, one after the other."""

    def __init__(self, size):
        self.ring = itertools.cycle([np.zeros((8, 8, 3), np.uint8) for _ in range(size)])

    def __call__(self, image):
        memory = next(self.ring)
        memory[:] = image[0, 0, 0]
        return memory


@pytest.mark.parametrize("transform", [lambda: Reuses("array"), lambda: Reuses("tensor")], ids=["array", "tensor"])
def test_a_transform_that_uses_its_results_memory_again(transform):
    samples = [(image, i) for i, (image, _) in enumerate(grey(10))]
    schedule = MixSchedule(probability=0.0)
    collate = MiAMixCollator(10, PLAIN, transform=transform(), seed=0, dtype="uint8", schedule=schedule)
    first = collate(samples)[0]
    assert len(first[:, 0, 0, 0].unique()) > 6
    again = MiAMixCollator(10, PLAIN, transform=transform(), seed=0, dtype="uint8", schedule=schedule)
    again(grey(10, 7))  # here it is found out, there it was in the batch itself
    np.testing.assert_array_equal(first, again(samples)[0])


class Canvas:
    """Results that lie in one piece of memory, which is written over; of many kinds."""

    def __init__(self, kind):
        self.kind, self.at = kind, 0
        self.tensor = torch.zeros(3, 16, 16, dtype=torch.uint8)
        self.bytes = bytearray(8 * 8 * 3)

    def __call__(self, image):
        value = int(np.asarray(image).flat[0])
        self.tensor.fill_(value)
        self.bytes[:] = bytes([value]) * len(self.bytes)
        self.at = (self.at + 1) % 4
        window = self.tensor[:, self.at : self.at + 8, self.at : self.at + 8]
        array = np.frombuffer(self.bytes, np.uint8).reshape(8, 8, 3)
        return {
            "tensor": lambda: window, "numpy": lambda: window.permute(1, 2, 0).numpy(), "buffer": lambda: array,
            "strides": lambda: np.lib.stride_tricks.as_strided(array, array.shape, array.strides),
            "from numpy": lambda: torch.from_numpy(array.transpose(2, 0, 1)),
            "picture": lambda: Image.frombuffer("RGBX", (8, 6), self.bytes, "raw", "RGBX", 0, 1).convert("RGB"),
            "grey picture": lambda: Image.frombuffer("L", (8, 8), memoryview(self.bytes)[:64], "raw", "L", 0, 1),
        }[self.kind]()  # fmt: skip


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
@pytest.mark.parametrize("kind", ["tensor", "numpy", "buffer", "strides", "from numpy", "picture", "grey picture"])
def test_results_in_memory_of_any_kind_are_not_written_over(kind):
    samples = [(np.full((8, 8, 3), 10 * i, np.uint8), i) for i in range(6)]
    collate = MiAMixCollator(
        10, PLAIN, transform=Canvas(kind), seed=0, dtype="uint8", schedule=MixSchedule(probability=0.0)
    )
    assert collate(samples)[0][:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    dataset = TwoViews(samples, Canvas(kind))
    pairs = [dataset[i][0] for i in range(6)]
    assert [int(np.asarray(view).flat[0]) for pair in pairs for view in pair] == [10 * (i // 2) for i in range(12)]


@pytest.mark.filterwarnings("ignore:Ring contains ring of type cycle")
@pytest.mark.parametrize(("n", "size"), [(1, 1), (4, 4), (4, 3), (6, 1)])
def test_second_views_are_not_written_over_first_ones(n, size):
    """Each view is its own sample's grey."""
    samples = [(np.full((8, 8, 3), 10 + i, np.uint8), i) for i in range(n)]
    config = MiAMixConfig.plain("mixup", second_view="independent", p_self=0.0 if n > 1 else 1.0)
    collate = MiAMixCollator(10, config, transform=Ring(size), seed=0, return_batch=True, dtype="float32")
    batch = collate(samples)
    grey_of = torch.arange(10, 10 + n) / 255
    expected = batch.lam * grey_of + (1 - batch.lam) * grey_of[batch.partner]
    torch.testing.assert_close(batch.images[:, 0, 0, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:Ring contains ring of type cycle")
def test_two_views_own_their_memory_whatever_the_transform_returns():
    dataset = TwoViews([(np.full((8, 8, 3), i, np.uint8), i) for i in range(6)], Ring(2))
    items = [dataset[i] for i in range(6)]
    assert [(int(one[0, 0, 0]), int(two[0, 0, 0])) for (one, two), _ in items] == [(i, i) for i in range(6)]
