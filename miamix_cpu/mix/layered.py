"""More than one partner: each layer of a sample brings its own (`MiAMixConfig(partners="layer")`).

The first view's weight at a pixel is what all layers leave, as with one partner. A layer's partner has what the layer
takes of what those before it left. So the weights of a pixel sum to 1, and their means are the weights of the labels.
Pixels are mixed from the last layer to the first: each time by the share that the layer leaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from miamix_cpu.jit.flags import allocating, entry, kernel
from miamix_cpu.jit.intrinsics import array_at
from miamix_cpu.mix.blend import ONE, blend
from miamix_cpu.mix.merge import STEPS, steps_of

TILE = 1536  # pixels mixed at a time, in whole rows


def as_weight(share: Any, weights: Any) -> Any:
    """A share as a weight: itself, or fixed point where `weights` are int16 (`blend.to_weights`)."""
    return np.int16(share * ONE - 0.5) if weights.dtype == np.int16 else share


@overload(as_weight)
def _as_weight(share, weights):  # type: ignore[no-untyped-def]  # Numba compares signatures
    if weights.dtype == types.int16:
        return lambda share, weights: np.int16(np.int32(share * np.float32(ONE) - np.float32(0.5)))
    return lambda share, weights: share


@kernel
def take(left: np.ndarray, weights: np.ndarray, hole: np.ndarray, multiplied: bool) -> None:
    """Let a layer take its part of what is left.

    Parameters
    ----------
    left : float32 (p,), in [0, 1]; changed: left * (1 - hole) (eq. 10), or max(0, left - hole) (eq. 11)
    weights : int16 or float32 (p,); overwritten with the share that it leaves, as the weights of `blend`
    hole : float32 (p,), in [0, 1]
    multiplied : bool, eq. 10 rather than eq. 11
    """
    if multiplied:
        for p in range(left.size):
            share = np.float32(1.0) - hole[p]
            left[p] = left[p] * share
            weights[p] = as_weight(share, weights)
        return
    for p in range(left.size):
        rest = max(np.float32(0.0), left[p] - hole[p])
        share = rest / left[p] if left[p] > np.float32(0.0) else np.float32(0.0)
        left[p] = rest
        weights[p] = as_weight(share, weights)


@kernel
def take_evenly(left: np.ndarray, weights: np.ndarray, ratio: float, multiplied: bool) -> None:
    """`take` for a hole that is its ratio everywhere, subtracted in float64 as in `merge.constant_and_box`.

    Parameters
    ----------
    left, weights, multiplied : as in `take`
    ratio : float in [0, 1]
    """
    even = np.float32(1.0 - ratio)
    for p in range(left.size):
        rest = left[p] * even if multiplied else np.float32(max(0.0, np.float64(left[p]) - ratio))
        share = even if multiplied else rest / left[p] if left[p] > np.float32(0.0) else np.float32(0.0)
        left[p] = rest
        weights[p] = as_weight(share, weights)


@kernel
def leave(weights: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    """The shares that a layer leaves, as the weights of `blend`, where the weights of views are known.

    Parameters
    ----------
    weights : int16 or float32 (p,); overwritten
    before, after : float32 (p,), what is left before and after the layer
    """
    for p in range(weights.size):
        share = after[p] / before[p] if before[p] > np.float32(0.0) else np.float32(0.0)
        weights[p] = as_weight(share, weights)


@allocating
def compose(
    out: np.ndarray,
    rooms: np.ndarray,
    views: np.ndarray,
    weights: np.ndarray,
    start: int,
    stop: int,
    frames: int,
    planar_in: bool,
    planar_out: bool,
    scale: np.ndarray,
    bias: np.ndarray,
    like: np.ndarray,
) -> None:
    """Mix pixels `start` to `stop` of all frames, from the last layer to the first.

    Parameters
    ----------
    out : uint8, int16, uint16 or float32 (T * P * C,); changed
    rooms : like `out` (2, at least (stop - start) * C); overwritten
    views : uint64 (V,), addresses of T frames (P, C), or (C, P), the first view's and those of the layers; V > 1
    weights : int16 where bytes become bytes, else float32 (V - 1, at least stop - start), of what each layer leaves
    start, stop, frames : int
    planar_in, planar_out : bool, (T, C, P) and (C, T, P) rather than (T, P, C)
    scale, bias : float32 (C,)
    like : an array of the views' dtype, with any values
    """
    channels, n = scale.size, stop - start
    pixels = out.size // (frames * channels)
    # Planes are mixed one by one: what is mixed at a time lies in one piece.
    parts, step = (channels, 1) if planar_in else (1, channels)
    ones, zeros = np.ones(step, np.float32), np.zeros(step, np.float32)
    last, straight = views.size - 1, planar_out or not planar_in or channels == 1
    for part in range(frames * parts):
        t, c = part // parts, part % parts
        low = (t * pixels * channels) + c * pixels + start * step
        first = array_at(views[0], out.size, like.dtype)[low : low + n * step]
        for v in range(last, 0, -1):
            second = array_at(views[v], out.size, like.dtype)[low : low + n * step]
            w, room, before = weights[v - 1, :n], rooms[v % 2, : n * step], rooms[(v + 1) % 2, : n * step]
            if v > 1 and v == last:
                blend(room, first, second, w, np.int64(0), np.int64(0), False, False, ones, zeros)
            elif v > 1:
                blend(room, before, second, w, np.int64(0), np.int64(0), False, False, ones, zeros)
            elif straight:
                whole = out[c * frames * pixels : (c + 1) * frames * pixels] if planar_in else out
                a, b = (scale[c : c + 1], bias[c : c + 1]) if planar_in else (scale, bias)
                if v == last:
                    blend(whole, first, second, w, np.int64(0), t * pixels + start, False, planar_out, a, b)
                else:
                    blend(whole, before, second, w, np.int64(0), t * pixels + start, False, planar_out, a, b)
            else:
                a, b = scale[c : c + 1], bias[c : c + 1]
                if v == last:
                    blend(room, first, second, w, np.int64(0), np.int64(0), False, False, a, b)
                else:
                    blend(room, before, second, w, np.int64(0), np.int64(0), False, False, a, b)
                for p in range(n):
                    out[(t * pixels + start + p) * channels + c] = room[p]


@entry
def mix_layers(
    out: np.ndarray,
    shares: np.ndarray,
    masks: np.ndarray,
    weights: np.ndarray,
    rooms: np.ndarray,
    holes: np.ndarray,
    slots: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    layers: np.ndarray,
    first_layer: np.ndarray,
    begin: int,
    end: int,
    height: int,
    width: int,
    multiplied: bool,
    measured: bool,
    planar_in: bool,
    planar_out: bool,
    scale: np.ndarray,
    bias: np.ndarray,
    like: np.ndarray,
) -> None:
    """Mix samples `begin` to `end`, each with the partners of its layers.

    Parameters
    ----------
    out : uint8 or float32 (N, T * P * C), C-contiguous; changed
    shares : float64 (N, K + 1), zeros; changed to the weights of the first views and of the layers' partners
    masks : float32 (N, K + 1, P), zeros, changed to these weights by pixel; or (0, any, any) where they are not wanted
    weights : int16 where bytes become bytes, else float32 (at least K, p); overwritten, for p pixels at a time
    rooms : like `out` (2, p * C); overwritten
    holes, slots, layers, first_layer, begin, end, height, width : as in `kernels.mix_bytes`
    first : uint64 (N,), addresses of the first views
    second : uint64 (L,), addresses of the views of the layers' partners
    multiplied, measured, planar_in, planar_out : as in `kernels.mix_bytes`
    scale, bias : float32 (C,), applied to the mixed values
    like : an array of the views' dtype, with any values
    """
    pixels, most, tile = height * width, shares.shape[1], weights.shape[1]
    frames = out.shape[1] // (pixels * scale.size)
    left = np.empty(tile, np.float32)
    views, steps = np.empty(max(2, most), np.uint64), np.empty(most, np.int64)
    for i in range(begin, end):
        a, b = first_layer[i], first_layer[i + 1]
        views[0] = views[1] = first[i]
        for j in range(a, b):
            views[1 + j - a] = second[j]
        steps[:] = 0
        for start in range(0, pixels, tile):
            n = min(tile, pixels - start)
            rest = left[:n]
            for p in range(n):
                rest[p] = np.float32(1.0)
                weights[0, p] = as_weight(np.float32(1.0), weights)
            for j in range(a, b):
                if masks.shape[0]:
                    masks[i, 1 + j - a, start : start + n] = rest
                if slots[j] < 0:
                    take_evenly(rest, weights[j - a, :n], layers[j]["ratio"], multiplied)
                else:
                    take(rest, weights[j - a, :n], holes[slots[j], start : start + n], multiplied)
                steps[1 + j - a] += steps_of(rest)
                if masks.shape[0]:
                    masks[i, 1 + j - a, start : start + n] -= rest
            if masks.shape[0]:
                masks[i, 0, start : start + n] = rest
            compose(
                out[i], rooms, views[: max(2, 1 + b - a)], weights, start, start + n, frames,
                planar_in, planar_out, scale, bias, like,
            )  # fmt: skip
        share = 1.0
        for j in range(a, b):
            now = steps[1 + j - a] / (pixels * np.float64(STEPS)) if measured else max(0.0, share - layers[j]["ratio"])
            shares[i, 1 + j - a] = share - now
            share = now
        shares[i, 0] = share


@entry
def compose_maps(
    out: np.ndarray,
    weights: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    first_layer: np.ndarray,
    channels: int,
    planar_in: bool,
    planar_out: bool,
    fixed: np.ndarray,
    rooms: np.ndarray,
) -> None:
    """Mix values by the weights of all views, as images are mixed (`companions.blend_maps`).

    Parameters
    ----------
    out : uint8, int16, uint16 or float32 (N, T * P * C), C-contiguous; overwritten
    weights : float32 (N, K + 1, P), C-contiguous
    first, second : uint64 (N,), (L,), addresses of the first views, and of those of the layers' partners
    first_layer : the plan's
    channels : int
    planar_in, planar_out : bool, (T, C, P) and (C, T, P) rather than (T, P, C)
    fixed : int16 for uint8, else float32 (at least K, p); overwritten, for p pixels at a time
    rooms : like `out` (2, p * C); overwritten
    """
    n, most, pixels = weights.shape
    views, tile, frames = np.empty(max(2, most), np.uint64), fixed.shape[1], out.shape[1] // (pixels * channels)
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    before, after = np.empty(tile, np.float32), np.empty(tile, np.float32)
    for i in range(n):
        a, b = first_layer[i], first_layer[i + 1]
        views[0] = views[1] = first[i]
        for j in range(a, b):
            views[1 + j - a] = second[j]
        for start in range(0, pixels, tile):
            stop = min(start + tile, pixels)
            after[: stop - start] = weights[i, 0, start:stop]
            for p in range(stop - start):
                fixed[0, p] = as_weight(np.float32(1.0), fixed)
            for v in range(b - a, 0, -1):
                before[: stop - start] = after[: stop - start] + weights[i, v, start:stop]
                leave(fixed[v - 1, : stop - start], before[: stop - start], after[: stop - start])
                after[: stop - start] = before[: stop - start]
            compose(
                out[i], rooms, views[: max(2, 1 + b - a)], fixed, start, stop, frames,
                planar_in, planar_out, ones, zeros, out,
            )  # fmt: skip


def room_for(
    views: int, height: int, width: int, channels: int, source: Any, target: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return buffers for some rows of pixels: the weights of layers, and what they are mixed into.

    Parameters
    ----------
    views : int, at most in a sample
    height, width, channels : int
    source, target : dtypes of the views and of the result
    """
    pixels = max(1, min(height, TILE // width)) * width
    weights = np.empty((max(1, views - 1), pixels), np.int16 if source == target == np.uint8 else np.float32)
    return weights, np.empty((2, pixels * channels), target)
