"""Targets against timm's and the naive twin; equal labels give exactly that label."""

import numpy as np
import pytest

from miamix_cpu.mix.targets import check_sums, mix_classes, soft_targets
from tests import naive


def drawn(rng, n=30, num_classes=5):
    labels, partner = rng.integers(0, num_classes, n), rng.permutation(n)
    lam = rng.random(n).astype(np.float32)
    lam[:3] = 0, 1, 0.5
    return labels, partner, lam


def targets_of(labels, partner, lam, smoothing=0.0, num_classes=5):
    out = np.full((len(lam), num_classes), np.nan, np.float32)
    before = labels.copy(), partner.copy(), lam.copy()
    soft_targets(labels, partner, lam, num_classes, smoothing, out)
    for given, copied in zip((labels, partner, lam), before, strict=True):
        np.testing.assert_array_equal(given, copied)
    return out


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["classes", "vectors"])
def test_labels_of_both_partners_are_weighed(kind, smoothing, rng):
    labels, partner, lam = drawn(rng)
    given = labels if kind == "classes" else np.eye(5, dtype=np.float32)[labels]
    expected = [
        naive.target(*(naive.one_hot(labels[j], 5, smoothing) for j in (i, partner[i])), float(lam[i]))
        for i in range(30)
    ]
    np.testing.assert_allclose(targets_of(given, partner, lam, smoothing), expected, atol=1e-6)


def test_multi_labels_are_weighed(rng):
    _, partner, lam = drawn(rng)
    labels = rng.integers(0, 2, (30, 5)).astype(np.float32)
    expected = [naive.target(labels[i], labels[partner[i]], float(lam[i])) for i in range(30)]
    np.testing.assert_allclose(targets_of(labels, partner, lam), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["classes", "vectors", "of three"])
def test_equal_labels_give_exactly_that_label(kind, rng):
    """Whatever lam is."""
    lam = (rng.random(4000) ** rng.integers(1, 9, 4000)).astype(np.float32)
    lam[:4] = 0, 1, 1e-30, np.nextafter(np.float32(1), np.float32(0))
    expected = np.tile(np.array([0, 0, 1, 0, 0], np.float32), (4000, 1))
    if kind == "of three":
        expected = np.tile(np.array([0.1, 0, 0.2, 0, 0.7], np.float32), (4000, 1))
    labels = np.full(4000, 2) if kind == "classes" else expected.copy()
    np.testing.assert_array_equal(targets_of(labels, rng.permutation(4000), lam), expected)


@pytest.mark.parametrize("run", [mix_classes.py_func, mix_classes], ids=["python", "compiled"])
def test_classes_are_mixed_alike_compiled_or_not(run, rng):
    labels, partner, lam = drawn(rng)
    out, expected = np.full((30, 5), np.nan, np.float32), np.empty((30, 5), np.float32)
    run(labels, partner, lam, 0.9, 0.02, out)
    for i in range(30):
        expected[i] = np.float32(0.02)
        taken = np.float32(1) - lam[i]
        expected[i, labels[i]] += (np.float32(1) - taken) * np.float32(0.9)
        expected[i, labels[partner[i]]] += taken * np.float32(0.9)
    np.testing.assert_array_equal(out, expected)


def test_targets_sum_to_one(rng):
    for smoothing in (0.0, 0.1, 0.7):
        sums = targets_of(*drawn(rng, 500), smoothing).sum(axis=1)
        np.testing.assert_allclose(sums, 1, atol=1e-6)


def test_vectors_that_do_not_sum_to_one_cannot_be_smoothed(rng):
    labels = np.array([[1, 0], [0.5, 0.5], [1, 1], [0, 0]], np.float32)
    check_sums(labels[:2])
    check_sums(labels[:2] * np.float32(1.0009))
    with pytest.raises(
        ValueError, match="labels that sum to 1, got 2 for sample 2; multi-label targets can't be smoothed"
    ):
        check_sums(labels)
    with pytest.raises(ValueError, match="got 0 for sample 0"):
        targets_of(labels[3:], np.zeros(1, np.int64), np.ones(1, np.float32), 0.1, 2)
    targets_of(labels, np.arange(4), np.ones(4, np.float32), 0.0, 2)
