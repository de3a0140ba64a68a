"""The largest values of a field, exactly as many as wanted.

The threshold is bracketed by counting how many values exceed a guess, a loop that vectorises, where a histogram or a
partial sort takes value by value. Of a large field every 13th or 17th value gives the first bracket.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.jit.flags import allocating, kernel
from miamix_cpu.jit.intrinsics import reinterpret

_FEW = 8  # values that are sorted one by one
_SAMPLED_FROM = 1 << 12
_STEPS = 13, 17  # whichever shifts the sample's columns by more from row to row
_SLACK = 16  # values of the sample; smooth fields are off by fewer in all but one of a hundred
_BLOCK = 64  # values whose number in the bracket is counted before any is looked at


@allocating
def choose_largest(chosen: np.ndarray, values: np.ndarray, columns: int, count: int) -> None:
    """Set `chosen` to 1 at the `count` largest of `values`, ties by index, and to 0 elsewhere.

    Parameters
    ----------
    chosen : float32 (n,); overwritten
    values : float32 (n,), of a magnitude below 1e38
    columns : int, of the field that `values` are, row by row
    count : int in [0, n]
    """
    if count == 0 or count == values.size:
        for p in range(values.size):
            chosen[p] = np.float32(count > 0)
        return
    threshold, ties, alike = find_threshold(values, columns, count)
    if ties == alike:
        for p in range(values.size):
            chosen[p] = np.float32(values[p] >= threshold)
        return
    for p in range(values.size):
        chosen[p] = np.float32(values[p] > threshold)
    p = 0
    while ties > 0 and p < values.size:
        if values[p] == threshold:
            chosen[p] = 1.0
            ties -= 1
        p += 1


@allocating
def find_threshold(values: np.ndarray, columns: int, count: int) -> Any:
    """The `count`-th largest value, how many that equal it are among the `count` largest, and how many there are.

    Parameters
    ----------
    values : float32 (n,), of a magnitude below 1e38
    columns : int, of the field that `values` are
    count : int in [1, n]
    """
    # np.int64: a literal would have `narrow` compiled twice.
    low, high, above_low, above_high = np.float32(-np.inf), np.float32(np.inf), values.size, np.int64(0)
    if values.size >= _SAMPLED_FROM:
        low, high = bracket(values, columns, count)
        above_low, above_high = count_above(values, low), count_above(values, high)
        if not above_high < count <= above_low:
            low, high, above_low, above_high = np.float32(-np.inf), np.float32(np.inf), values.size, np.int64(0)
    low, high, above_low, above_high = narrow(values, count, low, high, above_low, above_high)
    wanted = count - above_high
    if above_low - above_high > _FEW:
        return high, wanted, above_low - above_high  # nothing lies between: all that are left equal high
    few = np.empty(_FEW, np.float32)
    size = collect(few, values, low, high)
    for rank in range(wanted):  # selection: the rank-th largest to the front
        best = rank
        for p in range(rank + 1, size):
            if few[p] > few[best]:
                best = p
        few[rank], few[best] = few[best], few[rank]
    ties, alike, threshold = 0, 0, few[wanted - 1]
    for p in range(size):
        ties += p < wanted and few[p] == threshold
        alike += few[p] == threshold
    return threshold, ties, alike


@allocating
def bracket(values: np.ndarray, columns: int, count: int) -> Any:
    """Two float32 between which the `count`-th largest value most likely is, from a sample.

    Parameters
    ----------
    values, columns, count : as in `find_threshold`
    """
    # Samples one below the other, or along a diagonal, would all be off in the same way.
    step = _STEPS[0] if 1 < columns % _STEPS[0] < _STEPS[0] - 1 else _STEPS[1]
    sample = np.empty(values.size // step, np.float32)
    for i in range(sample.size):
        sample[i] = values[step * i]
    least, most = np.float32(-np.inf), np.float32(np.inf)
    rank = count * sample.size // values.size
    if rank + _SLACK <= sample.size:
        least = narrow(sample, rank + _SLACK, least, most, sample.size, np.int64(0))[0]
    if rank - _SLACK >= 1:
        # At least so many exceed `least`; only the first guess depends on it.
        most = narrow(sample, rank - _SLACK, least, most, min(sample.size, rank + _SLACK), np.int64(0))[1]
    return least, most


@kernel
def narrow(values: np.ndarray, count: int, low: Any, high: Any, above_low: int, above_high: int) -> Any:
    """Narrow low < the `count`-th largest value <= high until `_FEW` values lie inside, or none between.

    Guesses interpolate between the counts at both ends, every third one bisects, so that no field takes more than some
    hundred. An end that is infinite is first replaced by the least or greatest value.

    Parameters
    ----------
    values : float32 (n,), finite
    count : int in [1, n]
    low, high : float32
    above_low, above_high : int, how many values exceed them; above_high < count <= above_low
    """
    if low == -np.inf or high == np.inf:
        least, greatest = extremes(values)
        # Below the least also where the processor takes denormal numbers for 0 (torch.set_flush_denormal).
        below = np.float32(least - (abs(least) * np.float32(1e-6) + np.float32(1e-30)))
        low = below if below > low else low
        high = greatest if greatest < high else high
    turn, aim = 0, 0
    while above_low - above_high > _FEW:
        # Once beyond the value it aims at the other side of it, or one end would stay where it is.
        share = (above_low - count - aim + 0.5) / (above_low - above_high) if turn % 3 < 2 else 0.5
        guess = np.float32(low + min(1.0, max(0.0, share)) * (np.float64(high) - np.float64(low)))
        if not low < guess < high:
            guess = np.float32(low + 0.5 * (np.float64(high) - np.float64(low)))
            if not low < guess < high:
                break
        above = count_above(values, guess)
        if above >= count:
            low, above_low, aim = guess, above, -_FEW // 2
        else:
            high, above_high, aim = guess, above, _FEW // 2
        turn += 1
    return low, high, above_low, above_high


@kernel
def count_above(values: np.ndarray, threshold: float) -> Any:
    """How many of `values` exceed `threshold`.

    Parameters
    ----------
    values : float32 (n,)
    threshold : float32
    """
    total = np.int32(0)  # in 64 bits it takes twice as long
    for p in range(values.size):
        total = np.int32(total + np.int32(values[p] > threshold))
    return np.int64(total)


@kernel
def extremes(values: np.ndarray) -> Any:
    """The least and the greatest of `values`.

    They are compared as integers, because LLVM vectorises the minimum of integers, but not that of floats (ten times as
    slow).

    Parameters
    ----------
    values : float32 (n,), finite
    """
    words = values.view(np.int32)
    least, greatest = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for p in range(words.size):
        word = in_order(words[p])
        least = word if word < least else least
        greatest = word if word > greatest else greatest
    return reinterpret(np.int32(in_order(least)), np.float32), reinterpret(np.int32(in_order(greatest)), np.float32)


@kernel
def in_order(word: np.int32) -> np.int32:
    """The bits of a float32 as an integer that sorts like it, and back."""
    return np.int32(word ^ np.int32(np.int32(word >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@kernel
def collect(few: np.ndarray, values: np.ndarray, low: float, high: float) -> Any:
    """Gather the values in (low, high].

    A block without any is passed over by counting alone, which vectorises.

    Parameters
    ----------
    few : float32 (m,), long enough; overwritten from its start
    values : float32 (n,)
    low, high : float32

    Returns
    -------
    int
        How many there are.
    """
    found = 0
    for start in range(0, values.size, _BLOCK):
        block = values[start : min(start + _BLOCK, values.size)]  # a slice shows that no index is negative
        inside = np.int32(0)
        for p in range(block.size):
            inside = np.int32(inside + np.int32((block[p] > low) & (block[p] <= high)))
        if inside > 0:
            for p in range(block.size):
                if low < block[p] <= high:
                    few[found] = block[p]
                    found += 1
    return found
