"""A view program: a Compose of transforms that are known, which makes all views of a batch at once.

Parameters are drawn by Albumentations' laws, from one generator for all views, in the order of the transforms.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from miamix_cpu.compiled_views import geometry, holes, resampling, values  # noqa: F401  (they fill the table of steps)
from miamix_cpu.compiled_views.step import STEPS, BadView, NotKnown, Step, is_own
from miamix_cpu.compiled_views.working import Working, compile_moves
from miamix_cpu.plan.drawn import DrawnStep

#: What every transform of Albumentations has beside its options.
_BASE = {"seed", "invalid_args", "random_generator", "py_random", "params", "processors", "deterministic", "save_key",
         "replay_mode", "applied_in_replay"}  # fmt: skip
_VERSIONS = ("2.0.",)


class Program:
    """What a Compose does.

    Parameters
    ----------
    transform : of Albumentations; it is never changed, and none of its code runs

    Attributes
    ----------
    text : str
        The transform with all its options.
    steps : list of Step
        In the order in which they are drawn and made. A SomeOf of n has the steps of its parts n times.
    ends_in_tensors : bool
        Whether the transform makes tensors (C, H, W).

    Raises
    ------
    NotKnown
        If there is a transform in it, or an option, that is not known; its message says which.
    """

    def __init__(self, transform: Any) -> None:
        version = str(getattr(sys.modules.get("albumentations"), "__version__", "of unknown version"))
        if not version.startswith(_VERSIONS):
            raise NotKnown(f"Albumentations {version}")
        self._seen: list[tuple[Any, tuple[str, ...], list[Any]]] = []
        self._root = _node(transform, self._seen)
        self.text, self.steps = self._root.text, self._root.steps()
        are_tensors = [type(step.transform).__name__ == "ToTensorV2" for step in self.steps]
        if any(are_tensors[:-1]):
            raise NotKnown("ToTensorV2 before other transforms")
        self.ends_in_tensors = bool(are_tensors) and are_tensors[-1]

    @property
    def is_current(self) -> bool:
        """Whether the transform still has the options, and the parts, that it had."""
        for part, names, before in self._seen:
            now = _state(part, names)
            if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
                return False
        return True

    def draw(self, rng: np.random.Generator, sizes: np.ndarray) -> list[DrawnStep]:
        """Draw the parameters of views.

        Parameters
        ----------
        rng : numpy.random.Generator
        sizes : int64 (2, v), heights and widths of the images

        Raises
        ------
        BadView
            If a view can't be made of an image.
        """
        drawn: list[DrawnStep] = []
        self._root.draw(rng, np.arange(sizes.shape[1]), np.array(sizes, np.int64), drawn, False)
        return drawn

    def compile(self) -> None:
        """Have the kernels compiled that it needs for uint8 images; those of floats and of maps are when they are used.

        Forked workers inherit them.
        """
        compile_moves()
        if any(isinstance(step, values.LookUp) for step in self.steps):
            values.compile_look_up()

    def unfit(self, channels: int) -> str | None:
        """Why it can't make views of images with that many channels, if it can't."""
        for step in self.steps:
            fill = getattr(step.transform, "fill", 0)
            count = len(fill) if isinstance(fill, (tuple, list)) else 1
            if count > 1 and (channels > 4 or count != channels):
                return f"{type(step.transform).__name__} with {count} values to fill images of {channels} channels"
        return None

    def check(self, drawn: list[DrawnStep], sizes: np.ndarray) -> None:
        """Raise ValueError unless parameters that were not drawn here are for this program, and images of these sizes.

        Kernels trust them.
        """
        sizes = np.array(sizes, np.int64)
        if len(drawn) != len(self.steps):
            raise ValueError(f"the plan's views have {len(drawn)} steps, the transform has {len(self.steps)}")
        for step, part in zip(self.steps, drawn, strict=True):
            those, given = part.views, part.values
            if not len(those):
                continue
            known = given[~np.isnan(given)]
            in_order = those.dtype == np.int64 and (np.diff(those) > 0).all() and those[0] >= 0
            rest = given.shape[1] % max(1, len(step.PARAMETERS))
            if not (in_order and those[-1] < sizes.shape[1] and len(given) == len(those) and rest == 0) or (
                len(known) and np.abs(known).max() >= 2**31
            ):
                raise ValueError(f"the plan's views have parameters of {part.name} that do not fit")
            sizes[:, those] = step.size(given, *sizes[:, those])
            if sizes.min() < 1:
                raise ValueError(f"the plan's views have no pixels after {part.name}")

    def run(self, views: Working, drawn: list[DrawnStep]) -> None:
        """Change `views` by what was drawn."""
        for step, part in zip(self.steps, drawn, strict=True):
            if len(part.views) and (step.CHANGES_MAPS or not views.is_map):
                try:
                    step.make(views, part.views, part.values)
                except (TypeError, ValueError) as error:
                    raise BadView(int(part.views[0]), f"{part.name}: {error}") from error
        views.settle()


class _Node:
    """A transform, or a group of them.

    Parameters
    ----------
    transform : of Albumentations
    text : str, it with all its options
    """

    def __init__(self, transform: Any, text: str) -> None:
        self.name, self.text = type(transform).__name__, text
        self._transform = transform
        self._p = float(transform.p)

    def steps(self) -> list[Step]:
        """All steps, in the order in which `draw` draws them."""
        raise NotImplementedError

    def draw(
        self, rng: np.random.Generator, those: np.ndarray, sizes: np.ndarray, drawn: list[DrawnStep], chosen: bool
    ) -> None:
        """Draw which views it changes, of `those`, and how.

        Parameters
        ----------
        rng : numpy.random.Generator
        those : int64 (m,)
        sizes : int64 (2, v), the heights and widths of all views; changed
        drawn : a record for each step is appended
        chosen : bool, whether OneOf has chosen it, which then applies it whatever its own probability
        """
        raise NotImplementedError

    def _firing(self, rng: np.random.Generator, those: np.ndarray) -> np.ndarray:
        """Those views that it changes, by its own probability."""
        if self._p >= 1:
            return those
        return those[rng.random(len(those)) < self._p] if self._p > 0 else those[:0]


class _Leaf(_Node):
    def __init__(self, transform: Any, step: Step, text: str) -> None:
        super().__init__(transform, text)
        self._step = step

    def steps(self) -> list[Step]:
        return [self._step]

    def draw(
        self, rng: np.random.Generator, those: np.ndarray, sizes: np.ndarray, drawn: list[DrawnStep], chosen: bool
    ) -> None:
        those = those if chosen else self._firing(rng, those)
        parameters = np.empty((0, 0))
        if len(those):
            heights, widths = sizes[:, those]
            try:
                parameters = self._step.draw(rng, heights, widths)
            except BadView as bad:
                raise BadView(int(those[bad.position]), f"{self.name}: {bad}") from None
            sizes[:, those] = self._step.size(parameters, heights, widths)
        drawn.append(DrawnStep(self.name, self._step.PARAMETERS, those, parameters))


class _All(_Node):
    """Compose and Sequential: one after the other."""

    def __init__(self, transform: Any, parts: list[_Node], text: str) -> None:
        super().__init__(transform, text)
        self._parts = parts
        if transform.processors:
            raise NotKnown(f"{self.name} with boxes or keypoints")
        if transform.additional_targets:
            raise NotKnown(f"{self.name} with additional_targets")

    def steps(self) -> list[Step]:
        return [step for part in self._parts for step in part.steps()]

    def draw(
        self, rng: np.random.Generator, those: np.ndarray, sizes: np.ndarray, drawn: list[DrawnStep], chosen: bool
    ) -> None:
        those = those if chosen else self._firing(rng, those)
        for part in self._parts:
            part.draw(rng, those, sizes, drawn, False)


class _OneOf(_All):
    def __init__(self, transform: Any, parts: list[_Node], text: str) -> None:
        super().__init__(transform, parts, text)
        if len(transform.transforms_ps) != len(parts):
            raise NotKnown("OneOf whose transforms were changed")

    def draw(
        self, rng: np.random.Generator, those: np.ndarray, sizes: np.ndarray, drawn: list[DrawnStep], chosen: bool
    ) -> None:
        those = those if chosen else self._firing(rng, those)
        ends = np.cumsum(self._transform.transforms_ps)[:-1]
        picks = np.searchsorted(ends, rng.random(len(those)), side="right")
        for j, part in enumerate(self._parts):
            part.draw(rng, those[picks == j], sizes, drawn, True)


class _SomeOf(_All):
    """SomeOf and RandomOrder, which apply their own probability even where OneOf has chosen them."""

    def __init__(self, transform: Any, parts: list[_Node], text: str) -> None:
        super().__init__(transform, parts, text)
        if not parts or (not transform.replace and transform.n > len(parts)):
            raise NotKnown(f"{self.name} of {transform.n} out of {len(parts)} transforms")

    def steps(self) -> list[Step]:
        return super().steps() * int(self._transform.n)

    def draw(
        self, rng: np.random.Generator, those: np.ndarray, sizes: np.ndarray, drawn: list[DrawnStep], chosen: bool
    ) -> None:
        those, n = self._firing(rng, those), self._transform.n
        if self._transform.replace:
            picks = rng.integers(len(self._parts), size=(len(those), n))
        else:
            orders = np.tile(np.arange(len(self._parts)), (len(those), 1))
            picks = rng.permuted(orders, axis=1)[:, :n]
        if self.name == "SomeOf":
            picks.sort(axis=1)
        for round_of in picks.T:
            for j, part in enumerate(self._parts):
                part.draw(rng, those[round_of == j], sizes, drawn, False)


_GROUPS: dict[str, Callable[[Any, list[_Node], str], _Node]] = {
    "Compose": _All, "Sequential": _All, "OneOf": _OneOf, "SomeOf": _SomeOf, "RandomOrder": _SomeOf,
}  # fmt: skip


def _node(transform: Any, seen: list[tuple[Any, tuple[str, ...], list[Any]]]) -> _Node:
    """Translate a transform, and its parts; append them to `seen`, which `Program.is_current` compares."""
    name, options = type(transform).__name__, _options(transform)
    if not is_own(transform):
        raise NotKnown(f"{name}, a class of the caller's own,")
    seen.append((transform, tuple(options), _state(transform, tuple(options))))
    if name in _GROUPS:
        parts = [_node(part, seen) for part in transform.transforms]
        told = "".join(f", {key}={options[key]!r}" for key in ("n", "replace", "p") if key in options)
        return _GROUPS[name](transform, parts, f"{name}([{', '.join(part.text for part in parts)}]{told})")
    if name not in STEPS:
        raise NotKnown(name)
    kind, names = STEPS[name]
    if set(options) != {"p", *names}:
        raise NotKnown(f"{name} with other attributes than expected: {', '.join(sorted(set(options) ^ {'p', *names}))}")
    try:
        step = kind(transform)
    except NotKnown as reason:
        raise NotKnown(f"{name} with {reason}") from None
    return _Leaf(transform, step, f"{name}({', '.join(f'{key}={options[key]!r}' for key in (*names, 'p'))})")


def _options(transform: Any) -> dict[str, Any]:
    """What a transform has been told."""
    return {name: value for name, value in vars(transform).items() if name[0] != "_" and name not in _BASE}


def _state(transform: Any, names: tuple[str, ...]) -> list[Any]:
    """Everything on which a program depends; `names` are the options of the transform."""
    found = vars(transform)
    state = [len(found), *(found.get(name) for name in names)]
    if "transforms" in found:
        state += [*found["transforms"], *transform.processors, *getattr(transform, "additional_targets", ())]
    return state
