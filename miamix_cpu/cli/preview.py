"""The `preview` command: draw mixed images from a folder, or from scikit-image's photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from miamix_cpu.cli import UserError
from miamix_cpu.cli.gallery import draw_gallery, rows_of
from miamix_cpu.collate import MiAMixCollator
from miamix_cpu.config import MiAMixConfig
from miamix_cpu.views.two_views import TwoViews

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field", "immunohistochemistry")
_AT_LEAST = 8  # images to choose partners from, if there are as many


def run_preview(
    *, folder: Path | None, method: str | None, recipe: str | None, seed: int, rows: int, size: int, out: Path
) -> None:
    """Write a gallery to `out` and print its captions."""
    if method and recipe:
        raise UserError("--method and --recipe can't be combined")
    config = MiAMixConfig() if method is None else MiAMixConfig(methods=(method,), weights=(1.0,))
    if recipe:
        config = MiAMixConfig.recipe(recipe)
        if config.mixes == "features":
            raise UserError(f"--recipe: {recipe} mixes features inside the network, so there are no mixed pictures")
    pictures = photographs() if folder is None else read_folder(folder, max(rows, _AT_LEAST))
    chosen = [i % len(pictures) for i in range(max(rows, len(pictures)))]
    dataset = TwoViews([(pictures[label][1], label) for label in chosen], crops(size), seed=seed)
    samples = [dataset[i] for i in range(len(dataset))]
    collate = MiAMixCollator(
        max(2, len(pictures)), config, seed=seed, dtype="uint8", return_masks=True, return_batch=True
    )
    gallery = rows_of(samples, collate(samples), [pictures[label][0] for label in chosen], rows)
    draw_gallery(gallery, out, f"MiAMix, {method or recipe or 'all of Table 1'}, seed {seed}")
    for row in gallery:
        print(row.caption)
    print(f"wrote {out}")


def crops(size: int) -> Any:
    """Return a transform to views of `size` x `size` pixels: random crops, mirrored half of the time."""
    import albumentations as A

    return A.Compose([A.RandomResizedCrop((size, size), scale=(0.4, 1.0)), A.HorizontalFlip()])


def photographs() -> list[tuple[str, np.ndarray]]:
    """Return the photographs that ship with scikit-image: (name, uint8 (H, W, 3))."""
    from skimage import data

    return [(name, np.ascontiguousarray(getattr(data, name)()[..., :3])) for name in PHOTOGRAPHS]


def read_folder(folder: Path, most: int) -> list[tuple[str, np.ndarray]]:
    """Return the first `most` images of a folder, sorted by path: (file name, uint8 (H, W, 3)).

    Raises
    ------
    UserError
        If the folder does not exist, has no images, or has one that cannot be read.
    """
    try:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder")
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise UserError(f"{folder} can't be read: {error.strerror}") from error
    if not paths:
        raise UserError(f"{folder} contains no pictures ({', '.join(SUFFIXES)})")
    return [(path.name, read_picture(path, str(path))) for path in paths[:most]]


def read_picture(path: Path, name: str) -> np.ndarray:
    """Read an image, uint8 (H, W, 3); `name` is its name in messages.

    Raises
    ------
    UserError
        If it cannot be read, is not an image, or is damaged.
    """
    import cv2

    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{name} can't be read: {error.strerror}") from error
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise UserError(f"{name} is not a picture, or is damaged")
    rgb: np.ndarray = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return rgb
