"""Stage 3: mask generators, one file a published method (MiAMix, section 3.2.3).

To add one: write its file, give it a name and a code in `config`, and a row in `GENERATORS` and in the two tables of
calls, `draw_layer` and `fill_hole`, under its code.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from miamix_cpu.config import AGMIX, CUTMIX, FMIX, GMIX, GRIDMIX, MIXUP, MiAMixConfig
from miamix_cpu.jit.arrays import run
from miamix_cpu.jit.compile import exact, inlined, kernel
from miamix_cpu.jit.scalars import larger, smaller
from miamix_cpu.masks.agmix import draw_agmix
from miamix_cpu.masks.augment import draw_augmentation, smooth
from miamix_cpu.masks.cutmix import box_of, draw_cutmix, fill_cutmix
from miamix_cpu.masks.fmix import draw_fmix, fill_fmix, filter_noise, harmonics_of
from miamix_cpu.masks.gmix import draw_gmix, fill_gaussian
from miamix_cpu.masks.gridmix import draw_gridmix, fill_gridmix
from miamix_cpu.masks.mixup import draw_mixup, fill_mixup

__all__ = [
    "GENERATORS",
    "OPTIONS",
    "UNIFORMS",
    "constant_part",
    "draw_layers",
    "fill_hole",
    "filter_noise",
    "most_harmonics",
    "options_of",
    "single_box",
    "smooth",
]


class Generator(NamedTuple):
    """A row of the table of methods."""

    name: str
    augmentable: bool  # rotated, sheared and smoothed; the paper leaves the others alone
    paper: str


#: In the order of `config.METHODS`: the index is the method's code.
GENERATORS = (
    Generator("mixup", False, "Zhang et al., 2018, arXiv:1710.09412"),
    Generator("cutmix", True, "Yun et al., 2019, arXiv:1905.04899"),
    Generator("fmix", True, "Harris et al., 2020, arXiv:2002.12047"),
    Generator("gridmix", True, "Baek, Bang and Shim, 2021, doi:10.1016/j.patcog.2020.107594"),
    Generator("gmix", False, "MiAMix, 2023, section 2, eq. 3-4, arXiv:2308.02804"),
    Generator("agmix", False, "MiAMix, 2023, section 3.1, eq. 5-6, arXiv:2308.02804"),
)
_AUGMENTABLE = np.array([generator.augmentable for generator in GENERATORS])

#: Uniform numbers a layer: one for the method, five for the augmentation, four for the generator.
UNIFORMS = 10

#: The configuration as kernels read it.
OPTIONS = np.dtype(
    [
        ("shares", "<f8", (len(GENERATORS),)),  # cumulative weights by code
        ("p_aug", "<f8"),
        ("p_smooth", "<f8"),
        ("angle_max", "<f8"),  # degrees
        ("shear_max", "<f8"),
        ("smooth_max", "<f8"),
        ("cutmix_inside", "?"),
        ("cutmix_minmax", "?"),
        ("cutmix_low", "<f8"),
        ("cutmix_high", "<f8"),
        ("decay", "<f8"),
        ("harmonics", "<i8"),  # of an unsheared fmix field, and of a sheared one; -1 for a full FFT
        ("harmonics_sheared", "<i8"),
        ("cells_low", "<i8"),
        ("cells_high", "<i8"),
        ("cells_random", "?"),
        ("q_max", "<f8"),
        ("gauss_area", "?"),
    ]
)


@functools.lru_cache(maxsize=64)
def options_of(config: MiAMixConfig, height: int, width: int) -> np.ndarray:
    """`config` for images of this size as `OPTIONS` (1,)."""
    options = np.zeros(1, dtype=OPTIONS)
    weights = dict(zip(config.methods, config.weights, strict=True))
    shares = np.cumsum([weights.get(generator.name, 0.0) for generator in GENERATORS])
    low, high = config.cutmix.minmax or (0.0, 0.0)
    plain, sheared = harmonics_of(height, width, config.fmix.decay, config.shear_max)
    options[0] = (
        # Past the last method with a weight no uniform number can reach.
        np.where(shares == shares[-1], math.inf, shares / shares[-1]),
        config.p_aug, config.p_smooth, config.angle_max, config.shear_max, config.smooth_max,
        config.cutmix.inside or config.cutmix.minmax is not None, config.cutmix.minmax is not None, low, high,
        config.fmix.decay, plain, sheared,
        *config.gridmix.cells, config.gridmix.pattern == "random",
        config.agmix.q_max, config.gauss_scale == "area",
    )  # fmt: skip
    return options


@exact
def draw_layers(layers: np.ndarray, uniforms: np.ndarray, options: Any, height: int, width: int) -> int:
    """Derive every field of the layers from uniform numbers, and lay out the blocks of `coefficients`.

    Parameters
    ----------
    layers : `plan.LAYER` (L,), zeros but for `sample` and `ratio`; changed
    uniforms : float64 (L * UNIFORMS,), in [0, 1)
    options : a record of `OPTIONS`
    height, width : int, pixels

    Returns
    -------
    int
        How many normal numbers the blocks hold.
    """
    total = 0
    for j in range(layers.size):
        layer, uniform = layers[j], run(uniforms, j * UNIFORMS, (j + 1) * UNIFORMS)
        method = 0
        while uniform[0] >= options["shares"][method]:
            method += 1
        layer["method"] = method
        draw_layer(layer, uniform, options, height, width)
        layer["start"] = total
        total += layer["rows"] * layer["columns"] * (2 if method == FMIX and not layer["is_field"] else 1)
    return total


@inlined
def draw_layer(layer: Any, uniform: np.ndarray, options: Any, height: int, width: int) -> None:
    """Derive the fields of one layer, whose `method` and `ratio` are known."""
    method, own = layer["method"], run(uniform, 6, UNIFORMS)
    if _AUGMENTABLE[method]:
        draw_augmentation(layer, run(uniform, 1, 6), options, height, width)
    if method == MIXUP:
        draw_mixup(layer, own, options)
    elif method == CUTMIX:
        draw_cutmix(layer, own, options)
    elif method == FMIX:
        draw_fmix(layer, own, options, height, width)
    elif method == GRIDMIX:
        draw_gridmix(layer, own, options)
    elif method == GMIX:
        draw_gmix(layer, own, options, height, width)
    elif method == AGMIX:
        draw_agmix(layer, own, options, height, width)


@kernel
def constant_part(layers: np.ndarray, multiplied: bool) -> float:
    """The mask of the constant layers (mixup) among `layers`, one number.

    Parameters
    ----------
    layers : `plan.LAYER` (k,)
    multiplied : bool, the product of 1 - ratio (eq. 10) rather than 1 - clip(sum of ratios, 0, 1) (eq. 11)
    """
    base = 1.0
    for j in range(layers.size):
        if layers[j]["method"] == MIXUP:
            ratio = layers[j]["ratio"]
            base = base * (1.0 - ratio) if multiplied else larger(0.0, base - ratio)
    return base


@kernel
def most_harmonics(layers: np.ndarray) -> int:
    """The largest kx or ky among fmix layers, for `fmix.make_tables`.

    Parameters
    ----------
    layers : `plan.LAYER` (L,)
    """
    most = 0
    for j in range(layers.size):
        if layers[j]["method"] == FMIX and not layers[j]["is_field"]:
            most = larger(most, larger(layers[j]["rows"] // 2, layers[j]["columns"] - 1))
    return most


@kernel
def single_box(layers: np.ndarray, rows: int, columns: int) -> Any:
    """Whether the mask is constant but for one upright box that is all hole; top, bottom, left, right (`box_of`).

    Parameters
    ----------
    layers : `plan.LAYER` (k,)
    rows, columns : int, pixels
    """
    box, boxes = (0, 0, 0, 0), 0
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] == CUTMIX and not layer["augmented"] and layer["window"] == 0:
            box = box_of(layer["cy"], layer["cx"], layer["height"], layer["width"], rows, columns)
            boxes += 1
        elif layer["method"] != MIXUP:
            boxes = 2
    return boxes <= 1, box


@inlined
def fill_hole(hole: np.ndarray, layer: Any, coefficients: np.ndarray, tables: Any, spare: np.ndarray) -> None:
    """Fill `hole` with what `layer` says, not yet smoothed.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; overwritten with values in [0, 1]
    layer : a record of `plan.LAYER`
    coefficients : float32 (m,), the plan's
    tables : fmix.make_tables(...), made once a batch
    spare : float32 (product.padded(H, W),); changed
    """
    method = layer["method"]
    if method == MIXUP:
        fill_mixup(hole, layer["ratio"])
    elif method == CUTMIX:
        fill_cutmix(
            hole, layer["cy"], layer["cx"], layer["height"], layer["width"],
            layer["augmented"], layer["angle"], layer["shear"],
        )  # fmt: skip
    elif method == FMIX:
        fill_fmix(hole, layer, coefficients, tables, spare)
    elif method == GRIDMIX:
        noise = run(coefficients, layer["start"], layer["start"] + layer["rows"] * layer["columns"])
        count = math.floor(layer["ratio"] * noise.size + layer["dither"])
        fill_gridmix(
            hole, layer["cells"], layer["height"], layer["cy"], layer["cx"], layer["angle"], layer["shear"],
            noise, smaller(count, noise.size),
        )  # fmt: skip
    elif GMIX <= method <= AGMIX:
        fill_gaussian(hole, layer["cy"], layer["cx"], layer["height"], layer["width"], layer["angle"])
