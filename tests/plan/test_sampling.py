"""Stage 2 and the plan's law, by statistics with a fixed seed."""

import itertools

import numpy as np
import pytest
from scipy import stats

from miamix_cpu import FMixOptions, MiAMixConfig
from miamix_cpu.methods import METHODS
from miamix_cpu.plan import pairs, sampling
from miamix_cpu.plan.layers import LAYER
from miamix_cpu.plan.pairing import draw_partners
from miamix_cpu.plan.pairs import pair_and_divide
from miamix_cpu.plan.sampling import draw_gammas, draw_plan, take_powers
from miamix_cpu.plan.sampling import draw_ratios as fill_ratios
from tests import naive
from tests.kernels import compiled, python

CODES = {name: METHODS.index(name) for name in METHODS}
SIGNIFICANT = 1e-4  # with this many tests a fixed seed should pass at once, and a wrong law fail by far


@pytest.fixture(scope="module")
def plan():
    """Table 1 on 40,000 samples."""
    return draw_plan(MiAMixConfig(), 40_000, 32, 48, np.random.default_rng(5))


def draw_ratios(k, alpha, rng):
    """The ratios of samples with k layers each, sample by sample."""
    first_layer, layers = np.array([0, *np.cumsum(k)]), np.zeros(k.sum(), LAYER)
    fill_ratios(first_layer, layers, *draw_gammas(len(layers), alpha, rng), 0.0, 1.0)
    np.testing.assert_array_equal(first_layer, [0, *np.cumsum(k)])
    return layers["ratio"]


def close(share, expected, n):
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / n), (share, expected)


def test_k_is_uniform(plan):
    k = np.diff(plan.first_layer)
    assert set(k) == {1, 2}
    close((k == 2).mean(), 0.5, len(k))
    k = np.diff(draw_plan(MiAMixConfig(k_min=2, k_max=5), 20_000, 4, 4, np.random.default_rng(0)).first_layer)
    assert stats.chisquare(np.bincount(k)[2:]).pvalue > SIGNIFICANT
    assert set(np.diff(draw_plan(MiAMixConfig(k_min=3, k_max=3), 50, 4, 4, np.random.default_rng(0)).first_layer)) == {
        3
    }


def test_methods_follow_their_weights(plan):
    counts = np.bincount(plan.layers["method"], minlength=len(METHODS))
    weights = {"mixup": 2, "cutmix": 1, "fmix": 1, "gridmix": 1, "agmix": 1}
    expected = np.array([weights.get(name, 0) for name in METHODS]) / 6 * len(plan.layers)
    used = expected > 0
    assert not counts[~used].any()
    assert stats.chisquare(counts[used], expected[used]).pvalue > SIGNIFICANT


def test_methods_of_a_sample_are_independent(plan):
    pairs = plan.layers["method"][[plan.first_layer[:-1][np.diff(plan.first_layer) == 2] + j for j in (0, 1)]]
    table = np.zeros((len(METHODS), len(METHODS)))
    np.add.at(table, (pairs[0], pairs[1]), 1)
    table = table[np.ix_(table.sum(1) > 0, table.sum(0) > 0)]
    assert stats.chi2_contingency(table).pvalue > SIGNIFICANT


