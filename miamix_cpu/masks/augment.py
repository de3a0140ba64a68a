"""Mask augmentation: rotation, shear and smoothing of masks (MiAMix, section 3.2.3).

Rotation and shear act on the generators' coordinates, so nothing is resampled or padded and the mixing ratio
survives; each generator that takes them applies them itself. Smoothing is a running mean over the finished hole.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miamix_cpu.jit.arrays import empty, fill, run
from miamix_cpu.jit.compile import exact, inlined, kernel
from miamix_cpu.jit.scalars import larger, smaller
from miamix_cpu.masks.running import LANES, ROWS, add_up

#: Its square fits 16 bits, signed.
LARGEST_WINDOW = 181


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
        largest = smaller(LARGEST_WINDOW, math.floor(options["smooth_max"] * smaller(height, width)))
        choices = larger(1, (largest - 1) // 2)
        layer["window"] = 3 + 2 * math.floor(uniform[4] * choices)


@inlined
def make_room(height: int, width: int) -> Any:
    """Room for `smooth`, made once a batch: sums down the columns, and running sums of some rows.

    Parameters
    ----------
    height, width : int, pixels

    Returns
    -------
    two arrays, int16
        (H in whole ROWS, W in whole LANES), and (ROWS, W and the largest window). What is not used is undefined.
    """
    for_sums, for_running = room_shapes(height, width)
    return empty(for_sums, np.int16), empty(for_running, np.int16)


@inlined
def room_shapes(height: int, width: int) -> Any:
    """Of the arrays of `make_room`."""
    return (-(-height // ROWS) * ROWS, -(-width // LANES) * LANES), (ROWS, width + LARGEST_WINDOW)


@kernel
def smooth(hole: np.ndarray, window: int, room: Any) -> None:
    """Replace a binary `hole` by its mean over a square window, borders mirrored (edge pixel repeated).

    Sums of whole numbers, scaled once, so the mean is kept exactly: every pixel is counted window^2 times. Down the
    columns sums slide, a row at a time; along a row they are differences of its running sum. O(H * W), whatever the
    window.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous, of 0 and 1; overwritten with values in [0, 1]
    window : int, odd, pixels, at most LARGEST_WINDOW; may be larger than the image
    room : make_room(H, W); changed
    """
    rows, columns = hole.shape
    radius = window // 2
    sums, running = room
    first = run(sums[0], 0, columns)
    fill(first, np.int16(0))
    for y in range(-radius, radius + 1):
        add_row(first, hole[mirror(y, rows)])
    for y in range(1, rows):
        slide_row(sums[y], sums[y - 1], hole[mirror(y + radius, rows)], hole[mirror(y - radius - 1, rows)])
    # The reciprocal is rounded up and capped, so that a full window is exactly 1.
    share = np.nextafter(np.float32(1.0) / np.float32(window * window), np.float32(2.0))
    for top in range(0, rows, ROWS):
        add_up(running, radius + 1, sums, top)
        for y in range(top, smaller(rows, top + ROWS)):
            sums_so_far = running[y - top]
            mirror_ends(sums_so_far, radius, columns)
            mean_row(hole[y], run(sums_so_far, 0, columns), run(sums_so_far, window, window + columns), share)


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
    sums, before : int16 (at least W,), the former overwritten
    entering, leaving : float32 (W,), of 0 and 1
    """
    for x in range(entering.size):
        sums[x] = before[x] + np.int32(entering[x] - leaving[x])


@kernel
def mirror_ends(running: np.ndarray, radius: int, n: int) -> None:
    """Go on with a running sum beyond both ends of its row, where that is mirrored.

    `running[radius + i]` is the sum of the row's first i values. A mirrored row is even about its ends, so its running
    sum is odd about 0, and about n but for its value there.

    Parameters
    ----------
    running : int16 (at least n + 2 * radius + 1,), known for i from 1 to n; the others overwritten
    radius, n : int
    """
    running[radius] = 0
    whole = running[radius + n]
    for i in range(1, radius + 1):
        running[radius - i] = -running[radius + i]
        running[radius + n + i] = 2 * whole - running[radius + n - i]


@kernel
def mean_row(means: np.ndarray, before: np.ndarray, after: np.ndarray, share: float) -> None:
    """The mean over each window of a row, capped at 1.

    Parameters
    ----------
    means : float32 (W,); overwritten
    before, after : int16 (W,), running sums at both ends of each window
    share : float32, 1 / pixels of a window
    """
    for x in range(means.size):
        means[x] = smaller(np.float32(1.0), np.float32(np.int16(after[x] - before[x])) * share)


@kernel
def mirror(index: int, n: int) -> int:
    """`index` folded into [0, n) by mirroring at both ends, the end itself repeated (period 2n)."""
    if 0 <= index < n:
        return index
    index = index % (2 * n)
    return index if index < n else 2 * n - 1 - index
