"""Stage 2: how many layers, which methods, which ratios (MiAMix, section 3.2.2, eq. 9); together they make a plan."""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import METHODS, MiAMixConfig
from miamix_cpu.jit.flags import exact, exact_entry
from miamix_cpu.masks import UNIFORMS, method_of, methods_that
from miamix_cpu.masks.augment import draw_augmentation
from miamix_cpu.plan.mix_plan import LAYER, MixPlan
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
    """Draw everything random about a batch.

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
    partner, first_layer = np.empty(n, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    layers = np.zeros(n * config.k_max, dtype=LAYER)
    drawn = -1
    while drawn < 0:
        uniforms = rng.random(n + uniforms_for(n))
        drawn = pair_and_divide(
            partner, first_layer, layers, config.k_min, config.k_max, config.p_self, gammas, config.alpha < _GAMMA_FROM,
            uniforms[:n], uniforms[n:],
        )  # fmt: skip
    layers = layers[:drawn]
    draw_layers(config, layers, height, width, rng.random((drawn, UNIFORMS)))
    coefficients = draw_coefficients(layers, rng)
    if probability < 1:
        # Last of all, so that a schedule changes who is mixed and nothing else.
        mixed, k = rng.random(n) < probability, np.diff(first_layer)
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


@exact_entry
def pair_and_divide(
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
) -> int:
    """Turn numbers that NumPy drew into partners, and into layers with a sample and a ratio.

    Parameters
    ----------
    partner, first_layer : int64 (n,), (n + 1,); overwritten
    layers : `LAYER` (n * k_max,), zeros; the first of them are changed
    k_min, k_max : int
    p_self : float in [0, 1]
    gammas, logarithms : from `draw_gammas`, and whether they are logarithms
    counting : float64 (n,), in [0, 1), for the numbers of layers
    pairing : float64 (m,), in [0, 1), for the partners

    Returns
    -------
    int
        How many layers there are; -1 where `pairing` did not suffice.
    """
    if not draw_partners(partner, p_self, pairing):
        return -1
    first_layer[0] = 0
    for i in range(counting.size):
        first_layer[i + 1] = first_layer[i] + k_min + math.floor(counting[i] * (k_max - k_min + 1))
    draw_ratios(first_layer, layers, gammas, logarithms)
    return first_layer[counting.size]  # type: ignore[no-any-return]


@exact
def draw_ratios(first_layer: np.ndarray, layers: np.ndarray, gammas: np.ndarray, logarithms: bool) -> None:
    """Fill `sample` and `ratio` of the layers: the first k components of a Dirichlet distribution (eq. 9).

    Parameters
    ----------
    first_layer : int64 (n + 1,), where each sample's layers begin
    layers : `LAYER` (at least first_layer[n],); changed
    gammas : float64 (n, 2 * most), from `draw_gammas`; changed where they are logarithms
    logarithms : bool
    """
    most = gammas.shape[1] // 2
    for i in range(first_layer.size - 1):
        start, total = first_layer[i], 0.0
        k = first_layer[i + 1] - start
        if logarithms:
            take_powers(gammas[i, :k], gammas[i, most : most + k])
        for j in range(k):
            total += gammas[i, j] + gammas[i, most + j]
        for j in range(k):
            layers[start + j]["sample"] = i
            layers[start + j]["ratio"] = gammas[i, j] / total


@exact
def take_powers(first: np.ndarray, second: np.ndarray) -> None:
    """Logarithms to numbers, up to a common factor that makes the largest of both 1.

    Parameters
    ----------
    first, second : float64 (k,); changed
    """
    largest = -math.inf
    for j in range(first.size):
        largest = max(largest, first[j], second[j])
    for j in range(first.size):
        first[j] = math.exp(first[j] - largest)
        second[j] = math.exp(second[j] - largest)


def draw_layers(config: MiAMixConfig, layers: np.ndarray, height: int, width: int, uniforms: np.ndarray) -> None:
    """Derive the layers from uniform numbers, method by method, all but `sample`, `ratio` and `start`.

    Parameters
    ----------
    config : MiAMixConfig
    layers : `LAYER` (L,), zeros but for `sample` and `ratio`; changed
    height, width : int, pixels
    uniforms : float64 (L, UNIFORMS), in [0, 1)
    """
    counts = np.zeros(len(METHODS), dtype=np.int64)
    choose_methods(layers, uniforms, config.shares, counts)
    draw_augmentation(layers, methods_that("AUGMENTABLE"), uniforms, config, height, width)
    for code, count in enumerate(counts.tolist()):
        if count:
            method_of(code).draw(layers, code, uniforms, config, height, width)


@exact_entry
def choose_methods(layers: np.ndarray, uniforms: np.ndarray, shares: np.ndarray, counts: np.ndarray) -> None:
    """Set `method` of the layers.

    Parameters
    ----------
    layers : `LAYER` (L,); changed
    uniforms : float64 (L, UNIFORMS), in [0, 1); the first column is used
    shares : float64 (number of methods,), MiAMixConfig.shares
    counts : int64 (number of methods,), zeros; changed to how many layers each has
    """
    for j in range(layers.size):
        method = 0
        while uniforms[j, 0] >= shares[method]:
            method += 1
        layers[j]["method"] = method
        counts[method] += 1


def draw_coefficients(layers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lay out the layers' blocks of coefficients, and draw them: standard normals, which some methods then change.

    Parameters
    ----------
    layers : `LAYER` (L,); `start` is changed
    rng : numpy.random.Generator

    Returns
    -------
    float32 (m,)
    """
    size, fields = lay_out(layers)
    coefficients: np.ndarray = rng.standard_normal(size, dtype=np.float32)
    if fields:
        for code in np.unique(layers["method"][layers["is_field"]]).tolist():
            method_of(code).finish(layers[layers["is_field"] & (layers["method"] == code)], coefficients)
    return coefficients


@exact_entry
def lay_out(layers: np.ndarray) -> tuple[int, int]:
    """Set `start`, where each layer's block of coefficients begins (`mix_plan.block_sizes`).

    Parameters
    ----------
    layers : `LAYER` (L,); changed

    Returns
    -------
    two int
        How many coefficients there are, and how many layers have a field.
    """
    size, fields = 0, 0
    for j in range(layers.size):
        layer = layers[j]
        layer["start"] = size
        size += layer["rows"] * layer["columns"] * (1 if layer["is_field"] else 2)
        fields += layer["is_field"]
    return size, fields