def test_augmentation_only_where_the_paper_has_it(plan):
    layers = plan.layers
    able = np.isin(layers["method"], [CODES["cutmix"], CODES["fmix"], CODES["gridmix"]])
    assert not layers["augmented"][~able].any()
    assert not layers["window"][~able].any()
    close(layers["augmented"][able].mean(), 0.25, able.sum())
    close((layers["window"][able] > 0).mean(), 0.5, able.sum())
    both = layers["augmented"][able] & (layers["window"][able] > 0)
    close(both.mean(), 0.125, able.sum())
    augmented = layers[able & layers["augmented"]]
    assert stats.kstest(augmented["angle"], stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > SIGNIFICANT
    assert stats.kstest(augmented["shear"], stats.uniform(-0.5, 1).cdf).pvalue > SIGNIFICANT


@pytest.mark.parametrize(("smooth_max", "size", "windows"), [
    (1 / 8, (32, 48), {3}), (1 / 8, (64, 80), {3, 5, 7}), (0.5, (20, 40), {3, 5, 7, 9}), (1.0, (7, 9), {3, 5, 7}),
    (1 / 8, (1, 1), {3}), (1.0, (3000, 3000), set(range(3, 182, 2))),
])  # fmt: skip
def test_windows_are_odd_and_in_range(smooth_max, size, windows):
    config = MiAMixConfig(p_smooth=1, smooth_max=smooth_max, methods=("cutmix",), weights=(1,))
    layers = draw_plan(config, 2000, *size, np.random.default_rng(0)).layers
    assert set(layers["window"]) == windows
    if len(windows) > 1:
        assert stats.chisquare(np.bincount(layers["window"])[3::2]).pvalue > SIGNIFICANT


@pytest.mark.parametrize("name", ["cutmix", "agmix"])
def test_centres_are_uniform(plan, name):
    layers = plan.layers[plan.layers["method"] == CODES[name]]
    for field in ("cy", "cx"):
        assert stats.kstest(layers[field], "uniform").pvalue > SIGNIFICANT
    assert abs(np.corrcoef(layers["cy"], layers["cx"])[0, 1]) < 4 / np.sqrt(len(layers))


def test_gridmix_draws_cells_and_phases(plan):
    layers = plan.layers[plan.layers["method"] == CODES["gridmix"]]
    assert stats.chisquare(np.bincount(layers["cells"])[2:7]).pvalue > SIGNIFICANT
    for field in ("cy", "cx"):
        assert stats.kstest(layers[field], "uniform").pvalue > SIGNIFICANT


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_ratios_are_dirichlet(k, alpha):
    """Marginals Beta(alpha, (2k - 1) alpha), sum Beta(k alpha, k alpha), and NumPy's own Dirichlet."""
    n, rng = 8000, np.random.default_rng(k)
    found = draw_ratios(np.full(n, k), alpha, rng).reshape(n, k)
    for j in range(k):
        assert stats.kstest(found[:, j], stats.beta(alpha, (2 * k - 1) * alpha).cdf).pvalue > SIGNIFICANT
    assert stats.kstest(found.sum(axis=1), stats.beta(k * alpha, k * alpha).cdf).pvalue > SIGNIFICANT
    expected = np.array([naive.ratios(k, alpha, rng) for _ in range(n)])
    np.testing.assert_allclose(np.cov(found.T), np.cov(expected.T), atol=0.01)


@pytest.mark.parametrize("k", [1, 3])
def test_ratios_at_a_small_alpha_have_numpys_law(k):
    """Drawn in logarithms; so much of the mass is at 0 and 1 that only another sample can be compared with."""
    rng = np.random.default_rng(k)
    found = draw_ratios(np.full(6000, k), 0.05, rng).reshape(-1, k)
    expected = np.array([naive.ratios(k, 0.05, rng) for _ in range(6000)])
    for j in range(k):
        assert stats.ks_2samp(found[:, j], expected[:, j]).pvalue > SIGNIFICANT
    assert stats.ks_2samp(found.sum(axis=1), expected.sum(axis=1)).pvalue > SIGNIFICANT


def test_ratios_of_mixed_k_are_laid_out_sample_by_sample():
    k = np.array([2, 0, 3, 1])
    ratios = draw_ratios(k, 1e6, np.random.default_rng(0))
    # At a huge alpha each ratio is 1 / (2 k).
    np.testing.assert_allclose(ratios, [1 / 4, 1 / 4, 1 / 6, 1 / 6, 1 / 6, 1 / 2], atol=2e-3)


@pytest.mark.parametrize("alpha", [1e-8, 1e-3, 1e3])
def test_extreme_alpha_gives_ratios(alpha):
    ratios = draw_ratios(np.full(5000, 3), alpha, np.random.default_rng(0)).reshape(-1, 3)
    assert np.isfinite(ratios).all()
    assert ratios.min() >= 0
    assert ratios.sum(axis=1).max() <= 1 + 1e-12
    mixed = draw_ratios(np.random.default_rng(1).integers(1, 4, size=5000), alpha, np.random.default_rng(0))
    assert np.isfinite(mixed).all()  # where some samples have fewer layers than others
    if alpha < 1:  # all or nothing; a half of the samples nothing
        assert abs((ratios.sum(axis=1) > 0.5).mean() - 0.5) < 0.05


@pytest.mark.parametrize("run", [python, compiled])
def test_powers_of_logarithms_neither_overflow_nor_vanish(run):
    """Up to a factor that makes the largest 1, wherever that is."""
    for shift in (-1e8, 0.0, 1e8):
        for logs in ([[0.0, -3.0], [-1.0, -2e9]], [[-3.0, -900.0], [-1.0, 0.0]], [[-2e9, -2e9], [0.0, -1e3]]):
            first, second = np.array(logs) + shift
            run(take_powers)(first, second)
            np.testing.assert_allclose([first, second], np.exp(logs), rtol=1e-6, atol=0)


@pytest.mark.parametrize("run", [python, lambda entry: entry], ids=["python", "compiled"])
def test_pairs_and_layers_from_numbers(run, rng):
    """The numbers of layers by the first ones, the partners by what is left."""
    n, most = 40, 4
    counting, pairing = rng.random(n), rng.random(40 * n)
    counting[:2] = 0, np.nextafter(1, 0)
    partner, first_layer, layers = np.full(n, -1), np.full(n + 1, -1), np.zeros(n * most, LAYER)
    drawn = run(pair_and_divide)(partner, first_layer, layers, 2, most, 0.2, counting, pairing)
    k = 2 + np.floor(3 * counting).astype(int)
    assert set(k) == {2, 3, 4}
    np.testing.assert_array_equal(first_layer, [0, *np.cumsum(k)])
    assert drawn == k.sum()
    expected_layers = np.zeros_like(layers)
    expected_layers["sample"][:drawn] = np.repeat(np.arange(n), k)
    assert layers.tobytes() == expected_layers.tobytes()
    expected = np.full(n, -1)
    assert compiled(draw_partners)(expected, 0.2, pairing)
    np.testing.assert_array_equal(partner, expected)
    too_few = (np.full(n, -1), np.full(n + 1, -1), np.zeros(n * most, LAYER))
    assert run(pair_and_divide)(*too_few, 2, most, 0.2, counting, pairing[:n]) == -1


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.2, 0.5), (0.3, 0.3)])
@pytest.mark.parametrize("alpha", [0.05, 1.0, "mixed"])
@pytest.mark.parametrize("run", [python, lambda entry: entry], ids=["python", "compiled"])
def test_ratios_from_numbers(run, alpha, low, high, rng):
    """The shares of a sample's gammas of the first row among all of its gammas, in the range; nothing else changes."""
    k = rng.integers(0, 5, 40)
    first_layer, layers = np.array([0, *np.cumsum(k)]), np.zeros(k.sum(), LAYER)
    layers["sample"], layers["method"] = np.repeat(np.arange(40), k), 3
    alphas = rng.choice([0.05, 0.5, 3.0], k.sum()) if alpha == "mixed" else alpha
    gammas, logarithms = draw_gammas(k.sum(), alphas, rng)
    assert (gammas.shape, gammas.dtype, logarithms) == ((2, k.sum()), np.float64, alpha != 1.0)
    before = layers.copy()
    expected = []
    for i in range(40):
        weights = gammas[:, first_layer[i] : first_layer[i + 1]].astype(np.longdouble)
        weights = np.exp(weights - weights.max(initial=-1e9)) if logarithms else weights
        expected.extend(low + (high - low) * (weights[0] / weights.sum()))
    run(fill_ratios)(first_layer, layers, gammas, logarithms, low, high)
    np.testing.assert_allclose(layers["ratio"], np.array(expected, float), rtol=1e-9, atol=1e-300)
    layers["ratio"] = 0
    assert layers.tobytes() == before.tobytes()


