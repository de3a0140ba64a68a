"""The final mask: layers merged, and measured (MiAMix, section 3.2.4, eq. 10-12)."""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.jit.flags import kernel
from miamix_cpu.masks.cutmix import box_of

#: What a layer has instead of a hole's place, where it needs none: its hole is its ratio everywhere (mixup), or it is
#: an upright box.
CONSTANT, BOX = -1, -2

#: `lam` is measured in integers of this many steps: exact for binary masks and in any order of summation, and each
#: pixel is rounded by at most 1.2e-7. More steps would leave float32 no bit for the half that rounds.
STEPS = 1 << 22


@kernel
def constant_and_box(layers: np.ndarray, slots: np.ndarray, rows: int, columns: int, multiplied: bool) -> Any:
    """The part of a sample's mask that needs no hole: the mask of its constant layers, and at most one upright box.

    Parameters
    ----------
    layers : `plan.LAYER` (k,)
    slots : int64 (k,), the layers' holes, CONSTANT or BOX for those that need none
    rows, columns : int, pixels
    multiplied : bool, the product of 1 - ratio (eq. 10) rather than 1 - clip(sum of ratios, 0, 1) (eq. 11)

    Returns
    -------
    float, and top, bottom, left, right of the box, from `box_of`
    """
    base, box, level = 1.0, (0, 0, 0, 0), np.float32(0.0)
    for j in range(layers.size):
        layer = layers[j]
        if slots[j] == CONSTANT:
            base = base * (1.0 - layer["ratio"]) if multiplied else max(0.0, base - layer["ratio"])
        elif slots[j] == BOX:
            box = box_of(layer["cy"], layer["cx"], layer["height"], layer["width"], rows, columns)
            level = np.float32(layer["level"])
    if level > 0:  # in float32, as `merge` would, so that it changes no byte whether masks are asked for
        b = np.float32(base)
        base = np.float64(b * (np.float32(1.0) - level) if multiplied else max(np.float32(0.0), b - level))
    return base, box


@kernel
def merge(mask: np.ndarray, start: int, holes: np.ndarray, slots: np.ndarray, base: float, multiplied: bool) -> None:
    """Make some pixels of a sample's mask: base * prod(1 - h_j) (eq. 10), or max(0, base - sum h_j) (eq. 11).

    One hole after the other, eq. 11 is 1 - clip(sum of holes, 0, 1).

    Parameters
    ----------
    mask : float32 (p,); overwritten with pixels `start` to `start + p`
    start : int
    holes : float32 (S, P)
    slots : int64 (k,), the sample's layers' holes, negative for layers without
    base : float in [0, 1], the mask of the layers without
    multiplied : bool, eq. 10 rather than eq. 11
    """
    b, is_first = np.float32(base), True
    for j in range(slots.size):
        if slots[j] < 0:
            continue
        hole = holes[slots[j], start : start + mask.size]
        if multiplied and is_first:
            for p in range(mask.size):
                mask[p] = b * (np.float32(1.0) - hole[p])
        elif multiplied:
            for p in range(mask.size):
                mask[p] *= np.float32(1.0) - hole[p]
        else:
            for p in range(mask.size):
                left = (b if is_first else mask[p]) - hole[p]
                mask[p] = left if left > np.float32(0.0) else np.float32(0.0)
        is_first = False
    for p in range(mask.size if is_first else 0):
        mask[p] = b


@kernel
def steps_of(mask: np.ndarray) -> int:
    """The sum of `mask` in whole steps of 1 / STEPS.

    Parameters
    ----------
    mask : float32 (P,), in [0, 1]
    """
    total = np.int64(0)
    for p in range(mask.size):
        total += np.int32(mask[p] * np.float32(STEPS) + np.float32(0.5))
    return total  # type: ignore[return-value]


@kernel
def steps_of_box(base: float, box: Any, pixels: int) -> int:
    """`steps_of` a mask that is `base` but for a box of 0.

    Parameters
    ----------
    base : float in [0, 1]
    box : 4 int, top, bottom, left, right
    pixels : int, of the mask
    """
    inside = (box[1] - box[0]) * (box[3] - box[2])
    return (pixels - inside) * np.int64(np.int32(np.float32(base) * np.float32(STEPS) + np.float32(0.5)))  # type: ignore[no-any-return]


@kernel
def nominal_lam(layers: np.ndarray) -> float:
    """1 - sum of the ratios (Table 7).

    Parameters
    ----------
    layers : `plan.LAYER` (k,)
    """
    left = 1.0
    for j in range(layers.size):
        left -= layers[j]["ratio"]
    return max(0.0, left)
