"""The two augmented views: the caller's transform, called once a view on a stream that the batch's key gives."""

from __future__ import annotations

import copy
import inspect
import os
import random
import threading
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import numpy as np

from miamix_cpu.epochs import IndexedSample
from miamix_cpu.images import TRANSFORMED, as_array, is_planar
from miamix_cpu.randomness import VIEWS, batch_key, index_bytes, seeded_globals, stream

# Albumentations asks the network for its newest version when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def is_albumentations(transform: Any) -> bool:
    """Whether `transform` is one of Albumentations' (or AlbumentationsX's); neither is imported for it."""
    return any(base.__module__.partition(".")[0] == "albumentations" for base in type(transform).__mro__)


def holds_foreign_code(transform: Any) -> bool:
    """Whether an Albumentations transform holds a class or function of the caller's, which may draw from anywhere."""
    own = type(transform).__module__.partition(".")[0] == "albumentations" and type(transform).__name__ != "Lambda"
    return not own or any(map(holds_foreign_code, getattr(transform, "transforms", ())))


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
    """A transform that draws from a generator of ours, whatever it draws from by itself.

    Albumentations' transforms get the generator itself, on a copy made once a thread: the caller's object, perhaps
    shared with his validation set, is not touched. Version 2.0.8 knows nothing of workers: left alone, all of them
    make the same augmentations. Any other callable, and a Compose that holds code of the caller's, runs with the
    process's generators seeded and restored. What brings a generator of its own, such as a function that calls a
    Compose, can't be reached: give the Compose itself.

    Parameters
    ----------
    transform : callable
    """

    def __init__(self, transform: Callable[..., Any]) -> None:
        if not callable(transform):
            raise TypeError(f"transform must be callable, got {transform!r}")
        self.transform = transform
        self.keyword = takes_keyword(transform)
        self.takes_arrays = is_albumentations(transform)
        self.draws_globally = not self.takes_arrays or holds_foreign_code(transform)
        if self.takes_arrays and getattr(transform, "seed", None) is not None:
            warnings.warn(
                f"the transform's own seed={transform.seed!r} is not used: "  # type: ignore[attr-defined]
                "views are drawn from the batch's key (MiAMixCollator's seed)",
                stacklevel=4,
            )
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())

    def make(
        self,
        images: list[Any],
        planar: bool,
        indices: Iterable[int],
        rng: np.random.Generator,
        names: Callable[[int], str],
    ) -> list[Any]:
        """One view of each of `images[i]`, i in `indices`, drawn in that order.

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
        transform = self.transform
        if self.takes_arrays:
            if not hasattr(self._local, "transform"):
                self._local.transform = copy.deepcopy(self.transform)
            transform = self._local.transform
            transform.set_random_state(rng, random.Random(int(rng.integers(1 << 63))))
            if planar:
                images = [
                    image if image.ndim == 2 else np.ascontiguousarray(image.transpose(1, 2, 0)) for image in images
                ]
        with seeded_globals(rng) if self.draws_globally else nullcontext():
            return [self._view(transform, images, i, names) for i in indices]

    def _view(self, transform: Callable[..., Any], images: list[Any], i: int, names: Callable[[int], str]) -> Any:
        try:
            view = transform(image=images[i]) if self.keyword else transform(images[i])
        except Exception as error:
            error.add_note(f"raised by the transform, for {names(i)}")
            raise
        if isinstance(view, dict):
            view = view.get("image")
        if view is None:
            raise TypeError(f"the transform returned nothing for {names(i)}")
        return view


class TwoViews:
    """A map-style dataset whose images are pairs of augmented views, `((first, second), label)`.

    For datasets that augment in `__getitem__`. Item i's views are drawn from a key made of (seed, epoch, i), so they
    are the same for any number of workers. Call its `set_epoch` beside the collator's, or its views are the same in all
    epochs; around an `Indexed` dataset, asked by an `EpochSampler`, the epoch is the one that travels with i.

    Parameters
    ----------
    dataset : map-style dataset
        Of tuples `(image, label, ...)`, or of dicts.
    transform : callable
        As in `MiAMixCollator`.
    seed : int
    key : str
        The image's key where samples are dicts.

    Examples
    --------
    >>> dataset = TwoViews([(np.zeros((2, 2, 3), np.uint8), 7)], transform=lambda image: image)
    >>> (first, second), label = dataset[0]
    >>> label
    7
    """

    def __init__(self, dataset: Any, transform: Callable[..., Any], *, seed: int = 0, key: str = "image") -> None:
        self.dataset = dataset
        self.seed = int(seed)
        self.key = key
        self._transform = Transform(transform)
        self._shared = _shared_integers(3)  # the epoch, the items given in it, and whether that was warned of

    draws_views = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if hasattr(self._shared, "share_memory_"):
            self._shared.share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Draw other views from now on; call it before `iter(loader)`. Reaches live workers."""
        if epoch != self._shared[0]:
            self._shared[0], self._shared[1] = epoch, 0

    def __getitem__(self, index: Any) -> Any:
        sample = self.dataset[index]
        if isinstance(sample, IndexedSample):
            return sample._replace(sample=self._with_views(sample.sample, sample.epoch, sample.index))
        self._count()
        return self._with_views(sample, int(self._shared[0]), index)

    def _count(self) -> None:
        """Warn once where the dataset has been gone through more than twice in one epoch."""
        self._shared[1] += 1
        if self._shared[2] == 0 and hasattr(self.dataset, "__len__") and self._shared[1] > 2 * len(self.dataset):
            self._shared[2] = 1
            warnings.warn(
                f"TwoViews has given {int(self._shared[1])} items of {len(self.dataset)} in epoch "
                f"{int(self._shared[0])}, so views repeat: call its set_epoch(epoch) before each epoch's iter(loader)",
                stacklevel=3,
            )

    def _with_views(self, sample: Any, epoch: int, index: Any) -> Any:
        is_dict = isinstance(sample, dict)
        image, planar = sample[self.key] if is_dict else sample[0], False
        if self._transform.takes_arrays:
            array = as_array(image, f"the image of item {index}", TRANSFORMED)
            image, planar = array, is_planar(image, array.shape, "auto", f"the image of item {index}")
        rng = stream(batch_key(self.seed, epoch, [index_bytes(index, 0)]), VIEWS)
        pair = tuple(
            self._transform.make(
                [image, image], planar, (0, 1), rng, lambda i: f"the {('first', 'second')[i]} view of item {index}"
            )
        )
        return {**sample, self.key: pair} if is_dict else (pair, *sample[1:])


def _shared_integers(n: int) -> Any:
    """`n` integers that workers see change: a shared tensor where there is torch, else an array."""
    try:
        import torch
    except ImportError:
        return np.zeros(n, dtype=np.int64)
    return torch.zeros(n, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
