"""TwoViews: a dataset whose images are pairs of augmented views, for datasets that augment in `__getitem__`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from miamix_cpu.checks import short
from miamix_cpu.epochs import IndexedSample
from miamix_cpu.images import TRANSFORMED, as_array, is_planar, is_tensor
from miamix_cpu.once import Once, as_integers, share, shared_integers
from miamix_cpu.passes import Passes, current_fetcher
from miamix_cpu.randomness import VIEWS, batch_key, index_bytes, stream
from miamix_cpu.views import Transform, copied


class TwoViews:
    """A map-style dataset whose images are pairs of augmented views, `((first, second), label)`.

    For datasets that augment in `__getitem__`: take their transform out and give it to TwoViews. Item i's views are
    drawn from a key made of (seed, epoch, i), so they are the same for any number of workers. An epoch is a pass over
    the DataLoader, unless `set_epoch` says otherwise. An item that is drawn several times in an epoch has the same
    views each time; around an `Indexed` dataset, asked by an `EpochSampler`, the epoch and the number of the draw
    travel with i, and each draw has views of its own.

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
        self._once = Once()
        self._transform = Transform(transform, self._once)
        self._shared = shared_integers(3)
        self._open()
        self._passes = Passes()
        inner = _augmenting(dataset)
        if inner is not None:
            self._once.warn(
                "a dataset's own transform",
                f"{type(inner).__name__} still has a transform of its own, which runs before TwoViews: what is random "
                "in it is drawn once for both views, and not from the seed. Take it out of the dataset and give it "
                "to TwoViews",
            )

    draws_views = True

    def _open(self) -> None:
        """Look at the epoch, whether it was told, and the number of items given in it, as an array."""
        share(self._shared)
        self._state: np.ndarray = as_integers(self._shared)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_state"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Draw other views from now on; call it before `iter(loader)`. Reaches live workers."""
        self._state[1] = 1
        if epoch != self._state[0]:
            self._begin(epoch)

    def _begin(self, epoch: int) -> None:
        self._state[0], self._state[2] = epoch, 0

    def __getitem__(self, index: Any) -> Any:
        sample = self.dataset[index]
        if isinstance(sample, IndexedSample):
            return sample._replace(sample=self._with_views(sample.sample, sample.epoch, sample.index, sample.draw))
        return self._with_views(sample, self._epoch(), index, 0)

    def _epoch(self) -> int:
        """The epoch that was told, or the number of the pass over the loader."""
        fetcher = None if self._state[1] else current_fetcher()
        epoch = int(self._state[0])
        if fetcher is not None:
            epoch, is_new = self._passes.number(fetcher)
            if is_new and epoch > int(self._state[0]):
                self._begin(epoch)
        self._count(epoch)
        return epoch

    def _count(self, epoch: int) -> None:
        """Warn once where the dataset has been gone through more than twice in one epoch."""
        self._state[2] += 1
        if hasattr(self.dataset, "__len__") and self._state[2] > 2 * len(self.dataset):
            self._once.warn(
                "views repeat",
                f"TwoViews has given {int(self._state[2])} items of {len(self.dataset)} in epoch {epoch}, and an "
                "item has the same views whenever it is asked for in an epoch. If a new epoch has begun, call "
                "set_epoch(epoch) before iter(loader); if the sampler draws items repeatedly, use "
                "TwoViews(Indexed(dataset), ...) with an EpochSampler around the sampler",
            )

    def _with_views(self, sample: Any, epoch: int, index: Any, draw: int) -> Any:
        is_dict = isinstance(sample, dict)
        if is_dict and self.key not in sample:
            raise ValueError(f"item {index} has no {self.key!r}, it has {', '.join(map(repr, sample))}; see `key`")
        if not is_dict and not (isinstance(sample, (tuple, list)) and len(sample) >= 2):
            raise TypeError(f"item {index} must be (image, label, ...) or a dict, got {short(sample)}")
        name = f"the image of item {index}"
        image, planar = sample[self.key] if is_dict else sample[0], False
        if isinstance(image, (tuple, list)):
            raise TypeError(f"{name} must be one image, of which TwoViews makes two views, got {short(image)}")
        if self._transform.takes_arrays:
            array = as_array(image, name, TRANSFORMED)
            image, planar = array, is_planar(image, array.shape, "auto", name)
        parts = [index_bytes(index, 0), *([b"draw %d" % draw] if draw else [])]
        rng = stream(batch_key(self.seed, epoch, parts), VIEWS)
        views = self._transform.make(
            [image, image], planar, (0, 1), rng, lambda i: f"the {('first', 'second')[i]} view of item {index}"
        )
        pair = tuple(_owned(view, image) for view in views)
        if is_dict:
            return {**sample, self.key: pair}
        rest = (pair, *sample[1:])
        return type(sample)._make(rest) if hasattr(sample, "_make") else rest


def _owned(view: Any, image: Any) -> Any:
    """A view that has no memory in common with the image; Albumentations may return the image itself."""
    if isinstance(image, np.ndarray):
        values = view.numpy(force=True) if is_tensor(view) else view
        if isinstance(values, np.ndarray) and np.may_share_memory(values, image):
            return copied(view)
    return view


def _augmenting(dataset: Any) -> Any:
    """The dataset, or one that it is made of, which has a transform of its own; None where none has."""
    for _ in range(8):
        if getattr(dataset, "transform", None) is not None or getattr(dataset, "transforms", None) is not None:
            return dataset
        inner = getattr(dataset, "dataset", None)
        if inner is None:
            parts = getattr(dataset, "datasets", None)
            found = map(_augmenting, parts) if isinstance(parts, (list, tuple)) else ()
            return next((part for part in found if part is not None), None)
        dataset = inner
    return None
