"""The two augmented views: the caller's transform, called once a view on a stream that the batch's key gives."""

from __future__ import annotations

import inspect
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from miamix_cpu.checks import short
from miamix_cpu.generators import Found, find_generators, reseeded
from miamix_cpu.images import is_pil, is_tensor
from miamix_cpu.once import Once
from miamix_cpu.randomness import seeded_globals, views_lock

# Albumentations asks the network for its newest version when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def is_albumentations(transform: Any) -> bool:
    """Whether `transform` is one of Albumentations' (or AlbumentationsX's); neither is imported for it."""
    return any(base.__module__.partition(".")[0] == "albumentations" for base in type(transform).__mro__)


def _is_own(transform: Any) -> bool:
    """Whether a transform is of a class of Albumentations that runs no code of the caller's."""
    return type(transform).__module__.partition(".")[0] == "albumentations" and type(transform).__name__ != "Lambda"


def takes_keyword(transform: Any) -> bool:
    """Whether `transform` is called as `transform(image=x)["image"]` rather than `transform(x)`."""
    if is_albumentations(transform):
        return True
    try:
        parameters = inspect.signature(transform).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(p.name == "image" and p.kind is not p.POSITIONAL_ONLY for p in parameters):
        return True
    return bool(parameters) and all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)


class Transform:
    """A transform that draws from a stream of ours, whatever it draws from by itself.

    The caller's object is used as it is at that moment, never copied, and its generators are as they were afterwards:
    he may share it with his validation set, or change it between epochs. Albumentations' transforms are lent ours. Any
    other callable, and code of the caller's inside of a Compose, runs with the process's generators seeded, and with
    those that it owns (`generators.py`). Only one thread of a process makes views at a time.

    What is not Albumentations' own code may write to the image that it is given, so it is given a copy.

    Parameters
    ----------
    transform : callable
    once : Once, optional
        By which it warns.

    Raises
    ------
    TypeError
        Where it cannot be called.
    ImportError
        Where it is of an Albumentations before 2.0.
    """

    def __init__(self, transform: Callable[..., Any], once: Once | None = None) -> None:
        if not callable(transform):
            raise TypeError(f"transform must be callable, got {short(transform)}")
        self.transform = transform
        self.keyword = takes_keyword(transform)
        self.takes_arrays = is_albumentations(transform)
        if self.takes_arrays and not hasattr(transform, "set_random_state"):
            raise ImportError(
                f"transform is of an Albumentations that is too old, {_version_of_albumentations()}: its views can't "
                "be seeded; version 2.0 or newer is needed, pip install 'albumentations>=2.0.8'"
            )
        if self.takes_arrays and getattr(transform, "seed", None) is not None:
            warnings.warn(
                f"the transform's own seed={transform.seed!r} is not used: "  # type: ignore[attr-defined]
                "views are drawn from the batch's key (MiAMixCollator's seed)",
                stacklevel=4,
            )
        self._once = once or Once(shared=False)
        self._reuses_memory = self._looked_through = False

    def make(
        self,
        images: list[Any],
        planar: bool,
        indices: Sequence[int],
        rng: np.random.Generator,
        names: Callable[[int], str],
    ) -> list[Any]:
        """One view of each of `images[i]`, i in `indices`, drawn in that order; no image is changed.

        Parameters
        ----------
        images : arrays for Albumentations (`takes_arrays`), else as the samples hold them
        planar : bool, whether arrays are (C, H, W)
        indices : ints
        rng : numpy.random.Generator
        names : int -> str
            How messages call view i, e.g. "the first view of sample 3".

        Raises
        ------
        Exception
            The transform's own, with a note that names the view.
        TypeError
            Where the transform returns nothing.
        """
        if planar and self.takes_arrays:
            images = [image if image.ndim == 2 else np.ascontiguousarray(image.transpose(1, 2, 0)) for image in images]
        with views_lock():
            nodes = _albumentations_nodes(self.transform) if self.takes_arrays else []
            foreign = [node for node in nodes if not _is_own(node)] if nodes else [self.transform]
            if not foreign:
                with lent(nodes, rng):
                    return [self._view(images[i], i, names) for i in indices]
            state = rng.bit_generator.state
            views = self._make_foreign(foreign, nodes, images, indices, rng, names)
            if not self._reuses_memory and _overlap(views):
                self._reuses_memory = True
                rng.bit_generator.state = state
                views = self._make_foreign(foreign, nodes, images, indices, rng, names)
            return views

    def _make_foreign(
        self,
        foreign: list[Any],
        nodes: list[Any],
        images: list[Any],
        indices: Sequence[int],
        rng: np.random.Generator,
        names: Callable[[int], str],
    ) -> list[Any]:
        """`make` by code that may write to what it is given, and draw from anywhere."""
        with lent(nodes, rng):
            ignored = [node for node in nodes if _is_own(node)]
            ignored += [part for node in nodes for part in (node.random_generator, node.py_random)]
            found = find_generators(foreign, ignored)
            views, passed_through = [], True
            with seeded_globals(rng), reseeded(found, rng):
                for i in indices:
                    given = self._copy(images[i], i, names)  # dropped at once where the view is another array
                    views.append(self._view(given, i, names))
                    passed_through = passed_through and views[-1] is given
            if not self._looked_through:
                self._looked_through = True
                self._check_generators(found, find_generators(foreign, ignored))
        if passed_through and len(views) >= _MANY:
            self._check_passed_through(views, [images[i] for i in indices])
        return views

    def _check_generators(self, before: Found, after: Found) -> None:
        """Warn of what the transform draws from that could not be seeded."""
        for kind, what in before.unreachable:
            self._once.warn(
                f"unreachable {kind}",
                f"{kind} holds {what}, which can't be seeded, so its views are not determined by the seed: draw from a "
                "numpy.random.Generator that is an attribute, or from numpy.random, random or torch",
            )
        known = set(map(id, before.generators))
        late = [generator for generator in after.generators if id(generator) not in known]
        if late:
            self._once.warn(
                "late generator",
                f"{type(self.transform).__qualname__} made a {type(late[0]).__name__} when it was first called, so the "
                "first views of each process are not determined by the seed: make it in __init__",
            )

    def _check_passed_through(self, views: list[Any], images: list[Any]) -> None:
        """Warn where all views are what was given, unchanged."""
        if all(map(_are_equal, views, images)):
            self._once.warn(
                "passed through",
                f"the transform returned what it was given, unchanged, for all {len(views)} views of a batch, of type "
                f"{type(views[0]).__name__}: torchvision's v2 transforms pass arrays through, so begin with "
                "v2.ToImage() or let the dataset give PIL images or tensors",
            )

    def _copy(self, image: Any, i: int, names: Callable[[int], str]) -> Any:
        try:
            return copied(image)
        except Exception as error:  # PIL reads a file when its values are asked for
            error.add_note(f"raised when the image was read, for {names(i)}")
            raise

    def _view(self, image: Any, i: int, names: Callable[[int], str]) -> Any:
        try:
            view = self.transform(image=image) if self.keyword else self.transform(image)
        except Exception as error:
            error.add_note(f"raised by the transform, for {names(i)}")
            if not self.keyword:
                error.add_note("it is given the image alone; one that takes a whole sample belongs in the dataset")
            raise
        if isinstance(view, dict):
            view = view.get("image")
        if view is None:
            raise TypeError(f"the transform returned nothing for {names(i)}")
        return copied(view) if self._reuses_memory else view


