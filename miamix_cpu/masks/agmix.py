"""AGMix: an anisotropic, randomly turned Gaussian bump as the hole.

S = sigma^2 R Sigma R', Sigma = [[1, q], [q, 1]], q ~ U(-q_max, q_max), R a rotation by a random angle (MiAMix,
section 3.1, eq. 5-6). Eq. (6), R M R', is read on the kernel: it is not conformable for an (H, W) mask. Sigma's axes
lie at 45 degrees with variances 1 + q and 1 - q, so the record holds the two standard deviations and one angle.
`gmix.fill_gaussian` renders it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miamix_cpu.jit.compile import exact
from miamix_cpu.masks.gmix import set_deviations


@exact
def draw_agmix(layer: Any, uniform: np.ndarray, options: Any, height: int, width: int) -> None:
    """Derive the centre, the angle and the standard deviations, shares of the sides.

    Parameters
    ----------
    layer : a record of `plan.LAYER`; changed
    uniform : float64 (UNIFORMS,), in [0, 1)
    options : a record of `masks.OPTIONS`
    height, width : int, pixels
    """
    layer["cy"], layer["cx"] = uniform[0], uniform[1]
    layer["angle"] = 2 * math.pi * uniform[2] + math.pi / 4
    set_deviations(layer, options["q_max"] * (2 * uniform[3] - 1), options["gauss_area"], height, width)
