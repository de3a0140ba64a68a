"""One compiled call a batch: a pure function of a plan and the views, without any random state."""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.jit.arrays import address_of, array_at, empty, run
from miamix_cpu.jit.compile import entry, inlined, kernel
from miamix_cpu.jit.scalars import larger, smaller
from miamix_cpu.masks import constant_part, most_harmonics, single_box
from miamix_cpu.masks.augment import make_room
from miamix_cpu.masks.fmix import make_tables
from miamix_cpu.mix.blend import STEPS, blend, blend_box, fill_rows, merge, steps_of, steps_of_box, to_weights
from miamix_cpu.mix.holes import draw_holes

#: What is mixed into what. One signature for all three: what is alike is compiled once.
BYTES_TO_BYTES, BYTES_TO_FLOATS, FLOATS_TO_FLOATS = 0, 1, 2

_BLOCK = 1536  # pixels mixed at a time
_draw_holes = draw_holes.call


@entry
def render(
    kind: int,
    out: np.ndarray,
    lam: np.ndarray,
    masks: np.ndarray,
    scratch: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    partner: np.ndarray,
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
    draw: int,
) -> None:
    """Render the masks of a batch, measure them, and mix.

    Parameters
    ----------
    kind : int, BYTES_TO_BYTES, BYTES_TO_FLOATS or FLOATS_TO_FLOATS
    out : uint8 (N, bytes of an image), C-contiguous; overwritten with uint8 or float32 values
    lam : float32 (N,); overwritten
    masks : float32 (N, H * W), overwritten, or (0, any) where they are not wanted
    scratch : float32 (3, product.padded(H, W)); changed
    first, second : uint64 (N,), addresses of sample i's two views; of those that nobody mixes in, any image will do
    partner, layers, first_layer, coefficients, height, width : the plan's
    multiplied : bool, merge="mul" rather than "sum"
    measured : bool, lam_from="merged" rather than "orig"
    planar_in, planar_out : bool, (C, H, W) rather than (H, W, C)
    scale, bias : float32 (C,), applied to the mixed values unless bytes become bytes
    draw : int, the address of compiled `holes.draw_holes`
    """
    most, pixels = most_harmonics(layers), height * width
    table_y, table_x = make_tables(height, width, most)
    sums, running = make_room(height, width)
    own, hole = run(scratch[0], 0, pixels), run(scratch[1], 0, pixels)
    tile = empty(larger(1, smaller(height, _BLOCK // width)) * width, np.float32)
    weights, room = empty(tile.size, np.int16), empty(3 * tile.size, np.uint8)
    alike = planar_in == planar_out or scale.size == 1
    taken_apart = scale.size == 3 and planar_out and not planar_in
    for i in range(out.shape[0]):
        mask = masks[i] if masks.shape[0] else own
        chosen = run(layers, first_layer[i], first_layer[i + 1])
        other = second[partner[i]]
        boxed, box = single_box(chosen, height, width)
        boxed = boxed and masks.shape[0] == 0
        base = constant_part(chosen, multiplied)
        holes = np.int64(0)
        if not boxed:
            drawn = _draw_holes(np.uint64(draw), (
                address_of(mask), address_of(hole), np.int64(height), np.int64(width), address_of(chosen),
                np.int64(chosen.size), address_of(coefficients), np.int64(coefficients.size), address_of(table_y),
                address_of(table_x), np.int64(most), address_of(sums), address_of(running), address_of(scratch[2]),
                base, np.int64(multiplied),
            ))  # fmt: skip
            if drawn == 0:
                raise RuntimeError("a mask could not be drawn, for the reason that was printed")
            holes = drawn - 1
        if boxed and kind == BYTES_TO_BYTES and (alike or taken_apart):
            values = pixels * scale.size
            f, s = array_at(first[i], values, np.uint8), array_at(other, values, np.uint8)
            blend_box(out[i], f, s, base, box, width, scale.size, planar_in, not alike, room)
            steps = 0
        else:
            steps = blend_image(
                kind, out[i], first[i], other, mask, hole, holes, base, multiplied,
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
    return larger(0.0, left)  # type: ignore[no-any-return]


@kernel
def blend_image(
    kind: int,
    out: np.ndarray,
    first: np.uint64,
    second: np.uint64,
    mask: np.ndarray,
    hole: np.ndarray,
    holes: int,
    base: float,
    multiplied: bool,
    boxed: bool,
    box: Any,
    columns: int,
    tile: np.ndarray,
    weights: np.ndarray,
    planar_in: bool,
    planar_out: bool,
    scale: np.ndarray,
    bias: np.ndarray,
) -> int:
    """Finish the mask, measure it and mix by it, some rows at a time, so that all of it happens in the first cache.

    A mask that is constant but for a box needs not be made: all rows that cross the box are alike, and so are all
    others. Where it is 1 the second view is not even read.

    Parameters
    ----------
    kind : int, BYTES_TO_BYTES, BYTES_TO_FLOATS or FLOATS_TO_FLOATS
    out : uint8 (bytes of an image,); overwritten with uint8 or float32 values
    first, second : uint64, the views' addresses
    mask, hole, holes, base, multiplied : as in `output.merge`; `mask` is overwritten, unless `boxed`
    boxed : bool, the mask is `base` but for a box of 0
    box : 4 int, top, bottom, left, right
    columns : int
    tile : float32 (at least columns,), a whole number of rows; changed
    weights : int16 (tile.size,); changed
    planar_in, planar_out, scale, bias : as in `output.blend`

    Returns
    -------
    int
        The sum of the mask in steps of 1 / STEPS; 0 where `boxed`.
    """
    rows, most = mask.size // columns, tile.size // columns
    values = mask.size * scale.size
    top, bottom, left, right = box if boxed else (0, rows, 0, 0)
    y, ready, total = 0, False, np.int64(0)
    while y < rows:
        inside = top <= y < bottom
        end = top if y < top else bottom if inside else rows
        start, size = y * columns, smaller(most, end - y) * columns
        other = first if boxed and base == 1.0 and not inside else second
        part = run(tile, 0, size) if boxed else run(mask, start, start + size)
        if not boxed:
            merge(part, run(hole, start, start + size), holes, base, multiplied)
            total += steps_of(part)
        elif not ready:
            fill_rows(tile, base, columns, left if inside else 0, right if inside else 0)
        if kind == FLOATS_TO_FLOATS:
            f, s = array_at(first, values, np.float32), array_at(other, values, np.float32)
            floats = array_at(address_of(out), values, np.float32)
            blend(floats, f, s, part, start, planar_in, planar_out, scale, bias)
        else:
            f8, s8 = array_at(first, values, np.uint8), array_at(other, values, np.uint8)
            if kind == BYTES_TO_FLOATS:
                floats = array_at(address_of(out), values, np.float32)
                blend(floats, f8, s8, part, start, planar_in, planar_out, scale, bias)
            else:
                if not ready:
                    to_weights(run(weights, 0, size), part)
                blend(out, f8, s8, run(weights, 0, size), start, planar_in, planar_out, scale, bias)
        y += size // columns
        ready = boxed and y != top and y != bottom
    return total  # type: ignore[return-value]
