"""GridMix: holes on a regular grid, or whole cells of a grid, chosen at random.

Two methods have this name. "regular" is Dobrynin's GridMixup, 2020, which toolboxes call GridMix: one square hole in
each square cell, n cells along the shorter side, the holes' side share sqrt(ratio), random phase. "random" is Baek,
Bang and Shim, "GridMix: Strong regularization through local context mapping", Pattern Recognition 109, 2021, which the
MiAMix paper cites: whole cells of an n x n grid, chosen at random, without the paper's loss on the class of each cell.
Both keep the mean exactly, in expectation over the phase or the choice.
"""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import entry, exact_entry, kernel

TURNS = SMOOTHS = True


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive `cells`, and the phase `cy`, `cx` and side share, or the block of cells to choose from.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    low, high = config.gridmix.cells
    draw_grids(layers, code, uniforms, low, high, config.gridmix.pattern == "random")


@exact_entry
def draw_grids(layers: np.ndarray, code: int, uniforms: np.ndarray, low: int, high: int, random: bool) -> None:
    """`draw`, its options one by one.

    Parameters
    ----------
    layers, code, uniforms : as in `draw`
    low, high : int, the range of the number of cells, both ends included
    random : bool, whole cells are chosen at random
    """
    for j in range(layers.size):
        layer, uniform = layers[j], uniforms[j, 6:]
        if layer["method"] != code:
            continue
        cells = low + math.floor(uniform[2] * (high - low + 1))
        layer["cells"] = cells
        if random:
            layer["dither"] = uniform[0]
            layer["rows"], layer["columns"], layer["is_field"] = cells, cells, True
        else:
            layer["cy"], layer["cx"] = uniform[0], uniform[1]
            layer["height"] = layer["width"] = math.sqrt(layer["ratio"])


def finish(layers: np.ndarray, coefficients: np.ndarray) -> None:
    """Turn the normals of "random" layers into 1 for cells that are holes, those with the largest, and 0 for others.

    floor(ratio * cells^2 + dither) of them, so that their mean is the ratio.

    Parameters
    ----------
    layers : `plan.LAYER` (m,), of this method, with `is_field`
    coefficients : float32, the plan's; changed
    """
    for layer in layers:
        block = coefficients[layer["start"] :][: layer["rows"] * layer["columns"]]
        count = min(block.size, math.floor(layer["ratio"] * block.size + layer["dither"]))
        chosen = np.argsort(-block, kind="stable")[:count]
        block[:] = 0
        block[chosen] = 1


def details(layer: np.void) -> list[str]:
    """What `describe` says of a layer."""
    return [f"{layer['cells']} cells"]


def rules(layers: np.ndarray, coefficients: np.ndarray, height: int, width: int) -> list[tuple[bool, str]]:
    """What must hold for layers of this method in a plan (`MixPlan.checked`)."""
    rows, columns = layers["rows"], layers["columns"]
    blocks = (rows == columns) & ((rows == 0) | (rows == layers["cells"]) & layers["is_field"])
    return [
        (bool(np.all(layers["cells"] >= 1)), "cells must be at least 1"),
        (bool(np.all(blocks)), "gridmix must have a block with all its cells, or no block"),
        (cells_are_chosen(layers, coefficients), "gridmix's cells must be 0 or 1"),
    ]


def cells_are_chosen(layers: np.ndarray, coefficients: np.ndarray) -> bool:
    """Whether the blocks of these layers hold nothing but 0 and 1."""
    blocks = [coefficients[layer["start"] :][: int(layer["rows"]) * int(layer["columns"])] for layer in layers]
    return all(bool(((block == 0) | (block == 1)).all()) for block in blocks)


@entry
def fill(layers: np.ndarray, code: int, slots: np.ndarray, holes: np.ndarray, coefficients: np.ndarray) -> None:
    """Fill holes with those of a grid, rotated and sheared about the image's centre.

    Parameters
    ----------
    layers : `plan.LAYER` (l,); those whose method is `code` are filled
    code : int
    slots : int64 (l,), each layer's place in `holes`, -1 for none
    holes : float32 (S, H, W), C-contiguous; changed
    coefficients : float32, the plan's

    Notes
    -----
    "regular" rotates in pixels, where its cells are square; "random" in shares of the sides, where its grid is, and
    cells that come in from outside repeat those of the other side.
    """
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] != code or slots[j] < 0:
            continue
        hole = holes[slots[j]]
        if layer["rows"] > 0:
            fill_random(hole, layer["cells"], coefficients, layer["start"], layer["angle"], layer["shear"])
        else:
            fill_regular(
                hole, layer["cells"], layer["height"], layer["cy"], layer["cx"], layer["angle"], layer["shear"]
            )


@kernel
def fill_regular(
    hole: np.ndarray, cells: int, side: float, phase_y: float, phase_x: float, angle: float, shear: float
) -> None:
    """Fill `hole` with one square hole in each cell.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; overwritten
    cells : int, along the shorter side
    side : float in [0, 1], a hole's side in cells
    phase_y, phase_x : float in [0, 1), cells
    angle : float, radians, from +x towards +y; 0 for none
    shear : float; 0 for none
    """
    rows, columns = hole.shape
    cell = min(rows, columns) / cells
    cosine, sine = math.cos(angle), math.sin(angle)
    step_v, step_u = np.float32(-sine / cell), np.float32((cosine - shear * sine) / cell)
    edge = np.float32(side) if side < 1 else np.float32(2.0)
    for y in range(rows):
        dy, dx = (y + 0.5 - rows / 2) / cell, (0.5 - columns / 2) / cell
        v = -dx * sine + dy * cosine
        u = np.float32(dx * cosine + dy * sine + shear * v + phase_x)
        v = np.float32(v + phase_y)
        row = hole[y]
        for x in range(columns):
            at = np.float32(np.int32(x))
            a, b = u + at * step_u, v + at * step_v
            row[x] = np.float32((a - np.floor(a) < edge) & (b - np.floor(b) < edge))


@kernel
def fill_random(hole: np.ndarray, cells: int, coefficients: np.ndarray, start: int, angle: float, shear: float) -> None:
    """Fill `hole` with whole cells of a grid.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; overwritten
    cells : int, along each side
    coefficients : float32; from `start` on 1 for cells that are holes and 0 for others, row by row
    start : int
    angle : float, radians, from +x towards +y; 0 for none
    shear : float; 0 for none
    """
    rows, columns = hole.shape
    if angle == 0 and shear == 0:
        # In whole numbers: a pixel's centre may lie on the very edge of a cell, and then belongs to the next one.
        for y in range(rows):
            first = start + (2 * y + 1) * cells // (2 * rows) * cells
            for x in range(columns):
                hole[y, x] = coefficients[first + (2 * x + 1) * cells // (2 * columns)]
        return
    cell_y, cell_x = rows / cells, columns / cells
    cosine, sine = math.cos(angle), math.sin(angle)
    step_v, step_u = -sine / cell_x, (cosine - shear * sine) / cell_x
    for y in range(rows):
        dy, dx = (y + 0.5 - rows / 2) / cell_y, (0.5 - columns / 2) / cell_x
        v = -dx * sine + dy * cosine
        u = dx * cosine + dy * sine + shear * v + cells / 2
        v += cells / 2
        for x in range(columns):
            row, column = math.floor(v + x * step_v) % cells, math.floor(u + x * step_u) % cells
            hole[y, x] = coefficients[start + row * cells + column]
