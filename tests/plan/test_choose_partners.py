"""Partners that are chosen by the labels: of the same class, of another one, or by the caller's function."""

import pickle

import numpy as np
import pytest

from miamix_cpu import MiAMix, MiAMixConfig
from miamix_cpu.plan import choose_partners as choose
from miamix_cpu.plan.choose_partners import choose_partners, derange_blocks, swap_partners
from miamix_cpu.plan.sampling import draw_plan
from tests.kernels import python

NAMES = ("same_class", "other_class")


def class_counts():
    """Sizes of classes: small cases that have only one outcome or few, then many at random."""
    yield from ([1], [2], [1, 1], [3], [2, 1], [1, 2], [1, 1, 1], [5, 1], [3, 3], [4, 3], [8, 2, 2], [9, 1, 1, 1])
    rng = np.random.default_rng(0)
    for _ in range(300):
        yield rng.integers(1, rng.integers(2, 20), rng.integers(1, 8)).tolist()


def labels_of(sizes, rng):
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes))


def test_other_class_has_as_few_pairs_of_one_class_as_there_can_be(rng):
    for sizes in class_counts():
        labels, n = labels_of(sizes, rng), sum(sizes)
        partner = choose_partners("other_class", labels, rng)
        assert partner.dtype == np.int64
        assert sorted(partner) == list(range(n))
        assert n == 1 or (partner != np.arange(n)).all()
        assert (labels[partner] == labels).sum() == max(0, 2 * max(sizes) - n), sizes


def test_same_class_is_a_derangement_of_each_class(rng):
    for sizes in class_counts():
        labels, n = labels_of(sizes, rng), sum(sizes)
        partner = choose_partners("same_class", labels, rng)
        assert partner.dtype == np.int64
        assert sorted(partner) == list(range(n))
        np.testing.assert_array_equal(labels[partner], labels)
        alone = np.array(sizes)[labels] == 1
        np.testing.assert_array_equal(partner == np.arange(n), alone)


def shares(pairing, labels, rng, draws=20_000):
    """How often each sample has each partner."""
    counts = np.zeros((len(labels), len(labels)))
    for _ in range(draws):
        counts[np.arange(len(labels)), choose_partners(pairing, labels, rng)] += 1
    return counts / draws


@pytest.mark.parametrize("sizes", [[1, 1], [1, 1, 1], [2, 2], [3, 3, 3], [1] * 6])
@pytest.mark.parametrize("swaps", [choose._SWAPS, 0])
def test_each_partner_of_another_class_is_equally_frequent(sizes, swaps, rng, monkeypatch):
    """Where classes are of one size; to 5 standard errors. With two classes, even if none are swapped."""
    if len(sizes) > 2 and swaps == 0:
        return
    monkeypatch.setattr(choose, "_SWAPS", swaps)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    allowed = labels[:, None] != labels
    wanted = allowed / allowed.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares("other_class", labels, rng), wanted, atol=5 * np.sqrt(0.25 / 20_000))


def test_classes_of_different_sizes_are_well_mixed(rng):
    """Partners in the third and fourth class are as frequent as if all outcomes were equally likely: 24 of 192."""
    labels = np.array([0, 0, 1, 1, 2, 3])
    outcomes = [order for order in _orders(6) if all(labels[i] != labels[t] for i, t in enumerate(order))]
    wanted = np.zeros((6, 6))
    for order in outcomes:
        wanted[np.arange(6), order] += 1 / len(outcomes)
    np.testing.assert_allclose(shares("other_class", labels, rng), wanted, atol=0.03)


def _orders(n):
    import itertools

    return list(itertools.permutations(range(n)))


def test_each_derangement_of_a_class_is_equally_frequent(rng):
    """Nine of four samples, two of three, independent of each other; to 5 standard errors."""
    labels, counts = np.array([0, 1, 0, 1, 0, 1, 0]), {}
    for _ in range(18_000):
        partner = tuple(choose_partners("same_class", labels, rng))
        counts[partner] = counts.get(partner, 0) + 1
    assert len(counts) == 18
    np.testing.assert_allclose(list(counts.values()), 1000, atol=5 * np.sqrt(1000))


