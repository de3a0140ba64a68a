"""Resampling: by area averaging, for guides and for resized partners, and by interpolation, for small guides."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from miamix_cpu.jit.flags import allocating, exact


def rounded(value: Any, like: Any) -> Any:
    """`value` as what `like` is: a float32 as it stands, integers rounded."""
    return like.dtype.type(value if like.dtype.kind == "f" else math.floor(value + 0.5))


@overload(rounded)
def _rounded(value, like):  # type: ignore[no-untyped-def]  # Numba compares signatures
    if like.dtype == types.uint8:
        return lambda value, like: np.uint8(np.int32(value + np.float32(0.5)))
    if like.dtype == types.float32:
        return lambda value, like: np.float32(value)
    kind = like.dtype
    return lambda value, like: kind(np.int64(math.floor(value + np.float32(0.5))))


@allocating
def average_area(out: np.ndarray, values: np.ndarray) -> None:
    """Resize a map: each pixel is the mean of the area that it covers.

    Parameters
    ----------
    out : float32 (h, w), C-contiguous; overwritten
    values : float32 (H, W), C-contiguous
    """
    height, width = out.shape
    rows, columns = values.shape
    line, spans, edges = np.empty(columns, np.float32), np.empty((2, width), np.int64), np.empty((3, width), np.float32)
    zero, one = np.int64(0), np.int64(1)  # literals would have it compiled twice
    average_into(out.ravel(), zero, width, height, width, values.ravel(), zero, rows, columns, one, line, spans, edges)


@exact
def average_into(
    out: np.ndarray,
    to: int,
    stride: int,
    height: int,
    width: int,
    values: np.ndarray,
    start: int,
    rows: int,
    columns: int,
    step: int,
    line: np.ndarray,
    spans: np.ndarray,
    edges: np.ndarray,
) -> None:
    """Resize a plane, or interleaved channels, to `height` x `width` pixels somewhere in `out`.

    Parameters
    ----------
    out : uint8 or float32, flat; changed
    to : int, where the first of the resized pixels goes
    stride : int, pixels from one row of `out` to the next
    height, width : int, pixels
    values : uint8 or float32, flat
    start : int, where the first of the pixels to be resized is
    rows, columns : int, how many of them
    step : int, channels that are interleaved, in both
    line : float32 (at least columns * step,); overwritten
    spans, edges : int64 (2, at least width), float32 (3, at least width); overwritten
    """
    size = columns * step
    for x in range(width):
        begin, end = x * columns / width, (x + 1) * columns / width
        first, last = math.floor(begin), min(columns, math.ceil(end)) - 1
        spans[0, x], spans[1, x] = first, last
        # The shares of the first and of the last pixel; one pixel alone has the second share 0.
        edges[0, x] = (min(first + 1.0, end) - begin) / (end - begin)
        edges[1, x] = (end - last) / (end - begin) if last > first else 0.0
        edges[2, x] = 1 / (end - begin)
    for y in range(height):
        begin, end = y * rows / height, (y + 1) * rows / height
        for q in range(size):
            line[q] = np.float32(0.0)
        for source in range(math.floor(begin), min(rows, math.ceil(end))):
            weight = np.float32((min(source + 1.0, end) - max(np.float64(source), begin)) / (end - begin))
            row = values[start + source * size : start + (source + 1) * size]
            for q in range(size):
                line[q] += weight * np.float32(row[q])
        target = out[to + y * stride * step : to + (y * stride + width) * step]
        for x in range(width):
            first, last = spans[0, x], spans[1, x]
            head, tail, inner = edges[0, x], edges[1, x], edges[2, x]
            if step == 3:  # three sums side by side
                f, e = line[3 * first : 3 * first + 3], line[3 * last : 3 * last + 3]
                a = b = c = np.float32(0.0)
                for p in range(first + 1, last):
                    a, b, c = a + line[3 * p], b + line[3 * p + 1], c + line[3 * p + 2]
                target[3 * x] = rounded(head * f[0] + tail * e[0] + inner * a, out)
                target[3 * x + 1] = rounded(head * f[1] + tail * e[1] + inner * b, out)
                target[3 * x + 2] = rounded(head * f[2] + tail * e[2] + inner * c, out)
                continue
            for channel in range(step):
                total = np.float32(0.0)
                for p in range(first + 1, last):
                    total += line[step * p + channel]
                outer = head * line[step * first + channel] + tail * line[step * last + channel]
                target[step * x + channel] = rounded(outer + inner * total, out)


@exact
def take_nearest(
    out: np.ndarray,
    to: int,
    stride: int,
    height: int,
    width: int,
    values: np.ndarray,
    start: int,
    rows: int,
    columns: int,
    step: int,
) -> None:
    """Resize as `average_into` does, but take the pixel in whose area the centre of the new one lies.

    Parameters
    ----------
    out, values : flat, of one dtype; `out` is changed
    to, stride, height, width, start, rows, columns, step : as in `average_into`
    """
    for y in range(height):
        source = start + (2 * y + 1) * rows // (2 * height) * columns * step
        for x in range(width):
            at, place = source + (2 * x + 1) * columns // (2 * width) * step, to + (y * stride + x) * step
            for channel in range(step):
                out[place + channel] = values[at + channel]


@exact
def interpolate(out: np.ndarray, values: np.ndarray) -> None:
    """Enlarge a map: each pixel is interpolated between the nearest four, whose centres those at the border repeat.

    Parameters
    ----------
    out : float32 (H, W), C-contiguous; overwritten
    values : float32 (h, w), C-contiguous
    """
    rows, columns = values.shape
    for y in range(out.shape[0]):
        v = min(max((y + 0.5) * rows / out.shape[0] - 0.5, 0.0), rows - 1.0)
        top = min(math.floor(v), max(0, rows - 2))
        bottom, dy = min(top + 1, rows - 1), np.float32(v - top)
        row, above, below = out[y], values[top], values[bottom]
        for x in range(row.size):
            u = min(max((x + 0.5) * columns / row.size - 0.5, 0.0), columns - 1.0)
            left = min(math.floor(u), max(0, columns - 2))
            right, dx = min(left + 1, columns - 1), np.float32(u - left)
            upper = above[left] + dx * (above[right] - above[left])
            lower = below[left] + dx * (below[right] - below[left])
            row[x] = upper + dy * (lower - upper)
