"""What a loader reads in benchmarks: pictures in memory, files that it decodes, samples that cost nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class Arrays:
    """uint8 arrays in memory, parts of photographs, which are enlarged if they are too small."""

    def __init__(self, n: int, pictures: list[np.ndarray], size: int = 32) -> None:
        import cv2

        scales = [max(1.0, (size + 1) / min(picture.shape[:2])) for picture in pictures]
        pictures = [
            cv2.resize(picture, None, fx=scale, fy=scale) if scale > 1 else picture
            for picture, scale in zip(pictures, scales, strict=True)
        ]
        rng = np.random.default_rng(0)
        self.images = []
        for i in range(n):
            picture = pictures[i % len(pictures)]
            y, x = (int(rng.integers(0, side - size)) for side in picture.shape[:2])
            self.images.append(picture[y : y + size, x : x + size].copy())

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
