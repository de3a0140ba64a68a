"""Ratios where each method has a concentration of its own, and where they have a range: by statistics, a fixed seed."""

import itertools

import numpy as np
import pytest
from scipy import stats

from miamix_cpu import CutMixOptions, MiAMix, MiAMixConfig
from miamix_cpu.methods import METHODS
from miamix_cpu.plan.sampling import draw_gammas, draw_plan

SIGNIFICANT = 1e-4
#: Methods that take the ratio that was drawn.
TAKING = ("mixup", "cutmix", "gmix", "hmix", "saliencymix")


def ratios_by_methods(alpha, k, n=16_000):
    """The ratios (n, k) of samples of k layers, and their methods by name."""
    config = MiAMixConfig(
        methods=tuple(alpha), weights=(1,) * len(alpha), alpha=alpha, k_min=k, k_max=k, p_aug=0, p_smooth=0
    )
    layers = draw_plan(config, n, 4, 4, np.random.default_rng(k)).layers
    return layers["ratio"].reshape(n, k), np.array(METHODS)[layers["method"]].reshape(n, k)


@pytest.mark.parametrize("alpha", [{"mixup": 0.3, "cutmix": 2.0}, {"mixup": 1.0, "gmix": 0.2, "hmix": 5.0}])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_ratios_are_dirichlet_of_the_layers_own_concentrations(k, alpha):
    """The first k components of Dir(alpha_1, .., alpha_k, alpha_1 + .. + alpha_k), whichever the methods are."""
    ratios, methods = ratios_by_methods(alpha, k)
    seen = 0
    for names in itertools.product(alpha, repeat=k):
        found = ratios[(methods == names).all(axis=1)]
        alphas = np.array([alpha[name] for name in names])
        assert len(found) > 300
        for j in range(k):
            assert (
                stats.kstest(found[:, j], stats.beta(alphas[j], 2 * alphas.sum() - alphas[j]).cdf).pvalue > SIGNIFICANT
            )
        assert stats.kstest(found.sum(axis=1), stats.beta(alphas.sum(), alphas.sum()).cdf).pvalue > SIGNIFICANT
        expected = np.random.default_rng(0).dirichlet([*alphas, alphas.sum()], 20_000)[:, :k]
        np.testing.assert_allclose(np.cov(found.T), np.cov(expected.T), atol=0.015)
        seen += len(found)
    assert seen == len(ratios)


@pytest.mark.parametrize("k", [1, 2])
def test_a_small_concentration_among_others(k):
    """Drawn in logarithms; so much of the mass is at 0 and 1 that only another sample can be compared with."""
    alpha, rng = {"mixup": 0.05, "cutmix": 1.0}, np.random.default_rng(1)
    ratios, methods = ratios_by_methods(alpha, k)
    for names in itertools.product(alpha, repeat=k):
        found = ratios[(methods == names).all(axis=1)]
        alphas = [alpha[name] for name in names]
        expected = rng.dirichlet([*alphas, sum(alphas)], len(found))
        for j in range(k):
            assert stats.ks_2samp(found[:, j], expected[:, j]).pvalue > SIGNIFICANT


@pytest.mark.parametrize("alpha", [0.05, 0.7])
def test_one_number_and_that_number_for_each_are_the_same(alpha):
    one = draw_gammas(500, alpha, np.random.default_rng(0))
    each = draw_gammas(500, np.full(500, alpha), np.random.default_rng(0))
    np.testing.assert_array_equal(one[0], each[0])
    assert one[1] == each[1] == (alpha < 0.1)


def test_gammas_belong_to_their_layers():
    """A concentration of a million is its own mean."""
    alphas = np.array([1e6, 4e6, 2e6])
    gammas, logarithms = draw_gammas(3, alphas, np.random.default_rng(0))
    assert not logarithms
    np.testing.assert_allclose(gammas, [alphas, alphas], rtol=0.01)


def test_no_layers_at_all():
    for alpha in (1.0, 0.01, np.empty(0)):
        gammas, _ = draw_gammas(0, alpha, np.random.default_rng(0))
        assert gammas.shape == (2, 0)


# Ranges --------------------------------------------------------------------------------------------------------------


def plan_of(methods, **changes):
    config = MiAMixConfig(methods=methods, weights=(1,) * len(methods), k_max=3, **changes)
    return draw_plan(config, 2000, 8, 8, np.random.default_rng(3))


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.5), (0.0, 0.3), (0.25, 1.0), (0.4, 0.4)])
def test_a_range_maps_every_ratio(low, high):
    """0 to `low`, 1 to `high`, and what lies between evenly; nothing else is drawn otherwise."""
    whole, ranged = plan_of(TAKING), plan_of(TAKING, ratio_range=(low, high))
    np.testing.assert_allclose(ranged.layers["ratio"], low + (high - low) * whole.layers["ratio"], rtol=1e-12)
    assert ranged.layers["ratio"].min() >= low
    assert ranged.layers["ratio"].max() <= high
    for name in ("sample", "method", "cy", "cx", "window"):
        np.testing.assert_array_equal(ranged.layers[name], whole.layers[name])
    np.testing.assert_array_equal(ranged.partner, whole.partner)


@pytest.mark.parametrize("method", ["smoothmix", "resizemix", "cutmix", "attentivecutmix", "guidedmixup"])
def test_who_draws_its_own_size_has_no_range(method):
    changes = {"cutmix": CutMixOptions(minmax=(0.2, 0.9))}
    whole, ranged = plan_of((method,), **changes), plan_of((method,), ratio_range=(0.1, 0.2), **changes)
    assert whole.layers.tobytes() == ranged.layers.tobytes()


def test_a_range_gives_holes_of_that_size(rng):
    """hmix's mean is its ratio."""
    mix = MiAMix(2, MiAMixConfig.plain("hmix", ratio_range=(0.3, 0.6)))
    lam = mix(np.zeros((500, 32, 32), np.uint8), np.zeros(500, int), rng=rng).lam
    assert 0.3 - 1e-6 <= 1 - lam.max() < 0.31
    assert 0.59 < 1 - lam.min() <= 0.6 + 1e-6
