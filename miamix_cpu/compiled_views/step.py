"""What a transform of Albumentations does, as a step of a view program (`program.py`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from miamix_cpu.compiled_views.working import Working


class NotKnown(Exception):
    """Raised if a transform, or one of its options, is not one that a program can have; says which."""


class BadView(Exception):
    """Raised if a view can't be made of an image: its position among those that are made, and why."""

    def __init__(self, position: int, why: str) -> None:
        super().__init__(why)
        self.position = position


class Step:
    """One transform.

    Parameters
    ----------
    transform : of Albumentations, which has the options that its row in `STEPS` names

    Raises
    ------
    NotKnown
        If one of them has a value that is not known.
    """

    PARAMETERS: ClassVar[tuple[str, ...]] = ()  # drawn for each view; there may be several rounds of them
    CHANGES_MAPS: ClassVar[bool] = True

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def draw(self, rng: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
        """Draw parameters for views of these sizes.

        Parameters
        ----------
        rng : numpy.random.Generator
        heights, widths : int64 (m,)

        Returns
        -------
        float64 (m, k)
            k is the number of `PARAMETERS`, or a multiple; NaN stands for those that a view does not have.

        Raises
        ------
        BadView
        """
        return np.empty((len(heights), 0))

    def size(self, values: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The views' heights and widths afterwards; arguments as returned by `draw`, and as it takes them."""
        return heights, widths

    def make(self, views: Working, those: np.ndarray, values: np.ndarray) -> None:
        """Change views.

        Parameters
        ----------
        views : Working
        those : int64 (m,), which
        values : float64 (m, k), from `draw`
        """
        raise NotImplementedError


def parameters(count: int, *values: Any) -> np.ndarray:
    """What `Step.draw` returns, float64 (count, k), from k arrays (count,) or numbers."""
    made = np.empty((count, len(values)))
    for j, value in enumerate(values):
        made[:, j] = value
    return made


def uniform(rng: np.random.Generator, limits: Any, count: Any) -> np.ndarray:
    """Uniform numbers between two limits."""
    low, high = limits
    numbers: np.ndarray = low + (high - low) * rng.random(count)
    return numbers


#: For each transform, by the name of its class, its step, and the names of all of its options.
STEPS: dict[str, tuple[type[Step], tuple[str, ...]]] = {}


def step_of(**options: str) -> Callable[[type[Step]], type[Step]]:
    """Enter a step into the table, for transforms with these options each, as names with spaces between them."""

    def enter(step: type[Step]) -> type[Step]:
        STEPS.update({name: (step, tuple(names.split())) for name, names in options.items()})
        return step

    return enter


def is_own(transform: Any) -> bool:
    """Whether a transform's class is one of Albumentations', and not the caller's subclass of it."""
    kind = type(transform)
    module = sys.modules.get(kind.__module__)
    return kind.__module__.partition(".")[0] == "albumentations" and getattr(module, kind.__name__, None) is kind


def require(**options: Any) -> None:
    """Raise NotKnown unless each option has the value `(value, allowed)` that it must have."""
    for name, (value, allowed) in options.items():
        if value not in allowed:
            raise NotKnown(f"{name}={value!r}")


def fills_of(transform: Any) -> tuple[Any, Any]:
    """A transform's fills of images and of maps, which must be numbers, and not the name of a way to fill."""
    fill, fill_mask = transform.fill, transform.fill_mask
    if not all(isinstance(number, (int, float)) for number in (fill if isinstance(fill, (tuple, list)) else (fill,))):
        raise NotKnown(f"fill={fill!r}")
    if not isinstance(fill_mask, (int, float, type(None))):
        raise NotKnown(f"fill_mask={fill_mask!r}")
    return fill, fill_mask
