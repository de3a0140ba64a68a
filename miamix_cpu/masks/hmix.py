"""HMix: a box, and an even blend of the rest, which together have the ratio for their mean.

Park, Yun and Chun, "A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function Perspective", 2022,
arXiv:2208.09913. A box of the area share * ratio, clipped at the border, is 1; outside of it the hole is
(ratio - b) / (1 - b), b the share of the pixels inside. So the mean is the ratio, clipping included: share 0 is mixup,
and share 1 is CutMix whose clipped part is made up for by blending.

A box is made of whole pixels, so where the ratio is small or the share near 1, it may hold more of them than the ratio
asks for. Then nothing is blended (`level` is 0), and the mean is b, which is above the ratio by less than one row and
one column of the box.
"""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import exact_entry
from miamix_cpu.masks.cutmix import box_of, fill

__all__ = ["draw", "fill"]

SMOOTHS = BOX = True


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive the boxes, `cy`, `cx`, `height`, `width`, and the `level` outside.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    draw_boxes(layers, code, uniforms, config.hmix.share, height, width)


@exact_entry
def draw_boxes(layers: np.ndarray, code: int, uniforms: np.ndarray, share: float, rows: int, columns: int) -> None:
    """`draw`, its options one by one.

    Parameters
    ----------
    layers, code, uniforms : as in `draw`
    share : float in [0, 1], of the ratio, that the box takes
    rows, columns : int, pixels
    """
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] != code:
            continue
        ratio = layer["ratio"]
        side = math.sqrt(ratio * share)
        layer["cy"], layer["cx"], layer["height"], layer["width"] = uniforms[j, 6], uniforms[j, 7], side, side
        top, bottom, left, right = box_of(uniforms[j, 6], uniforms[j, 7], side, side, rows, columns)
        inside = (bottom - top) * (right - left) / (rows * columns)
        # The box's pixels may be more than the whole ratio: then nothing is left to blend.
        layer["level"] = max(0.0, (ratio - inside) / (1 - inside)) if inside < 1 else 0.0
