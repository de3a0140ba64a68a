"""Slow twins of resampling, and of the methods that look at guides or at the size of an image, in float64.

Written from the papers' formulas, with exact fractions where pixels are counted.
"""

import math
from fractions import Fraction
from functools import cache

import numpy as np

GUIDES = ("fine_grained", "spectral")


@cache
def covered(count, size):
    """How much of each of `size` pixels each of `count` equal parts of a side covers, (count, size); rows sum to 1.

    In whole numbers: of `count` units that a pixel has, and `size` units that a part has.
    """
    part, pixel = np.arange(count)[:, None], np.arange(size)
    begin, end = np.maximum(part * size, pixel * count), np.minimum((part + 1) * size, (pixel + 1) * count)
    return np.maximum(0, end - begin) / size


def average_area(values, height, width):
    """The mean of the area that each of height x width pixels covers; channels, if any, come last."""
    values = np.asarray(values, np.float64)
    return np.einsum("yr,xc,rc...->yx...", covered(height, values.shape[0]), covered(width, values.shape[1]), values)


@cache
def tents(count, size):
    """Weights of linear interpolation at `count` centres along a side of `size` pixels, whose ends go on for ever."""
    at = np.clip((np.arange(count) + 0.5) * size / count - 0.5, 0, size - 1)
    return np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(size)))


def interpolate(values, height, width):
    values = np.asarray(values, np.float64)
    return tents(height, values.shape[0]) @ values @ tents(width, values.shape[1]).T


def inside(centre, side, pixels):
    """bool: which pixels of a side have their centre inside a box; `centre` and `side` are shares of it."""
    return np.array([abs(2 * ((p + 0.5) - centre * pixels)) < side * pixels for p in range(pixels)])


def box(height, width, cy, cx, side_y, side_x, level=0.0):
    """1 inside an upright box, `level` elsewhere."""
    return np.where(np.outer(inside(cy, side_y, height), inside(cx, side_x, width)), 1.0, level)


def draw_hmix(config, ratio, cy, cx, height, width):
    """A box of the area share * ratio; outside of it what is left of the ratio, spread evenly."""
    side = math.sqrt(ratio * config.hmix.share)
    b = box(height, width, cy, cx, side, side).mean()
    level = 0.0 if b == 1 else max(0.0, (ratio - b) / (1 - b))
    return {"cy": cy, "cx": cx, "height": side, "width": side, "level": level}


def draw_smoothmix(config, cy, cx, uniform):
    """Of gmix, sigma is sqrt(ratio), or with "area" such that 2 pi sigma^2 is the ratio: here it is the other way."""
    low, high = config.smoothmix.sigma
    sigma = low + (high - low) * uniform
    ratio = min(1.0, sigma**2 if config.gauss_scale == "paper" else 2 * math.pi * sigma**2)
    return {"cy": cy, "cx": cx, "height": sigma, "width": sigma, "ratio": ratio}


def draw_resizemix(config, ratio, cy, cx, uniform, height, width):
    """The partner's size is tau of the image's, to the nearest pixel; the box is shifted inside, and none is clipped."""
    low, high = config.resizemix.tau
    tau = math.sqrt(ratio) if config.resizemix.tau_from == "alpha" else low + (high - low) * uniform
    places = []
    for centre, pixels in ((cy, height), (cx, width)):
        size = max(int(tau > 0), math.floor(tau * pixels + 0.5))
        start = math.floor(centre * pixels - size / 2 + 0.5)
        start -= max(0, start + size - pixels)
        places.append((max(0, start), size))
    (top, h), (left, w) = places
    return {
        "cy": (top + h / 2) / height, "cx": (left + w / 2) / width, "height": h / height, "width": w / width,
        "ratio": h * w / (height * width),
    }  # fmt: skip


