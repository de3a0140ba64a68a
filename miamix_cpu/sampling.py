"""Stage 2: how many layers, which methods, which ratios (MiAMix, section 3.2.2, eq. 9); together they make a plan."""

from __future__ import annotations

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.masks import UNIFORMS, draw_layers, filter_noise, options_of
from miamix_cpu.pairing import draw_partners
from miamix_cpu.plan import LAYER, MixPlan

_GAMMA_FROM = 0.1  # a gamma variate of this shape is below 1e-300 once in 1e30 draws


def draw_plan(
    config: MiAMixConfig,
    n: int,
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    probability: float = 1.0,
    key: bytes | None = None,
) -> MixPlan:
    """Draw everything random about a batch: NumPy draws the numbers, a kernel turns them into records.

    Parameters
    ----------
    config : MiAMixConfig
    n, height, width : int, at least 1
        Number of images and their size in pixels.
    rng : numpy.random.Generator
    probability : float in [0, 1]
        Each sample's probability of being mixed at all. Those that are mixed are so in the same way whatever it is.
    key : bytes, optional
        What `rng` was made from, kept in the plan.
    """
    partner = draw_partners(n, config.p_self, rng)
    k = rng.integers(config.k_min, config.k_max + 1, size=n)
    ratios = draw_ratios(k, config.alpha, rng)

    first_layer = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(k, out=first_layer[1:])
    layers = np.zeros(len(ratios), dtype=LAYER)
    layers["sample"] = np.repeat(np.arange(n), k)
    layers["ratio"] = ratios
    uniforms = rng.random((len(layers), UNIFORMS))
    blocks = draw_layers(layers, uniforms, options_of(config, height, width), height, width)
    coefficients = rng.standard_normal(blocks, dtype=np.float32)
    for layer in layers[layers["is_field"]]:
        noise = coefficients[layer["start"] :][: height * width].reshape(height, width)
        noise[:] = filter_noise(noise, layer["decay"], layer["angle"], layer["shear"])
    if probability < 1:
        # Last of all, so that a schedule changes who is mixed and nothing else.
        mixed = rng.random(n) < probability
        layers = layers[np.repeat(mixed, k)]
        np.cumsum(np.where(mixed, k, 0), out=first_layer[1:])
    return MixPlan(
        height=height,
        width=width,
        partner=partner,
        layers=layers,
        first_layer=first_layer,
        coefficients=coefficients,
        merge=config.merge,
        lam_from=config.lam_from,
        second_view=config.second_view,
        key=key,
    )


def draw_ratios(k: np.ndarray, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """The first k components of Dir(alpha, .., alpha, k * alpha), k + 1 components, for each sample (eq. 9).

    Gamma variates over their sum; where alpha is so small that all of them might be 0, by stick-breaking, which takes
    four times as long: each component is a Beta share of what is left.

    Parameters
    ----------
    k : int64 (n,), 0 or more
    alpha : float, above 0

    Returns
    -------
    float64 (k.sum(),)
        Sample by sample; their sum over a sample is Beta(k * alpha, k * alpha).
    """
    most = int(k.max(initial=0))
    present = np.arange(most) < k[:, None]
    if alpha >= _GAMMA_FROM:
        ratios = rng.standard_gamma(alpha, size=(len(k), most)) * present
        rest = rng.standard_gamma(alpha * np.maximum(k, 1))
        ratios /= (ratios.sum(axis=1) + rest)[:, None]
        return ratios[present]
    ratios = np.zeros((len(k), most))
    left = np.ones(len(k))
    for j in range(most):
        after = np.maximum(2 * k - 1 - j, 1)  # the components after this one, in units of alpha
        ratios[:, j] = left * rng.beta(alpha, alpha * after)
        left -= ratios[:, j]
    return ratios[present]
