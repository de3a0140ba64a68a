"""Mask augmentation: rotation, shear and smoothing of masks (MiAMix, section 3.2.3).

Rotation and shear act on the generators' coordinates, so nothing is resampled or padded and the mixing ratio
survives; each generator that takes them applies them itself. Smoothing is a running mean over the finished hole.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miamix_cpu.compile import kernel


@kernel
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
        choices = max(1, (math.floor(options["smooth_max"] * min(height, width)) - 1) // 2)
        layer["window"] = 3 + 2 * math.floor(uniform[4] * choices)


@kernel
def smooth(hole: np.ndarray, window: int) -> None:
    """Replace a binary `hole` by its mean over a square window, borders mirrored (edge pixel repeated).

    Two running sums of integers, scaled once: the cost is that of H * W whatever the window, and the mean is kept
    exactly, since every pixel is counted window^2 times.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous, of 0 and 1; overwritten with values in [0, 1]
    window : int, odd, pixels; may be larger than the image
    """
    rows, columns = hole.shape
    radius = window // 2
    # Down the columns first, whole rows at a time; only the sums along a row are one after the other.
    sums = np.zeros((rows, columns), np.int32)
    for y in range(-radius, radius + 1):
        add_row(sums[0], hole[mirror(y, rows)])
    for y in range(1, rows):
        slide_row(sums[y], sums[y - 1], hole[mirror(y + radius, rows)], hole[mirror(y - radius - 1, rows)])
    totals = np.empty(columns, np.int32)
    # A division costs as much as all the rest. The reciprocal rounded up and capped keeps a full window exactly 1.
    share = np.nextafter(np.float32(1.0) / np.float32(window * window), np.float32(2.0))
    for y in range(rows):
        run_along(totals, sums[y], radius)
        row = hole[y]
        for x in range(columns):
            row[x] = min(np.float32(1.0), np.float32(totals[x]) * share)


@kernel
def add_row(sums: np.ndarray, row: np.ndarray) -> None:
    """sums += row.

    Parameters
    ----------
    sums : int32 (W,); changed
    row : float32 (W,), of 0 and 1
    """
    for x in range(sums.size):
        sums[x] += np.int32(row[x])


@kernel
def slide_row(sums: np.ndarray, before: np.ndarray, entering: np.ndarray, leaving: np.ndarray) -> None:
    """sums = before + entering - leaving.

    Parameters
    ----------
    sums : int32 (W,); overwritten
    before : int32 (W,)
    entering, leaving : float32 (W,), of 0 and 1
    """
    for x in range(sums.size):
        sums[x] = before[x] + np.int32(entering[x] - leaving[x])


@kernel
def run_along(totals: np.ndarray, values: np.ndarray, radius: int) -> None:
    """Sums of `values` over x - radius .. x + radius, borders mirrored.

    Parameters
    ----------
    totals : int32 (W,); overwritten
    values : int32 (W,)
    radius : int
    """
    n = values.size
    total = np.int64(0)
    for x in range(-radius, radius + 1):
        total += values[mirror(x, n)]
    totals[0] = total
    inner = max(1, n - radius)  # from here on the window reaches the border
    for x in range(1, min(radius + 1, n)):
        total += values[mirror(x + radius, n)] - values[mirror(x - radius - 1, n)]
        totals[x] = total
    if inner > radius + 1:  # by slices: an index that might be negative costs a test each
        entering, leaving, out = values[2 * radius + 1 :], values[:n], totals[radius + 1 : inner]
        for x in range(out.size):
            total += entering[x] - leaving[x]
            out[x] = total
    for x in range(max(radius + 1, inner), n):
        total += values[mirror(x + radius, n)] - values[mirror(x - radius - 1, n)]
        totals[x] = total


@kernel
def mirror(index: int, n: int) -> int:
    """`index` folded into [0, n) by mirroring at both ends, the end itself repeated (period 2n)."""
    if 0 <= index < n:
        return index
    index = index % (2 * n)
    return index if index < n else 2 * n - 1 - index
