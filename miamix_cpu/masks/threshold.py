"""The largest values of a field, exactly as many as wanted."""

from __future__ import annotations

import numpy as np

from miamix_cpu.compile import kernel

_BINS = 1024


@kernel
def choose_largest(chosen: np.ndarray, values: np.ndarray, count: int) -> None:
    """Set `chosen` to 1 at the `count` largest of `values`, ties by index, and to 0 elsewhere.

    Parameters
    ----------
    chosen : float32 (n,); overwritten
    values : float32 (n,), finite
    count : int in [0, n]
    """
    if count == 0:
        chosen[:] = 0.0
        return
    threshold, ties = find_threshold(values, count)
    for p in range(values.size):
        chosen[p] = np.float32(values[p] > threshold)
    p = 0
    while ties > 0:
        if values[p] == threshold:
            chosen[p] = 1.0
            ties -= 1
        p += 1


@kernel
def find_threshold(values: np.ndarray, count: int) -> tuple[float, int]:
    """The `count`-th largest value, and how many that equal it are among the `count` largest.

    Histograms instead of a sort: one finds the bin that holds the value, the next refines inside it, until all
    candidates are equal.

    Parameters
    ----------
    values : float32 (n,), finite
    count : int in [1, n]
    """
    candidates = values
    wanted = count
    bins = np.empty(_BINS, np.int64)
    while True:
        low, high = candidates[0], candidates[0]
        for value in candidates:
            low, high = min(low, value), max(high, value)
        if low == high:
            return low, wanted
        scale = _BINS / (np.float64(high) - np.float64(low))
        bins[:] = 0
        for value in candidates:
            bins[bin_of(value, low, scale)] += 1
        chosen = _BINS - 1
        while bins[chosen] < wanted:
            wanted -= bins[chosen]
            chosen -= 1
        inside = np.empty(bins[chosen], np.float32)
        filled = 0
        for value in candidates:
            if bin_of(value, low, scale) == chosen:
                inside[filled] = value
                filled += 1
        candidates = inside


@kernel
def bin_of(value: float, low: float, scale: float) -> int:
    """The histogram bin of `value`; rises with it. In float64, where no difference of two float32 vanishes."""
    return min(int((np.float64(value) - np.float64(low)) * scale), _BINS - 1)
