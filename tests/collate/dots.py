"""Pictures that are their own maps, and transforms that crop and flip both: what tests of guides share."""

import dataclasses
from typing import Any, NamedTuple

import albumentations as A
import numpy as np
import torch
from PIL import Image

from miamix_cpu import MiAMixCollator
from tests.views.test_guides import AIMED, centres, places

INDEPENDENT = AIMED.replace(second_view="independent", p_self=0.3)
N, HEIGHT, WIDTH = 24, 20, 24  # of the samples
INNER = (14, 16)  # a crop of this size holds every dot


class Dots:
    """Black pictures with one white pixel, each with the same as its map: (picture, label, map), made into `kind`."""

    def __init__(self, n=N, kind=tuple, seed=0):
        self.kind, rng = kind, np.random.default_rng(seed)
        self.maps = np.zeros((n, HEIGHT, WIDTH), np.float32)
        self.maps[np.arange(n), rng.integers(6, 14, n), rng.integers(8, 16, n)] = 1

    def __len__(self):
        return len(self.maps)

    def __getitem__(self, i):
        return self.kind((picture(self.maps[i]), i % 10, self.maps[i]))


class Sample(NamedTuple):
    image: Any
    label: int
    map: Any


def picture(map_):
    return np.repeat((map_ * 255).astype(np.uint8)[..., None], 3, 2)


def as_dict(sample):
    return dict(zip(("image", "label", "map"), sample, strict=True))


def as_tensors(sample):
    return torch.from_numpy(sample[0]).permute(2, 0, 1), sample[1], torch.from_numpy(sample[2])


def as_pil(sample):
    return Image.fromarray(sample[0]), sample[1], Image.fromarray((sample[2] * 255).astype(np.uint8))


def as_grey(sample):
    return sample[0][..., 0], sample[1], sample[2][..., None].astype(bool)


def as_floats(sample):
    return (sample[0] / np.float32(127.5) - 1).astype(np.float32), sample[1], sample[2].astype(np.float64)


def cropped(*arrays):
    """A random crop and flips of arrays (H, W) or (H, W, C), the same for all."""
    y, x = np.random.randint(0, 7), np.random.randint(0, 9)
    step_y, step_x = np.random.choice([-1, 1], 2)
    return tuple(array[y : y + INNER[0], x : x + INNER[1]][::step_y, ::step_x] for array in arrays)


def by_dict(sample):
    """Of whatever a sample's entries are called."""
    return dict(zip(sample, cropped(*sample.values()), strict=True))


def by_name(image, map):
    return by_dict({"image": image, "map": map})


def by_keyword(*, image, map):
    return {"more": 1, **by_name(image, map)}


def like_torchvision(sample):
    """Of tensors."""
    image, map_ = cropped(sample["image"].permute(1, 2, 0).numpy(), sample[2].numpy())
    return {"image": torch.from_numpy(image.transpose(2, 0, 1).copy()), 2: torch.from_numpy(map_.copy())}


class Reuses:
    """Returns its views in one buffer."""

    def __init__(self):
        self.image, self.map = np.empty((*INNER, 3), np.uint8), np.empty(INNER, np.float32)

    def __call__(self, sample):
        self.image[:], self.map[:] = cropped(*sample.values())
        return {"image": self.image, 2: self.map}


CROP = A.Compose([A.RandomCrop(*INNER), A.HorizontalFlip(), A.VerticalFlip()])


def collator(config=INDEPENDENT, **options):
    return MiAMixCollator(10, config, **{"map_key": 2, "seed": 3, "dtype": "uint8", "return_batch": True, **options})


def first_dots(collate, samples, plan):
    """Where the dots of the first views are, as shares of the sides; by the same plan without layers."""
    unmixed = dataclasses.replace(plan, layers=plan.layers[:0], first_layer=np.zeros_like(plan.first_layer))
    return places(collate.replay(samples, unmixed).images[:, 0].numpy())


def assert_aimed(batch):
    """Each box shows the dot of the view that is mixed in, in its centre."""
    plan, images = batch.plan, batch.images[:, 0].numpy()
    y, x = (centres(plan) * images.shape[1:]).astype(int).T
    assert len(plan.layers) == len(plan)
    assert (images[np.arange(len(plan)), y, x] == images.max()).all()
