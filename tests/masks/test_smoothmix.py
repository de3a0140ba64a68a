"""SmoothMix: Gaussians of random width against their naive twin; their law by statistics and by integration."""

import math

import numpy as np
import pytest
from scipy import stats

from miamix_cpu import SmoothMixOptions
from miamix_cpu.masks import UNIFORMS, gmix, smoothmix
from tests import naive
from tests.masks.common import (
    BOTH_OF_ENTRIES,
    SIZES,
    alone,
    as_it_is,
    assert_mean,
    check_draw,
    hole_of,
    layers_of,
    with_ratio,
)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(32, 48), (5, 40)])
@pytest.mark.parametrize("scale", ["paper", "area"])
@pytest.mark.parametrize("sigma", [(0.25, 0.5), (0.0, 0.1), (0.4, 0.4), (0.5, 3.0)])
def test_gaussians_from_uniform_numbers(run, sigma, scale, size, rng):
    config = alone("smoothmix", gauss_scale=scale, smoothmix=SmoothMixOptions(sigma=sigma))
    layers, uniforms = check_draw(run, "smoothmix", config, size, rng)
    assert not layers["angle"].any()
    assert ((layers["ratio"] >= 0) & (layers["ratio"] <= 1)).all()
    np.testing.assert_allclose(layers["height"], sigma[0] + (sigma[1] - sigma[0]) * uniforms[:, 8])


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", SIZES)
def test_smoothmix(run, size, rng):
    for cy, cx, sigma in rng.random((4, 3)):
        hole = hole_of(run, layers_of("smoothmix", cy=cy, cx=cx, height=sigma, width=sigma), size)
        np.testing.assert_allclose(hole, naive.gaussian(*size, cy, cx, sigma, sigma, 0.0), atol=2e-6)


def test_it_is_filled_as_gmix():
    assert smoothmix.fill is gmix.fill


@pytest.mark.parametrize("scale", ["paper", "area"])
def test_its_ratio_is_that_of_gmix_at_this_sigma(scale, rng):
    """Drawn with that ratio, gmix has the same hole."""
    uniforms = rng.random((30, UNIFORMS))
    layers, same = layers_of("smoothmix", 30, ratio=0.7), layers_of("gmix", 30)
    sigma = SmoothMixOptions(sigma=(0.1, 0.39))  # beyond, an area would be above 1
    smoothmix.draw(
        layers, layers["method"][0], uniforms, alone("smoothmix", gauss_scale=scale, smoothmix=sigma), 64, 64
    )
    same["ratio"] = layers["ratio"]
    gmix.draw(same, same["method"][0], uniforms, alone("gmix", gauss_scale=scale), 64, 64)
    for name in ("cy", "cx", "height", "width"):
        np.testing.assert_allclose(layers[name], same[name], rtol=1e-12)


# Laws ----------------------------------------------------------------------------------------------------------------


def clipped_mean(low, high, steps=400, points=4000):
    """The hole's mean over a uniform centre and a uniform sigma: (integral of (1 - |d|) exp(-d^2 / 2 sigma^2))^2."""
    d = (np.arange(points) + 0.5) / points
    sigmas = low + (high - low) * (np.arange(steps) + 0.5) / steps
    return np.mean([(2 * np.mean((1 - d) * np.exp(-(d**2) / (2 * sigma**2)))) ** 2 for sigma in sigmas])


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("sigma", [(0.25, 0.5), (0.1, 0.2)])
def test_gaussians_are_clipped_as_they_should_be(sigma, size, rng):
    """Whatever ratio was drawn: none is."""
    means = with_ratio("smoothmix", 0.9, *size, 3000, rng, smoothmix=SmoothMixOptions(sigma=sigma))
    assert_mean(means, clipped_mean(*sigma), extra=0.001)


def test_sigma_is_uniform_and_the_centre_too(rng):
    layers = layers_of("smoothmix", 20_000)
    smoothmix.draw(layers, layers["method"][0], rng.random((20_000, UNIFORMS)), alone("smoothmix"), 32, 32)
    assert stats.kstest(layers["height"], stats.uniform(0.25, 0.25).cdf).pvalue > 1e-4
    for field in ("cy", "cx"):
        assert stats.kstest(layers[field], "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(layers[field], layers["height"])[0, 1]) < 4 / math.sqrt(20_000)


def test_no_deviation_no_hole(rng):
    sigma = SmoothMixOptions(sigma=(0, 0))
    assert with_ratio("smoothmix", 0.5, 9, 14, 20, rng, smoothmix=sigma).max() == 0
    layer = layers_of("smoothmix", cy=0.5, cx=0.5)
    assert hole_of(as_it_is, layer, (5, 5)).max() == 0
