"""The controls of `explore`, and the configuration that they show."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from miamix_cpu.config import METHODS, MiAMixConfig


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control of the page: a slider from `low` to `high`, one of `choices`, or a box to tick.

    `name` is that of a field ("k_max", "fmix.decay"), or of a part of one ("weights.cutmix", "gridmix.cells.low").
    """

    name: str
    words: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()


#: Every control, by heading. A weight of 0 leaves a method out, so that `methods` needs no control of its own.
GROUPS = {
    "Layers": (
        Control(name="k_min", words="The fewest masks per image.", low=1, high=8, step=1),
        Control(name="k_max", words="The most masks per image.", low=1, high=8, step=1),
        Control(
            name="alpha", words="Small: one layer takes nearly all, or none. Large: even shares.",
            low=0.05, high=5, step=0.05,
        ),
    ),
    "Methods": tuple(
        Control(name=f"weights.{method}", words=words, low=0, high=10, step=0.5)
        for method, words in {
            "mixup": "How often a layer fades the whole image; 0 is never.",
            "cutmix": "A box.",
            "fmix": "Blobs, cut out of smooth noise.",
            "gridmix": "A grid of squares.",
            "gmix": "A round, soft spot.",
            "agmix": "A stretched, rotated, soft spot.",
        }.items()
    ),
    "Augmentation": (
        Control(name="p_aug", words="How often a mask is rotated and sheared.", low=0, high=1, step=0.05),
        Control(name="angle_max", words="The largest rotation, in degrees.", low=0, high=180, step=1),
        Control(name="shear_max", words="The largest shear.", low=0, high=3, step=0.05),
        Control(name="p_smooth", words="How often a mask is smoothed.", low=0, high=1, step=0.05),
        Control(
            name="smooth_max", words="The largest window, as a share of the shorter side.",
            low=0.005, high=1, step=0.005,
        ),
    ),
    "Output": (
        Control(
            name="p_self", words="How often an image is mixed with another view of itself.",
            low=0, high=1, step=0.05,
        ),
        Control(name="merge", words="The product of the masks, or the sum of their holes.", choices=("mul", "sum")),
        Control(
            name="lam_from", words="The label's weight: measured on the merged mask, or 1 - sum of the ratios.",
            choices=("merged", "orig"),
        ),
        Control(
            name="second_view", words="The partner as another view, or as the view that its own row mixes.",
            choices=("independent", "shared"),
        ),
    ),
    "Options of cutmix": (
        Control(name="cutmix.inside", words="Keep the box inside the image."),
        Control(name="cutmix.minmax", words="Draw each side from this range instead, like timm's cutmix_minmax."),
        Control(name="cutmix.minmax.low", words="The shortest side, as a share.", low=0, high=1, step=0.05),
        Control(name="cutmix.minmax.high", words="The longest.", low=0, high=1, step=0.05),
    ),
    "Options of fmix": (
        Control(name="fmix.decay", words="Small: many specks. Large: a few blobs.", low=0, high=8, step=0.1),
    ),
    "Options of gridmix": (
        Control(name="gridmix.cells.low", words="The fewest cells along the shorter side.", low=1, high=16, step=1),
        Control(name="gridmix.cells.high", words="The most cells.", low=1, high=16, step=1),
        Control(
            name="gridmix.pattern", words="A hole in every cell, or whole cells at random.",
            choices=("regular", "random"),
        ),
    ),
    "Options of gmix and agmix": (
        Control(
            name="gauss_scale", words="As wide as in the paper, or wide enough to cover the ratio.",
            choices=("paper", "area"),
        ),
        Control(name="agmix.q_max", words="How far the spot is stretched; 0 is round.", low=0, high=0.99, step=0.01),
    ),
}  # fmt: skip
CONTROLS = tuple(control for controls in GROUPS.values() for control in controls)

#: Configurations to start from.
PRESETS = {
    "Table 1 of the paper": MiAMixConfig(),
    **{f"plain {method}": MiAMixConfig.plain(method) for method in METHODS},
}
_MINMAX = (0.2, 0.8)  # shown while `cutmix.minmax` is None, as timm's users have it


def values_of(config: MiAMixConfig) -> dict[str, Any]:
    """What each control shows for `config`, by name."""
    fields = _leaves(config)
    weights = dict(zip(fields.pop("methods"), fields.pop("weights"), strict=True))
    fields |= {f"weights.{method}": weights.get(method, 0.0) for method in METHODS}
    minmax = fields["cutmix.minmax"]
    fields["cutmix.minmax"] = minmax is not None
    fields["cutmix.minmax.low"], fields["cutmix.minmax.high"] = minmax or _MINMAX
    fields["gridmix.cells.low"], fields["gridmix.cells.high"] = fields.pop("gridmix.cells")
    return fields


def config_of(values: dict[str, Any]) -> MiAMixConfig:
    """The configuration that the controls show.

    Raises
    ------
    TypeError, ValueError
        Those of MiAMixConfig.
    """
    fields = dict(values)
    weights = {method: fields.pop(f"weights.{method}") for method in METHODS}
    methods = tuple(method for method in METHODS if weights[method] != 0) or METHODS
    minmax = fields.pop("cutmix.minmax.low"), fields.pop("cutmix.minmax.high")
    fields["cutmix.minmax"] = minmax if fields["cutmix.minmax"] else None
    fields["gridmix.cells"] = fields.pop("gridmix.cells.low"), fields.pop("gridmix.cells.high")
    options: dict[str, dict[str, Any]] = {}
    for name in [name for name in fields if "." in name]:
        method, option = name.split(".")
        options.setdefault(method, {})[option] = fields.pop(name)
    made = {method: type(getattr(MiAMixConfig(), method))(**chosen) for method, chosen in options.items()}
    return MiAMixConfig(methods=methods, weights=tuple(weights[method] for method in methods), **made, **fields)


def preset_of(config: MiAMixConfig) -> str | None:
    """The name of the preset that `config` is, if any."""
    return next((name for name, preset in PRESETS.items() if preset == config), None)


def _leaves(config: MiAMixConfig) -> dict[str, Any]:
    """Every field and every option of a method, by dotted name."""
    leaves: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            leaves |= {
                f"{field.name}.{option.name}": getattr(value, option.name) for option in dataclasses.fields(value)
            }
        else:
            leaves[field.name] = value
    return leaves
