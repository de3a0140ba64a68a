"""Partners of layers: their law, and what a plan says and saves of them."""

import dataclasses

import numpy as np
import pytest

from miamix_cpu import MiAMix, MiAMixConfig, MixPlan
from miamix_cpu.methods import METHODS
from miamix_cpu.plan import pairs
from miamix_cpu.plan.layers import LAYER
from miamix_cpu.plan.pairing import draw_pairing, draw_partners, uniforms_for
from miamix_cpu.plan.pairs import draw_pairs, pair_and_divide
from miamix_cpu.plan.sampling import draw_plan
from tests.kernels import compiled, python

LAYERED = MiAMixConfig(methods=("mixup", "cutmix"), weights=(1, 1), k_max=3, partners="layer")
EVERYTHING = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), k_max=3, partners="layer")


def onward(labels, generator):
    """A uniform cyclic shift."""
    n = len(labels)
    return (np.arange(n) + generator.integers(1, n)) % n


def allowed(pairing, labels):
    """bool (n, n): whom each sample may be given."""
    others = ~np.eye(len(labels), dtype=bool)
    same = labels[:, None] == labels
    return others & {"same_class": same, "other_class": ~same}.get(pairing, True)


# The law ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p_self", [0.0, 0.3])
@pytest.mark.parametrize("pairing", ["random", "same_class", "other_class", onward])
def test_each_layers_partner_is_uniform_and_independent_of_the_other_layers(pairing, p_self, rng):
    """Each triple of three layers' partners, to 5 standard errors."""
    draws, labels = 4000, np.array([0, 1, 0, 1, 0, 1])
    config, n = LAYERED.replace(pairing=pairing, p_self=p_self, k_min=3), len(labels)
    counts = np.zeros((n, n, n, n))
    for _ in range(draws):
        partner, first_layer, layers = draw_pairs(config, n, labels, rng)
        assert partner.shape == (n, 3)
        assert partner.dtype == np.int64
        counts[(np.arange(n), *partner.T)] += 1
        assert len(layers) == first_layer[-1] == 3 * n
    others = allowed(pairing, labels)
    alone = (1 - p_self) * others / others.sum(axis=1, keepdims=True) + p_self * np.eye(n)
    wanted = np.einsum("ia,ib,ic->iabc", alone, alone, alone)
    error = np.sqrt(wanted * (1 - wanted) / draws)
    assert (np.abs(counts / draws - wanted) <= 5 * error + 1e-12).all()


@pytest.mark.parametrize("pairing", ["random", "same_class", "other_class", onward])
def test_without_self_pairs_each_layers_partners_are_a_derangement(pairing, rng):
    labels = np.arange(30) % 3
    plan = draw_plan(LAYERED.replace(pairing=pairing, p_self=0.0), 30, 4, 4, rng, labels=labels).checked()
    for partner in plan.partner.T:
        assert sorted(partner) == list(range(30))
        assert allowed(pairing, labels)[np.arange(30), partner].all()
    assert len({tuple(partner) for partner in plan.partner.T}) > 1


@pytest.mark.parametrize("pairing", ["random", "same_class", "other_class", onward])
def test_everybody_pairs_with_himself_in_each_layer(pairing, rng):
    plan = draw_plan(LAYERED.replace(pairing=pairing, p_self=1.0), 9, 4, 4, rng, labels=np.arange(9) % 3)
    np.testing.assert_array_equal(plan.partner, np.repeat(np.arange(9)[:, None], 3, axis=1))


def test_a_function_is_asked_once_a_layer(rng):
    calls = []

    def pairing(labels, generator):
        calls.append(labels.tolist())
        return [(i + len(calls)) % 4 for i in range(4)]

    plan = draw_plan(LAYERED.replace(pairing=pairing, p_self=0.0), 4, 4, 4, rng, labels=np.array([5, 6, 7, 8]))
    assert calls == [[5, 6, 7, 8]] * 3
    np.testing.assert_array_equal(plan.partner, (np.arange(4)[:, None] + [1, 2, 3]) % 4)


