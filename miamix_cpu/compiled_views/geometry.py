"""Steps that move whole pixels: borders, crops, flips and quarter turns."""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.compiled_views.step import BadView, Step, fills_of, parameters, require, step_of
from miamix_cpu.compiled_views.working import Working

_BORDERS = (0, 1, 2, 3, 4)


def borders_of(transform: Any) -> tuple[int, Any, Any]:
    """A transform's border mode, and its fills of images and of maps."""
    require(border_mode=(transform.border_mode, _BORDERS))
    return int(transform.border_mode), *fills_of(transform)


def _placed(
    position: str, before: np.ndarray, after: np.ndarray, far: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Divide padding along an axis by the position of the image; `far` if it lies at the bottom or at the right."""
    total = before + after
    if position == "center":
        return before, after
    if position == "random":
        before = np.floor(rng.random(len(total)) * (total + 1)).astype(np.int64)
        return before, total - before
    return (total, 0 * total) if far else (0 * total, total)


def _padded(
    rng: np.random.Generator, position: str, rows: tuple[np.ndarray, np.ndarray], columns: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, ...]:
    require(position=(position, ("center", "top_left", "top_right", "bottom_left", "bottom_right", "random")))
    top, bottom = _placed(position, *rows, position.startswith("bottom"), rng)
    left, right = _placed(position, *columns, position.endswith("right"), rng)
    return top, bottom, left, right


def _lacking(sizes: np.ndarray, smallest: int | None, divisor: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Padding before and after, up to a size or to a multiple of the divisor."""
    if smallest is not None:
        lacking = np.maximum(smallest - sizes, 0)
    else:
        lacking = -sizes % divisor if divisor is not None else 0 * sizes
    before = lacking >> 1
    return before, lacking - before


@step_of(
    PadIfNeeded="padding fill fill_mask border_mode min_height min_width pad_height_divisor pad_width_divisor position",
    Pad="padding fill fill_mask border_mode",
)
class Pad(Step):
    """A border."""

    PARAMETERS = ("top", "bottom", "left", "right")

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        self._border, *self._fills = borders_of(transform)
        self._is_needed = hasattr(transform, "min_height")
        if self._is_needed:
            _padded(np.random.default_rng(0), transform.position, *[(np.zeros(1, np.int64),) * 2] * 2)

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        t = self.transform
        if self._is_needed:
            rows = _lacking(heights, t.min_height, t.pad_height_divisor)
            columns = _lacking(widths, t.min_width, t.pad_width_divisor)
            return parameters(len(heights), *_padded(rng, t.position, rows, columns))
        padding = (t.padding,) * 2 if isinstance(t.padding, (int, float)) else tuple(t.padding)
        left, top, right, bottom = padding * 2 if len(padding) == 2 else padding
        return parameters(len(heights), top, bottom, left, right)

    def size(self, values: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        top, bottom, left, right = values.astype(np.int64).T
        return heights + top + bottom, widths + left + right

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        top, bottom, left, right = values.astype(np.int64).T
        starts = np.stack([-top, -left])
        views.shift(
            those, starts, views.sizes(those) - starts + (bottom, right), self._border, self._fills[views.is_map]
        )


@step_of(
    RandomCrop="pad_if_needed border_mode fill fill_mask pad_position height width",
    CenterCrop="pad_if_needed border_mode fill fill_mask pad_position height width",
    Crop="pad_if_needed border_mode fill fill_mask pad_position x_min y_min x_max y_max",
)
class Crop(Step):
    """A crop of a fixed size, of the image with a border around it if it is too small."""

    PARAMETERS = ("top", "left", "pad_top", "pad_bottom", "pad_left", "pad_right")

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        self._border, *self._fills = borders_of(transform)
        self._kind = type(transform).__name__
        t = transform
        is_box = self._kind == "Crop"
        self._height, self._width = (t.y_max - t.y_min, t.x_max - t.x_min) if is_box else (t.height, t.width)
        self._needs = (t.y_max, t.x_max) if is_box else (t.height, t.width)
        _padded(np.random.default_rng(0), t.pad_position, *[(np.zeros(1, np.int64),) * 2] * 2)

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        t = self.transform
        pads: tuple[Any, ...] = (0, 0, 0, 0)
        if t.pad_if_needed:
            rows, columns = _lacking(heights, self._needs[0], None), _lacking(widths, self._needs[1], None)
            lacks = (rows[1] > 0) | (columns[1] > 0)
            if lacks.any():
                pads = _padded(rng, t.pad_position, rows, columns)
                if self._kind == "Crop":  # it has at least the padding that the far side lacks
                    pads = (pads[0], np.maximum(pads[1], sum(rows)), pads[2], np.maximum(pads[3], sum(columns)))
        else:
            small = (heights < self._needs[0]) | (widths < self._needs[1])
            if small.any():
                i = int(np.argmax(small))
                raise BadView(
                    i, f"{self._needs[0]} x {self._needs[1]} pixels exceed the image's {heights[i]} x {widths[i]}"
                )
        spare = heights + pads[0] + pads[1] - self._height, widths + pads[2] + pads[3] - self._width
        top: Any
        left: Any
        if self._kind == "RandomCrop":
            top, left = (np.floor((room + 1) * rng.random(len(room))) for room in spare)
        elif self._kind == "CenterCrop":
            top, left = (room // 2 for room in spare)
        else:
            top, left = t.y_min, t.x_min
        return parameters(len(heights), top, left, *pads)

    def size(self, values: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full_like(heights, self._height), np.full_like(widths, self._width)

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        top, left, pad_top, _, pad_left, _ = values.astype(np.int64).T
        lengths = np.empty((2, len(those)), np.int64)
        lengths[0], lengths[1] = self._height, self._width
        starts = np.stack([top - pad_top, left - pad_left])
        views.shift(those, starts, lengths, self._border, self._fills[views.is_map])


@step_of(HorizontalFlip="")
class HorizontalFlip(Step):
    """Columns in reverse."""

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        views.flip(1, those)


@step_of(VerticalFlip="")
class VerticalFlip(Step):
    """Rows in reverse."""

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        views.flip(0, those)


#: The symmetries of a square, in Albumentations' order: whether rows and columns are exchanged, and then which axes are
#: reversed. A quarter turn exchanges, and then reverses the rows.
_SYMMETRIES = {
    "e": (False, ()), "r90": (True, (0,)), "r180": (False, (0, 1)), "r270": (True, (1,)),
    "v": (False, (0,)), "hvt": (True, (0, 1)), "h": (False, (1,)), "t": (True, ()),
}  # fmt: skip
_ELEMENTS = list(_SYMMETRIES)


@step_of(Transpose="", RandomRotate90="", D4="", SquareSymmetry="")
class Symmetry(Step):
    """A symmetry of the square."""

    PARAMETERS = ("element",)

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        kind = type(transform).__name__
        names = {"Transpose": ["t"], "RandomRotate90": ["e", "r90", "r180", "r270"]}.get(kind, _ELEMENTS)
        self._elements = np.array([_ELEMENTS.index(name) for name in names])

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        chosen = rng.integers(len(self._elements), size=len(heights)) if len(self._elements) > 1 else 0 * heights
        return self._elements[chosen][:, None].astype(np.float64)

    def size(self, values: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turns = np.array([turns for turns, _ in _SYMMETRIES.values()])[values[:, 0].astype(np.int64)]
        return np.where(turns, widths, heights), np.where(turns, heights, widths)

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        element = values[:, 0].astype(np.int64)
        symmetries = list(_SYMMETRIES.values())
        turned = those[np.array([turns for turns, _ in symmetries])[element]]
        if len(turned):
            views.transpose(turned)
        for axis in (0, 1):
            flipped = those[np.array([axis in axes for _, axes in symmetries])[element]]
            if len(flipped):
                views.flip(axis, flipped)
