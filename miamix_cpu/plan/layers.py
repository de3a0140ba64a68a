"""The record of one layer of a sample's mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miamix_cpu.masks import method_of
from miamix_cpu.methods import METHODS

#: One record a layer. Lengths are shares of the image's sides unless said otherwise; fields that a method does not
#: use are 0. `height` and `width` are the sides of cutmix's box, the side share of gridmix's holes, or the standard
#: deviations of gmix, agmix and smoothmix along their own axes.
LAYER = np.dtype(
    [
        ("sample", "<i8"),  # the sample it belongs to
        ("method", "u1"),  # index into methods.METHODS
        ("ratio", "<f8"),  # lambda_j, the nominal mean of the hole
        ("cy", "<f8"),  # the hole's centre; gridmix: the phase of its grid, in cells
        ("cx", "<f8"),
        ("height", "<f8"),
        ("width", "<f8"),
        ("level", "<f8"),  # hmix: the hole outside of its box
        ("augmented", "?"),  # rotated by `angle` and sheared by `shear`
        ("angle", "<f8"),  # radians, from +x towards +y; agmix: of the Gaussian's first axis
        ("shear", "<f8"),
        ("window", "<i8"),  # side of the average filter in pixels, odd; 0 for none
        ("cells", "<i8"),  # gridmix: cells along the shorter side; attentivecutmix: along each side
        ("guide", "u1"),  # how guides are computed: 1 + index into options.GUIDES
        ("decay", "<f8"),  # fmix: power by which amplitudes fall
        ("dither", "<f8"),  # in [0, 1): rounds a count of pixels or cells without bias
        ("start", "<i8"),  # its block of `coefficients`: first index, rows, columns
        ("rows", "<i8"),
        ("columns", "<i8"),
        ("is_field", "?"),  # the block has one number a pixel or a cell: fmix's field itself, cells, guidedmixup's hole
    ]
)


def block_sizes(layers: np.ndarray, dtype: Any = np.int64) -> np.ndarray:
    """How many numbers each layer has in `coefficients`: two a harmonic, or one a pixel or a cell (`is_field`).

    Parameters
    ----------
    layers : `LAYER` (L,)
    dtype : int64 or float64

    Returns
    -------
    dtype (L,)
    """
    cells: np.ndarray = layers["rows"].astype(dtype) * layers["columns"].astype(dtype)
    numbers: np.ndarray = np.where(layers["is_field"], cells, 2 * cells)
    return numbers


def describe_layer(layer: np.void) -> str:
    """One layer in words, e.g. "cutmix 0.31 (rotated 40 deg, sheared 0.20, smoothed 5 px)"."""
    own = getattr(method_of(int(layer["method"])), "details", None)
    details = [] if own is None else own(layer)
    if layer["augmented"]:
        details.append(f"rotated {math.degrees(layer['angle']):.0f} deg, sheared {layer['shear']:.2f}")
    if layer["window"]:
        details.append(f"smoothed {layer['window']} px")
    return f"{METHODS[layer['method']]} {layer['ratio']:.2f}" + (f" ({', '.join(details)})" if details else "")
