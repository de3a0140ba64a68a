"""The common base of MiAMixCollator and MiAMixBatch: it keys a batch by its content and draws its plan and views."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

import numpy as np

from miamix_cpu.checks import check_choice, check_integer, short
from miamix_cpu.config import MiAMixConfig
from miamix_cpu.epochs import MixSchedule, probability_of
from miamix_cpu.mixer import ALSO_WITH_FEATURES, MiAMix
from miamix_cpu.once import Once
from miamix_cpu.plan.mix_plan import MixPlan
from miamix_cpu.plan.sampling import draw_plan
from miamix_cpu.plan.streams import PLAN, batch_key, fingerprint_of, index_bytes, samples_digest, stream
from miamix_cpu.prepared import Prepared, by_sample, read_all
from miamix_cpu.samples.addresses import Gathered
from miamix_cpu.samples.companions import check_also
from miamix_cpu.samples.fingerprint import digest_of_images
from miamix_cpu.samples.images import HASHED, LAYOUTS, MIXED, TRANSFORMED, Images, read_images, warn_of_range
from miamix_cpu.samples.labels import read_labels
from miamix_cpu.samples.samples import Samples
from miamix_cpu.views.batch_views import BatchViews
from miamix_cpu.views.guides import aim_layers
from miamix_cpu.views.transform import Transform
from miamix_cpu.warm import warmup

_MASKS_KEY = "masks"


class KeyedMixer:
    """Draws the plan and the views of a batch from random streams determined by (seed, epoch, samples).

    Parameters
    ----------
    As in `MiAMixCollator`; `mixing` are those that `MiAMix` has too, which checks them.
    """

    def __init__(
        self,
        num_classes: int | None,
        config: MiAMixConfig | None,
        *,
        transform: Callable[..., Any] | None,
        seed: int,
        layout: str,
        memory_format: str,
        keys: tuple[str, str],
        out_keys: tuple[str, str] | None,
        index_key: str | int | None,
        map_key: str | int | None,
        also: Mapping[str | int, Any] | None,
        schedule: MixSchedule | None,
        compiled_views: Any,
        **mixing: Any,
    ) -> None:
        check_choice("layout", layout, LAYOUTS)
        check_choice("memory_format", memory_format, ("channels_first", "channels_last"))
        if schedule is not None and not isinstance(schedule, MixSchedule):
            raise TypeError(f"schedule must be a MixSchedule, got {short(schedule)}")
        mixer = MiAMix(num_classes, config, **mixing)
        if mixer.guide is not None and map_key is not None:
            raise ValueError("guides are either made (guide) or come with the samples (map_key), got both")
        self.num_classes, self.config = mixer.num_classes, mixer.config
        self.dtype, self.mean, self.std = mixer.dtype, mixer.mean, mixer.std
        self.targets, self.label_smoothing = mixer.targets, mixer.label_smoothing
        self.return_masks, self.guide, self.map_key = mixer.return_masks, mixer.guide, map_key
        self.seed = check_integer("seed", seed)
        self.layout = layout
        self.memory_format = memory_format
        self.keys = _check_keys("keys", keys)
        if map_key is not None and map_key in self.keys:
            raise ValueError(f"map_key must be another key than those of image and label, got {map_key!r}")
        self.out_keys = self.keys if out_keys is None else _check_keys("out_keys", out_keys)
        self.index_key = index_key
        self._ways = check_also(also, self.keys, map_key)
        self.also = dict(also or {})
        self._check_ways()
        self.schedule = schedule
        warmup(self.config, dtype="uint8" if self.dtype == "uint8" else "float32" if self.dtype or self.mean else None)
        self._once = Once(shared=self._has_workers)
        self._range_is_known = False
        self.compiled_views = compiled_views
        self.transform = transform

    _has_workers = False  # whether worker processes share the record of issued warnings

    def __repr__(self) -> str:
        views = "" if self._transform is None else f", views: {self.views}"
        return f"{type(self).__name__}(num_classes={self.num_classes}, config={self.config!r}, seed={self.seed}{views})"

    @property
    def transform(self) -> Callable[..., Any] | None:
        """The transform, as passed by the caller. If it is set later, only workers started afterwards use it."""
        return None if self._transform is None else self._transform.transform

    @transform.setter
    def transform(self, transform: Callable[..., Any] | None) -> None:
        self._transform = None
        if transform is not None:
            self._transform = Transform(
                transform, self._once, image_key=self.keys[0], compiled_views=self.compiled_views
            )

    @property
    def views(self) -> str:
        """How views are made: "compiled", or by the transform, one by one, and why so."""
        return "made by the dataset" if self._transform is None else self._transform.compiled.describe()

    def plain(self, transform: Callable[..., Any] | None = None) -> Self:
        """Return an unmixed copy for evaluation, with the same keys and formats and one-hot targets without smoothing.

        Parameters
        ----------
        transform : callable, optional
            The transform for evaluation. The training transform is not applied. It gets no guides, and samples need
            none (`map_key`).
        """
        twin = copy.copy(self)
        twin._is_plain = True
        twin._once = Once(shared=self._has_workers)
        twin._range_is_known = False
        twin.transform = transform
        twin.schedule = MixSchedule(probability=0.0)
        twin.config = self.config.replace(pairing="random")  # what stays unmixed needs no function of the caller's
        twin.label_smoothing = 0.0
        return twin

    def _remember(self, key: bytes) -> None:
        """Called before a batch with this key is drawn, if any part of it is random."""

    def _prepare(self, parts: Samples, replayed: MixPlan | None, epoch: int) -> Prepared:
        """Do everything before rendering. The plan is `replayed`, or drawn from the batch's key if that is None."""
        epoch = epoch if parts.epoch is None else parts.epoch
        labels = None if self._label_key(parts.kind) in self._ways else read_labels(parts.labels, self.num_classes)
        raw = self._raw(parts)
        fingerprint = self._fingerprint(parts, raw, labels)
        samples = samples_digest(fingerprint)
        key: bytes | None
        if replayed is None:
            key = batch_key(self.seed, epoch, fingerprint)
            plan_of = partial(self._draw, key, samples, epoch, labels)
        else:
            replayed = replayed.checked()
            if len(replayed) == len(parts.images) and replayed.samples not in (None, samples):
                raise ValueError(
                    "the plan was drawn for other samples, or for these in another order or identified in another way "
                    "(index_key, Indexed). To render a plan on any images, use MiAMix.render(plan, images, labels)"
                )
            key = replayed.key
            plan_of = partial(_fitting, replayed)
        recorded = () if replayed is None else replayed.views
        views = BatchViews(parts, raw, self._transform, self.layout, key, self.map_key, recorded)
        first = views.first
        if not self._range_is_known:
            self._range_is_known = True
            warn_of_range(first.arrays, self._once)
        plan = plan_of(len(parts.images), *first.size)
        if self._ways and plan.mixes == "features":
            raise ValueError(ALSO_WITH_FEATURES)
        second, needed = self._second(plan, views)
        first = views.first  # made again, if the transform has overwritten one
        plan = aim_layers(
            plan,
            first.gathered.addresses,
            second.addresses,
            second.dtype,
            second.shape,
            first.planar,
            _of_planar(self.guide) if self.guide is not None and views.makes_tensors else self.guide,
            partial(views.other, self.map_key) if self.map_key in parts.moved else None,
        )
        plan = dataclasses.replace(plan, views=views.drawn)
        return Prepared(plan, first, second, labels, read_all(self._ways, views, needed, plan))

    _is_plain = False  # an unmixed copy: the samples' guides are not used

    def _check_ways(self) -> None:
        """Raise ValueError if `also` can't be combined with other options."""
        if self._ways and self.config.mixes == "features":
            raise ValueError(ALSO_WITH_FEATURES)
        if self._label_is_mixed and (self.targets == "pair" or self.label_smoothing):
            raise ValueError(
                f"also has the label's key, {self.keys[1]!r} or 1, so there are no labels: targets='pair' and "
                "label_smoothing do not apply"
            )
        if self._label_is_mixed and self.config.pairing != "random":
            raise ValueError(
                f"also has the label's key, {self.keys[1]!r} or 1, so there are no labels by which "
                f"pairing={self.config.pairing!r} could choose partners: set pairing='random'"
            )

    @property
    def _label_is_mixed(self) -> bool:
        """Whether the label's place holds a map, or another entry of `also`, instead of a label."""
        return self.keys[1] in self._ways or 1 in self._ways

    def _label_key(self, kind: type) -> str | int:
        return self.keys[1] if kind is dict else 1

    def _reading(self, replays: bool = False) -> dict[str, Any]:
        """What `read_samples` and `read_columns` are told."""
        guides = () if self.map_key is None else (self.map_key,)
        uses = not self._is_plain or replays
        return {
            "keys": self.keys,
            "index_key": self.index_key,
            "moved": (*self._ways, *(guides if uses else ())),
            "dropped": guides,
        }

    def _mixed_extras(
        self, prepared: Prepared, masks: Any, extras: dict[Any, Any], new: Callable[..., Any]
    ) -> dict[Any, Any]:
        """Return `extras` with what is mixed along with the images, each in its place.

        `new(shape, dtype, planar)` makes a result, and the array that is its memory.
        """
        mixed = dict(extras)
        for key, companion in prepared.companions.items():
            planar = self.memory_format == "channels_first" or companion.way.name == "soft"
            mixed[key], out = new(*prepared.shape_of(key, planar), planar)
            prepared.mix_companion(key, out, masks, planar)
        return mixed

    def _packed(self, images: Any, targets: Any, masks: Any, extras: dict[Any, Any], kind: type) -> Any:
        """Return the result as `kind`, the samples' type: a dict, a tuple, or a named tuple if its fields suffice."""
        if kind is not dict:
            parts = (images, targets, *(() if masks is None else (masks,)), *extras.values())
            fits = masks is None and len(parts) == len(getattr(kind, "_fields", ()))
            return kind._make(parts) if fits and hasattr(kind, "_make") else parts
        mixed = {self.out_keys[0]: images, self.out_keys[1]: targets}
        if masks is not None:
            mixed[_MASKS_KEY] = masks
        taken = [key for key in extras if key in mixed]
        if taken:
            raise ValueError(f"samples have the key {taken[0]!r}, which is reserved for the result: rename it")
        return {**mixed, **extras}

    def _raw(self, parts: Samples) -> tuple[Images | None, Images | None]:
        """Return the samples' own images and second views as arrays; None if they are absent or not needed."""
        transform = self._transform
        if transform is not None and not transform.takes_arrays and parts.indices is not None:
            return None, None

        purpose = MIXED if transform is None else TRANSFORMED if transform.takes_arrays else HASHED

        def read(images: list[Any], which: str) -> Images:
            name = "image" if parts.seconds is None else f"{which} view"
            return read_images(images, self.layout, lambda i: f"{name} of sample {i}", purpose)

        return read(parts.images, "first"), None if parts.seconds is None else read(parts.seconds, "second")

    def _draw(
        self, key: bytes, samples: bytes, epoch: int, labels: np.ndarray | None, n: int, height: int, width: int
    ) -> MixPlan:
        probability = probability_of(self.schedule, epoch)
        if probability > 0 or self._transform is not None:
            self._remember(key)
        options: dict[str, Any] = {"probability": probability, "key": key, "samples": samples, "labels": labels}
        return draw_plan(self.config, n, height, width, stream(key, PLAN), **options)

    def _fingerprint(
        self, parts: Samples, raw: tuple[Images | None, Images | None], labels: np.ndarray | None
    ) -> bytes:
        """Return bytes that identify a batch: its labels, and its indices or else its images."""
        hashed = [b"%d" % len(parts.images)]
        if labels is not None:
            hashed += [labels.dtype.str.encode(), labels.tobytes()]
        if parts.indices is not None:
            hashed.append(b"indices")
            hashed += [index_bytes(index, i) for i, index in enumerate(parts.indices)]
            return fingerprint_of(hashed)
        for images in raw:
            if images is not None:
                kinds = [(image.shape, image.dtype.str) for image in images.arrays[: 1 if images.alike else None]]
                hashed.append(repr(kinds).encode())
                hashed.append(digest_of_images(images.gathered.arrays if images.alike else images.arrays))
        return fingerprint_of(hashed)

    def _second(self, plan: MixPlan, views: BatchViews) -> tuple[Gathered, list[int] | None]:
        """Return second views by sample, and the samples that have one of their own; None if first views are used."""
        shared = plan.shares_views or not views.has_seconds
        if len(plan) == 1 and shared and len(plan.layers):
            self._once.warn(
                "a batch of one",
                "a batch of one sample came out unmixed, because it has no partner and no second view. To leave out a "
                "last batch that is too small, use DataLoader(drop_last=True)",
            )
        if shared and self.config.pairing != "random":
            self._warn_alone(plan)
        if plan.shares_views or not len(plan.layers):
            return views.first.gathered, None
        if not views.has_seconds:
            if self.config.p_self > 0:
                parts = "layers" if plan.is_layered else "images"
                self._once.warn(
                    "unmixed",
                    f"p_self={self.config.p_self}, but the samples have no second view to be mixed with, so about "
                    f"{self.config.p_self:.0%} of the {parts} come out unmixed. Pass transform=, wrap the dataset in "
                    "TwoViews, or set p_self=0",
                )
            return views.first.gathered, None
        needed, seconds = views.seconds(plan.needs_second_view)
        first = views.first
        example, other = first.arrays[0], seconds.arrays[0]
        if (example.shape, example.dtype, first.planar) != (other.shape, other.dtype, seconds.planar):
            raise ValueError(
                f"second view of sample {needed[0]} is {other.dtype} {other.shape}, first view of sample 0 is "
                f"{example.dtype} {example.shape}: both must have the same shape, dtype and layout"
            )
        return by_sample(first.gathered, seconds.gathered, needed), needed

    def _warn_alone(self, plan: MixPlan) -> None:
        """Warn once if most samples stay unmixed, because they were found no partner but themselves."""
        alone = int(plan.alone.sum())
        if 1 < len(plan) < 2 * alone:
            self._once.warn(
                "alone",
                f"{alone} of {len(plan)} samples came out unmixed, because pairing={self.config.pairing!r} made them "
                "their own partners, and there are no second views. Draw batches with several samples of each class, "
                "or give samples a second view (transform=, TwoViews, second_view='independent')",
            )


def _of_planar(guide: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """Give `guide` views as (C, H, W), as the transform would make them."""
    return lambda view: guide(np.moveaxis(view, -1, 0) if view.ndim == 3 else view)


def _fitting(plan: MixPlan, n: int, height: int, width: int) -> MixPlan:
    """Return `plan`; raise ValueError unless it is for `n` images of this size."""
    if (len(plan), plan.height, plan.width) != (n, height, width):
        raise ValueError(
            f"the plan is for {len(plan)} images of {plan.height} x {plan.width} pixels, got {n} of {height} x {width}"
        )
    return plan


def _check_keys(name: str, keys: Any) -> tuple[str, str]:
    if not isinstance(keys, (tuple, list)) or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise TypeError(f"{name} must be a pair of names (image, label), got {keys!r}")
    if keys[0] == keys[1]:
        raise ValueError(f"{name} must be two different names, got {keys!r}")
    return keys[0], keys[1]
