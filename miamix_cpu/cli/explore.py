"""`explore` without its page: the pictures, and what is measured of them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from miamix_cpu.checks import check_integer
from miamix_cpu.cli import UserError
from miamix_cpu.cli.gallery import Row, row_of
from miamix_cpu.cli.preview import PHOTOGRAPHS, crops, photographs, read_picture
from miamix_cpu.collate import MiAMixCollator
from miamix_cpu.config import MiAMixConfig
from miamix_cpu.methods import METHODS
from miamix_cpu.mixer import MiAMix
from miamix_cpu.plan.layers import LAYER

LAM_SAMPLES, LAM_SIDE = 4096, 32  # lam is measured on that many masks of that many pixels a side
_MOST_FILES, _MOST_PIXELS = 16, 100_000_000


@dataclass(frozen=True)
class Scene:
    """All that a picture follows from.

    Parameters
    ----------
    config : MiAMixConfig
    seed : int, at least 0
    rows : int, how many samples are shown
    size : int, pixels a side
    files : names of the caller's pictures, or none for scikit-image's photographs
    """

    config: MiAMixConfig
    seed: int
    rows: int
    size: int
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, low=0)
        check_integer("rows", self.rows, low=1)
        check_integer("size", self.size, low=1)

    @property
    def classes(self) -> int:
        """Each picture is a class of its own."""
        return len(self.files or PHOTOGRAPHS)

    @property
    def count(self) -> int:
        """The batch's size: every picture at least once, to have partners to choose from."""
        return max(self.rows, self.classes)


def draw(scene: Scene, pictures: Sequence[tuple[str, np.ndarray]]) -> list[Row]:
    """The rows of a scene.

    Parameters
    ----------
    pictures : (name, uint8 (H, W, 3)), as many as the scene has classes
    """
    chosen = [i % len(pictures) for i in range(scene.count)]
    samples = [(pictures[i][1], i) for i in chosen]
    collate = MiAMixCollator(
        max(2, scene.classes), scene.config, transform=crops(scene.size), seed=scene.seed, dtype="uint8",
        return_masks=True, return_batch=True,
    )  # fmt: skip
    batch = collate(samples)
    # The views are those that the same plan shows where its masks are all 1, and all 0.
    layers = np.zeros(scene.count, dtype=LAYER)
    layers["method"] = METHODS.index("mixup")
    bare = dataclasses.replace(batch.plan, layers=layers, first_layer=np.arange(scene.count + 1))
    first = collate.replay(samples, bare).images.permute(0, 2, 3, 1).numpy()
    layers["ratio"] = 1
    second = collate.replay(samples, bare).images.permute(0, 2, 3, 1).numpy()
    names = [pictures[i][0] for i in chosen]
    return [row_of(batch, i, first[i], second[i], names) for i in range(scene.rows)]


def measure_lam(config: MiAMixConfig, seed: int) -> np.ndarray:
    """lam of `LAM_SAMPLES` samples of `LAM_SIDE` x `LAM_SIDE` pixels, float32."""
    blank = np.zeros((LAM_SAMPLES, LAM_SIDE, LAM_SIDE), dtype=np.uint8)
    labels = np.zeros(LAM_SAMPLES, dtype=np.int64)
    lam: np.ndarray = MiAMix(2, config)(blank, labels, second=blank, rng=np.random.default_rng(seed)).lam
    return lam


def read_uploads(paths: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """The caller's pictures: (file name, uint8 (H, W, 3)).

    Raises
    ------
    UserError
        Where one is not a picture, is damaged, or has the name of another; or where they are too many or too large.
    """
    names = [Path(path).name for path in paths]
    if len(names) > _MOST_FILES:
        raise UserError(f"{len(names)} pictures are too many: at most {_MOST_FILES}")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise UserError(f"two pictures are called {twice[0]}: rename one, because the code opens them by name")
    pixels = 0
    for path, name in zip(paths, names, strict=True):
        pixels += _pixels(path, name)
        if pixels > _MOST_PIXELS:
            raise UserError(f"{name} is too large: at most {_MOST_PIXELS // 10**6} million pixels in total")
    return [(name, _read(path, name)) for path, name in zip(paths, names, strict=True)]


@lru_cache(maxsize=_MOST_FILES)
def _pixels(path: str, name: str) -> int:
    """A picture's number of pixels, by its header alone: an enormous one is never decoded."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return int(image.width * image.height)
    except Image.DecompressionBombError:
        return _MOST_PIXELS + 1
    except FileNotFoundError as error:
        raise UserError(f"{name} no longer exists: upload it again") from error
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{name} is not a picture, or is damaged") from error


@lru_cache(maxsize=_MOST_FILES)
def _read(path: str, name: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()  # strict, where OpenCV before its version 5 fills in what is missing
    except Exception as error:
        raise UserError(f"{name} is not a picture, or is damaged") from error
    return read_picture(Path(path), name)


@lru_cache(maxsize=1)
def default_pictures() -> list[tuple[str, np.ndarray]]:
    """scikit-image's photographs."""
    return photographs()
