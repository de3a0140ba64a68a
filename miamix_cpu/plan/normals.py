"""Standard normal numbers, many at once: Box and Muller's pairs, in loops that vectorise.

NumPy's ziggurat takes 9 ns a number, which was a third of drawing a plan; this takes less than one, random bits
included.
"""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.jit.arrays import run
from miamix_cpu.jit.compile import entry, exact
from miamix_cpu.jit.scalars import larger, reinterpret

_TURN = np.float32(2 * math.pi / 2**32)
_LN2 = np.float32(math.log(2))
_WORDS = 2.0**64


# Those of SplitMix64 (Steele, Lea and Flood, 2014, doi:10.1145/2660193.2660195).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def draw_normals(count: int, uniforms: np.ndarray) -> np.ndarray:
    """float32 (count,), independent standard normals; none beyond 6.8, where one in 10^11 would be.

    Parameters
    ----------
    count : int
    uniforms : float64 (2,), in [0, 1), from which all of them follow
    """
    pairs = (count + 1) // 2
    normals = np.empty(2 * pairs, np.float32)
    make_normals(normals, uniforms)
    return normals[:count]


@entry
def make_normals(normals: np.ndarray, uniforms: np.ndarray) -> None:
    """Turn random bits into normals: sqrt(-2 ln u) times the cosine and the sine of a random angle.

    Of 64 bits a pair u comes from the upper half, (upper + 0.5) / 2^32, the angle from the lower.

    Parameters
    ----------
    normals : float32 (2 * m,); overwritten
    uniforms : float64 (2,), in [0, 1)
    """
    first, second = np.uint64(uniforms[0] * _WORDS), np.uint64(uniforms[1] * _WORDS)
    pairs = normals.size // 2
    cosines, sines = run(normals, 0, pairs), run(normals, pairs, 2 * pairs)
    for i in range(pairs):
        bits = np.uint64(bits_of(np.uint64(i), first, second))
        radius = radius_of(np.uint32(bits >> np.uint64(32)))
        angle = np.uint32(bits)
        sines[i] = radius * sine_of(np.int32(angle))
        cosines[i] = radius * sine_of(np.int32(np.uint32(angle + np.uint32(1 << 30))))


@exact
def bits_of(i: np.uint64, first: np.uint64, second: np.uint64) -> np.uint64:
    """64 random bits, the i-th of a stream that two words of 53 bits choose.

    SplitMix64 begun at `first`, and mixed once more with `second`, since all streams of SplitMix64 are parts of one
    circle. Each word follows from its number alone, so that a loop vectorises.
    """
    word = first + (i + np.uint64(1)) * _GOLDEN
    word = (word ^ (word >> np.uint64(30))) * _MIX_1
    word = (word ^ (word >> np.uint64(27))) * _MIX_2
    word ^= (word >> np.uint64(31)) ^ second
    word = (word ^ (word >> np.uint64(30))) * _MIX_1
    word = (word ^ (word >> np.uint64(27))) * _MIX_2
    return word ^ (word >> np.uint64(31))


@exact
def radius_of(upper: np.uint32) -> np.float32:
    """sqrt(-2 ln((upper + 0.5) / 2^32)) in float32, to within 1e-6.

    The logarithm of m * 2^e, m between sqrt(1/2) and sqrt(2), is e ln 2 + 2 artanh((m - 1) / (m + 1)).
    """
    value = np.float32(upper) + np.float32(0.5)
    word = reinterpret(value, np.int32)
    exponent = np.int32(np.int32(word - np.int32(0x3F3504F3)) >> np.int32(23))
    m = reinterpret(np.int32(word - np.int32(exponent << np.int32(23))), np.float32)
    s = (m - np.float32(1.0)) / (m + np.float32(1.0))
    square = s * s
    p = np.float32(1 / 9)
    p = p * square + np.float32(1 / 7)
    p = p * square + np.float32(1 / 5)
    p = p * square + np.float32(1 / 3)
    p = p * square + np.float32(1.0)
    log = np.float32(exponent - np.int32(32)) * _LN2 + np.float32(2.0) * s * p
    return np.sqrt(larger(np.float32(0.0), np.float32(-2.0) * log))  # type: ignore[no-any-return]


@exact
def sine_of(turns: np.int32) -> np.float32:
    """sin(2 pi turns / 2^32) in float32, to within 1e-6: its Taylor series after folding to a quarter turn."""
    quarter = np.float32(1 << 30)
    t = np.float32(turns)
    t = np.float32(2.0) * quarter - t if t > quarter else t
    t = np.float32(-2.0) * quarter - t if t < -quarter else t
    x = t * _TURN
    square = x * x
    p = np.float32(-1 / 39916800)
    p = p * square + np.float32(1 / 362880)
    p = p * square - np.float32(1 / 5040)
    p = p * square + np.float32(1 / 120)
    p = p * square - np.float32(1 / 6)
    p = p * square + np.float32(1.0)
    return x * p
