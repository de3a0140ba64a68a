"""Split a dataset's samples, which are tuples or dicts, into columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miamix_cpu.checks import short
from miamix_cpu.epochs import IndexedSample
from miamix_cpu.samples.companions import name_of


@dataclass(frozen=True)
class Samples:
    """A batch as columns."""

    images: list[Any]  # first views if `seconds` holds second views
    seconds: list[Any] | None
    labels: Any  # a list or an array
    extras: dict[Any, Any]  # lists or arrays, by key, or by position in tuples; those that are mixed as placeholders
    kind: type  # dict, tuple, or a named tuple
    epoch: int | None  # carried by the samples (`Indexed`)
    indices: list[Any] | None  # identify the samples
    moved: dict[Any, list[Any]]  # maps and further images that go through the transform; pairs if the images are pairs


def read_samples(
    samples: Any,
    keys: tuple[str, str],
    index_key: str | int | None = None,
    moved: Collection[str | int] = (),
    dropped: Collection[str | int] = (),
) -> Samples:
    """Split samples into columns.

    Parameters
    ----------
    samples : list of `(image, label, ...)`, of dicts, or of `IndexedSample` of either
        An image that is a tuple or list of two is a pair of views.
    keys : (str, str)
        Keys of image and label in dicts.
    index_key : str or int, optional
        The entry that identifies a sample.
    moved : keys or positions
        The entries that go through the transform with the image; pairs if the image is a pair of views. If the label is
        one of them, there are no labels.
    dropped : keys or positions
        Entries that are left out, if there are any.

    Raises
    ------
    TypeError, ValueError
        The message names the first sample that is invalid or differs from sample 0.
    """
    if not isinstance(samples, (list, tuple)):
        raise TypeError(f"samples must be a list of samples, got {short(samples)}{_whole_batch(samples)}")
    if not samples:
        raise ValueError("samples must hold at least one sample, got an empty batch")
    if _is_batch(samples[0]) or _are_columns(samples):
        raise TypeError(f"samples must be a list of samples, got {short(samples)}{_whole_batch(samples)}")
    epoch, indices = None, None
    if isinstance(samples[0], IndexedSample):
        for i, sample in enumerate(samples):
            if not isinstance(sample, IndexedSample):
                raise TypeError(f"sample {i} must come from an Indexed dataset like sample 0, got {_kind(sample)}")
        epochs = {sample.epoch for sample in samples}
        if len(epochs) > 1:
            raise ValueError(f"samples of a batch must be from one epoch, got {sorted(epochs)}")
        epoch = epochs.pop()
        indices = [(s.index, s.draw) if s.draw else s.index for s in samples]
        samples = [sample.sample for sample in samples]
    kind = dict if isinstance(samples[0], dict) else type(samples[0]) if hasattr(samples[0], "_make") else tuple
    images, labels, extras = _read_dicts(samples, keys) if kind is dict else _read_tuples(samples)
    columns = {keys[1] if kind is dict else 1: labels, **extras}
    if index_key is not None and indices is None:
        _check_key(samples[0], index_key, "index_key", 0)
        indices = [sample[index_key] for sample in samples]
    images, seconds = _split_pairs(images)
    for key in moved:
        is_guide = key in dropped
        _check_key(samples[0], key, "map_key" if is_guide else "also", 2 if is_guide else 1)
        _check_pairs(name_of(key), columns[key], seconds is not None)
    found = {key: columns[key] for key in moved}
    extras = {key: values for key, values in extras.items() if key not in dropped}
    return Samples(images, seconds, labels, extras, kind, epoch, indices, found)


def _split_pairs(images: list[Any]) -> tuple[list[Any], list[Any] | None]:
    """Return first and second views; images and None if they are no pairs."""
    if not isinstance(images[0], (tuple, list)):
        return images, None
    for i, image in enumerate(images):
        if not (isinstance(image, (tuple, list)) and len(image) == 2):
            raise ValueError(f"image of sample {i} must be a pair (first view, second view), got {_kind(image)}")
    return [first for first, _ in images], [second for _, second in images]


def read_columns(
    batch: Mapping[Any, Any],
    keys: tuple[str, str],
    index_key: str | int | None = None,
    moved: Collection[str | int] = (),
    dropped: Collection[str | int] = (),
) -> Samples:
    """Read a batch that is already in columns.

    Parameters
    ----------
    batch : dict of columns, which are arrays or lists of N values
    keys, index_key, moved, dropped : as in `read_samples`

    Raises
    ------
    TypeError, ValueError
        The message names the column that is missing, is not a column, or has another length.
    """
    for key in (*keys, *([] if index_key is None else [index_key]), *moved):
        if key not in batch:
            raise ValueError(
                f"the batch has no {key!r}, it has {', '.join(map(repr, batch))}; see `keys`, `index_key`, `map_key`, "
                "`also`"
            )
    n = _length(batch, keys[0])
    for key in batch:
        if _length(batch, key) != n:
            raise ValueError(f"{key!r} has {len(batch[key])} values, {keys[0]!r} has {n}")
    images, labels = _as_column(batch[keys[0]]), _as_column(batch[keys[1]])
    if n == 0:
        raise ValueError("the batch must hold at least one sample, got empty columns")
    indices = None if index_key is None else list(_as_column(batch[index_key]))
    extras = {key: batch[key] for key in batch if key not in keys and key not in dropped}
    found = {key: list(_as_column(batch[key])) for key in moved}
    return Samples(list(images), None, labels, extras, dict, None, indices, found)


def _length(batch: Mapping[Any, Any], key: Any) -> int:
    try:
        return len(batch[key])
    except TypeError:
        raise TypeError(f"{key!r} must be a column of values, got {short(batch[key])}") from None


def _as_column(values: Any) -> Any:
    """Return `values` as a list or an array."""
    return values if isinstance(values, list) else np.asarray(values)


def _read_tuples(samples: Sequence[Any]) -> tuple[list[Any], list[Any], dict[Any, list[Any]]]:
    if not (
        set(map(type, samples)) <= {tuple, list, type(samples[0])}
        and isinstance(samples[0], (tuple, list))
        and len(set(map(len, samples))) == 1
        and len(samples[0]) >= 2
    ):
        for i, sample in enumerate(samples):
            if not isinstance(sample, (tuple, list)) or len(sample) < 2:
                raise TypeError(f"sample {i} must be (image, label, ...) or a dict, got {_kind(sample)}")
            if len(sample) != len(samples[0]):
                raise ValueError(f"sample {i} has {len(sample)} entries, sample 0 has {len(samples[0])}")
    images, labels, *others = map(list, zip(*samples, strict=True))
    return images, labels, dict(enumerate(others, start=2))


def _read_dicts(samples: Sequence[Any], keys: tuple[str, str]) -> tuple[list[Any], list[Any], dict[Any, list[Any]]]:
    for i, sample in enumerate(samples):
        if not isinstance(sample, dict):
            raise TypeError(f"sample {i} must be a dict like sample 0, got {_kind(sample)}")
        for key in keys:
            if key not in sample:
                raise ValueError(f"sample {i} has no {key!r}, it has {', '.join(map(repr, sample))}; see `keys`")
        if sample.keys() != samples[0].keys():
            raise ValueError(f"sample {i} has the keys {list(sample)}, sample 0 has {list(samples[0])}")
    images, labels = ([sample[key] for sample in samples] for key in keys)
    return images, labels, {key: [s[key] for s in samples] for key in samples[0] if key not in keys}


def _check_key(sample: Any, key: Any, name: str, low: int) -> None:
    if isinstance(sample, dict):
        if key not in sample:
            raise ValueError(f"samples have no {key!r} ({name}), they have {', '.join(map(repr, sample))}")
    elif isinstance(key, bool) or not (isinstance(key, int) and low <= key < len(sample)):
        after = ("", ", after the image", ", after image and label")[low]
        raise ValueError(f"{name} must be a position in samples of {len(sample)} entries{after}, got {short(key)}")


def _check_pairs(name: str, values: list[Any], are_pairs: bool) -> None:
    for i, value in enumerate(values if are_pairs else ()):
        if not (isinstance(value, (tuple, list)) and len(value) == 2):
            raise ValueError(f"{name} of sample {i} must be a pair, as its image is, got {_kind(value)}")


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__


def _is_batch(value: Any) -> bool:
    """Whether a value holds the images of several samples."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and getattr(value, "ndim", 0) in (4, 5)


def _are_columns(samples: Any) -> bool:
    """Whether `samples` is a batch of greyscale images and an array of their labels."""
    if len(samples) != 2 or not all(hasattr(part, "ndim") and hasattr(part, "shape") for part in samples):
        return False
    return samples[0].ndim == 3 and samples[1].ndim == 1 and len(samples[0]) == len(samples[1])


def _whole_batch(samples: Any) -> str:
    """The hint in the error message if a whole batch was passed."""
    parts = samples.values() if isinstance(samples, Mapping) else samples if isinstance(samples, (tuple, list)) else ()
    if (
        isinstance(samples, Mapping)
        or getattr(samples, "ndim", 0) > 2
        or any(map(_is_batch, parts))
        or _are_columns(parts)
    ):
        return (
            ". This is already a batch (DataLoader(batch_size=None), datasets' .batch()): let the loader make batches "
            "from single samples, or pass columns, {'image': ..., 'label': ...}, to MiAMixBatch"
        )
    return ""
