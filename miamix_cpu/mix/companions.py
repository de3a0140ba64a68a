"""What is mixed along with the images, by the same masks: maps of classes, depth, further images (`also`)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from miamix_cpu.jit.flags import entry
from miamix_cpu.jit.intrinsics import array_at
from miamix_cpu.masks.resample import average_area
from miamix_cpu.memory import empty_array
from miamix_cpu.mix.blend import blend, to_weights
from miamix_cpu.mix.layered import compose_maps, room_for
from miamix_cpu.mix.resize import resized_views
from miamix_cpu.plan.mix_plan import MixPlan
from miamix_cpu.samples.addresses import Gathered
from miamix_cpu.samples.companions import Way
from miamix_cpu.samples.images import Images

#: Values that are taken whole are moved as bits, so that kernels are compiled for four types at most.
_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def companion_shape(way: Way, values: Images, planar: bool) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and dtype of an entry when it is mixed.

    Parameters
    ----------
    way : Way
    values : Images, of all samples
    planar : bool

    Returns
    -------
    tuple, dtype
        (N, h, w) where it has no axis of channels, otherwise as `Images.mixed_shape`, of its own dtype; "soft" gives
        float32 (N, classes, h, w).
    """
    example = values.arrays[0]
    if way.name == "soft":
        return (len(values.arrays), way.classes, *values.size), np.dtype(np.float32)
    shape = (len(values.arrays), *example.shape) if example.ndim == 2 else values.mixed_shape(planar)
    return shape, example.dtype


def mix_companion(
    plan: MixPlan, way: Way, first: Images, second: Gathered, out: np.ndarray, masks: np.ndarray, planar_out: bool
) -> None:
    """Mix an entry of all samples by their masks.

    Parameters
    ----------
    plan : MixPlan
    way : Way
    first : Images
    second : Gathered, the entry's second views by sample
    out : array of `companion_shape`, C-contiguous; overwritten
    masks : float32 (N, H, W), or (N, K + 1, H, W) where each layer has a partner of its own
    planar_out : bool, (N, C, .., h, w) rather than (N, .., h, w, C)
    """
    size, channels, n = first.size, first.channels, len(plan)
    weights = masks
    if size != masks.shape[-2:]:
        weights = np.empty((*masks.shape[:-2], *size), np.float32)
        average_masks(weights.reshape(-1, *size), masks.reshape(-1, plan.height, plan.width))
    dtype = first.gathered.dtype if way.name == "blend" else np.dtype(_BITS[first.gathered.dtype.itemsize])
    others = second.addresses[plan.layers_partner if plan.is_layered else plan.partner]
    starts = np.arange(len(others) + 1) if plan.is_layered else plan.first_layer
    view, nearest = (*size, channels, first.planar), way.name != "blend"
    _kept = resized_views(plan, others, starts, 0, len(others), dtype, first.arrays[0].size, view, nearest)
    flat = weights.reshape(*weights.shape[:-2], -1)
    views = first.gathered.addresses, others, *((plan.first_layer,) if plan.is_layered else ())
    layout = channels, first.planar, planar_out
    if way.name == "soft":
        out[:] = 0
        add = add_classes_of_layers if plan.is_layered else add_classes
        add(out.reshape(n, way.classes, -1), flat, *views, _like(dtype.str))
    elif way.name == "choose":
        choose = choose_of_layers if plan.is_layered else choose_pixels
        choose(out.view(dtype).reshape(n, -1), flat, *views, *layout)
    elif plan.is_layered:
        room = room_for(flat.shape[1], *size, channels, dtype, dtype)
        compose_maps(out.reshape(n, -1), flat, *views, *layout, *room)
    else:
        if dtype == np.uint8:
            fixed = np.empty(flat.shape, np.int16)
            fix_weights(fixed, flat)
            flat = fixed
        blend_maps(out.reshape(n, -1), flat, *views, *layout)


def mixed_companion(plan: MixPlan, way: Way, views: Any, masks: Any) -> np.ndarray:
    """Return an entry of all samples mixed by their masks, channels last but for "soft".

    Parameters
    ----------
    plan, way, masks : as in `mix_companion`
    views : its `first` and `second`
    """
    first, second = views
    planar = way.name == "soft"
    out = empty_array(*companion_shape(way, first, planar))
    mix_companion(plan, way, first, second, out, masks, planar)
    return out


@cache
def _like(dtype: str) -> np.ndarray:
    return np.empty(0, dtype)