def test_a_plan_is_drawn_again_where_the_numbers_ran_out(monkeypatch):
    """All of them anew, and the plan is made of the last ones."""
    tries = []

    def pair(*arguments):
        tries.append(np.concatenate(arguments[6:8]))
        return -1 if len(tries) < 3 else pair_and_divide(*arguments)

    monkeypatch.setattr(pairs, "pair_and_divide", pair)
    plan = draw_plan(MiAMixConfig(), 30, 16, 16, np.random.default_rng(0))
    assert len(np.unique(tries)) == 3 * len(tries[0])
    partner = np.full(30, -1)
    assert compiled(draw_partners)(partner, MiAMixConfig().p_self, tries[2][30:])
    np.testing.assert_array_equal(plan.checked().partner, partner)
    np.testing.assert_array_equal(np.diff(plan.first_layer), 1 + (tries[2][:30] >= 0.5))


def test_batches_are_independent():
    first = [draw_plan(MiAMixConfig(), 4, 8, 8, np.random.default_rng(seed)).layers["ratio"][0] for seed in range(4000)]
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 4 / np.sqrt(4000)


@pytest.mark.parametrize("config", [MiAMixConfig(k_max=4), MiAMixConfig(k_max=4, p_self=0, mixes="features")],
                         ids=["images", "features"])  # fmt: skip
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_a_schedule_changes_who_is_mixed_and_nothing_else(probability, config):
    whole = draw_plan(config, 3000, 16, 16, np.random.default_rng(1))
    some = draw_plan(config, 3000, 16, 16, np.random.default_rng(1), probability=probability)
    if probability in (0.0, 1.0):
        assert some.mixed.mean() == probability
    else:
        close(some.mixed.mean(), probability, 3000)
    np.testing.assert_array_equal(some.partner, whole.partner)
    assert some.depth == whole.depth
    assert (some.depth > 0) == (config.mixes == "features")
    for i in np.flatnonzero(some.mixed)[:50]:
        np.testing.assert_array_equal(some.layers_of(i), whole.layers_of(i))
    some.checked()


