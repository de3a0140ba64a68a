"""Transforms that tests use in workers under every start method, so they live in a module of their own."""

import random

import numpy as np
import torch

GENERATOR = np.random.default_rng(0)  # that a transform elsewhere may name


def draws_from_everything(image):
    """Adds what the three global generators say: three numbers a view."""
    image = np.asarray(image).astype(np.float32)
    noise = random.random() + np.random.rand() * 10 + torch.rand(()).item() * 100
    return (image / np.float32(255) + np.float32(noise)).astype(np.float32)


def fails_on_seven(image):
    if image[0, 0, 0] == 7:
        raise KeyError("seven")
    return image


def returns_nothing(image):
    return None


class Grows:
    """Each call's result is one pixel wider than the one before."""

    def __init__(self):
        self.width = 4

    def __call__(self, image):
        self.width += 1
        return np.zeros((4, self.width, 3), np.uint8)


class Numbers:
    """A map-style dataset of (8, 8, 3) pictures that hold their index."""

    def __init__(self, n, side=8):
        self.n, self.side = n, side

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index >= self.n:
            raise IndexError(index)
        generator = np.random.default_rng(int(index))
        return generator.integers(0, 256, (self.side, self.side, 3), dtype=np.uint8), int(index) % 10


class Fails(Numbers):
    def __getitem__(self, index):
        if index == 5:
            raise OSError("disk on fire")
        return super().__getitem__(index)


class Positions(Numbers):
    """Pictures that are all alike, each pixel its own position; (picture, label, index), or its only transform."""

    def __init__(self, n, transform=None):
        super().__init__(n)
        self.transform = transform

    def __getitem__(self, index):
        if index >= self.n:
            raise IndexError(index)
        picture = np.arange(256, dtype=np.uint8).reshape(16, 16)
        return (picture, 0, index) if self.transform is None else self.transform(image=picture)["image"]
