"""SmoothMix: a Gaussian bump of random width as the hole.

Lee et al., "SmoothMix: a Simple Yet Effective Data Augmentation to Train Robust Classifiers", CVPR workshops 2020.
exp(-d^2 / (2 sigma^2)), centre uniform, sigma from U(0.25, 0.5) of the side. No ratio is drawn: the layer's ratio is
the one at which gmix has this sigma. The label follows the pixels; published code has it inverted.
"""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import exact_entry
from miamix_cpu.masks.gmix import fill

__all__ = ["draw", "fill"]


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive the centre and the standard deviation, and from it the ratio.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    low, high = config.smoothmix.sigma
    draw_gaussians(layers, code, uniforms, low, high, config.gauss_scale == "area")


@exact_entry
def draw_gaussians(layers: np.ndarray, code: int, uniforms: np.ndarray, low: float, high: float, area: bool) -> None:
    """`draw`, its options one by one.

    Parameters
    ----------
    layers, code, uniforms : as in `draw`
    low, high : float, the range of sigma, shares of the sides
    area : bool, gauss_scale="area"
    """
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] != code:
            continue
        sigma = low + (high - low) * uniforms[j, 8]
        layer["cy"], layer["cx"], layer["height"], layer["width"] = uniforms[j, 6], uniforms[j, 7], sigma, sigma
        layer["ratio"] = min(1.0, sigma * sigma * (2 * math.pi if area else 1.0))
