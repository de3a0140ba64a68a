"""Moves of whole pixels (crops, borders, flips, quarter turns): they are composed first, and then made in one pass.

For each view and axis there is the list of the source's pixels that are seen along it. A move only changes these lists.
Negative entries are filled: -1 - f with fill f. Where both lists have one, the later fill is on top.
"""

from __future__ import annotations

import numpy as np

from miamix_cpu.jit.flags import entry, kernel
from miamix_cpu.jit.intrinsics import array_at

CONSTANT, REPLICATE, REFLECT, WRAP, REFLECT_101 = range(5)  # as OpenCV's borders


@entry
def shift_axis(
    index: np.ndarray,
    sizes: np.ndarray,
    axis: int,
    those: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    border: int,
    fill: int,
) -> None:
    """Crop views along an axis, or extend them by a border.

    Parameters
    ----------
    index : int32 (2, N, at least all lengths), the source's rows or columns that are seen; changed
    sizes : int64 (2, N), how many these are; changed
    axis : int
    those : int64 (m,), which views
    starts, lengths : int64 (m,), the range [start, start + length), which may begin before 0 and end after the size
    border : int, one of this module's
    fill : int, negative: what stands for the border if it is CONSTANT
    """
    old = np.empty(index.shape[2], np.int32)
    for j in range(those.size):
        i = those[j]
        size, line = sizes[axis, i], index[axis, i]
        old[:size] = line[:size]
        for x in range(lengths[j]):
            at = starts[j] + x
            if 0 <= at < size:
                line[x] = old[at]
            elif border == CONSTANT:
                line[x] = fill
            elif border == REPLICATE:
                line[x] = old[min(max(at, 0), size - 1)]
            elif border == WRAP:
                line[x] = old[at % size]
            elif size == 1:
                line[x] = old[0]
            else:
                period = 2 * size if border == REFLECT else 2 * size - 2
                at %= period
                line[x] = old[at] if at < size else old[period - at - (border == REFLECT)]
        sizes[axis, i] = lengths[j]


@entry
def flip_axis(index: np.ndarray, sizes: np.ndarray, axis: int, those: np.ndarray) -> None:
    """Reverse views along an axis; arguments as in `shift_axis`."""
    for i in those:
        line, size = index[axis, i], sizes[axis, i]
        for x in range(size // 2):
            line[x], line[size - 1 - x] = line[size - 1 - x], line[x]


@entry
def sample_axis(index: np.ndarray, sizes: np.ndarray, axis: int, those: np.ndarray, lengths: np.ndarray) -> None:
    """Resize views along an axis by taking the nearest pixel, as OpenCV's INTER_NEAREST (see `shift_axis`)."""
    old = np.empty(index.shape[2], np.int32)
    for j in range(those.size):
        i = those[j]
        size, line = sizes[axis, i], index[axis, i]
        old[:size] = line[:size]
        scale = 1.0 / (lengths[j] / size)
        for x in range(lengths[j]):
            line[x] = old[min(np.int64(np.floor(x * scale)), size - 1)]
        sizes[axis, i] = lengths[j]


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
    index, sizes : as in `shift_axis`; of rows and columns of the views
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
    rows, columns : int32 (h,), (w,), as `index` in `shift_axis`
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
