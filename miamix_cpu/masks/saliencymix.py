"""SaliencyMix: a box at the most salient point of the partner, cut out and pasted at the same place.

Uddin et al., "SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better Regularization", 2020,
arXiv:2006.01791. CutMix whose box is centred at the largest value of the partner's guide (the first one, row by row).
Each sample has its own box; the published code has one for the whole batch, and reads float images as bytes, which
makes its saliency map, and so the box, all but random.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import exact_entry
from miamix_cpu.masks.cutmix import fill
from miamix_cpu.options import GUIDES

__all__ = ["aim", "details", "draw", "fill", "rules"]

TURNS = SMOOTHS = BOX = True
GUIDED = "partner"


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive the sides of the boxes, and which guide they need; `aim` sets the centres.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    draw_boxes(layers, code, 1 + GUIDES.index(config.saliencymix.guide))


@exact_entry
def draw_boxes(layers: np.ndarray, code: int, guide: int) -> None:
    """`draw`, its options one by one.

    Parameters
    ----------
    layers, code : as in `draw`
    guide : int, 1 + index into options.GUIDES
    """
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] == code:
            layer["height"] = layer["width"] = math.sqrt(layer["ratio"])
            layer["guide"] = guide


@exact_entry
def aim(layers: np.ndarray, own: np.ndarray, partners: np.ndarray, guides: np.ndarray, coefficients: Any) -> None:
    """Set the boxes' centres to the peaks of the partners' guides.

    Parameters
    ----------
    layers : `plan.LAYER` (l,), of this method; changed
    own, partners : int64 (l,), the guides of each layer's first view and of its partner's view; `own` is not used
    guides : float32 (g, h, w)
    coefficients : float32, the plan's; not used
    """
    height, width = guides.shape[1:]
    for j in range(layers.size):
        bits = guides[partners[j]].view(np.int32)  # in the order of the numbers, as none is negative
        most, top, left = np.int32(-1), 0, 0
        for y in range(height):
            row, of_row = bits[y], np.int32(0)
            for x in range(width):  # vectorises, which a search for the place does not
                of_row = row[x] if row[x] > of_row else of_row
            if of_row > most:
                most, top = of_row, y
        row = bits[top]
        while row[left] < most:
            left += 1
        layers[j]["cy"], layers[j]["cx"] = (top + 0.5) / height, (left + 0.5) / width


def details(layer: np.void) -> list[str]:
    """What `describe` says of a layer."""
    return [f"peak at {layer['cy']:.2f}, {layer['cx']:.2f}"] if layer["cy"] > 0 else []


def rules(layers: np.ndarray, coefficients: np.ndarray, height: int, width: int) -> list[tuple[bool, str]]:
    """What must hold for layers of this method in a plan (`MixPlan.checked`)."""
    return [(bool(np.all(layers["guide"] >= 1)), "saliencymix must name a guide")]
