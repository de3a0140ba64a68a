"""Mask augmentation: rotation, shear and smoothing of masks (MiAMix, section 3.2.3).

Rotation and shear act on the generators' coordinates, so nothing is resampled or padded and the mixing ratio
survives; each generator that takes them applies them itself. Smoothing is a running mean over the finished hole.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miamix_cpu.compile import exact, kernel

#: Its square fits 16 bits, signed.
LARGEST_WINDOW = 181

_BLOCK = 4096  # values in a block of padded rows


@exact
def draw_augmentation(layer: Any, uniform: np.ndarray, options: Any, height: int, width: int) -> None:
    """Derive `augmented`, `angle`, `shear` and `window` from five uniforms.

    Parameters
    ----------
    layer : a record of `plan.LAYER`; changed
    uniform : float64 (5,), in [0, 1)
    options : a record of `masks.OPTIONS`
    height, width : int, pixels
    """
    if uniform[0] < options["p_aug"]:
        layer["augmented"] = True
        layer["angle"] = math.radians(options["angle_max"]) * (2 * uniform[2] - 1)
        layer["shear"] = options["shear_max"] * (2 * uniform[3] - 1)
    if uniform[1] < options["p_smooth"]:
        # Odd windows 3, 5, .., at most smooth_max of the shorter side, but 3 at least.
        largest = min(LARGEST_WINDOW, math.floor(options["smooth_max"] * min(height, width)))
        choices = max(1, (largest - 1) // 2)
        layer["window"] = 3 + 2 * math.floor(uniform[4] * choices)


@kernel
def smooth(hole: np.ndarray, window: int) -> None:
    """Replace a binary `hole` by its mean over a square window, borders mirrored (edge pixel repeated).

    Sums of whole numbers, scaled once, so the mean is kept exactly: every pixel is counted window^2 times. Down the
    columns sums slide, a row at a time. Along the rows, where sliding would be one value after the other, they double:
    O(H * W * log window), but 32 values an instruction.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous, of 0 and 1; overwritten with values in [0, 1]
    window : int, odd, pixels, at most LARGEST_WINDOW; may be larger than the image
    """
    rows, columns = hole.shape
    radius = window // 2
    stride = columns + 2 * radius
    sums = np.empty((rows, stride), np.int16)
    first = sums[0, radius : radius + columns]
    first[:] = 0
    for y in range(-radius, radius + 1):
        add_row(first, hole[mirror(y, rows)])
    for y in range(1, rows):
        before, now = sums[y - 1, radius : radius + columns], sums[y, radius : radius + columns]
        slide_row(now, before, hole[mirror(y + radius, rows)], hole[mirror(y - radius - 1, rows)])
    for y in range(rows):
        mirror_ends(sums[y], radius)
    # A block of rows at a time, small enough to stay in the first cache; what a sum takes from the next row lands in
    # the padding. The reciprocal is rounded up and capped, so that a full window is exactly 1.
    share = np.nextafter(np.float32(1.0) / np.float32(window * window), np.float32(2.0))
    most = max(1, min(rows, _BLOCK // stride))
    totals, spare = np.empty(most * stride, np.int16), np.empty(most * stride, np.int16)
    flat = sums.reshape(sums.size)
    for top in range(0, rows, most):
        count = min(most, rows - top)
        used = count * stride
        sum_windows(totals[:used], flat[top * stride : top * stride + used], spare[:used], window)
        for y in range(count):
            row, total = hole[top + y], totals[y * stride : y * stride + columns]
            for x in range(columns):
                row[x] = min(np.float32(1.0), np.float32(total[x]) * share)


@kernel
def add_row(sums: np.ndarray, entering: np.ndarray) -> None:
    """sums += entering.

    Parameters
    ----------
    sums : int16 (W,); changed
    entering : float32 (W,), of 0 and 1
    """
    for x in range(sums.size):
        sums[x] += np.int32(entering[x])


@kernel
def slide_row(sums: np.ndarray, before: np.ndarray, entering: np.ndarray, leaving: np.ndarray) -> None:
    """sums = before + entering - leaving.

    Parameters
    ----------
    sums, before : int16 (W,), the former overwritten
    entering, leaving : float32 (W,), of 0 and 1
    """
    for x in range(sums.size):
        sums[x] = before[x] + np.int32(entering[x] - leaving[x])


@kernel
def mirror_ends(padded: np.ndarray, radius: int) -> None:
    """Fill `radius` values at both ends with the mirror image of what lies between.

    Parameters
    ----------
    padded : int16 (W + 2 * radius,); changed
    radius : int
    """
    n = padded.size - 2 * radius
    for i in range(radius):
        padded[radius - 1 - i] = padded[radius + mirror(i, n)]
        padded[radius + n + i] = padded[radius + mirror(n - 1 - i, n)]


@kernel
def sum_windows(totals: np.ndarray, values: np.ndarray, spare: np.ndarray, window: int) -> None:
    """totals[x] = values[x] + .. + values[x + window - 1], by sums of 1, 2, 4, .. values; the last few are partial.

    Parameters
    ----------
    totals : int16 (n,); overwritten
    values, spare : int16 (n,); changed
    window : int, at least 1, at most n
    """
    n = values.size
    totals[:] = 0
    offset, power = 0, 1
    while True:
        if window & power:
            out, part = totals[: n - offset], values[offset:]
            for x in range(out.size):
                out[x] += part[x]
            offset += power
        if offset == window:
            return
        # Into the other buffer: where input and output overlap LLVM falls back to one value at a time.
        here, ahead, doubled = values[:n], values[power:], spare[:n]
        for x in range(ahead.size):
            doubled[x] = here[x] + ahead[x]
        for x in range(ahead.size, n):
            doubled[x] = here[x]
        values, spare = spare, values
        power *= 2


@kernel
def mirror(index: int, n: int) -> int:
    """`index` folded into [0, n) by mirroring at both ends, the end itself repeated (period 2n)."""
    if 0 <= index < n:
        return index
    index = index % (2 * n)
    return index if index < n else 2 * n - 1 - index
