"""MiAMix as a user would write it without Numba: NumPy, SciPy's FFT and OpenCV, one image at a time, no tricks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from scipy import fft

METHODS = ("mixup", "cutmix", "fmix", "gridmix", "agmix")
WEIGHTS = np.array([2, 1, 1, 1, 1]) / 6


def mixup_hole(h: int, w: int, ratio: float, rng: np.random.Generator) -> np.ndarray:
    return np.full((h, w), ratio, np.float32)


def cutmix_hole(h: int, w: int, ratio: float, rng: np.random.Generator) -> np.ndarray:
    hole = np.zeros((h, w), np.float32)
    cy, cx, side = rng.random() * h, rng.random() * w, np.sqrt(ratio)
    top, bottom = np.clip([round(cy - side * h / 2), round(cy + side * h / 2)], 0, h)
    left, right = np.clip([round(cx - side * w / 2), round(cx + side * w / 2)], 0, w)
    hole[top:bottom, left:right] = 1
    return hole


def fmix_hole(h: int, w: int, ratio: float, rng: np.random.Generator, decay: float = 3.0) -> np.ndarray:
    fy, fx = fft.fftfreq(h)[:, None], fft.rfftfreq(w)
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(h, w)) ** decay
    noise = rng.standard_normal((h, fx.size)) + 1j * rng.standard_normal((h, fx.size))
    field = fft.irfft2(noise * amplitude, s=(h, w))
    hole = np.zeros(h * w, np.float32)
    count = round(ratio * h * w)
    hole[np.argpartition(-field, min(count, h * w - 1), axis=None)[:count]] = 1
    return hole.reshape(h, w)


def gridmix_hole(h: int, w: int, ratio: float, rng: np.random.Generator) -> np.ndarray:
    cell, side = min(h, w) / rng.integers(2, 7), np.sqrt(ratio)
    in_y = ((np.arange(h) + 0.5) / cell + rng.random()) % 1 < side
    in_x = ((np.arange(w) + 0.5) / cell + rng.random()) % 1 < side
    return np.outer(in_y, in_x).astype(np.float32)


def agmix_hole(h: int, w: int, ratio: float, rng: np.random.Generator) -> np.ndarray:
    cy, cx, q, angle = rng.random(), rng.random(), rng.uniform(-0.95, 0.95), rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    precision = np.linalg.inv(ratio * turn @ np.array([[1, q], [q, 1]]) @ turn.T + 1e-9 * np.eye(2))
    dy, dx = ((np.arange(h) + 0.5) / h - cy)[:, None], (np.arange(w) + 0.5) / w - cx
    z = precision[0, 0] * dx * dx + 2 * precision[0, 1] * dx * dy + precision[1, 1] * dy * dy
    return np.exp(-0.5 * z).astype(np.float32)


HOLES = {"mixup": mixup_hole, "cutmix": cutmix_hole, "fmix": fmix_hole, "gridmix": gridmix_hole, "agmix": agmix_hole}


def augment(hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotation and shear by warpAffine, smoothing by blur."""
    h, w = hole.shape
    if rng.random() < 0.25:
        angle, shear = rng.uniform(-np.pi, np.pi), rng.uniform(-0.5, 0.5)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        matrix = np.array([[1, shear], [0, 1]]) @ turn
        centre = np.array([w, h]) / 2
        affine = np.column_stack([matrix, centre - matrix @ centre])
        hole = cv2.warpAffine(hole, affine, (w, h), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    if rng.random() < 0.5:
        window = 2 * int(rng.integers(1, max(2, (min(h, w) // 4 + 1) // 2))) + 1
        hole = cv2.blur(hole, (window, window), borderType=cv2.BORDER_REFLECT)
    return hole


class PlainMiAMix:
    """A collate function: list of (uint8 (H, W, C), label) to uint8 (N, C, H, W) and soft targets."""

    def __init__(self, num_classes: int, seed: int = 0) -> None:
        self.num_classes = num_classes
        self.rng = np.random.default_rng(seed)

    def __call__(self, samples: list[tuple[np.ndarray, int]]) -> tuple[Any, Any]:
        """Mix a batch."""
        import torch

        rng, n = self.rng, len(samples)
        images = np.stack([image for image, _ in samples])
        labels = np.array([label for _, label in samples])
        h, w = images.shape[1:3]
        order = rng.permutation(n)
        partner = np.empty(n, int)
        partner[order] = np.roll(order, 1)
        partner = np.where(rng.random(n) < 0.1, np.arange(n), partner)
        out, lam = np.empty_like(images), np.empty(n, np.float32)
        for i in range(n):
            k = int(rng.integers(1, 3))
            mask = np.ones((h, w), np.float32)
            for ratio in rng.dirichlet([1.0] * k + [k])[:k]:
                name = METHODS[rng.choice(5, p=WEIGHTS)]
                hole = HOLES[name](h, w, ratio, rng)
                if name in ("cutmix", "fmix", "gridmix"):
                    hole = augment(hole, rng)
                mask *= 1 - hole
            lam[i] = mask.mean()
            weight = mask[..., None]
            out[i] = np.rint(weight * images[i] + (1 - weight) * images[partner[i]])
        targets = np.zeros((n, self.num_classes), np.float32)
        targets[np.arange(n), labels] += lam
        targets[np.arange(n), labels[partner]] += 1 - lam
        return torch.from_numpy(np.ascontiguousarray(out.transpose(0, 3, 1, 2))), torch.from_numpy(targets)
