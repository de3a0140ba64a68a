"""Transforms that own a generator, in every way that people write them."""

import random
import types
from types import SimpleNamespace

import albumentations as A
import cv2
import numba
import numpy as np
import torch

from tests import transforms

MODULE_LEVEL = np.random.default_rng(0)
COMPOSE = A.Compose([A.HorizontalFlip()])


def flip(image, chance):
    return image[:, ::-1] if chance < 0.5 else image


class OwnsNumPy:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, image):
        return flip(image, self.rng.random())


class OwnsState(OwnsNumPy):
    def __init__(self):
        self.rng = np.random.RandomState(0)

    def __call__(self, image):
        return flip(image, self.rng.rand())


class OwnsPython(OwnsNumPy):
    def __init__(self):
        self.parts = {"generators": [random.Random(0)]}

    def __call__(self, image):
        return flip(image, self.parts["generators"][0].random())


class OwnsTorch(OwnsNumPy):
    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, image):
        return flip(image, torch.rand((), generator=self.generator))


class OwnsForAll(OwnsNumPy):
    """As MONAI's transforms: one for the whole class."""

    R = np.random.RandomState(0)

    def __init__(self):
        pass

    def set_random_state(self, seed):
        raise AssertionError("its generator can be seen")

    def __call__(self, image):
        return flip(image, self.R.rand())


class Slots:
    __slots__ = ("rng",)

    def __init__(self):
        self.rng = np.random.Generator(np.random.MT19937(0))

    def __call__(self, image):
        return flip(image, self.rng.random())


class TakesASeed:
    """Its generator is out of sight, in a C library, say."""

    def __init__(self):
        state = [0]

        def set_random_state(seed):
            state[0] = seed

        def draw():
            state[0] = (state[0] * 6364136223846793005 + 1442695040888963407) % 2**64
            return state[0] / 2**64

        self.hidden = SimpleNamespace(draw=draw)
        self._set = set_random_state

    def set_random_state(self, seed):
        self._set(seed)

    def __call__(self, image):
        return flip(image, self.hidden.draw())


class InACompose(A.ImageOnlyTransform):
    def __init__(self):
        super().__init__(p=1.0)
        self.own = OwnsNumPy()

    def apply(self, image, **parameters):
        return np.ascontiguousarray(self.own(image))


def by_a_closure():
    rng = np.random.default_rng(0)
    return lambda image: flip(image, rng.random())


def of_the_module(image):
    return flip(image, MODULE_LEVEL.random())


def calls_a_compose(image):
    return COMPOSE(image=image)["image"]


class Settings:
    rng = np.random.default_rng(0)


def of_a_class(image):
    return flip(image, Settings.rng.random())


def of_another_module(image):
    return flip(image, transforms.GENERATOR.random())


class Mangled:
    __slots__ = ("__rng",)

    def __init__(self):
        self.__rng = np.random.default_rng(0)

    def __call__(self, image):
        return flip(image, self.__rng.random())


def holds_an_attribute(image):
    return flip(image, holds_an_attribute.rng.random())


holds_an_attribute.rng = np.random.default_rng(0)


class OwnsAMethod(OwnsNumPy):
    def __init__(self):
        self.draw, self.source = random.Random(0).random, types.MappingProxyType({"a": np.random.default_rng(0)})

    def __call__(self, image):
        return flip(image, (self.draw() + self.source["a"].random()) % 1)


class OfItsClass(OwnsNumPy):
    rng = np.random.default_rng(0)

    def __init__(self):
        pass

    @classmethod
    def __call__(cls, image):
        return flip(image, cls.rng.random())


def draws_from_opencv(image):
    noise = np.zeros(1, np.uint8)
    cv2.randu(noise, 0, 2)
    return flip(image, float(noise[0]))


@numba.njit
def half(value):
    return value / 2


def is_compiled(image):
    return flip(image, half(2 * np.random.rand()))


OWNERS = {
    "attribute of a function": lambda: holds_an_attribute, "method of a generator": OwnsAMethod, "cls": OfItsClass,
    "opencv": lambda: draws_from_opencv, "numba": lambda: is_compiled,
    "class that a function names": lambda: of_a_class, "module that a function names": lambda: of_another_module,
    "private slot": Mangled,
    "numpy": OwnsNumPy, "state": OwnsState, "python": OwnsPython, "torch": OwnsTorch, "class": OwnsForAll,
    "slots": Slots, "seed": TakesASeed, "compose": lambda: A.Compose([A.VerticalFlip(), InACompose()]),
    "closure": by_a_closure, "module": lambda: of_the_module, "function of a compose": lambda: calls_a_compose,
    "method": lambda: OwnsNumPy().__call__, "module of torch": lambda: torch.nn.Sequential(Wrapped(OwnsNumPy())),
}  # fmt: skip


class Wrapped(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, image):
        return self.inner(image)
