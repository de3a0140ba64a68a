"""Transforms that pass through what they do not know, and datasets that augment already."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from miamix_cpu import MiAMixCollator, TwoViews
from tests.transforms import Numbers
from tests.views.common import PLAIN, darken, grey


def test_what_passes_through_is_warned_of_once():
    collate = MiAMixCollator(10, PLAIN, transform=lambda image: image, seed=0)
    with pytest.warns(UserWarning, match=r"unchanged for the first 16 views. torchvision's v2"):
        collate(grey(16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collate(grey(16, 50))
        MiAMixCollator(10, PLAIN, transform=darken, seed=0)(grey(16))  # the same object, but changed
        MiAMixCollator(10, PLAIN, transform=lambda image: image, seed=0)(grey(4))  # flips with p=0.5 may do that
        seldom = iter([*[False] * 5, True, *[False] * 100])
        erase = MiAMixCollator(10, PLAIN, transform=lambda image: image + 1 if next(seldom) else image, seed=0)
        for value in (1, 2, 3):
            erase(grey(16, value))


def test_two_views_that_pass_through_are_warned_of():
    dataset = TwoViews(grey(16), lambda image: image)
    with pytest.warns(UserWarning, match="unchanged for the first 16 views"):
        assert len([dataset[i] for i in range(16)]) == 16


class Augments(Numbers):
    transform = staticmethod(lambda image: image)


@pytest.mark.parametrize("wrapped", [
    lambda dataset: dataset, lambda dataset: torch.utils.data.Subset(dataset, [0, 1]),
    lambda dataset: torch.utils.data.ConcatDataset([Numbers(2), dataset]),
], ids=["itself", "subset", "concat"])  # fmt: skip
def test_a_dataset_that_still_augments_is_warned_of(wrapped):
    with pytest.warns(UserWarning, match=r"Augments still has a transform .* pass it to TwoViews"):
        TwoViews(wrapped(Augments(4)), darken)
    TwoViews(wrapped(Numbers(4)), darken)


class HasAMethod(Numbers):
    def transform(self, image):
        return image


class TransformTakenOut(Numbers):
    """As torchvision's datasets are after `dataset.transform = None`: what is in `transforms` is not used."""

    transform = None
    transforms = SimpleNamespace(transform=darken, target_transform=None)


class OnlyItsTargets(Numbers):
    """As torchvision's datasets are, given a target_transform alone."""

    transform = None
    transforms = SimpleNamespace(transform=None, target_transform=int)


@pytest.mark.parametrize("dataset", [HasAMethod(4), OnlyItsTargets(4), TransformTakenOut(4)])
def test_a_dataset_that_does_not_augment_is_left_alone(dataset):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TwoViews(dataset, darken)
