"""What an image may be: arrays, PIL images and CPU tensors, their dtypes and layouts, made into one kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np

from miamix_cpu.gather import Found, Gathered, find, gather

#: The layouts of one image: (H, W, C) and (C, H, W); (H, W) is either.
LAYOUTS = ("auto", "channels_last", "channels_first")
_SHAPE, _DTYPE = attrgetter("shape"), attrgetter("dtype")
_PIL_MODES = ("L", "LA", "RGB", "RGBA", "F")
_RAW_PIL_MODES = (*_PIL_MODES, "1", "I", "I;16")  # of other modes the values are no intensities: "P" holds indices

#: What becomes of an image: it is mixed as it is, made into views as an array, or only hashed.
MIXED, TRANSFORMED, HASHED = "mixed", "transformed", "hashed"


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor; torch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_pil(value: Any) -> bool:
    """Whether `value` is a PIL image; PIL is not imported for it."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def as_array(image: Any, what: str, purpose: str = MIXED) -> np.ndarray:
    """The image as an array that shares its memory where it can.

    Parameters
    ----------
    image : array (H, W, C) or (H, W), PIL image of mode L, LA, RGB, RGBA or F, or CPU tensor (C, H, W)
    what : str
        How messages call it, e.g. "image of sample 3".
    purpose : MIXED, TRANSFORMED or HASHED
        uint8 or float32 is mixed; of any dtype are images that a transform takes as arrays, then also of PIL's modes
        1, I and I;16; of those that are only hashed nothing is asked.

    Returns
    -------
    array with 2 or 3 axes, none of them empty
    """
    if isinstance(image, np.ndarray):
        array = image
    elif is_tensor(image):
        if image.device.type != "cpu":
            raise TypeError(f"{what} must be on the CPU, got a tensor on {image.device}")
        if str(image.layout) != "torch.strided":
            raise TypeError(f"{what} must be dense, got a tensor of layout {image.layout}")
        if purpose == HASHED and not image.dtype.is_complex and image.element_size() == 2:
            image = image.contiguous().view(sys.modules["torch"].int16)  # bfloat16, of which NumPy knows nothing
        try:
            array = image.numpy(force=True)
        except TypeError:
            raise TypeError(f"{what} must be uint8 or float32, got {image.dtype}") from None
    elif is_pil(image):
        modes = _PIL_MODES if purpose == MIXED else _RAW_PIL_MODES
        if image.mode not in modes and purpose != HASHED:
            raise TypeError(
                f"{what} is a PIL image of mode {image.mode!r}, allowed are {', '.join(modes)}: "
                'call .convert("RGB") in the dataset'
            )
        array = np.asarray(image)
    else:
        raise TypeError(f"{what} must be an array, a PIL image or a tensor, got {type(image).__name__}")
    if array.dtype not in (np.uint8, np.float32) and (purpose == MIXED or array.dtype.kind not in "biuf"):
        raise TypeError(f"{what} must be uint8 or float32, got {array.dtype}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"{what} must have 2 or 3 axes, (H, W, C), (C, H, W) or (H, W), none empty, got {array.shape}")
    return array


def is_planar(image: Any, shape: Sequence[int], layout: str, what: str) -> bool:
    """Whether an image is (C, H, W): what `layout` says, or with "auto" a tensor is and anything else is not.

    Raises
    ------
    ValueError
        With "auto", where the axis that would be the channels is not 1 to 4 long and the other end is.
    """
    if len(shape) == 2 or is_pil(image):
        return False
    if layout != "auto":
        return layout == "channels_first"
    planar = is_tensor(image)
    channels, other = (shape[0], shape[2]) if planar else (shape[2], shape[0])
    if not 1 <= channels <= 4 and 1 <= other <= 4:
        kind, seen, right = ("a tensor", "(C, H, W)", "channels_last") if planar else (
            "an array", "(H, W, C)", "channels_first")  # fmt: skip
        raise ValueError(
            f"{what} is {kind} of shape {tuple(shape)}, read as {seen} it has {channels} channels; "
            f"say layout={right!r} if that is what it is"
        )
    return planar


@dataclass
class Images:
    """A batch's images as arrays."""

    arrays: list[np.ndarray]
    planar: bool  # (C, H, W) rather than (H, W, C) or (H, W)
    alike: bool  # all of one shape and dtype
    found: Found | None = None

    @cached_property
    def gathered(self) -> Gathered:
        """Where kernels find them; they must be alike."""
        return gather(self.arrays, self.found)


def read_images(images: list[Any], layout: str, names: Callable[[int], str], purpose: str = MIXED) -> Images:
    """All images of a batch, or of its views, as arrays.

    Parameters
    ----------
    images : list of what `as_array` takes
    layout : one of LAYOUTS
    names : int -> str
        How messages call image i.
    purpose : MIXED, TRANSFORMED or HASHED
        Those that are mixed as they are must be of one shape and dtype.

    Raises
    ------
    TypeError, ValueError
        Naming the first image that is no image, or differs from image 0 where it must not.
    """
    found = find(images)
    if found is not None:
        first = as_array(images[0], names(0), purpose)
        return Images(images, is_planar(first, first.shape, layout, names(0)), True, found)
    arrays = [as_array(image, names(i), purpose) for i, image in enumerate(images)]
    planar = [is_planar(images[i], array.shape, layout, names(i)) for i, array in enumerate(arrays)]
    for i, array in enumerate(arrays):
        if planar[i] != planar[0] and array.ndim == arrays[0].ndim == 3:
            raise ValueError(f"{names(i)} is {_layout(planar[i])}, {names(0)} is {_layout(planar[0])}")
        if purpose == MIXED and array.shape != arrays[0].shape:
            raise ValueError(f"{names(i)} has shape {array.shape}, {names(0)} has {arrays[0].shape}")
        if purpose == MIXED and array.dtype != arrays[0].dtype:
            raise ValueError(f"{names(i)} is {array.dtype}, {names(0)} is {arrays[0].dtype}")
    return Images(arrays, planar[0], _all_equal(map(_SHAPE, arrays)) and _all_equal(map(_DTYPE, arrays)))


def _all_equal(values: Iterable[Any]) -> bool:
    """Whether all are alike; counting compares by identity first and hashes nothing."""
    listed = list(values)
    return listed.count(listed[0]) == len(listed)


def _layout(planar: bool) -> str:
    return "(C, H, W)" if planar else "(H, W, C)"
