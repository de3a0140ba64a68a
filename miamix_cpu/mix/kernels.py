"""The two jitted entry points that mix some samples of a batch: bytes into bytes, and anything into float32.

A mask is made, measured and used some rows at a time, so that all of it happens in the L1 cache.
"""

from __future__ import annotations

import numpy as np

from miamix_cpu.jit.flags import entry
from miamix_cpu.jit.intrinsics import array_at
from miamix_cpu.mix.blend import blend, blend_box, fill_tile, to_weights
from miamix_cpu.mix.merge import STEPS, constant_and_box, merge, nominal_lam, steps_of, steps_of_box

TILE = 1536  # pixels mixed at a time, in whole rows


@entry
def mix_bytes(
    out: np.ndarray,
    lam: np.ndarray,
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
) -> None:
    """Mix samples `begin` to `end` of uint8 views into uint8.

    Parameters
    ----------
    out : uint8 (N, T * P * C), C-contiguous, P = height * width, T frames of a clip or 1; changed
    lam : float32 (N,); changed
    masks : float32 (N, P), changed, or (0, any) where they are not wanted
    holes : float32 (S, P), C-contiguous
    slots : int64 (L,), the layers' holes, negative for those that need none (`merge.constant_and_box`)
    first, second : uint64 (N,), addresses of each sample's first view and of its partner's second view
    layers, first_layer : the plan's
    begin, end : int
    height, width : int, pixels
    multiplied : bool, merge="mul" rather than "sum"
    measured : bool, lam_from="merged" rather than "orig"
    planar_in : bool, each frame is (C, H, W) rather than (H, W, C)
    planar_out : bool, (C, T, H, W) rather than (T, H, W, C)
    scale, bias : float32 (C,); only their number counts
    """
    channels, pixels = scale.size, height * width
    frames, size = out.shape[1] // (pixels * channels), pixels * channels
    tile = np.empty(max(1, min(height, TILE // width)) * width, np.float32)
    weights, room = np.empty(tile.size, np.int16), np.empty(3 * tile.size, np.uint8)
    alike = planar_in == planar_out or channels == 1
    split = channels == 3 and planar_out and not planar_in
    for i in range(begin, end):
        a, b = first_layer[i], first_layer[i + 1]
        base, box = constant_and_box(layers[a:b], slots[a:b], height, width, multiplied)
        f, s = array_at(first[i], frames * size, np.uint8), array_at(second[i], frames * size, np.uint8)
        without_holes = masks.shape[0] == 0
        for j in range(a, b):
            without_holes = without_holes and slots[j] < 0
        steps = steps_of_box(base, box, pixels) if without_holes else np.int64(0)
        if without_holes and frames == 1 and (alike or split):
            blend_box(out[i], f, s, base, box, width, channels, planar_in, not alike, room)
        else:
            for start in range(0, pixels, tile.size):
                n = min(tile.size, pixels - start)
                mask = masks[i, start : start + n] if masks.shape[0] else tile[:n]
                if without_holes:
                    fill_tile(mask, start, base, width, box)
                else:
                    merge(mask, start, holes, slots[a:b], base, multiplied)
                    steps += steps_of(mask)
                to_weights(weights, mask)
                for t in range(0, frames * size, size):
                    blend(
                        out[i], f[t : t + size], s[t : t + size], weights[:n], start, t // channels + start,
                        planar_in, planar_out, scale, bias,
                    )  # fmt: skip
        lam[i] = steps / (pixels * np.float64(STEPS)) if measured else nominal_lam(layers[a:b])


@entry
def mix_floats(
    out: np.ndarray,
    lam: np.ndarray,
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
    """Mix samples `begin` to `end` of uint8 or float32 views into float32.

    Parameters
    ----------
    out : float32 (N, T * P * C), C-contiguous; changed
    lam, masks, holes, slots, first, second, layers, first_layer : as in `mix_bytes`
    begin, end, height, width, multiplied, measured, planar_in, planar_out : as in `mix_bytes`
    scale, bias : float32 (C,), applied to the mixed values
    like : an array of the views' dtype, with any values
    """
    channels, pixels = scale.size, height * width
    frames, size = out.shape[1] // (pixels * channels), pixels * channels
    tile = np.empty(max(1, min(height, TILE // width)) * width, np.float32)
    for i in range(begin, end):
        a, b = first_layer[i], first_layer[i + 1]
        base, box = constant_and_box(layers[a:b], slots[a:b], height, width, multiplied)
        f, s = array_at(first[i], frames * size, like.dtype), array_at(second[i], frames * size, like.dtype)
        without_holes = masks.shape[0] == 0
        for j in range(a, b):
            without_holes = without_holes and slots[j] < 0
        steps = 0
        for start in range(0, pixels, tile.size):
            n = min(tile.size, pixels - start)
            mask = masks[i, start : start + n] if masks.shape[0] else tile[:n]
            if without_holes:
                fill_tile(mask, start, base, width, box)
            else:
                merge(mask, start, holes, slots[a:b], base, multiplied)
                steps += steps_of(mask)
            for t in range(0, frames * size, size):
                blend(
                    out[i], f[t : t + size], s[t : t + size], mask, start, t // channels + start,
                    planar_in, planar_out, scale, bias,
                )  # fmt: skip
        if without_holes:
            steps = steps_of_box(base, box, pixels)
        lam[i] = steps / (pixels * np.float64(STEPS)) if measured else nominal_lam(layers[a:b])
