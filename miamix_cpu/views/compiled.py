"""Whether a transform's views are made by a view program, and the views that one makes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miamix_cpu.checks import short
from miamix_cpu.compiled_views.program import Program
from miamix_cpu.compiled_views.step import BadView, NotKnown
from miamix_cpu.compiled_views.working import Working, sizes_of
from miamix_cpu.plan.drawn import DrawnStep, DrawnViews
from miamix_cpu.samples.companions import name_of
from miamix_cpu.views.companions import for_opencv


@dataclass(frozen=True)
class Made:
    """What a program made.

    Attributes
    ----------
    views : array (m, h, w) or (m, h, w, C), or a list of arrays of different sizes
    others : what belongs to the images, by key, likewise
    drawn : DrawnViews
    """

    views: Any
    others: dict[Any, Any]
    drawn: DrawnViews


class Compiled:
    """The view program of a transform, if there is one.

    It follows the transform: the caller may change its options between batches.

    Parameters
    ----------
    transform : callable
    way : "auto", True or False
        True raises an error if there is no program; with False, there is none.
    is_albumentations : bool

    Raises
    ------
    ValueError
        If `way` is True, but a transform or an option is not known.
    """

    def __init__(self, transform: Any, way: Any, is_albumentations: bool) -> None:
        if way != "auto" and not isinstance(way, bool):
            raise ValueError(f"compiled_views must be 'auto', True or False, got {short(way)}")
        self._transform, self._way, self._is_albumentations = transform, way, is_albumentations
        self._found: Program | None = None
        found = self._look()
        if not isinstance(found, str):
            found.compile()
        elif way is True:
            raise ValueError(self._refusal(found))

    def __getstate__(self) -> dict[str, Any]:  # a program refers to the transform's parts
        return {**self.__dict__, "_found": None}

    @property
    def program(self) -> Program | None:
        """The program of the transform as it is now."""
        found = self._look()
        return None if isinstance(found, str) else found

    @property
    def ends_in_tensors(self) -> bool:
        """Whether the transform makes tensors, where its program makes arrays."""
        program = self.program
        return program is not None and program.ends_in_tensors

    def describe(self) -> str:
        """How the views are made, and why so."""
        found = self._look()
        if not isinstance(found, str):
            return "compiled"
        how = "Albumentations" if self._is_albumentations else "the transform"
        return f"made by {how}, one by one: {found}"

    def _look(self) -> Program | str:
        """The program, or why there is none."""
        if self._way is False:
            return "compiled_views=False"
        if not self._is_albumentations:
            return f"{getattr(self._transform, '__name__', type(self._transform).__name__)} is not from Albumentations"
        if not (isinstance(self._found, Program) and self._found.is_current):
            try:
                self._found = Program(self._transform)
            except NotKnown as reason:
                return f"{reason} is not known"
        return self._found

    def _refusal(self, why: str) -> str:
        return f"compiled_views=True, but views can't be compiled: {why}. Use compiled_views='auto'"

    def make(
        self,
        images: Sequence[np.ndarray],
        addresses: np.ndarray | None,
        indices: Sequence[int],
        rng: np.random.Generator,
        names: Callable[[int], str],
        others: Mapping[Any, Sequence[np.ndarray]],
        recorded: DrawnViews | None = None,
    ) -> Made | None:
        """Make one view of `images[i]` for each i in `indices`; None if there is no program that fits.

        Parameters
        ----------
        images : arrays (H, W, C) or (H, W)
        addresses : uint64, of all images, if they are C-contiguous and alike
        indices, rng, names : as in `Transform.make`
        others : maps, by key, as `as_given` returns them
        recorded : DrawnViews, optional
            The parameters, if they have been drawn, and for the same transform; otherwise, they are drawn.

        Raises
        ------
        ValueError
            If a view can't be made of an image, or with compiled_views=True, if there is no program that fits.
        """
        found = self._look()
        why = found if isinstance(found, str) else _unfit(found, images, indices, others, addresses is not None)
        if why is not None or isinstance(found, str):
            if self._way is True:
                raise ValueError(self._refusal(str(why)))
            return None
        given = [images[i] for i in indices]
        sizes = sizes_of(given, addresses is not None)
        working = Working(given, None if addresses is None else addresses[np.asarray(indices)])
        maps = {}
        try:
            drawn = _recorded(found, recorded, indices, sizes) or found.draw(rng, sizes)
            found.run(working, drawn)
            for key, values in others.items():
                entries = [for_opencv(values[i], f"{name_of(key)} for {names(i)}") for i in indices]
                maps[key] = Working(entries, is_map=True)
                found.run(maps[key], drawn)
        except BadView as bad:
            raise ValueError(f"{bad}, for {names(indices[bad.position])}") from bad
        own = {
            key: [array.astype(others[key][i].dtype, copy=False) for i, array in zip(indices, made.arrays, strict=True)]
            for key, made in maps.items()
        }
        return Made(working.arrays, own, DrawnViews(found.text, np.array(indices, np.int64), drawn))


def _recorded(
    program: Program, recorded: DrawnViews | None, indices: Sequence[int], sizes: np.ndarray
) -> list[DrawnStep] | None:
    """The parameters that a plan holds, if they are for this program and these views."""
    if recorded is None or recorded.program != program.text:
        return None
    if recorded.samples.tolist() != list(indices):
        return None
    program.check(recorded.steps, sizes)
    return recorded.steps


def _unfit(
    program: Program,
    images: Sequence[np.ndarray],
    indices: Sequence[int],
    others: Mapping[Any, Sequence[np.ndarray]],
    alike: bool,
) -> str | None:
    """Why a program can't make views of these images, or of what belongs to them; `alike` if all images are."""
    first = images[indices[0]]
    if not alike and len({(images[i].dtype, images[i].shape[2:], images[i].ndim) for i in indices}) > 1:
        return "images differ in dtype or channels"
    if first.ndim == 4:
        return "clips are not known"
    if first.dtype not in (np.uint8, np.float32):
        return f"images of {first.dtype} are not known"
    reason = program.unfit(1 if first.ndim == 2 else first.shape[2])
    if reason is not None:
        return reason
    for key, values in others.items():
        of_maps = {(values[i].dtype, values[i].shape[2:], values[i].ndim) for i in indices}
        if len(of_maps) > 1 or values[indices[0]].ndim == 4:
            return f"{name_of(key)} of different dtypes, or with frames, is not known"
        if any(values[i].shape[:2] != images[i].shape[:2] for i in indices):
            return f"{name_of(key)} of another size than its image is not known"
    return None


def as_tensor(view: np.ndarray) -> Any:
    """A view as ToTensorV2 makes it, (C, H, W)."""
    torch = sys.modules["torch"]
    return torch.from_numpy((view[..., None] if view.ndim == 2 else view).transpose(2, 0, 1))
