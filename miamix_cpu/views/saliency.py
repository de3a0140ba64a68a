"""Where a view's content is, computed from its pixels: fine-grained and spectral saliency, on small grey copies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from miamix_cpu.jit.flags import entry, exact, exact_entry
from miamix_cpu.jit.intrinsics import array_at
from miamix_cpu.masks.resample import average_into, rounded
from miamix_cpu.options import guide_size

#: Half sides of the windows of fine-grained saliency.
_SCALES = np.array([12, 24, 28, 48, 56, 112])
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
    for i in range(addresses.size):
        to_grey(grey, array_at(addresses[i], pixels * channels, like.dtype), channels, planar)
        if height * width == pixels:
            to_bytes(copies[i].ravel(), grey)
        else:
            average_into(small, 0, width, height, width, grey, 0, rows, columns, 1, line, spans, edges)
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


def fine_grained(grey: np.ndarray) -> np.ndarray:
    """Fine-grained saliency: how much a pixel differs from the means of the windows around it, of six sizes.

    Montabone and Soto, "Human detection using a mobile platform and novel features derived from a visual saliency
    mechanism", 2010; what SaliencyMix uses, with the same values as `cv2.saliency.StaticSaliencyFineGrained`.

    Parameters
    ----------
    grey : uint8 (n, h, w), C-contiguous

    Returns
    -------
    float32 (n, h, w), in [0, 2]
        0 everywhere for a constant image.
    """
    guides = np.empty(grey.shape, np.float32)
    fill_fine_grained(guides, grey, _SCALES)
    return guides


@exact_entry
def fill_fine_grained(guides: np.ndarray, grey: np.ndarray, scales: np.ndarray) -> None:
    """`fine_grained`, into an array.

    Everything is computed in float32, which is exact for whole numbers up to 2^24 and vectorises.

    Parameters
    ----------
    guides : float32 (n, h, w), C-contiguous; overwritten
    grey : uint8 (n, h, w), C-contiguous
    scales : int64 (s,), half sides of windows, in ascending order
    """
    height, width = grey.shape[1:]
    values, on, total = (
        np.empty((height, width), np.float32),
        np.empty((height, width), np.float32),
        np.empty((height, width), np.float32),
    )
    sums = np.empty((height + 1, width + 1), np.float32)
    room, areas = np.empty(3 * width + 3, np.float32), np.empty(width, np.float32)
    longer = max(height, width)
    for i in range(grey.shape[0]):
        for y in range(height):
            for x in range(width):
                values[y, x] = np.float32(grey[i, y, x])
                on[y, x] = total[y, x] = np.float32(0.0)
        blur(values, room)
        blur(values, room)
        integrate(sums, values)
        for j in range(scales.size):
            # All windows that hold the whole image are one, which counts several times.
            if j > 0 and scales[j - 1] >= longer:
                break
            times = scales.size - j if scales[j] >= longer else 1
            add_contrasts(on, total, values, sums, min(scales[j], longer), times, room, areas)
        combine(guides[i], on, total, room)


@exact
def blur(values: np.ndarray, room: np.ndarray) -> None:
    """Gaussian filter of 3 x 3 pixels, rounded to whole numbers; borders are mirrored without repeating the edge.

    Parameters
    ----------
    values : float32 (h, w), whole numbers; changed
    room : float32 (at least 2 * w + 2,); overwritten
    """
    height, width = values.shape
    above, sums = room[:width], room[width : 2 * width + 2]
    for x in range(width):
        above[x] = values[min(1, height - 1), x]
    for y in range(height):
        row, below = values[y], values[y + 1 if y + 1 < height else max(0, height - 2)]
        inner = sums[1 : 1 + width]
        if y + 1 < height:
            for x in range(width):
                inner[x] = above[x] + np.float32(2.0) * row[x] + below[x]
        else:  # the row above, as it was before
            for x in range(width):
                inner[x] = above[x] + np.float32(2.0) * row[x] + (above[x] if height > 1 else row[x])
        sums[0], sums[width + 1] = inner[min(1, width - 1)], inner[max(0, width - 2)]
        left, right = sums[0:width], sums[2 : 2 + width]
        for x in range(width):
            above[x] = row[x]
            row[x] = np.floor((left[x] + np.float32(2.0) * inner[x] + right[x] + np.float32(8.0)) / np.float32(16.0))


@exact
def integrate(sums: np.ndarray, values: np.ndarray) -> None:
    """Integral image: `sums[y, x]` is the sum of the pixels above and to the left.

    Parameters
    ----------
    sums : float32 (h + 1, w + 1); overwritten
    values : float32 (h, w)
    """
    for x in range(sums.shape[1]):
        sums[0, x] = np.float32(0.0)
    for y in range(values.shape[0]):
        total, row, below = np.float32(0.0), values[y], sums[y + 1]
        below[0] = total
        for x in range(row.size):
            total += row[x]
            below[x + 1] = total
        for x in range(below.size):
            below[x] += sums[y, x]


@exact
def add_contrasts(
    on: np.ndarray,
    total: np.ndarray,
    values: np.ndarray,
    sums: np.ndarray,
    half: int,
    times: int,
    room: np.ndarray,
    areas: np.ndarray,
) -> None:
    """Add how much each pixel differs from its window without itself, truncated: all of it, and where it is brighter.

    The window of pixel (y, x) has the rows y - half + 1 to y + half, and columns alike, as far as the image goes.

    Parameters
    ----------
    on, total : float32 (h, w); changed
    values : float32 (h, w)
    sums : float32 (h + 1, w + 1), from `integrate`
    half : int, at most the longer side
    times : int, how often the window counts
    room, areas : float32 (3 * w + 3,), (w,); overwritten
    """
    height, width = values.shape
    reach, often = min(half, width), np.float32(times)
    for x in range(width):
        areas[x] = np.float32(min(width, x + half + 1) - max(0, x - half + 1))
    # Sums of the window's rows up to each column, with both ends repeated: then no window is cut off.
    middle, left = room[reach : reach + width + 1], room[1 : 1 + width]
    right = room[2 * reach + 1 : 2 * reach + 1 + width]
    end = room[reach + width + 1 : 2 * reach + width + 1]
    for p in range(reach):
        room[p] = np.float32(0.0)
    for y in range(height):
        top, bottom = sums[max(0, y - half + 1)], sums[min(height, y + half + 1)]
        for p in range(width + 1):
            middle[p] = bottom[p] - top[p]
        whole = bottom[width] - top[width]
        for p in range(reach):
            end[p] = whole
        rows = np.float32(min(height, y + half + 1) - max(0, y - half + 1))
        row, brighter, both = values[y], on[y], total[y]
        for x in range(width):
            others = rows * areas[x] - np.float32(1.0)
            difference = row[x] - (right[x] - left[x] - row[x]) / others
            difference = often * np.trunc(difference) if others > np.float32(0.0) else np.float32(0.0)
            brighter[x] += difference if difference > np.float32(0.0) else np.float32(0.0)
            both[x] += difference


@exact
def combine(guide: np.ndarray, on: np.ndarray, total: np.ndarray, room: np.ndarray) -> None:
    """Scale the brighter and the darker contrasts to 255 each, truncated, and add them.

    Parameters
    ----------
    guide : float32 (h, w); overwritten
    on, total : float32 (h, w), from `add_contrasts`
    room : float32 (at least 2 * w,); overwritten
    """
    height, width = guide.shape
    most_on, most_off = room[:width], room[width : 2 * width]
    for x in range(width):
        most_on[x] = most_off[x] = np.float32(1.0)
    for y in range(height):
        row, both = on[y], total[y]
        for x in range(width):
            off = row[x] - both[x]
            most_on[x] = row[x] if row[x] > most_on[x] else most_on[x]
            most_off[x] = off if off > most_off[x] else most_off[x]
    a, b = np.float32(1.0), np.float32(1.0)
    for x in range(width):
        a, b = max(a, most_on[x]), max(b, most_off[x])
    for y in range(height):
        row, both, out = on[y], total[y], guide[y]
        for x in range(width):
            brighter = np.floor(np.float32(255.0) * row[x] / a)
            darker = np.floor(np.float32(255.0) * (row[x] - both[x]) / b)
            out[x] = (brighter + darker) / np.float32(255.0)


def spectral(grey: np.ndarray) -> np.ndarray:
    """Spectral residual saliency: what is left of an image's spectrum when its smooth part is taken away.

    Hou and Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007; what Guided Mixup uses.

    Parameters
    ----------
    grey : uint8 (n, h, w)

    Returns
    -------
    float32 (n, h, w), at least 0
        0 everywhere for a constant image.
    """
    spectrum = np.fft.fft2(grey.astype(np.float64) / 255, axes=(1, 2))
    amplitude = np.abs(spectrum)
    logs = np.log(amplitude + _EPSILON)
    residual = np.exp(logs - _box(_box(logs, 1), 2))
    found = np.abs(np.fft.ifft2(spectrum / (amplitude + _EPSILON) * residual, axes=(1, 2)))
    found[grey.max(axis=(1, 2)) == grey.min(axis=(1, 2))] = 0
    return _gaussian(_gaussian(found, 1), 2).astype(np.float32)


_EPSILON = 1e-8
#: Gaussian filter of 7 pixels, sigma 3.
_WEIGHTS = np.exp(-0.5 * (np.arange(-3, 4) / 3) ** 2)
_WEIGHTS /= _WEIGHTS.sum()


def _box(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of three neighbours; a spectrum goes on at the other end."""
    mean: np.ndarray = (np.roll(values, 1, axis) + values + np.roll(values, -1, axis)) / 3
    return mean


def _gaussian(values: np.ndarray, axis: int) -> np.ndarray:
    """Gaussian filter along one axis; the border is repeated."""
    size, filtered = values.shape[axis], np.zeros_like(values)
    for offset, weight in zip(range(-3, 4), _WEIGHTS, strict=True):
        filtered += weight * np.take(values, np.clip(np.arange(size) + offset, 0, size - 1), axis)
    return filtered
