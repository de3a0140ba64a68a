"""FMix: the largest pixels of a random field of low frequencies are the hole.

Harris et al., "FMix: Enhancing Mixed Sample Data Augmentation", 2020, arXiv:2002.12047. Gaussian noise on the 2-D
frequency grid, amplitude 1 / max(f, 1 / max(H, W))^decay, f = sqrt(fy^2 + fx^2) in cycles a pixel; inverse transform;
the floor(ratio * H * W + dither) largest pixels, ties by index.

What differs from the official code: its noise is indexed by the wrong axis, so that along the width only the constant
and the first harmonic survive; and its half spectrum has half the power in the fx = 0 column. Here the field is real by
construction: each pair of frequencies +-f once. Rotation and shear act on the spectrum, S(A^-T f), so the ratio stays
exact. Amplitudes fall so fast that few harmonics suffice: those above `cutoff` hold less than 1e-4 of the variance.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from miamix_cpu.jit.arrays import address_of, array_at, empty, fill, run
from miamix_cpu.jit.compile import allocating, exact, inlined, kernel
from miamix_cpu.jit.scalars import larger, smaller
from miamix_cpu.masks.product import LANES, ROWS, multiply_small, padded
from miamix_cpu.masks.threshold import choose_largest

#: Beyond this many harmonics along the longer side the field comes from a full FFT.
MOST_HARMONICS = 32


def harmonics_of(height: int, width: int, decay: float, shear_max: float) -> tuple[int, int]:
    """How many harmonics along the longer side an unsheared and a sheared field need; -1 where a full FFT is due.

    A shear pushes frequencies outwards by at most its larger singular value.
    """
    plain = cutoff(height, width, decay)
    sheared = math.ceil(plain * (math.sqrt(1 + shear_max * shear_max / 4) + shear_max / 2))
    return (plain if plain <= MOST_HARMONICS else -1), (sheared if sheared <= MOST_HARMONICS else -1)


@functools.lru_cache(maxsize=64)
def cutoff(height: int, width: int, decay: float) -> int:
    """The smallest K, periods over the longer side, such that harmonics above it hold under 1e-4 of the variance."""
    longer = max(height, width)
    ky, kx = np.arange(-(height // 2), height // 2 + 1), np.arange(width // 2 + 1)[:, None]
    frequency = np.hypot(ky / height, kx / width) * longer
    power = np.maximum(frequency, 1.0) ** (-2 * decay)
    power[0, ky <= 0] = 0  # each pair +-f once, and no constant
    power *= np.where(2 * np.abs(ky) == height, 0.5, 1.0) * np.where(2 * kx == width, 0.5, 1.0)
    ring = np.ceil(np.maximum(np.abs(ky) / height, kx / width) * longer - 1e-9).astype(np.int64)
    by_ring = np.bincount(ring.ravel(), weights=power.ravel())
    above = by_ring.sum() - np.cumsum(by_ring)
    return int(np.argmax(above <= 1e-4 * by_ring.sum()))


@exact
def draw_fmix(layer: Any, uniform: np.ndarray, options: Any, height: int, width: int) -> None:
    """Derive `dither`, and the size of the block of normals: harmonics (columns, rows, 2), or the field (H, W).

    Parameters
    ----------
    layer : a record of `plan.LAYER`; changed
    uniform : float64 (UNIFORMS,), in [0, 1)
    options : a record of `masks.OPTIONS`
    height, width : int, pixels
    """
    layer["dither"] = uniform[0]
    layer["decay"] = options["decay"]
    harmonics = options["harmonics_sheared"] if layer["augmented"] else options["harmonics"]
    if harmonics < 0:
        layer["is_field"] = True
        layer["rows"], layer["columns"] = height, width
    else:
        # Up to the same frequency along both sides, and never above half the sampling rate.
        longer = larger(height, width)
        layer["rows"] = 2 * smaller(harmonics * height // longer, height // 2) + 1
        layer["columns"] = smaller(harmonics * width // longer, width // 2) + 1


def filter_noise(noise: np.ndarray, decay: float, angle: float, shear: float) -> np.ndarray:
    """The field of all frequencies, by a full FFT of white noise.

    Parameters
    ----------
    noise : float32 (H, W), standard normal

    Returns
    -------
    float32 (H, W)
    """
    height, width = noise.shape
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    along = fx * math.cos(angle) + fy * math.sin(angle)
    across = fy * math.cos(angle) - fx * math.sin(angle) - shear * along
    spectrum = np.fft.rfft2(noise) * np.maximum(np.hypot(across, along) * max(height, width), 1.0) ** -decay
    spectrum[0, 0] = 0  # the constant moves all pixels alike
    return np.fft.irfft2(spectrum, s=(height, width)).astype(np.float32)


@inlined
def make_tables(height: int, width: int, most: int) -> Any:
    """Cos and sin of 2 pi k y / H and of 2 pi k x / W, k up to `most`, as operands of `synthesise`; made once a batch.

    Parameters
    ----------
    height, width : int, pixels
    most : int

    Returns
    -------
    two arrays, float32 (H or more, 2 * most + 2) and (2 * most + 2, W or more): cos 0, sin 0, cos 1, sin 1, ..
    """
    along_y, along_x = table_shapes(height, width, most)
    table_y, table_x = empty(along_y, np.float32), empty(along_x, np.float32)
    fill_waves(table_y, height, np.bool_(True))  # literals would have it compiled twice
    fill_waves(table_x, width, np.bool_(False))
    return table_y, table_x


@inlined
def table_shapes(height: int, width: int, most: int) -> Any:
    """Of the arrays of `make_tables`."""
    return (height + ROWS, 2 * most + 2), (2 * most + 2, larger(width, LANES))


@allocating
def fill_waves(waves: np.ndarray, n: int, transposed: bool) -> None:
    """Cosine and sine of 2 pi k j / n in rows 2 k and 2 k + 1, from n exact angles; 0 in what remains.

    Parameters
    ----------
    waves : float32 (2 * K, at least n), or transposed; overwritten
    n : int
    transposed : bool
    """
    most, columns = waves.shape[1 if transposed else 0] // 2, waves.shape[1]
    next_row, next_column = (1, columns) if transposed else (columns, 1)
    fill(waves, np.float32(0.0))
    values = array_at(address_of(waves), waves.size, np.float32)
    cosine, sine = empty(n, np.float32), empty(n, np.float32)
    for j in range(n):
        cosine[j] = math.cos(2 * math.pi * j / n)
        sine[j] = math.sin(2 * math.pi * j / n)
    for k in range(most):
        at, step, to = 0, k % n, 2 * k * next_row
        for _ in range(n):  # at = k * j % n, without a division each
            values[to], values[to + next_row] = cosine[at], sine[at]
            at = at + step if at + step < n else at + step - n
            to += next_column


@inlined
def fill_fmix(hole: np.ndarray, layer: Any, coefficients: np.ndarray, tables: Any, spare: np.ndarray) -> None:
    """Fill `hole` with 1 at the floor(ratio * H * W + dither) largest pixels of a field, 0 elsewhere.

    Parameters
    ----------
    hole : float32 (H, W), C-contiguous; overwritten
    layer : a record of `plan.LAYER`
    coefficients : float32 (m,), the plan's
    tables : make_tables(H, W, at least max(Ky, Kx))
    spare : float32 (padded(H, W),); changed
    """
    size = hole.size
    count = smaller(size, math.floor(layer["ratio"] * size + layer["dither"]))
    if count == 0 or count == size:
        fill(hole, np.float32(count > 0))
        return
    rows, columns = layer["rows"], layer["columns"]
    block = run(coefficients, layer["start"], layer["start"] + rows * columns * (1 if layer["is_field"] else 2))
    if layer["is_field"]:
        field = block
    else:
        scaled = empty(block.size, np.float32)
        scale_noise(
            scaled, block, rows, columns, hole.shape[0], hole.shape[1], layer["decay"], layer["angle"], layer["shear"]
        )
        synthesise(spare, scaled, hole.shape[0], hole.shape[1], rows, columns, tables)
        field = run(spare, 0, size)
    choose_largest(array_at(address_of(hole), size, np.float32), field, hole.shape[1], count)


@kernel
def scale_noise(
    scaled: np.ndarray,
    noise: np.ndarray,
    rows: int,
    columns: int,
    height: int,
    width: int,
    decay: float,
    angle: float,
    shear: float,
) -> None:
    """Multiply standard normals by the amplitude of their harmonic, sheared: 1 / max(|A^-T f| * longer, 1)^decay.

    A maps coordinates, u = x cos + y sin + shear * v and v = -x sin + y cos, so its inverse transpose maps
    frequencies. Of each pair +-f one is kept, and no constant. Half the sampling rate is its own mirror image, so that
    both signs, or the one real part that is left, share its power: 1 / sqrt(2) for each such side.

    Parameters
    ----------
    scaled : float32 (columns * rows * 2,); overwritten
    noise : float32 (columns * rows * 2,), as (kx, ky, real and imaginary part), ky from -Ky to Ky
    rows, columns : int, 2 Ky + 1 and Kx + 1
    height, width : int, pixels
    decay, angle, shear : float; angle in radians
    """
    cosine, sine = math.cos(angle), math.sin(angle)
    longer = larger(height, width)
    for kx in range(columns):
        fx = kx * longer / width
        for row in range(rows):
            ky = row - rows // 2
            fy = ky * longer / height
            along = fx * cosine + fy * sine
            across = fy * cosine - fx * sine - shear * along
            square = larger(1.0, along * along + across * across)
            # The usual decay of 3 without a power, which would cost as much as the rest of the mask at 32 x 32.
            amplitude = 1 / (square * math.sqrt(square)) if decay == 3.0 else square ** (-0.5 * decay)
            if kx == 0 and ky <= 0:
                amplitude = 0.0
            if 2 * abs(ky) == height:
                amplitude *= math.sqrt(0.5)
            if 2 * kx == width:
                amplitude *= math.sqrt(0.5)
            at = 2 * (kx * rows + row)
            scaled[at] = noise[at] * np.float32(amplitude)
            scaled[at + 1] = noise[at + 1] * np.float32(amplitude)


@allocating
def synthesise(
    field: np.ndarray, block: np.ndarray, height: int, width: int, rows: int, columns: int, tables: Any
) -> None:
    """The field of a few harmonics: sum over kx, ky of Re(c exp(2 pi i (ky y / H + kx x / W))).

    Two small products, first along y, then along x; +ky and -ky share their cosines and sines.

    Parameters
    ----------
    field : float32 (padded(H, W),); its first H * W values overwritten, the others undefined
    block : float32 (columns * rows * 2,), c as (kx, ky, real and imaginary part), ky from -Ky to Ky
    height, width : int, pixels
    rows, columns : int, 2 Ky + 1 and Kx + 1
    tables : make_tables(H, W, at least max(Ky, Kx))
    """
    table_y, table_x = tables
    most_y, waves = rows // 2, 2 * columns
    # By ky, cosine and sine; by kx, the real part and the imaginary one, negative. Zeros, for the padding is multiplied
    # too, and denormal numbers that happen to lie there are slow.
    folded = empty((2 * most_y + 2, larger(waves, LANES)), np.float32)
    fill(folded, np.float32(0.0))
    for kx in range(columns):
        still = 2 * (kx * rows + most_y)
        folded[0, 2 * kx], folded[0, 2 * kx + 1] = block[still], -block[still + 1]
        for ky in range(1, most_y + 1):
            up, down = still + 2 * ky, still - 2 * ky
            folded[2 * ky, 2 * kx] = block[up] + block[down]
            folded[2 * ky, 2 * kx + 1] = -(block[up + 1] + block[down + 1])
            folded[2 * ky + 1, 2 * kx] = block[down + 1] - block[up + 1]
            folded[2 * ky + 1, 2 * kx + 1] = block[down] - block[up]
    size = padded(height, waves)
    along_y = empty((-(-size // waves), waves), np.float32)
    multiply_small(array_at(address_of(along_y), size, np.float32), table_y, folded, height, 2 * most_y + 2, waves)
    multiply_small(field, along_y, table_x, height, waves, width)
