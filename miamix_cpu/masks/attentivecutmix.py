"""Attentive CutMix: the cells of a grid where the partner's guide is largest.

Walawalkar et al., "Attentive CutMix: An Enhanced Data Augmentation Approach for Deep Learning Based Image
Classification", 2020, arXiv:2003.13048. The guide is averaged over a 7 x 7 grid; the 6 highest cells are the hole, of
equal cells the first, row by row: on a flat guide the first 6. The paper's guide is the attention of a pretrained
network, which is for the caller to give.
"""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import exact, exact_entry
from miamix_cpu.masks.gridmix import cells_are_chosen, fill
from miamix_cpu.options import GUIDES, LARGEST_GRID

__all__ = ["aim", "details", "draw", "fill", "rules"]

SMOOTHS = True
GUIDED = "partner"


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive the blocks of cells, and which guide they need; `aim` chooses the cells.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    options = config.attentivecutmix
    count = -1 if isinstance(options.cells, str) else options.cells
    draw_cells(layers, code, uniforms, options.grid, count, 1 + GUIDES.index(options.guide))


@exact_entry
def draw_cells(layers: np.ndarray, code: int, uniforms: np.ndarray, grid: int, count: int, guide: int) -> None:
    """`draw`, its options one by one.

    Parameters
    ----------
    layers, code, uniforms : as in `draw`
    grid : int, cells along each side
    count : int, of cells that are holes; -1 for the ratio's share
    guide : int, 1 + index into options.GUIDES
    """
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] != code:
            continue
        layer["cells"] = layer["rows"] = layer["columns"] = grid
        layer["is_field"], layer["guide"] = True, guide
        if count >= 0:
            layer["ratio"] = count / (grid * grid)
        else:
            layer["dither"] = uniforms[j, 6]


@exact_entry
def aim(
    layers: np.ndarray, own: np.ndarray, partners: np.ndarray, guides: np.ndarray, coefficients: np.ndarray
) -> None:
    """Set the cells that are holes to 1, the others to 0: floor(ratio * cells^2 + dither) of them.

    Parameters
    ----------
    layers : `plan.LAYER` (l,), of this method
    own, partners : int64 (l,), the guides of each layer's first view and of its partner's view; `own` is not used
    guides : float32 (g, h, w)
    coefficients : float32, the plan's; changed
    """
    line = np.empty(guides.shape[2], np.float64)
    for j in range(layers.size):
        grid = layers[j]["cells"]
        block = coefficients[layers[j]["start"] : layers[j]["start"] + grid * grid]
        sums = np.empty((grid, grid), np.float64)
        sum_cells(sums, guides[partners[j]], line)
        # Half a cell in a million, so that a ratio of count / cells^2 gives `count`.
        count = min(grid * grid, math.floor(layers[j]["ratio"] * (grid * grid) + layers[j]["dither"] + 1e-6))
        order = np.argsort(-sums.ravel(), kind="mergesort")
        for p in range(grid * grid):
            block[order[p]] = np.float32(p < count)


@exact
def sum_cells(sums: np.ndarray, values: np.ndarray, line: np.ndarray) -> None:
    """Sum a map over each cell of a grid, pixels on an edge by the share that lies in the cell.

    Shares are counted in whole numbers, H * W of them in each cell. So float64 holds every digit, unless pixels differ
    by orders of magnitude, and equal cells have equal sums, as all have on a flat map. Means, whose weights are
    rounded, would differ in their last bits.

    Parameters
    ----------
    sums : float64 (n, n); overwritten
    values : float32 (H, W), C-contiguous
    line : float64 (W,); overwritten
    """
    cells = sums.shape[0]
    rows, columns = values.shape
    for y in range(cells):
        for q in range(columns):
            line[q] = 0.0
        for p in range(y * rows // cells, ((y + 1) * rows - 1) // cells + 1):  # a pixel is `cells` high, a cell `rows`
            weight = np.float64(min((y + 1) * rows, (p + 1) * cells) - max(y * rows, p * cells))
            for q in range(columns):
                line[q] += weight * values[p, q]
        for x in range(cells):
            total = 0.0
            for q in range(x * columns // cells, ((x + 1) * columns - 1) // cells + 1):
                weight = np.float64(min((x + 1) * columns, (q + 1) * cells) - max(x * columns, q * cells))
                total += weight * line[q]
            sums[y, x] = total


def details(layer: np.void) -> list[str]:
    """What `describe` says of a layer."""
    return [f"of {layer['cells']} x {layer['cells']} cells"]


def rules(layers: np.ndarray, coefficients: np.ndarray, height: int, width: int) -> list[tuple[bool, str]]:
    """What must hold for layers of this method in a plan (`MixPlan.checked`)."""
    rows, columns, cells = layers["rows"], layers["columns"], layers["cells"]
    blocks = (rows == cells) & (columns == cells) & (cells >= 1) & (cells <= LARGEST_GRID) & layers["is_field"]
    return [
        (bool(np.all(blocks)), "attentivecutmix must have a block with all its cells"),
        (cells_are_chosen(layers, coefficients), "attentivecutmix's cells must be 0 or 1"),
        (bool(np.all(layers["guide"] >= 1)), "attentivecutmix must name a guide"),
    ]
