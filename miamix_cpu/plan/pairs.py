"""Stages 1 and 2 for a batch: partners, also one for each layer, and how many layers each sample has."""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import exact_entry
from miamix_cpu.plan.choose_partners import choose_partners
from miamix_cpu.plan.layers import LAYER
from miamix_cpu.plan.pairing import draw_pairing, draw_partners, uniforms_for


def draw_pairs(
    config: MiAMixConfig, n: int, labels: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the plan's `partner` and `first_layer`, and its layers with nothing but a sample.

    Parameters
    ----------
    config : MiAMixConfig
    n : int
    labels : int64 (n,) or float32 (n, C), or None if `config.pairing` is "random"
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        If the pairing needs labels and there are none.
    """
    draw = draw_randomly if config.pairing == "random" else draw_by_labels
    partner, first_layer, layers = draw(config, n, labels, rng)
    if config.partners == "layer":
        further = [draw_partner(config, n, labels, rng) for _ in range(config.k_max - 1)]
        partner = np.stack([partner, *further], axis=1)
    return partner, first_layer, layers


def draw_randomly(
    config: MiAMixConfig, n: int, labels: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`draw_pairs` with one random partner for each sample."""
    partner, first_layer = np.empty(n, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    layers = np.zeros(n * config.k_max, dtype=LAYER)
    drawn = -1
    while drawn < 0:
        uniforms = rng.random(n + uniforms_for(n))
        drawn = pair_and_divide(
            partner, first_layer, layers, config.k_min, config.k_max, config.p_self, uniforms[:n], uniforms[n:]
        )
    return partner, first_layer, layers[:drawn]


def draw_by_labels(
    config: MiAMixConfig, n: int, labels: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`draw_pairs` with one partner for each sample, chosen by the labels."""
    partner = draw_partner(config, n, labels, rng)
    k = config.k_min + np.floor(rng.random(n) * (config.k_max - config.k_min + 1)).astype(np.int64)
    layers = np.zeros(k.sum(), dtype=LAYER)
    layers["sample"] = np.repeat(np.arange(n), k)
    return partner, np.concatenate(([0], np.cumsum(k))), layers


def draw_partner(config: MiAMixConfig, n: int, labels: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Draw a partner for each sample, itself with `config.p_self`: int64 (n,).

    Parameters
    ----------
    config, n, labels, rng : as in `draw_pairs`
    """
    if config.pairing == "random":
        drawn = np.empty(n, dtype=np.int64)
        while not draw_pairing(drawn, config.p_self, rng.random(uniforms_for(n) + n)):
            pass
        return drawn
    if labels is None:
        raise ValueError(
            f"pairing={config.pairing!r} chooses partners by the labels, got none: pass labels=, one for each image"
        )
    partner = choose_partners(config.pairing, labels, rng)
    return np.where(rng.random(n) < config.p_self, np.arange(n), partner)


@exact_entry
def pair_and_divide(
    partner: np.ndarray,
    first_layer: np.ndarray,
    layers: np.ndarray,
    k_min: int,
    k_max: int,
    p_self: float,
    counting: np.ndarray,
    pairing: np.ndarray,
) -> int:
    """Turn numbers that NumPy drew into partners, and into layers with a sample.

    Parameters
    ----------
    partner, first_layer : int64 (n,), (n + 1,); overwritten
    layers : `LAYER` (n * k_max,), zeros; the first of them are changed
    k_min, k_max : int
    p_self : float in [0, 1]
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
        for j in range(first_layer[i], first_layer[i + 1]):
            layers[j]["sample"] = i
    return first_layer[counting.size]  # type: ignore[no-any-return]
