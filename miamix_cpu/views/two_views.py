"""TwoViews: a wrapper that gives pairs of augmented views, for datasets that augment in `__getitem__`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from types import MethodType
from typing import Any

import numpy as np

from miamix_cpu.checks import check_choice, short
from miamix_cpu.epochs import IndexedSample
from miamix_cpu.once import Once, as_integers, share, shared_integers
from miamix_cpu.plan.streams import VIEWS, batch_key, fingerprint_of, index_bytes, stream
from miamix_cpu.samples.companions import name_of
from miamix_cpu.samples.images import LAYOUTS, TRANSFORMED, as_array, is_planar, is_tensor
from miamix_cpu.views.companions import as_given
from miamix_cpu.views.compiled import as_tensor
from miamix_cpu.views.copies import copied
from miamix_cpu.views.transform import Transform
from miamix_cpu.workers.passes import EpochCounter, current_fetcher, length_of


class TwoViews:
    """Wrap a map-style dataset so that each image becomes a pair of augmented views, `((first, second), label)`.

    It is meant for datasets that augment in `__getitem__`: remove the transform from the dataset and pass it to
    TwoViews. The views of item i are determined by (seed, epoch, i), so they are the same for any number of workers. An
    epoch is one pass over the DataLoader, unless it is set by `set_epoch`. An item that is drawn several times in an
    epoch has the same views each time. If the dataset is `Indexed` and the loader uses an `EpochSampler`, the epoch and
    the draw number come with i, and each draw has different views.

    Parameters
    ----------
    dataset : map-style dataset
        Its items are tuples `(image, label, ...)` or dicts.
    transform : callable
        As in `MiAMixCollator`.
    seed : int
    key : str
        Key of the image if items are dicts.
    layout : "auto", "channels_last" or "channels_first"
        Layout of the dataset's images, for Albumentations.
    also : keys, or positions in tuples, optional
        Further entries that go through the same geometry as the image, as in `MiAMixCollator`: maps, depth, further
        images, and guides. They become pairs too, which the collator takes (`also`, `map_key`). A mapping, such as the
        collator's own `also`, gives its keys.
    compiled_views : "auto", True or False
        As in `MiAMixCollator`.

    Examples
    --------
    >>> dataset = TwoViews([(np.zeros((2, 2, 3), np.uint8), 7)], transform=lambda image: image)
    >>> (first, second), label = dataset[0]
    >>> label
    7
    """

    def __init__(
        self,
        dataset: Any,
        transform: Callable[..., Any],
        *,
        seed: int = 0,
        key: str = "image",
        layout: str = "auto",
        also: Collection[str | int] = (),
        compiled_views: Any = "auto",
    ) -> None:
        check_choice("layout", layout, LAYOUTS)
        self.also = _check_also(also, key)
        self.layout = layout
        self.dataset = dataset
        self.seed = int(seed)
        self.key = key
        self._once = Once()
        self._transform = Transform(
            transform, self._once, copies_results=True, image_key=key, compiled_views=compiled_views
        )
        self._counter = EpochCounter()
        self._given = shared_integers(1)  # number of items returned in the current epoch
        inner = _augmenting(dataset)
        if inner is not None:
            self._once.warn(
                "a dataset's own transform",
                f"{type(inner).__name__} still has a transform of its own, which runs before TwoViews. Its random "
                "numbers are drawn once for both views, and not from the seed. Remove it from the dataset and pass it "
                "to TwoViews",
            )

    draws_views = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        share(self._given)

    def __deepcopy__(self, memo: Any) -> TwoViews:
        """Share the epoch with the copy: a copied loader must follow `set_epoch` calls on the original."""
        copied = copy.copy(self)
        copied.dataset, copied._transform = copy.deepcopy((self.dataset, self._transform), memo)
        return copied

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the views. Call it before `iter(loader)`; it also reaches live workers."""
        self._counter.set(epoch)
        self._given[0] = 0

    def __getitem__(self, index: Any) -> Any:
        sample = self.dataset[index]
        if isinstance(sample, IndexedSample):
            return sample._replace(sample=self._with_views(sample.sample, sample.epoch, sample.index, sample.draw))
        return self._with_views(sample, self._epoch(), index, 0)

    @property
    def views(self) -> str:
        """How views are made, as in `MiAMixCollator`."""
        return self._transform.compiled.describe()

    def _made(
        self, image: Any, planar: bool, rng: np.random.Generator, others: dict[str | int, Any], index: Any
    ) -> list[dict[str | int, Any]]:
        """Return both views of an image, each with the entries that belong to it; the image's key is 0."""

        def name(i: int) -> str:
            return f"the {('first', 'second')[i]} view of item {index}"

        pairs = {key: [value, value] for key, value in others.items()}
        if self._transform.takes_arrays:
            seen = np.moveaxis(image, -3, -1) if planar and image.ndim == 3 else image
            at_once = self._transform.compiled.make([seen, seen], None, (0, 1), rng, name, pairs)
            if at_once is not None:
                views = list(at_once.views)
                if self._transform.compiled.ends_in_tensors:
                    views = [as_tensor(view) for view in views]
                return [{0: view, **{key: at_once.others[key][i] for key in pairs}} for i, view in enumerate(views)]
        made = self._transform.make([image, image], planar, (0, 1), rng, name, others=pairs)
        return [{0: view[0], **view[1]} if others else {0: view} for view in made]

    def _epoch(self) -> int:
        """Return the epoch: the one that was set, plus later passes over the loader."""
        epoch, is_new = self._counter.epoch_of(current_fetcher())
        given = as_integers(self._given)
        if is_new and epoch != self._counter.current:
            self._counter.current, given[0] = epoch, 0
        given[0] += 1
        length = length_of(self.dataset)
        if 0 <= 2 * length < given[0]:
            self._once.warn(
                "views repeat",
                f"TwoViews has returned {given[0]} items in epoch {epoch} from a dataset of {length}, and the views of "
                "an item do not change within an epoch. If a new epoch has begun, call set_epoch(epoch) before "
                "iter(loader). If the sampler draws items repeatedly, use TwoViews(Indexed(dataset), ...) with an "
                "EpochSampler around the sampler",
            )
        return epoch

    def _with_views(self, sample: Any, epoch: int, index: Any, draw: int) -> Any:
        is_dict = isinstance(sample, dict)
        if is_dict and self.key not in sample:
            raise ValueError(f"item {index} has no {self.key!r}, it has {', '.join(map(repr, sample))}; see `key`")
        if not is_dict and not (isinstance(sample, (tuple, list)) and len(sample) >= 2):
            raise TypeError(f"item {index} must be (image, label, ...) or a dict, got {short(sample)}")
        for entry in self.also:
            _check_entry(sample, entry, index)
        name = f"the image of item {index}"
        image, planar = sample[self.key] if is_dict else sample[0], False
        others = {entry: sample[entry] for entry in self.also}
        if isinstance(image, (tuple, list)):
            raise TypeError(f"{name} must be one image, because TwoViews makes both views, got {short(image)}")
        if self._transform.takes_arrays:
            array = as_array(image, name, TRANSFORMED)
            image, planar = array, is_planar(image, array.shape, self.layout, name)
            others = {
                key: as_given(value, f"{name_of(key)} of item {index}", self.layout) for key, value in others.items()
            }
        parts = [index_bytes(index, 0), *([b"draw %d" % draw] if draw else [])]
        rng = stream(batch_key(self.seed, epoch, fingerprint_of(parts)), VIEWS)
        made = self._made(image, planar, rng, others, index)
        own: dict[str | int, Any] = {0: image, **others}
        pairs = {key: tuple(_owned(view[key], own[key]) for view in made) for key in own}
        pair = pairs.pop(0)
        if is_dict:
            return {**sample, self.key: pair, **pairs}
        rest = (pair, *(pairs.get(i, value) for i, value in enumerate(sample[1:], start=1)))
        return type(sample)._make(rest) if hasattr(sample, "_make") else rest


