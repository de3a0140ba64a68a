"""The names of methods and pairings, and numbers that are given by method."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from miamix_cpu.checks import short

#: Names of the mask generators; the index of a name is its code in a plan.
METHODS = (
    "mixup", "cutmix", "fmix", "gridmix", "gmix", "agmix",
    "hmix", "smoothmix", "resizemix", "saliencymix", "attentivecutmix", "guidedmixup",
)  # fmt: skip

#: Names of the ways to choose partners.
PAIRINGS = ("random", "same_class", "other_class")


def check_method(name: Any) -> None:
    """Raise ValueError unless `name` is the name of a method; the message suggests a similar name, if any."""
    check_name(name, METHODS, "method")


def check_name(name: Any, names: tuple[str, ...], what: str) -> None:
    """Raise ValueError unless `name` is one of `names`, the names of a `what`."""
    if name not in names:
        near = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.7)
        guess = f", did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"unknown {what} {short(name)}{guess} The {what}s are {', '.join(names)}")


def by_method(name: str, values: Any, methods: tuple[str, ...]) -> tuple[Any, ...]:
    """Return numbers by method as a tuple; a mapping must have one for each of `methods`, and no other."""
    if isinstance(values, str) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        raise TypeError(
            f"{name} must be a tuple, a 1-D array or a mapping, with one number for each of {methods!r}, got "
            f"{short(values)}: set, for example, {name}={ones(methods)}"
        )
    if not isinstance(values, Mapping):
        return tuple(values.tolist() if isinstance(values, np.ndarray) else values)
    for method in values:
        check_method(method)
        if method not in methods:
            raise ValueError(f"{name} has a number for {method!r}, which is not one of methods={methods!r}")
    for method in methods:
        if method not in values:
            raise ValueError(f"{name} must have a number for each of {methods!r}, got none for {method!r}")
    return tuple(values[method] for method in methods)


def ones(methods: tuple[str, ...]) -> str:
    """A 1 for each of `methods`, as code."""
    return f"({', '.join('1' for _ in methods)}{',' if len(methods) == 1 else ''})"
