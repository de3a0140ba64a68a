"""Compile in the parent, once: forked workers inherit the code, spawned ones load it from the cache."""

from __future__ import annotations

from functools import cache

import numpy as np

from miamix_cpu.config import METHODS, MiAMixConfig
from miamix_cpu.jit.cache import helper
from miamix_cpu.samples.fingerprint import hash_images


@cache
def compile_here() -> None:
    """`warmup`, once in a process and those that are forked from it.

    A collator does it when it is made, which is before its workers are started: they would all wait for the first of
    them, in each epoch anew where there is no cache, and longer than `DataLoader(timeout=)` allows.
    """
    warmup()


def warmup() -> None:
    """Compile every kernel, or load it from Numba's cache.

    Takes about ten seconds on a machine that never ran this version, a fraction of one afterwards. A `MiAMixCollator`
    or `MiAMixBatch` does it when it is made, `MiAMix` at its first batch; call it to have it done earlier.
    """
    from miamix_cpu.mixer import MiAMix

    config = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), p_self=0.0)
    images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    MiAMix(2, config)(images, [0, 1], rng=np.random.default_rng(0))
    hash_images([images[0]])


def other_half() -> None:
    """What `warmup` comes to last; in a process that helps another one, which waits for the end of this."""
    from miamix_cpu.mix.holes import draw_holes

    helper.wanted_for = None
    hash_images([np.zeros((4, 4, 3), dtype=np.uint8)])
    draw_holes.address  # noqa: B018  # compiled for it
