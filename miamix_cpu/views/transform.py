"""Make augmented views: call the caller's transform once per view, with random numbers from the batch's key."""

from __future__ import annotations

import inspect
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from miamix_cpu.checks import callers_level, short
from miamix_cpu.once import Once
from miamix_cpu.views.companions import CompanionCaller
from miamix_cpu.views.compiled import Compiled
from miamix_cpu.views.copies import copied, overlap, owns_its_memory
from miamix_cpu.views.generators import Found, find_generators, reseeded
from miamix_cpu.views.global_generators import seeded_globals, views_lock

# On import, Albumentations checks for a newer version over the network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def is_albumentations(transform: Any) -> bool:
    """Whether `transform` is from Albumentations or AlbumentationsX; imports neither."""
    return any(base.__module__.partition(".")[0] == "albumentations" for base in type(transform).__mro__)


def _is_own(transform: Any) -> bool:
    """Whether the transform's class belongs to Albumentations and runs no code of the caller's."""
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
    """Make a transform draw from our random stream, whichever generators it uses.

    The caller's object is used in its current state and never copied, and its generators are restored afterwards: the
    caller may share it with a validation set, or change it between epochs. Albumentations' transforms use our
    generators for the duration of the call. For any other callable, and for the caller's code inside a Compose, the
    process's generators and those that it owns (`generators.py`) are seeded. Only one thread of a process makes views
    at a time.

    Code that is not Albumentations' own may write to its input, so it gets a copy of the image.

    Parameters
    ----------
    transform : callable
    once : Once, optional
        Issues the warnings.
    copies_results : bool
        The caller's code may return memory that it reuses. If True, all of its results are copied; otherwise only once
        reuse has been detected.
    image_key : str
        The image's key in a dict of a whole sample.
    compiled_views : "auto", True or False
        Whether to make views by a program (`Compiled`).

    Raises
    ------
    TypeError
        If it is not callable.
    ImportError
        If it is from a version of Albumentations before 2.0.
    """

    def __init__(
        self,
        transform: Callable[..., Any],
        once: Once | None = None,
        *,
        copies_results: bool = False,
        image_key: str = "image",
        compiled_views: Any = "auto",
    ) -> None:
        if not callable(transform):
            raise TypeError(f"transform must be callable, got {short(transform)}")
        self.transform = transform
        self.keyword = takes_keyword(transform)
        self.takes_arrays = is_albumentations(transform)
        self._with_others = CompanionCaller(transform, self.keyword, self.takes_arrays, image_key)
        if self.takes_arrays and not hasattr(transform, "set_random_state"):
            raise ImportError(
                f"transform is from Albumentations {_version_of_albumentations()}, which is too old: its views can't "
                "be seeded. Version 2.0 or newer is needed: pip install 'albumentations>=2.0.8'"
            )
        if self.takes_arrays and getattr(transform, "seed", None) is not None:
            warnings.warn(
                f"the transform's own seed={transform.seed!r} is not used: "  # type: ignore[attr-defined]
                "views are drawn from the batch's key (MiAMixCollator's seed)",
                stacklevel=callers_level(),
            )
        self.compiled = Compiled(transform, compiled_views, self.takes_arrays)
        self._once = once or Once(shared=False)
        self._copies_results = copies_results
        self._looked_through = False
        self._passed_through: int | None = 0  # consecutive views returned unchanged; None: no longer checked

    def make(
        self,
        images: list[Any],
        planar: bool,
        indices: Sequence[int],
        rng: np.random.Generator,
        names: Callable[[int], str],
        beside: Sequence[Any] = (),
        others: Mapping[Any, Sequence[Any]] | None = None,
    ) -> list[Any]:
        """Return one view of `images[i]` for each i in `indices`, drawn in that order; no image is changed.

        With `others`, it returns pairs (view, dict), see `CompanionCaller`.

        Parameters
        ----------
        images : arrays for Albumentations (`takes_arrays`), otherwise as in the samples
        planar : bool, whether arrays are (C, H, W)
        indices : ints
        rng : numpy.random.Generator
        names : int -> str
            Name of view i in messages, e.g. "the first view of sample 3".
        beside : views that were made earlier and are still needed
        others : mapping from keys to lists of what belongs to the images, as `CompanionCaller.call` takes it, optional

        Raises
        ------
        Exception
            The transform's own exception, with a note that names the view.
        TypeError
            If the transform returns nothing.
        ReusesMemory
            If the transform overwrote a view, or one of `beside`. Make all of them again; results are now copied.
        """
        if planar:
            images = [
                image if image.ndim == 2 else np.ascontiguousarray(np.moveaxis(image, -3, -1)) for image in images
            ]
        with views_lock():
            nodes = _albumentations_nodes(self.transform) if self.takes_arrays else []
            foreign = [node for node in nodes if not _is_own(node)] if nodes else [self.transform]
            with lent(nodes, rng):
                if not foreign:
                    return [self._view(images[i], i, names, _row(others, i)) for i in indices]
                results = self._make_foreign(foreign, nodes, images, indices, rng, names, others)
        views = [view for view, _ in results] if others else results
        beside = (
            [*beside, *views, *(value for _, made in results for value in made.values())]
            if others
            else [*beside, *views]
        )
        if not self._copies_results and overlap(beside):
            self._copies_results = True
            raise ReusesMemory
        return results

    def _make_foreign(
        self,
        foreign: list[Any],
        nodes: list[Any],
        images: list[Any],
        indices: Sequence[int],
        rng: np.random.Generator,
        names: Callable[[int], str],
        others: Mapping[Any, Sequence[Any]] | None,
    ) -> list[Any]:
        """Like `make`, for code that may write to its input and draw from any generator."""
        ignored = [node for node in nodes if _is_own(node)]
        ignored += [part for node in nodes for part in (node.random_generator, node.py_random)]
        found = find_generators(foreign, ignored)
        results = []
        with seeded_globals(rng), reseeded(found, rng):
            for i in indices:
                given = self._copy(images[i], i, names)  # freed at once if the view is another array
                row = {key: self._copy(value, i, names) for key, value in _row(others, i).items()}
                result = self._view(given, i, names, row)
                view = result[0] if row else result
                if self._passed_through is not None:
                    self._look_at(view, given, images[i])
                view = self._kept(view, given)
                results.append(
                    (view, {key: self._kept(made, row[key]) for key, made in result[1].items()}) if row else view
                )
        if not self._looked_through:
            self._looked_through = True
            self._check_generators(found, find_generators(foreign, ignored))
        return results

    def _check_generators(self, before: Found, after: Found) -> None:
        """Warn about sources of randomness in the transform that could not be seeded."""
        for kind, what in before.unreachable:
            self._once.warn(
                f"unreachable {kind}",
                f"{kind} contains {what}, which can't be seeded, so the seed does not determine its views. Draw from a "
                "numpy.random.Generator that is an attribute, or from numpy.random, random or torch",
            )
        known = set(map(id, before.generators))
        late = [generator for generator in after.generators if id(generator) not in known]
        if late:
            name = getattr(self.transform, "__qualname__", type(self.transform).__qualname__)
            self._once.warn(
                "late generator",
                f"{name} created a {type(late[0]).__name__} when it was first called, so the seed does not determine "
                "the first views of each process. Create it in __init__",
            )

    def _look_at(self, view: Any, given: Any, image: Any) -> None:
        """Warn if the first `_MANY` views are the arrays that were passed in, unchanged."""
        if view is not given or not isinstance(view, np.ndarray) or not np.array_equal(view, image):
            self._passed_through = None
            return
        self._passed_through = (self._passed_through or 0) + 1
        if self._passed_through == _MANY:
            self._passed_through = None
            self._once.warn(
                "passed through",
                f"the transform returned its input arrays unchanged for the first {_MANY} views. torchvision's v2 "
                "transforms do not change arrays: begin with v2.ToImage(), or let the dataset return PIL images or "
                "tensors",
            )

    def _copy(self, image: Any, i: int, names: Callable[[int], str]) -> Any:
        try:
            return copied(image)
        except Exception as error:  # PIL reads the file only when the pixels are needed
            error.add_note(f"raised when the image was read, for {names(i)}")
            raise

    def _kept(self, made: Any, given: Any) -> Any:
        """Return what the caller's code made, or a copy if it may write to that memory again."""
        return copied(made) if made is not given and (self._copies_results or not owns_its_memory(made)) else made

    def _view(self, image: Any, i: int, names: Callable[[int], str], others: dict[Any, Any]) -> Any:
        if others:
            return self._with_others.call(image, others, names(i))
        clip = self.takes_arrays and image.ndim == 4
        try:
            if clip:
                result = self.transform(images=image)
            else:
                result = self.transform(image=image) if self.keyword else self.transform(image)
        except Exception as error:
            error.add_note(f"raised by the transform, for {names(i)}")
            if not self.keyword:
                error.add_note("it gets only the image; if it needs the whole sample, move it into the dataset")
            raise
        view = result.get("images" if clip else "image") if isinstance(result, dict) else result
        if clip and isinstance(view, list):
            view = np.stack(view)
        if view is None:
            raise TypeError(f"the transform returned nothing for {names(i)}")
        return view


def _row(others: Mapping[Any, Sequence[Any]] | None, i: int) -> dict[Any, Any]:
    """What belongs to image `i`."""
    return {key: values[i] for key, values in (others or {}).items()}


class ReusesMemory(Exception):  # not an error: the caller makes the views again
    """Raised if a transform reused the memory of a result, so that a view was lost."""


_MANY = 16  # views; a transform that changes half of all images almost never returns this many unchanged


def _albumentations_nodes(transform: Any) -> list[Any]:
    """Return an Albumentations transform and all transforms that it is composed of."""
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
    """Let Albumentations' transforms draw from `rng`, and restore their own generators afterwards.

    Version 2.0.8 does not take workers into account: by default, all of them make the same augmentations.
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
