"""Argument checks for the public API. Each error names the parameter, its value and what is allowed."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 60


def short(value: Any) -> str:
    """A `repr` short enough for a message: arrays and tensors by dtype and shape, other values truncated."""
    if hasattr(value, "shape") and hasattr(value, "dtype") and getattr(value, "ndim", None):
        return f"{type(value).__name__} of {value.dtype} {tuple(value.shape)}"
    if isinstance(value, (list, tuple, set, frozenset, dict)) and len(value):
        parts = value.values() if isinstance(value, dict) else value
        if any(hasattr(part, "shape") or isinstance(part, (list, tuple, dict)) for part in list(parts)[:8]):
            kinds = sorted({type(part).__name__ for part in parts})
            return f"a {type(value).__name__} of {len(value)} ({', '.join(kinds[:3])})"
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


_LONGEST = 200  # characters that a value may take up in a message


def callers_level() -> int:
    """The `stacklevel` with which `warnings.warn` points at the nearest caller outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("miamix_cpu."):
        level, frame = level + 1, frame.f_back
    return level


def check_integer(name: str, value: Any, *, low: int | None = None) -> int:
    """Return `value` as an int; it must be at least `low`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if low is not None and int(value) < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return int(value)


def check_real(
    name: str, value: Any, *, low: float = 0.0, high: float = math.inf, above: bool = False, below: bool = False
) -> float:
    """Return `value` as a finite float in [low, high]; `above` excludes the lower end, `below` the upper end."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    inside = low <= number <= high and not (above and number == low) and not (below and number == high)
    if not (inside and math.isfinite(number)):
        if high == math.inf:
            allowed = f"{'above' if above else 'at least'} {low:g} and finite"
        else:
            allowed = f"in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")


def check_bool(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_units(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError if mean and std are in units of 255; the message gives the correct values."""
    if max(mean) > 1 or max(std) > 1:
        as_they_should = ", ".join(
            f"{name}=({', '.join(f'{value / 255:.4g}' for value in values)})"
            for name, values in (("mean", mean), ("std", std))
        )
        raise ValueError(
            f"mean and std must be in units of [0, 1], got mean={tuple(mean)} and std={tuple(std)}, which look like "
            f"units of 255: use {as_they_should}"
        )
