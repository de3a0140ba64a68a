"""Labels that are numbers, or vectors of them: `num_classes=None`."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig, mixed_accuracy, mixed_cross_entropy
from miamix_cpu.mix.targets import soft_targets
from miamix_cpu.samples.labels import read_labels

CONFIG = MiAMixConfig(p_self=0)
LARGEST = float(np.finfo(np.float32).max)


def images_of(n):
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def samples_of(labels):
    return list(zip(images_of(len(labels)), labels, strict=True))


NUMBERS = {
    "floats": [0.5, -3.0, 1e6, 2.0],
    "integers": [5, -3, 2**40, 0],
    "both": [5, 0.25, 2**70, True],
    "numpy": [np.float32(0.5), np.float64(2), np.int8(-3), np.uint64(2**64 - 1)],
    "tensors": [
        torch.tensor(0.5),
        torch.tensor(7),
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.tensor(2.0).double(),
    ],
    "array": np.array([0.5, -3.0, 1e6, 2.0]),
    "tensor": torch.tensor([0.5, -3.0, 1e6, 2.0]),
    "vectors": [[0.5, 300.0], [-1, 2], [0, 0], [7, 1e9]],
    "of one": [[0.5], [2.0], [-7.0], [1e9]],
    "arrays": [np.array([0.5, 300.0]), np.array([1, 2]), torch.tensor([3, 4]), torch.tensor([3.5, -4])],
    "matrix": np.array([[0.5, 300.0], [-1, 2], [0, 0], [7, 1e9]], ">f8"),
}


def as_numbers(labels):
    return np.array([np.asarray(label.float() if hasattr(label, "float") else label, float) for label in labels])


@pytest.mark.parametrize("labels", NUMBERS.values(), ids=NUMBERS)
def test_numbers_of_any_kind(labels):
    found = read_labels(labels, None)
    assert found.dtype == np.float32
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, as_numbers(labels).astype(np.float32))


def test_the_callers_array_is_not_shared():
    labels = np.ones(4, np.float32)
    assert not np.shares_memory(read_labels(labels, None), labels)


@pytest.mark.parametrize("labels", NUMBERS.values(), ids=NUMBERS)
def test_both_numbers_are_weighed(labels, rng):
    batch = MiAMix(None, CONFIG)(images_of(4), labels, rng=rng)
    y = as_numbers(labels)
    lam = batch.lam.astype(float).reshape(-1, *(1,) * (y.ndim - 1))
    assert batch.targets.dtype == np.float32
    assert batch.targets.shape == y.shape
    assert ((batch.lam > 0) & (batch.lam < 1)).any()
    np.testing.assert_allclose(batch.targets, lam * y + (1 - lam) * y[batch.partner], rtol=1e-6)


@pytest.mark.parametrize("labels", [[0.5, -3.0, 8.0, 2.0], [[0.5, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]], ids=str)
def test_all_front_doors_give_the_same_targets(labels):
    """In the shape that torch's own collation gives."""
    samples = samples_of(labels)
    images, targets = MiAMixCollator(None, CONFIG, seed=3)(samples)
    _, (y_a, y_b, lam) = MiAMixCollator(None, CONFIG, seed=3, targets="pair")(samples)
    columns = {"image": images_of(4), "label": np.array(labels)}
    mixed = MiAMixBatch(None, CONFIG, seed=3, dtype="float32", memory_format="channels_first")(columns)
    np.testing.assert_array_equal(mixed["image"], images)
    np.testing.assert_array_equal(mixed["label"], targets)
    wanted = default_collate([label for _, label in samples])
    wanted = torch.stack(wanted, dim=1) if isinstance(wanted, list) else wanted
    assert targets.dtype == y_a.dtype == y_b.dtype == lam.dtype == torch.float32
    assert targets.shape == y_a.shape == y_b.shape == wanted.shape
    assert torch.equal(y_a, wanted.float())
    weights = lam if y_a.ndim == 1 else lam[:, None]
    torch.testing.assert_close(targets, weights * y_a + (1 - weights) * y_b)
    ((_, loaded),) = DataLoader(samples, 4, num_workers=1, collate_fn=MiAMixCollator(None, CONFIG, seed=3))
    assert torch.equal(loaded, targets)
    batch = MiAMix(None, CONFIG, targets="pair")(images_of(4), labels, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(batch.targets[1], batch.targets[0][batch.partner])


def test_equal_numbers_give_exactly_that_number(rng):
    """Whatever lam is."""
    lam = (rng.random(4000) ** rng.integers(1, 9, 4000)).astype(np.float32)
    lam[:4] = 0, 1, 1e-30, np.nextafter(np.float32(1), np.float32(0))
    for y in (0.1, -1 / 3, 1e-42, LARGEST, -LARGEST):
        labels, out = np.full(4000, y, np.float32), np.empty(4000, np.float32)
        soft_targets(labels, rng.permutation(4000), lam, None, 0.0, out)
        np.testing.assert_array_equal(out, labels)


def test_large_numbers_are_mixed_without_overflow(rng):
    labels = np.array([LARGEST, -LARGEST, LARGEST, 0], np.float32)
    with np.errstate(all="raise"):
        batch = MiAMix(None, CONFIG)(images_of(4), labels, rng=rng)
    assert np.isfinite(batch.targets).all()
    low, high = (function(labels, labels[batch.partner]) for function in (np.minimum, np.maximum))
    assert ((low <= batch.targets) & (batch.targets <= high)).all()


@pytest.mark.parametrize("labels", [[0.1, -7.3, 1e9, 4], [[0.1, -7.3], [1, 2], [3, 4], [5, 6]]], ids=str)
def test_what_is_evaluated_has_the_numbers_themselves(labels):
    _, targets = MiAMixCollator(None, CONFIG, seed=0).plain()(samples_of(labels))
    assert torch.equal(targets, torch.tensor(labels))


@pytest.mark.parametrize(("labels", "error", "words"), [
    ([0.5, float("nan"), 1.0], ValueError, "label of sample 1 must be finite, got nan: leave the sample out"),
    ([0.5, 1, -float("inf")], ValueError, "label of sample 2 must be finite, got -inf"),
    ([[1, 2], [3, 4], [5, np.inf]], ValueError, "label of sample 2 must be finite, got inf"),
    ([0.5, 1e39, 1.0], ValueError, r"label of sample 1 holds 1e\+39, which float32 can't: rescale the labels"),
    ([[1.0, 0], [0, -1e300]], ValueError, r"label of sample 1 holds -1e\+300, which float32 can't"),
    ([1, 10**400], ValueError, r"label of sample 1 holds 1000+\.\.\.0+, which float32 can't"),
    ([[1, 2], [3, 4], [5, 6, 7]], ValueError, r"label of sample 2 has shape \(3,\), label of sample 0 has \(2,\)"),
    ([[1, 2], 3], ValueError, r"label of sample 1 has shape \(\), label of sample 0 has \(2,\)"),
    ([1.0, "2"], TypeError, "label of sample 1 must be a number or a vector of numbers, got str '2'"),
    ([1.0, None], TypeError, "label of sample 1 must be a number or a vector of numbers, got None"),
    ([1.0, 1j], TypeError, "label of sample 1 must be a number or a vector of numbers, got complex"),
    ([[[1.0]], [[2.0]]], ValueError, r"label of sample 0 must be a number or a vector of numbers, got shape \(1, 1\)"),
    ([[], []], ValueError, r"labels must not be empty, got shape \(2, 0\)"),
    ([], ValueError, "labels must not be empty"),
    (np.array(["a"]), TypeError, "labels must be numbers or vectors of numbers, got <U1"),
])  # fmt: skip
def test_bad_numbers_are_named(labels, error, words):
    with pytest.raises(error, match=words):
        read_labels(labels, None)


def test_who_gives_numbers_as_classes_is_told_how_to_mix_them():
    with pytest.raises(TypeError, match=r"got the float 0.5: .* To mix numbers \(regression\), set num_classes=None"):
        read_labels([0.5, 1.5], 10)
    with pytest.raises(ValueError, match="for vectors of other numbers, set num_classes=None"):
        read_labels([[0.5, 1.5]], 2)


@pytest.mark.parametrize("make", [MiAMix, MiAMixCollator, MiAMixBatch])
def test_what_needs_classes_is_refused(make):
    with pytest.raises(
        ValueError, match=r"label_smoothing .* with num_classes=None there are none: leave it out, got 0.1"
    ):
        make(None, label_smoothing=0.1)
    for pairing in ("same_class", "other_class"):
        with pytest.raises(ValueError, match=f"pairing='{pairing}' needs classes, and with num_classes=None there are"):
            make(None, MiAMixConfig(pairing=pairing))
    assert "num_classes=None" in repr(make(None))


def nearest(labels, generator):
    return np.argsort(np.abs(labels[:, None] - labels) + np.diag(np.full(len(labels), np.inf)), axis=1)[:, 0]


def test_a_function_pairs_by_numbers():
    mix = MiAMixCollator(None, MiAMixConfig(pairing=nearest, p_self=0), seed=0, return_batch=True)
    assert mix(samples_of([1.0, 5.0, 1.5, 4.0])).partner.tolist() == [2, 3, 0, 1]


def test_losses_of_classes_refuse_numbers():
    logits = torch.zeros(4, 3)
    one, pair = torch.tensor([0.5, 1.0, 0.0, 2.0]), (torch.zeros(4), torch.ones(4), torch.ones(4))
    for function in (mixed_cross_entropy, mixed_accuracy):
        for targets in (one, pair):
            with pytest.raises(TypeError, match=r"got numbers, torch.float32 \(4,\): with num_classes=None use a loss"):
                function(logits, targets)
        with pytest.raises(ValueError, match=r"targets must be \(4, 3\), as logits are, got \(4, 2\)"):
            function(logits, torch.zeros(4, 2))
