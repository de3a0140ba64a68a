"""The views of one batch: those that came with the samples, or those that the caller's transform makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from miamix_cpu.plan.drawn import DrawnViews
from miamix_cpu.plan.streams import VIEWS, stream
from miamix_cpu.samples.companions import name_of
from miamix_cpu.samples.images import Images, as_map, is_tensor, read_images
from miamix_cpu.samples.samples import Samples
from miamix_cpu.views.companions import as_given
from miamix_cpu.views.transform import ReusesMemory, Transform


class BatchViews:
    """All first views of a batch, and the second views that a plan needs.

    Parameters
    ----------
    parts : Samples
    raw : (Images or None, Images or None)
        The samples' own images and second views as arrays, as far as they were read.
    transform : Transform or None
    layout : one of `images.LAYOUTS`
    key : bytes or None
        From which the transform's random numbers are drawn.
    map_key : str or int, optional
        Which of the entries is a guide.
    recorded : DrawnViews of the first and of the second views, as far as a plan has them

    Attributes
    ----------
    first : Images
    has_seconds : bool
        Whether there are second views, or a transform to make them.
    drawn : DrawnViews of the first and of the second views, as far as they were made at once

    Raises
    ------
    ValueError
        If views must be made, but the samples are pairs of views, or there is no key.
    """

    def __init__(
        self,
        parts: Samples,
        raw: tuple[Images | None, Images | None],
        transform: Transform | None,
        layout: str,
        key: bytes | None,
        map_key: str | int | None = None,
        recorded: tuple[DrawnViews, ...] = (),
    ) -> None:
        self._parts, self._transform, self._layout, self._key = parts, transform, layout, key
        self._recorded = recorded
        self.drawn: tuple[DrawnViews, ...] = ()
        held, self._seconds = raw
        self._held = held
        self._others: dict[tuple[int, int], dict[Any, Any]] = {}
        if transform is None and held is not None:
            self.first = held
            self.has_seconds = self._seconds is not None
            return
        if parts.seconds is not None:
            raise ValueError(
                "samples are already pairs of views, as TwoViews returns them: pass the transform to TwoViews or to "
                "the collator, not to both"
            )
        if transform is None or key is None:
            raise ValueError("the plan has no key to draw views from, because MiAMix drew it and not a MiAMixCollator")
        self.has_seconds = True
        self._given = {
            k: [self._as_given(transform, value, i, k, k == map_key) for i, value in enumerate(values)]
            for k, values in parts.moved.items()
        }
        try:
            self._make_first(transform, key)
        except ReusesMemory:
            self._make_first(transform, key)

    def seconds(self, needed: list[int]) -> tuple[list[int], Images]:
        """Return second views and the samples that they belong to: those of `needed`, or all if they need not be made.

        If the transform overwrites a first view, `first` is made again too.
        """
        if self._seconds is not None:
            return list(range(len(self._parts.images))), self._seconds
        if self._transform is None or self._key is None:
            raise RuntimeError("there are no second views")
        try:
            return needed, self._make(self._transform, needed, 1)
        except ReusesMemory:
            self._make_first(self._transform, self._key)
            return needed, self._make(self._transform, needed, 1)

    @property
    def makes_tensors(self) -> bool:
        """Whether the transform makes tensors, and only the program that stands for it makes arrays."""
        return self._transform is not None and bool(self.drawn) and self._transform.compiled.ends_in_tensors

    def other(self, key: Any, which: int, sample: int) -> Any:
        """Return what belongs to a first view (which = 0) or a second view (1): made with it, or the sample's own."""
        if (which, sample) in self._others:
            return self._others[which, sample][key]
        own = self._parts.moved[key][sample]
        return own if self._parts.seconds is None else own[which]

    def layout_of(self, key: Any, which: int, sample: int) -> str:
        """Return the layout of what `other` returns."""
        if (which, sample) not in self._others or self._transform is None:
            return self._layout
        return self._layout_of(self._transform, self._others[which, sample][key], self._parts.moved[key][sample])

    def name_of(self, key: Any, which: int, sample: int) -> str:
        """Return the name of what `other` returns, in messages."""
        view = f" of the {('first', 'second')[which]} view" if self.has_seconds else ""
        return f"{name_of(key)}{view} of sample {sample}"

    def _as_given(self, transform: Transform, value: Any, i: int, key: Any, is_guide: bool) -> Any:
        """Return what belongs to image `i` as the transform takes it; raise an error if it is an invalid guide."""
        guide = as_map(value, f"the guide of sample {i}") if is_guide else None
        if not transform.takes_arrays:
            return value
        return as_given(value, f"{name_of(key)} of sample {i}", self._layout) if guide is None else guide

    def _make_first(self, transform: Transform, key: bytes) -> None:
        self._rng, self.drawn = stream(key, VIEWS), ()
        self._made: list[Any] = []
        self.first = self._make(transform, range(len(self._parts.images)), 0)

    def _make(self, transform: Transform, samples: Sequence[int], which: int) -> Images:
        compiled = self._compiled(transform, samples, which)
        if compiled is not None:
            return compiled
        images: Any = self._parts.images
        planar, name = False, ("first", "second")[which]
        if transform.takes_arrays and self._held is not None:
            images, planar = self._held.arrays, self._held.planar
        views = transform.make(
            images,
            planar,
            samples,
            self._rng,
            lambda i: f"the {name} view of sample {i}",
            self._made,
            self._given,
        )
        if self._given:
            self._others.update({(which, i): view[1] for i, view in zip(samples, views, strict=True)})
            self._made.extend(made for _, others in views for made in others.values())
            views = [view for view, _ in views]
        self._made.extend(views)
        return read_images(
            views,
            self._layout_of(transform, views[0], self._parts.images[0]),
            lambda v: f"the transform's {name} view of sample {samples[v]}",
        )

    def _compiled(self, transform: Transform, samples: Sequence[int], which: int) -> Images | None:
        """Return views that are made at once, and keep their parameters; None if the transform has no program."""
        if not transform.takes_arrays or self._held is None:
            return None
        arrays: Any = self._held.arrays
        name = ("first", "second")[which]
        if self._held.planar:
            arrays = [array if array.ndim == 2 else np.moveaxis(array, -3, -1) for array in arrays]
        as_they_are = self._held.alike and not self._held.planar
        made = transform.compiled.make(
            arrays,
            self._held.gathered.addresses if as_they_are else None,
            samples,
            self._rng,
            lambda i: f"the {name} view of sample {i}",
            self._given,
            self._recorded[which] if which < len(self._recorded) else None,
        )
        if made is None:
            return None
        self.drawn = (*self.drawn[:which], made.drawn)
        if made.others:
            for v, i in enumerate(samples):
                self._others[which, i] = {key: values[v] for key, values in made.others.items()}
        if isinstance(made.views, np.ndarray):
            return Images(made.views, False, True)
        return read_images(made.views, "channels_last", lambda v: f"the transform's {name} view of sample {samples[v]}")

    def _layout_of(self, transform: Transform, made: Any, own: Any) -> str:
        """Its type gives the layout if Albumentations made it, or if an array became a tensor or vice versa."""
        changed = is_tensor(made) != is_tensor(own)
        if self._layout == "auto" or not (transform.takes_arrays or changed):
            return self._layout
        return "channels_first" if is_tensor(made) else "channels_last"
