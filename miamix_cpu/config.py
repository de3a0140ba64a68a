"""The configuration of MiAMix. The defaults are Table 1 of the paper, and values are checked on construction."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from miamix_cpu.checks import check_choice, check_integer, check_real, short
from miamix_cpu.methods import METHODS, PAIRINGS, by_method, check_method, check_name, ones
from miamix_cpu.options import (
    OPTIONS,
    AGMixOptions,
    AttentiveCutMixOptions,
    CutMixOptions,
    FMixOptions,
    GridMixOptions,
    GuidedMixupOptions,
    HMixOptions,
    ResizeMixOptions,
    SaliencyMixOptions,
    SmoothMixOptions,
    range_of,
    set_fields,
)
from miamix_cpu.recipes import RECIPES

Init = TypeVar("Init", bound=Callable[..., None])

#: Side of the largest smoothing window in pixels; its square fits into a signed 16-bit integer.
LARGEST_WINDOW = 181


@dataclass(frozen=True, kw_only=True)
class MiAMixConfig:
    """All settings of MiAMix. The defaults are those of Table 1 of the paper.

    Parameters
    ----------
    alpha : float, or one for each of `methods`: a tuple, an array, or a mapping from their names
        Concentration of the Dirichlet distribution from which the ratios are drawn (eq. 9), above 0. The ratios of k
        layers are the first k components of Dir(alpha_1, .., alpha_k, alpha_1 + .. + alpha_k), where alpha_j is that
        of layer j's method. An array or a mapping is kept as a tuple.
    k_min, k_max : int
        The number of layers is uniform on {k_min, .., k_max}. For a fixed k, set k_min = k_max (Table 5).
    methods : tuple of str
        Any of "mixup", "cutmix", "fmix", "gridmix", "gmix", "agmix", "hmix", "smoothmix", "resizemix", "saliencymix",
        "attentivecutmix", "guidedmixup".
    weights : tuple or array of float, or a mapping from the names of `methods`
        Relative frequency with which each of `methods` is drawn. An array or a mapping is kept as a tuple.
    ratio_range : (float, float)
        (low, high), 0 <= low <= high <= 1: a ratio r that was drawn becomes low + (high - low) * r. Methods that draw
        the size of their hole themselves (smoothmix, resizemix, cutmix.minmax) are not affected.
    pairing : "random", "same_class", "other_class" or callable
        Who is mixed with whom, in each batch. "random" is a random derangement. "same_class" is one within each class;
        a sample that is alone in its class is its own partner. "other_class" is one whose partners have another class,
        for as many samples as can be: all, if no class has more than half of the batch. The class of a label that is a
        vector is its largest entry. A callable is called with a copy of the labels, int64 (N,) or float32 (N, C), or
        for numbers (`num_classes=None`) float32 of their shape, and the plan's numpy.random.Generator. It returns N
        partners, integers in [0, N). Define it in a module, so that it can be sent to worker processes.
    p_self : float
        Probability that a sample is mixed with another view of itself, whatever its partner.
    p_aug : float
        Probability that a mask of cutmix, fmix, gridmix or saliencymix is rotated and sheared.
    p_smooth : float
        Probability, independent of `p_aug`, that such a mask, or one of hmix or attentivecutmix, is smoothed by an
        average filter.
    merge : "mul" or "sum"
        How layers are merged: "mul" multiplies the masks (eq. 10), "sum" adds the holes and clips the sum (eq. 11).
    lam_from : "merged" or "orig"
        Weight of a sample's own label: "merged" is the mean of the final mask (eq. 12), "orig" is 1 - sum of the ratios
        (Table 7).
    gauss_scale : "paper" or "area"
        Standard deviation of gmix and agmix: "paper" is sqrt(ratio) times the side (eq. 4). With "area", the unclipped
        hole covers `ratio` of the image.
    second_view : "independent" or "shared"
        "independent" mixes in another random view of the partner. "shared" mixes in the partner's first view, which is
        also used when the partner itself is mixed.
    partners : "sample" or "layer"
        "sample": all layers of a sample show the same partner, as in the paper. "layer": each layer brings its own. The
        weights of the first view and of the layers' partners sum to 1 at each pixel, and their means weigh the labels.
    mixes : "images" or "features"
        "features" leaves the images unmixed: `ManifoldMixup` mixes a hidden layer of the network by the same plan.
        There are no second views then: the features of the partner's first view are mixed in.
    angle_max : float
        Masks are rotated by an angle from U(-angle_max, angle_max) in degrees, 0 to 180.
    shear_max : float
        Masks are sheared by a factor from U(-shear_max, shear_max), 0 to 10.
    smooth_max : float
        The largest smoothing window as a share of the shorter side, above 0 and at most 1. Windows are odd, at least 3
        and at most 181 pixels wide.
    cutmix : CutMixOptions
        Options of this method, like the next nine.
    fmix : FMixOptions
    gridmix : GridMixOptions
    agmix : AGMixOptions
    hmix : HMixOptions
    smoothmix : SmoothMixOptions
    resizemix : ResizeMixOptions
    saliencymix : SaliencyMixOptions
    attentivecutmix : AttentiveCutMixOptions
    guidedmixup : GuidedMixupOptions

    Raises
    ------
    TypeError, ValueError
        If a value has the wrong type or is out of range. The message names the parameter and the value.

    Examples
    --------
    >>> MiAMixConfig().weights
    (2.0, 1.0, 1.0, 1.0, 1.0)
    >>> MiAMixConfig(k_max=4).replace(merge="sum").k_max
    4
    >>> MiAMixConfig.plain("cutmix").p_self
    0.0
    """

    alpha: float | tuple[float, ...] = 1.0
    k_min: int = 1
    k_max: int = 2
    methods: tuple[str, ...] = ("mixup", "cutmix", "fmix", "gridmix", "agmix")
    weights: tuple[float, ...] = (2.0, 1.0, 1.0, 1.0, 1.0)
    ratio_range: tuple[float, float] = (0.0, 1.0)
    pairing: str | Callable[[np.ndarray, np.random.Generator], Any] = "random"
    p_self: float = 0.10
    p_aug: float = 0.25
    p_smooth: float = 0.5
    merge: str = "mul"
    lam_from: str = "merged"
    gauss_scale: str = "paper"
    second_view: str = "independent"
    partners: str = "sample"
    mixes: str = "images"
    angle_max: float = 180.0
    shear_max: float = 0.5
    smooth_max: float = 0.25
    cutmix: CutMixOptions = field(default_factory=CutMixOptions)
    fmix: FMixOptions = field(default_factory=FMixOptions)
    gridmix: GridMixOptions = field(default_factory=GridMixOptions)
    agmix: AGMixOptions = field(default_factory=AGMixOptions)
    hmix: HMixOptions = field(default_factory=HMixOptions)
    smoothmix: SmoothMixOptions = field(default_factory=SmoothMixOptions)
    resizemix: ResizeMixOptions = field(default_factory=ResizeMixOptions)
    saliencymix: SaliencyMixOptions = field(default_factory=SaliencyMixOptions)
    attentivecutmix: AttentiveCutMixOptions = field(default_factory=AttentiveCutMixOptions)
    guidedmixup: GuidedMixupOptions = field(default_factory=GuidedMixupOptions)

    def __post_init__(self) -> None:
        set_fields(
            self,
            k_min=check_integer("k_min", self.k_min, low=1),
            k_max=check_integer("k_max", self.k_max, low=1),
        )
        if self.k_min > self.k_max:
            raise ValueError(f"k_min must be at most k_max={self.k_max}, got {self.k_min}")
        self._check_methods()
        set_fields(self, ratio_range=range_of("ratio_range", self.ratio_range, 0.0, 1.0))
        if not callable(self.pairing):
            if not isinstance(self.pairing, str):
                raise TypeError(
                    f"pairing must be {', '.join(map(repr, PAIRINGS))} or callable, got {short(self.pairing)}"
                )
            check_name(self.pairing, PAIRINGS, "pairing")
        for name in ("p_self", "p_aug", "p_smooth"):
            set_fields(self, **{name: check_real(name, getattr(self, name), high=1.0)})
        check_choice("merge", self.merge, ("mul", "sum"))
        check_choice("lam_from", self.lam_from, ("merged", "orig"))
        check_choice("gauss_scale", self.gauss_scale, ("paper", "area"))
        check_choice("second_view", self.second_view, ("independent", "shared"))
        check_choice("partners", self.partners, ("sample", "layer"))
        check_choice("mixes", self.mixes, ("images", "features"))
        if self.mixes == "features" and self.partners == "layer":
            raise ValueError('mixes="features" has one partner a sample: it can\'t be combined with partners="layer"')
        if self.mixes == "features" and self.p_self > 0:
            raise ValueError(
                f'mixes="features" has no second views that a sample could be mixed with itself by: set p_self=0, got '
                f"{self.p_self}"
            )
        if self.mixes == "features" and "resizemix" in self.methods:
            raise ValueError('mixes="features" can\'t be combined with resizemix, which pastes a resized image')
        set_fields(
            self,
            angle_max=check_real("angle_max", self.angle_max, high=180.0),
            shear_max=check_real("shear_max", self.shear_max, high=10.0),
            smooth_max=check_real("smooth_max", self.smooth_max, high=1.0, above=True),
        )
        for name, kind in OPTIONS.items():
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}")

    def _check_methods(self) -> None:
        if isinstance(self.methods, str) or not isinstance(self.methods, Iterable):
            kind = "the string " if isinstance(self.methods, str) else ""
            names = f"({self.methods!r},)" if self.methods in METHODS else "('mixup', 'cutmix')"
            raise TypeError(
                f"methods must be a tuple of names, got {kind}{short(self.methods)}: set, for example, methods={names}"
            )
        methods = tuple(self.methods)
        if not methods:
            raise ValueError("methods must name at least one method, got none")
        for name in methods:
            check_method(name)
        if len(set(methods)) < len(methods):
            raise ValueError(f"methods must not contain a name twice, got {methods!r}")
        weights = by_method("weights", self.weights, methods)
        if len(weights) != len(methods):
            kept = ", because methods were set but not weights" if weights == _DEFAULT_WEIGHTS else ""
            raise ValueError(
                f"weights must have one number for each of {methods!r}, got {len(weights)}{kept}: set, for example, "
                f"weights={ones(methods)}"
            )
        weights = tuple(check_real("weights", weight) for weight in weights)
        if sum(weights) == 0:
            raise ValueError(f"weights must not all be 0, got {weights!r}")
        alpha: Any = self.alpha
        if isinstance(alpha, (tuple, list, np.ndarray, Mapping)):
            alpha = by_method("alpha", alpha, methods)
            if len(alpha) != len(methods):
                raise ValueError(f"alpha must be a number, or one for each of {methods!r}, got {len(alpha)}")
            alpha = tuple(check_real("alpha", value, above=True) for value in alpha)
        else:
            alpha = check_real("alpha", alpha, above=True)
        set_fields(self, methods=methods, weights=weights, alpha=alpha)

    @classmethod
    def plain(cls, *methods: str, **changes: Any) -> MiAMixConfig:
        """Return a published baseline: one layer of one of these methods, no mask augmentation, one view per sample.

        Parameters
        ----------
        *methods : str
            Names of one or more methods; a sample is mixed by one of them, each with the same probability.
        **changes
            Other fields to set, e.g. `alpha=0.2`, or `weights={"mixup": 1, "cutmix": 3}`.

        Examples
        --------
        >>> MiAMixConfig.plain("mixup", "cutmix", alpha={"mixup": 0.8, "cutmix": 1.0}).alpha
        (0.8, 1.0)
        """
        for name in methods:
            check_method(name)
        fields: dict[str, Any] = {
            "methods": methods, "weights": (1.0,) * len(methods), "k_min": 1, "k_max": 1,
            "p_self": 0.0, "p_aug": 0.0, "p_smooth": 0.0, "second_view": "shared",
        }  # fmt: skip
        return cls(**{**fields, **changes})

    @classmethod
    def recipe(cls, name: str, **changes: Any) -> MiAMixConfig:
        """Return a published setting by its name; `recipes` lists them.

        Parameters
        ----------
        name : str
        **changes
            Other fields to set.

        Examples
        --------
        >>> MiAMixConfig.recipe("deit") == MiAMixConfig.plain("mixup", "cutmix", alpha=(0.8, 1.0))
        True
        """
        check_name(name, tuple(RECIPES), "recipe")
        recipe = RECIPES[name]
        make = functools.partial(cls.plain, *recipe.plain) if recipe.plain else cls
        return make(**{**recipe.fields, **changes})

    @staticmethod
    def recipes() -> dict[str, str]:
        """Return the source of each recipe, by name."""
        return {name: recipe.source for name, recipe in RECIPES.items()}

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """Cumulative shares of the weights by method code, float64 (number of METHODS,); must not be modified."""
        weights = dict(zip(self.methods, self.weights, strict=True))
        shares = np.cumsum([weights.get(name, 0.0) for name in METHODS])
        # Infinite from the last method with a weight on, so that no uniform number can go past it.
        return np.where(shares == shares[-1], np.inf, shares / shares[-1])

    @functools.cached_property
    def alphas(self) -> np.ndarray | float:
        """The concentration: one number, or one by method code, float64 (number of METHODS,); must not be modified."""
        if isinstance(self.alpha, float):
            return self.alpha
        alphas = dict(zip(self.methods, self.alpha, strict=True))
        return np.array([alphas.get(name, 1.0) for name in METHODS])

    def replace(self, **changes: Any) -> MiAMixConfig:
        """Return a copy with some fields changed, after checking it."""
        return dataclasses.replace(self, **changes)


_DEFAULT_WEIGHTS = MiAMixConfig.__dataclass_fields__["weights"].default


def names_fields(init: Init) -> Init:
    """Make a constructor that takes a `config` raise a helpful TypeError if it gets a field of MiAMixConfig instead."""
    known = inspect.signature(init).parameters
    fields = {field.name for field in dataclasses.fields(MiAMixConfig)} - set(known)

    @functools.wraps(init)
    def named(self: Any, *arguments: Any, **options: Any) -> None:
        for name in options:
            if name in fields:
                raise TypeError(
                    f"{name} is a field of MiAMixConfig: {type(self).__name__}(..., config=MiAMixConfig({name}=...))"
                )
        init(self, *arguments, **options)

    return cast(Init, named)
