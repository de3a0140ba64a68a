"""Two views blended by a mask (MiAMix, eq. 7), changing the layout in the same pass.

All kernels work on flat arrays: LLVM vectorises one long loop whose body handles a pixel's channels much better than
nested loops over rows, columns and channels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from miamix_cpu.jit.flags import exact, kernel
from miamix_cpu.jit.intrinsics import mix_byte

#: A weight of 1 where bytes are mixed into bytes: 16-bit fixed point, of whose two ends only the negative one reaches
#: 2^15. Rounding a weight moves a pixel by 0.004 grey levels at most, and none that is 0 or 1.
ONE = -(1 << 15)


def mixed(weight: Any, first: Any, second: Any, scale: Any, bias: Any) -> Any:
    """weight * first + (1 - weight) * second (eq. 7), then times `scale` plus `bias` unless bytes stay bytes.

    Bytes are mixed as second + weight * (first - second), which never leaves their range; by an int16 weight into
    bytes, rounded. Floats as they stand, since the difference of two large ones overflows; where the weight is 1 or 0
    the other view does not count, be it infinite or NaN.

    Parameters
    ----------
    weight : int16, -32768 for 1 (bytes to bytes), or float32
    first, second : uint8, int16, uint16 or float32
    scale, bias : float32

    Integers of 16 bits are mixed as floats are, and rounded.
    """
    if isinstance(weight, np.int16):
        return np.uint8(int(second) + ((((int(second) - int(first)) << 7) * int(weight) >> 16) + 32 >> 6))
    if isinstance(first, np.uint8):
        return (np.float32(second) + weight * (np.float32(first) - np.float32(second))) * scale + bias
    value = weight * np.float32(first) + (np.float32(1.0) - weight) * np.float32(second)
    if isinstance(first, np.int16 | np.uint16):
        return type(first)(math.floor(value + np.float32(0.5)))
    return (first if weight == 1 else second if weight == 0 else value) * scale + bias


@overload(mixed)
def _mixed(weight, first, second, scale, bias):  # type: ignore[no-untyped-def]  # Numba compares signatures
    if (weight, first) == (types.int16, types.uint8):
        return lambda weight, first, second, scale, bias: mix_byte(weight, first, second)
    if (weight, first) == (types.float32, types.uint8):
        return lambda weight, first, second, scale, bias: (
            (np.float32(second) + weight * (np.float32(first) - np.float32(second))) * scale + bias
        )
    if weight == types.float32 and first in (types.int16, types.uint16):

        def integers(weight, first, second, scale, bias):  # type: ignore[no-untyped-def]
            value = weight * np.float32(first) + (np.float32(1.0) - weight) * np.float32(second)
            return first_kind(np.int32(math.floor(value + np.float32(0.5))))

        first_kind = first
        return integers
    if (weight, first) != (types.float32, types.float32) or second not in (types.float32, types.uint8):
        return None

    def floats(weight, first, second, scale, bias):  # type: ignore[no-untyped-def]
        value = weight * first + (np.float32(1.0) - weight) * np.float32(second)
        value = first if weight == np.float32(1.0) else value
        value = np.float32(second) if weight == np.float32(0.0) else value
        return value * scale + bias

    return floats


@exact
def blend(
    out: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    weights: np.ndarray,
    start: int,
    to: int,
    planar_in: bool,
    planar_out: bool,
    scale: np.ndarray,
    bias: np.ndarray,
) -> None:
    """Mix a run of an image's pixels, or of a frame's (`mixed`).

    Parameters
    ----------
    out : like the views, or float32 (Q * C,), the image, or the whole clip; changed
    first, second : uint8, int16, uint16 or float32 (P * C,)
    weights : int16 where bytes become bytes, else float32 (p,), of pixels `start` to `start + p`
    start, to : int, the first of these pixels in the views, and in `out`
    planar_in, planar_out : bool, (C, P) and (C, Q) rather than (P, C) and (Q, C)
    scale, bias : float32 (C,)
    """
    channels, n = scale.size, weights.size
    pixels = out.size // channels
    if channels == 3 and not planar_in:
        # Written out: LLVM turns stride 3 into whole vector loads only where it sees all three channels.
        a0, a1, a2, b0, b1, b2 = scale[0], scale[1], scale[2], bias[0], bias[1], bias[2]
        f, s = first[3 * start : 3 * (start + n)], second[3 * start : 3 * (start + n)]
        if planar_out:
            o0, o1 = out[to : to + n], out[pixels + to : pixels + to + n]
            o2 = out[2 * pixels + to : 2 * pixels + to + n]
            for p in range(n):
                o0[p] = mixed(weights[p], f[3 * p], s[3 * p], a0, b0)
                o1[p] = mixed(weights[p], f[3 * p + 1], s[3 * p + 1], a1, b1)
                o2[p] = mixed(weights[p], f[3 * p + 2], s[3 * p + 2], a2, b2)
        else:
            o = out[3 * to : 3 * (to + n)]
            for p in range(n):
                o[3 * p] = mixed(weights[p], f[3 * p], s[3 * p], a0, b0)
                o[3 * p + 1] = mixed(weights[p], f[3 * p + 1], s[3 * p + 1], a1, b1)
                o[3 * p + 2] = mixed(weights[p], f[3 * p + 2], s[3 * p + 2], a2, b2)
        return
    step_in, plane_in = (1, first.size // channels) if planar_in else (channels, 1)
    step_out, plane_out = (1, pixels) if planar_out else (channels, 1)
    for c in range(channels):
        at_in, at_out = c * plane_in + start * step_in, c * plane_out + to * step_out
        f, s, o = first[at_in:], second[at_in:], out[at_out:]
        a, b = scale[c], bias[c]
        if step_in == 1 and step_out == 1:
            for p in range(n):
                o[p] = mixed(weights[p], f[p], s[p], a, b)
        else:
            for p in range(n):
                o[p * step_out] = mixed(weights[p], f[p * step_in], s[p * step_in], a, b)


@kernel
def to_weights(weights: np.ndarray, mask: np.ndarray) -> None:
    """`mask` as the weights of bytes in bytes: fixed point, 1 as -32768.

    Parameters
    ----------
    weights : int16 (p,); overwritten
    mask : float32 (p,)
    """
    for p in range(mask.size):
        weights[p] = np.int32(mask[p] * np.float32(ONE) - np.float32(0.5))


@kernel
def fill_tile(tile: np.ndarray, start: int, base: float, columns: int, box: Any) -> None:
    """Some pixels of a mask that is `base` but for a box of 0.

    Parameters
    ----------
    tile : float32 (p,), a whole number of rows; overwritten with pixels `start` to `start + p`
    start : int
    base : float
    columns : int
    box : 4 int, top, bottom, left, right
    """
    top, bottom, left, right = box
    for p in range(tile.size):
        tile[p] = np.float32(base)
    first = start // columns
    for y in range(max(top, first), min(bottom, first + tile.size // columns)):
        for x in range(left, right):
            tile[(y - first) * columns + x] = np.float32(0.0)


@exact
def blend_box(
    out: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    base: float,
    box: Any,
    columns: int,
    channels: int,
    planar: bool,
    split: bool,
    room: np.ndarray,
) -> None:
    """Mix bytes where the mask is `base` but for a box of 0: evenly, then copy the box.

    Where no weight changes from pixel to pixel, interleaved bytes are mixed as they lie and then split into planes,
    once rather than once a view. Where `base` is 1 the second view is read in the box only.

    Parameters
    ----------
    out, first, second : uint8 (P * C,); `out` is overwritten
    base : float in [0, 1]
    box : 4 int, top, bottom, left, right
    columns, channels : int
    planar : bool, `first` and `second` are (C, P) rather than (P, C)
    split : bool, `out` is (3, P) of (P, 3), rather than as `first` and `second`
    room : uint8 (at least 3,); changed
    """
    pixels = out.size // channels
    top, bottom, left, right = box
    weight = np.int16(np.int32(np.float32(base) * np.float32(ONE) - np.float32(0.5)))
    if split:
        most = pixels if weight == ONE else room.size // 3
        for start in range(0, pixels, most):
            n = min(most, pixels - start)
            if weight == ONE:
                split_channels(out, first, start, start, n)
            else:
                mix_evenly(room, first, second, 3 * start, 3 * n, weight)
                split_channels(out, room, start, np.int64(0), n)  # a literal would have it compiled twice
        for y in range(top, bottom):
            split_channels(out, second, y * columns + left, y * columns + left, right - left)
        return
    if weight == ONE:
        for i in range(out.size):
            out[i] = first[i]
    else:
        mix_evenly(out, first, second, np.int64(0), out.size, weight)
    planes, step = (channels, 1) if planar else (1, channels)
    for c in range(planes):
        for y in range(top, bottom):
            start = c * pixels + (y * columns + left) * step
            o, s = out[start : start + (right - left) * step], second[start : start + (right - left) * step]
            for i in range(o.size):  # Numba's own assignment of slices takes them one by one
                o[i] = s[i]


@kernel
def mix_evenly(out: np.ndarray, first: np.ndarray, second: np.ndarray, start: int, n: int, weight: int) -> None:
    """Mix `n` bytes from `start` on by one weight, to the beginning of `out`.

    Parameters
    ----------
    out : uint8 (at least n,); changed
    first, second : uint8 (at least start + n,)
    start, n : int
    weight : int16, -32768 for 1
    """
    f, s = first[start : start + n], second[start : start + n]
    for i in range(n):
        out[i] = mix_byte(weight, f[i], s[i])


@kernel
def split_channels(out: np.ndarray, values: np.ndarray, to: int, start: int, n: int) -> None:
    """Copy interleaved bytes of `n` pixels into three planes.

    Parameters
    ----------
    out : uint8 (3 * P,); changed from pixel `to` on
    values : uint8 (at least 3 * (start + n),), from pixel `start` on
    to, start, n : int
    """
    pixels, v = out.size // 3, values[3 * start : 3 * (start + n)]
    red, green, blue = out[to : to + n], out[pixels + to : pixels + to + n], out[2 * pixels + to : 2 * pixels + to + n]
    for p in range(n):
        red[p], green[p], blue[p] = v[3 * p], v[3 * p + 1], v[3 * p + 2]
