"""Mask augmentation: who is rotated, sheared and smoothed, and by how much (MiAMix, section 3.2.3).

Rotation and shear act on the coordinates in which a generator draws, so nothing is resampled or padded and the mixing
ratio survives; each generator that takes them applies them itself. `smooth.py` smooths the finished hole.
"""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import LARGEST_WINDOW, MiAMixConfig
from miamix_cpu.jit.flags import exact_entry


def draw_augmentation(
    layers: np.ndarray,
    turns: np.ndarray,
    smooths: np.ndarray,
    uniforms: np.ndarray,
    config: MiAMixConfig,
    height: int,
    width: int,
) -> None:
    """Derive `augmented`, `angle`, `shear` and `window` of the layers whose method takes them.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); changed
    turns, smooths : bool (number of methods,), by code: whether a method's masks are rotated and sheared, and smoothed
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); columns 1 to 5 are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    # Odd windows 3, 5, .., at most smooth_max of the shorter side, but 3 at least.
    largest = min(LARGEST_WINDOW, math.floor(config.smooth_max * min(height, width)))
    windows = max(1, (largest - 1) // 2)
    angle_max = math.radians(config.angle_max)
    fill_augmentation(
        layers, turns, smooths, uniforms, config.p_aug, config.p_smooth, angle_max, config.shear_max, windows
    )


@exact_entry
def fill_augmentation(
    layers: np.ndarray,
    turns: np.ndarray,
    smooths: np.ndarray,
    uniforms: np.ndarray,
    p_aug: float,
    p_smooth: float,
    angle_max: float,
    shear_max: float,
    windows: int,
) -> None:
    """`draw_augmentation`, its options one by one.

    Parameters
    ----------
    layers, turns, smooths, uniforms : as in `draw_augmentation`
    p_aug, p_smooth, shear_max : float
    angle_max : float, radians
    windows : int, how many sizes there are to choose from
    """
    for j in range(layers.size):
        layer = layers[j]
        if turns[layer["method"]] and uniforms[j, 1] < p_aug:
            layer["augmented"] = True
            layer["angle"] = angle_max * (2 * uniforms[j, 3] - 1)
            layer["shear"] = shear_max * (2 * uniforms[j, 4] - 1)
        if smooths[layer["method"]] and uniforms[j, 2] < p_smooth:
            layer["window"] = 3 + 2 * math.floor(uniforms[j, 5] * windows)
