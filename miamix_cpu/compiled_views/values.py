"""Steps that change the values of pixels, with the parameters and the arithmetic of Albumentations."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import numpy as np

from miamix_cpu.compiled_views.step import NotKnown, Step, parameters, require, step_of, uniform
from miamix_cpu.compiled_views.working import Working, cv2
from miamix_cpu.jit.flags import entry
from miamix_cpu.jit.intrinsics import array_at

_LEVELS = np.arange(256, dtype=np.float32)


@entry
def look_up(addresses: np.ndarray, values: int, tables: np.ndarray) -> None:
    """Replace the values of images by those of a table for each.

    Parameters
    ----------
    addresses : uint64 (m,), of images of `values` uint8 each, which are changed
    values : int
    tables : uint8 (m, 256)
    """
    for j in range(addresses.size):
        image, table = array_at(addresses[j], values, np.uint8), tables[j]
        for p in range(values):
            image[p] = table[image[p]]


@cache
def compile_look_up() -> None:
    """Compile `look_up`."""
    image = np.zeros(1, np.uint8)
    look_up(np.array([image.ctypes.data], np.uint64), 1, np.zeros((1, 256), np.uint8))


class LookUp(Step):
    """A step for images alone, by one look-up for bytes and by arithmetic for floats."""

    CHANGES_MAPS: ClassVar[bool] = False

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        views.settle()
        views.own(those)
        if views.arrays[0].dtype != np.uint8:
            made = [self.of_floats(views.arrays[i], row) for i, row in zip(those.tolist(), values, strict=True)]
            views.change(those, made)
            return
        tables = self.tables(values)
        alike = isinstance(views.arrays, np.ndarray)
        if alike:
            look_up(views.addresses(those), views.arrays[0].size, tables)
            return
        for j, i in enumerate(those.tolist()):
            look_up(views.addresses(those[j : j + 1]), views.arrays[i].size, tables[j : j + 1])

    def tables(self, values: np.ndarray) -> np.ndarray:
        """What each of the 256 levels becomes, uint8 (m, 256), by the parameters (m, k) of each view."""
        raise NotImplementedError

    def of_floats(self, image: np.ndarray, values: np.ndarray) -> np.ndarray:
        """What a float32 image becomes."""
        raise NotImplementedError


def _to_bytes(levels: np.ndarray) -> np.ndarray:
    made: np.ndarray = np.clip(levels, 0, 255).astype(np.uint8)
    return made


def _scaled(image: np.ndarray, factor: float, shift: float) -> np.ndarray:
    """image * factor + shift in [0, 1], for float32."""
    product = image.astype(np.float64) * np.float64(np.float32(factor))
    scaled: np.ndarray = np.clip(product + shift if shift != 0 else product, 0, 1).astype(np.float32)
    return scaled


@step_of(RandomBrightnessContrast="brightness_limit contrast_limit brightness_by_max ensure_safe_range")
class RandomBrightnessContrast(LookUp):
    """All values times a factor, plus a part of the largest."""

    PARAMETERS = ("alpha", "beta")

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        require(
            brightness_by_max=(transform.brightness_by_max, (True,)),
            ensure_safe_range=(transform.ensure_safe_range, (False, True)),
        )

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        t, n = self.transform, len(heights)
        alpha, beta = 1.0 + uniform(rng, t.contrast_limit, n), uniform(rng, t.brightness_limit, n)
        if t.ensure_safe_range:
            positive = alpha > 0
            beta = np.where(positive, np.clip(beta, 0, 1), np.minimum(beta, 1))
            alpha = np.where(positive, np.minimum(alpha, 1 - beta), np.maximum(alpha, -beta))
        return parameters(n, alpha, beta)

    def tables(self, values: np.ndarray) -> np.ndarray:
        alpha, beta = values.T[..., None]
        return _to_bytes(_LEVELS * alpha.astype(np.float32) + (beta * 255).astype(np.float32))

    def of_floats(self, image: np.ndarray, values: np.ndarray) -> np.ndarray:
        return _scaled(image, float(values[0]), float(values[1]))


@step_of(InvertImg="")
class InvertImg(LookUp):
    """The largest value less each value."""

    def tables(self, values: np.ndarray) -> np.ndarray:
        return np.repeat(np.arange(255, -1, -1, dtype=np.uint8)[None], len(values), 0)

    def of_floats(self, image: np.ndarray, values: np.ndarray) -> np.ndarray:
        return 1.0 - image


@step_of(Solarize="threshold_range")
class Solarize(LookUp):
    """The largest value less each value that is at least a threshold."""

    PARAMETERS = ("threshold",)

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        return uniform(rng, self.transform.threshold_range, len(heights))[:, None]

    def tables(self, values: np.ndarray) -> np.ndarray:
        levels = np.arange(256)
        return np.where(levels >= values * 255.0, 255 - levels, levels).astype(np.uint8)

    def of_floats(self, image: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.where(image >= float(values[0]), np.float32(1.0) - image, image)


@step_of(Posterize="num_bits")
class Posterize(LookUp):
    """The highest bits of each value; for bytes."""

    PARAMETERS = ("num_bits",)

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        if not isinstance(transform.num_bits, tuple):
            raise NotKnown(f"num_bits={transform.num_bits!r}, one for each channel")

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        low, high = self.transform.num_bits
        return rng.integers(int(low), int(high) + 1, size=len(heights))[:, None].astype(np.float64)

    def tables(self, values: np.ndarray) -> np.ndarray:
        low = (1 << (8 - values.astype(np.int64))) - 1
        return (np.arange(256) & ~low & 255).astype(np.uint8)

    def of_floats(self, image: np.ndarray, values: np.ndarray) -> np.ndarray:
        raise TypeError("Posterize takes uint8 images, got float32")


class _Each(Step):
    """A step for images alone, one by one."""

    CHANGES_MAPS: ClassVar[bool] = False

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        views.settle()
        change = self.changer(views)
        views.change(those, [change(views.arrays[i], row) for i, row in zip(those.tolist(), values, strict=True)])

    def changer(self, views: Working) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Return what makes a new image out of one that it must not change, by the parameters (k,) of its view."""
        raise NotImplementedError