def draw_attentivecutmix(config, uniform):
    options = config.attentivecutmix
    layer = dict.fromkeys(("cells", "rows", "columns"), options.grid)
    layer |= {"is_field": True, "guide": 1 + GUIDES.index(options.guide)}
    return layer | ({"dither": uniform} if options.cells == "ratio" else {"ratio": options.cells / options.grid**2})


def draw_guidedmixup(config, height, width):
    """The hole is made on a copy of at most 64 pixels a side, of the image's shape."""
    scale = min(Fraction(1), Fraction(64, max(height, width)))
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    guide = 1 + GUIDES.index(config.guidedmixup.guide)
    return {"rows": rows, "columns": columns, "is_field": True, "guide": guide, "ratio": 0.5}


def peak(guide):
    """The centre of the first largest value, row by row, as shares of the sides."""
    best = (0, 0)
    for y in range(guide.shape[0]):
        for x in range(guide.shape[1]):
            if guide[y, x] > guide[best]:
                best = (y, x)
    return (best[0] + 0.5) / guide.shape[0], (best[1] + 0.5) / guide.shape[1]


def highest_cells(guide, grid, count):
    """1 for the `count` cells of a grid whose mean is largest, the first index first among equals, row by row."""
    rows, columns = (np.rint(covered(grid, size) * size) for size in guide.shape)  # in whole numbers
    sums = [
        math.fsum((guide[np.ix_(row > 0, column > 0)] * np.outer(row[row > 0], column[column > 0])).ravel())
        for row in rows
        for column in columns
    ]
    chosen = np.zeros(grid * grid)
    chosen[sorted(range(grid * grid), key=lambda p: (-sums[p], p))[:count]] = 1
    return chosen


def guided(own, partner, rows, columns):
    """s_t / (s_i + s_t) of guides that sum to 1, with a millionth of their mean added to each, against 0 / 0."""
    maps = []
    for guide in (own, partner):
        resize = interpolate if guide.shape[0] < rows else average_area
        values = resize(guide, rows, columns)
        maps.append(values / max(values.sum(), 1e-30) + 1e-6 / values.size)
    return maps[1] / (maps[0] + maps[1])


def with_resized(layers, view):
    """A view as it shows through the holes of these layers: each in turn pastes all of it, resized, over its box.

    Nothing is rounded: bytes are off by half a grey level.
    """
    pasted = view.astype(np.float64)
    for layer in layers:
        ys, xs = (
            np.flatnonzero(inside(float(layer[centre]), float(layer[side]), pixels))
            for centre, side, pixels in (("cy", "height", view.shape[0]), ("cx", "width", view.shape[1]))
        )
        if len(ys) and len(xs):
            pasted[np.ix_(ys, xs)] = average_area(view, len(ys), len(xs))
    return pasted


def nearest(values, height, width):
    """The pixel in whose area each of height x width centres lies."""
    rows, columns = values.shape[:2]
    ys, xs = (
        [math.floor((i + Fraction(1, 2)) * Fraction(size, count)) for i in range(count)]
        for size, count in ((rows, height), (columns, width))
    )
    return values[np.ix_(ys, xs)]


def with_shrunk(layers, view, height, width, shrink=nearest):
    """`with_resized` of a map that may be smaller than the image of height x width pixels, whose boxes are whole there.

    A box is pasted over every pixel of the map that it touches. `shrink` is `nearest` or `average_area`.
    """
    pasted = view.astype(np.float64) if shrink is average_area else view.copy()
    rows, columns = view.shape[:2]
    for layer in layers:
        ys, xs = (
            [at for at in range(size) if any(marked[math.floor(Fraction(at * pixels, size)) :
                                                    math.ceil(Fraction((at + 1) * pixels, size))])]
            for size, pixels, marked in (
                (rows, height, inside(float(layer["cy"]), float(layer["height"]), height)),
                (columns, width, inside(float(layer["cx"]), float(layer["width"]), width)),
            )
        )  # fmt: skip
        if ys and xs:
            pasted[np.ix_(ys, xs)] = shrink(view, len(ys), len(xs))
    return pasted
