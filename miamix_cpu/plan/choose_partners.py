"""Stage 1 by the labels: partners of the same class, of another class, or as a function of the caller's says."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np

from miamix_cpu.checks import short
from miamix_cpu.jit.flags import exact_entry
from miamix_cpu.plan.pairing import derange, uniforms_for

_SWAPS = 10  # tries a sample, after which a partner hardly depends on the order in which classes were drawn


def choose_partners(pairing: str | Callable[..., Any], labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return each sample's partner, before any is paired with itself by `p_self`.

    Parameters
    ----------
    pairing : "same_class", "other_class" or callable, MiAMixConfig.pairing
    labels : int64 (N,), or float32 (N, C), whose class is the largest entry
    rng : numpy.random.Generator

    Returns
    -------
    int64 (N,)

    Raises
    ------
    TypeError, ValueError
        If a callable returns anything but N integers in [0, N). The message names the first sample concerned.
    """
    if not isinstance(pairing, str):
        return _called(pairing, labels, rng)
    classes = labels if labels.ndim == 1 else labels.argmax(axis=1)
    _, classes, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    return (partners_within if pairing == "same_class" else partners_across)(classes, sizes, rng)


def partners_within(classes: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uniform random derangement of each class; a sample that is alone in its class is its own partner.

    Parameters
    ----------
    classes : int64 (N,), in [0, K)
    sizes : int64 (K,), how many samples each class has, at least 1
    rng : numpy.random.Generator

    Returns
    -------
    int64 (N,)
    """
    n = len(classes)
    order = np.argsort(classes, kind="stable")
    starts = np.concatenate(([0], np.cumsum(sizes)))
    partner, block = np.empty(n, np.int64), np.empty(n, np.int64)
    while not derange_blocks(partner, block, order, starts, rng.random(uniforms_for(n))):
        pass
    return partner


def partners_across(classes: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random derangement with as few pairs of one class as there can be: none, if no class has more than half.

    The samples are lined up by class, and the partner of each is the one s places further on, round to the start. With
    s = min(L, N - L), L being the size of the largest class, a class of m samples has max(0, m - s) pairs within it,
    and max(0, m - (N - s)) around the end. Both are 0 if L is at most half of N. Otherwise s = N - L, and only the
    largest class has any: L - s, which is the fewest, because all of its samples but N - L need a partner of their own
    class. Then the partners of random samples are swapped where that adds no pair of one class.

    Parameters
    ----------
    classes : int64 (N,), in [0, K)
    sizes : int64 (K,), how many samples each class has, at least 1
    rng : numpy.random.Generator

    Returns
    -------
    int64 (N,), none of them the sample itself unless N is 1
    """
    n, largest = len(classes), int(sizes.max())
    order = np.lexsort((rng.random(n), classes, rng.random(len(sizes))[classes]))  # classes, and samples in each
    partner = np.empty(n, np.int64)
    partner[order] = np.roll(order, -max(1, min(largest, n - largest)))
    swap_partners(partner, classes, rng.random((_SWAPS * n, 2)))
    return partner


@exact_entry
def derange_blocks(
    partner: np.ndarray, block: np.ndarray, order: np.ndarray, starts: np.ndarray, uniforms: np.ndarray
) -> bool:
    """Derange each block of samples by itself.

    Parameters
    ----------
    partner : int64 (n,); overwritten
    block : int64 (n,); overwritten
    order : int64 (n,), the samples, block after block
    starts : int64 (blocks + 1,), where each block begins in `order`, and n
    uniforms : float64 (m,), in [0, 1)

    Returns
    -------
    bool
        False where `uniforms` did not suffice.
    """
    used = starts[0]  # 0: as a literal it would be compiled for separately
    for b in range(starts.size - 1):
        start, end = starts[b], starts[b + 1]
        used = derange(block[start:end], uniforms, used)
        if used < 0:
            return False
        for p in range(start, end):
            partner[order[p]] = order[start + block[p]]
    return True


@exact_entry
def swap_partners(partner: np.ndarray, classes: np.ndarray, uniforms: np.ndarray) -> None:
    """Swap the partners of two samples, again and again, unless one becomes its own or pairs of one class are added.

    Parameters
    ----------
    partner : int64 (n,), a derangement; changed
    classes : int64 (n,)
    uniforms : float64 (m, 2), in [0, 1), for m pairs of samples
    """
    n = partner.size
    for k in range(uniforms.shape[0]):
        i, j = math.floor(uniforms[k, 0] * n), math.floor(uniforms[k, 1] * n)
        a, b = partner[i], partner[j]
        if a == j or b == i:
            continue
        before = (classes[i] == classes[a]) + (classes[j] == classes[b])
        if (classes[i] == classes[b]) + (classes[j] == classes[a]) <= before:
            partner[i], partner[j] = b, a


def _called(pairing: Callable[..., Any], labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the partners that the caller's function chooses, after checking them."""
    name, n = getattr(pairing, "__name__", type(pairing).__name__), len(labels)
    try:
        found = pairing(labels.copy(), rng)
    except Exception as error:
        error.add_note(f"raised by {name}, the pairing of MiAMixConfig")
        raise
    wanted = f"pairing must return the partner of each of {n} samples, integers in [0, {n - 1}]: {name} returned"
    try:
        partners = np.asarray(found)
    except ValueError:  # rows of different lengths
        partners = np.asarray(None)
    if partners.shape != (n,):
        raise ValueError(f"{wanted} {short(found)}")
    is_list = partners.dtype.kind not in "iu" and isinstance(found, (list, tuple))
    entries = found if is_list else partners.tolist()  # 1.0 if [1, 0.5] is an array
    for i, entry in enumerate(entries):
        if not isinstance(entry, Integral) or isinstance(entry, bool):
            raise TypeError(f"{wanted} {short(entry)} for sample {i}")
        if not 0 <= int(entry) < n:
            raise ValueError(f"{wanted} {entry} for sample {i}")
    return partners.astype(np.int64)
