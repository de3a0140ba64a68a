"""More than one partner: each layer of a sample brings its own (`MiAMixConfig(partners="layer")`).

The first view's weight at a pixel is what all layers leave, as with one partner. A layer's partner has what the layer
takes of what those before it left. So the weights of a pixel sum to 1, and their means are the weights of the labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from miamix_cpu.jit.flags import allocating, entry, exact, kernel
from miamix_cpu.jit.intrinsics import array_at
from miamix_cpu.mix.merge import STEPS, steps_of

TILE = 1024  # pixels mixed at a time, in whole rows


def stored(value: Any, out: Any) -> Any:
    """A sum of weighted values as what `out` is: floats as they stand, integers rounded."""
    return out.dtype.type(value if out.dtype.kind == "f" else np.floor(value + np.float32(0.5)))


@overload(stored)
def _stored(value, out):  # type: ignore[no-untyped-def]  # Numba compares signatures
    if out.dtype == types.float32:
        return lambda value, out: np.float32(value)
    kind = out.dtype
    return lambda value, out: kind(np.int32(np.floor(value + np.float32(0.5))))


@kernel
def take(left: np.ndarray, taken: np.ndarray, hole: np.ndarray, multiplied: bool) -> None:
    """Let a layer take its part of what is left.

    Parameters
    ----------
    left : float32 (p,), in [0, 1]; changed: left * (1 - hole) (eq. 10), or max(0, left - hole) (eq. 11)
    taken : float32 (p,); overwritten with the difference
    hole : float32 (p,), in [0, 1]
    multiplied : bool, eq. 10 rather than eq. 11
    """
    for p in range(left.size):
        rest = left[p] * (np.float32(1.0) - hole[p]) if multiplied else max(np.float32(0.0), left[p] - hole[p])
        taken[p] = left[p] - rest
        left[p] = rest


@allocating
def weigh(
    out: np.ndarray,
    room: np.ndarray,
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
    """Mix pixels `start` to `stop` of all frames: the sum of weight times view, then times `scale` plus `bias`.

    A view that has the weight 0 does not count, be it infinite or NaN.

    Parameters
    ----------
    out : uint8, int16, uint16 or float32 (T * P * C,); changed
    room : float32 (at least stop - start,); overwritten
    views : uint64 (V,), addresses of T frames (P, C), or (C, P)
    weights : float32 (V, at least stop - start), of these pixels
    start, stop, frames : int
    planar_in, planar_out : bool, (T, C, P) and (C, T, P) rather than (T, P, C)
    scale, bias : float32 (C,)
    like : an array of the views' dtype, with any values
    """
    channels, n = scale.size, stop - start
    pixels = out.size // (frames * channels)
    step_in, plane_in = (1, pixels) if planar_in else (channels, 1)
    step_out, plane_out = (1, frames * pixels) if planar_out else (channels, 1)
    total = room[:n]
    for t in range(frames):
        for c in range(channels):
            for p in range(n):
                total[p] = np.float32(0.0)
            for v in range(views.size):
                view = array_at(views[v], out.size, like.dtype)
                add_view(total, weights[v], view[t * pixels * channels + c * plane_in + start * step_in :], step_in)
            store(out[c * plane_out + (t * pixels + start) * step_out :], total, step_out, scale[c], bias[c])


@exact
def add_view(total: np.ndarray, weights: np.ndarray, view: np.ndarray, step: int) -> None:
    """Add weight times value, where the weight is not 0.

    Parameters
    ----------
    total : float32 (p,); changed
    weights : float32 (at least p,)
    view : numbers (at least p * step,), of which each `step`-th is used
    step : int
    """
    if step == 1:
        for p in range(total.size):
            total[p] += weights[p] * np.float32(view[p]) if weights[p] > np.float32(0.0) else np.float32(0.0)
        return
    for p in range(total.size):
        value = np.float32(view[p * step])
        total[p] += weights[p] * value if weights[p] > np.float32(0.0) else np.float32(0.0)


@exact
def store(out: np.ndarray, total: np.ndarray, step: int, scale: float, bias: float) -> None:
    """Write mixed values to each `step`-th place, times `scale` plus `bias`.

    Parameters
    ----------
    out : uint8, int16, uint16 or float32 (at least p * step,); changed
    total : float32 (p,)
    step : int
    scale, bias : float32
    """
    for p in range(total.size):
        out[p * step] = stored(total[p] * scale + bias, out)


@entry
def mix_layers(
    out: np.ndarray,
    shares: np.ndarray,
    masks: np.ndarray,
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
    holes, slots, layers, first_layer, begin, end, height, width : as in `kernels.mix_bytes`
    first : uint64 (N,), addresses of the first views
    second : uint64 (L,), addresses of the views of the layers' partners
    multiplied, measured, planar_in, planar_out : as in `kernels.mix_bytes`
    scale, bias : float32 (C,), applied to the mixed values
    like : an array of the views' dtype, with any values
    """
    pixels, most = height * width, shares.shape[1]
    frames = out.shape[1] // (pixels * scale.size)
    tile = max(1, min(height, TILE // width)) * width
    weights, room, constant = np.empty((most, tile), np.float32), np.empty(tile, np.float32), np.empty(tile, np.float32)
    views, steps = np.empty(most, np.uint64), np.empty(most, np.int64)
    for i in range(begin, end):
        a, b = first_layer[i], first_layer[i + 1]
        views[0] = first[i]
        for j in range(a, b):
            views[1 + j - a] = second[j]
        steps[:] = 0
        for start in range(0, pixels, tile):
            n = min(tile, pixels - start)
            left = weights[0, :n]
            for p in range(n):
                left[p] = np.float32(1.0)
            for j in range(a, b):
                hole = constant[:n]
                if slots[j] < 0:
                    for p in range(n):
                        hole[p] = np.float32(layers[j]["ratio"])
                else:
                    hole = holes[slots[j], start : start + n]
                take(left, weights[1 + j - a, :n], hole, multiplied)
                steps[1 + j - a] += steps_of(left)
            for v in range(1 + b - a if masks.shape[0] else 0):
                masks[i, v, start : start + n] = weights[v, :n]
            weigh(
                out[i], room, views[: 1 + b - a], weights, start, start + n, frames,
                planar_in, planar_out, scale, bias, like,
            )  # fmt: skip
        rest = 1.0
        for j in range(a, b):
            now = steps[1 + j - a] / (pixels * np.float64(STEPS)) if measured else max(0.0, rest - layers[j]["ratio"])
            shares[i, 1 + j - a] = rest - now
            rest = now
        shares[i, 0] = rest


@entry
def weigh_maps(
    out: np.ndarray,
    weights: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    first_layer: np.ndarray,
    channels: int,
    planar_in: bool,
    planar_out: bool,
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
    """
    n, most, pixels = weights.shape
    views, room = np.empty(most, np.uint64), np.empty(pixels, np.float32)
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    for i in range(n):
        a, b = first_layer[i], first_layer[i + 1]
        views[0] = first[i]
        for j in range(a, b):
            views[1 + j - a] = second[j]
        frames = out.shape[1] // (pixels * channels)
        weigh(
            out[i], room, views[: 1 + b - a], weights[i], np.int64(0), pixels, frames,
            planar_in, planar_out, ones, zeros, out,
        )  # fmt: skip


@entry
def choose_of_layers(
    out: np.ndarray,
    weights: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    first_layer: np.ndarray,
    channels: int,
    planar_in: bool,
    planar_out: bool,
) -> None:
    """Take each pixel from the view whose weight is largest; from the first of those that are alike.

    Parameters
    ----------
    out : unsigned integers (N, T * P * C), C-contiguous; overwritten
    weights, first, second, first_layer, channels, planar_in, planar_out : as in `weigh_maps`
    """
    n, _, pixels = weights.shape
    frames = out.shape[1] // (pixels * channels)
    step_in, plane_in = (1, pixels) if planar_in else (channels, 1)
    step_out, plane_out = (1, frames * pixels) if planar_out else (channels, 1)
    best, number = np.empty(pixels, np.float32), np.empty(pixels, np.int64)
    for i in range(n):
        a, b = first_layer[i], first_layer[i + 1]
        for p in range(pixels):
            best[p], number[p] = weights[i, 0, p], -1
        for j in range(a, b):
            w = weights[i, 1 + j - a]
            for p in range(pixels):
                if w[p] > best[p]:
                    best[p], number[p] = w[p], j
        for v in range(-1, b):
            if v != -1 and v < a:
                continue
            view = array_at(first[i] if v == -1 else second[v], out.shape[1], out.dtype)
            for t in range(frames):
                for c in range(channels):
                    seen = view[t * pixels * channels + c * plane_in :]
                    o = out[i][t * pixels * step_out + c * plane_out :]
                    for p in range(pixels):
                        if number[p] == v:
                            o[p * step_out] = seen[p * step_in]


@entry
def add_classes_of_layers(
    out: np.ndarray,
    weights: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    first_layer: np.ndarray,
    like: np.ndarray,
) -> None:
    """Give the class that each view has at a pixel the view's weight.

    Parameters
    ----------
    out : float32 (N, classes, P), zeros, C-contiguous; changed
    weights, first, second, first_layer : as in `weigh_maps`
    like : an array of the maps' dtype, with any values
    """
    n, _, pixels = weights.shape
    for i in range(n):
        a, b = first_layer[i], first_layer[i + 1]
        for v in range(1 + b - a):
            view = array_at(first[i] if v == 0 else second[a + v - 1], pixels, like.dtype)
            for p in range(pixels):
                out[i, view[p], p] += weights[i, v, p]
