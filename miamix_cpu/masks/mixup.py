"""mixup: the mask is the constant 1 - ratio.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.jit.arrays import fill
from miamix_cpu.jit.compile import exact, kernel


@exact
def draw_mixup(layer: Any, uniform: np.ndarray, options: Any) -> None:
    """Nothing beyond the ratio."""


@kernel
def fill_mixup(hole: np.ndarray, ratio: float) -> None:
    """Fill `hole` with `ratio`.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; overwritten
    ratio : float in [0, 1]
    """
    fill(hole, np.float32(ratio))