def test_a_batch_of_one(rng):
    plan = draw_plan(LAYERED, 1, 4, 4, rng).checked()
    assert plan.partner.tolist() == [[0, 0, 0]]
    assert plan.needs_second_view == [0]


@pytest.mark.parametrize("run", [python, lambda entry: entry], ids=["python", "compiled"])
def test_a_pairing_by_itself_is_that_of_a_batch(run, rng):
    for n in 1, 2, 9:
        numbers = rng.random(uniforms_for(n) + n)
        one, other = np.full(n, -1), np.full(n, -1)
        assert run(draw_pairing)(one, 0.3, numbers) == compiled(draw_partners)(other, 0.3, numbers)
        np.testing.assert_array_equal(one, other)
    assert not run(draw_pairing)(np.full(9, -1), 0.3, numbers[:9])


@pytest.mark.parametrize("run", [python, lambda entry: entry], ids=["python", "compiled"])
def test_samples_are_divided_into_layers(run, rng):
    counting, pairing = rng.random(9), rng.random(uniforms_for(9))
    partner, first_layer, layers = np.full(9, -1), np.full(10, -1), np.zeros(36, LAYER)
    count = run(pair_and_divide)(partner, first_layer, layers, 2, 4, 0.3, counting, pairing)
    k = [2 + int(3 * number) for number in counting]
    np.testing.assert_array_equal(first_layer, np.cumsum([0, *k]))
    assert count == sum(k)
    np.testing.assert_array_equal(layers["sample"][:count], np.repeat(np.arange(9), k))
    expected = np.full(9, -1)
    assert compiled(draw_partners)(expected, 0.3, pairing)
    np.testing.assert_array_equal(partner, expected)
    assert run(pair_and_divide)(partner, first_layer, layers, 2, 4, 0.3, counting, pairing[:9]) == -1


def test_numbers_that_do_not_suffice_are_drawn_anew(rng, monkeypatch):
    monkeypatch.setattr(pairs, "uniforms_for", lambda n: 2 * n)
    for _ in range(50):
        partner, _, _ = draw_pairs(LAYERED.replace(p_self=0.0), 30, None, rng)
        assert (np.sort(partner, axis=0) == np.arange(30)[:, None]).all()
        assert (partner != np.arange(30)[:, None]).all()


# Beside a partner a sample -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [
    {}, {"k_max": 1}, {"p_self": 0.4, "merge": "sum"}, {"k_min": 2, "lam_from": "orig"}, {"pairing": "same_class"},
    {"pairing": "other_class", "second_view": "shared"}, {"pairing": onward}, {"p_aug": 1.0, "k_max": 5},
], ids=["default", "one layer", "sum", "orig", "same class", "other class", "function", "five layers"])  # fmt: skip
def test_a_partner_a_sample_is_that_of_the_first_layer(changes):
    """Partners of further layers are drawn after all of that: nothing before them depends on it."""
    config, labels = MiAMixConfig(partners="sample").replace(**changes), np.arange(20) % 4
    states = np.random.default_rng(3), np.random.default_rng(3)
    one, other = (
        draw_pairs(config.replace(partners=partners), 20, labels, state)
        for partners, state in zip(("sample", "layer"), states, strict=True)
    )
    np.testing.assert_array_equal(one[0], other[0][:, 0])
    np.testing.assert_array_equal(one[1], other[1])
    assert one[2].tobytes() == other[2].tobytes()
    assert (states[0].bit_generator.state == states[1].bit_generator.state) == (config.k_max == 1)