@pytest.mark.parametrize("pairing", NAMES)
def test_the_class_of_a_vector_is_its_largest_entry(pairing):
    labels = np.array([2, 0, 1, 0, 2, 1, 1, 0])
    vectors = np.full((8, 3), 0.2, np.float32)
    vectors[np.arange(8), labels] = 0.6
    one, other = (choose_partners(pairing, y, np.random.default_rng(0)) for y in (labels, vectors))
    np.testing.assert_array_equal(one, other)


def test_python_and_compiled_agree(rng):
    order, starts = rng.permutation(9), np.array([0, 1, 3, 9])
    for count in (3, 8, 90):
        numbers = rng.random(count)
        one, other = np.full(9, -1), np.full(9, -1)
        enough = derange_blocks(one, np.empty(9, np.int64), order, starts, numbers)
        assert python(derange_blocks)(other, np.empty(9, np.int64), order, starts, numbers) == enough
        assert enough == (count == 90) or count == 8
        np.testing.assert_array_equal(one, other)
    classes, one = rng.integers(0, 3, 30), np.roll(np.arange(30), 1)
    other, numbers = one.copy(), rng.random((200, 2))
    swap_partners(one, classes, numbers)
    python(swap_partners)(other, classes, numbers)
    np.testing.assert_array_equal(one, other)
    assert (one != np.roll(np.arange(30), 1)).any()


# ---- a function of the caller's


def reverse(labels, generator):
    return np.arange(len(labels))[::-1]


def test_a_function_gets_the_labels_and_the_plans_generator(rng):
    seen = []

    def pairing(labels, generator):
        seen.append(labels.copy())
        labels[:] = 0  # a copy
        return generator.permutation(len(labels)).tolist()

    images = np.zeros((6, 4, 4, 3), np.uint8)
    mix = MiAMix(10, MiAMixConfig(pairing=pairing, p_self=0))
    batch, again = (mix(images, [3, 1, 4, 1, 5, 9], rng=np.random.default_rng(2), second=images) for _ in range(2))
    np.testing.assert_array_equal(batch.partner, np.random.default_rng(2).permutation(6))
    np.testing.assert_array_equal(batch.partner, again.partner)
    assert batch.targets[0, 3] == batch.lam[0]
    np.testing.assert_array_equal(seen, [[3, 1, 4, 1, 5, 9]] * 2)
    assert seen[0].dtype == np.int64
    mix(images, np.eye(10)[:6], rng=rng, second=images)
    assert (seen[-1].dtype, seen[-1].shape) == (np.float32, (6, 10))


@pytest.mark.parametrize(("found", "error", "words"), [
    ([1, 2, 4, 0], ValueError, r"the partner of each of 4 samples, integers in \[0, 3\]: pairing returned 4 for sample 2"),
    (np.array([1, 0, 3, -1]), ValueError, r"returned -1 for sample 3"),
    ([0, 1, 2**70, 3], ValueError, rf"returned {2**70} for sample 2"),
    (np.array([1.0, 0.0, 3.0, 2.0]), TypeError, r"returned 1.0 for sample 0"),
    ([1, 0, 2.5, 3], TypeError, r"returned 2.5 for sample 2"),
    ([1, 0, None, 3], TypeError, r"returned None for sample 2"),
    ([True, False, True, False], TypeError, r"returned True for sample 0"),
    ([1, 0, 2], ValueError, r"returned \[1, 0, 2\]"),
    (None, ValueError, r"returned None$"),
    ({1, 0, 2, 3}, ValueError, r"returned \{0, 1, 2, 3\}"),
    ([[1], [0, 2], [3], [1]], ValueError, r"returned a list of 4 \(list\)"),
    (np.zeros((4, 1), int), ValueError, r"returned ndarray of int64 \(4, 1\)"),
], ids=str)  # fmt: skip
def test_what_a_function_may_not_return(found, error, words, rng):
    def pairing(labels, generator):
        return found

    with pytest.raises(error, match=words):
        choose_partners(pairing, np.arange(4), rng)


