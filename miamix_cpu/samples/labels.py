"""Read labels: classes, vectors of numbers in [0, 1] (soft or multi-label), or numbers of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from miamix_cpu.checks import short

_ROUNDING = 1e-5  # by how much float32 labels may exceed their bounds


def read_labels(labels: Sequence[Any] | np.ndarray, num_classes: int | None) -> np.ndarray:
    """Return labels as one array.

    Parameters
    ----------
    labels : N integers (Python, NumPy or 0-d tensors), or N vectors (num_classes,) in [0, 1], soft or multi-label
    num_classes : int or None
        None says that labels are numbers, or vectors (d,) of them: any that are finite and within float32's range.

    Returns
    -------
    int64 (N,) or float32 (N, num_classes); for numbers float32 (N,) or (N, d), a new array

    Raises
    ------
    TypeError, ValueError
        The message names the sample, its label and what is allowed.
    """
    if num_classes is None:
        return _read_numbers(labels)
    array = _stack(labels)
    is_ours = isinstance(labels, list)
    if array.ndim == 2 and array.shape[1] == 1 and num_classes > 1 and array.dtype.kind in "iu":
        array, is_ours = array[:, 0].astype(np.int64), True
    if array.ndim == 1 and array.dtype.kind in "iu":
        if num_classes == 1:
            raise ValueError(
                "labels are classes, but with num_classes=1 every target would be 1: set num_classes=2, or, for a "
                "network with a single output, pass labels that are vectors of one float, [0.0] or [1.0]"
            )
        classes = array if is_ours else np.array(array, dtype=np.int64)  # a new array, in the dtype that kernels expect
        if int(classes.view(np.uint64).max()) >= num_classes:  # as uint64, negative labels are the largest
            i = int(np.argmax((array < 0) | (array >= num_classes)))
            raise ValueError(f"label of sample {i} must be in [0, {num_classes - 1}], got {array[i]}")
        return classes
    if array.ndim == 1:
        if np.isnan(array).any():
            raise ValueError(f"label of sample {int(np.argmax(np.isnan(array)))} is NaN")
        raise TypeError(_not_a_class(0, array[0]))
    if array.ndim != 2 or array.shape[1] != num_classes:
        raise ValueError(
            f"label of sample 0 must be an integer class, or have num_classes={num_classes} values, got shape "
            f"{array.shape[1:]} of {array.dtype}: if it is a class, pass int(label)"
        )
    vectors = array.astype(np.float32, copy=False)
    outside = ~((vectors >= -_ROUNDING) & (vectors <= 1 + _ROUNDING)).all(axis=1)
    if outside.any():
        i = int(np.argmax(outside))
        raise ValueError(
            f"label of sample {i} must have values in [0, 1], got {short(vectors[i].tolist())}: for vectors of other "
            "numbers, set num_classes=None"
        )
    return vectors


def _read_numbers(labels: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return labels that are numbers, or vectors of them, as a new array, float32 (N,) or (N, d)."""
    array = _stack(labels, numbers=True)
    if array.ndim > 2 or 0 in array.shape:
        raise ValueError(f"label of sample 0 must be {_NUMBERS}, got shape {array.shape[1:]} of {array.dtype}")
    with np.errstate(over="ignore"):
        found: np.ndarray = array.astype(np.float32)
    wrong = ~np.isfinite(found)
    if wrong.any():
        i = int(np.argwhere(wrong)[0, 0])
        value = array[wrong][0]
        if np.isfinite(value):
            raise ValueError(f"label of sample {i} holds {value:g}, which float32 can't: rescale the labels")
        raise ValueError(f"label of sample {i} must be finite, got {value:g}: leave the sample out of the dataset")
    return found


def _not_a_class(i: int, label: Any) -> str:
    return (
        f"label of sample {i} must be {_CLASS}, got the float {float(label):g}: if it "
        "is a class, pass int(label). To mix numbers (regression), set num_classes=None"
    )


_CLASS = "an integer class or a vector of numbers"
_NUMBERS = "a number or a vector of numbers"


def _stack(labels: Sequence[Any] | np.ndarray, numbers: bool = False) -> np.ndarray:
    """Return `labels` as one numeric array, (N,) or (N, C); single ones may be floats if they are `numbers`."""
    if isinstance(labels, np.ndarray) and labels.dtype == object:  # a column of lists, as in Ray
        labels = list(labels)
    if not isinstance(labels, np.ndarray):
        try:
            n = len(labels)
        except TypeError:
            raise TypeError(f"labels must be a sequence, got {type(labels).__name__}") from None
        if n and not numbers and _INTEGERS.issuperset(map(type, labels)):
            return _classes(labels)
        labels = _stack_one_by_one(labels, numbers)
    if labels.size == 0:
        raise ValueError(f"labels must not be empty, got shape {labels.shape}")
    if labels.dtype.kind not in "biuf":
        raise TypeError(
            f"labels must be {'numbers' if numbers else 'integers'} or vectors of numbers, got {labels.dtype}"
        )
    return labels.astype(np.int64) if labels.dtype.kind == "b" else labels


def _classes(labels: Sequence[Any]) -> np.ndarray:
    try:
        return np.array(labels, dtype=np.int64)
    except OverflowError as error:
        raise ValueError(f"labels must be classes: {error}") from error


_INTEGERS = frozenset((int, bool, np.int64, np.int32, np.uint8))  # types that np.array converts quickly


def _as_array(label: Any, numbers: bool) -> np.ndarray:
    if numbers and isinstance(label, int):  # perhaps one that int64 can't hold
        return np.asarray(np.float64(label))
    if hasattr(label, "detach"):  # a tensor, perhaps bfloat16, which NumPy lacks
        label = (label.float() if label.is_floating_point() else label).numpy(force=True)
    return np.asarray(label)


def _stack_one_by_one(labels: Sequence[Any], numbers: bool) -> np.ndarray:
    """Stack labels of any kind one by one, so that an error can name the first invalid one."""
    arrays: list[np.ndarray] = []
    for i, label in enumerate(labels):
        try:
            array = _as_array(label, numbers)
        except OverflowError:
            raise ValueError(
                f"label of sample {i} holds {short(label)}, which float32 can't: rescale the labels"
            ) from None
        except (ValueError, TypeError, RuntimeError):
            array = np.asarray(None)
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"label of sample {i} must be {_NUMBERS if numbers else _CLASS}, got {type(label).__name__} "
                f"{short(label)}"
            )
        if array.shape != (arrays[0].shape if arrays else array.shape):
            raise ValueError(f"label of sample {i} has shape {array.shape}, label of sample 0 has {arrays[0].shape}")
        if array.ndim == 0 and array.dtype.kind == "f" and not numbers:
            if np.isnan(array):
                raise ValueError(f"label of sample {i} is NaN")
            raise TypeError(_not_a_class(i, array))
        arrays.append(array)
    if arrays and arrays[0].ndim == 0 and not numbers:
        return _classes([array.item() for array in arrays])  # np.array would make float64 of uint64 and int64
    return np.array(arrays) if arrays else np.zeros(0)
