"""One compiled call a batch: a pure function of a plan and the views, without any random state."""

from __future__ import annotations

import numpy as np

from miamix_cpu.compile import entry
from miamix_cpu.gather import array_at
from miamix_cpu.masks import fill_hole, smooth
from miamix_cpu.masks.fmix import make_tables
from miamix_cpu.output import blend, measure, multiply, subtract


@entry
def render(
    out: np.ndarray,
    lam: np.ndarray,
    masks: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    like: np.ndarray,
    layers: np.ndarray,
    first_layer: np.ndarray,
    coefficients: np.ndarray,
    most_harmonics: int,
    height: int,
    width: int,
    multiplied: bool,
    measured: bool,
    planar_in: bool,
    planar_out: bool,
    scale: np.ndarray,
    bias: np.ndarray,
) -> None:
    """Render the masks of a batch, measure them, and mix.

    Parameters
    ----------
    out : uint8 or float32 (N, H * W * C), C-contiguous; overwritten
    lam : float64 (N,); overwritten
    masks : float32 (N, H, W), overwritten, or (0, H, W) where they are not wanted
    first, second : uint64 (N,), addresses of sample i's first view and of its partner's second view
    like : empty array with the views' dtype, uint8 or float32
    layers, first_layer, coefficients, height, width : the plan's
    most_harmonics : int, the largest kx or ky among the plan's fmix layers
    multiplied : bool, merge="mul" rather than "sum"
    measured : bool, lam_from="merged" rather than "orig"
    planar_in, planar_out : bool, (C, H, W) rather than (H, W, C)
    scale, bias : float32 (C,), applied to the mixed values
    """
    pixels, channels = height * width, scale.size
    tables = make_tables(height, width, most_harmonics)
    hole = np.empty((height, width), np.float32)
    own = np.empty((height, width), np.float32)
    for i in range(out.shape[0]):
        mask = (masks[i] if masks.shape[0] else own).reshape(pixels)
        mask[:] = 1.0
        kept = 1.0
        for j in range(first_layer[i], first_layer[i + 1]):
            layer = layers[j]
            fill_hole(hole, layer, coefficients, tables)
            if layer["window"] > 0:
                smooth(hole, layer["window"])
            if multiplied:
                multiply(mask, hole.reshape(pixels))
            else:
                subtract(mask, hole.reshape(pixels))
            kept -= layer["ratio"]
        lam[i] = measure(mask) if measured else max(0.0, kept)
        f, s = array_at(first[i], pixels * channels, like), array_at(second[i], pixels * channels, like)
        blend(out[i], f, s, mask, channels, planar_in, planar_out, scale, bias)
