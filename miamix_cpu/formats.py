"""What mixed images are: their dtype, and how they are normalised."""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import Any

import numpy as np

from miamix_cpu.checks import check_units


@functools.lru_cache(maxsize=64)
def normalisation(
    view_dtype: Any, dtype: str, channels: int, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and bias, float32 (C,) each, that convert mixed values of `view_dtype` to `dtype`.

    uint8 to uint8 needs neither, uint8 to float is scaled to [0, 1] and normalised, and floats stay unchanged. The
    arrays are cached and must not be modified.

    Raises
    ------
    ValueError
        If floats would become uint8 or be normalised, or if mean and std do not have C values.
    """
    if view_dtype == np.uint8:
        if dtype == "uint8":
            return np.ones(channels, np.float32), np.zeros(channels, np.float32)
        if mean is None or std is None:
            return np.full(channels, 1 / 255, np.float32), np.zeros(channels, np.float32)
        if len(mean) != channels:
            raise ValueError(f"mean and std must have one value for each of {channels} channels, got {len(mean)}")
        scale, bias = 1 / (255 * np.array(std)), -np.array(mean) / np.array(std)
        return scale.astype(np.float32), bias.astype(np.float32)
    if dtype == "uint8":
        raise ValueError('dtype="uint8" needs uint8 views, got float32: floats are never rescaled')
    if mean is not None:
        raise ValueError(
            "mean and std need uint8 views, got float32, which is used unchanged: remove mean and std here, or "
            "remove ToTensor and Normalize from the transform and the dataset"
        )
    return np.ones(channels, np.float32), np.zeros(channels, np.float32)


def check_dtype(dtype: Any, allowed: tuple[str, ...]) -> str:
    """Return the name of `dtype`, which can be a name, a NumPy dtype or a torch dtype."""
    name = str(dtype).removeprefix("torch.")
    if name not in allowed:
        with suppress(TypeError):
            name = np.dtype(dtype).name
    if name not in allowed:
        raise ValueError(f"dtype must be {' or '.join(map(repr, allowed))}, got {dtype!r}")
    return name


def check_normalisation(
    mean: Any, std: Any, dtype: str | None
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and std as tuples of C floats, or None for both."""
    if (mean is None) != (std is None):
        raise ValueError(f"mean and std must be set together, got mean={mean!r} and std={std!r}")
    if mean is None:
        return None, None
    mean, std = np.atleast_1d(np.asarray(mean, np.float64)), np.atleast_1d(np.asarray(std, np.float64))
    if mean.ndim != 1 or mean.shape != std.shape:
        raise ValueError(f"mean and std must have one value per channel, got shapes {mean.shape} and {std.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError(f"mean must be finite and std above 0, got mean={mean.tolist()} and std={std.tolist()}")
    check_units(mean.tolist(), std.tolist())
    if dtype == "uint8":
        raise ValueError("mean and std need a float dtype, e.g. dtype='float32', got dtype='uint8'")
    return tuple(mean.tolist()), tuple(std.tolist())
