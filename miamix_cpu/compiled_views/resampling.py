"""Steps that resize or turn images: OpenCV makes the pixels, as it does for Albumentations."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from miamix_cpu.compiled_views.geometry import borders_of
from miamix_cpu.compiled_views.step import BadView, Step, parameters, require, step_of, uniform
from miamix_cpu.compiled_views.working import Working, cv2

_NEAREST, _AREA = 0, 3


class _Resized(Step):
    """A crop, resized."""

    PARAMETERS: ClassVar[tuple[str, ...]] = ("top", "left", "height", "width", "to_height", "to_width")

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        require(
            interpolation=(transform.interpolation, range(7)),
            mask_interpolation=(transform.mask_interpolation, range(7)),
            area_for_downscale=(transform.area_for_downscale, (None, "image", "image_mask")),
        )

    def size(self, values: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = values[:, 4:6].astype(np.int64).T
        return height, width

    def _interpolation(self, is_map: bool, smaller: bool) -> int:
        t = self.transform
        if is_map:
            return _AREA if t.area_for_downscale == "image_mask" and smaller else int(t.mask_interpolation)
        return _AREA if t.area_for_downscale is not None and smaller else int(t.interpolation)

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        numbers = values.astype(np.int64)
        smaller: np.ndarray = np.any(numbers[:, 4:] < numbers[:, 2:4], axis=1)
        ways = [self._interpolation(views.is_map, less) for less in smaller.tolist()]
        if set(ways) == {_NEAREST}:
            views.shift(those, numbers[:, :2].T, numbers[:, 2:4].T)
            views.sample(those, numbers[:, 4:].T)
            return
        views.settle()
        sizes, resize = numbers[:, 4:], cv2().resize
        alike = (sizes == sizes[0]).all()
        made: Any = views.new(those, *sizes[0].tolist()) if alike else [None] * len(those)
        chunks = views.channels > 4
        for j, (top, left, height, width, to_height, to_width) in enumerate(numbers.tolist()):
            crop = views.arrays[those[j]][top : top + height, left : left + width]
            if (height, width) == (to_height, to_width):
                if alike:
                    made[j] = crop
                else:
                    made[j] = crop.copy()
            elif alike and not chunks:
                resize(crop, (to_width, to_height), dst=made[j], interpolation=ways[j])
            else:
                found = in_chunks(crop, lambda part, j=j, w=to_width, h=to_height: resize(
                    part, (w, h), interpolation=ways[j]))  # fmt: skip
                made[j] = found
        views.put(those, made)


def in_chunks(image: np.ndarray, change: Any) -> np.ndarray:
    """Call OpenCV, which knows up to four channels, with up to four at a time; an axis of one channel stays."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels <= 4:
        made = change(np.ascontiguousarray(image))
        return made.reshape(*made.shape[:2], *image.shape[2:])  # type: ignore[no-any-return]
    ends = [*range(0, channels, 4), channels]
    if ends[-1] - ends[-2] == 2:  # as Albumentations divides them: the last two apart
        ends.insert(-1, channels - 1)
    parts = [change(np.ascontiguousarray(image[..., c:end])) for c, end in pairwise(ends)]
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=2)


@step_of(Resize="height width interpolation mask_interpolation area_for_downscale")
class Resize(_Resized):
    """All of it, resized."""

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        t = self.transform
        return parameters(len(heights), 0, 0, heights, widths, t.height, t.width)


@step_of(
    SmallestMaxSize="max_size max_size_hw interpolation mask_interpolation area_for_downscale",
    LongestMaxSize="max_size max_size_hw interpolation mask_interpolation area_for_downscale",
)
class MaxSize(_Resized):
    """All of it, resized so that one of its sides has a given length."""

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        t = self.transform
        pick = np.minimum if type(t).__name__ == "SmallestMaxSize" else np.maximum
        if t.max_size is not None:
            sizes = np.atleast_1d(t.max_size)
            chosen = sizes[rng.integers(len(sizes), size=len(heights))] if len(sizes) > 1 else sizes[0]
            scale = chosen / pick(heights, widths)
        else:
            sides = [side / of for side, of in zip(t.max_size_hw, (heights, widths), strict=True) if side is not None]
            # The scale for the longest side is the smaller one.
            scale = (np.maximum if pick is np.minimum else np.minimum)(sides[0], sides[-1])
        to = [np.maximum(1, np.rint(side * scale)) for side in (heights, widths)]
        return parameters(len(heights), 0, 0, heights, widths, *to)


