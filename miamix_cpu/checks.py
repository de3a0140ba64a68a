"""Checks at the boundary: each names the parameter, the value, and what is allowed."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def check_integer(name: str, value: Any, *, low: int | None = None) -> int:
    """`value` as an int of at least `low`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if low is not None and int(value) < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return int(value)


def check_real(
    name: str, value: Any, *, low: float = 0.0, high: float = math.inf, above: bool = False, below: bool = False
) -> float:
    """`value` as a finite float in [low, high]; `above` and `below` leave out the ends."""
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
