"""Small grey copies of views, on which guides are computed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from miamix_cpu.jit.flags import entry, exact
from miamix_cpu.jit.intrinsics import array_at
from miamix_cpu.masks.resample import average_into, rounded
from miamix_cpu.options import guide_size

_LIKE = {np.dtype(dtype): np.empty(0, dtype) for dtype in (np.uint8, np.float32)}


def grey_copies(addresses: np.ndarray, dtype: Any, height: int, width: int, channels: int, planar: bool) -> np.ndarray:
    """Return small grey copies of views, at most 64 pixels a side: uint8 (n, h, w).

    Three or four channels are read as RGB, one or two as grey with alpha, more are averaged. Bytes keep their values;
    floats, which may be normalised, are stretched to 0 to 255 view by view.

    Parameters
    ----------
    addresses : uint64 (n,), of C-contiguous views
    dtype : uint8 or float32
    height, width, channels : int
    planar : bool, (C, H, W) rather than (H, W, C)
    """
    copies = np.empty((len(addresses), *guide_size(height, width)), np.uint8)
    copy_grey(copies, addresses, height, width, channels, planar, _LIKE[np.dtype(dtype)])
    return copies


def luma(red: Any, green: Any, blue: Any) -> Any:
    """Grey of a pixel (ITU-R BT.601): bytes rounded as OpenCV does, floats as they stand."""
    if isinstance(red, np.uint8):
        return np.uint8((9798 * int(red) + 19235 * int(green) + 3735 * int(blue) + 16384) >> 15)
    return np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue


@overload(luma)
def _luma(red, green, blue):  # type: ignore[no-untyped-def]  # Numba compares signatures
    if red == types.uint8:
        return lambda red, green, blue: np.uint8(
            (np.int32(9798) * red + np.int32(19235) * green + np.int32(3735) * blue + np.int32(16384)) >> np.int32(15)
        )
    return lambda red, green, blue: np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue


@entry
def copy_grey(
    copies: np.ndarray,
    addresses: np.ndarray,
    rows: int,
    columns: int,
    channels: int,
    planar: bool,
    like: np.ndarray,
) -> None:
    """`grey_copies`, into an array.

    Parameters
    ----------
    copies : uint8 (n, h, w), C-contiguous; overwritten
    addresses, channels, planar : as in `grey_copies`
    rows, columns : int, the views' size
    like : an array of the views' dtype, with any values
    """
    pixels, height, width = rows * columns, copies.shape[1], copies.shape[2]
    grey, small = np.empty(pixels, like.dtype), np.empty(height * width, like.dtype)
    line, spans, edges = np.empty(columns, np.float32), np.empty((2, width), np.int64), np.empty((3, width), np.float32)
    zero, one = np.int64(0), np.int64(1)  # literals would have `average_into` compiled twice
    for i in range(addresses.size):
        to_grey(grey, array_at(addresses[i], pixels * channels, like.dtype), channels, planar)
        if height * width == pixels:
            to_bytes(copies[i].ravel(), grey)
        else:
            average_into(small, zero, width, height, width, grey, zero, rows, columns, one, line, spans, edges)
            to_bytes(copies[i].ravel(), small)


@exact
def to_grey(grey: np.ndarray, view: np.ndarray, channels: int, planar: bool) -> None:
    """Make a view grey (`grey_copies`).

    Parameters
    ----------
    grey : uint8 or float32 (P,); overwritten
    view : uint8 or float32 (P * C,)
    channels : int
    planar : bool
    """
    pixels = grey.size
    step, plane = (1, pixels) if planar else (channels, 1)
    if channels == 3 and not planar:  # written out, so that it vectorises
        for p in range(pixels):
            grey[p] = luma(view[3 * p], view[3 * p + 1], view[3 * p + 2])
    elif channels == 3 or channels == 4:
        red, green, blue = view, view[plane:], view[2 * plane :]
        for p in range(pixels):
            grey[p] = luma(red[p * step], green[p * step], blue[p * step])
    elif channels <= 2:
        for p in range(pixels):
            grey[p] = view[p * step]
    else:
        for p in range(pixels):
            total = np.float32(0.0)
            for c in range(channels):
                total += np.float32(view[p * step + c * plane])
            grey[p] = rounded(total / np.float32(channels), grey)


def to_bytes(out: np.ndarray, values: np.ndarray) -> None:
    """Bytes as they stand; floats stretched so that the smallest becomes 0 and the largest 255, NaN and infinity 0.

    Parameters
    ----------
    out : uint8 (p,); overwritten
    values : uint8 or float32 (p,)
    """
    if values.dtype == np.uint8:
        out[:] = values
        return
    finite = np.where(np.isfinite(values), values, np.float32(0)).astype(np.float64)
    extent = finite.max() - finite.min()
    out[:] = np.floor((finite - finite.min()) * (255 / extent if extent > 0 else 0.0) + 0.5)


@overload(to_bytes)
def _to_bytes(out, values):  # type: ignore[no-untyped-def]
    if values.dtype == types.uint8:

        def copied(out, values):  # type: ignore[no-untyped-def]
            for p in range(out.size):
                out[p] = values[p]

        return copied

    def stretched(out, values):  # type: ignore[no-untyped-def]
        low, high = math.inf, -math.inf
        for p in range(out.size):
            value = np.float64(values[p]) if math.isfinite(values[p]) else 0.0
            low, high = min(low, value), max(high, value)
        scale = 255 / (high - low) if high > low else 0.0
        for p in range(out.size):
            value = np.float64(values[p]) if math.isfinite(values[p]) else 0.0
            out[p] = np.uint8(math.floor((value - low) * scale + 0.5))

    return stretched
