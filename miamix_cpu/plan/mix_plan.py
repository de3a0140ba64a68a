"""The record of everything random about one batch, drawn before anything is rendered."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from miamix_cpu import __version__
from miamix_cpu.methods import METHODS
from miamix_cpu.plan.drawn import DrawnViews
from miamix_cpu.plan.layers import LAYER, describe_layer
from miamix_cpu.plan.rules import check_plan

_FORMAT = 3
_VIEWS = ("first_views_", "second_views_")  # prefixes in a file


@dataclass(eq=False)
class MixPlan:
    """Everything random about one batch of `n` images of `height` x `width` pixels.

    Rendering is a pure function of a plan and the views: the same plan on the same views gives the same bytes.

    Attributes
    ----------
    height : int
        Of the images, in pixels.
    width : int
        Likewise.
    partner : int64 (n,), or (n, k) with partners="layer"
        `partner[i]` is the sample whose second view shows through the holes of sample i; i itself for a self-pair.
        `partner[i, j]` is that of its layer j alone.
    layers : structured array `LAYER` (number of layers,)
        One record a layer, ordered by sample. A sample without layers is not mixed.
    first_layer : int64 (n + 1,)
        `layers[first_layer[i]:first_layer[i + 1]]` are the layers of sample i.
    coefficients : float32 (m,)
        What does not fit a record: standard normals for fmix's harmonics, or fmix's field; for cells 1 where they are
        holes and 0 elsewhere; guidedmixup's hole. What depends on guides is 0 until the batch is rendered.
    merge : "mul" or "sum"
    lam_from : "merged" or "orig"
    second_view : "independent" or "shared"
    mixes : "images" or "features"
    depth : float in [0, 1)
        Which layer of the network is mixed, of those that `ManifoldMixup` has; 0 if images are mixed.
    key : bytes or None
        The 16 bytes it was drawn from (`MiAMixCollator`), None where the caller gave a generator.
    samples : bytes or None
        16 bytes that tell its samples from others (`MiAMixCollator`).
    views : tuple of DrawnViews
        How first and second views were made, where they are compiled (`compiled_views`); second ones only if needed.
    """

    height: int
    width: int
    partner: np.ndarray
    layers: np.ndarray
    first_layer: np.ndarray
    coefficients: np.ndarray
    merge: str = "mul"
    lam_from: str = "merged"
    second_view: str = "independent"
    mixes: str = "images"
    depth: float = 0.0
    key: bytes | None = None
    samples: bytes | None = None
    views: tuple[DrawnViews, ...] = ()

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.partner)

    @property
    def mixed(self) -> np.ndarray:
        """bool (n,): the samples that have a layer."""
        return self.first_layer[1:] > self.first_layer[:-1]

    @property
    def alone(self) -> np.ndarray:
        """bool (n,): the samples that have a layer, but no partner other than themselves."""
        alone: np.ndarray = self.mixed & (self.sources == np.arange(len(self))[:, None]).all(axis=1)
        return alone

    @property
    def needs_second_view(self) -> list[int]:
        """The samples that are the partner of a mixed one, in order; none where features are mixed."""
        if self.mixes == "features":
            return []
        if self.is_layered:
            return sorted(set(self.layers_partner.tolist()))
        ends = self.first_layer.tolist()
        return sorted({t for t, start, end in zip(self.partner.tolist(), ends, ends[1:], strict=False) if end > start})

    @property
    def is_layered(self) -> bool:
        """Whether each layer has a partner of its own (partners="layer")."""
        return self.partner.ndim == 2

    @property
    def layers_partner(self) -> np.ndarray:
        """int64 (number of layers,): the partner of each layer."""
        samples = self.layers_sample
        if not self.is_layered:
            partners: np.ndarray = self.partner[samples]
        else:
            partners = self.partner[samples, np.arange(len(samples)) - self.first_layer[samples]]
        return partners

    @property
    def layers_sample(self) -> np.ndarray:
        """int64 (number of layers,): the sample of each layer, by `first_layer`, whatever its record says."""
        return np.repeat(np.arange(len(self)), np.diff(self.first_layer))

    @property
    def masks_shape(self) -> tuple[int, ...]:
        """(n, height, width), or (n, k + 1, height, width) where each layer has a partner of its own."""
        views = (1 + self.partner.shape[1],) if self.is_layered else ()
        return (len(self), *views, self.height, self.width)

    @property
    def sources(self) -> np.ndarray:
        """int64 (n, k + 1): whose views are mixed in sample i, itself and then the partners of its layers.

        Places beyond the number of its layers have i itself, with the weight 0.
        """
        own = np.arange(len(self))
        if not self.is_layered:
            return np.stack([own, self.partner], axis=1)
        counts = np.diff(self.first_layer)[:, None]
        partners = np.where(np.arange(self.partner.shape[1]) < counts, self.partner, own[:, None])
        return np.concatenate([own[:, None], partners], axis=1)

    @property
    def shares_views(self) -> bool:
        """Whether a partner's first view is mixed in."""
        return self.second_view == "shared" or self.mixes == "features"

    def layers_of(self, i: int) -> np.ndarray:
        """The layers of sample `i`, a view into `layers`."""
        return self.layers[self.first_layer[i] : self.first_layer[i + 1]]

    def describe(self, i: int) -> str:
        """What happens to sample `i`, in one line; then, where views are compiled, how those that it shows were made.

        Raises
        ------
        IndexError
            Where there is no such sample.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"sample must be in [0, {len(self) - 1}], got {i}")
        first = self.views[0].describe(i) if self.views else ""
        made = f"; its view: {first}" if first else ""
        layers = self.layers_of(i)
        if not len(layers):
            return f"sample {i}, not mixed{made}"
        if len(self.views) > 1:
            for partner in dict.fromkeys(self.layers_partner[self.first_layer[i] : self.first_layer[i + 1]].tolist()):
                made += f"; the second view of sample {partner}: {self.views[1].describe(partner)}"
        itself = "itself" if self.shares_views else "another view of itself"
        partners = self.partner[i].reshape(-1).tolist()
        names = [itself if partner == i else f"sample {partner}" for partner in partners]
        if not self.is_layered:
            return f"sample {i} with {names[0]}: {' then '.join(map(describe_layer, layers))}{made}"
        words = [f"{describe_layer(layer)} with {name}" for layer, name in zip(layers, names, strict=False)]
        return f"sample {i}: {' then '.join(words)}{made}"

    def save(self, path: str | PathLike[str]) -> None:
        """Write the plan to `path` as npz, without pickle; `.npz` is appended where it is missing."""
        np.savez_compressed(
            path,
            format=np.int64(_FORMAT),
            version=np.array(__version__),
            methods=np.array(METHODS),
            size=np.array([self.height, self.width], dtype=np.int64),
            partner=self.partner,
            layers=self.layers,
            first_layer=self.first_layer,
            coefficients=self.coefficients,
            rules=np.array([self.merge, self.lam_from, self.second_view, self.mixes]),
            depth=np.float64(self.depth),
            key=np.frombuffer(self.key or b"", dtype=np.uint8),
            samples=np.frombuffer(self.samples or b"", dtype=np.uint8),
            **{name: part for which, views in zip(_VIEWS, self.views, strict=False)
               for name, part in views.parts(which).items()},
        )  # fmt: skip

    @classmethod
    def load(cls, path: str | PathLike[str]) -> MixPlan:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            Where there is no such file.
        ValueError
            Where the file is not a plan, or one that this version can't render.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                parts = {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a saved plan: it must be an .npz file that MixPlan.save wrote") from error
        return cls._from_parts(parts, str(path))

    @classmethod
    def _from_parts(cls, parts: dict[str, Any], path: str) -> MixPlan:
        try:
            if int(parts["format"]) != _FORMAT or tuple(parts["methods"].tolist()) != METHODS:
                raise ValueError(
                    f"miamix_cpu {parts.get('version', 'before 0.1.0')} saved it in another format, or with other "
                    f"methods, than {__version__} reads: draw it again, or render it with the version that saved it"
                )
            height, width = (int(side) for side in parts["size"])
            merge, lam_from, second_view, mixes = (str(rule) for rule in parts["rules"])
            plan = cls(
                height=height,
                width=width,
                partner=parts["partner"],
                layers=parts["layers"],
                first_layer=parts["first_layer"],
                coefficients=parts["coefficients"],
                merge=merge,
                lam_from=lam_from,
                second_view=second_view,
                mixes=mixes,
                depth=float(parts["depth"]),
                key=parts["key"].tobytes() or None,
                samples=parts["samples"].tobytes() or None if "samples" in parts else None,
                views=tuple(views for which in _VIEWS if (views := DrawnViews.from_parts(parts, which)) is not None),
            )
            plan = plan.checked()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a plan that can be rendered: {error}") from error
        return plan

    def checked(self) -> MixPlan:
        """The plan as kernels want it: they trust what they are given, and are compiled for one kind of array.

        Raises
        ------
        ValueError
            Unless it can be rendered.
        """
        plan = dataclasses.replace(
            self,
            partner=np.require(self.partner, np.int64, ["C", "W"]),
            layers=np.require(self.layers, LAYER, ["C", "W"]),
            first_layer=np.require(self.first_layer, np.int64, ["C", "W"]),
            coefficients=np.require(self.coefficients, np.float32, ["C", "W"]),
        )
        check_plan(plan)
        return plan
