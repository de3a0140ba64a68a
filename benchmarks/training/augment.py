"""The views that all methods share."""

from __future__ import annotations

from typing import Any

import albumentations as A
import cv2

AUGMENTS = ("crop", "resized", "none")


def augmentation(name: str, side: int) -> Any:
    """A transform for images of `side` x `side` pixels.

    Parameters
    ----------
    name : "crop", "resized" or "none"
        "crop": an eighth of padding on each side, a random crop, a random flip, as is usual for CIFAR. "resized": a
        crop of random size and aspect, resized, and a random flip. "none": no transform.
    side : int, pixels
    """
    if name == "none":
        return None
    flip = A.HorizontalFlip(p=0.5)
    if name == "resized":
        return A.Compose([A.RandomResizedCrop((side, side), scale=(0.08, 1.0)), flip])
    padded = side + 2 * (side // 8)
    return A.Compose([A.PadIfNeeded(padded, padded, border_mode=cv2.BORDER_CONSTANT), A.RandomCrop(side, side), flip])