@step_of(
    RandomSizedCrop="size interpolation mask_interpolation area_for_downscale min_max_height w2h_ratio",
    RandomResizedCrop="size interpolation mask_interpolation area_for_downscale scale ratio",
)
class ResizedCrop(_Resized):
    """A random part, resized."""

    def _interpolation(self, is_map: bool, smaller: bool) -> int:
        # With "image_mask", Albumentations takes this way for masks that become larger too.
        return super()._interpolation(is_map, smaller or is_map)

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        t, n = self.transform, len(heights)
        if type(t).__name__ == "RandomSizedCrop":
            low, high = t.min_max_height
            tall = rng.integers(int(low), int(high) + 1, size=n)
            height, width = np.minimum(tall, heights), np.minimum((tall * t.w2h_ratio).astype(np.int64), widths)
            top, left = (np.floor((room + 1) * rng.random(n)) for room in (heights - height, widths - width))
        else:
            height, width, top, left = self._resized_crop(rng, heights, widths)
        empty = (height < 1) | (width < 1)
        if empty.any():
            i = int(np.argmax(empty))
            raise BadView(
                i,
                f"a crop of {height[i]} x {width[i]} pixels of an image of {heights[i]} x {widths[i]}",
            )
        return parameters(n, top, left, height, width, *t.size)

    def _resized_crop(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> Any:
        t, n = self.transform, len(heights)
        area = heights * widths
        areas = t.scale[0] * area + (t.scale[1] * area - t.scale[0] * area) * rng.random((10, n))
        aspects = np.exp(uniform(rng, np.log(t.ratio), (10, n)))
        width, height = np.rint(np.sqrt(areas * aspects)), np.rint(np.sqrt(areas / aspects))
        fits = (width > 0) & (width <= widths) & (height > 0) & (height <= heights)
        tried, found, each = np.argmax(fits, axis=0), fits.any(axis=0), np.arange(n)
        height, width = height[tried, each].astype(np.int64), width[tried, each].astype(np.int64)
        spare = rng.random((2, n))
        if not found.all():  # the largest part of an allowed aspect in the middle
            aspect = widths / heights
            narrow, wide = aspect < t.ratio[0], aspect > t.ratio[1]
            middle_height = np.where(narrow, np.rint(widths / t.ratio[0]), heights).astype(np.int64)
            middle_width = np.where(wide & ~narrow, np.rint(heights * t.ratio[1]), widths).astype(np.int64)
            height, width = np.where(found, height, middle_height), np.where(found, width, middle_width)
        rooms = heights - height, widths - width
        top, left = (
            np.where(found, np.floor((room + 1) * share), room // 2) for room, share in zip(rooms, spare, strict=True)
        )
        return height, width, top, left


_AFFINE = (
    "interpolation mask_interpolation fill fill_mask border_mode scale translate_percent translate_px rotate "
    "fit_output shear keep_ratio rotate_method balanced_scale"
)


@step_of(
    Affine=_AFFINE,
    Rotate="limit interpolation mask_interpolation border_mode fill fill_mask rotate_method crop_border",
    ShiftScaleRotate=_AFFINE + " shift_limit_x shift_limit_y scale_limit rotate_limit",
)
class Affine(Step):
    """A turn, a shift, a change of scale and a shear about the centre."""

    PARAMETERS = ("rotate", "scale_x", "scale_y", "shear_x", "shear_y", "translate_x", "translate_y")

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        t = transform
        self._border, *self._fills = borders_of(t)
        self._turns_only = type(t).__name__ == "Rotate"
        require(
            interpolation=(t.interpolation, range(5)),
            mask_interpolation=(t.mask_interpolation, range(5)),
            **({"crop_border": (t.crop_border, (False,))} if self._turns_only else {
                "fit_output": (t.fit_output, (False,)), "keep_ratio": (t.keep_ratio, (False, True)),
                "balanced_scale": (t.balanced_scale, (False, True))}),
        )  # fmt: skip

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        t, n = self.transform, len(heights)
        if self._turns_only:
            return parameters(n, uniform(rng, t.limit, n), 1, 1, 0, 0, 0, 0)
        x: Any
        y: Any
        if t.translate_px is not None:
            x, y = (
                rng.integers(int(t.translate_px[axis][0]), int(t.translate_px[axis][1]) + 1, size=n) for axis in "xy"
            )
        elif t.translate_percent is not None:
            x, y = (
                np.trunc(uniform(rng, t.translate_percent[axis], n) * size)
                for axis, size in (("x", widths), ("y", heights))
            )
        else:
            x, y = 0, 0
        shear_x, shear_y = (-uniform(rng, t.shear[axis], n) for axis in "xy")
        scale_x = self._scale(rng, t.scale["x"], n)
        scale_y = scale_x if t.keep_ratio else self._scale(rng, t.scale["y"], n)
        return parameters(n, uniform(rng, t.rotate, n), scale_x, scale_y, shear_x, shear_y, x, y)

    def _scale(self, rng: np.random.Generator, limits: Any, n: int) -> np.ndarray:
        if isinstance(limits, (int, float)):
            return np.full(n, float(limits))
        low, high = limits
        made: np.ndarray
        if not self.transform.balanced_scale:
            return uniform(rng, limits, n)
        if low >= 1 and high <= 1:
            return np.ones(n)
        if low < 1 < high:  # as likely to shrink as to enlarge
            share, up = rng.random(n), rng.random(n) < 0.5
            made = np.where(up, 1 + (high - 1) * share, low + (1 - low) * share)
            return made
        return uniform(rng, (low, 1.0), n) if low < 1 else uniform(rng, (1.0, high), n)

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        views.settle()
        t, fill = self.transform, self._fills[views.is_map]
        way = int(t.mask_interpolation if views.is_map else t.interpolation)
        arrays = [views.arrays[i] for i in those.tolist()]
        matrices = _matrices(values, np.array([array.shape[:2] for array in arrays]))
        warp, made = cv2().warpAffine, []
        for array, matrix in zip(arrays, matrices, strict=True):
            if np.allclose(matrix, np.eye(3)):
                made.append(array.copy())
                continue
            made.append(in_chunks(array, lambda part, matrix=matrix: warp(
                part, matrix[:2], part.shape[1::-1], flags=way, borderMode=self._border,
                borderValue=_scalar(fill, part))))  # fmt: skip
        shapes = {array.shape for array in made}
        views.put(those, np.stack(made) if len(shapes) == 1 and len(made) == len(views) else made)


def _scalar(fill: Any, part: np.ndarray) -> Any:
    if np.ndim(fill):
        return tuple(float(v) for v in fill)
    return [float(fill)] * (1 if part.ndim == 2 else part.shape[2])


def _matrices(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The matrices (m, 3, 3) of what is drawn (`Affine.PARAMETERS`), about the centres of images of these sizes."""
    turn, scale_x, scale_y, shear_x, shear_y, x, y = values.T
    turn = np.deg2rad(turn % 360)
    center_y, center_x = (sizes / 2 - 0.5).T

    def matrices(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> np.ndarray:
        made = np.zeros((len(values), 3, 3))
        made[:, 0, 0], made[:, 0, 1], made[:, 0, 2], made[:, 2, 2] = a, b, c, 1
        made[:, 1, 0], made[:, 1, 1], made[:, 1, 2] = d, e, f
        return made

    to_origin = matrices(1, 0, -center_x, 0, 1, -center_y)
    scale = matrices(scale_x, 0, 0, 0, scale_y, 0)
    rotate = matrices(np.cos(turn), np.sin(turn), 0, -np.sin(turn), np.cos(turn), 0)
    shear = matrices(1, np.tan(np.deg2rad(shear_x)), 0, np.tan(np.deg2rad(shear_y)), 1, 0)
    back, shift = matrices(1, 0, center_x, 0, 1, center_y), matrices(1, 0, x, 0, 1, y)
    product: np.ndarray = back @ shift @ shear @ rotate @ scale @ to_origin
    product[:, 2] = 0, 0, 1
    return product
