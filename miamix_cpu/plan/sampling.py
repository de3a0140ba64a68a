"""Stage 2: how many layers, which methods, which ratios (MiAMix, section 3.2.2, eq. 9); together they make a plan."""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import exact, exact_entry
from miamix_cpu.masks import UNIFORMS, method_of, methods_that
from miamix_cpu.masks.augment import draw_augmentation
from miamix_cpu.methods import METHODS
from miamix_cpu.plan.mix_plan import MixPlan
from miamix_cpu.plan.pairs import draw_pairs

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
    labels: np.ndarray | None = None,
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
    key, samples : bytes, optional
        What `rng` was made from, and the samples' digest. They are kept in the plan.
    labels : int64 (n,) or float32 (n, C), optional
        What partners are chosen by, if `config.pairing` is not "random".

    Raises
    ------
    ValueError
        If the pairing needs labels and there are none.
    """
    partner, first_layer, layers = draw_pairs(config, n, labels, rng)
    uniforms = rng.random((len(layers), UNIFORMS))
    counts = np.zeros(len(METHODS), dtype=np.int64)
    choose_methods(layers, uniforms, config.shares, counts)
    alphas = config.alphas if isinstance(config.alphas, float) else config.alphas[layers["method"]]
    gammas, logarithms = draw_gammas(len(layers), alphas, rng)
    draw_ratios(first_layer, layers, gammas, logarithms, *config.ratio_range)
    draw_layers(config, layers, counts, height, width, uniforms)
    coefficients = draw_coefficients(layers, rng)
    depth = float(rng.random()) if config.mixes == "features" else 0.0
    if probability < 1:  # last of all, so that a schedule changes who is mixed and nothing else
        layers = keep_layers(first_layer, layers, rng.random(n) < probability)
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
        mixes=config.mixes,
        depth=depth,
        key=key,
        samples=samples,
    )


def keep_layers(first_layer: np.ndarray, layers: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """Return the layers of some samples only.

    Parameters
    ----------
    first_layer : int64 (n + 1,), where each sample's layers begin; changed
    layers : `LAYER` (L,)
    mixed : bool (n,), the samples whose layers are kept
    """
    k = np.diff(first_layer)
    np.cumsum(np.where(mixed, k, 0), out=first_layer[1:])
    kept: np.ndarray = layers[np.repeat(mixed, k)]
    return kept


def draw_gammas(count: int, alpha: np.ndarray | float, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Gamma variates of shape `alpha`, or their logarithms if an alpha is below 0.1.

    Those of a sample's k layers in the first row, over the sum of both rows, are the first k components of
    Dir(alpha_1, .., alpha_k, alpha_1 + .. + alpha_k).

    Parameters
    ----------
    count : int, of layers
    alpha : float, or float64 (count,); above 0

    Returns
    -------
    float64 (2, count), and whether they are logarithms
    """
    if (alpha if isinstance(alpha, float) else np.min(alpha, initial=np.inf)) >= _GAMMA_FROM:
        return rng.standard_gamma(alpha, size=(2, count)), False
    # gamma(alpha) = gamma(alpha + 1) * u^(1 / alpha), which may be below the smallest float.
    logs = np.log1p(-rng.random((2, count))) / alpha
    logs += np.log(rng.standard_gamma(np.add(alpha, 1), size=logs.shape))
    return logs, True


@exact_entry
def draw_ratios(
    first_layer: np.ndarray, layers: np.ndarray, gammas: np.ndarray, logarithms: bool, low: float, high: float
) -> None:
    """Set `ratio` of the layers: the first k components of a Dirichlet distribution (eq. 9), from `low` to `high`.

    Parameters
    ----------
    first_layer : int64 (n + 1,), where each sample's layers begin
    layers : `LAYER` (L,); changed
    gammas : float64 (2, L), from `draw_gammas`; changed where they are logarithms
    logarithms : bool
    low, high : float, what ratios of 0 and 1 become
    """
    for i in range(first_layer.size - 1):
        start, end, total = first_layer[i], first_layer[i + 1], 0.0
        if logarithms:
            take_powers(gammas[0, start:end], gammas[1, start:end])
        for j in range(start, end):
            total += gammas[0, j] + gammas[1, j]
        for j in range(start, end):
            layers[j]["ratio"] = low + (high - low) * (gammas[0, j] / total)


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


def draw_layers(
    config: MiAMixConfig, layers: np.ndarray, counts: np.ndarray, height: int, width: int, uniforms: np.ndarray
) -> None:
    """Derive the layers from uniform numbers, method by method, all but `sample`, `method`, `ratio` and `start`.

    Parameters
    ----------
    config : MiAMixConfig
    layers : `LAYER` (L,), zeros but for `sample`, `method` and `ratio`; changed
    counts : int64 (number of methods,), from `choose_methods`
    height, width : int, pixels
    uniforms : float64 (L, UNIFORMS), in [0, 1)
    """
    draw_augmentation(layers, methods_that("TURNS"), methods_that("SMOOTHS"), uniforms, config, height, width)
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

    Blocks that depend on guides are zeros.

    Parameters
    ----------
    layers : `LAYER` (L,); `start` is changed
    rng : numpy.random.Generator

    Returns
    -------
    float32 (m,)
    """
    size, drawn, fields = lay_out(layers, methods_that("GUIDED"))
    if drawn == size:
        coefficients: np.ndarray = rng.standard_normal(size, dtype=np.float32)
    else:
        coefficients = np.zeros(size, dtype=np.float32)
        rng.standard_normal(dtype=np.float32, out=coefficients[:drawn])
    if fields:
        finished = layers["is_field"] & methods_that("finish")[layers["method"]]
        for code in np.unique(layers["method"][finished]).tolist():
            method_of(code).finish(layers[finished & (layers["method"] == code)], coefficients)
    return coefficients


@exact_entry
def lay_out(layers: np.ndarray, guided: np.ndarray) -> tuple[int, int, int]:
    """Set `start`, where each layer's block of coefficients begins (`layers.block_sizes`).

    Parameters
    ----------
    layers : `LAYER` (L,); changed
    guided : bool (number of methods,), by code: whether blocks depend on guides; these come after all others

    Returns
    -------
    three int
        How many coefficients there are, how many of them are drawn, and how many of the layers of those have a field.
    """
    size, drawn, fields = 0, 0, 0
    for last in range(2):
        for j in range(layers.size):
            layer = layers[j]
            if guided[layer["method"]] != (last == 1):
                continue
            layer["start"] = size
            size += layer["rows"] * layer["columns"] * (1 if layer["is_field"] else 2)
            fields += layer["is_field"] and last == 0
        if last == 0:
            drawn = size
    return size, drawn, fields
