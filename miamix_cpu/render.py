"""One compiled call a batch: a pure function of a plan and the views, without any random state."""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.compile import entry, inlined
from miamix_cpu.config import MIXUP
from miamix_cpu.gather import array_at
from miamix_cpu.masks import constant_part, fill_hole, most_harmonics, single_box, smooth
from miamix_cpu.masks.fmix import make_tables
from miamix_cpu.output import BYTES_TO_BYTES, STEPS, blend_box, blend_image, merge, steps_of_box

_BLOCK = 1536  # pixels mixed at a time


@entry
def render(
    kind: int,
    out: np.ndarray,
    lam: np.ndarray,
    masks: np.ndarray,
    scratch: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    layers: np.ndarray,
    first_layer: np.ndarray,
    coefficients: np.ndarray,
    height: int,
    width: int,
    multiplied: bool,
    measured: bool,
    planar_in: bool,
    planar_out: bool,
    scale: np.ndarray,
    bias: np.ndarray,
) -> None:
    """Render the masks of a batch, measure them, and mix.

    Parameters
    ----------
    kind : int, BYTES_TO_BYTES, BYTES_TO_FLOATS or FLOATS_TO_FLOATS
    out : uint8 (N, bytes of an image), C-contiguous; overwritten with uint8 or float32 values
    lam : float64 (N,); overwritten
    masks : float32 (N, H, W), overwritten, or (0, H, W) where they are not wanted
    scratch : float32 (3, product.padded(H, W)); changed
    first, second : uint64 (N,), addresses of sample i's first view and of its partner's second view
    layers, first_layer, coefficients, height, width : the plan's
    multiplied : bool, merge="mul" rather than "sum"
    measured : bool, lam_from="merged" rather than "orig"
    planar_in, planar_out : bool, (C, H, W) rather than (H, W, C)
    scale, bias : float32 (C,), applied to the mixed values unless bytes become bytes
    """
    tables = make_tables(height, width, most_harmonics(layers))
    shape, pixels, spare = (height, width), height * width, scratch[2]
    own, hole = scratch[0, :pixels].reshape(shape), scratch[1, :pixels].reshape(shape)
    tile = np.empty(max(1, min(height, _BLOCK // width)) * width, np.float32)
    weights, room = np.empty(tile.size, np.int16), np.empty(3 * tile.size, np.uint8)
    alike = planar_in == planar_out or scale.size == 1
    taken_apart = scale.size == 3 and planar_out and not planar_in
    for i in range(out.shape[0]):
        mask = masks[i] if masks.shape[0] else own
        chosen = layers[first_layer[i] : first_layer[i + 1]]
        boxed, box = single_box(chosen, height, width)
        boxed = boxed and masks.shape[0] == 0
        base = constant_part(chosen, multiplied)
        holes = np.int64(0)  # a literal would have everything that takes it compiled twice
        if not boxed:
            holes = draw_holes(mask, hole, chosen, coefficients, tables, spare, base, multiplied)
        if boxed and kind == BYTES_TO_BYTES and (alike or taken_apart):
            values = pixels * scale.size
            f, s = array_at(first[i], values, np.uint8), array_at(second[i], values, np.uint8)
            blend_box(out[i], f, s, base, box, width, scale.size, planar_in, not alike, room)
            steps = 0
        else:
            steps = blend_image(
                kind, out[i], first[i], second[i], mask.reshape(pixels), hole.reshape(pixels), holes, base, multiplied,
                boxed, box, width, tile, weights, planar_in, planar_out, scale, bias,
            )  # fmt: skip
        if boxed:
            steps = steps_of_box(base, (box[1] - box[0]) * (box[3] - box[2]), pixels)
        lam[i] = steps / (pixels * np.float64(STEPS)) if measured else nominal_lam(chosen)


@inlined
def nominal_lam(layers: np.ndarray) -> float:
    """1 - sum of the ratios (Table 7).

    Parameters
    ----------
    layers : `plan.LAYER` (k,)
    """
    left = 1.0
    for j in range(layers.size):
        left -= layers[j]["ratio"]
    return max(0.0, left)


@inlined
def draw_holes(
    mask: np.ndarray,
    hole: np.ndarray,
    layers: np.ndarray,
    coefficients: np.ndarray,
    tables: Any,
    spare: np.ndarray,
    base: float,
    multiplied: bool,
) -> int:
    """Render the holes of one sample but the constant ones; return how many. The last is left to be merged (`merge`).

    Parameters
    ----------
    mask, hole : float32 (H, W), C-contiguous; overwritten
    layers : `plan.LAYER` (k,)
    coefficients : float32 (m,), the plan's
    tables : fmix.make_tables(...)
    spare : float32 (product.padded(H, W),); changed
    base : float, constant_part(layers, multiplied)
    multiplied : bool, merge="mul" rather than "sum"
    """
    holes = np.int64(0)
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] == MIXUP:
            continue
        if holes >= 2:
            merge(mask.reshape(mask.size), hole.reshape(mask.size), holes, base, multiplied)
        into = mask if holes == 0 else hole
        fill_hole(into, layer, coefficients, tables, spare)
        if layer["window"] > 0:
            smooth(into, layer["window"])
        holes += 1
    return holes  # type: ignore[return-value]
