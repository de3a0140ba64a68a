"""Targets: the labels of both partners, weighed by lam (MiAMix, section 3.2.4)."""

from __future__ import annotations

import numpy as np

from miamix_cpu.jit.flags import exact_entry
from miamix_cpu.plan.mix_plan import MixPlan


def pair_targets(plan: MixPlan, labels: np.ndarray, lam: np.ndarray) -> tuple[np.ndarray, ...]:
    """(labels, labels of the partners, lam), or with partners="layer" (labels, weights), (N, K + 1) each.

    Parameters
    ----------
    plan : MixPlan
    labels : (N,) or (N, C)
    lam : from `mix_views`
    """
    if plan.is_layered:
        return labels[plan.sources], lam.astype(np.float32)
    return labels.copy(), labels[plan.partner], lam


def write_targets(
    plan: MixPlan, labels: np.ndarray, lam: np.ndarray, num_classes: int | None, label_smoothing: float, out: np.ndarray
) -> None:
    """Write soft targets (`soft_targets`, or `layered_targets`).

    Parameters
    ----------
    plan : MixPlan
    labels, num_classes, label_smoothing, out : as in `soft_targets`
    lam : from `mix_views`
    """
    if plan.is_layered:
        layered_targets(labels, plan.sources, lam, num_classes, label_smoothing, out)
    else:
        soft_targets(labels, plan.partner, lam, num_classes, label_smoothing, out)


def shape_of_targets(labels: np.ndarray, num_classes: int | None) -> tuple[int, ...]:
    """Return the shape of soft targets: (N, C), or that of labels which are numbers.

    Parameters
    ----------
    labels : int64 (N,), float32 (N, C), or if they are numbers float32 (N,) or (N, d)
    num_classes : int or None
    """
    return labels.shape if num_classes is None else (len(labels), num_classes)


def soft_targets(
    labels: np.ndarray,
    partner: np.ndarray,
    lam: np.ndarray,
    num_classes: int | None,
    label_smoothing: float,
    out: np.ndarray,
) -> None:
    """lam * y_i + (1 - lam) * y_partner, smoothed: y * (1 - s) + s / C.

    Equal labels give exactly that label, whatever lam is: vectors as y_i + (1 - lam) * (y_partner - y_i), and for
    integers (1 - t) + t is 1 in float32 for every t in [0, 1]. Numbers are weighed in float64, whose rounding float32
    does not see. Their difference might be infinite in float32; their weighed sum lies between them.

    Parameters
    ----------
    labels : int64 (N,), float32 (N, C), or if they are numbers float32 (N,) or (N, d), all finite
    partner : int64 (N,)
    lam : float32 (N,)
    num_classes : int or None
        None says that labels are numbers.
    label_smoothing : float in [0, 1], not for numbers
    out : float32, of shape `shape_of_targets`; overwritten

    Raises
    ------
    ValueError
        Where labels that do not sum to 1 are to be smoothed.
    """
    if num_classes is None:
        weights = lam.astype(np.float64) if labels.ndim == 1 else lam.astype(np.float64)[:, None]
        out[:] = weights * labels + (1 - weights) * labels[partner]
        return
    if labels.ndim == 2:
        if label_smoothing:
            check_sums(labels)
        taken = np.float32(1) - lam
        others = labels[partner]
        others -= labels
        others *= taken[:, None]
        np.add(labels, others, out=out)
        if label_smoothing:
            out *= np.float32(1 - label_smoothing)
            out += np.float32(label_smoothing / num_classes)
        return
    mix_classes(labels, partner, lam, 1 - label_smoothing, label_smoothing / num_classes, out)


def layered_targets(
    labels: np.ndarray,
    sources: np.ndarray,
    shares: np.ndarray,
    num_classes: int | None,
    label_smoothing: float,
    out: np.ndarray,
) -> None:
    """The labels of a sample and of its layers' partners, each by its weight, smoothed as in `soft_targets`.

    Parameters
    ----------
    labels : as in `soft_targets`
    sources : int64 (N, K + 1), `MixPlan.sources`
    shares : float64 (N, K + 1), which sum to 1
    num_classes, label_smoothing, out : as in `soft_targets`

    Raises
    ------
    ValueError
        Where labels that do not sum to 1 are to be smoothed.
    """
    total = np.zeros(out.shape)  # float64, so that weights of equal labels sum to 1 in float32
    for source, share in zip(sources.T, shares.T, strict=True):
        if num_classes is not None and labels.ndim == 1:
            total[np.arange(len(out)), labels[source]] += share
        else:
            total += (share if labels.ndim == 1 else share[:, None]) * labels[source]
    if label_smoothing and num_classes is not None:
        if labels.ndim == 2:
            check_sums(labels)
        total = total * (1 - label_smoothing) + label_smoothing / num_classes
    out[:] = total


@exact_entry
def mix_classes(
    labels: np.ndarray, partner: np.ndarray, lam: np.ndarray, on: float, off: float, out: np.ndarray
) -> None:
    """`soft_targets` of classes.

    Parameters
    ----------
    labels, partner, lam, out : as in `soft_targets`
    on, off : float, what a label adds to its class, and what all classes have
    """
    for i in range(labels.size):
        row, taken = out[i], np.float32(1.0) - lam[i]
        for c in range(row.size):
            row[c] = np.float32(off)
        row[labels[i]] += (np.float32(1.0) - taken) * np.float32(on)
        row[labels[partner[i]]] += taken * np.float32(on)


def check_sums(labels: np.ndarray) -> None:
    """Raise ValueError unless each vector sums to 1: smoothing is not defined for multi-label."""
    sums = labels.sum(axis=1)
    wrong = np.abs(sums - 1) > 1e-3
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"label_smoothing needs labels that sum to 1, got {sums[i]:g} for sample {i}; multi-label targets can't "
            "be smoothed"
        )
