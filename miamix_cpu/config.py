"""The configuration of MiAMix. The defaults are Table 1 of the paper, and values are checked on construction."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeVar, cast

import numpy as np

from miamix_cpu.checks import check_bool, check_choice, check_integer, check_real, short

Init = TypeVar("Init", bound=Callable[..., None])

#: Names of the mask generators; the index of a name is its code in a plan.
METHODS = ("mixup", "cutmix", "fmix", "gridmix", "gmix", "agmix")
MIXUP, CUTMIX, FMIX, GRIDMIX, GMIX, AGMIX = range(len(METHODS))

#: Side of the largest smoothing window in pixels; its square fits into a signed 16-bit integer.
LARGEST_WINDOW = 181


@dataclass(frozen=True, kw_only=True)
class CutMixOptions:
    """Options of cutmix.

    Parameters
    ----------
    inside : bool
        If False, the centre of the box is uniform over the image, and the box is clipped at the border. If True, the
        whole box lies inside the image.
    minmax : (float, float) or None
        If given, each side of the box is drawn independently and uniformly from this range, as a share of the image's
        side, and the box lies inside the image, as with timm's `cutmix_minmax`. The area of the box then replaces the
        drawn ratio.
    """

    inside: bool = False
    minmax: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_bool("cutmix.inside", self.inside)
        if self.minmax is not None:
            low, high = _range("cutmix.minmax", self.minmax)
            if not 0 <= low <= high <= 1:
                raise ValueError(f"cutmix.minmax must be (low, high) with 0 <= low <= high <= 1, got {self.minmax!r}")
            _set(self, minmax=(float(low), float(high)))


@dataclass(frozen=True, kw_only=True)
class FMixOptions:
    """Options of fmix.

    Parameters
    ----------
    decay : float
        Amplitudes fall as 1 / frequency^decay; 0 to 100. The FMix paper uses 3.
    """

    decay: float = 3.0

    def __post_init__(self) -> None:
        _set(self, decay=check_real("fmix.decay", self.decay, high=100.0))


@dataclass(frozen=True, kw_only=True)
class GridMixOptions:
    """Options of gridmix.

    Parameters
    ----------
    cells : (int, int)
        Range of the number of cells along the shorter side, both ends included.
    pattern : "regular" or "random"
        "regular" puts one square hole in each cell, sqrt(ratio) times as wide as the cell, at a random phase. "random"
        chooses whole cells of an n x n grid at random.
    """

    cells: tuple[int, int] = (2, 6)
    pattern: str = "regular"

    def __post_init__(self) -> None:
        low, high = _range("gridmix.cells", self.cells)
        check_integer("gridmix.cells", low, low=1)
        check_integer("gridmix.cells", high, low=1)
        if low > high:
            raise ValueError(f"gridmix.cells must be (low, high) with low <= high, got {self.cells!r}")
        _set(self, cells=(int(low), int(high)))
        check_choice("gridmix.pattern", self.pattern, ("regular", "random"))


@dataclass(frozen=True, kw_only=True)
class AGMixOptions:
    """Options of agmix.

    Parameters
    ----------
    q_max : float
        The covariance q is drawn from U(-q_max, q_max), 0 <= q_max < 1. At 0.95 the longer axis is at most 6.2 times
        as long as the shorter one. As q_max approaches 1, the Gaussian degenerates to a line.
    """

    q_max: float = 0.95

    def __post_init__(self) -> None:
        _set(self, q_max=check_real("agmix.q_max", self.q_max, high=1.0, below=True))


@dataclass(frozen=True, kw_only=True)
class MiAMixConfig:
    """All settings of MiAMix. The defaults are those of Table 1 of the paper.

    Parameters
    ----------
    alpha : float
        Concentration of the Dirichlet distribution from which the ratios are drawn (eq. 9), above 0.
    k_min, k_max : int
        The number of layers is uniform on {k_min, .., k_max}. For a fixed k, set k_min = k_max (Table 5).
    methods : tuple of str
        Any of "mixup", "cutmix", "fmix", "gridmix", "gmix", "agmix".
    weights : tuple of float
        Relative frequency with which each of `methods` is drawn.
    p_self : float
        Probability that a sample is mixed with another view of itself.
    p_aug : float
        Probability that a mask of cutmix, fmix or gridmix is rotated and sheared.
    p_smooth : float
        Probability, independent of `p_aug`, that such a mask is smoothed by an average filter.
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
    angle_max : float
        Masks are rotated by an angle from U(-angle_max, angle_max) in degrees, 0 to 180.
    shear_max : float
        Masks are sheared by a factor from U(-shear_max, shear_max), 0 to 10.
    smooth_max : float
        The largest smoothing window as a share of the shorter side, above 0 and at most 1. Windows are odd, at least 3
        and at most 181 pixels wide.
    cutmix : CutMixOptions
        Options of this method, like the next three.
    fmix : FMixOptions
    gridmix : GridMixOptions
    agmix : AGMixOptions

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

    alpha: float = 1.0
    k_min: int = 1
    k_max: int = 2
    methods: tuple[str, ...] = ("mixup", "cutmix", "fmix", "gridmix", "agmix")
    weights: tuple[float, ...] = (2.0, 1.0, 1.0, 1.0, 1.0)
    p_self: float = 0.10
    p_aug: float = 0.25
    p_smooth: float = 0.5
    merge: str = "mul"
    lam_from: str = "merged"
    gauss_scale: str = "paper"
    second_view: str = "independent"
    angle_max: float = 180.0
    shear_max: float = 0.5
    smooth_max: float = 0.25
    cutmix: CutMixOptions = field(default_factory=CutMixOptions)
    fmix: FMixOptions = field(default_factory=FMixOptions)
    gridmix: GridMixOptions = field(default_factory=GridMixOptions)
    agmix: AGMixOptions = field(default_factory=AGMixOptions)

    def __post_init__(self) -> None:
        _set(
            self,
            alpha=check_real("alpha", self.alpha, above=True),
            k_min=check_integer("k_min", self.k_min, low=1),
            k_max=check_integer("k_max", self.k_max, low=1),
        )
        if self.k_min > self.k_max:
            raise ValueError(f"k_min must be at most k_max={self.k_max}, got {self.k_min}")
        self._check_methods()
        for name in ("p_self", "p_aug", "p_smooth"):
            _set(self, **{name: check_real(name, getattr(self, name), high=1.0)})
        check_choice("merge", self.merge, ("mul", "sum"))
        check_choice("lam_from", self.lam_from, ("merged", "orig"))
        check_choice("gauss_scale", self.gauss_scale, ("paper", "area"))
        check_choice("second_view", self.second_view, ("independent", "shared"))
        _set(
            self,
            angle_max=check_real("angle_max", self.angle_max, high=180.0),
            shear_max=check_real("shear_max", self.shear_max, high=10.0),
            smooth_max=check_real("smooth_max", self.smooth_max, high=1.0, above=True),
        )
        for name, kind in _OPTIONS.items():
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}")

    def _check_methods(self) -> None:
        if isinstance(self.methods, str):
            raise TypeError(f"methods must be a tuple of names, got the string {self.methods!r}")
        methods = tuple(self.methods)
        if not methods:
            raise ValueError("methods must name at least one method, got none")
        for name in methods:
            check_method(name)
        if len(set(methods)) < len(methods):
            raise ValueError(f"methods must not contain a name twice, got {methods!r}")
        weights = tuple(self.weights)
        if len(weights) != len(methods):
            kept = ", because methods were set but not weights" if weights == _DEFAULT_WEIGHTS else ""
            equal = f"({', '.join('1' for _ in methods)}{',' if len(methods) == 1 else ''})"
            raise ValueError(
                f"weights must have one number for each of {methods!r}, got {len(weights)}{kept}: set, for example, "
                f"weights={equal}"
            )
        for weight in weights:
            check_real("weights", weight)
        if sum(weights) == 0:
            raise ValueError(f"weights must not all be 0, got {weights!r}")
        _set(self, methods=methods, weights=tuple(float(weight) for weight in weights))

    @classmethod
    def plain(cls, method: str, **changes: Any) -> MiAMixConfig:
        """Return a published baseline: one method, one layer, no mask augmentation, one view per sample.

        Parameters
        ----------
        method : str
            Name of the method.
        **changes
            Other fields to set, e.g. `alpha=0.2`.
        """
        check_method(method)
        fields: dict[str, Any] = {
            "methods": (method,), "weights": (1.0,), "k_min": 1, "k_max": 1,
            "p_self": 0.0, "p_aug": 0.0, "p_smooth": 0.0, "second_view": "shared",
        }  # fmt: skip
        return cls(**{**fields, **changes})

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """Cumulative shares of the weights by method code, float64 (number of METHODS,); must not be modified."""
        weights = dict(zip(self.methods, self.weights, strict=True))
        shares = np.cumsum([weights.get(name, 0.0) for name in METHODS])
        # Infinite from the last method with a weight on, so that no uniform number can go past it.
        return np.where(shares == shares[-1], np.inf, shares / shares[-1])

    def replace(self, **changes: Any) -> MiAMixConfig:
        """Return a copy with some fields changed, after checking it."""
        return dataclasses.replace(self, **changes)


_DEFAULT_WEIGHTS = MiAMixConfig.__dataclass_fields__["weights"].default

_OPTIONS: dict[str, type] = {
    "cutmix": CutMixOptions,
    "fmix": FMixOptions,
    "gridmix": GridMixOptions,
    "agmix": AGMixOptions,
}


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


def check_method(name: Any) -> None:
    """Raise ValueError unless `name` is the name of a method; the message suggests a similar name, if any."""
    if name not in METHODS:
        near = difflib.get_close_matches(str(name).lower(), METHODS, n=1, cutoff=0.7)
        guess = f", did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"unknown method {short(name)}{guess} The methods are {', '.join(METHODS)}")


def _set(options: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass. Numbers are Python types: a kernel is compiled for each argument type."""
    for name, value in values.items():
        object.__setattr__(options, name, value)


def _range(name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(isinstance(v, Real) for v in value):
        raise TypeError(f"{name} must be a pair (low, high), got {value!r}")
    return value[0], value[1]
