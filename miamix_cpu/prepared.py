"""A batch that is ready to be rendered: its plan, its views, and what is mixed along with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from miamix_cpu.formats import normalisation
from miamix_cpu.mix.companions import companion_shape, mix_companion
from miamix_cpu.mix.render import mix_views
from miamix_cpu.plan.mix_plan import MixPlan
from miamix_cpu.samples.addresses import Gathered
from miamix_cpu.samples.companions import Way, check_seconds, check_size, read_companions
from miamix_cpu.samples.images import Images
from miamix_cpu.views.batch_views import BatchViews


@dataclass(frozen=True)
class Companion:
    """One entry of all samples that is mixed along with their images."""

    way: Way
    first: Images
    second: Gathered  # by sample, as that of the images


@dataclass(frozen=True)
class Prepared:
    """Everything needed to render a batch."""

    plan: MixPlan
    first: Images
    second: Gathered  # by sample; the first view for samples that are not mixed in
    labels: np.ndarray | None
    companions: dict[Any, Companion] = field(default_factory=dict)

    def shape(self, memory_format: str) -> tuple[int, ...]:
        """The shape of the mixed images in memory: (N, C, H, W) or (N, H, W, C); clips have an axis T before H."""
        return self.first.mixed_shape(memory_format == "channels_first")

    def mix(
        self, out: np.ndarray, masks: np.ndarray | None, dtype: str, mean: Any, std: Any, planar_out: bool
    ) -> np.ndarray:
        """Render the images into `out`, which has `dtype` "uint8" or "float32"; return lam, float32 (N,)."""
        first = self.first
        scale, bias = normalisation(first.arrays[0].dtype, dtype, first.channels, mean, std)
        return mix_views(
            self.plan,
            first.gathered.addresses,
            self.second.addresses,
            first.gathered.dtype,
            out,
            masks,
            scale,
            bias,
            planar_in=first.planar,
            planar_out=planar_out,
        )

    def shape_of(self, key: Any, planar: bool) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """The shape and dtype of a mixed entry."""
        companion = self.companions[key]
        return companion_shape(companion.way, companion.first, planar)

    def mix_companion(self, key: Any, out: np.ndarray, masks: np.ndarray, planar_out: bool) -> None:
        """Mix an entry by the masks that mixed the images, into `out` (`shape_of`)."""
        companion = self.companions[key]
        mix_companion(self.plan, companion.way, companion.first, companion.second, out, masks, planar_out)


def read_all(
    ways: dict[Any, Way], views: BatchViews, needed: Sequence[int] | None, plan: MixPlan
) -> dict[Any, Companion]:
    """Read what is mixed along with the images.

    Parameters
    ----------
    ways : by key
    views : BatchViews
    needed : the samples that have a second view of their own; None where first views are mixed in
    plan : MixPlan

    Raises
    ------
    TypeError, ValueError
        If an entry is invalid, or larger than the images; the message names the sample.
    """
    companions = {}
    for key, way in ways.items():
        first = _read(key, way, views, 0, range(len(plan)))
        check_size(first, plan.height, plan.width, views.name_of(key, 0, 0))
        if needed is None:
            companions[key] = Companion(way, first, first.gathered)
            continue
        other = _read(key, way, views, 1, needed)
        check_seconds(first, other, views.name_of(key, 0, 0), views.name_of(key, 1, needed[0]))
        companions[key] = Companion(way, first, by_sample(first.gathered, other.gathered, needed))
    return companions


def _read(key: Any, way: Way, views: BatchViews, which: int, samples: Sequence[int]) -> Images:
    values = [views.other(key, which, sample) for sample in samples]
    layout = views.layout_of(key, which, samples[0])
    return read_companions(values, way, layout, lambda i: views.name_of(key, which, samples[i]))


def by_sample(first: Gathered, seconds: Gathered, needed: Sequence[int]) -> Gathered:
    """Return second views by sample: those of `needed`, and first views for the others."""
    if len(needed) == len(first.addresses):
        return seconds
    addresses = first.addresses.copy()
    addresses[needed] = seconds.addresses
    return seconds._replace(addresses=addresses)
