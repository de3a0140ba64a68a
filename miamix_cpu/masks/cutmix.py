"""CutMix: one rectangular hole of side share sqrt(ratio), its centre uniform, clipped at the border.

Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019,
arXiv:1905.04899. Clipping shrinks the hole to (s - s^2 / 4)^2 on average, s = sqrt(ratio); the label follows the
pixels. A hole may also be rotated and sheared about its centre (MiAMix, section 3.2.3).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import entry, exact, exact_entry, kernel

TURNS = SMOOTHS = BOX = True


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive the boxes: `cy`, `cx`, `height`, `width`.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    options = config.cutmix
    low, high = options.minmax or (-1.0, -1.0)
    draw_boxes(layers, code, uniforms, options.inside or low >= 0, low, high)


@exact_entry
def draw_boxes(layers: np.ndarray, code: int, uniforms: np.ndarray, inside: bool, low: float, high: float) -> None:
    """`draw`, its options one by one.

    Parameters
    ----------
    layers, code, uniforms : as in `draw`
    inside : bool, boxes lie inside the image
    low, high : float, the range of their sides; negative for sides of sqrt(ratio)
    """
    for j in range(layers.size):
        layer, uniform = layers[j], uniforms[j, 6:]
        if layer["method"] != code:
            continue
        height = width = math.sqrt(layer["ratio"])
        if low >= 0:
            height, width = low + (high - low) * uniform[2], low + (high - low) * uniform[3]
            layer["ratio"] = height * width
        cy, cx = uniform[0], uniform[1]
        if inside:
            cy, cx = height / 2 + cy * (1 - height), width / 2 + cx * (1 - width)
        layer["cy"], layer["cx"], layer["height"], layer["width"] = cy, cx, height, width


@entry
def fill(layers: np.ndarray, code: int, slots: np.ndarray, holes: np.ndarray, coefficients: np.ndarray) -> None:
    """Fill holes with 1 inside their box, `level` elsewhere.

    Parameters
    ----------
    layers : `plan.LAYER` (l,); those whose method is `code` are filled
    code : int
    slots : int64 (l,), each layer's place in `holes`, -1 for none
    holes : float32 (S, H, W), C-contiguous; changed
    coefficients : float32, the plan's; not used
    """
    rows, columns = holes.shape[1:]
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] != code or slots[j] < 0:
            continue
        hole = holes[slots[j]]
        if layer["augmented"]:
            fill_turned(hole, layer["cy"], layer["cx"], layer["height"], layer["width"], layer["angle"], layer["shear"])
        else:
            box = box_of(layer["cy"], layer["cx"], layer["height"], layer["width"], rows, columns)
            fill_upright(hole, box, layer["level"])


@exact
def box_of(cy: float, cx: float, height: float, width: float, rows: int, columns: int) -> Any:
    """The pixels whose centres lie inside an upright box.

    y + 0.5 between (cy - height / 2) * rows and (cy + height / 2) * rows, and x alike.

    Parameters
    ----------
    cy, cx, height, width : float, shares of the sides
    rows, columns : int, pixels

    Returns
    -------
    four int
        top, bottom, left, right, ends excluded; 0, 0, 0, 0 where there is no such pixel.
    """
    top = max(0, math.floor((cy - height / 2) * rows - 0.5) + 1)
    bottom = min(rows, math.ceil((cy + height / 2) * rows - 0.5))
    left = max(0, math.floor((cx - width / 2) * columns - 0.5) + 1)
    right = min(columns, math.ceil((cx + width / 2) * columns - 0.5))
    if bottom <= top or right <= left:
        return 0, 0, 0, 0
    return top, bottom, left, right


@kernel
def fill_upright(hole: np.ndarray, box: Any, level: float) -> None:
    """Fill `hole` with 1 inside `box`, `level` elsewhere.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; overwritten
    box : 4 int, from `box_of`
    level : float in [0, 1]
    """
    top, bottom, left, right = box
    outside = np.float32(level)
    for y in range(hole.shape[0]):
        row = hole[y]
        for x in range(row.size):
            row[x] = outside
        if top <= y < bottom:
            for x in range(left, right):
                row[x] = np.float32(1.0)


@kernel
def fill_turned(
    hole: np.ndarray, cy: float, cx: float, height: float, width: float, angle: float, shear: float
) -> None:
    """Fill `hole` with 1 where a pixel's centre lies inside a rotated and sheared box, 0 elsewhere.

    With d = p - c on the unit square, u = x cos a + y sin a + shear * v and v = -x sin a + y cos a, a pixel is inside
    where 2|u| < width and 2|v| < height. The map keeps areas, whatever the angle and the shear.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; overwritten
    cy, cx : float, the box's centre, shares of H and W
    height, width : float, the box's sides, shares of H and W
    angle : float, radians, from +x towards +y
    shear : float
    """
    rows, columns = hole.shape
    cosine, sine = math.cos(angle), math.sin(angle)
    step_v = np.float32(-sine / columns)
    step_u = np.float32((cosine - shear * sine) / columns)
    half_u, half_v = np.float32(width / 2), np.float32(height / 2)
    for y in range(rows):
        dy, dx = (y + 0.5) / rows - cy, 0.5 / columns - cx
        v = -dx * sine + dy * cosine
        u = np.float32(dx * cosine + dy * sine + shear * v)
        v = np.float32(v)
        row = hole[y]
        for x in range(columns):
            at = np.float32(np.int32(x))  # an int64 takes several instructions
            inside = (abs(u + at * step_u) < half_u) & (abs(v + at * step_v) < half_v)
            row[x] = np.float32(inside)
