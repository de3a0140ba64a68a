"""Read images of several types, dtypes and layouts (arrays, PIL images and CPU tensors) as arrays."""

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

#: Layouts of an image: "channels_last" is (H, W, C), "channels_first" is (C, H, W); (H, W) fits both. A clip has one
#: more axis in front, its frames.
LAYOUTS = ("auto", "channels_last", "channels_first")
_SHAPE, _DTYPE = attrgetter("shape"), attrgetter("dtype")
_PIL_MODES = ("L", "LA", "RGB", "RGBA", "F")
_RAW_PIL_MODES = (*_PIL_MODES, "1", "I", "I;16")  # the values of other modes are not intensities: "P" holds indices

#: Purpose of an image: to be mixed as it is, to be transformed as an array, or only to be hashed.
MIXED, TRANSFORMED, HASHED = "mixed", "transformed", "hashed"


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_pil(value: Any) -> bool:
    """Whether `value` is a PIL image; does not import PIL."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def as_array(image: Any, what: str, purpose: str = MIXED) -> np.ndarray:
    """Return the image as an array that shares its memory if possible.

    Parameters
    ----------
    image : array (H, W, C) or (H, W), PIL image of mode L, LA, RGB, RGBA or F, or CPU tensor (C, H, W); a clip is an
        array (T, H, W, C) or a tensor (T, C, H, W)
    what : str
        Name of the image in messages, e.g. "image of sample 3".
    purpose : MIXED, TRANSFORMED or HASHED
        MIXED images must be uint8 or floats, and floats are read as float32. TRANSFORMED images can have any numeric
        dtype, and PIL modes 1, I and I;16 as well. HASHED images can have any numeric dtype and any PIL mode.

    Returns
    -------
    array with 2 to 4 axes, none of them empty
    """
    if isinstance(image, np.ndarray):
        array = image
    elif is_tensor(image):
        if image.device.type != "cpu":
            raise TypeError(f"{what} must be on the CPU, got a tensor on {image.device}")
        if str(image.layout) != "torch.strided":
            raise TypeError(f"{what} must be dense, got a tensor of layout {image.layout}")
        if purpose == HASHED and not image.dtype.is_complex and image.element_size() == 2:
            image = image.contiguous().view(sys.modules["torch"].int16)  # perhaps bfloat16, which NumPy lacks
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
            if image.mode.startswith("I"):  # convert("RGB") would clip to 255
                remedy = "use np.asarray(image).astype(np.float32) / 65535"
            raise TypeError(
                f"{what} is a PIL image of mode {image.mode!r}, allowed modes are {', '.join(modes)}: {remedy}"
            )
        try:
            array = np.asarray(image)
        except Exception as error:  # PIL reads the file only when the pixels are needed
            error.add_note(f"raised when {what} was read")
            raise
    else:
        raise TypeError(f"{what} must be an array, a PIL image or a tensor, got {short(image)}")
    if purpose == MIXED:
        array = mixable(array, what)
    elif array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must contain numbers, got {array.dtype}")
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise ValueError(
            f"{what} must have 2 or 3 axes, (H, W, C), (C, H, W) or (H, W), or 4 if it is a clip, (T, H, W, C) or "
            f"(T, C, H, W), none empty, got {array.shape}"
        )
    return array


def as_map(value: Any, what: str) -> np.ndarray:
    """Return a guide, a map of how important each place of an image is, as a new array, float32 (h, w), C-contiguous.

    Parameters
    ----------
    value : array, CPU tensor or PIL image, (h, w), (h, w, 1) or (1, h, w)
    what : str, its name in messages

    Raises
    ------
    TypeError, ValueError
        Unless it holds finite numbers of at least 0.
    """
    array = as_array(value, what, TRANSFORMED)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[..., 0] if array.shape[2] == 1 else array[0]
    if array.ndim != 2:
        raise ValueError(f"{what} must have the shape (h, w), got {array.shape}")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, order="C")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite, got {array[~np.isfinite(array)][0]}")
    if array.min() < 0:
        raise ValueError(f"{what} must be at least 0, got {array.min():g}")
    absolute: np.ndarray = np.abs(array)  # no -0
    return absolute


#: How to convert images that are neither uint8 nor floats.
_REMEDIES = {
    "bool": "use image.astype(np.uint8) * 255",
    "uint16": "use image.astype(np.float32) / 65535",
}


def mixable(array: np.ndarray, what: str) -> np.ndarray:
    """Return an array as uint8 or float32 in native byte order; other floats are converted to float32.

    Raises
    ------
    TypeError
        For other dtypes. The message says how to convert the image.
    """
    if array.dtype in (np.uint8, np.float32) and array.dtype.isnative:
        return array
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    remedy = _REMEDIES.get(array.dtype.newbyteorder("=").name, "")
    if not remedy and array.dtype.kind in "iu":
        remedy = "use image.astype(np.uint8) if its values are 0 to 255, otherwise image.astype(np.float32) / largest"
    raise TypeError(f"{what} must be uint8 or float32, got {array.dtype}" + (f": {remedy}" if remedy else ""))


def check_batch(values: Any, what: str) -> np.ndarray:
    """Return `values` as a uint8 or float32 array (N, H, W, C) or (N, H, W)."""
    try:
        images: np.ndarray = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{what} must be one array (N, H, W, C) or (N, H, W): {error}") from error
    images = mixable(images, what)
    if images.ndim not in (3, 4, 5) or 0 in images.shape:
        raise ValueError(
            f"{what} must have the shape (N, H, W, C) or (N, H, W), or (N, T, H, W, C) for clips, with no empty axis, "
            f"got {images.shape}"
        )
    if images.ndim == 3:
        check_picture(images.shape[1:], f"each image in {what}")
    if images.ndim > 3 and images.shape[-1] > 4 and not is_row(*images.shape[-3:]):
        rows, columns, channels = images.shape[-3:]
        if rows <= 4 or (rows < channels and columns == channels):
            clip = "T, " if images.ndim == 5 else ""
            raise ValueError(
                f"{what} must be (N, {clip}H, W, C), got {images.shape}, which looks like (N, {clip}C, H, W): "
                f"use np.moveaxis({what}, -3, -1)"
            )
    return images


def warn_of_range(images: Sequence[np.ndarray] | np.ndarray, once: Once) -> None:
    """Warn once if floats look like bytes that were not divided by 255."""
    if images[0].dtype == np.uint8:
        return
    low, high = (float(function([function(image) for image in images[:_LOOKED_AT]])) for function in (np.min, np.max))
    if low >= 0 and _NO_BYTES < high <= 255:
        once.warn(
            "float images",
            f"float images have values from {low:g} to {high:g}. Floats are used unchanged and never divided by "
            "255: divide them by 255, or pass uint8 images. If the network expects such values, ignore this warning",
        )


_LOOKED_AT = 2  # images of a batch that are checked
_NO_BYTES = 128.0  # normalised values stay far below this, and hardly any photograph is so dark


def check_picture(shape: Sequence[int], what: str) -> None:
    """Raise ValueError if an image (H, W) is so thin that it is likely a signal: less than 4 pixels by more than 32.

    Its masks would be cut along the channels of the signal too, and its first channel would be taken for a row.
    """
    if min(shape) < 4 and max(shape) > 32:
        raise ValueError(
            f"{what} has the shape {tuple(shape)}, which looks like a signal rather than a picture. Give a signal as "
            "one row, (1, T, C) as an array or (C, 1, T) as a tensor: masks then run along time. A spectrogram, with "
            "at least 4 rows and columns, is a picture. If this is one too, give it an axis of channels, (H, W, 1)"
        )


def is_row(rows: int, columns: int, channels: int) -> bool:
    """Whether an array (H, W, C) of more than 4 channels is likely one row of a signal, not a picture (C, H, W)."""
    return rows == 1 and columns > 32 and columns >= 8 * channels


def is_planar(image: Any, shape: Sequence[int], layout: str, what: str) -> bool:
    """Whether an image is (C, H, W): as `layout` says, or with "auto", if it is a tensor.

    Raises
    ------
    ValueError
        With "auto", if there would be more than four channels and fewer rows (for a tensor: columns) than channels,
        unless an array is one long row, or if a tensor of four axes looks like (C, T, H, W). If an array or a tensor
        (H, W) looks like a signal (`check_picture`).
    """
    if is_pil(image):
        return False
    if len(shape) == 2:
        check_picture(shape, what)
        return False
    if layout != "auto":
        return layout == "channels_first"
    planar = is_tensor(image)
    if planar and len(shape) == 4 and shape[0] <= 4 < shape[1]:
        raise ValueError(
            f"{what} is a tensor of shape {tuple(shape)}; read as a clip (T, C, H, W), it has {shape[1]} channels. If "
            "it is (C, T, H, W), or a volume (C, D, H, W), use image.transpose(0, 1), or layout='channels_first' if it "
            "really has that many channels"
        )
    channels, other = (shape[-3], shape[-1]) if planar else (shape[-1], shape[-3])
    if channels > 4 and other < channels and (planar or not is_row(*shape[-3:])):
        kind, seen, other_way = ("a tensor", "(C, H, W)", "(H, W, C)") if planar else (
            "an array", "(H, W, C)", "(C, H, W)")  # fmt: skip
        if len(shape) == 4:
            seen, other_way = f"(T, {seen[1:]}", f"(T, {other_way[1:]}"
        as_read, right = ("channels_first", "channels_last") if planar else ("channels_last", "channels_first")
        raise ValueError(
            f"{what} is {kind} of shape {tuple(shape)}; read as {seen}, it has {channels} channels. Set "
            f"layout={right!r} if it is {other_way}, or layout={as_read!r} if it really has that many channels"
        )
    return planar


def size_of(shape: Sequence[int], planar: bool) -> tuple[int, int]:
    """Return the height and width of an image or a clip of this shape."""
    height, width = shape[-2:] if planar or len(shape) == 2 else shape[-3:-1]
    return height, width


@dataclass
class Images:
    """A batch's images, or clips, as arrays."""

    arrays: list[np.ndarray] | np.ndarray  # or one array (N, ...)
    planar: bool  # (C, H, W) rather than (H, W, C) or (H, W)
    alike: bool  # all of one shape and dtype

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first, in pixels."""
        return size_of(self.arrays[0].shape, self.planar)

    @property
    def channels(self) -> int:
        """The number of channels of the first."""
        shape = self.arrays[0].shape
        return 1 if len(shape) == 2 else shape[-3 if self.planar else -1]

    def mixed_shape(self, planar: bool) -> tuple[int, ...]:
        """The shape of all of them mixed: (N, C, H, W) or, unless `planar`, (N, H, W, C); a clip's T before H."""
        inner = (*self.arrays[0].shape[:-3], *self.size)
        return (len(self.arrays), self.channels, *inner) if planar else (len(self.arrays), *inner, self.channels)

    @cached_property
    def gathered(self) -> Gathered:
        """The images with their addresses for kernels; they must be alike."""
        return gather(self.arrays)


