"""The record of everything random about one batch, drawn before anything is rendered."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from miamix_cpu import __version__
from miamix_cpu.config import LARGEST_WINDOW, METHODS
from miamix_cpu.masks import method_of
from miamix_cpu.options import GUIDES

#: One record a layer. Lengths are shares of the image's sides unless said otherwise; fields that a method does not
#: use are 0. `height` and `width` are the sides of cutmix's box, the side share of gridmix's holes, or the standard
#: deviations of gmix, agmix and smoothmix along their own axes.
LAYER = np.dtype(
    [
        ("sample", "<i8"),  # the sample it belongs to
        ("method", "u1"),  # index into config.METHODS
        ("ratio", "<f8"),  # lambda_j, the nominal mean of the hole
        ("cy", "<f8"),  # the hole's centre; gridmix: the phase of its grid, in cells
        ("cx", "<f8"),
        ("height", "<f8"),
        ("width", "<f8"),
        ("level", "<f8"),  # hmix: the hole outside of its box
        ("augmented", "?"),  # rotated by `angle` and sheared by `shear`
        ("angle", "<f8"),  # radians, from +x towards +y; agmix: of the Gaussian's first axis
        ("shear", "<f8"),
        ("window", "<i8"),  # side of the average filter in pixels, odd; 0 for none
        ("cells", "<i8"),  # gridmix: cells along the shorter side; attentivecutmix: along each side
        ("guide", "u1"),  # how guides are computed: 1 + index into options.GUIDES
        ("decay", "<f8"),  # fmix: power by which amplitudes fall
        ("dither", "<f8"),  # in [0, 1): rounds a count of pixels or cells without bias
        ("start", "<i8"),  # its block of `coefficients`: first index, rows, columns
        ("rows", "<i8"),
        ("columns", "<i8"),
        ("is_field", "?"),  # the block has one number a pixel or a cell: fmix's field itself, cells, guidedmixup's hole
    ]
)

_FORMAT = 3
_LARGEST = 1e6  # of any number in a plan; what is drawn stays far below


def block_sizes(layers: np.ndarray, dtype: Any = np.int64) -> np.ndarray:
    """How many numbers each layer has in `coefficients`: two a harmonic, or one a pixel or a cell (`is_field`).

    Parameters
    ----------
    layers : `LAYER` (L,)
    dtype : int64 or float64

    Returns
    -------
    dtype (L,)
    """
    cells: np.ndarray = layers["rows"].astype(dtype) * layers["columns"].astype(dtype)
    numbers: np.ndarray = np.where(layers["is_field"], cells, 2 * cells)
    return numbers


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
    partner : int64 (n,)
        `partner[i]` is the sample whose second view shows through the holes of sample i; i itself for a self-pair.
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

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.partner)

    @property
    def mixed(self) -> np.ndarray:
        """bool (n,): the samples that have a layer."""
        return self.first_layer[1:] > self.first_layer[:-1]

    @property
    def needs_second_view(self) -> list[int]:
        """The samples that are the partner of a mixed one, in order; none where features are mixed."""
        if self.mixes == "features":
            return []
        ends = self.first_layer.tolist()
        return sorted({t for t, start, end in zip(self.partner.tolist(), ends, ends[1:], strict=False) if end > start})

    @property
    def shares_views(self) -> bool:
        """Whether a partner's first view is mixed in."""
        return self.second_view == "shared" or self.mixes == "features"

    def layers_of(self, i: int) -> np.ndarray:
        """The layers of sample `i`, a view into `layers`."""
        return self.layers[self.first_layer[i] : self.first_layer[i + 1]]

    def describe(self, i: int) -> str:
        """What happens to sample `i`, in one line.

        Raises
        ------
        IndexError
            Where there is no such sample.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"sample must be in [0, {len(self) - 1}], got {i}")
        layers = self.layers_of(i)
        if not len(layers):
            return f"sample {i}, not mixed"
        partner = int(self.partner[i])
        who = "another view of itself" if partner == i else f"sample {partner}"
        if partner == i and self.shares_views:
            who = "itself"
        words = " then ".join(describe_layer(layer) for layer in layers)
        return f"sample {i} with {who}: {words}"

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
        )

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
        plan._check()
        return plan

    def _check(self) -> None:
        n, layers = len(self.partner), self.layers
        sizes = np.diff(self.first_layer)
        rows, columns = layers["rows"].astype(np.int64), layers["columns"].astype(np.int64)
        ends = layers["start"] + block_sizes(layers, np.float64)  # in which nothing overflows
        names = ("ratio", "cy", "cx", "height", "width", "level", "angle", "shear", "decay", "dither")
        numbers = [layers[name] for name in names]
        rules = (
            (self.height >= 1 and self.width >= 1, "height and width must be at least 1"),
            (self.merge in ("mul", "sum"), "merge must be 'mul' or 'sum'"),
            (self.lam_from in ("merged", "orig"), "lam_from must be 'merged' or 'orig'"),
            (self.second_view in ("independent", "shared"), "second_view must be 'independent' or 'shared'"),
            (self.mixes in ("images", "features"), "mixes must be 'images' or 'features'"),
            (0 <= self.depth < 1, "depth must be in [0, 1)"),
            (self.key is None or len(self.key) == 16, "key must be 16 bytes"),
            (n >= 1 and self.partner.ndim == 1, "partner must be one-dimensional and not empty"),
            (bool(np.all((self.partner >= 0) & (self.partner < n))), "partner must be a sample of the batch"),
            (
                self.first_layer.shape == (n + 1,)
                and self.first_layer[0] == 0
                and self.first_layer[-1] == len(layers)
                and bool(np.all(sizes >= 0)),
                "first_layer must rise from 0 to the number of layers",
            ),
            (bool(np.all(layers["method"] < len(METHODS))), "method must be a known code"),
            (all(bool(np.all(np.abs(c) <= _LARGEST)) for c in numbers), f"layers must be finite, at most {_LARGEST:g}"),
            (bool(np.all(layers["decay"] >= 0)), "decay must be at least 0"),
            (bool(np.all((layers["ratio"] >= 0) & (layers["ratio"] <= 1))), "ratio must be in [0, 1]"),
            (bool(np.all((layers["level"] >= 0) & (layers["level"] <= 1))), "level must be in [0, 1]"),
            (bool(np.all(layers["guide"] <= len(GUIDES))), "guide must be a known code"),
            (bool(np.all((layers["dither"] >= 0) & (layers["dither"] < 1))), "dither must be in [0, 1)"),
            (bool(np.all((layers["window"] == 0) | (layers["window"] % 2 == 1))), "window must be odd"),
            (
                bool(np.all((layers["window"] >= 0) & (layers["window"] <= LARGEST_WINDOW))),
                f"window must be at most {LARGEST_WINDOW}",
            ),
            (bool(np.all((rows >= 0) & (columns >= 0) & (layers["start"] >= 0))), "blocks must not be negative"),
            (bool(np.all(ends <= len(self.coefficients))), "blocks must lie inside coefficients"),
            (bool(np.all(np.abs(self.coefficients) <= _LARGEST)), f"coefficients must be finite, at most {_LARGEST:g}"),
        )
        for holds, words in rules:
            if not holds:
                raise ValueError(words)
        for code in np.unique(layers["method"]).tolist():
            if self.mixes == "features" and getattr(method_of(code), "RESIZES", False):
                raise ValueError(f"mixes must be 'images' for {METHODS[code]}, which pastes a resized image")
            of_method = getattr(method_of(code), "rules", None)
            if of_method is not None:
                own = of_method(layers[layers["method"] == code], self.coefficients, self.height, self.width)
                for holds, words in own:
                    if not holds:
                        raise ValueError(words)


def describe_layer(layer: np.void) -> str:
    """One layer in words, e.g. "cutmix 0.31 (rotated 40 deg, sheared 0.20, smoothed 5 px)"."""
    own = getattr(method_of(int(layer["method"])), "details", None)
    details = [] if own is None else own(layer)
    if layer["augmented"]:
        details.append(f"rotated {math.degrees(layer['angle']):.0f} deg, sheared {layer['shear']:.2f}")
    if layer["window"]:
        details.append(f"smoothed {layer['window']} px")
    return f"{METHODS[layer['method']]} {layer['ratio']:.2f}" + (f" ({', '.join(details)})" if details else "")
