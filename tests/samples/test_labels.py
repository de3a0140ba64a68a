import numpy as np
import pytest
import torch

from miamix_cpu.samples.labels import read_labels


@pytest.mark.parametrize("labels", [
    [1, 0, 2], (1, 0, 2), np.array([1, 0, 2]), np.array([1, 0, 2], np.uint8), [np.int64(1), np.int32(0), np.uint8(2)],
    [torch.tensor(1), torch.tensor(0), torch.tensor(2)], [np.array(1), np.array(0), np.array(2)], [True, False, 2],
    range(1, 4), [np.uint64(1), 0, np.int8(2)],
])  # fmt: skip
def test_integers_of_any_kind(labels):
    found = read_labels(labels, 4)
    assert found.dtype == np.int64
    assert found.tolist() in ([1, 0, 2], [1, 2, 3])


@pytest.mark.parametrize("labels", [
    [[0.5, 0.5], [1, 0]], np.array([[0.5, 0.5], [1, 0]]), [torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])],
    [np.array([0.5, 0.5], np.float16), np.array([1, 0], np.float16)],
    [torch.tensor([0.5, 0.5], dtype=torch.bfloat16), torch.tensor([1.0, 0.0], requires_grad=True)],
])  # fmt: skip
def test_vectors_of_any_kind(labels):
    found = read_labels(labels, 2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[0.5, 0.5], [1, 0]])


@pytest.mark.parametrize(("labels", "error", "words"), [
    ([0, 1, -1], ValueError, r"label of sample 2 must be in \[0, 1\], got -1"),
    ([0, -(2**63)], ValueError, r"label of sample 1 must be in \[0, 1\], got -9223372036854775808"),
    ([0, 2], ValueError, r"label of sample 1 must be in \[0, 1\], got 2"),
    ([0, 5], ValueError, r"label of sample 1 must be in \[0, 1\], got 5"),
    ([0, float("nan")], ValueError, "label of sample 1 is NaN"),
    ([0, 1, 1.5], TypeError, "label of sample 2 must be an integer class or a vector of numbers, got the float 1.5"),
    (np.array([0.0, 1.0]), TypeError, r"label of sample 0 must be an integer class .* got the float 0: if it is a class, pass int\(label\)"),
    ([0, "dog"], TypeError, "label of sample 1 must be an integer class or a vector of numbers, got str 'dog'"),
    ([1, None], TypeError, "label of sample 1 must be .* got None"),
    ([1, [[1], [2, 3]]], TypeError, "label of sample 1 must be"),
    ([1, torch.zeros((), device="meta")], TypeError, "label of sample 1 must be"),
    ([[1, 0, 0], [0, 1, 0]], ValueError, r"label of sample 0 must be an integer class, or have num_classes=2 values, got shape \(3,\)"),
    ([[1, 0], [0, 1, 0]], ValueError, r"label of sample 1 has shape \(3,\), label of sample 0 has \(2,\)"),
    ([[1, 0], 1], ValueError, r"label of sample 1 has shape \(\), label of sample 0 has \(2,\)"),
    ([0, [1, 0]], ValueError, r"label of sample 1 has shape \(2,\), label of sample 0 has \(\)"),
    ([[1, 0], [np.nan, 0]], ValueError, r"label of sample 1 must have values in \[0, 1\], got \[nan, 0.0\]"),
    ([[1, 0], [2, 0]], ValueError, r"label of sample 1 must have values in \[0, 1\], got \[2.0, 0.0\]"),
    ([10**30, 1], ValueError, "labels must be classes"),
    ([], ValueError, "labels must not be empty"),
    (3, TypeError, "labels must be a sequence, got int"),
    (np.array(["a", "b"]), TypeError, "labels must be integers or vectors of numbers, got <U1"),
])  # fmt: skip
def test_bad_labels_are_named(labels, error, words):
    with pytest.raises(error, match=words):
        read_labels(labels, 2)


def test_a_class_beyond_int64_is_refused_as_it_is():
    for labels in ([0, np.uint64(2**64 - 1)], [0, 2**64 - 1]):
        with pytest.raises(ValueError, match=r"labels must be classes: .*too large"):
            read_labels(labels, 10)
