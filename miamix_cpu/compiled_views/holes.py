"""Steps that fill boxes of an image."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from miamix_cpu.compiled_views.step import Step, fills_of, step_of, uniform
from miamix_cpu.compiled_views.working import Working


class _Filled(Step):
    """Boxes filled with a constant."""

    PARAMETERS: ClassVar[tuple[str, ...]] = ("left", "top", "right", "bottom")  # of each box

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        self._fills = fills_of(transform)

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        fill = self._fills[views.is_map]
        if fill is None:
            return
        views.settle()
        views.own(those)
        first = views.arrays[0]
        filling = np.array(fill, dtype=first.dtype)
        for i, row in zip(those.tolist(), values.tolist(), strict=True):
            image = views.arrays[i]
            for j in range(0, len(row), 4):
                if row[j] != row[j]:  # no more boxes
                    break
                left, top, right, bottom = map(int, row[j : j + 4])
                image[top:bottom, left:right] = filling


@step_of(CoarseDropout="fill fill_mask num_holes_range hole_height_range hole_width_range")
class CoarseDropout(_Filled):
    """Some boxes anywhere."""

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        t, n = self.transform, len(heights)
        low, most = map(int, t.num_holes_range)
        counts, columns = rng.integers(low, most + 1, size=n), (heights[:, None], widths[:, None])
        ranges = t.hole_height_range, t.hole_width_range
        sides = []
        for limits, size in zip(ranges, columns, strict=True):
            if ranges[0][1] >= 1:
                top = np.minimum(limits[1], size).astype(np.int64)
                sides.append(rng.integers(int(limits[0]), top + 1, size=(n, most)))
            else:
                sides.append((size * uniform(rng, limits, (n, most))).astype(np.int64))
        starts = [rng.integers(0, size - side + 1) for size, side in zip(columns, sides, strict=True)]
        boxes = np.stack([starts[1], starts[0], starts[1] + sides[1], starts[0] + sides[0]], axis=2).astype(np.float64)
        boxes[np.arange(most) >= counts[:, None]] = np.nan
        return boxes.reshape(n, -1)


@step_of(Erasing="fill fill_mask scale ratio")
class Erasing(_Filled):
    """One box of random area and aspect, where one fits."""

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        t, n = self.transform, len(heights)
        (r_min, r_max), area = t.ratio, heights * widths
        least, squares = t.scale[0] * area, (heights * heights, widths * widths)
        most = np.minimum.reduce([t.scale[1] * area, r_min * squares[0], squares[1] / r_max])
        erased = least + (most - least) * rng.random(n)
        with np.errstate(divide="ignore", invalid="ignore"):
            high, low = np.minimum(r_max, squares[1] / erased), np.maximum(r_min, erased / squares[0])
            aspect = low + (high - low) * rng.random(n)
            fits = (most >= least) & (low <= high)
            height, width = np.rint(np.sqrt(erased / aspect)), np.rint(np.sqrt(erased * aspect))
        height, width = np.where(fits, height, 0), np.where(fits, width, 0)
        top = np.floor(rng.random(n) * (heights - height + 1))
        left = np.floor(rng.random(n) * (widths - width + 1))
        boxes = np.stack([left, top, left + width, top + height], axis=1)
        boxes[~fits] = np.nan
        return boxes


@step_of(GridDropout="fill fill_mask ratio unit_size_range holes_number_xy random_offset shift_xy")
class GridDropout(_Filled):
    """A box in each cell of a grid."""

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        rows = [self._boxes(rng, h, w) for h, w in zip(heights.tolist(), widths.tolist(), strict=True)]
        boxes = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
        for row, found in zip(boxes, rows, strict=True):
            row[: len(found)] = found
        return boxes

    def _boxes(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        """The boxes of one view, flat."""
        t = self.transform
        if t.holes_number_xy:
            grid = tuple(t.holes_number_xy)
        else:
            unit = (max(2, height // 10), max(2, width // 10))
            if t.unit_size_range is not None:
                if t.unit_size_range[1] > min(height, width):
                    raise ValueError(f"unit_size_range={t.unit_size_range} exceeds an image of {height} x {width}")
                unit = (int(rng.integers(*t.unit_size_range)),) * 2
            grid = (height // unit[0], width // unit[1])
        edges = [_shuffled_edges(rng, size, parts) for size, parts in zip((height, width), grid, strict=True)]
        tops, lefts = (a.ravel() for a in np.meshgrid(edges[0][:-1], edges[1][:-1], indexing="ij"))
        cells = [a.ravel() for a in np.meshgrid(*map(np.diff, edges), indexing="ij")]
        sides = [np.clip(cell * t.ratio, 1, cell - 1).astype(int) for cell in cells]
        if t.random_offset:
            offsets = [rng.integers(0, cell - side + 1) for cell, side in zip(cells, sides, strict=True)]
        else:
            offsets = [np.full_like(sides[0], shift) for shift in t.shift_xy[::-1]]
        left = np.clip(lefts + offsets[1], 0, width - sides[1])
        top = np.clip(tops + offsets[0], 0, height - sides[0])
        ends = np.minimum(left + sides[1], width), np.minimum(top + sides[0], height)
        return np.stack([left, top, *ends], axis=1).astype(np.float64).ravel()


def _shuffled_edges(rng: np.random.Generator, size: int, parts: int) -> np.ndarray:
    """The edges of `parts` almost equal intervals in random order."""
    each, rest = divmod(size, parts)
    lengths = np.full(parts, each)
    lengths[:rest] += 1
    rng.shuffle(lengths)
    return np.concatenate([[0], np.cumsum(lengths)])
