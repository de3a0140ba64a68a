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

    Two running sums of integers, divided once: the cost is that of H * W whatever the window, and the mean is kept
    exactly, since every pixel is counted window^2 times.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous, of 0 and 1; overwritten with values in [0, 1]
    window : int, odd, pixels; may be larger than the image
    """
    rows, columns = hole.shape
    radius = window // 2
    sums = np.empty((rows, columns), np.int32)
    for y in range(rows):
        total = np.int32(0)
        for x in range(-radius, radius + 1):
            total += np.int32(hole[y, mirror(x, columns)])
        for x in range(columns):
            sums[y, x] = total
            total += np.int32(hole[y, mirror(x + radius + 1, columns)]) - np.int32(hole[y, mirror(x - radius, columns)])
    total_of_column = np.zeros(columns, np.int32)
    for y in range(-radius, radius + 1):
        total_of_column += sums[mirror(y, rows)]
    area = np.float32(window * window)
    for y in range(rows):
        entering, leaving = sums[mirror(y + radius + 1, rows)], sums[mirror(y - radius, rows)]
        for x in range(columns):
            hole[y, x] = np.float32(total_of_column[x]) / area
            total_of_column[x] += entering[x] - leaving[x]


@kernel
def mirror(index: int, n: int) -> int:
    """`index` folded into [0, n) by mirroring at both ends, the end itself repeated (period 2n)."""
    if 0 <= index < n:
        return index
    index = index % (2 * n)
    return index if index < n else 2 * n - 1 - index