def test_the_field_itself_changes_no_plan():
    """A partner a sample is the default, and takes no number more than partners and counts of layers do."""
    assert MiAMixConfig() == MiAMixConfig(partners="sample") != MiAMixConfig(partners="layer")
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    partner, first_layer, layers = draw_pairs(MiAMixConfig(k_max=3, p_self=0.2), 30, None, rng)
    numbers = again.random(30 + uniforms_for(30))
    expected = np.full(30, -1)
    assert compiled(draw_partners)(expected, 0.2, numbers[30:])
    np.testing.assert_array_equal(partner, expected)
    np.testing.assert_array_equal(np.diff(first_layer), 1 + np.floor(3 * numbers[:30]))
    assert len(layers) == first_layer[-1]
    assert rng.bit_generator.state == again.bit_generator.state


# In a plan -------------------------------------------------------------------------------------------------------------


def test_whose_views_are_mixed(rng):
    """By sample and by layer, also of those that a schedule leaves unmixed."""
    for probability in 1.0, 0.5:
        plan = draw_plan(LAYERED, 40, 4, 4, rng, probability=probability).checked()
        layers_partner, needed = [], set()
        for i in range(40):
            k = len(plan.layers_of(i))
            assert plan.sources[i].tolist() == [i, *plan.partner[i, :k], *[i] * (3 - k)]
            layers_partner += plan.partner[i, :k].tolist()
            needed |= set(plan.partner[i, :k].tolist())
        assert plan.layers_partner.tolist() == layers_partner
        assert plan.needs_second_view == sorted(needed)
        assert plan.masks_shape == (40, 4, 4, 4)
        assert plan.is_layered
        assert plan.mixed.all() == (probability == 1)
    sample = draw_plan(LAYERED.replace(partners="sample"), 40, 4, 5, rng)
    assert not sample.is_layered
    np.testing.assert_array_equal(sample.sources, np.stack([np.arange(40), sample.partner], axis=1))
    np.testing.assert_array_equal(sample.layers_partner, sample.partner[sample.layers["sample"]])
    assert sample.masks_shape == (40, 4, 5)


@pytest.mark.parametrize("pairing", ["random", "other_class"])
def test_a_schedule_changes_who_is_mixed_and_nothing_else(pairing):
    config, labels = LAYERED.replace(pairing=pairing), np.arange(40) % 5
    whole, half = (
        draw_plan(config, 40, 8, 8, np.random.default_rng(1), probability=p, labels=labels) for p in (1.0, 0.5)
    )
    np.testing.assert_array_equal(whole.partner, half.partner)
    assert 5 < half.mixed.sum() < 35
    for i in np.flatnonzero(half.mixed):
        np.testing.assert_array_equal(whole.layers_of(i), half.layers_of(i))


@pytest.mark.parametrize("config", [EVERYTHING, EVERYTHING.replace(merge="sum", lam_from="orig", k_max=1)])
def test_a_saved_plan_gives_the_same_bytes(config, tmp_path, rng):
    images, second = rng.integers(0, 256, (2, 9, 40, 30, 3), dtype=np.uint8)
    mix = MiAMix(9, config, return_masks=True)
    batch = mix(images, np.arange(9), rng=rng, second=second)
    batch.plan.save(tmp_path / "plan.npz")
    plan = MixPlan.load(tmp_path / "plan.npz")
    np.testing.assert_array_equal(plan.partner, batch.plan.partner)
    again = mix.render(plan, images, np.arange(9), second=second)
    for name in ("images", "targets", "lam", "partner", "masks"):
        assert getattr(again, name).tobytes() == getattr(batch, name).tobytes(), name
    assert [again.describe(i) for i in range(9)] == [batch.describe(i) for i in range(9)]


