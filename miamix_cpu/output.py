"""Stage 4: merge the layers, measure lam, blend the views (MiAMix, section 3.2.4, eq. 7 and 10-12).

All kernels work on flat arrays: LLVM vectorises one long loop whose body handles a pixel's channels much better than
nested loops over rows, columns and channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from miamix_cpu.compile import FLAGS, kernel

#: `lam` is measured in integers of this many steps: exact for binary masks and in any order of summation, and each
#: pixel is rounded by at most 1.2e-7. More steps would leave float32 no bit for the half that rounds.
_STEPS = 1 << 22


@kernel
def multiply(mask: np.ndarray, hole: np.ndarray) -> None:
    """mask *= 1 - hole (eq. 10).

    Parameters
    ----------
    mask : float32 (P,); changed
    hole : float32 (P,)
    """
    for p in range(mask.size):
        mask[p] *= np.float32(1.0) - hole[p]


@kernel
def subtract(mask: np.ndarray, hole: np.ndarray) -> None:
    """mask = max(0, mask - hole): one hole after the other this is 1 - clip(sum of holes, 0, 1) (eq. 11).

    Parameters
    ----------
    mask : float32 (P,); changed
    hole : float32 (P,)
    """
    for p in range(mask.size):
        mask[p] = max(np.float32(0.0), mask[p] - hole[p])


@kernel
def measure(mask: np.ndarray) -> float:
    """lam, the mean of `mask` (eq. 12).

    Parameters
    ----------
    mask : float32 (P,), in [0, 1]
    """
    total = np.int64(0)
    for p in range(mask.size):
        total += np.int32(mask[p] * np.float32(_STEPS) + np.float32(0.5))
    return total / (mask.size * np.float64(_STEPS))


def weigh(weight: Any, first: Any, second: Any) -> Any:
    """weight * first + (1 - weight) * second in float32 (eq. 7).

    Bytes as second + weight * (first - second), which never leaves their range: 255 mixed with 255 is 255, not a
    rounding more. Floats as they stand, since the difference of two large ones overflows, and a weight of 1 must give
    `first` to the bit.
    """
    if isinstance(first, np.uint8):
        return np.float32(second) + weight * (np.float32(first) - np.float32(second))
    return weight * np.float32(first) + (np.float32(1.0) - weight) * np.float32(second)


@overload(weigh, jit_options=FLAGS)
def _weigh(weight, first, second):  # type: ignore[no-untyped-def]  # Numba wants the very same signature
    if isinstance(first, types.Integer):
        return lambda weight, first, second: np.float32(second) + weight * (np.float32(first) - np.float32(second))
    return lambda weight, first, second: weight * np.float32(first) + (np.float32(1.0) - weight) * np.float32(second)


@kernel
def blend(
    out: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    mask: np.ndarray,
    channels: int,
    planar_in: bool,
    planar_out: bool,
    scale: np.ndarray,
    bias: np.ndarray,
) -> None:
    """out = (mask * first + (1 - mask) * second) * scale + bias (eq. 7), normalised in the same pass.

    Parameters
    ----------
    out : uint8 or float32 (P * C,); overwritten. uint8 truncates, so that a bias of 0.5 rounds
    first, second : uint8 or float32 (P * C,)
    mask : float32 (P,)
    channels : int, C
    planar_in, planar_out : bool, (C, P) rather than (P, C)
    scale, bias : float32 (C,)

    """
    pixels = mask.size
    if channels == 1 or (planar_in and planar_out):
        for c in range(channels):
            f, s = first[c * pixels : (c + 1) * pixels], second[c * pixels : (c + 1) * pixels]
            o, a, b = out[c * pixels : (c + 1) * pixels], scale[c], bias[c]
            for p in range(pixels):
                o[p] = weigh(mask[p], f[p], s[p]) * a + b
    elif channels == 3 and not planar_in:
        a0, a1, a2, b0, b1, b2 = scale[0], scale[1], scale[2], bias[0], bias[1], bias[2]
        o0, o1, o2 = out[:pixels], out[pixels : 2 * pixels], out[2 * pixels :]
        # Written out: LLVM turns stride 3 into whole vector loads only where it sees all three channels.
        for p in range(pixels):
            v0 = weigh(mask[p], first[3 * p], second[3 * p]) * a0 + b0
            v1 = weigh(mask[p], first[3 * p + 1], second[3 * p + 1]) * a1 + b1
            v2 = weigh(mask[p], first[3 * p + 2], second[3 * p + 2]) * a2 + b2
            if planar_out:
                o0[p], o1[p], o2[p] = v0, v1, v2
            else:
                out[3 * p], out[3 * p + 1], out[3 * p + 2] = v0, v1, v2
    else:
        pixel_in, channel_in = (1, pixels) if planar_in else (channels, 1)
        pixel_out, channel_out = (1, pixels) if planar_out else (channels, 1)
        for c in range(channels):
            for p in range(pixels):
                source = p * pixel_in + c * channel_in
                v = weigh(mask[p], first[source], second[source])
                out[p * pixel_out + c * channel_out] = v * scale[c] + bias[c]
