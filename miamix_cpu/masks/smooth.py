"""Smoothing of masks: a running mean over the finished hole (MiAMix, section 3.2.3).

Sums of whole numbers, scaled once, so the mean is kept exactly: every pixel is counted window^2 times. Down the columns
sums slide, a row at a time; along a row they are differences of its running sum. O(H * W), whatever the window.

A running sum is one addition after the other, which does not vectorise. So two rows share an int32, the lower one in
its upper 16 bits, and are added up at once: the difference of two such sums is exact, and holds that of each row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.config import LARGEST_WINDOW
from miamix_cpu.jit.flags import entry, kernel

#: Rows that are added up side by side: two in each of two int32, since each addition waits for the one before it.
ROWS = 4


@entry
def smooth(layers: np.ndarray, slots: np.ndarray, holes: np.ndarray) -> None:
    """Replace holes by their mean over their layer's window, borders mirrored (edge pixel repeated).

    Parameters
    ----------
    layers : `plan.LAYER` (l,); `window` is odd and at most LARGEST_WINDOW, or 0; it may be larger than the image
    slots : int64 (l,), each layer's place in `holes`, -1 for none
    holes : float32 (S, H, W), C-contiguous; those with a window hold 1 and the layer's `level` (0 but for hmix), and
        are overwritten with values in [0, 1]
    """
    rows, columns = holes.shape[1:]
    # Sums down the columns in whole ROWS, and running sums of some rows. What is not used is undefined.
    sums = np.empty((-(-rows // ROWS) * ROWS, columns), np.int16)
    running = np.empty((ROWS // 2, columns + LARGEST_WINDOW), np.int32)
    for j in range(layers.size):
        if layers[j]["window"] == 0 or slots[j] < 0:
            continue
        hole, level = holes[slots[j]], layers[j]["level"]
        if level > 0:
            drop_level(hole)
        smooth_hole(hole, layers[j]["window"], sums, running)
        if level > 0:
            raise_level(hole, level)


@kernel
def drop_level(hole: np.ndarray) -> None:
    """Set what is below 1 to 0.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; changed
    """
    for y in range(hole.shape[0]):
        row = hole[y]
        for x in range(row.size):
            row[x] = np.float32(row[x] == np.float32(1.0))


@kernel
def raise_level(hole: np.ndarray, level: float) -> None:
    """Scale [0, 1] to [level, 1].

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous, in [0, 1]; changed
    level : float in [0, 1]
    """
    scale = np.float32(1.0 - level)
    for y in range(hole.shape[0]):
        row = hole[y]
        for x in range(row.size):
            row[x] = np.float32(1.0) - scale * (np.float32(1.0) - row[x])


@kernel
def smooth_hole(hole: np.ndarray, window: int, sums: np.ndarray, running: np.ndarray) -> None:
    """`smooth` of one hole.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous, of 0 and 1; overwritten with values in [0, 1]
    window : int, odd, pixels, at most LARGEST_WINDOW
    sums : int16 (H in whole ROWS, W); changed
    running : int32 (ROWS / 2, W + LARGEST_WINDOW); changed
    """
    rows, columns = hole.shape
    radius = window // 2
    first = sums[0]
    for x in range(columns):
        first[x] = 0
    for y in range(-radius, radius + 1):
        entering = hole[mirror(y, rows)]
        for x in range(columns):
            first[x] += np.int32(entering[x])
    for y in range(1, rows):
        slide_row(sums[y], sums[y - 1], hole[mirror(y + radius, rows)], hole[mirror(y - radius - 1, rows)])
    # The reciprocal is rounded up and capped, so that a full window is exactly 1.
    share = np.nextafter(np.float32(1.0) / np.float32(window * window), np.float32(2.0))
    for top in range(0, rows, ROWS):
        add_up(running, radius + 1, sums, top, columns)
        for pair in range(min(ROWS // 2, (rows - top + 1) // 2)):
            upper = top + 2 * pair
            mirror_ends(running[pair], radius, columns)
            mean_rows(hole[upper], hole[min(upper + 1, rows - 1)], running[pair], window, share, upper + 1 < rows)


@kernel
def slide_row(sums: np.ndarray, before: np.ndarray, entering: np.ndarray, leaving: np.ndarray) -> None:
    """sums = before + entering - leaving.

    Parameters
    ----------
    sums, before : int16 (W,), the former overwritten
    entering, leaving : float32 (W,), of 0 and 1
    """
    for x in range(entering.size):
        sums[x] = before[x] + np.int32(entering[x] - leaving[x])


@kernel
def add_up(running: np.ndarray, at: int, sums: np.ndarray, top: int, columns: int) -> None:
    """Running sums of rows `top` to `top + ROWS`, two in an int32.

    running[r, at + x] is the sum over i up to x of sums[top + 2 r, i] + 2^16 sums[top + 2 r + 1, i]; what exceeds 32
    bits wraps.

    Parameters
    ----------
    running : int32 (ROWS / 2, at least at + columns), C-contiguous; changed
    at : int
    sums : int16 (at least top + ROWS, columns), C-contiguous
    top, columns : int
    """
    end = at + columns  # slices show that no index is negative
    first, second = running[0, at:end], running[1, at:end]
    s0, s1, s2, s3 = sums[top], sums[top + 1], sums[top + 2], sums[top + 3]
    for x in range(columns):
        first[x] = np.int32(s0[x]) + (np.int32(s1[x]) << np.int32(16))
        second[x] = np.int32(s2[x]) + (np.int32(s3[x]) << np.int32(16))
    t0, t1 = np.int32(0), np.int32(0)
    for x in range(columns):
        t0, t1 = np.int32(t0 + first[x]), np.int32(t1 + second[x])
        first[x], second[x] = t0, t1


@kernel
def mirror_ends(running: np.ndarray, radius: int, n: int) -> None:
    """Go on with a running sum beyond both ends of its row, where that is mirrored.

    `running[radius + i]` is the sum of the row's first i values. A mirrored row is even about its ends, so its running
    sum is odd about 0, and about n but for its value there.

    Parameters
    ----------
    running : int32 (at least n + 2 * radius + 1,), known for i from 1 to n; the others overwritten
    radius, n : int
    """
    running[radius] = 0
    whole = running[radius + n]
    for i in range(1, radius + 1):
        running[radius - i] = -running[radius + i]
        running[radius + n + i] = 2 * whole - running[radius + n - i]


@kernel
def mean_rows(upper: np.ndarray, lower: np.ndarray, running: np.ndarray, window: int, share: float, both: bool) -> None:
    """The mean over each window of two rows, capped at 1.

    Parameters
    ----------
    upper, lower : float32 (n,), rows of a hole; overwritten, the latter where `both`
    running : int32 (at least n + window,), from `add_up` and `mirror_ends`
    window : int
    share : float32, 1 / pixels of a window
    both : bool, there is a lower row
    """
    n = upper.size
    before, after = running[:n], running[window : window + n]
    for x in range(n):
        mean = np.float32(np.int32(after[x] - before[x]) & np.int32(0x7FFF)) * share
        upper[x] = mean if mean < np.float32(1.0) else np.float32(1.0)
    if both:
        for x in range(n):
            mean = np.float32(np.int32(np.int32(after[x] - before[x]) >> np.int32(16))) * share
            lower[x] = mean if mean < np.float32(1.0) else np.float32(1.0)


@kernel
def mirror(index: int, n: int) -> Any:
    """`index` folded into [0, n) by mirroring at both ends, the end itself repeated (period 2n).

    Parameters
    ----------
    index, n : int
    """
    if 0 <= index < n:
        return index
    index = index % (2 * n)
    return index if index < n else 2 * n - 1 - index
