"""AGMix: an anisotropic, randomly rotated Gaussian bump as the hole.

S = sigma^2 R Sigma R', Sigma = [[1, q], [q, 1]], q ~ U(-q_max, q_max), R a rotation by a random angle (MiAMix,
section 3.1, eq. 5-6). Eq. (6), R M R', is read on the kernel: it is not conformable for an (H, W) mask. Sigma's axes
lie at 45 degrees with variances 1 + q and 1 - q, so the record holds the two standard deviations and one angle.
"""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.masks.gmix import draw_gaussians, fill

__all__ = ["details", "draw", "fill"]


def details(layer: np.void) -> list[str]:
    """What `describe` says of a layer."""
    longer, shorter = max(layer["height"], layer["width"]), min(layer["height"], layer["width"])
    return [f"axes {longer / max(shorter, 1e-9):.1f}:1 at {math.degrees(layer['angle']) % 180:.0f} deg"]


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive the centre, the angle and the standard deviations, shares of the sides.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    draw_gaussians(layers, code, uniforms, config.agmix.q_max, config.gauss_scale == "area", height, width)