def _check_also(also: Any, key: str) -> tuple[str | int, ...]:
    if isinstance(also, str) or not isinstance(also, Collection):
        raise TypeError(f"also must be a tuple of keys, or of positions in tuples, got {short(also)}")
    for entry in also:
        if isinstance(entry, bool) or not isinstance(entry, (str, int)):
            raise TypeError(f"also must have keys, or positions in tuples, got {short(entry)}")
        if entry in (key, 0):
            raise ValueError(f"also must name other entries than the image, whose views are always made, got {entry!r}")
        if isinstance(entry, int) and entry < 0:
            raise ValueError(f"also must have positions of at least 1, counted from the image, got {entry}")
    return tuple(also)


def _check_entry(sample: Any, entry: str | int, index: Any) -> None:
    """Raise ValueError unless the sample has this entry."""
    if isinstance(sample, dict):
        if entry not in sample:
            raise ValueError(f"item {index} has no {entry!r}, it has {', '.join(map(repr, sample))}; see `also`")
    elif not (isinstance(entry, int) and entry < len(sample)):
        raise ValueError(
            f"also must have positions in item {index}, of {len(sample)} entries, after the image, got {entry!r}"
        )


def _owned(view: Any, image: Any) -> Any:
    """Return the view, or a copy if it shares memory with the image: Albumentations may return the image itself."""
    if isinstance(image, np.ndarray):
        values = view.numpy(force=True) if is_tensor(view) else view
        if isinstance(values, np.ndarray) and np.may_share_memory(values, image):
            return copied(view)
    return view


def _augmenting(dataset: Any) -> Any:
    """Return the dataset, or one that it contains, that has its own transform; None if there is none."""
    for _ in range(8):
        if _is_transform(getattr(dataset, "transform", None)) or _is_transform(getattr(dataset, "transforms", None)):
            return dataset
        inner = getattr(dataset, "dataset", None)
        if inner is None:
            parts = getattr(dataset, "datasets", None)
            found = map(_augmenting, parts) if isinstance(parts, (list, tuple)) else ()
            return next((part for part in found if part is not None), None)
        dataset = inner
    return None


def _is_transform(value: Any) -> bool:
    """Whether the value of a dataset's attribute `transform` or `transforms` changes its images.

    A method does not, nor does what remains in a torchvision dataset after its `transform` is removed.
    """
    return not (
        value is None or isinstance(value, MethodType) or hasattr(value, "target_transform") or value in ([], ())
    )
