"""Guided Mixup, its SR form: each pixel is mixed by how salient it is in either view.

Kang and Kim, "GuidedMixup: An Efficient Mixup Strategy Guided by Saliency Maps", 2023, arXiv:2306.16612. The mask is
s_i / (s_i + s_t), s the views' guides, each normalised to the sum 1. No ratio is drawn; the label is the mask's mean.
Partners are random, as for every method here: the paper's greedy pairing never runs in its published code.
"""

from __future__ import annotations

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import entry, exact_entry
from miamix_cpu.masks.resample import average_area, interpolate
from miamix_cpu.options import GUIDES, LARGEST_GUIDE, guide_size

GUIDED = "both"


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive the blocks of the holes, and which guide they need; `aim` fills them.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    rows, columns = guide_size(height, width)
    draw_blocks(layers, code, rows, columns, 1 + GUIDES.index(config.guidedmixup.guide))


@exact_entry
def draw_blocks(layers: np.ndarray, code: int, rows: int, columns: int, guide: int) -> None:
    """`draw`, its options one by one.

    Parameters
    ----------
    layers, code : as in `draw`
    rows, columns : int, from `guide_size`
    guide : int, 1 + index into options.GUIDES
    """
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] == code:
            layer["rows"], layer["columns"], layer["is_field"], layer["guide"] = rows, columns, True, guide
            layer["ratio"] = 0.5


@exact_entry
def aim(
    layers: np.ndarray, own: np.ndarray, partners: np.ndarray, guides: np.ndarray, coefficients: np.ndarray
) -> None:
    """Fill the blocks with the holes, s_t / (s_i + s_t); 1/2 where neither view has a salient pixel.

    Parameters
    ----------
    layers : `plan.LAYER` (l,), of this method
    own, partners : int64 (l,), the guides of each layer's first view and of its partner's view
    guides : float32 (g, h, w)
    coefficients : float32, the plan's; changed
    """
    for j in range(layers.size):
        rows, columns, start = layers[j]["rows"], layers[j]["columns"], layers[j]["start"]
        first, second = np.empty((rows, columns), np.float32), np.empty((rows, columns), np.float32)
        if guides.shape[1] < rows:
            interpolate(first, guides[own[j]])
            interpolate(second, guides[partners[j]])
        else:
            average_area(first, guides[own[j]])
            average_area(second, guides[partners[j]])
        sums = np.float64(0.0), np.float64(0.0)
        for y in range(rows):
            for x in range(columns):
                sums = sums[0] + first[y, x], sums[1] + second[y, x]
        a, b = 1 / max(sums[0], 1e-30), 1 / max(sums[1], 1e-30)
        small = 1e-6 / (rows * columns)
        for y in range(rows):
            for x in range(columns):
                s, t = first[y, x] * a + small, second[y, x] * b + small
                coefficients[start + y * columns + x] = t / (s + t)


@entry
def fill(layers: np.ndarray, code: int, slots: np.ndarray, holes: np.ndarray, coefficients: np.ndarray) -> None:
    """Fill holes with their block, interpolated.

    Parameters
    ----------
    layers : `plan.LAYER` (l,); those whose method is `code` are filled
    code : int
    slots : int64 (l,), each layer's place in `holes`, -1 for none
    holes : float32 (S, H, W), C-contiguous; changed
    coefficients : float32, the plan's
    """
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] != code or slots[j] < 0:
            continue
        rows, columns, start = layer["rows"], layer["columns"], layer["start"]
        interpolate(holes[slots[j]], coefficients[start : start + rows * columns].reshape(rows, columns))


def rules(layers: np.ndarray, coefficients: np.ndarray, height: int, width: int) -> list[tuple[bool, str]]:
    """What must hold for layers of this method in a plan (`MixPlan.checked`)."""
    rows, columns = layers["rows"], layers["columns"]
    sizes = (rows >= 1) & (rows <= LARGEST_GUIDE) & (columns >= 1) & (columns <= LARGEST_GUIDE) & layers["is_field"]
    blocks = [coefficients[layer["start"] :][: int(layer["rows"]) * int(layer["columns"])] for layer in layers]
    return [
        (bool(np.all(sizes)), f"guidedmixup must have a block of 1 to {LARGEST_GUIDE} pixels a side"),
        (all(bool(((block >= 0) & (block <= 1)).all()) for block in blocks), "guidedmixup's hole must be in [0, 1]"),
        (bool(np.all(layers["guide"] >= 1)), "guidedmixup must name a guide"),
    ]
