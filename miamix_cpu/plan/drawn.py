"""The parameters of views, as far as they were drawn for a whole batch at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(eq=False)
class DrawnStep:
    """The parameters of one transform.

    Attributes
    ----------
    name : str, the transform's
    parameters : their names; values may have several rounds of them
    views : int64 (m,), positions of the views that it changes
    values : float64 (m, k); NaN stands for what a view does not have
    """

    name: str
    parameters: tuple[str, ...]
    views: np.ndarray
    values: np.ndarray

    def describe(self, row: int) -> str:
        """Its name and the parameters of one view, such as "Crop(top=3, left=1)"."""
        values = [value for value in self.values[row].tolist() if value == value]
        count = max(1, len(self.parameters))
        rounds = [
            ", ".join(f"{name}={_text(v)}" for name, v in zip(self.parameters, values[start:], strict=False))
            for start in range(0, len(values), count)
        ]
        return f"{self.name}({'; '.join(rounds)})" if rounds else self.name


@dataclass(eq=False)
class DrawnViews:
    """The parameters of all first views of a batch, or of its second views.

    Attributes
    ----------
    program : str, the transform that they are for, with all its options
    samples : int64 (v,), whose views these are
    steps : of the program, in order
    """

    program: str
    samples: np.ndarray
    steps: list[DrawnStep]

    def describe(self, sample: int) -> str:
        """What is done to make the view of a sample; "" if there is none."""
        position = np.flatnonzero(self.samples == sample)
        if not len(position):
            return ""
        found = [step.describe(int(row)) for step in self.steps for row in np.flatnonzero(step.views == position[0])]
        return ", ".join(found) or "unchanged"

    def parts(self, prefix: str) -> dict[str, Any]:
        """Arrays for `MixPlan.save`; `from_parts` reads them."""
        layout = [[step.name, *step.parameters] for step in self.steps]
        return {
            f"{prefix}program": np.array(self.program),
            f"{prefix}samples": self.samples,
            f"{prefix}steps": np.array(json.dumps(layout)),
            f"{prefix}counts": np.array([step.values.shape for step in self.steps], np.int64).reshape(-1, 2),
            f"{prefix}views": np.concatenate([np.empty(0, np.int64), *(step.views for step in self.steps)]),
            f"{prefix}values": np.concatenate([np.empty(0), *(step.values.ravel() for step in self.steps)]),
        }

    @classmethod
    def from_parts(cls, parts: dict[str, Any], prefix: str) -> DrawnViews | None:
        """Read what `parts` made; None if there is nothing.

        Raises
        ------
        KeyError, TypeError, ValueError
            Unless it fits together.
        """
        if f"{prefix}program" not in parts:
            return None
        counts = parts[f"{prefix}counts"]
        views, values = (parts[f"{prefix}{name}"] for name in ("views", "values"))
        if views.size != counts[:, 0].sum() or values.size != counts.prod(axis=1).sum():
            raise ValueError("the views' parameters are incomplete")
        steps, view, value = [], 0, 0
        for (name, *names), (m, k) in zip(json.loads(str(parts[f"{prefix}steps"])), counts.tolist(), strict=True):
            rows = values[value : value + m * k].reshape(m, k)
            steps.append(DrawnStep(name, tuple(names), views[view : view + m], rows))
            view, value = view + m, value + m * k
        return cls(str(parts[f"{prefix}program"]), parts[f"{prefix}samples"], steps)


def _text(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.4g}"
