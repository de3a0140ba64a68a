"""What an image may be: arrays, PIL images and CPU tensors, their dtypes and layouts, made into one kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np

from miamix_cpu.checks import short
from miamix_cpu.once import Once
from miamix_cpu.samples.addresses import Gathered, gather

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
        uint8 or float32 is mixed, and other floats are read as float32; of any dtype are images that a transform takes
        as arrays, then also of PIL's modes 1, I and I;16; of those that are only hashed nothing is asked.

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
        elif str(image.dtype) == "torch.bfloat16":
            image = image.float()
        try:
            array = image.numpy(force=True)
        except TypeError:
            raise TypeError(f"{what} must be uint8 or float32, got {image.dtype}") from None
    elif is_pil(image):
        modes = _PIL_MODES if purpose == MIXED else _RAW_PIL_MODES
        if image.mode not in modes and purpose != HASHED:
            remedy = 'call .convert("RGB") in the dataset'
            if image.mode.startswith("I"):  # which would clip to 255
                remedy = "give np.asarray(image).astype(np.float32) / 65535"
            raise TypeError(f"{what} is a PIL image of mode {image.mode!r}, allowed are {', '.join(modes)}: {remedy}")
        try:
            array = np.asarray(image)
        except Exception as error:  # PIL reads a file when its values are asked for
            error.add_note(f"raised when {what} was read")
            raise
    else:
        raise TypeError(f"{what} must be an array, a PIL image or a tensor, got {short(image)}")
    if purpose == MIXED:
        array = mixable(array, what)
    elif array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must be of numbers, got {array.dtype}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"{what} must have 2 or 3 axes, (H, W, C), (C, H, W) or (H, W), none empty, got {array.shape}")
    return array


#: What to do with images that are neither uint8 nor floats.
_REMEDIES = {
    "bool": "give image.astype(np.uint8) * 255",
    "uint16": "give image.astype(np.float32) / 65535",
}


def mixable(array: np.ndarray, what: str) -> np.ndarray:
    """An array as uint8 or float32, in the machine's byte order; other floats are read as float32.

    Raises
    ------
    TypeError
        For other dtypes, with what to do.
    """
    if array.dtype in (np.uint8, np.float32) and array.dtype.isnative:
        return array
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    remedy = _REMEDIES.get(array.dtype.newbyteorder("=").name, "")
    if not remedy and array.dtype.kind in "iu":
        remedy = (
            "give image.astype(np.uint8) if its values are 0 to 255, else floats, image.astype(np.float32) / largest"
        )
    raise TypeError(f"{what} must be uint8 or float32, got {array.dtype}" + (f": {remedy}" if remedy else ""))


def warn_of_range(images: Sequence[np.ndarray] | np.ndarray, once: Once) -> None:
    """Warn once where floats look like bytes that nobody divided by 255."""
    if images[0].dtype == np.uint8:
        return
    low, high = (float(function([function(image) for image in images[:_LOOKED_AT]])) for function in (np.min, np.max))
    if low >= 0 and _NO_BYTES < high <= 255:
        once.warn(
            "float images",
            f"float images hold values from {low:g} to {high:g}. Floats are taken as they are, never divided by 255: "
            "divide them, or give uint8 images. If the network expects such values, ignore this",
        )


_LOOKED_AT = 2  # images of a batch
_NO_BYTES = 128.0  # normalised values stay far below, and hardly a photograph stays so dark


def is_planar(image: Any, shape: Sequence[int], layout: str, what: str) -> bool:
    """Whether an image is (C, H, W): what `layout` says, or with "auto" a tensor is and anything else is not.

    Raises
    ------
    ValueError
        With "auto", where there would be more than four channels, and fewer rows (a tensor: columns) than that.
    """
    if len(shape) == 2 or is_pil(image):
        return False
    if layout != "auto":
        return layout == "channels_first"
    planar = is_tensor(image)
    channels, other = (shape[0], shape[2]) if planar else (shape[2], shape[0])
    if channels > 4 and other < channels:
        kind, seen, other_way = ("a tensor", "(C, H, W)", "(H, W, C)") if planar else (
            "an array", "(H, W, C)", "(C, H, W)")  # fmt: skip
        as_read, right = ("channels_first", "channels_last") if planar else ("channels_last", "channels_first")
        raise ValueError(
            f"{what} is {kind} of shape {tuple(shape)}; read as {seen} it has {channels} channels. Say "
            f"layout={right!r} if it is {other_way}, or layout={as_read!r} if it really has so many channels"
        )
    return planar


@dataclass
class Images:
    """A batch's images as arrays."""

    arrays: list[np.ndarray]
    planar: bool  # (C, H, W) rather than (H, W, C) or (H, W)
    alike: bool  # all of one shape and dtype

    @cached_property
    def gathered(self) -> Gathered:
        """Where kernels find them; they must be alike."""
        return gather(self.arrays)


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
    first = as_array(images[0], names(0), purpose) if isinstance(images[0], np.ndarray) else None
    if first is images[0] and _are_like_the_first(images):
        return Images(images, is_planar(first, first.shape, layout, names(0)), True)
    arrays = [as_array(image, names(i), purpose) for i, image in enumerate(images)]
    planar = [is_planar(images[i], array.shape, layout, names(i)) for i, array in enumerate(arrays)]
    for i, array in enumerate(arrays):
        if planar[i] != planar[0] and array.ndim == arrays[0].ndim == 3:
            raise ValueError(f"{names(i)} is {_layout(planar[i])}, {names(0)} is {_layout(planar[0])}")
        if purpose == MIXED and array.shape != arrays[0].shape:
            raise ValueError(
                f"{names(i)} has shape {array.shape}, {names(0)} has {arrays[0].shape}{_remedy(images, i)}"
            )
        if purpose == MIXED and array.dtype != arrays[0].dtype:
            raise ValueError(f"{names(i)} is {array.dtype}, {names(0)} is {arrays[0].dtype}")
    return Images(arrays, planar[0], _all_equal(map(_SHAPE, arrays)) and _all_equal(map(_DTYPE, arrays)))


def _are_like_the_first(images: list[Any]) -> bool:
    """Whether all are arrays of one shape and dtype, so that none needs a look of its own."""
    return (
        set(map(type, images)) == {np.ndarray} and _all_equal(map(_SHAPE, images)) and _all_equal(map(_DTYPE, images))
    )


def _remedy(images: list[Any], i: int) -> str:
    """What to do where images differ in shape."""
    modes = [image.mode for image in (images[0], images[i]) if is_pil(image)]
    if len(set(modes)) == 2:
        return f': PIL modes {modes[1]!r} and {modes[0]!r}, call .convert("RGB") in the dataset'
    return ": images of a batch must be alike, so resize or crop them to one size, in the dataset or by transform="


def _all_equal(values: Iterable[Any]) -> bool:
    """Whether all are alike; counting compares by identity first and hashes nothing."""
    listed = list(values)
    return listed.count(listed[0]) == len(listed)


def _layout(planar: bool) -> str:
    return "(C, H, W)" if planar else "(H, W, C)"
