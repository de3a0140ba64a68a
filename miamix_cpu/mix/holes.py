"""Stage 3 of a sample: the masks of its layers, augmented; compiled apart from what mixes (MiAMix, section 3.2.3).

Half of all code to compile, so that two processes can have a half each: `render` calls it by its address.
"""

from __future__ import annotations

import numpy as np

from miamix_cpu.config import MIXUP
from miamix_cpu.jit.arrays import array_at
from miamix_cpu.jit.compile import ADDRESS, FLOAT, INTEGER, by_address
from miamix_cpu.masks import fill_hole, smooth
from miamix_cpu.masks.augment import room_shapes
from miamix_cpu.masks.fmix import table_shapes
from miamix_cpu.masks.product import padded
from miamix_cpu.mix.blend import merge
from miamix_cpu.plan.mix_plan import LAYER


@by_address(
    ADDRESS, ADDRESS, INTEGER, INTEGER, ADDRESS, INTEGER, ADDRESS, INTEGER, ADDRESS, ADDRESS, INTEGER, ADDRESS, ADDRESS,
    ADDRESS, FLOAT, INTEGER,
)  # fmt: skip
def draw_holes(
    mask: int,
    hole: int,
    height: int,
    width: int,
    layers: int,
    count: int,
    coefficients: int,
    normals: int,
    table_y: int,
    table_x: int,
    most: int,
    sums: int,
    running: int,
    spare: int,
    base: float,
    multiplied: int,
) -> int:
    """Render the holes of one sample but the constant ones.

    Parameters
    ----------
    mask, hole : addresses of float32 (H, W); changed into what `output.merge` takes for so many holes
    height, width : int, pixels
    layers : address of `plan.LAYER` (count,)
    coefficients : address of float32 (normals,), the plan's
    table_y, table_x : addresses of fmix.make_tables(H, W, most)
    most : int
    sums, running : addresses of augment.make_room(H, W); changed
    spare : address of float32 (product.padded(H, W),); changed
    base : float, constant_part(layers, multiplied)
    multiplied : 1 for merge="mul", 0 for "sum"

    Returns
    -------
    int
        One more than there are, for 0 tells that it failed.
    """
    shape, pixels, (along_y, along_x) = (height, width), height * width, table_shapes(height, width, most)
    first, other = array_at(mask, shape, np.float32), array_at(hole, shape, np.float32)
    tables = array_at(table_y, along_y, np.float32), array_at(table_x, along_x, np.float32)
    for_sums, for_running = room_shapes(height, width)
    room = array_at(sums, for_sums, np.int16), array_at(running, for_running, np.int16)
    noise, field = array_at(coefficients, normals, np.float32), array_at(spare, padded(height, width), np.float32)
    chosen = array_at(layers, count, LAYER)
    holes = np.int64(0)  # a literal would have `merge` compiled twice
    for j in range(count):
        layer = chosen[j]
        if layer["method"] == MIXUP:
            continue
        if holes >= 2:
            merge(array_at(mask, pixels, np.float32), array_at(hole, pixels, np.float32), holes, base, multiplied != 0)
        into = first if holes == 0 else other
        fill_hole(into, layer, noise, tables, field)
        if layer["window"] > 0:
            smooth(into, layer["window"], room)
        holes += 1
    return holes + 1  # type: ignore[return-value]
