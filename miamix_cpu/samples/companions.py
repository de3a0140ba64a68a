"""What is mixed along with a sample's image: maps of classes, depth, further images (`also`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from miamix_cpu.checks import check_integer, short
from miamix_cpu.samples.addresses import Gathered
from miamix_cpu.samples.images import HASHED, TRANSFORMED, Images, are_alike, as_array, is_pil, is_planar

_WAYS = '"blend", "choose" or ("soft", number of classes)'
_BLENDED = (np.uint8, np.int16, np.uint16, np.float32)


@dataclass(frozen=True)
class Way:
    """How an entry of the samples is mixed.

    Attributes
    ----------
    name : "blend", "choose" or "soft"
        "blend" mixes values by the mask, as the image's are. "choose" takes each pixel whole from the view whose weight
        is larger, from the first where both are alike. "soft" makes one weight for each class.
    classes : int
        The number of classes of "soft", otherwise 0.
    """

    name: str
    classes: int = 0


def check_also(also: Any, keys: tuple[str, str], map_key: Any) -> dict[Any, Way]:
    """Return the ways in which entries are mixed, by key.

    Parameters
    ----------
    also : mapping from keys or positions to "blend", "choose" or ("soft", number of classes), or None
    keys : (str, str), of image and label
    map_key : str, int or None

    Raises
    ------
    TypeError, ValueError
        The message names the entry.
    """
    if also is None:
        return {}
    if not isinstance(also, Mapping):
        raise TypeError(f"also must be a mapping from keys to {_WAYS}, got {short(also)}")
    for key in also:
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise TypeError(f"also must have keys of samples that are dicts, or positions in tuples, got {short(key)}")
        if key in (keys[0], 0):
            raise ValueError(f"also must name other entries than the image, which is always mixed, got {key!r}")
        if key == map_key:
            raise ValueError(f"{key!r} is either a guide (map_key) or mixed (also), got both")
        if isinstance(key, int) and key < 0:
            raise ValueError(f"also must have positions of at least 1, counted from the image, got {key}")
    return {key: _way(key, way) for key, way in also.items()}


def _way(key: Any, way: Any) -> Way:
    if isinstance(way, (tuple, list)) and len(way) == 2 and isinstance(way[0], str) and way[0] == "soft":
        return Way("soft", check_integer(f"the number of classes of also[{key!r}]", way[1], low=1))
    if isinstance(way, str) and way == "soft":
        raise ValueError(f'also[{key!r}] must say how many classes there are: ("soft", 21)')
    if not isinstance(way, str) or way not in ("blend", "choose"):
        raise ValueError(f"also[{key!r}] must be {_WAYS}, got {short(way)}")
    return Way(way)


def read_companions(values: list[Any], way: Way, layout: str, names: Callable[[int], str]) -> Images:
    """Return one entry of all samples as arrays of one shape and dtype.

    Parameters
    ----------
    values : arrays (h, w) or (h, w, C), CPU tensors (h, w) or (C, h, w), or PIL images; with an axis of frames in front
        where images are clips
    way : Way
    layout : one of `images.LAYOUTS`
    names : int -> str
        Name of value i in messages.

    Raises
    ------
    TypeError, ValueError
        The message names the first value that is invalid, or that differs from value 0.
    """
    if are_alike(values):  # so that one needs to be checked, and the classes of all at once
        first = _read(values[0], way, names(0))
        planar_first = first.ndim > 2 and is_planar(values[0], first.shape, layout, names(0))
        if way.name == "soft":
            block = np.stack(values)
            if block.min() >= 0 and block.max() < way.classes:
                return Images(list(block.astype(first.dtype, copy=False).reshape(-1, *first.shape)), False, True)
        elif first.dtype == values[0].dtype:
            return Images(values, planar_first, True)
    arrays = [_read(value, way, names(i)) for i, value in enumerate(values)]
    shapes = [array.shape for array in arrays]
    planar = [
        len(shape) > 2 and is_planar(value, shape, layout, names(i))
        for i, (value, shape) in enumerate(zip(values, shapes, strict=True))
    ]
    for i, array in enumerate(arrays):
        kind, expected = (array.shape, array.dtype, planar[i]), (arrays[0].shape, arrays[0].dtype, planar[0])
        if kind != expected:
            raise ValueError(
                f"{names(i)} is {kind[0]} {kind[1]}, {names(0)} is {expected[0]} {expected[1]}: all must have the same "
                "shape, dtype and layout"
            )
    return Images(arrays, planar[0], True)


def name_of(key: Any) -> str:
    """The name of an entry in messages: its key, or its position."""
    return f"entry {key}" if isinstance(key, int) else repr(key)


def check_size(values: Images, height: int, width: int, what: str) -> None:
    """Raise ValueError if entries are larger than the images, which have `height` x `width` pixels."""
    rows, columns = values.size
    if rows > height or columns > width:
        raise ValueError(
            f"{what} is {rows} x {columns}, larger than the images, {height} x {width}: resize it to their size, or to "
            "a fraction of it"
        )


def check_seconds(first: Images, second: Images, what: str, other: str) -> None:
    """Raise ValueError unless second views, whose name is `other`, are like the first, whose name is `what`."""
    kinds = [(part.arrays[0].shape, part.arrays[0].dtype, part.planar) for part in (first, second)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{other} is {kinds[1][1]} {kinds[1][0]}, {what} is {kinds[0][1]} {kinds[0][0]}: both must have the same "
            "shape, dtype and layout"
        )


def read_given(
    ways: Mapping[str, Way], count: int, size: tuple[int, int], has_seconds: bool, also: Any, second_also: Any
) -> Iterator[tuple[str, Way, Images, Gathered]]:
    """Read what the caller of `MiAMix` gives along with `count` images.

    Parameters
    ----------
    ways : by name
    count : int
    size : (int, int), height and width of the images
    has_seconds : bool
        Whether there are second views, to which `second_also` belongs.
    also, second_also : mappings from names to columns

    Yields
    ------
    name, way, first, second

    Raises
    ------
    TypeError, ValueError
        The message names the entry and the sample.
    """
    for what, given in (("also", also), ("second_also", second_also)):
        wanted = list(ways) if what == "also" or has_seconds else []
        if not isinstance(given, Mapping) or set(given) != set(wanted):
            names = ", ".join(map(repr, wanted)) or "no entries"
            raise ValueError(f"{what} must have {names}, as MiAMix(also=...) says, got {short(given)}")
    for name, way in ways.items():
        if not has_seconds:
            first = _read_column(also[name], way, count, f"{name!r} of sample")
            check_size(first, *size, f"{name!r} of sample 0")
            yield name, way, first, first.gathered
            continue
        views = [f"{name!r} of the {which} view of sample" for which in ("first", "second")]
        first, second = (
            _read_column(given[name], way, count, view) for given, view in zip((also, second_also), views, strict=True)
        )
        check_size(first, *size, f"{views[0]} 0")
        check_seconds(first, second, *(f"{view} 0" for view in views))
        yield name, way, first, second.gathered


def _read_column(values: Any, way: Way, count: int, what: str) -> Images:
    if isinstance(values, (str, Mapping)) or not np.iterable(values) or not hasattr(values, "__getitem__"):
        raise TypeError(f"{what}s must be an array or a list of {count} entries, got {short(values)}")
    listed = list(values)
    if len(listed) != count:
        raise ValueError(f"{what}s must be one for each of {count} images, got {len(listed)}")
    return read_companions(listed, way, "channels_last", lambda i: f"{what} {i}")


def _read(value: Any, way: Way, what: str) -> np.ndarray:
    """Return one value as an array of a dtype that is mixed in this way."""
    purpose = HASHED if is_pil(value) and way.name != "blend" else TRANSFORMED  # a palette's indices are classes
    array = as_array(value, what, purpose)
    if way.name == "blend":
        if array.dtype.kind == "f":
            return array.astype(np.float32, copy=False)
        if array.dtype.newbyteorder("=") not in _BLENDED:
            raise TypeError(
                f"{what} must be uint8, int16, uint16 or floats to be blended, got {array.dtype}: use "
                '.astype(np.float32), or "choose" if it holds classes'
            )
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if way.name == "choose":
        if array.dtype.itemsize > 8:
            raise TypeError(f"{what} must be integers or floats of up to 64 bits, got {array.dtype}")
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind not in "biu":
        raise TypeError(f"{what} must be a map of integer classes, got {array.dtype}")
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[..., 0] if array.shape[2] == 1 else array[0]
    if array.ndim != 2:
        raise ValueError(f"{what} must be a map of classes, (h, w), got {array.shape}")
    outside = (array < 0) | (array >= way.classes)
    if outside.any():
        raise ValueError(
            f"{what} must have classes in [0, {way.classes - 1}], got {array[outside][0]}: make a value that is to be "
            'ignored one more class, or use "choose", which leaves it as it is'
        )
    return array.astype(np.uint8 if array.dtype == bool else array.dtype.newbyteorder("="), copy=False)