@step_of(ToGray="num_output_channels method")
class ToGray(_Each):
    """The weighted mean of red, green and blue, in all three."""

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        require(
            num_output_channels=(transform.num_output_channels, (3,)), method=(transform.method, ("weighted_average",))
        )

    def changer(self, views: Working) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        if views.channels == 1:
            return lambda image, values: image.copy()  # it is grey
        if views.channels != 3:
            raise TypeError(f"ToGray takes images of 3 channels, got {views.channels}")
        convert, to_grey, to_colour = cv2().cvtColor, cv2().COLOR_RGB2GRAY, cv2().COLOR_GRAY2RGB
        return lambda image, values: convert(convert(image, to_grey), to_colour)


@step_of(ColorJitter="brightness contrast saturation hue transforms")
class ColorJitter(_Each):
    """Brightness, contrast, saturation and hue, in any order."""

    PARAMETERS = ("brightness", "contrast", "saturation", "hue", "first", "second", "third", "fourth")

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        t, n = self.transform, len(heights)
        factors = [uniform(rng, getattr(t, name), n) for name in self.PARAMETERS[:4]]
        order = rng.permuted(np.tile(np.arange(4.0), (n, 1)), axis=1)
        return parameters(n, *factors, *order.T)

    def changer(self, views: Working) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        if views.channels not in (1, 3):
            raise TypeError(f"ColorJitter takes images of 1 or 3 channels, got {views.channels}")
        ways = _brightness, _contrast, _saturation, _hue
        if views.channels == 1:
            ways = _brightness, _contrast, _unchanged, _unchanged

        def change(image: np.ndarray, values: np.ndarray) -> np.ndarray:
            factors = values.tolist()
            made = image
            for way in factors[4:]:
                made = ways[int(way)](made, factors[int(way)])
            return made.copy() if made is image else made

        return change