def test_an_error_in_a_function_says_where_it_was_raised(rng):
    def broken(labels, generator):
        raise KeyError("no such class")

    with pytest.raises(KeyError, match="no such class") as caught:
        choose_partners(broken, np.arange(4), rng)
    assert caught.value.__notes__ == ["raised by broken, the pairing of MiAMixConfig"]


# ---- in a plan


@pytest.mark.parametrize("pairing", [*NAMES, reverse])
def test_the_other_fields_of_a_plan_are_drawn_by_the_same_law(pairing, rng):
    """Numbers of layers and self-pairs, to 5 standard errors."""
    config, n = MiAMixConfig(k_min=1, k_max=3, p_self=0.3, pairing=pairing), 4000
    plan = draw_plan(config, n, 8, 8, rng, labels=np.arange(n) % 4).checked()
    assert abs(np.mean(plan.partner == np.arange(n)) - 0.3) < 5 * np.sqrt(0.21 / n)
    counts = np.bincount(np.diff(plan.first_layer), minlength=4)
    np.testing.assert_allclose(counts, [0, n / 3, n / 3, n / 3], atol=5 * np.sqrt(n * 2 / 9))
    same = plan.partner % 4 == np.arange(n) % 4
    assert same.all() if pairing == "same_class" else same.mean() < 0.4


def test_a_schedule_changes_who_is_mixed_and_nothing_else():
    config = MiAMixConfig(pairing="other_class")
    plans = [
        draw_plan(config, 40, 8, 8, np.random.default_rng(1), probability=p, labels=np.arange(40) % 5) for p in (1, 0.5)
    ]
    np.testing.assert_array_equal(plans[0].partner, plans[1].partner)
    mixed = plans[1].mixed
    assert 5 < mixed.sum() < 35
    for i in np.flatnonzero(mixed):
        assert (plans[0].layers_of(i)["ratio"] == plans[1].layers_of(i)["ratio"]).all()


@pytest.mark.parametrize("pairing", NAMES)
@pytest.mark.parametrize("labels", [[3], [3, 3], [3, 4], [3, 3, 3, 3]], ids=str)
@pytest.mark.filterwarnings("ignore:.*come out unmixed")
def test_few_samples_and_classes_are_mixed(pairing, labels, rng):
    images = rng.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    batch = MiAMix(5, MiAMixConfig(pairing=pairing, p_self=0))(images, labels, rng=rng)
    assert len(batch.images) == len(labels)
    plan = MiAMix(5, MiAMixConfig(pairing=pairing)).plan(len(labels), 8, 8, rng=rng, labels=labels)
    assert len(plan) == len(labels)


@pytest.mark.parametrize("pairing", [*NAMES, reverse])
def test_a_plan_by_labels_needs_them(pairing, rng):
    mix = MiAMix(5, MiAMixConfig(pairing=pairing))
    with pytest.raises(ValueError, match=r"pairing=.* chooses partners by the labels, got none: pass labels="):
        mix.plan(4, 8, 8, rng=rng)
    with pytest.raises(ValueError, match="labels must have one label for each of 4 images, got 3"):
        mix.plan(4, 8, 8, rng=rng, labels=[0, 1, 2])
    with pytest.raises(ValueError, match=r"label of sample 2 must be in \[0, 4\], got 5"):
        mix.plan(4, 8, 8, rng=rng, labels=[0, 1, 5, 2])


def test_a_configuration_with_a_function_is_compared_and_pickled():
    config = MiAMixConfig(pairing=reverse)
    assert pickle.loads(pickle.dumps(config)) == config == config.replace() != MiAMixConfig()
    assert hash(config) == hash(config.replace())
    assert config.replace(pairing="random") == MiAMixConfig()
