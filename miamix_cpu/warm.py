"""Compile in the parent, once: forked workers inherit the code, spawned ones load it from the cache."""

from __future__ import annotations

import numpy as np

from miamix_cpu.config import METHODS, MiAMixConfig
from miamix_cpu.fingerprint import hash_images


def warmup() -> None:
    """Compile every kernel for every dtype, or load them from Numba's cache.

    Takes some seconds on a machine that never ran this version, a fraction of one afterwards. Calling it is never
    needed; without it the first batch of each process pays.
    """
    from miamix_cpu.mixer import MiAMix

    config = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS))
    for source, target in (("uint8", "uint8"), ("uint8", "float32"), ("float32", "float32")):
        images = np.zeros((2, 4, 4, 3), dtype=source)
        MiAMix(2, config, dtype=target)(images, [0, 1], rng=np.random.default_rng(0))
    hash_images([images[0]])
