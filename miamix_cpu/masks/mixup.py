"""mixup: the mask is the constant 1 - ratio, so there is no hole to fill.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412.
"""

from __future__ import annotations

import numpy as np

from miamix_cpu.config import MiAMixConfig


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Nothing beyond the ratio."""