def test_plans_pass_their_own_check(plan):
    plan.checked()


def test_agmix_draws_q_and_angles_uniformly():
    """q is read back from the two deviations, of which the shorter is at least half a pixel."""
    config = MiAMixConfig.plain("agmix").replace(alpha=50.0)  # ratios near a half: no deviation is cut
    layers = draw_plan(config, 20_000, 64, 64, np.random.default_rng(0)).layers
    q = (layers["width"] ** 2 - layers["height"] ** 2) / (layers["width"] ** 2 + layers["height"] ** 2)
    assert stats.kstest(q, stats.uniform(-0.95, 1.9).cdf).pvalue > SIGNIFICANT
    turns = (layers["angle"] - np.pi / 4) / (2 * np.pi)
    assert stats.kstest(turns, "uniform").pvalue > SIGNIFICANT
    assert abs(np.corrcoef(q, turns)[0, 1]) < 4 / np.sqrt(len(layers))


@pytest.mark.parametrize("field", ["ratio", "cy", "cx", "angle", "method"])
def test_samples_and_layers_are_independent(plan, field):
    """Neighbours in the batch, and both layers of a sample (but for the ratios, which share a Dirichlet)."""
    layers = plan.layers
    if field != "method":
        layers = layers[np.isin(layers["method"], [CODES["cutmix"], CODES["agmix"]])]
    values, sample = layers[field].astype(float), layers["sample"]
    between = sample[1:] != sample[:-1]
    pairs = [(values[1:][between], values[:-1][between])]
    if field != "ratio":
        pairs.append((values[1:][~between], values[:-1][~between]))
    for one, other in pairs:
        assert len(one) > 1000
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(one))


def test_pairing_does_not_depend_on_what_is_drawn_for_a_sample(plan):
    """Partners a step away as often as any, whatever the number of layers."""
    n = len(plan)
    k = np.diff(plan.first_layer)
    away = (plan.partner - np.arange(n)) % n
    for value in (1, 2):
        others = away[(k == value) & (away > 0)]
        assert stats.kstest(others / n, "uniform").pvalue > SIGNIFICANT
        close((away[k == value] == 0).mean(), 0.1, (k == value).sum())


def test_no_number_is_used_twice(monkeypatch):
    """Who has how many layers, who is paired with whom, and what the layers are."""
    uses = {}

    def pair(*arguments):
        uses["counting"], uses["pairing"] = arguments[6:8]
        return pair_and_divide(*arguments)

    def draw(config, layers, counts, height, width, uniforms):
        uses["layers"] = uniforms
        return draw_layers(config, layers, counts, height, width, uniforms)

    draw_layers = sampling.draw_layers
    monkeypatch.setattr(pairs, "pair_and_divide", pair)
    monkeypatch.setattr(sampling, "draw_layers", draw)
    plan = draw_plan(MiAMixConfig(), 8, 16, 16, np.random.default_rng(0))
    assert len(uses["counting"]) == 8
    assert uses["layers"].shape == (len(plan.layers), 10)
    for one, other in itertools.combinations(uses.values(), 2):
        assert not np.shares_memory(one, other)
    assert len(np.unique(np.concatenate([used.ravel() for used in uses.values()]))) == sum(
        used.size for used in uses.values()
    )


def test_normals_differ_from_batch_to_batch():
    config = MiAMixConfig(methods=("fmix",), weights=(1,))
    drawn = [draw_plan(config, 2, 16, 16, np.random.default_rng(seed)).coefficients[:100] for seed in range(200)]
    assert len(np.unique(drawn)) > 0.99 * 100 * 200
    np.testing.assert_allclose(np.corrcoef(drawn)[np.triu_indices(200, 1)], 0, atol=0.6)


def test_full_fields_are_filtered():
    """Where too many harmonics count the plan holds the field, whose neighbours are alike at a decay of 1."""
    config = MiAMixConfig(methods=("fmix",), weights=(1,), k_max=1, fmix=FMixOptions(decay=0.8))
    plan = draw_plan(config, 40, 64, 64, np.random.default_rng(0))
    fields = plan.layers[plan.layers["is_field"]]
    assert len(fields) > 3
    for layer in fields:
        field = plan.coefficients[layer["start"] :][: 64 * 64].reshape(64, 64)
        assert np.corrcoef(field[1:].ravel(), field[:-1].ravel())[0, 1] > 0.2
