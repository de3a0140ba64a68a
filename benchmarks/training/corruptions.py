"""Corrupted test images: CIFAR-C's files where they are there, otherwise 15 corruptions made with Albumentations.

The made ones follow the kinds of Hendrycks and Dietterich (2019): noise, blur, weather, digital, five severities each.
They are other programs with other strengths, so their numbers compare methods here, and with no published table;
spatter stands in for frost, which Albumentations lacks.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.training.data import DataError, ImageSet, Split, corrupted
from benchmarks.training.loop import Run

SEVERITIES = 5
_BLOCKS = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_NEAREST}
MADE = "generated with Albumentations, not CIFAR-C"

# At the least and the greatest severity; linear between.
_RANGES: dict[str, tuple[float, float]] = {
    "gaussian_noise": (0.04, 0.20), "shot_noise": (0.005, 0.08), "impulse_noise": (0.01, 0.12),
    "defocus_blur": (1, 5), "glass_blur": (1, 5), "motion_blur": (3, 11), "zoom_blur": (1.06, 1.35),
    "snow": (0.05, 0.35), "spatter": (0.54, 0.68), "fog": (0.02, 0.2), "brightness": (0.06, 0.3),
    "contrast": (0.3, 0.85), "elastic_transform": (10, 50), "pixelate": (0.85, 0.35), "jpeg_compression": (60, 8),
}  # fmt: skip
GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "spatter", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}


def transform(name: str, severity: int) -> A.BasicTransform:
    """Albumentations' transform for a corruption at a severity from 1 to 5."""
    low, high = _RANGES[name]
    s = low + (high - low) * (severity - 1) / (SEVERITIES - 1)
    n = round(s)
    makers: dict[str, Callable[[], A.BasicTransform]] = {
        "gaussian_noise": lambda: A.GaussNoise(std_range=(s, s), p=1),
        "shot_noise": lambda: A.ShotNoise(scale_range=(s, s), p=1),
        "impulse_noise": lambda: A.SaltAndPepper(amount=(s, s), salt_vs_pepper=(0.5, 0.5), p=1),
        "defocus_blur": lambda: A.Defocus(radius=(n, n), alias_blur=(0.1 * s, 0.1 * s), p=1),
        "glass_blur": lambda: A.GlassBlur(sigma=0.2 * s, max_delta=(n + 1) // 2, iterations=1, p=1),
        "motion_blur": lambda: A.MotionBlur(blur_limit=(n | 1, n | 1), allow_shifted=False, p=1),
        "zoom_blur": lambda: A.ZoomBlur(max_factor=(s, s), step_factor=(0.02, 0.02), p=1),
        "snow": lambda: A.RandomSnow(snow_point_range=(s, s), brightness_coeff=2.0, p=1),
        "spatter": lambda: A.Spatter(cutout_threshold=(1.3 - s, 1.3 - s), intensity=(0.6, 0.6), p=1),
        "fog": lambda: A.RandomFog(fog_coef_range=(0.3, 0.3), alpha_coef=s, p=1),
        "brightness": lambda: A.RandomBrightnessContrast(brightness_limit=(s, s), contrast_limit=(0, 0), p=1),
        "contrast": lambda: A.RandomBrightnessContrast(brightness_limit=(s / 2, s / 2), contrast_limit=(-s, -s), p=1),
        "elastic_transform": lambda: A.ElasticTransform(alpha=s, sigma=4, border_mode=cv2.BORDER_REFLECT_101, p=1),
        "pixelate": lambda: A.Downscale(scale_range=(s, s), interpolation_pair=_BLOCKS, p=1),
        "jpeg_compression": lambda: A.ImageCompression(quality_range=(n, n), p=1),
    }
    return makers[name]()


def make(images: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Corrupt uint8 images (N, H, W, 3); the same ones give the same result."""
    compose = A.Compose([transform(name, severity)], seed=zlib.crc32(f"{name} {severity}".encode()))
    return np.stack([compose(image=image)["image"] for image in images])


def evaluate(runs: Sequence[Run], folder: Path | None, limit: int, seconds_left: Callable[[], float]) -> bool:
    """Try finished runs' networks on corrupted images, a corruption at a time for all; False where time ran out.

    Parameters
    ----------
    runs : finished ones, of the same images
    folder : Path, optional
        CIFAR-C's files.
    limit : int
        The first so many test images; 0 for all.
    """
    source = MADE if folder is None else folder.name
    with ExitStack() as locks:
        ours = [run for run in runs if locks.enter_context(run.locked())]
        made = _corruptions(ours[0].images, folder, limit) if ours else ()
        for name, splits in tqdm(made, desc="corruptions", disable=None):
            todo = [run for run in ours if name not in _found(run, source, limit)]
            if todo and seconds_left() < 0:
                return False
            arrays = splits() if todo else ()
            for run in todo:
                result, trained = run.result, run.trained()
                accuracy = {**_found(run, source, limit), name: [trained.accuracy(split) for split in arrays]}
                result["robust"] = {"source": source, "images": limit, "accuracy": accuracy}
                run.update(result)
    return len(ours) == len(runs)


def read(folder: Path, num_classes: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """CIFAR-C's arrays by name, not yet in memory, and the labels.

    Raises
    ------
    DataError
        Says what was expected where.
    """
    arrays, labels = corrupted(folder)
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"{folder}: labels must be in [0, {num_classes}), got {labels.max()}")
    return arrays, labels


def _found(run: Run, source: str, limit: int) -> dict[str, list[float]]:
    robust = run.result.get("robust")
    return robust["accuracy"] if robust and (robust["source"], robust["images"]) == (source, limit) else {}


def _corruptions(
    images: ImageSet, folder: Path | None, limit: int
) -> Iterator[tuple[str, Callable[[], tuple[Split, ...]]]]:
    """Each corruption's name, and how its five splits are had."""
    if folder is None:
        test = images.test.take(np.arange(len(images.test))[: limit or None])
        pictures = np.stack([image for image, _ in test])
        for name in _RANGES:
            yield (
                name,
                lambda name=name: tuple(
                    Split(make(pictures, name, severity), test.labels) for severity in range(1, SEVERITIES + 1)
                ),
            )
        return
    arrays, labels = read(folder, images.num_classes)
    n = len(labels) // SEVERITIES
    most = min(limit or n, n)
    for name, array in arrays.items():
        yield (
            name,
            lambda array=array: tuple(
                Split(np.array(array[i * n : i * n + most]), labels[i * n : i * n + most]) for i in range(SEVERITIES)
            ),
        )
