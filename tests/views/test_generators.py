"""Which generators are found in a transform, and what cannot be reached."""

import itertools
import logging
import random
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from miamix_cpu import MiAMixBatch
from miamix_cpu.views.generators import find_generators, reseeded
from tests.views.common import PLAIN, grey
from tests.views.owners import flip


class DrawsFromTheSystem:
    def __init__(self):
        self.rng = random.SystemRandom()

    def __call__(self, image):
        return flip(image, self.rng.random())


class DrawsFromAnIterator(DrawsFromTheSystem):
    def __init__(self):
        self.chances = itertools.cycle([0.0, 1.0])

    def __call__(self, image):
        return flip(image, next(self.chances))


class MakesItsGeneratorLate(DrawsFromTheSystem):
    def __init__(self):
        self.rng = None

    def __call__(self, image):
        self.rng = self.rng or np.random.default_rng()
        return flip(image, self.rng.random())


@pytest.mark.parametrize(("owner", "words"), [
    (DrawsFromTheSystem, "DrawsFromTheSystem contains rng of type SystemRandom, which can't be seeded"),
    (DrawsFromAnIterator, "DrawsFromAnIterator contains chances of type cycle, which can't be seeded"),
    (MakesItsGeneratorLate, "MakesItsGeneratorLate created a Generator when it was first called"),
])  # fmt: skip
def test_what_cannot_be_reached_is_warned_of_once(owner, words):
    mix = MiAMixBatch(10, PLAIN, transform=owner())
    with pytest.warns(UserWarning, match=words):
        mix(grey(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mix(grey(4, 50))


ONCE = """
from torch.utils.data import DataLoader
from miamix_cpu import MiAMixCollator, MiAMixConfig
from tests.views.test_generators import DrawsFromTheSystem
from tests import transforms
from tests.transforms import Numbers
collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), transform=DrawsFromTheSystem(), seed=0)
for _ in range(2):
    for _ in DataLoader(Numbers(16), 4, collate_fn=collate, num_workers=2):
        pass
"""


def test_what_a_function_closes_over_is_warned_of():
    chances = itertools.cycle([0.0, 1.0])

    def alternates(image):
        return flip(image, next(chances))

    with pytest.warns(UserWarning, match=r"alternates contains a cycle, which can't be seeded"):
        MiAMixBatch(10, PLAIN, transform=alternates)(grey(4))


class Configuration:
    """What a configuration may be called."""

    def __init__(self):
        self.generator = SimpleNamespace(channels=3)


def test_what_cannot_be_looked_at_is_passed_over():
    class Refuses:
        @property
        def __dict__(self):
            raise RuntimeError("no")

    target = Configuration()
    holder = SimpleNamespace(proxy=weakref.proxy(target), refuses=Refuses(), rng=np.random.default_rng(0))
    del target
    assert find_generators([holder]).generators == [holder.rng]


def test_a_configuration_called_generator_is_none():
    assert not find_generators([Configuration()]).unreachable


def test_a_warning_is_given_once_among_all_workers():
    result = subprocess.run(
        [sys.executable, "-W", "always", "-c", ONCE], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("can't be seeded") == 1


def test_large_containers_and_data_are_not_looked_through():
    holder = SimpleNamespace(paths=[object()] * 5000, picture=np.zeros(3), module=np, rng=np.random.default_rng(0))
    holder.itself = holder
    found = find_generators([holder])
    assert found.generators == [holder.rng]
    assert not found.unreachable


def chain(length):
    """Objects that hold one another, a generator at their end."""
    value = np.random.default_rng(0)
    for _ in range(length):
        value = TakesInner(value)
    return value


class TakesInner:
    def __init__(self, inner):
        self.inner = inner


class Named:
    """Names that mean nothing: a counter, and a wrapper of a generator that is known already."""

    def __init__(self):
        self.numbers = itertools.count()
        self.source = np.random.default_rng(0)
        self.rng = SimpleNamespace(source=self.source)
        self.generator = SimpleNamespace(rng=self.rng)
        self.rng.generator = self.generator


class WithANetwork:
    def __init__(self):
        self.net = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())] * 400)
        self.rng = np.random.default_rng(0)


def test_what_is_looked_through(monkeypatch):
    assert len(find_generators([chain(2500)]).generators) == 1  # no recursion
    for value in (Named(), WithANetwork()):
        found = find_generators([value])
        assert len(found.generators) == 1
        assert not found.unreachable
    monkeypatch.setattr("miamix_cpu.views.generators._MOST", 100)
    assert find_generators([chain(900)]).unreachable == [
        ("the transform", "more than 100 objects and perhaps a generator among them")
    ]


def logs(image):
    LOG.debug("seen")
    return image


LOG = logging.getLogger(__name__)


def test_pythons_own_objects_are_not_looked_through(monkeypatch):
    """A logger knows all loggers, a thousand objects."""
    for number in range(300):
        logging.getLogger(f"miamix_cpu.test.{number}")
    monkeypatch.setattr("miamix_cpu.views.generators._MOST", 20)
    assert not find_generators([logs]).unreachable


def test_a_generator_that_a_class_is_given_later():
    class Late:
        rng = None

    assert not find_generators([Late()]).generators
    Late.rng = np.random.default_rng(0)
    assert find_generators([Late()]).generators == [Late.rng]
    Late.rng = np.random.default_rng(1)
    assert find_generators([Late()]).generators == [Late.rng]


def test_states_are_restored_where_the_transform_fails():
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    with pytest.raises(KeyError), reseeded(find_generators([SimpleNamespace(rng=rng)]), np.random.default_rng(1)):
        rng.random()
        raise KeyError
    assert rng.bit_generator.state == state
