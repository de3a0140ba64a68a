"""Compile in the parent, once: forked workers inherit the code, spawned ones load it from the cache."""

from __future__ import annotations

import numpy as np

from miamix_cpu.cache import helper
from miamix_cpu.config import METHODS, MiAMixConfig
from miamix_cpu.fingerprint import hash_images


def warmup() -> None:
    """Compile every kernel, or load it from Numba's cache.

    Takes about ten seconds on a machine that never ran this version, a fraction of one afterwards. Calling it is
    never needed; without it the first batch of each process pays.
    """
    from miamix_cpu.mixer import MiAMix

    config = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS))
    images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    MiAMix(2, config)(images, [0, 1], rng=np.random.default_rng(0))
    hash_images([images[0]])


def other_half() -> None:
    """What `warmup` comes to last; in a process that helps another one, which waits for the end of this."""
    from miamix_cpu.holes import draw_holes

    helper.wanted_for = None
    hash_images([np.zeros((4, 4, 3), dtype=np.uint8)])
    draw_holes.address  # noqa: B018  # compiled for it
