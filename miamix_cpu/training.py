"""Functions for training on mixed batches: loss, accuracy, and normalisation on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from miamix_cpu.checks import check_units

#: Soft targets (N, C); or labels, partners' labels, and the weight of the labels; or labels and weights, (N, K + 1).
Targets = torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor] | tuple[torch.Tensor, torch.Tensor]


def mixed_cross_entropy(logits: torch.Tensor, targets: Targets, *, reduction: str = "mean") -> torch.Tensor:
    """Cross-entropy for both target formats, which give the same value.

    Parameters
    ----------
    logits : (N, C)
    targets : (N, C), or with `targets="pair"` the triple (y_a, y_b, lam), or with partners="layer" (labels, weights)
        As returned by the collator, on the same device as `logits`. Not numbers (`num_classes=None`).
    reduction : "mean", "sum" or "none"

    Raises
    ------
    TypeError, ValueError
        If targets are no such triple or tensor, or are single numbers, or if `reduction` is none of these.

    Examples
    --------
    >>> logits = torch.zeros(2, 4)
    >>> pair = torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([0.25, 1.0])
    >>> mixed_cross_entropy(logits, pair).item() == mixed_cross_entropy(logits, torch.eye(4)[:2]).item()
    True
    """
    if isinstance(targets, torch.Tensor):
        _check_classes(logits, targets)
        return F.cross_entropy(logits, targets, reduction=reduction)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    each = torch.zeros_like(logits[:, 0])
    for labels, weights in _weighed(targets):
        _check_classes(logits, labels)
        each = each + weights * F.cross_entropy(logits, labels, reduction="none")
    return each if reduction == "none" else each.mean() if reduction == "mean" else each.sum()


def mixed_accuracy(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Top-1 accuracy on a mixed batch: the mean weight that the targets give to the predicted class.

    It is low by design and not comparable with test accuracy. A network that always predicts the class with the larger
    weight reaches only the mean of max(lam, 1 - lam), which is 3/4 for a uniform lam.

    Parameters
    ----------
    logits : (N, C)
    targets : as in `mixed_cross_entropy`

    Returns
    -------
    () tensor in [0, 1]

    Raises
    ------
    TypeError, ValueError
        If targets are no such triple or tensor, are single numbers, or have another number of classes than `logits`.
    """
    predicted = logits.argmax(dim=1)

    def right(labels: torch.Tensor) -> torch.Tensor:
        return (predicted == labels).float() if labels.ndim == 1 else labels.gather(1, predicted[:, None])[:, 0]

    if isinstance(targets, torch.Tensor):
        _check_classes(logits, targets)
        return right(targets).mean()
    each = torch.zeros_like(logits[:, 0])
    for labels, weights in _weighed(targets):
        _check_classes(logits, labels)
        each = each + weights * right(labels)
    return each.mean()


def normalize_on_device(
    images: torch.Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Normalise uint8 images on the device that holds them: (images / 255 - mean) / std.

    Moving uint8 images to the device takes a quarter of the bytes of float32 images.

    Parameters
    ----------
    images : uint8 (N, C, H, W), contiguous or channels_last, or clips (N, C, T, H, W); the result has the same memory
        format
    mean, std : C floats, in units of [0, 1]
    dtype : torch.dtype
        Dtype of the result; the computation uses float32.

    Returns
    -------
    (N, C, H, W) or (N, C, T, H, W)
    """
    if images.dtype != torch.uint8 or images.ndim not in (4, 5):
        raise TypeError(
            f"images must be uint8 (N, C, H, W) or (N, C, T, H, W), got {images.dtype} {tuple(images.shape)}"
        )
    # Checks and divisions use Python numbers: reading a value from the device would make the host wait for all queued
    # work, and torch.compile could not continue.
    shifts, scales = ([float(value) for value in values] for values in (mean, std))
    for name, values in (("mean", shifts), ("std", scales)):
        if len(values) != images.shape[1]:
            raise ValueError(f"{name} must have {images.shape[1]} values, one per channel, got {len(values)}")
    if min(scales) <= 0:
        raise ValueError(f"std must be above 0, got {tuple(scales)}")
    check_units(shifts, scales)
    factor, shift = (
        torch.tensor(value, dtype=torch.float32, device="cpu")
        .view(-1, *(1,) * (images.ndim - 2))
        .to(images.device, non_blocking=True)
        for value in (
            [1 / (255 * scale) for scale in scales],
            [shift / scale for shift, scale in zip(shifts, scales, strict=True)],
        )
    )
    return images.float().mul_(factor).sub_(shift).to(dtype)


def _check_classes(logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Raise TypeError for labels that are single numbers, ValueError for vectors of another length than the logits."""
    if logits.ndim != 2:
        return
    if labels.ndim == 1 and labels.is_floating_point():
        raise TypeError(
            f"targets must be classes or (N, {logits.shape[1]}), got numbers, {labels.dtype} {tuple(labels.shape)}: "
            "with num_classes=None use a loss of numbers, for example torch.nn.functional.mse_loss"
        )
    if labels.ndim == 2 and labels.shape != logits.shape:
        raise ValueError(f"targets must be {tuple(logits.shape)}, as logits are, got {tuple(labels.shape)}")


def _weighed(targets: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the labels and their weights, one after the other."""
    if (
        not isinstance(targets, (tuple, list))
        or len(targets) not in (2, 3)
        or not all(isinstance(part, torch.Tensor) for part in targets)
    ):
        raise TypeError(
            f"targets must be a tensor (N, C), (y_a, y_b, lam) or (labels, weights), got {type(targets).__name__}"
        )
    if len(targets) == 2:
        labels, weights = targets
        return list(zip(labels.unbind(1), weights.unbind(1), strict=True))
    y_a, y_b, lam = targets
    return [(y_a, lam), (y_b, 1 - lam)]
