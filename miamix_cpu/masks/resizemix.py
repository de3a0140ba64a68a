"""ResizeMix: the whole partner, resized, pasted at a random place.

Qin et al., "ResizeMix: Mixing Data with Preserved Object Information and True Labels", 2020, arXiv:2012.11101. The side
share tau is from U(0.1, 0.8), one a sample; the centre is uniform, and the box is then shifted inside, so that
ratio = tau^2 but for rounding to pixels. The hole is the box; what shows through it is the partner resized by area
averaging (`mix/resize.py`). Published code draws one tau a batch and takes the nearest pixel, which aliases.
"""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import exact_entry
from miamix_cpu.masks.cutmix import fill

__all__ = ["draw", "fill"]

BOX = RESIZES = True


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive the boxes, `cy`, `cx`, `height`, `width`, which are whole pixels, and the ratio.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    low, high = config.resizemix.tau
    draw_boxes(layers, code, uniforms, low, high, config.resizemix.tau_from == "alpha", height, width)


@exact_entry
def draw_boxes(
    layers: np.ndarray,
    code: int,
    uniforms: np.ndarray,
    low: float,
    high: float,
    from_ratio: bool,
    rows: int,
    columns: int,
) -> None:
    """`draw`, its options one by one.

    Parameters
    ----------
    layers, code, uniforms : as in `draw`
    low, high : float, the range of tau
    from_ratio : bool, tau is the square root of the ratio
    rows, columns : int, pixels
    """
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] != code:
            continue
        tau = math.sqrt(layer["ratio"]) if from_ratio else low + (high - low) * uniforms[j, 8]
        least = 1 if tau > 0 else 0
        height = max(least, math.floor(tau * rows + 0.5))
        width = max(least, math.floor(tau * columns + 0.5))
        top = min(max(0, math.floor(uniforms[j, 6] * rows - height / 2 + 0.5)), rows - height)
        left = min(max(0, math.floor(uniforms[j, 7] * columns - width / 2 + 0.5)), columns - width)
        layer["cy"], layer["height"] = (top + height / 2) / rows, height / rows
        layer["cx"], layer["width"] = (left + width / 2) / columns, width / columns
        layer["ratio"] = height * width / (rows * columns)
