"""Compile in the parent, once: forked workers inherit the code, spawned ones load it from the cache."""

from __future__ import annotations

from functools import cache

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.masks import method_of, methods_that
from miamix_cpu.masks.smooth import smooth
from miamix_cpu.methods import METHODS, PAIRINGS
from miamix_cpu.mix.render import mix_views
from miamix_cpu.mix.resize import paste_resized
from miamix_cpu.mix.targets import soft_targets
from miamix_cpu.plan.choose_partners import choose_partners
from miamix_cpu.plan.sampling import draw_plan
from miamix_cpu.views.guides import aim_layers

#: The dtypes of views and of the mixed images.
MIXES = (("uint8", "uint8"), ("uint8", "float32"), ("float32", "float32"))


def warmup(config: MiAMixConfig | None = None, *, dtype: str | None = None) -> None:
    """Compile the kernels, or load them from Numba's cache.

    Compiling takes 10 to 25 seconds on a machine that never ran this version, loading a fraction of one. A
    `MiAMixCollator` or `MiAMixBatch` does it when it is made, `MiAMix` at its first batch; call it to have it done
    earlier. Where it takes more than two seconds, one line on stderr says so, unless the environment variable
    MIAMIX_CPU_QUIET is set.

    Parameters
    ----------
    config : MiAMixConfig, optional
        Only the kernels that it needs; by default those of all methods and pairings.
    dtype : "uint8" or "float32", optional
        Only for mixed images of this dtype (float32 is also what other floats are made from).
    """
    weights = dict.fromkeys(METHODS, 1.0) if config is None else dict(zip(config.methods, config.weights, strict=True))
    smoothed = config is None or config.p_smooth > 0
    for name, weight in weights.items():
        if weight > 0:
            for views in ("uint8", "float32"):
                if dtype in (None, "float32", views):
                    compile_method(METHODS.index(name), smoothed, views)
    for views, mixed in MIXES:
        if dtype in (None, mixed):
            compile_mix(views, mixed, config is not None and config.partners == "layer")
    for pairing in PAIRINGS[1:]:
        if config is None or config.pairing == pairing:
            compile_pairing(pairing)


@cache
def compile_method(code: int, smoothed: bool, views: str) -> None:
    """Have one method draw a layer, aim it by guides, fill its hole, and have that smoothed."""
    config = MiAMixConfig.plain(METHODS[code], p_smooth=float(smoothed))
    method, plan = method_of(code), draw_plan(config, 1, 2, 2, np.random.default_rng(0))
    holes, slots = np.empty((1, 2, 2), np.float32), np.zeros(1, np.int64)
    images = np.zeros((1, 2, 2), views)
    address = np.array([images.ctypes.data], np.uint64)
    plan = aim_layers(plan, address, address, views, (2, 2), False)
    if hasattr(method, "fill"):
        method.fill(plan.layers, code, slots, holes, plan.coefficients)
        if plan.layers["window"].any():
            smooth(plan.layers, slots, holes)
    if getattr(method, "RESIZES", False):
        canvas = np.empty((1, 4), views)
        resizes = methods_that("RESIZES")
        paste_resized(
            canvas,
            canvas.ctypes.data,
            address,
            plan.layers,
            plan.first_layer,
            resizes,
            0,
            1,
            *(2,) * 4,
            1,
            False,
            False,
        )


@cache
def compile_mix(views: str, mixed: str, layered: bool) -> None:
    """Have views of one dtype mixed into images of another, with one partner or with one for each layer."""
    config = MiAMixConfig.plain("mixup", partners="layer" if layered else "sample", k_max=2)
    plan = draw_plan(config, 1, 2, 2, np.random.default_rng(0))
    images, ones = np.zeros((1, 2, 2), views), np.ones(1, np.float32)
    address = np.array([images.ctypes.data], np.uint64)
    mix_views(plan, address, address, views, np.empty((1, 2, 2), mixed), None, ones, ones)
    if not layered:
        soft_targets(np.zeros(1, np.int64), plan.partner, ones, 1, 0.0, np.empty((1, 1), np.float32))


@cache
def compile_pairing(pairing: str) -> None:
    """Have partners chosen by the labels."""
    choose_partners(pairing, np.zeros(2, np.int64), np.random.default_rng(0))
