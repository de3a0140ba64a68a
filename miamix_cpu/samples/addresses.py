"""From separate images to what a kernel can read: their addresses."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np

_SMALL = 1 << 13  # bytes, up to which an image is copied sooner than it says where it is


class Gathered(NamedTuple):
    """Images of one shape and dtype where kernels can find them."""

    addresses: np.ndarray  # uint64 (N,)
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    arrays: list[np.ndarray]  # that own the memory: the images, or one block of them all


def gather(images: list[np.ndarray] | np.ndarray) -> Gathered:
    """The C-contiguous images, copied where they are not contiguous, or small.

    Parameters
    ----------
    images : arrays of one shape and dtype, or one array (N, ...); any strides; never modified
    """
    if isinstance(images, np.ndarray):
        block = np.ascontiguousarray(images)
        start = block.ctypes.data
        addresses = np.arange(start, start + block.nbytes, block.nbytes // len(block), dtype=np.uint64)
        return Gathered(addresses, block.shape[1:], block.dtype, [block])
    if images[0].nbytes <= _SMALL:
        return gather(np.concatenate(images).reshape(len(images), *images[0].shape))
    try:  # a quarter of the time of `array.ctypes`
        found = list(map(ctypes.addressof, map(ctypes.c_char.from_buffer, images)))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # one is read-only, or not contiguous
        images = [np.ascontiguousarray(image) for image in images]
        found = [image.ctypes.data for image in images]
    return Gathered(np.array(found, dtype=np.uint64), images[0].shape, images[0].dtype, images)
