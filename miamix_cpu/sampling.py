"""Stage 2: how many layers, which methods, which ratios (MiAMix, section 3.2.2, eq. 9); together they make a plan."""

from __future__ import annotations

import numpy as np

from miamix_cpu.compile import entry, exact
from miamix_cpu.config import MiAMixConfig
from miamix_cpu.masks import UNIFORMS, draw_layers, filter_noise, options_of
from miamix_cpu.normals import draw_normals
from miamix_cpu.pairing import draw_partners, uniforms_for
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
    k = rng.integers(config.k_min, config.k_max + 1, size=n)
    gammas = draw_gammas(k, config.alpha, config.k_max, rng)
    partner, first_layer = np.empty(n, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    layers = np.zeros(int(k.sum()), dtype=LAYER)
    count, blocks = uniforms_for(n), -1
    while blocks < 0:
        uniforms = rng.random(count + len(layers) * UNIFORMS)
        blocks = fill_plan(
            partner, first_layer, layers, config.p_self, k, gammas, uniforms[:count], uniforms[count:],
            options_of(config, height, width), height, width,
        )  # fmt: skip
    coefficients = draw_normals(blocks, rng)
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


def draw_gammas(k: np.ndarray, alpha: float, most: int, rng: np.random.Generator) -> np.ndarray:
    """Gamma variates of shape `alpha`, twice `most` a sample, up to a factor of the sample's own.

    The first k over the sum of 2k of them are the first k components of Dir(alpha, .., alpha, k * alpha).

    Parameters
    ----------
    k : int64 (n,)
    alpha : float, above 0
    most : int, the largest k

    Returns
    -------
    float64 (n, 2 * most)
    """
    if alpha >= _GAMMA_FROM:
        return rng.standard_gamma(alpha, size=(len(k), 2 * most))
    # Below the smallest float: in logarithms, gamma(alpha) = gamma(alpha + 1) * u^(1 / alpha), over the largest used.
    logs = np.log1p(-rng.random((len(k), 2 * most))) / alpha
    logs += np.log(rng.standard_gamma(alpha + 1, size=logs.shape))
    logs[np.arange(2 * most) % most >= k[:, None]] = -np.inf
    return np.exp(logs - logs.max(axis=1, keepdims=True))  # type: ignore[no-any-return]


@entry
def fill_plan(
    partner: np.ndarray,
    first_layer: np.ndarray,
    layers: np.ndarray,
    p_self: float,
    k: np.ndarray,
    gammas: np.ndarray,
    pairing: np.ndarray,
    uniforms: np.ndarray,
    options: np.ndarray,
    height: int,
    width: int,
) -> int:
    """Turn numbers that NumPy drew into partners and layers.

    Parameters
    ----------
    partner, first_layer : int64 (n,), (n + 1,); overwritten
    layers : `plan.LAYER` (L,), zeros; overwritten
    p_self : float in [0, 1]
    k : int64 (n,), L in all
    gammas : float64 (n, 2 * most), from `draw_gammas`
    pairing : float64 (m,), in [0, 1), for the partners
    uniforms : float64 (L * UNIFORMS,), in [0, 1), for the layers
    options : `masks.OPTIONS` (1,)
    height, width : int, pixels

    Returns
    -------
    int
        How many normal numbers the layers need; -1 where `pairing` did not suffice.
    """
    if not draw_partners(partner, p_self, pairing):
        return -1
    draw_ratios(first_layer, layers, k, gammas)
    return draw_layers(layers, uniforms, options[0], height, width)  # type: ignore[no-any-return]


@exact
def draw_ratios(first_layer: np.ndarray, layers: np.ndarray, k: np.ndarray, gammas: np.ndarray) -> None:
    """Fill `first_layer`, and `sample` and `ratio` of the layers: the first k components of a Dirichlet (eq. 9).

    Parameters
    ----------
    first_layer : int64 (n + 1,); overwritten
    layers : `plan.LAYER` (L,); changed
    k : int64 (n,), L in all
    gammas : float64 (n, 2 * most), from `draw_gammas`
    """
    most = gammas.shape[1] // 2
    first_layer[0] = 0
    for i in range(k.size):
        start, total = first_layer[i], 0.0
        for j in range(k[i]):
            total += gammas[i, j] + gammas[i, most + j]
        for j in range(k[i]):
            layers[start + j]["sample"] = i
            layers[start + j]["ratio"] = gammas[i, j] / total
        first_layer[i + 1] = start + k[i]
