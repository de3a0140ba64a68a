"""Samples, transforms and comparisons that tests of MiAMixCollator share."""

import albumentations as A
import numpy as np
import pytest
import torch

from miamix_cpu import MiAMixConfig
from miamix_cpu.methods import METHODS

#: For a module's `pytestmark`: what small batches and transforms that do nothing are warned of.
UNMIXED = pytest.mark.filterwarnings(
    "ignore:a batch of one sample came out unmixed", "ignore:the transform returned its input arrays"
)

EVERYTHING = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), k_max=4, p_aug=0.5, p_self=0.3)
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
    if isinstance(one, str):
        return one == two
    return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))


def recording(calls):
    def transform(image):
        calls.append(int(image[0, 0, 0]))
        return image

    return transform


def numbered(n):
    return [(np.full((4, 4, 3), i, np.uint8), i) for i in range(n)]
