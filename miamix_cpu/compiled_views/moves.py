"""Moves of whole pixels (crops, borders, flips, quarter turns): they are composed first, and then made in one pass.

For each view and axis there is the list of the source's pixels that are seen along it. A move only changes these lists.
Negative entries are filled: -1 - f with fill f. Where both lists have one, the later fill is on top.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.jit.flags import entry, kernel
from miamix_cpu.jit.intrinsics import array_at

CONSTANT, REPLICATE, REFLECT, WRAP, REFLECT_101 = range(5)  # as OpenCV's borders


@entry
def shift_axes(
    index: np.ndarray,
    sizes: np.ndarray,
    those: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    border: int,
    fill: int,
) -> None:
    """Crop views along both axes, or extend them by a border.

    Parameters
    ----------
    index : int32 (2, N, at least all lengths), the source's rows and columns that are seen; changed
    sizes : int64 (2, N), how many these are; changed
    those : int64 (m,), which views
    starts, lengths : int64 (2, m), the ranges [start, start + length), which may begin before 0 and end after the size
    border : int, one of this module's
    fill : int, negative: what stands for the border if it is CONSTANT
    """
    old = np.empty(index.shape[2], np.int32)
    for axis in range(2):
        for j in range(those.size):
            i = those[j]
            size, start, length, line = sizes[axis, i], starts[axis, j], lengths[axis, j], index[axis, i]
            old[:size] = line[:size]
            low, high = min(max(-start, 0), length), min(max(size - start, 0), length)
            for x in range(low):
                line[x] = border_entry(old, size, start + x, border, fill)
            line[low:high] = old[start + low : start + high]
            for x in range(max(low, high), length):
                line[x] = border_entry(old, size, start + x, border, fill)
            sizes[axis, i] = length


@kernel
def border_entry(line: np.ndarray, size: int, at: int, border: int, fill: int) -> Any:
    """What stands at a place before or after the `size` entries of a line; `border` and `fill` as in `shift_axes`."""
    if border == CONSTANT:
        return fill
    if border == REPLICATE:
        return line[min(max(at, 0), size - 1)]
    if border == WRAP:
        return line[at % size]
    if size == 1:
        return line[0]
    at %= 2 * size if border == REFLECT else 2 * size - 2
    if at >= size:
        at = 2 * size - 1 - at if border == REFLECT else 2 * size - 2 - at
    return line[at]


@entry
def flip_axis(index: np.ndarray, sizes: np.ndarray, axis: int, those: np.ndarray) -> None:
    """Reverse views along an axis, 0 or 1; other arguments as in `shift_axes`."""
    for i in those:
        line, size = index[axis, i], sizes[axis, i]
        for x in range(size // 2):
            line[x], line[size - 1 - x] = line[size - 1 - x], line[x]


@entry
def sample_axes(index: np.ndarray, sizes: np.ndarray, those: np.ndarray, lengths: np.ndarray) -> None:
    """Resize views by taking the nearest pixel, as OpenCV's INTER_NEAREST; arguments as in `shift_axes`."""
    old = np.empty(index.shape[2], np.int32)
    for axis in range(2):
        for j in range(those.size):
            i = those[j]
            size, length, line = sizes[axis, i], lengths[axis, j], index[axis, i]
            old[:size] = line[:size]
            scale = 1.0 / (length / size)
            for x in range(length):
                line[x] = old[min(np.int64(np.floor(x * scale)), size - 1)]
            sizes[axis, i] = length


@entry
def gather_pixels(
    out: np.ndarray,
    sources: np.ndarray,
    strides: np.ndarray,
    index: np.ndarray,
    sizes: np.ndarray,
    turned: np.ndarray,
    fills: np.ndarray,
) -> None:
    """Make views.

    Parameters
    ----------
    out : uint8 or uint32, flat, for one view after the other; overwritten
    sources : uint64 (N,), addresses of images (h, w) whose pixels, of the same values as `out`, lie side by side
    strides : int64 (N,), values from one row of a source to the next
    index, sizes : as in `shift_axes`; of rows and columns of the views
    turned : bool (N,), rows of the view are columns of the source
    fills : (F, values of a pixel), what -1, -2, .. stand for
    """
    start, pixel = 0, fills.shape[1]
    for i in range(sources.size):
        height, width = sizes[0, i], sizes[1, i]
        along, across = (strides[i], pixel) if turned[i] else (pixel, strides[i])
        end = start + height * width * pixel
        source = array_at(sources[i], 1 << 40, out.dtype)
        gather_view(out[start:end], source, index[0, i, :height], index[1, i, :width], along, across, fills)
        start = end


@kernel
def gather_view(
    out: np.ndarray,
    source: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    along: int,
    across: int,
    fills: np.ndarray,
) -> None:
    """Make one view.

    Parameters
    ----------
    out, source : flat, the view's values, and what lies at the source's address
    rows, columns : int32 (h,), (w,), as `index` in `shift_axes`
    along, across : int, values from one column, and from one row, of the source to the next
    fills : as in `gather_pixels`
    """
    pixel, width = fills.shape[1], columns.size
    # Columns [low, high) are one run in a row of the source.
    low, high = 0, 0
    if along == pixel:
        while low < width and columns[low] < 0:
            low += 1
        high = min(low + 1, width)
        while high < width and columns[high] == columns[high - 1] + 1:
            high += 1
    for y in range(rows.size):
        row, to = rows[y], out[y * width * pixel : (y + 1) * width * pixel]
        if row < 0:
            for x in range(width):
                fill = fills[-1 - min(row, columns[x])]
                for b in range(pixel):
                    to[x * pixel + b] = fill[b]
            continue
        line = source[row * across :]
        copy_pixels(to, line, columns[:low], along, fills)
        if high > low:
            copy_values(to[low * pixel : high * pixel], line[columns[low] * pixel :])
        copy_pixels(to[high * pixel :], line, columns[high:], along, fills)


@kernel
def copy_values(out: np.ndarray, source: np.ndarray) -> None:
    """Copy the first values of `source`, as many as `out` has."""
    for b in range(out.size):
        out[b] = source[b]


@kernel
def copy_pixels(out: np.ndarray, source: np.ndarray, columns: np.ndarray, along: int, fills: np.ndarray) -> None:
    """Copy pixels of a row, each from its column.

    Parameters
    ----------
    out, source : flat, the view's values from the first of these pixels on, and the source's row
    columns, along, fills : as in `gather_view`
    """
    pixel = fills.shape[1]
    for x in range(columns.size):
        column = np.int64(columns[x])
        if column < 0:
            for b in range(pixel):
                out[x * pixel + b] = fills[-1 - column, b]
        elif pixel == 3:
            at = np.uint64(column * along)  # unsigned: Numba counts negative indices from the end
            out[3 * x] = source[at]
            out[3 * x + 1] = source[at + np.uint64(1)]
            out[3 * x + 2] = source[at + np.uint64(2)]
        else:
            at = np.uint64(column * along)
            for b in range(pixel):
                out[x * pixel + b] = source[at + np.uint64(b)]
