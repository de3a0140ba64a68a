"""What a loader reads in benchmarks: pictures in memory, files that it decodes, samples that cost nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class Arrays:
    """CIFAR-sized uint8 arrays in memory, tiled from photographs."""

    def __init__(self, n: int, pictures: list[np.ndarray]) -> None:
        rng = np.random.default_rng(0)
        self.images = []
        for i in range(n):
            picture = pictures[i % len(pictures)]
            y, x = (int(rng.integers(0, side - 32)) for side in picture.shape[:2])
            self.images.append(picture[y : y + 32, x : x + 32].copy())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return self.images[i], i % 10


class Jpegs:
    """A folder of JPEG photographs, decoded in the worker."""

    def __init__(self, n: int, paths: list[Path]) -> None:
        self.n, self.paths = n, paths

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        import cv2

        return cv2.imread(str(self.paths[i % len(self.paths)]), cv2.IMREAD_COLOR_RGB), i % 10


class Nothing:
    """A dataset whose samples cost nothing."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> int:
        return i
