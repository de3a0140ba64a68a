"""The caller's own transform is what counts, at every moment."""

import copy
import threading

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator
from tests.transforms import Numbers
from tests.views.common import PLAIN, darken, grey, make


class Strength(A.ImageOnlyTransform):
    """Its strength is raised from outside, in memory that workers see; it holds what cannot be copied."""

    def __init__(self, strength):
        super().__init__(p=1.0)
        self.strength, self.lock = strength, threading.Lock()

    def apply(self, image, **parameters):
        with self.lock:
            return np.full_like(image, int(self.strength))


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_a_strength_that_is_raised_by_epoch_is_seen(workers, persistent):
    strength = torch.zeros(1).share_memory_()
    compose = A.Compose([A.HorizontalFlip(), Strength(strength)])
    collate = MiAMixCollator(10, PLAIN, transform=compose, seed=0, dtype="uint8")
    loader = DataLoader(Numbers(8), 4, collate_fn=collate, num_workers=workers, persistent_workers=persistent)
    found = []
    for epoch in range(3):
        strength.fill_(10 * epoch)
        found.append(sorted({int(value) for images, _ in loader for value in images.unique()}))
    assert found == [[0], [10], [20]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_probability_that_is_changed_between_epochs_is_obeyed(workers):
    compose = A.Compose([A.InvertImg(p=0.0)])
    collate = MiAMixCollator(10, PLAIN, transform=compose, seed=0, dtype="uint8")
    loader = DataLoader(grey(8), 4, collate_fn=collate, num_workers=workers)
    found = []
    for p in (0.0, 1.0, 0.0):
        compose.transforms[0].p = p
        found.append([int(images[0, 0, 0, 0]) for images, _ in loader])
    assert found == [[100, 100], [155, 155], [100, 100]]


def test_nothing_of_a_compose_is_copied(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("copied")

    compose = A.Compose([A.HorizontalFlip()])
    monkeypatch.setattr(copy, "deepcopy", refuse)
    monkeypatch.setattr(A.HorizontalFlip, "__deepcopy__", refuse, raising=False)
    make(compose, [image for image, _ in grey(4)])


def test_generators_are_the_callers_own_afterwards(rng):
    inner = A.OneOf([A.HorizontalFlip(p=1), A.VerticalFlip(p=1)])

    def fails(*arguments, **more):
        raise KeyError("no")

    compose = A.Compose([inner, A.RandomBrightnessContrast(), A.Lambda(image=fails, p=0)])
    nodes = [compose, inner, *inner.transforms, *compose.transforms[1:]]
    before = [(node.random_generator, node.py_random) for node in nodes]
    states = [(numpys.bit_generator.state, pythons.getstate()) for numpys, pythons in before]

    make(compose, [image for image, _ in grey(4)])
    compose.transforms[-1].p = 1
    with pytest.raises(KeyError):
        make(compose, [image for image, _ in grey(4)])
    for node, own, (numpys, pythons) in zip(nodes, before, states, strict=True):
        assert (node.random_generator, node.py_random) == own
        assert (own[0].bit_generator.state, own[1].getstate()) == (numpys, pythons)


def test_an_albumentations_that_is_too_old_is_named():
    old = type("Compose", (), {"__call__": lambda self, image: {"image": image}, "__module__": "albumentations.core"})
    with pytest.raises(ImportError, match=r"Albumentations 2.0.8, which is too old: .* Version 2.0 or newer is needed"):
        MiAMixCollator(10, transform=old())


def test_the_transform_of_a_collator_can_be_set():
    collate = MiAMixCollator(10, PLAIN, seed=0, dtype="uint8")
    collate.transform = darken
    assert collate.transform is darken
    assert collate(grey(4))[0].unique().tolist() == [90]
    collate.transform = None
    assert collate.transform is None
    collate.set_epoch(1)
    assert collate(grey(4))[0].unique().tolist() == [100]
    with pytest.raises(TypeError, match="transform must be callable, got 3"):
        collate.transform = 3