def _unchanged(image: np.ndarray, factor: float) -> np.ndarray:
    return image


def _brightness(image: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1:
        return image
    if image.dtype == np.uint8:
        return _looked_up(image, _to_bytes(_LEVELS * np.float32(factor)))
    made: np.ndarray = np.clip(image * np.float32(factor), 0, 1)
    return made


def _contrast(image: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1:
        return image
    grey = image if image.ndim == 2 or image.shape[2] == 1 else cv2().cvtColor(image, cv2().COLOR_RGB2GRAY)
    mean = grey.mean()  # float32 of floats
    if factor == 0:
        return np.full_like(image, int(mean + 0.5) if image.dtype == np.uint8 else mean)
    if image.dtype == np.uint8:
        return _looked_up(image, _to_bytes(_LEVELS * np.float32(factor) + np.float32(mean * (1 - factor))))
    return _scaled(image, factor, float(mean * (1 - factor)))


def _saturation(image: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1:
        return image
    grey = cv2().cvtColor(cv2().cvtColor(image, cv2().COLOR_RGB2GRAY), cv2().COLOR_GRAY2RGB)
    if factor == 0:
        return grey  # type: ignore[no-any-return]
    made: np.ndarray = cv2().addWeighted(image, factor, grey, 1 - factor, 0)
    return made if made.dtype == np.uint8 else np.clip(made, 0, 1)


def _hue(image: np.ndarray, factor: float) -> np.ndarray:
    if factor == 0:
        return image
    converted = cv2().cvtColor(image, cv2().COLOR_RGB2HSV)
    hues = converted[..., 0]
    if image.dtype == np.uint8:
        hues[:] = np.mod(np.arange(256, dtype=np.int16) + 180 * factor, 180).astype(np.uint8)[hues]
    else:
        hues[:] = np.mod(hues + factor * 360, 360)
    return cv2().cvtColor(converted, cv2().COLOR_HSV2RGB)  # type: ignore[no-any-return]


def _looked_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    made: np.ndarray = cv2().LUT(image, table)
    return made.reshape(image.shape)


@step_of(Normalize="mean mean_np std denominator max_pixel_value normalization")
class Normalize(_Each):
    """Values less the mean of their channel, divided by its standard deviation."""

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        t = transform
        require(normalization=(t.normalization, ("standard",)), p=(t.p, (1, 1.0)))
        if t.mean is None or t.std is None or t.max_pixel_value is None:
            raise NotKnown("mean, std and max_pixel_value must be given")
        self._mean = np.atleast_1d(np.array(t.mean, np.float32) * t.max_pixel_value)
        self._factor = np.atleast_1d(np.reciprocal(np.array(t.std, np.float32) * t.max_pixel_value))

    def changer(self, views: Working) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        channels = views.channels
        for values in (self._mean, self._factor):
            if len(values) not in (1, channels):
                raise ValueError(f"Normalize has {len(values)} values for images of {channels} channels")
        mean, factor = (np.resize(v, channels).astype(np.float32) for v in (self._mean, self._factor))
        if views.arrays[0].dtype != np.uint8:
            return lambda image, values: (image - mean.reshape(-1)) * factor if image.ndim == 3 else (
                (image - mean[0]) * factor[0])  # fmt: skip
        tables = (_LEVELS[:, None] - mean) * factor
        each = np.arange(channels)
        return lambda image, values: tables[image, each] if image.ndim == 3 else tables[image, 0]


@step_of(ToFloat="max_value")
class ToFloat(_Each):
    """Values as floats, divided by the largest."""

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        require(p=(transform.p, (1, 1.0)))

    def changer(self, views: Working) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        if views.arrays[0].dtype != np.uint8:
            return lambda image, values: image.copy()
        table = _LEVELS / np.float32(self.transform.max_value or 255)
        return lambda image, values: table[image]


@step_of(NoOp="", ToTensorV2="transpose_mask")
class NoOp(Step):
    """Nothing: our own code finds the layout of arrays and tensors."""

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        pass
