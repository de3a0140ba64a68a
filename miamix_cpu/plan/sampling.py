"""Stage 2: how many layers, which methods, which ratios (MiAMix, section 3.2.2, eq. 9); together they make a plan."""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.arrays import run
from miamix_cpu.jit.compile import entry, exact
from miamix_cpu.jit.scalars import larger
from miamix_cpu.masks import UNIFORMS, draw_layers, filter_noise, options_of
from miamix_cpu.plan.mix_plan import LAYER, MixPlan
from miamix_cpu.plan.normals import draw_normals
from miamix_cpu.plan.pairing import draw_partners, uniforms_for

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
    samples: bytes | None = None,
) -> MixPlan:
    """Draw everything random about a batch: NumPy draws the numbers, kernels make records and normals of them.

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
    samples : bytes, optional
        The samples' digest, kept in the plan.
    """
    gammas = draw_gammas(n, config.alpha, config.k_max, rng)
    k, partner, first_layer = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    layers = np.zeros(n * config.k_max, dtype=LAYER)
    before, drawn = 2 + n + uniforms_for(n), -1
    while drawn < 0:
        uniforms = rng.random(before + len(layers) * UNIFORMS)
        drawn, normals, fields = fill_plan(
            k, partner, first_layer, layers, config.k_min, config.k_max, config.p_self, gammas,
            config.alpha < _GAMMA_FROM, uniforms[2 : 2 + n], uniforms[2 + n : before], uniforms[before:],
            options_of(config, height, width), height, width,
        )  # fmt: skip
    layers = layers[:drawn]
    coefficients = draw_normals(normals, uniforms[:2])
    if fields:
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
        samples=samples,
    )


def draw_gammas(n: int, alpha: float, most: int, rng: np.random.Generator) -> np.ndarray:
    """Gamma variates of shape `alpha`, or their logarithms where `alpha` is below 0.1: float64 (n, 2 * most).

    The first k over the sum of 2k of them are the first k components of Dir(alpha, .., alpha, k * alpha).

    Parameters
    ----------
    n : int
    alpha : float, above 0
    most : int, the largest k
    """
    if alpha >= _GAMMA_FROM:
        return rng.standard_gamma(alpha, size=(n, 2 * most))
    # gamma(alpha) = gamma(alpha + 1) * u^(1 / alpha), which may be below the smallest float.
    logs = np.log1p(-rng.random((n, 2 * most))) / alpha
    logs += np.log(rng.standard_gamma(alpha + 1, size=logs.shape))
    return logs


@entry
def fill_plan(
    k: np.ndarray,
    partner: np.ndarray,
    first_layer: np.ndarray,
    layers: np.ndarray,
    k_min: int,
    k_max: int,
    p_self: float,
    gammas: np.ndarray,
    logarithms: bool,
    counting: np.ndarray,
    pairing: np.ndarray,
    uniforms: np.ndarray,
    options: np.ndarray,
    height: int,
    width: int,
) -> tuple[int, int, int]:
    """Turn numbers that NumPy drew into partners and layers.

    Parameters
    ----------
    k, partner, first_layer : int64 (n,), (n,), (n + 1,); overwritten
    layers : `plan.LAYER` (n * k_max,), zeros; the first of them are overwritten
    k_min, k_max : int
    p_self : float in [0, 1]
    gammas, logarithms : from `draw_gammas`, and whether they are logarithms
    counting : float64 (n,), in [0, 1), for the numbers of layers
    pairing : float64 (m,), in [0, 1), for the partners
    uniforms : float64 (n * k_max * UNIFORMS,), in [0, 1), for the layers
    options : `masks.OPTIONS` (1,)
    height, width : int, pixels

    Returns
    -------
    int, int, int
        How many layers there are, how many normal numbers they need, and how many of them are whole fields; -1 layers
        where `pairing` did not suffice.
    """
    if not draw_partners(partner, p_self, pairing):
        return -1, 0, 0
    for i in range(k.size):
        k[i] = k_min + math.floor(counting[i] * (k_max - k_min + 1))
    draw_ratios(first_layer, layers, k, gammas, logarithms)
    drawn = run(layers, 0, first_layer[k.size])
    normals = draw_layers(drawn, uniforms, options[0], height, width)
    fields = 0
    for j in range(drawn.size):
        fields += drawn[j]["is_field"]
    return drawn.size, normals, fields


@exact
def draw_ratios(
    first_layer: np.ndarray, layers: np.ndarray, k: np.ndarray, gammas: np.ndarray, logarithms: bool
) -> None:
    """Fill `first_layer`, and `sample` and `ratio` of the layers: the first k components of a Dirichlet (eq. 9).

    Parameters
    ----------
    first_layer : int64 (n + 1,); overwritten
    layers : `plan.LAYER` (at least k.sum(),); changed
    k : int64 (n,)
    gammas : float64 (n, 2 * most), from `draw_gammas`; changed where they are logarithms
    logarithms : bool
    """
    most = gammas.shape[1] // 2
    first_layer[0] = 0
    for i in range(k.size):
        start, total = first_layer[i], 0.0
        if logarithms:
            take_powers(run(gammas[i], 0, k[i]), run(gammas[i], most, most + k[i]))
        for j in range(k[i]):
            total += gammas[i, j] + gammas[i, most + j]
        for j in range(k[i]):
            layers[start + j]["sample"] = i
            layers[start + j]["ratio"] = gammas[i, j] / total
        first_layer[i + 1] = start + k[i]


@exact
def take_powers(first: np.ndarray, second: np.ndarray) -> None:
    """Logarithms to numbers, up to a common factor that makes the largest of both 1.

    Parameters
    ----------
    first, second : float64 (k,); changed
    """
    largest = -math.inf
    for j in range(first.size):
        largest = larger(largest, larger(first[j], second[j]))
    for j in range(first.size):
        first[j] = math.exp(first[j] - largest)
        second[j] = math.exp(second[j] - largest)
