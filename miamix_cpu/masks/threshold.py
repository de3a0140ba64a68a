"""The largest values of a field, exactly as many as wanted."""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.compile import inlined, kernel

_FEW = 24  # values inside the bracket that are sorted out one by one
_STRETCH = 64
_SAMPLED_FROM = 1 << 14


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


@inlined
def find_threshold(values: np.ndarray, count: int) -> Any:
    """The `count`-th largest value, and how many that equal it are among the `count` largest.

    Brackets it by counting how many values exceed a guess, a loop that vectorises: five guesses or so, each of which
    touches 16 values an instruction, where a histogram or a partial sort touches one. The few values left inside are
    sorted out one by one. A large field is bracketed on every 16th stretch of it first, checked on the whole.

    Parameters
    ----------
    values : float32 (n,), finite
    count : int in [1, n]
    """
    n = values.size
    low, high = np.float32(-np.inf), np.float32(np.inf)
    above_low, above_high = n, 0
    if n >= _SAMPLED_FROM:
        sample = np.empty((n // (16 * _STRETCH), _STRETCH), np.float32)
        for i in range(sample.shape[0]):
            for j in range(_STRETCH):
                sample[i, j] = values[16 * _STRETCH * i + j]
        some = sample.reshape(sample.size)
        rank, slack = count * some.size // n, some.size // 50
        for wanted in (rank + slack, rank - slack):
            if 1 <= wanted <= some.size:
                guess = narrow(some, wanted, low, high, some.size, 0, some.size // 200 + 1)[0]
                above = count_above(values, guess)
                if above >= count and above <= above_low:
                    low, above_low = guess, above
                elif above < count and above >= above_high:
                    high, above_high = guess, above
    low, high, above_low, above_high = narrow(values, count, low, high, above_low, above_high, _FEW)
    if above_low - above_high > _FEW:
        return high, count - above_high  # nothing lies between low and high: all that are left equal high
    inside = np.empty(above_low - above_high, np.float32)
    collect(inside, values, low, high)
    wanted = count - above_high
    for rank in range(wanted):  # selection: the rank-th largest to the front
        best = rank
        for p in range(rank + 1, inside.size):
            if inside[p] > inside[best]:
                best = p
        inside[rank], inside[best] = inside[best], inside[rank]
    ties = 0
    for p in range(wanted):
        ties += inside[p] == inside[wanted - 1]
    return inside[wanted - 1], ties


@kernel
def narrow(values: np.ndarray, count: int, low: Any, high: Any, above_low: int, above_high: int, few: int) -> Any:
    """Narrow low < the `count`-th largest value <= high until `few` values lie inside, or none between.

    Guesses interpolate between the counts at both ends, every other one bisects, so that no field takes more than some
    hundred. An end that is infinite is first replaced by the least or greatest value.

    Parameters
    ----------
    values : float32 (n,), finite
    count : int in [1, n]
    low, high : float32
    above_low, above_high : int, how many values exceed them; above_high < count <= above_low
    few : int
    """
    if low == -np.inf or high == np.inf:
        least, greatest = extremes(values)
        low = max(low, np.nextafter(least, np.float32(-np.inf)))
        high = min(high, greatest)
    turn = 0
    while above_low - above_high > few:
        share = (above_low - count + 0.5) / (above_low - above_high) if turn % 2 == 0 else 0.5
        guess = np.float32(low + share * (np.float64(high) - np.float64(low)))
        if not low < guess < high:
            guess = np.float32(low + 0.5 * (np.float64(high) - np.float64(low)))
            if not low < guess < high:
                break
        above = count_above(values, guess)
        if above >= count:
            low, above_low = guess, above
        else:
            high, above_high = guess, above
        turn += 1
    return low, high, above_low, above_high


@kernel
def extremes(values: np.ndarray) -> Any:
    """The least and the greatest of `values`.

    Compared as integers, of which LLVM vectorises the minimum; that of floats it does not (ten times as slow).

    Parameters
    ----------
    values : float32 (n,), finite
    """
    words = values.view(np.int32)
    least, greatest = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for p in range(words.size):
        word = in_order(words[p])
        least, greatest = np.int32(min(least, word)), np.int32(max(greatest, word))
    return np.int32(in_order(least)).view(np.float32), np.int32(in_order(greatest)).view(np.float32)


@kernel
def in_order(word: np.int32) -> np.int32:
    """The bits of a float32 as an integer that sorts like it, and back."""
    return np.int32(word ^ np.int32(np.int32(word >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@kernel
def count_above(values: np.ndarray, threshold: float) -> Any:
    """How many of `values` exceed `threshold`.

    Parameters
    ----------
    values : float32 (n,)
    threshold : float32
    """
    total = np.int64(0)
    for p in range(values.size):
        total += np.int32(values[p] > threshold)
    return total


@kernel
def collect(inside: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
    """Gather the values in (low, high]; whole stretches without one are passed over by counting.

    Parameters
    ----------
    inside : float32, as long as there are such values; overwritten
    values : float32 (n,)
    low, high : float32
    """
    filled = 0
    for start in range(0, values.size, _STRETCH):
        stretch = values[start : start + _STRETCH]
        hits = np.int64(0)
        for p in range(stretch.size):
            hits += np.int32((stretch[p] > low) & (stretch[p] <= high))
        if hits == 0:
            continue
        for p in range(stretch.size):
            if low < stretch[p] <= high:
                inside[filled] = stretch[p]
                filled += 1
