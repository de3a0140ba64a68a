"""Transforms as people write them: they work in place, hold state, and own generators."""

import copy
import itertools
import logging
import random
import subprocess
import sys
import threading
import types
import warnings
import weakref
from pathlib import Path
from types import SimpleNamespace

import albumentations as A
import cv2
import numba
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixBatch, MiAMixCollator, MiAMixConfig, MixSchedule, TwoViews
from miamix_cpu.views.generators import find_generators, reseeded
from miamix_cpu.views.transform import Transform
from tests import transforms
from tests.transforms import Numbers

PLAIN = MiAMixConfig.plain("mixup")


def grey(n, value=100, side=8):
    return [(np.full((side, side, 3), value, np.uint8), i % 10) for i in range(n)]


def make(transform, images, seed=0):
    return Transform(transform).make(images, False, range(len(images)), np.random.default_rng(seed), str)


# A. A view never shares memory with the sample or with another view -----------------------------------------------------


def darken(image):
    image -= 10
    return image


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


@pytest.mark.filterwarnings("ignore:Ring holds ring, of type cycle")
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


@pytest.mark.filterwarnings("ignore:Ring holds ring, of type cycle")
def test_two_views_own_their_memory_whatever_the_transform_returns():
    dataset = TwoViews([(np.full((8, 8, 3), i, np.uint8), i) for i in range(6)], Ring(2))
    items = [dataset[i] for i in range(6)]
    assert [(int(one[0, 0, 0]), int(two[0, 0, 0])) for (one, two), _ in items] == [(i, i) for i in range(6)]


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


# J. Transforms that pass through what they do not know -------------------------------------------------------------------


def test_what_passes_through_is_warned_of_once():
    collate = MiAMixCollator(10, PLAIN, transform=lambda image: image, seed=0)
    with pytest.warns(UserWarning, match=r"unchanged, for the first 16 views: torchvision's v2"):
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
    with pytest.warns(UserWarning, match="unchanged, for the first 16 views"):
        assert len([dataset[i] for i in range(16)]) == 16


class Augments(Numbers):
    transform = staticmethod(lambda image: image)


@pytest.mark.parametrize("wrapped", [
    lambda dataset: dataset, lambda dataset: torch.utils.data.Subset(dataset, [0, 1]),
    lambda dataset: torch.utils.data.ConcatDataset([Numbers(2), dataset]),
], ids=["itself", "subset", "concat"])  # fmt: skip
def test_a_dataset_that_still_augments_is_warned_of(wrapped):
    with pytest.warns(UserWarning, match=r"Augments still has a transform .* give it to TwoViews"):
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


# B. The caller's object is what counts, at every moment -----------------------------------------------------------------


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
    with pytest.raises(ImportError, match=r"too old, 2.0.8: .* version 2.0 or newer is needed"):
        MiAMixCollator(10, transform=old())


# M. Generators that a transform owns -------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_workers_and_runs_agree_where_a_transform_owns_its_generator(owner):
    found = []
    for workers in (0, 2, 2):
        collate = MiAMixCollator(10, PLAIN, transform=owner(), seed=0, dtype="uint8")
        loader = DataLoader(Numbers(16), 8, collate_fn=collate, num_workers=workers)
        found.append([[images.numpy().tobytes() for images, _ in loader] for _ in range(2)])
    assert found[0] == found[1] == found[2]
    assert len({batch for epoch in found[0] for batch in epoch}) == 4


@pytest.mark.parametrize(
    "owner", [OwnsNumPy, OwnsState, OwnsPython, OwnsTorch, Slots], ids=lambda owner: owner.__name__
)
def test_an_owned_generator_is_restored(owner):
    used, untouched = owner(), owner()
    make(used, [image for image, _ in grey(6)])
    picture = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    for _ in range(20):
        np.testing.assert_array_equal(used(picture), untouched(picture))


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_views_of_one_batch_differ_and_batches_do_too(owner):
    """The same transform, whose own generator is as it was, on other streams."""
    picture = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    transform = owner()
    one, two, again = (np.array(make(transform, [picture] * 64, seed)) for seed in (0, 1, 0))
    assert 5 < (one == one[0]).all(axis=(1, 2, 3)).sum() < 56  # two outcomes, or four with the flip of a Compose
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one, again)


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
    (DrawsFromTheSystem, "DrawsFromTheSystem holds rng, of type SystemRandom, which can't be seeded"),
    (DrawsFromAnIterator, "DrawsFromAnIterator holds chances, of type cycle, which can't be seeded"),
    (MakesItsGeneratorLate, "MakesItsGeneratorLate made a Generator when it was first called"),
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

    with pytest.warns(UserWarning, match=r"alternates holds a cycle, which can't be seeded"):
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
        ("the transform", "more than 100 objects, perhaps a generator among them")
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