@entry
def average_masks(out: np.ndarray, masks: np.ndarray) -> None:
    """Average masks down to the size of smaller maps.

    Where all of a mask's pixels are 1 or 0, the average is too, without an error of rounding: there the other view
    does not count, be it infinite, NaN, or no part of a resized partner (`resize.paste_resized`).

    Parameters
    ----------
    out : float32 (N, h, w), C-contiguous; overwritten
    masks : float32 (N, H, W), in [0, 1], C-contiguous
    """
    holes, taken = np.empty(masks.shape[1:], np.float32), np.empty(out.shape[1:], np.float32)
    holes_flat, taken_flat = holes.ravel(), taken.ravel()
    for i in range(masks.shape[0]):
        mask, left = masks[i].ravel(), out[i].ravel()
        for p in range(mask.size):
            holes_flat[p] = np.float32(1.0) - mask[p]
        average_area(out[i], masks[i])
        average_area(taken, holes)
        for p in range(left.size):
            left[p] /= left[p] + taken_flat[p]


@entry
def fix_weights(out: np.ndarray, masks: np.ndarray) -> None:
    """Make masks the weights of bytes (`blend.to_weights`).

    Parameters
    ----------
    out : int16 (N, P), C-contiguous; overwritten
    masks : float32 (N, P), C-contiguous
    """
    for i in range(masks.shape[0]):
        to_weights(out[i], masks[i])


@entry
def blend_maps(
    out: np.ndarray,
    weights: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    channels: int,
    planar_in: bool,
    planar_out: bool,
) -> None:
    """Mix values by the weights of the first views, as images are mixed.

    Parameters
    ----------
    out : uint8, int16, uint16 or float32 (N, T * P * C), C-contiguous; overwritten
    weights : float32 (N, P), C-contiguous; int16 for uint8 (`fix_weights`)
    first, second : uint64 (N,), addresses of T frames (P, C) each, or (C, P), of the dtype of `out`
    channels : int
    planar_in, planar_out : bool, (T, C, P) and (C, T, P) rather than (T, P, C)
    """
    n, pixels = weights.shape
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    size = pixels * channels
    for i in range(n):
        f, s = array_at(first[i], out.shape[1], out.dtype), array_at(second[i], out.shape[1], out.dtype)
        for t in range(0, out.shape[1], size):
            now, then = f[t : t + size], s[t : t + size]
            blend(out[i], now, then, weights[i], np.int64(0), t // channels, planar_in, planar_out, ones, zeros)


@entry
def choose_pixels(
    out: np.ndarray,
    weights: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    channels: int,
    planar_in: bool,
    planar_out: bool,
) -> None:
    """Take each pixel from the view whose weight is larger; from the first where both are 1/2.

    Parameters
    ----------
    out : unsigned integers (N, T * P * C), C-contiguous; overwritten
    weights : float32 (N, P), C-contiguous
    first, second, channels, planar_in, planar_out : as in `blend_maps`
    """
    n, pixels = weights.shape
    frames = out.shape[1] // (pixels * channels)
    step_in, plane_in = (1, pixels) if planar_in else (channels, 1)
    step_out, plane_out = (1, frames * pixels) if planar_out else (channels, 1)
    for i in range(n):
        f, s = array_at(first[i], out.shape[1], out.dtype), array_at(second[i], out.shape[1], out.dtype)
        for t in range(frames):
            for c in range(channels):
                now, then = f[t * pixels * channels + c * plane_in :], s[t * pixels * channels + c * plane_in :]
                o, w = out[i][t * pixels * step_out + c * plane_out :], weights[i]
                if step_in == 1 and step_out == 1:
                    for p in range(pixels):
                        a, b = now[p], then[p]  # both are read, so that it is a select and no branch
                        o[p] = a if w[p] >= np.float32(0.5) else b
                else:
                    for p in range(pixels):
                        value = now[p * step_in] if w[p] >= np.float32(0.5) else then[p * step_in]
                        o[p * step_out] = value


@entry
def add_classes(out: np.ndarray, weights: np.ndarray, first: np.ndarray, second: np.ndarray, like: np.ndarray) -> None:
    """Give the class that each view has at a pixel the view's weight.

    Parameters
    ----------
    out : float32 (N, classes, P), zeros, C-contiguous; changed
    weights : float32 (N, P), C-contiguous
    first, second : uint64 (N,), addresses of maps (P,) of classes
    like : an array of the maps' dtype, with any values
    """
    n, pixels = weights.shape
    for i in range(n):
        f, s = array_at(first[i], pixels, like.dtype), array_at(second[i], pixels, like.dtype)
        w = weights[i]
        for p in range(pixels):
            taken = np.float32(1.0) - w[p]
            out[i, f[p], p] += np.float32(1.0) - taken
            out[i, s[p], p] += taken


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
    weights, first, second, first_layer, channels, planar_in, planar_out : as in `compose_maps`
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
    weights, first, second, first_layer : as in `compose_maps`
    like : an array of the maps' dtype, with any values
    """
    n, _, pixels = weights.shape
    for i in range(n):
        a, b = first_layer[i], first_layer[i + 1]
        for v in range(1 + b - a):
            view = array_at(first[i] if v == 0 else second[a + v - 1], pixels, like.dtype)
            for p in range(pixels):
                out[i, view[p], p] += weights[i, v, p]