def read_images(images: list[Any], layout: str, names: Callable[[int], str], purpose: str = MIXED) -> Images:
    """Return all images of a batch, or all of its views, as arrays.

    Parameters
    ----------
    images : list of what `as_array` takes
    layout : one of LAYOUTS
    names : int -> str
        Name of image i in messages.
    purpose : MIXED, TRANSFORMED or HASHED
        MIXED images must have the same shape and dtype.

    Raises
    ------
    TypeError, ValueError
        The message names the first image that is invalid, or that differs from image 0 where this is not allowed.
    """
    first = as_array(images[0], names(0), purpose) if isinstance(images[0], np.ndarray) else None
    if first is images[0] and are_alike(images):
        return Images(images, is_planar(first, first.shape, layout, names(0)), True)
    arrays = [as_array(image, names(i), purpose) for i, image in enumerate(images)]
    planar = [is_planar(images[i], array.shape, layout, names(i)) for i, array in enumerate(arrays)]
    for i, array in enumerate(arrays):
        if planar[i] != planar[0] and array.ndim == arrays[0].ndim > 2:
            raise ValueError(f"{names(i)} is {_layout(planar[i])}, {names(0)} is {_layout(planar[0])}")
        if purpose == MIXED and array.shape != arrays[0].shape:
            raise ValueError(
                f"{names(i)} has shape {array.shape}, {names(0)} has {arrays[0].shape}{_remedy(images, i)}"
            )
        if purpose == MIXED and array.dtype != arrays[0].dtype:
            raise ValueError(f"{names(i)} is {array.dtype}, {names(0)} is {arrays[0].dtype}")
    return Images(arrays, planar[0], _all_equal(map(_SHAPE, arrays)) and _all_equal(map(_DTYPE, arrays)))


def are_alike(images: Sequence[Any]) -> bool:
    """Whether all are arrays of one shape and dtype, so that they need no individual checks."""
    return (
        set(map(type, images)) == {np.ndarray} and _all_equal(map(_SHAPE, images)) and _all_equal(map(_DTYPE, images))
    )


def _remedy(images: list[Any], i: int) -> str:
    """The remedy in the error message if images differ in shape."""
    modes = [image.mode for image in (images[0], images[i]) if is_pil(image)]
    if len(set(modes)) == 2:
        return f': the PIL modes are {modes[1]!r} and {modes[0]!r}, so call .convert("RGB") in the dataset'
    return ": all images of a batch must have the same shape, so resize or crop them in the dataset or with transform="


def _all_equal(values: Iterable[Any]) -> bool:
    """Whether all values are equal; `list.count` compares by identity first and does not hash."""
    listed = list(values)
    return listed.count(listed[0]) == len(listed)


def _layout(planar: bool) -> str:
    return "(C, H, W)" if planar else "(H, W, C)"
