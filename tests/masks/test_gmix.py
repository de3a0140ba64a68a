"""The Gaussians of gmix and agmix against their naive twin, as plain Python and compiled; their law by statistics."""

import math

import numpy as np
import pytest

from miamix_cpu import AGMixOptions
from miamix_cpu.masks import agmix, gmix
from miamix_cpu.masks.gmix import fill_gaussian, power_of_half
from tests import naive
from tests.kernels import compiled
from tests.masks.common import (
    BOTH,
    BOTH_OF_ENTRIES,
    SIZES,
    alone,
    as_it_is,
    assert_mean,
    blank,
    check_draw,
    hole_of,
    layers_of,
    with_ratio,
)


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_gaussian(run, size, rng):
    for _ in range(5):
        cy, cx, sigma_v, sigma_u, angle = rng.random(5) * (1, 1, 1, 1, 7)
        hole = blank(size)
        run(fill_gaussian)(hole, cy, cx, sigma_v, sigma_u, angle)
        np.testing.assert_allclose(hole, naive.gaussian(*size, cy, cx, sigma_v, sigma_u, angle), atol=2e-6)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("method", ["gmix", "agmix"])
def test_a_layers_gaussian(run, method, rng):
    fields = dict(zip(("cy", "cx", "height", "width", "angle"), rng.random(5) * (1, 1, 0.5, 0.5, 7), strict=True))
    hole = hole_of(run, layers_of(method, **fields), (9, 14))
    np.testing.assert_allclose(hole, naive.gaussian(9, 14, *fields.values()), atol=2e-6)


@BOTH
def test_no_deviation_no_hole(run):
    for deviations in ((0.0, 0.3), (0.3, 0.0), (0.0, 0.0)):
        hole = blank((5, 6))
        run(fill_gaussian)(hole, 0.5, 0.5, *deviations, 0.4)
        assert (hole == 0).all()


def test_gaussian_thin_and_far_stays_in_range():
    """The exponent in float32 must not go below 0, nor the result above 1."""
    hole = blank((64, 512))
    compiled(fill_gaussian)(hole, 0.01, 0.99, 0.5 / 64, 1.0, 0.3)
    assert hole.min() >= 0
    assert hole.max() <= 1 + 1e-6
    np.testing.assert_allclose(hole, naive.gaussian(64, 512, 0.01, 0.99, 0.5 / 64, 1.0, 0.3), atol=2e-4)


@BOTH
def test_power_of_half(run):
    z = np.concatenate([np.linspace(0, 2, 2001), np.linspace(2, 200, 500), [3e38, np.inf]]).astype(np.float32)
    found = np.array([run(power_of_half)(value) for value in z], dtype=np.float64)
    np.testing.assert_allclose(found, np.exp2(-z.astype(np.float64)), atol=2e-7)
    assert run(power_of_half)(np.float32(0)) == 1


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(32, 32), (5, 40)])
@pytest.mark.parametrize("scale", ["paper", "area"])
@pytest.mark.parametrize("method", ["gmix", "agmix"])
def test_gaussians_from_uniform_numbers(run, method, scale, size, rng):
    changes = {"agmix": AGMixOptions(q_max=0.3)} if scale == "area" else {}
    layers, _ = check_draw(run, method, alone(method, gauss_scale=scale, **changes), size, rng)
    assert method == "agmix" or not layers["angle"].any()


# Laws ----------------------------------------------------------------------------------------------------------------


def clipped_gaussian_mean(sigma):
    """Mean over c of the hole's mean: the integral of (1 - |d|) exp(-d^2 / 2 sigma^2) over [-1, 1], squared."""
    d = (np.arange(20000) + 0.5) / 20000
    return (2 * np.mean((1 - d) * np.exp(-(d**2) / (2 * sigma**2)))) ** 2


def agmix_mean(ratio, scale, rng, centres=400):
    """Hole mean of agmix by integration over many centres, angles and q on a 64 x 64 grid."""
    p = (np.arange(64) + 0.5) / 64
    total = 0.0
    for _ in range(centres):
        cy, cx, q, angle = rng.random(4) * (1, 1, 1.9, 2 * math.pi) - (0, 0, 0.95, 0)
        sigma = math.sqrt(ratio if scale == "paper" else ratio / (2 * math.pi * math.sqrt(1 - q * q)))
        precision = naive.agmix_precision(sigma, q, angle)
        dx, dy = p[None, :] - cx, p[:, None] - cy
        z = precision[0, 0] * dx * dx + 2 * precision[0, 1] * dx * dy + precision[1, 1] * dy * dy
        total += np.exp(-0.5 * z).mean()
    return total / centres


def test_the_papers_gaussian_is_far_above_its_ratio(rng):
    found = [agmix_mean(ratio, "paper", rng, centres=4000) for ratio in (0.05, 0.1, 0.25, 0.5)]
    np.testing.assert_allclose(found, (0.17, 0.29, 0.49, 0.65), atol=0.015)


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("scale", ["paper", "area"])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_gaussians_are_clipped_as_they_should_be(scale, ratio, size, rng):
    sigma = math.sqrt(ratio if scale == "paper" else ratio / (2 * math.pi))
    means = with_ratio("gmix", ratio, *size, 2000, rng, gauss_scale=scale)
    assert_mean(means, clipped_gaussian_mean(sigma), extra=0.001)
    means = with_ratio("agmix", ratio, *size, 2000, rng, gauss_scale=scale)
    expected = agmix_mean(ratio, scale, rng, centres=4000)
    spread = means.std() / math.sqrt(4000)
    assert_mean(means, expected, extra=3 * spread)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_agmix_is_the_papers_kernel(run, ratio, rng):
    """Two standard deviations and an angle stand for sigma^2 R Sigma R'."""
    layers, uniforms = layers_of("agmix", 20, ratio=ratio), rng.random((20, 10))
    run(agmix.draw)(layers, layers["method"][0], uniforms, alone("agmix"), 32, 32)
    for layer, uniform in zip(layers, uniforms, strict=True):
        q, angle = 0.95 * (2 * uniform[9] - 1), 2 * math.pi * uniform[8]
        c, s = math.cos(layer["angle"]), math.sin(layer["angle"])
        rotation = np.array([[c, -s], [s, c]])
        covariance = rotation @ np.diag([layer["width"] ** 2, layer["height"] ** 2]) @ rotation.T
        np.testing.assert_allclose(
            np.linalg.inv(covariance), naive.agmix_precision(math.sqrt(ratio), q, angle), rtol=1e-9
        )


def test_agmix_is_filled_as_gmix():
    assert agmix.fill is gmix.fill
    layer = {"cy": 0.4, "cx": 0.6, "height": 0.2, "width": 0.3, "angle": 0.5}
    holes = [hole_of(as_it_is, layers_of(method, **layer), (9, 14)) for method in ("gmix", "agmix")]
    np.testing.assert_array_equal(*holes)
