"""CutMix: one rectangular hole of side share sqrt(ratio), its centre uniform, clipped at the border.

Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019,
arXiv:1905.04899. Clipping shrinks the hole to (s - s^2 / 4)^2 on average, s = sqrt(ratio); the label follows the
pixels. Here a hole may besides be turned and sheared about its centre (MiAMix, section 3.2.3).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miamix_cpu.jit.arrays import fill, run
from miamix_cpu.jit.compile import exact, kernel
from miamix_cpu.jit.scalars import larger, smaller


@exact
def draw_cutmix(layer: Any, uniform: np.ndarray, options: Any) -> None:
    """Derive the box, `cy`, `cx`, `height`, `width`, from four uniforms.

    Parameters
    ----------
    layer : a record of `plan.LAYER`; changed
    uniform : float64 (UNIFORMS,), in [0, 1)
    options : a record of `masks.OPTIONS`
    """
    height = width = math.sqrt(layer["ratio"])
    if options["cutmix_minmax"]:
        low, high = options["cutmix_low"], options["cutmix_high"]
        height, width = low + (high - low) * uniform[2], low + (high - low) * uniform[3]
        layer["ratio"] = height * width
    cy, cx = uniform[0], uniform[1]
    if options["cutmix_inside"]:
        cy, cx = height / 2 + cy * (1 - height), width / 2 + cx * (1 - width)
    layer["cy"], layer["cx"], layer["height"], layer["width"] = cy, cx, height, width


@kernel
def box_of(cy: float, cx: float, height: float, width: float, rows: int, columns: int) -> Any:
    """The pixels whose centres lie inside an upright box: top, bottom, left, right, ends out; 0, 0, 0, 0 for none.

    y + 0.5 between (cy - height / 2) * rows and (cy + height / 2) * rows, and x alike.
    """
    top = larger(0, math.floor((cy - height / 2) * rows - 0.5) + 1)
    bottom = smaller(rows, math.ceil((cy + height / 2) * rows - 0.5))
    left = larger(0, math.floor((cx - width / 2) * columns - 0.5) + 1)
    right = smaller(columns, math.ceil((cx + width / 2) * columns - 0.5))
    if bottom <= top or right <= left:
        return 0, 0, 0, 0
    return top, bottom, left, right


@kernel
def fill_cutmix(
    hole: np.ndarray,
    cy: float,
    cx: float,
    height: float,
    width: float,
    augmented: bool,
    angle: float,
    shear: float,
) -> None:
    """Fill `hole` with 1 where a pixel's centre lies inside the box, 0 elsewhere.

    With d = p - c on the unit square, u = x cos a + y sin a + shear * v and v = -x sin a + y cos a, a pixel is inside
    where 2|u| < width and 2|v| < height. The map keeps areas, whatever the angle and the shear.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; overwritten
    cy, cx : float, the box's centre, shares of H and W
    height, width : float, the box's sides, shares of H and W
    augmented : bool, whether `angle` and `shear` count
    angle : float, radians, from +x towards +y
    shear : float
    """
    rows, columns = hole.shape
    fill(hole, np.float32(0.0))
    if not augmented:
        top, bottom, left, right = box_of(cy, cx, height, width, rows, columns)
        for y in range(top, bottom):
            fill(run(hole[y], left, right), np.float32(1.0))
        return
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
            at = np.float32(np.int32(x))
            inside = (abs(u + at * step_u) < half_u) & (abs(v + at * step_v) < half_v)
            row[x] = np.float32(inside)
