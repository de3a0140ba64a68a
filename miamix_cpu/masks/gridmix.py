"""GridMix: holes on a regular grid, n cells along the shorter side.

After Baek, Bang and Shim, "GridMix: Strong regularization through local context mapping", Pattern Recognition 109,
2021. "regular": one square hole in each square cell, its side share sqrt(ratio), random phase. "random": whole cells
of an n x n grid, chosen at random. Both keep the mean exactly, in expectation over the phase or the choice.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miamix_cpu.jit.arrays import empty, fill
from miamix_cpu.jit.compile import allocating, exact, kernel
from miamix_cpu.jit.scalars import smaller
from miamix_cpu.masks.threshold import choose_largest


@exact
def draw_gridmix(layer: Any, uniform: np.ndarray, options: Any) -> None:
    """Derive `cells`, and the phase `cy`, `cx` and side share, or the block of cells to choose from.

    Parameters
    ----------
    layer : a record of `plan.LAYER`; changed
    uniform : float64 (UNIFORMS,), in [0, 1)
    options : a record of `masks.OPTIONS`
    """
    low, high = options["cells_low"], options["cells_high"]
    cells = low + math.floor(uniform[2] * (high - low + 1))
    layer["cells"] = cells
    if options["cells_random"]:
        layer["dither"] = uniform[0]
        layer["rows"], layer["columns"] = cells, cells
    else:
        layer["cy"], layer["cx"] = uniform[0], uniform[1]
        layer["height"] = layer["width"] = math.sqrt(layer["ratio"])


@allocating
def fill_gridmix(
    hole: np.ndarray,
    cells: int,
    side: float,
    phase_y: float,
    phase_x: float,
    angle: float,
    shear: float,
    noise: np.ndarray,
    count: int,
) -> None:
    """Fill `hole` with the holes of a grid, turned and sheared about the image's centre.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; overwritten
    cells : int, along the shorter side ("regular") or along each side ("random")
    side : float in [0, 1], a hole's side in cells; "regular" only
    phase_y, phase_x : float in [0, 1), cells; "regular" only
    angle : float, radians, from +x towards +y; 0 for none
    shear : float; 0 for none
    noise : float32 (cells * cells,), the `count` largest are holes; empty for "regular"
    count : int in [0, cells * cells]; "random" only

    Notes
    -----
    "regular" turns in pixels, where its cells are square; "random" in shares of the sides, where its grid is, and
    cells that turn in from outside repeat those of the other side.
    """
    rows, columns = hole.shape
    regular = noise.size == 0
    chosen = empty(noise.size, np.float32)
    cell_y = cell_x = smaller(rows, columns) / cells
    if not regular:
        cell_y, cell_x = rows / cells, columns / cells
        phase_y = phase_x = cells / 2
        choose_largest(chosen, noise, cells, count)
        if angle == 0 and shear == 0:
            # In whole numbers: a pixel's centre may lie on the very edge of a cell, and then belongs to the next one.
            for y in range(rows):
                first = (2 * y + 1) * cells // (2 * rows) * cells
                for x in range(columns):
                    hole[y, x] = chosen[first + (2 * x + 1) * cells // (2 * columns)]
            return
    elif side >= 1:
        fill(hole, np.float32(1.0))
        return
    elif angle == 0 and shear == 0:
        # Upright: rows that cross holes are all alike.
        u, step, none = np.float32((0.5 - columns / 2) / cell_x + phase_x), np.float32(1 / cell_x), np.float32(0.0)
        alike = empty(columns, np.float32)
        fill_row(alike, u, none, step, none, side)
        for y in range(rows):
            v = np.float32((y + 0.5 - rows / 2) / cell_y + phase_y)
            crosses, row = np.float32(v - np.floor(v) < np.float32(side)), hole[y]
            for x in range(columns):
                row[x] = alike[x] * crosses
        return
    cosine, sine = math.cos(angle), math.sin(angle)
    step_v, step_u = -sine / cell_x, (cosine - shear * sine) / cell_x
    for y in range(rows):
        dy, dx = (y + 0.5 - rows / 2) / cell_y, (0.5 - columns / 2) / cell_x
        v = -dx * sine + dy * cosine
        u = dx * cosine + dy * sine + shear * v + phase_x
        if regular:
            fill_row(hole[y], np.float32(u), np.float32(v + phase_y), np.float32(step_u), np.float32(step_v), side)
            continue
        v += phase_y
        for x in range(columns):
            row, column = math.floor(v + x * step_v) % cells, math.floor(u + x * step_u) % cells
            hole[y, x] = chosen[row * cells + column]


@kernel
def fill_row(row: np.ndarray, u: float, v: float, step_u: float, step_v: float, side: float) -> None:
    """1 where both coordinates are in the first `side` of their cell, 0 elsewhere; alone, so that it vectorises.

    Parameters
    ----------
    row : float32 (W,); overwritten
    u, v : float32, cells; coordinates of the first pixel
    step_u, step_v : float32, cells a pixel
    side : float
    """
    edge = np.float32(side)
    for x in range(row.size):
        at = np.float32(np.int32(x))
        a, b = u + at * step_u, v + at * step_v
        row[x] = np.float32((a - np.floor(a) < edge) & (b - np.floor(b) < edge))
