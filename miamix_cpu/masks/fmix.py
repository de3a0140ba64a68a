"""FMix: the largest pixels of a random field of low frequencies are the hole.

Harris et al., "FMix: Enhancing Mixed Sample Data Augmentation", 2020, arXiv:2002.12047. Gaussian noise on the 2-D
frequency grid, amplitude 1 / max(f, 1 / max(H, W))^decay, f = sqrt(fy^2 + fx^2) in cycles a pixel; inverse transform;
the floor(ratio * H * W + dither) largest pixels, ties by index.

What differs from the official code: its noise is indexed by the wrong axis, so that along the width only the constant
and the first harmonic survive; and its half spectrum has half the power in the fx = 0 column. Here the field is real by
construction: each pair of frequencies +-f once. Rotation and shear act on the spectrum, S(A^-T f): the ratio is exact.
Few harmonics suffice: those above `cutoff` hold under 1/1000 of the variance, half a pixel of the edge at 224 x 224.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.jit.flags import allocating, entry, exact_entry, kernel
from miamix_cpu.masks.threshold import choose_largest

TURNS = SMOOTHS = True

#: Beyond this many harmonics along the longer side the field comes from a full FFT.
MOST_HARMONICS = 32


def draw(layers: np.ndarray, code: int, uniforms: np.ndarray, config: MiAMixConfig, height: int, width: int) -> None:
    """Derive `dither`, and the size of the block of normals: harmonics (columns, rows, 2), or the field (H, W).

    Parameters
    ----------
    layers : `plan.LAYER` (L,); those whose method is `code` are changed
    code : int
    uniforms : float64 (L, masks.UNIFORMS), in [0, 1); the last four columns are used
    config : MiAMixConfig
    height, width : int, pixels
    """
    plain, sheared = harmonics_of(height, width, config.fmix.decay, config.shear_max)
    draw_fields(layers, code, uniforms, config.fmix.decay, plain, sheared, height, width)


@exact_entry
def draw_fields(
    layers: np.ndarray,
    code: int,
    uniforms: np.ndarray,
    decay: float,
    plain: int,
    sheared: int,
    height: int,
    width: int,
) -> None:
    """`draw`, its options one by one.

    Parameters
    ----------
    layers, code, uniforms : as in `draw`
    decay : float
    plain, sheared : int, from `harmonics_of`
    height, width : int, pixels
    """
    longer = max(height, width)
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] != code:
            continue
        layer["dither"] = uniforms[j, 6]
        layer["decay"] = decay
        harmonics = sheared if layer["augmented"] else plain
        if harmonics < 0:
            layer["is_field"] = True
            layer["rows"], layer["columns"] = height, width
        else:
            # Up to the same frequency along both sides, and never above half the sampling rate.
            layer["rows"] = 2 * min(harmonics * height // longer, height // 2) + 1
            layer["columns"] = min(harmonics * width // longer, width // 2) + 1


def finish(layers: np.ndarray, coefficients: np.ndarray) -> None:
    """Turn the normals of layers that need all frequencies into their field.

    Parameters
    ----------
    layers : `plan.LAYER` (m,), of this method, with `is_field`
    coefficients : float32, the plan's; changed
    """
    for layer in layers:
        height, width = int(layer["rows"]), int(layer["columns"])
        noise = coefficients[layer["start"] :][: height * width].reshape(height, width)
        noise[:] = filter_noise(noise, layer["decay"], layer["angle"], layer["shear"])


def harmonics_of(height: int, width: int, decay: float, shear_max: float) -> tuple[int, int]:
    """How many harmonics along the longer side an unsheared and a sheared field need; -1 where a full FFT is due.

    A shear pushes frequencies outwards by at most its larger singular value.
    """
    plain = cutoff(height, width, decay)
    sheared = math.ceil(plain * (math.sqrt(1 + shear_max * shear_max / 4) + shear_max / 2))
    return (plain if plain <= MOST_HARMONICS else -1), (sheared if sheared <= MOST_HARMONICS else -1)


def rules(layers: np.ndarray, coefficients: np.ndarray, height: int, width: int) -> list[tuple[bool, str]]:
    """What must hold for layers of this method in a plan (`MixPlan.checked`)."""
    rows, columns, field = layers["rows"], layers["columns"], layers["is_field"]
    return [
        (bool(np.all((rows % 2 == 1) & (columns >= 1) | field)), "fmix must have harmonics"),
        (
            bool(np.all((rows // 2 <= height // 2) & (columns - 1 <= width // 2) | field)),
            "fmix must have harmonics below half the sampling rate",
        ),
        (
            bool(np.all((rows == height) & (columns == width) | ~field)),
            "a field of fmix must have the size of the image",
        ),
    ]


@functools.lru_cache(maxsize=64)
def cutoff(height: int, width: int, decay: float) -> int:
    """The smallest K, periods over the longer side, such that harmonics above it hold under 1e-3 of the variance."""
    longer = max(height, width)
    ky, kx = np.arange(-(height // 2), height // 2 + 1), np.arange(width // 2 + 1)[:, None]
    frequency = np.hypot(ky / height, kx / width) * longer
    power = np.maximum(frequency, 1.0) ** (-2 * decay)
    power[0, ky <= 0] = 0  # each pair +-f once, and no constant
    power *= np.where(2 * np.abs(ky) == height, 0.5, 1.0) * np.where(2 * kx == width, 0.5, 1.0)
    ring = np.ceil(np.maximum(np.abs(ky) / height, kx / width) * longer - 1e-9).astype(np.int64)
    by_ring = np.bincount(ring.ravel(), weights=power.ravel())
    above = by_ring.sum() - np.cumsum(by_ring)
    return int(np.argmax(above <= 1e-3 * by_ring.sum()))


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


def fill(layers: np.ndarray, code: int, slots: np.ndarray, holes: np.ndarray, coefficients: np.ndarray) -> None:
    """Fill holes with 1 at the floor(ratio * H * W + dither) largest pixels of a field, 0 elsewhere.

    Parameters
    ----------
    layers : `plan.LAYER` (l,); those whose method is `code` are filled
    code : int
    slots : int64 (l,), each layer's place in `holes`, -1 for none
    holes : float32 (S, H, W), C-contiguous; changed
    coefficients : float32, the plan's
    """
    height, width = holes.shape[1:]
    # As many harmonics as a plan may hold, so that the waves are made once for all batches of this size.
    most = min(max(height, width) // 2, MOST_HARMONICS)
    waves_y, waves_x = make_waves(height, most, transposed=True), make_waves(width, most)
    fill_fields(layers, code, slots, holes.reshape(len(holes), -1), coefficients, waves_y, waves_x)


@functools.lru_cache(maxsize=64)
def make_waves(n: int, most: int, *, transposed: bool = False) -> np.ndarray:
    """Cosine and sine of 2 pi k j / n, j below n, k up to `most`, from n exact angles.

    Parameters
    ----------
    n, most : int
    transposed : bool

    Returns
    -------
    float32 (2, most + 1, n), or (2, n, most + 1) where `transposed`
        Remembered, so read only.
    """
    turns = np.arange(most + 1)[:, None] * np.arange(n) % n
    angles = 2 * math.pi * np.arange(n) / n
    waves = np.stack([np.cos(angles)[turns], np.sin(angles)[turns]])
    return np.ascontiguousarray(waves.transpose(0, 2, 1) if transposed else waves, dtype=np.float32)


@entry
def fill_fields(
    layers: np.ndarray,
    code: int,
    slots: np.ndarray,
    holes: np.ndarray,
    coefficients: np.ndarray,
    waves_y: np.ndarray,
    waves_x: np.ndarray,
) -> None:
    """`fill`, with the waves of both axes.

    Parameters
    ----------
    layers, code, slots, coefficients : as in `fill`
    holes : float32 (S, H * W), C-contiguous; changed
    waves_y : make_waves(H, at least the largest ky, transposed=True)
    waves_x : make_waves(W, at least the largest kx)
    """
    height, width = waves_y.shape[1], waves_x.shape[2]
    size = height * width
    field = np.empty(size, np.float32)
    for j in range(layers.size):
        layer = layers[j]
        if layer["method"] != code or slots[j] < 0:
            continue
        hole, start = holes[slots[j]], layer["start"]
        count = min(size, math.floor(layer["ratio"] * size + layer["dither"]))
        if layer["is_field"]:
            choose_largest(hole, coefficients[start : start + size], width, count)
        else:
            rows, columns = layer["rows"], layer["columns"]
            noise = coefficients[start : start + 2 * rows * columns]
            folded = np.empty((2, 2, rows // 2 + 1, columns), np.float32)
            fold(folded, noise, rows, columns, height, width, layer["decay"], layer["angle"], layer["shear"])
            synthesise(field, folded, waves_y, waves_x)
            choose_largest(hole, field, width, count)


@kernel
def fold(
    folded: np.ndarray,
    noise: np.ndarray,
    rows: int,
    columns: int,
    height: int,
    width: int,
    decay: float,
    angle: float,
    shear: float,
) -> None:
    """Scale standard normals by the amplitude of their harmonic, sheared, and add up +ky and -ky.

    Amplitudes are 1 / max(|A^-T f| * longer, 1)^decay. A maps coordinates, u = x cos + y sin + shear * v and
    v = -x sin + y cos, so its inverse transpose maps frequencies. Of each pair +-f one is kept, and no constant. Half
    the sampling rate is its own mirror image, so that both signs, or the one real part that is left, share its power:
    1 / sqrt(2) for each such side. +ky and -ky share their cosines and sines.

    Parameters
    ----------
    folded : float32 (2, 2, Ky + 1, Kx + 1); overwritten. What a cosine or a sine along y, times a
        cosine or a sine along x, is multiplied by, by ky and kx
    noise : float32 (columns * rows * 2,), as (kx, ky, real and imaginary part), ky from -Ky to Ky
    rows, columns : int, 2 Ky + 1 and Kx + 1
    height, width : int, pixels
    decay, angle, shear : float; angle in radians
    """
    cosine, sine, most = math.cos(angle), math.sin(angle), rows // 2
    longer = max(height, width)
    unit_y, unit_x = longer / height, longer / width
    for kx in range(columns):
        for ky in range(most + 1):
            folded[0, 0, ky, kx] = folded[0, 1, ky, kx] = folded[1, 0, ky, kx] = folded[1, 1, ky, kx] = 0.0
        fx = kx * unit_x
        half_x = 2 * kx == width
        for row in range(most + 1 if kx == 0 else 0, rows):
            ky = row - most
            fy = ky * unit_y
            along = fx * cosine + fy * sine
            across = fy * cosine - fx * sine - shear * along
            square = max(1.0, along * along + across * across)
            # The usual decay of 3 without a power, which would cost as much as the rest of the mask at 32 x 32.
            amplitude = 1 / (square * math.sqrt(square)) if decay == 3.0 else square ** (-0.5 * decay)
            if half_x:
                amplitude *= math.sqrt(0.5)
            if 2 * abs(ky) == height:
                amplitude *= math.sqrt(0.5)
            at, into = 2 * (kx * rows + row), abs(ky)
            real, imaginary = noise[at] * np.float32(amplitude), noise[at + 1] * np.float32(amplitude)
            folded[0, 0, into, kx] += real
            folded[0, 1, into, kx] -= imaginary
            if ky > 0:
                folded[1, 0, into, kx] -= imaginary
                folded[1, 1, into, kx] -= real
            elif ky < 0:
                folded[1, 0, into, kx] += imaginary
                folded[1, 1, into, kx] += real


@allocating
def synthesise(field: np.ndarray, folded: np.ndarray, waves_y: np.ndarray, waves_x: np.ndarray) -> None:
    """The field of a few harmonics: sum over kx, ky of Re(c exp(2 pi i (ky y / H + kx x / W))).

    Two small products, first along x, then along y. Cosines are even about y = 0, sines odd, so rows y and H - y are
    the sum and the difference of the same two rows.

    Parameters
    ----------
    field : float32 (H * W,); overwritten
    folded : float32 (2, 2, Ky + 1, Kx + 1), from `fold`
    waves_y, waves_x : as in `fill_fields`
    """
    height, width = waves_y.shape[1], waves_x.shape[2]
    steps = folded.shape[2]
    along_x = np.empty((2, steps, width), np.float32)
    for part in range(2):
        for ky in range(steps):
            row = along_x[part, ky]
            for x in range(width):
                row[x] = np.float32(0.0)
            add_rows(row, folded[part, 0, ky], waves_x[0])
            add_rows(row, folded[part, 1, ky], waves_x[1])
    even, odd = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(height // 2 + 1):
        for x in range(width):
            even[x] = odd[x] = np.float32(0.0)
        add_rows(even, waves_y[0, y, :steps], along_x[0])
        add_rows(odd, waves_y[1, y, :steps], along_x[1])
        mirrored = (height - y) % height * width
        upper, lower = field[y * width : (y + 1) * width], field[mirrored : mirrored + width]
        for x in range(width):
            lower[x] = even[x] - odd[x]
        for x in range(width):
            upper[x] = even[x] + odd[x]


@kernel
def add_rows(total: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> None:
    """total += sum over k of weights[k] * rows[k].

    Parameters
    ----------
    total : float32 (W,); changed
    weights : float32 (K,)
    rows : float32 (at least K, W)
    """
    whole = weights.size - weights.size % 4  # four at once: `total` is loaded and stored less often
    for k in range(0, whole, 4):
        w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        r0, r1, r2, r3 = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        for x in range(total.size):
            total[x] += (w0 * r0[x] + w1 * r1[x]) + (w2 * r2[x] + w3 * r3[x])
    for k in range(whole, weights.size):
        weight, row = weights[k], rows[k]
        for x in range(total.size):
            total[x] += weight * row[x]