@pytest.mark.parametrize(("words", "change"), [
    ("partner must have one or two dimensions", lambda p: {"partner": p.partner[:, :, None]}),
    ("partner must have one or two dimensions", lambda p: {"partner": np.array(3)}),
    ("partner must have one or two dimensions and not be empty", lambda p: {"partner": p.partner[:0]}),
    ("partner must have one column for each layer", lambda p: {"partner": p.partner[:, :2]}),
    ("partner must have one column for each layer", lambda p: {"partner": p.partner[:, :0]}),
    ("partner must be a sample of the batch", lambda p: {"partner": p.partner + 1}),
    ("partner must be a sample of the batch", lambda p: {"partner": p.partner - 1}),
    ("first_layer must rise", lambda p: {"partner": p.partner[:-1] % 19}),
    ("mixes must be 'images' with a partner for each layer", lambda p: {"mixes": "features"}),
])  # fmt: skip
def test_a_damaged_plan_is_refused(words, change, tmp_path, rng):
    plan = MiAMix(3, LAYERED.replace(k_min=3)).plan(20, 8, 8, rng=rng)
    broken = dataclasses.replace(plan, **change(plan))
    broken.save(tmp_path / "plan.npz")
    with pytest.raises(ValueError, match=words):
        MixPlan.load(tmp_path / "plan.npz")
    with pytest.raises(ValueError, match=words):
        MiAMix(3, LAYERED).render(broken, np.zeros((20, 8, 8), np.uint8), np.zeros(20, int))


@pytest.mark.parametrize("partners", ["sample", "layer"])
def test_a_layers_sample_is_the_one_that_it_is_counted_to(partners, rng):
    """Also in a plan from somebody's hands, whose records say something else."""
    images, second = rng.integers(0, 256, (2, 9, 20, 20, 3), dtype=np.uint8)
    mix = MiAMix(9, EVERYTHING.replace(partners=partners))
    batch = mix(images, np.arange(9), rng=rng, second=second)
    layers = batch.plan.layers.copy()
    for wrong in 10**6, -1, layers["sample"][::-1].copy():
        layers["sample"] = wrong
        again = mix.render(dataclasses.replace(batch.plan, layers=layers), images, np.arange(9), second=second)
        np.testing.assert_array_equal(again.images, batch.images)
        assert again.plan.needs_second_view == batch.plan.needs_second_view


def test_more_columns_than_layers_do_no_harm(rng):
    images, second = rng.integers(0, 256, (2, 9, 8, 8, 3), dtype=np.uint8)
    mix = MiAMix(9, LAYERED, return_masks=True)
    plan = mix.plan(9, 8, 8, rng=rng)
    wider = dataclasses.replace(plan, partner=np.concatenate([plan.partner, plan.partner[:, :2]], axis=1))
    one, other = (mix.render(p, images, np.arange(9), second=second) for p in (plan, wider))
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(np.pad(one.lam, ((0, 0), (0, 2))), other.lam)
    np.testing.assert_array_equal(np.pad(one.masks, ((0, 0), (0, 2), (0, 0), (0, 0))), other.masks)
    np.testing.assert_array_equal(one.targets, other.targets)


@pytest.mark.parametrize("second_view", ["independent", "shared"])
def test_description_in_words(second_view):
    plan = MiAMix(3, LAYERED.replace(p_self=0.3, second_view=second_view)).plan(90, 9, 9, rng=np.random.default_rng(0))
    itself = "itself" if second_view == "shared" else "another view of itself"
    seen = set()
    for i in range(90):
        layers, words = plan.layers_of(i), plan.describe(i)
        parts = words.removeprefix(f"sample {i}: ").split(" then ")
        assert words.startswith(f"sample {i}: ")
        assert len(parts) == len(layers)
        for j, (layer, part) in enumerate(zip(layers, parts, strict=True)):
            who = itself if plan.partner[i, j] == i else f"sample {plan.partner[i, j]}"
            assert part.startswith(f"{METHODS[layer['method']]} {layer['ratio']:.2f}")
            assert part.endswith(f" with {who}")
            seen.add(who == itself)
    assert seen == {True, False}
    empty = dataclasses.replace(plan, layers=plan.layers[:0], first_layer=np.zeros(91, np.int64))
    assert empty.describe(1) == "sample 1, not mixed"
    assert empty.needs_second_view == []
