import numpy as np
import pytest
from scipy import stats

from miamix_cpu.plan import pairing
from tests import naive
from tests.kernels import compiled, python


def draw_partners(n, p_self, rng):
    partner = np.full(n, -1)
    for _ in range(20):  # three tries in a thousand fail
        if compiled(pairing.draw_partners)(partner, p_self, rng.random(pairing.uniforms_for(n))):
            return partner
    raise AssertionError(f"no partners for {n} samples")


@pytest.mark.parametrize("n", [2, 3, 7, 128])
def test_nobody_is_left_in_place(n, rng):
    for _ in range(200):
        partner = draw_partners(n, 0.0, rng)
        assert (partner != np.arange(n)).all()
        assert sorted(partner) == list(range(n))


def test_a_single_sample_is_its_own_partner(rng):
    assert draw_partners(1, 0.0, rng).tolist() == [0]


def test_everybody_pairs_with_himself(rng):
    np.testing.assert_array_equal(draw_partners(50, 1.0, rng), np.arange(50))


@pytest.mark.parametrize("n", [2, 4, 64])
def test_self_pairs_are_exactly_as_frequent_as_said(n, rng):
    draws = 40_000 // n
    share = np.mean([draw_partners(n, 0.1, rng) == np.arange(n) for _ in range(draws)])
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / (draws * n))


@pytest.mark.parametrize("p_self", [0.0, 0.3])
def test_same_law_as_the_naive_twin(p_self, rng):
    """Every pair (i, partner) of 5 samples, 20,000 batches each, to 5 standard errors."""
    counts = np.zeros((2, 5, 5))
    for _ in range(20_000):
        for row, partner in enumerate((draw_partners(5, p_self, rng), naive.partners(5, p_self, rng))):
            counts[row, np.arange(5), partner] += 1
    error = np.sqrt(2 * 20_000 * 0.25)
    assert np.abs(counts[0] - counts[1]).max() < 5 * error
    off = counts[0][~np.eye(5, dtype=bool)] / 20_000
    np.testing.assert_allclose(off, (1 - p_self) / 4, atol=5 * np.sqrt(0.25 * 0.75 / 20_000))


def test_self_pairing_is_independent_between_samples(rng):
    selves = np.array([draw_partners(2, 0.5, rng) == [0, 1] for _ in range(20_000)])
    joint = selves.all(axis=1).mean()
    assert abs(joint - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 20_000)


@pytest.mark.parametrize("run", [python, compiled])
def test_too_few_numbers_are_said_to_be_so(run, rng):
    """Never read past their end, and now and then not enough."""
    enough = 0
    for _ in range(300):
        for count in (9, 17, 30):
            partner, numbers = np.zeros(9, np.int64), rng.random(count + 5)
            enough += (found := run(pairing.draw_partners)(partner, 0.0, numbers[:count]))
            numbers[count:], again = rng.random(5), np.zeros(9, np.int64)
            assert run(pairing.draw_partners)(again, 0.0, numbers[:count]) == found
            np.testing.assert_array_equal(again, partner)
            assert not found or (sorted(partner) == list(range(9)) and (partner != np.arange(9)).all())
    assert 0 < enough < 900


def test_the_numbers_hardly_ever_run_out(rng):
    partner = np.zeros(128, np.int64)
    draw = compiled(pairing.draw_partners)
    enough = [draw(partner, 0.1, rng.random(pairing.uniforms_for(128))) for _ in range(5000)]
    assert np.mean(enough) > 0.99


def test_every_derangement_is_equally_likely(rng):
    """All nine of four samples: cycles of four, and two pairs that swap."""
    counts = {}
    for _ in range(9000):
        partner = tuple(draw_partners(4, 0.0, rng))
        counts[partner] = counts.get(partner, 0) + 1
    assert len(counts) == 9
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_python_and_compiled_agree(rng):
    """To the last sample: a plan is the same wherever it is drawn."""
    for n in (1, 2, 3, 30):
        one, other, numbers = np.full(n, -1), np.full(n, -1), rng.random(40 * n)
        for _ in range(20):
            assert python(pairing.draw_partners)(one, 0.3, numbers)
            assert compiled(pairing.draw_partners)(other, 0.3, numbers)
            np.testing.assert_array_equal(one, other)
            numbers = rng.random(40 * n)
