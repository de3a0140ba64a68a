"""Options of single methods: parts of `MiAMixConfig`, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

from miamix_cpu.checks import check_bool, check_choice, check_integer, check_real, short


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
            set_fields(self, minmax=range_of("cutmix.minmax", self.minmax, 0.0, 1.0))


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
        set_fields(self, decay=check_real("fmix.decay", self.decay, high=100.0))


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
        low, high = pair_of("gridmix.cells", self.cells)
        check_integer("gridmix.cells", low, low=1)
        check_integer("gridmix.cells", high, low=1)
        if low > high:
            raise ValueError(f"gridmix.cells must be (low, high) with low <= high, got {self.cells!r}")
        set_fields(self, cells=(int(low), int(high)))
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
        set_fields(self, q_max=check_real("agmix.q_max", self.q_max, high=1.0, below=True))


@dataclass(frozen=True, kw_only=True)
class HMixOptions:
    """Options of hmix.

    Parameters
    ----------
    share : float in [0, 1]
        The share of the ratio that the box takes; the rest is blended over the image outside of it. 0 is mixup, 1 is
        cutmix whose clipped part is made up for by blending. The paper uses 0.5. Boxes are whole pixels: one may hold
        more than a small ratio, and then the mean is above the ratio.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        set_fields(self, share=check_real("hmix.share", self.share, high=1.0))


@dataclass(frozen=True, kw_only=True)
class SmoothMixOptions:
    """Options of smoothmix.

    Parameters
    ----------
    sigma : (float, float)
        (low, high): the standard deviation of the Gaussian hole is drawn from U(low, high), in shares of the sides. No
        ratio is drawn. The paper uses (0.25, 0.5).
    """

    sigma: tuple[float, float] = (0.25, 0.5)

    def __post_init__(self) -> None:
        set_fields(self, sigma=range_of("smoothmix.sigma", self.sigma, 0.0, 10.0))


@dataclass(frozen=True, kw_only=True)
class ResizeMixOptions:
    """Options of resizemix.

    Parameters
    ----------
    tau : (float, float)
        (low, high): the sides of the resized partner are drawn from U(low, high), in shares of the image's sides. The
        paper uses (0.1, 0.8).
    tau_from : "uniform" or "alpha"
        "uniform" draws from the range `tau`. "alpha" takes the square root of the ratio, which is drawn as for the
        other methods.
    """

    tau: tuple[float, float] = (0.1, 0.8)
    tau_from: str = "uniform"

    def __post_init__(self) -> None:
        set_fields(self, tau=range_of("resizemix.tau", self.tau, 0.0, 1.0))
        check_choice("resizemix.tau_from", self.tau_from, ("uniform", "alpha"))


#: How a view's guide, the map of where its content is, can be computed.
GUIDES = ("fine_grained", "spectral")


@dataclass(frozen=True, kw_only=True)
class SaliencyMixOptions:
    """Options of saliencymix.

    Parameters
    ----------
    guide : "fine_grained" or "spectral"
        How the partner's saliency is computed, unless the caller gives guides. The paper uses "fine_grained".
    """

    guide: str = "fine_grained"

    def __post_init__(self) -> None:
        check_choice("saliencymix.guide", self.guide, GUIDES)


@dataclass(frozen=True, kw_only=True)
class AttentiveCutMixOptions:
    """Options of attentivecutmix.

    Parameters
    ----------
    grid : int
        The guide is averaged over a grid of `grid` x `grid` cells, 1 to 64. The paper uses 7.
    cells : int or "ratio"
        The number of cells that are holes, those where the guide is largest, or "ratio" for the ratio's share of them.
        The paper uses 6.
    guide : "fine_grained" or "spectral"
        How the partner's saliency is computed, unless the caller gives guides. The paper uses the attention of a
        pretrained network, which is for the caller to give.
    """

    grid: int = 7
    cells: int | str = 6
    guide: str = "fine_grained"

    def __post_init__(self) -> None:
        grid = check_integer("attentivecutmix.grid", self.grid, low=1)
        if grid > LARGEST_GRID:
            raise ValueError(f"attentivecutmix.grid must be at most {LARGEST_GRID}, got {grid}")
        cells = self.cells
        if isinstance(cells, str):
            check_choice("attentivecutmix.cells", cells, ("ratio",))
        else:
            cells = check_integer("attentivecutmix.cells", cells, low=0)
            if cells > grid * grid:
                raise ValueError(f"attentivecutmix.cells must be at most grid * grid = {grid * grid}, got {cells}")
        set_fields(self, grid=grid, cells=cells)
        check_choice("attentivecutmix.guide", self.guide, GUIDES)


#: Of attentivecutmix: the largest number of cells along a side.
LARGEST_GRID = 64

#: Pixels along the longer side of the copy of a view on which its guide is computed.
LARGEST_GUIDE = 64


@dataclass(frozen=True, kw_only=True)
class GuidedMixupOptions:
    """Options of guidedmixup.

    Parameters
    ----------
    guide : "spectral" or "fine_grained"
        How the saliency of both views is computed, unless the caller gives guides. The paper uses "spectral".
    """

    guide: str = "spectral"

    def __post_init__(self) -> None:
        check_choice("guidedmixup.guide", self.guide, GUIDES)


#: The options of a method, by its name.
OPTIONS: dict[str, type] = {
    "cutmix": CutMixOptions,
    "fmix": FMixOptions,
    "gridmix": GridMixOptions,
    "agmix": AGMixOptions,
    "hmix": HMixOptions,
    "smoothmix": SmoothMixOptions,
    "resizemix": ResizeMixOptions,
    "saliencymix": SaliencyMixOptions,
    "attentivecutmix": AttentiveCutMixOptions,
    "guidedmixup": GuidedMixupOptions,
}


def guide_size(height: int, width: int) -> tuple[int, int]:
    """Return the size at which guides of images of this size are computed: the same shape, at most 64 pixels a side."""
    longer = max(height, width)
    if longer <= LARGEST_GUIDE:
        return height, width
    return max(1, round(height * LARGEST_GUIDE / longer)), max(1, round(width * LARGEST_GUIDE / longer))


def set_fields(options: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass. Numbers are Python types: a kernel is compiled for each argument type."""
    for name, value in values.items():
        object.__setattr__(options, name, value)


def pair_of(name: str, value: Any) -> tuple[Any, Any]:
    """Return `value` as (low, high); raise TypeError unless it is a pair of numbers."""
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(isinstance(v, Real) for v in value):
        example = f": set, for example, {name}=({value}, {value})" if isinstance(value, Real) else ""
        raise TypeError(f"{name} must be a pair (low, high), got {short(value)}{example}")
    return value[0], value[1]


def range_of(name: str, value: Any, least: float, most: float) -> tuple[float, float]:
    """Return `value` as two floats; raise ValueError unless least <= low <= high <= most."""
    low, high = pair_of(name, value)
    if not least <= low <= high <= most:
        raise ValueError(f"{name} must be (low, high) with {least:g} <= low <= high <= {most:g}, got {value!r}")
    return float(low), float(high)