_MANY = 16  # views that a transform which leaves half of all images alone never returns unchanged


def copied(image: Any) -> Any:
    """A copy in memory of its own, to which anybody may write; what is no image is handed on as it is."""
    if isinstance(image, np.ndarray) or is_pil(image):
        return image.copy()
    return image.clone() if is_tensor(image) else image


def _owner(view: Any) -> int:
    """What tells the memory of a view from that of others, as long as all of them live."""
    if isinstance(view, np.ndarray):
        return id(view if view.base is None else view.base)
    return int(view.data_ptr()) if is_tensor(view) else id(view)


def _overlap(views: list[Any]) -> bool:
    """Whether a later call wrote into what an earlier one had returned: a transform that keeps its result's memory."""
    return len(set(map(_owner, views))) < len(views)


def _are_equal(view: Any, image: Any) -> bool:
    if is_tensor(view):
        return bool((view == image).all())
    return bool(np.array_equal(np.asarray(view), np.asarray(image)))


def _albumentations_nodes(transform: Any) -> list[Any]:
    """An Albumentations transform and all that it is composed of."""
    nodes, waiting = [], [transform]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        waiting += [part for part in getattr(node, "transforms", ()) if is_albumentations(part)]
    return nodes


def _version_of_albumentations() -> str:
    return str(getattr(sys.modules.get("albumentations"), "__version__", "of unknown version"))


@contextmanager
def lent(nodes: list[Any], rng: np.random.Generator) -> Iterator[None]:
    """Let Albumentations' transforms draw from `rng`; they have their own generators back afterwards.

    Version 2.0.8 knows nothing of workers: left alone, all of them make the same augmentations.
    """
    if not nodes:
        yield
        return
    own = [(node, node.random_generator, node.py_random) for node in nodes]
    ours = random.Random(int(rng.integers(1 << 63)))
    try:
        nodes[0].set_random_state(rng, ours)
        yield
    finally:
        for node, numpys, pythons in own:
            node.random_generator, node.py_random = numpys, pythons
