"""Stage 4: merge the layers, measure lam, blend the views (MiAMix, section 3.2.4, eq. 7 and 10-12).

All kernels work on flat arrays: LLVM vectorises one long loop whose body handles a pixel's channels much better than
nested loops over rows, columns and channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from miamix_cpu.jit.arrays import fill, run
from miamix_cpu.jit.compile import exact, instructions, kernel
from miamix_cpu.jit.scalars import larger, smaller

#: `lam` is measured in integers of this many steps: exact for binary masks and in any order of summation, and each
#: pixel is rounded by at most 1.2e-7. More steps would leave float32 no bit for the half that rounds.
STEPS = 1 << 22

#: A weight of 1 where bytes are mixed into bytes: 16-bit fixed point, of whose two ends only the negative one reaches
#: 2^15. Rounding a weight moves a pixel by 0.004 grey levels at most, and none that is 0 or 1.
_ONE = -(1 << 15)


@kernel
def merge(mask: np.ndarray, hole: np.ndarray, holes: int, base: float, multiplied: bool) -> None:
    """Make the mask of `holes` holes: base * prod(1 - h_j) (eq. 10), or max(0, base - sum h_j) (eq. 11).

    One hole after the other, eq. 11 is 1 - clip(sum of holes, 0, 1).

    Parameters
    ----------
    mask : float32 (P,); changed. What it holds depends on `holes`: 0, anything; 1, the first hole; 2, the same, with
        the second one in `hole`; from 3 on, the mask of all holes before the last, which is in `hole`
    hole : float32 (P,)
    holes : int
    base : float in [0, 1], the mask of the constant layers (mixup)
    multiplied : bool, eq. 10 rather than eq. 11
    """
    b = np.float32(base)
    if holes == 0:
        fill(mask, b)
    if multiplied:
        if 1 <= holes <= 2:
            for p in range(mask.size):
                mask[p] = b * (np.float32(1.0) - mask[p])
        if holes >= 2:
            for p in range(mask.size):
                mask[p] *= np.float32(1.0) - hole[p]
    else:
        if 1 <= holes <= 2:
            for p in range(mask.size):
                mask[p] = larger(np.float32(0.0), b - mask[p])
        if holes >= 2:
            for p in range(mask.size):
                mask[p] = larger(np.float32(0.0), mask[p] - hole[p])


@kernel
def steps_of(mask: np.ndarray) -> int:
    """The sum of `mask` in whole steps of 1 / STEPS.

    Parameters
    ----------
    mask : float32 (P,), in [0, 1]
    """
    total = np.int64(0)
    for p in range(mask.size):
        total += np.int32(mask[p] * np.float32(STEPS) + np.float32(0.5))
    return total  # type: ignore[return-value]


@kernel
def steps_of_box(base: float, inside: int, pixels: int) -> int:
    """`steps_of` a mask that is `base` but for `inside` pixels of 0.

    Parameters
    ----------
    base : float in [0, 1]
    inside, pixels : int
    """
    return (pixels - inside) * np.int64(np.int32(np.float32(base) * np.float32(STEPS) + np.float32(0.5)))  # type: ignore[return-value]


@kernel
def to_weights(weights: np.ndarray, mask: np.ndarray) -> None:
    """`mask` as the weights of bytes in bytes: fixed point, 1 as -32768.

    Parameters
    ----------
    weights : int16 (P,); overwritten
    mask : float32 (P,)
    """
    for p in range(mask.size):
        weights[p] = np.int32(mask[p] * np.float32(_ONE) - np.float32(0.5))


def _mixed(typing_context: Any, weight: Any, first: Any, second: Any, scale: Any, bias: Any) -> Any:
    """Of these three kinds and no others, since Numba would turn a float into a byte without a word."""
    byte, number = types.uint8, types.float32
    if (weight, first, second) == (types.int16, byte, byte):
        return byte(weight, byte, byte, number, number), _mix_bytes
    if (weight, first) in ((number, byte), (number, number)) and first == second:
        return number(number, first, first, number, number), _mix_floats
    return None


def _mix_bytes(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """second + round(weight * (second - first) / 2^15), all of it in 16 bits.

    Numba widens every integer to 64 bits, in which LLVM no longer sees the one instruction for the upper half of a
    16-bit product; written out it runs twice as fast as in float32. The product keeps 6 bits after the point, and the
    floor of a floor is the floor: rounding is exact.
    """
    short, long = ir.IntType(16), ir.IntType(32)
    w, f, s = arguments[:3]
    f, s = builder.zext(f, short), builder.zext(s, short)
    difference = builder.shl(builder.sub(s, f), short(7))
    product = builder.mul(builder.sext(difference, long), builder.sext(w, long))
    upper = builder.trunc(builder.ashr(product, long(16)), short)
    rounded = builder.ashr(builder.add(upper, short(32)), short(6))
    return builder.trunc(builder.add(s, rounded), ir.IntType(8))


def _mix_floats(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    number, (w, f, s, scale, bias) = ir.FloatType(), arguments
    if signature.args[1] == types.uint8:
        f, s = builder.uitofp(f, number), builder.uitofp(s, number)
        value = builder.fadd(s, builder.fmul(w, builder.fsub(f, s)))
    else:
        value = builder.fadd(builder.fmul(w, f), builder.fmul(builder.fsub(number(1.0), w), s))
        value = builder.select(builder.fcmp_ordered("==", w, number(1.0)), f, value)
        value = builder.select(builder.fcmp_ordered("==", w, number(0.0)), s, value)
    return builder.fadd(builder.fmul(value, scale), bias)


@instructions(_mixed)
def mixed(weight: Any, first: Any, second: Any, scale: Any, bias: Any) -> Any:
    """weight * first + (1 - weight) * second (eq. 7), then times `scale` plus `bias` unless bytes stay bytes.

    Bytes are mixed as second + weight * (first - second), which never leaves their range; by an int16 weight into
    bytes, rounded. Floats as they stand, since the difference of two large ones overflows; where the weight is 1 or 0
    the other view does not count, be it infinite or NaN.

    Parameters
    ----------
    weight : int16, -32768 for 1 (bytes to bytes), or float32
    first, second : uint8 or float32
    scale, bias : float32
    """
    if isinstance(weight, np.int16):
        return np.uint8(int(second) + ((((int(second) - int(first)) << 7) * int(weight) >> 16) + 32 >> 6))
    if isinstance(first, np.uint8):
        return (np.float32(second) + weight * (np.float32(first) - np.float32(second))) * scale + bias
    value = weight * first + (np.float32(1.0) - weight) * second
    return (first if weight == 1 else second if weight == 0 else value) * scale + bias


@exact
def blend(
    out: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    weights: np.ndarray,
    start: int,
    planar_in: bool,
    planar_out: bool,
    scale: np.ndarray,
    bias: np.ndarray,
) -> None:
    """Mix a run of an image's pixels (`mixed`), changing the layout in the same pass.

    Parameters
    ----------
    out : uint8 or float32 (P * C,); changed
    first, second : uint8 or float32 (P * C,)
    weights : int16 where bytes become bytes, else float32 (p,), of pixels `start` to `start + p`
    start : int
    planar_in, planar_out : bool, (C, P) rather than (P, C)
    scale, bias : float32 (C,)
    """
    channels, n = scale.size, weights.size
    pixels = out.size // channels
    if channels == 1 or (planar_in and planar_out):
        for c in range(channels):
            at, end = c * pixels + start, c * pixels + start + n
            f, s, o, a, b = run(first, at, end), run(second, at, end), run(out, at, end), scale[c], bias[c]
            for p in range(n):
                o[p] = mixed(weights[p], f[p], s[p], a, b)
    elif channels == 3 and not planar_in:
        # Written out: LLVM turns stride 3 into whole vector loads only where it sees all three channels.
        a0, a1, a2, b0, b1, b2 = scale[0], scale[1], scale[2], bias[0], bias[1], bias[2]
        at, end = 3 * start, 3 * (start + n)
        f, s = run(first, at, end), run(second, at, end)
        if planar_out:
            o0, o1 = run(out, start, start + n), run(out, pixels + start, pixels + start + n)
            o2 = run(out, 2 * pixels + start, 2 * pixels + start + n)
            for p in range(n):
                o0[p] = mixed(weights[p], f[3 * p], s[3 * p], a0, b0)
                o1[p] = mixed(weights[p], f[3 * p + 1], s[3 * p + 1], a1, b1)
                o2[p] = mixed(weights[p], f[3 * p + 2], s[3 * p + 2], a2, b2)
        else:
            o = run(out, at, end)
            for p in range(n):
                o[3 * p] = mixed(weights[p], f[3 * p], s[3 * p], a0, b0)
                o[3 * p + 1] = mixed(weights[p], f[3 * p + 1], s[3 * p + 1], a1, b1)
                o[3 * p + 2] = mixed(weights[p], f[3 * p + 2], s[3 * p + 2], a2, b2)
    else:
        pixel_in, channel_in = (1, pixels) if planar_in else (channels, 1)
        pixel_out, channel_out = (1, pixels) if planar_out else (channels, 1)
        for c in range(channels):
            for p in range(n):
                source = (start + p) * pixel_in + c * channel_in
                value = mixed(weights[p], first[source], second[source], scale[c], bias[c])
                out[(start + p) * pixel_out + c * channel_out] = value


@kernel
def fill_rows(tile: np.ndarray, base: float, columns: int, left: int, right: int) -> None:
    """Rows of `base`, 0 from `left` to `right`.

    Parameters
    ----------
    tile : float32 (a multiple of columns,); overwritten
    base : float
    columns, left, right : int
    """
    fill(tile, np.float32(base))
    for row in range(0, tile.size if right > left else 0, columns):
        fill(run(tile, row + left, row + right), np.float32(0.0))


@kernel
def blend_box(
    out: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    base: float,
    box: Any,
    columns: int,
    channels: int,
    planar: bool,
    taken_apart: bool,
    room: np.ndarray,
) -> None:
    """Mix bytes where the mask is `base` but for a box of 0: evenly, then copy the box.

    Where no weight changes from pixel to pixel, interleaved bytes are mixed as they lie and then taken apart, once
    rather than once a view. Where `base` is 1 the second view is read in the box only.

    Parameters
    ----------
    out, first, second : uint8 (P * C,); `out` is overwritten
    base : float in [0, 1]
    box : 4 int, top, bottom, left, right
    columns, channels : int
    planar : bool, `first` and `second` are (C, P) rather than (P, C)
    taken_apart : bool, `out` is (3, P) of (P, 3), rather than as `first` and `second`
    room : uint8 (at least 3,); changed
    """
    pixels = out.size // channels
    top, bottom, left, right = box
    weight = np.int16(np.int32(np.float32(base) * np.float32(_ONE) - np.float32(0.5)))
    if taken_apart:
        red, green, blue = run(out, 0, pixels), run(out, pixels, 2 * pixels), run(out, 2 * pixels, 3 * pixels)
        if weight == _ONE:
            take_apart(first, red, green, blue)
        else:
            most = room.size // 3
            for start in range(0, pixels, most):
                end = smaller(start + most, pixels)
                mix_run(room, run(first, 3 * start, 3 * end), run(second, 3 * start, 3 * end), weight)
                take_apart(room, run(red, start, end), run(green, start, end), run(blue, start, end))
        for y in range(top, bottom):
            start, end = y * columns + left, y * columns + right
            values = run(second, 3 * start, 3 * end)
            take_apart(values, run(red, start, end), run(green, start, end), run(blue, start, end))
        return
    mix_run(out, first, second, weight)
    planes, step = (channels, 1) if planar else (1, channels)
    for c in range(planes):
        for y in range(top, bottom):
            start, end = c * pixels + (y * columns + left) * step, c * pixels + (y * columns + right) * step
            copy_run(run(out, start, end), run(second, start, end))


@kernel
def mix_run(out: np.ndarray, first: np.ndarray, second: np.ndarray, weight: int) -> None:
    """Mix bytes in a row by one weight.

    Parameters
    ----------
    out : uint8 (at least n,); changed
    first, second : uint8 (n,)
    weight : int16, -32768 for 1
    """
    if weight == _ONE:
        copy_run(out, first)
    else:
        for i in range(first.size):
            out[i] = mixed(weight, first[i], second[i], np.float32(1.0), np.float32(0.0))


@kernel
def copy_run(out: np.ndarray, values: np.ndarray) -> None:
    """Copy bytes in a row; Numba's own assignment of slices takes them one by one.

    Parameters
    ----------
    out : uint8 (n,); overwritten
    values : uint8 (n,)
    """
    for i in range(values.size):
        out[i] = values[i]


@kernel
def take_apart(values: np.ndarray, red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> None:
    """Interleaved bytes as three planes.

    Parameters
    ----------
    values : uint8 (at least 3 n,)
    red, green, blue : uint8 (n,); overwritten
    """
    for p in range(red.size):
        red[p], green[p], blue[p] = values[3 * p], values[3 * p + 1], values[3 * p + 2]
