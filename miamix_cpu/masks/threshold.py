"""The largest values of a field, exactly as many as wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from miamix_cpu.jit.arrays import address_of, array_at, empty, fill, run
from miamix_cpu.jit.compile import allocating, inlined, kernel
from miamix_cpu.jit.scalars import larger, reinterpret, smaller
from miamix_cpu.masks.product import LANES

_FEW = 8  # values that are sorted out one by one
_SAMPLED_FROM = 1 << 12
_STEPS = 13, 17  # whichever the sample's columns shift by more from row to row
_SLACK = 16  # values of the sample; smooth fields are off by fewer in all but one of a hundred


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
    if count == 0:
        fill(chosen, np.float32(0.0))
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


@inlined
def find_threshold(values: np.ndarray, columns: int, count: int) -> Any:
    """The `count`-th largest value, how many that equal it are among the `count` largest, and how many there are.

    Brackets it by counting how many values exceed a guess, a loop that vectorises: five guesses or so, each of which
    touches 16 values an instruction, where a histogram or a partial sort touches one. Of a large field every 13th or
    17th value gives a bracket around where the threshold should be, and the few values inside are narrowed down
    instead of all.

    Parameters
    ----------
    values : float32 (n,), of a magnitude below 1e38
    columns : int, of the field that `values` are
    count : int in [1, n]
    """
    part, wanted, above_low, above_high = values, count, values.size, 0
    low, high = np.float32(-np.inf), np.float32(np.inf)
    if values.size >= _SAMPLED_FROM:
        # Samples one below the other, or along a diagonal, would all be off in the same way.
        step = _STEPS[0] if 1 < columns % _STEPS[0] < _STEPS[0] - 1 else _STEPS[1]
        sample = empty(values.size // step, np.float32)
        for i in range(sample.size):
            sample[i] = values[step * i]
        rank, least, most = count * sample.size // values.size, low, high
        if rank + _SLACK <= sample.size:
            least = narrow(sample, rank + _SLACK, low, high, sample.size, 0)[0]
        if rank - _SLACK >= 1:
            # At least so many exceed `least`; only the first guess depends on it.
            most = narrow(sample, rank - _SLACK, least, high, smaller(sample.size, rank + _SLACK), 0)[1]
        room = empty(values.size // 4, np.float32)
        inside, above = collect(room, values, least, most)
        if above < count <= above + inside:
            part, wanted, low, high, above_low = run(room, 0, inside), count - above, least, most, inside
    low, high, above_low, above_high = narrow(part, wanted, low, high, above_low, above_high)
    wanted -= above_high
    if above_low - above_high > _FEW:
        return high, wanted, above_low - above_high  # nothing lies between: all that are left equal high
    room = empty(_FEW, np.float32)
    few = run(room, 0, collect(room, part, low, high)[0])
    for rank in range(wanted):  # selection: the rank-th largest to the front
        best = rank
        for p in range(rank + 1, few.size):
            if few[p] > few[best]:
                best = p
        few[rank], few[best] = few[best], few[rank]
    ties, alike, threshold = 0, 0, few[wanted - 1]
    for p in range(few.size):
        ties += p < wanted and few[p] == threshold
        alike += few[p] == threshold
    return threshold, ties, alike


@kernel
def narrow(values: np.ndarray, count: int, low: Any, high: Any, above_low: int, above_high: int) -> Any:
    """Narrow low < the `count`-th largest value <= high until `_FEW` values lie inside, or none between.

    Guesses interpolate between the counts at both ends, every other one bisects, so that no field takes more than some
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
        low = larger(low, np.float32(least - (abs(least) * np.float32(1e-6) + np.float32(1e-30))))
        high = smaller(high, greatest)
    turn = 0
    while above_low - above_high > _FEW:
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
    words = array_at(address_of(values), values.size, np.int32)
    least, greatest = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for p in range(words.size):
        word = in_order(words[p])
        least, greatest = smaller(least, word), larger(greatest, word)
    return reinterpret(np.int32(in_order(least)), np.float32), reinterpret(np.int32(in_order(greatest)), np.float32)


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
def collect(room: np.ndarray, values: np.ndarray, low: float, high: float) -> Any:
    """Gather the values in (low, high], and count those above.

    Parameters
    ----------
    room : float32 (m,); overwritten from its start
    values : float32 (n,)
    low, high : float32

    Returns
    -------
    two int
        How many were gathered, and how many exceed `high`; 0 and 0 where `room` is too short.
    """
    found, above, whole = 0, 0, values.size - values.size % LANES
    for start in range(0, whole, LANES):
        beyond = _bits_above(values, start, high)
        bits = _bits_above(values, start, low) ^ beyond
        above += _how_many(beyond)
        while bits != 0:
            if found == room.size:
                return 0, 0
            room[found] = values[start + _lowest(bits)]
            found += 1
            bits &= bits - 1
    for p in range(whole, values.size):
        above += values[p] > high
        if low < values[p] <= high:
            if found == room.size:
                return 0, 0
            room[found] = values[p]
            found += 1
    return found, above


@intrinsic  # type: ignore[untyped-decorator]
def _bits_above(typing_context: Any, values: Any, start: Any, threshold: Any) -> Any:
    """Bit p is whether values[start + p] > threshold, p below LANES: one comparison of vectors.

    Numba's own loops can't stop at a value without looking at each (224 x 224: `collect` in 5 instead of 22 us).
    """
    if values.dtype != types.float32 or values.layout != "C":
        return None

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, value=arguments[0]).data
        vector, number = ir.VectorType(ir.FloatType(), LANES), ir.IntType(32)
        nothing = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(nothing, arguments[2], number(0))
        spread = builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(number, LANES), [0] * LANES))
        found = builder.load(builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer()), align=4)
        bits = builder.bitcast(builder.fcmp_ordered(">", found, spread), ir.IntType(LANES))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(values, types.int64, types.float32), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _lowest(typing_context: Any, bits: Any) -> Any:
    """The place of the lowest bit that is set; one must be."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _how_many(typing_context: Any, bits: Any) -> Any:
    """How many bits are set."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), codegen
