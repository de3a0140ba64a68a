"""gmix: a Gaussian bump, isotropic on the unit square, as the hole.

m(p) = 1 - exp(-1/2 d' S^-1 d), d = p - c, S = sigma^2 I, sigma = sqrt(ratio) of the side (MiAMix, section 2,
eq. 3-4). With `gauss_scale="area"` sigma^2 = ratio / (2 pi), a hole that covers `ratio` of an unbounded plane.
"""

from __future__ import annotations

import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import entry, exact_entry, kernel
from miamix_cpu.jit.intrinsics import reinterpret


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive the centre and the standard deviations, shares of the sides.

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    draw_gaussians(layers, code, uniforms, 0.0, config.gauss_scale == "area", height, width)


@exact_entry
def draw_gaussians(
    layers: np.ndarray, code: int, uniforms: np.ndarray, q_max: float, area: bool, height: int, width: int
) -> None:
    """`draw` of gmix and agmix: standard deviations sigma * sqrt(1 +- q), q from U(-q_max, q_max).

    sigma is sqrt(ratio) (eq. 4), or such that the unclipped hole's area is `ratio`, a share of the side. A hole is at
    least half a pixel thin, or it would fall between pixels.

    Parameters
    ----------
    layers, code, uniforms : as in `draw`
    q_max : float in [0, 1); 0 for gmix, which has no angle
    area : bool, gauss_scale="area"
    height, width : int, pixels
    """
    half_a_pixel = 0.5 / min(height, width)
    for j in range(layers.size):
        layer, uniform = layers[j], uniforms[j, 6:]
        if layer["method"] != code:
            continue
        layer["cy"], layer["cx"] = uniform[0], uniform[1]
        q = q_max * (2 * uniform[3] - 1)
        if q_max > 0:
            layer["angle"] = 2 * math.pi * uniform[2] + math.pi / 4
        sigma = math.sqrt(layer["ratio"])
        if area:
            sigma /= math.sqrt(2 * math.pi * math.sqrt(1 - q * q))
        if sigma > 0:
            layer["width"] = max(half_a_pixel, sigma * math.sqrt(1 + q))
            layer["height"] = max(half_a_pixel, sigma * math.sqrt(1 - q))


@entry
def fill(layers: np.ndarray, code: int, slots: np.ndarray, holes: np.ndarray, coefficients: np.ndarray) -> None:
    """Fill holes with their Gaussian bump.

    Parameters
    ----------
    layers : `plan.LAYER` (l,); those whose method is `code` are filled
    code : int
    slots : int64 (l,), each layer's place in `holes`, -1 for none
    holes : float32 (S, H, W), C-contiguous; changed
    coefficients : float32, the plan's; not used
    """
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] == code and slots[j] >= 0:
            fill_gaussian(holes[slots[j]], layer["cy"], layer["cx"], layer["height"], layer["width"], layer["angle"])


@kernel
def fill_gaussian(hole: np.ndarray, cy: float, cx: float, sigma_v: float, sigma_u: float, angle: float) -> None:
    """Fill `hole` with a Gaussian bump, 1 at its centre.

    h(p) = exp(-1/2 (u^2 / sigma_u^2 + v^2 / sigma_v^2)), u = x cos a + y sin a, v = -x sin a + y cos a, (x, y) = p - c
    on the unit square (MiAMix, eq. 3, 5, 6).

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; overwritten
    cy, cx : float, shares of H and W
    sigma_v, sigma_u : float, shares of the sides, along the axes turned by `angle`; 0 for no hole
    angle : float, radians, from +x towards +y

    Notes
    -----
    The border clips the bump, so its mean is below its area.
    """
    rows, columns = hole.shape
    if sigma_u <= 0 or sigma_v <= 0:
        for y in range(rows):
            for x in range(columns):
                hole[y, x] = np.float32(0.0)
        return
    cosine, sine = math.cos(angle), math.sin(angle)
    # 1/2 S^-1 in pixels, built from the angle and the two axes: no difference of near-equal numbers as |q| -> 1. As a
    # power of 2.
    half = 0.5 / math.log(2.0)
    square_u, square_v = sigma_u * sigma_u, sigma_v * sigma_v
    yy = half * (sine * sine / square_u + cosine * cosine / square_v) / (rows * rows)
    xx = half * (cosine * cosine / square_u + sine * sine / square_v) / (columns * columns)
    xy = 2 * half * sine * cosine * (1 / square_u - 1 / square_v) / (rows * columns)
    x0 = np.float32(0.5 - cx * columns)
    for y in range(rows):
        dy = y + 0.5 - cy * rows
        # Completing the square keeps the exponent >= 0 in float32: xx (dx + shift)^2 + rest.
        shift = np.float32(0.5 * xy * dy / xx) + x0
        rest = np.float32(max(0.0, (yy - 0.25 * xy * xy / xx) * dy * dy))
        curve = np.float32(xx)
        row = hole[y]
        for x in range(columns):
            d = np.float32(np.int32(x)) + shift  # an int64 takes several instructions
            row[x] = power_of_half(curve * d * d + rest)


@kernel
def power_of_half(z: np.float32) -> np.float32:
    """2^-z for z >= 0 in float32, to within 2e-7; a polynomial, so that loops vectorise.

    -z = n + f with n whole and |f| <= 1/2; 2^f by its Taylor series. Adding 1.5 * 2^23 leaves n in the sum's last bits,
    from where it is added to the exponent. z is cut at 116, where 2^-z is 1e-35.
    """
    t = -z if z < np.float32(116.0) else np.float32(-116.0)
    raised = np.float32(t + np.float32(12582912.0))
    f = t - (raised - np.float32(12582912.0))
    p = np.float32(1.5403530393381609e-4)
    p = p * f + np.float32(1.3333558146428443e-3)
    p = p * f + np.float32(9.618129107628477e-3)
    p = p * f + np.float32(5.550410866482158e-2)
    p = p * f + np.float32(2.402265069591007e-1)
    p = p * f + np.float32(6.931471805599453e-1)
    p = np.float32(p * f + np.float32(1.0))
    n = np.int32(reinterpret(raised, np.int32) << np.int32(23))
    return reinterpret(np.int32(reinterpret(p, np.int32) + n), np.float32)  # type: ignore[no-any-return]
