"""The controls of `explore`, and the configuration that they show."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.masks import method_of
from miamix_cpu.methods import METHODS, PAIRINGS
from miamix_cpu.options import GUIDES
from miamix_cpu.recipes import RECIPES


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


def _words_of(method: str) -> str:
    """What a method is, in one sentence: the first line of its module."""
    title = str(method_of(METHODS.index(method)).__doc__).partition("\n")[0]
    words = title.partition(": ")[2]
    return words[:1].upper() + words[1:]


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
        Control(name=f"weights.{method}", words=_words_of(method), low=0, high=10, step=0.5) for method in METHODS
    ),
    "Ratios": (
        Control(name="ratio_range.low", words="The smallest ratio.", low=0, high=1, step=0.05),
        Control(name="ratio_range.high", words="The largest.", low=0, high=1, step=0.05),
        *(
            Control(name=f"alpha.{method}", words="0: as alpha above.", low=0, high=5, step=0.05)
            for method in METHODS
        ),
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
        Control(
            name="pairing", words="Any two images of the batch, two of one class, or of two classes.", choices=PAIRINGS
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
    "Options of hmix, smoothmix, resizemix": (
        Control(
            name="hmix.share", words="The part of the ratio that the box takes; the rest is blended.",
            low=0, high=1, step=0.05,
        ),
        Control(name="smoothmix.sigma.low", words="The narrowest spot, as a share.", low=0, high=2, step=0.05),
        Control(name="smoothmix.sigma.high", words="The widest.", low=0, high=2, step=0.05),
        Control(name="resizemix.tau.low", words="The smallest copy, as a share of the side.", low=0, high=1, step=0.05),
        Control(name="resizemix.tau.high", words="The largest.", low=0, high=1, step=0.05),
        Control(
            name="resizemix.tau_from", words="From this range, or from the ratio.", choices=("uniform", "alpha")
        ),
    ),
    "Options of guided methods": (
        Control(name="saliencymix.guide", words="How the partner's content is found.", choices=GUIDES),
        Control(name="attentivecutmix.guide", words="Likewise.", choices=GUIDES),
        Control(name="attentivecutmix.grid", words="Cells along each side.", low=1, high=16, step=1),
        Control(name="attentivecutmix.cells", words="How many of them are cut out.", low=0, high=64, step=1),
        Control(name="attentivecutmix.cells.by_ratio", words="As many as the ratio says instead."),
        Control(name="guidedmixup.guide", words="How the content of both views is found.", choices=GUIDES),
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
    **{name: MiAMixConfig.recipe(name) for name, recipe in RECIPES.items() if "mixes" not in recipe.fields},
}
_MINMAX = (0.2, 0.8)  # shown while `cutmix.minmax` is None, as timm's users have it
_CELLS = 6  # shown while `attentivecutmix.cells` is "ratio"
_RANGES = ("gridmix.cells", "ratio_range", "smoothmix.sigma", "resizemix.tau")


def values_of(config: MiAMixConfig) -> dict[str, Any]:
    """What each control shows for `config`, by name."""
    fields = _leaves(config)
    del fields["mixes"], fields["partners"]  # the page shows mixed images, and one partner of each
    methods = fields.pop("methods")
    weights = dict(zip(methods, fields.pop("weights"), strict=True))
    alphas = dict(zip(methods, config.alpha, strict=True)) if isinstance(config.alpha, tuple) else {}
    fields["alpha"] = 1.0 if alphas else config.alpha
    fields |= {f"weights.{method}": weights.get(method, 0.0) for method in METHODS}
    fields |= {f"alpha.{method}": alphas.get(method, 0.0) for method in METHODS}
    minmax = fields["cutmix.minmax"]
    fields["cutmix.minmax"] = minmax is not None
    fields["cutmix.minmax.low"], fields["cutmix.minmax.high"] = minmax or _MINMAX
    cells = fields["attentivecutmix.cells"]
    fields["attentivecutmix.cells.by_ratio"] = isinstance(cells, str)
    fields["attentivecutmix.cells"] = _CELLS if isinstance(cells, str) else cells
    for name in _RANGES:
        fields[f"{name}.low"], fields[f"{name}.high"] = fields.pop(name)
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
    alphas = {method: fields.pop(f"alpha.{method}") for method in METHODS}
    methods = tuple(method for method in METHODS if weights[method] != 0) or METHODS
    if any(alphas[method] for method in methods):
        fields["alpha"] = tuple(alphas[method] or fields["alpha"] for method in methods)
    minmax = fields.pop("cutmix.minmax.low"), fields.pop("cutmix.minmax.high")
    fields["cutmix.minmax"] = minmax if fields["cutmix.minmax"] else None
    if fields.pop("attentivecutmix.cells.by_ratio"):
        fields["attentivecutmix.cells"] = "ratio"
    for name in _RANGES:
        fields[name] = fields.pop(f"{name}.low"), fields.pop(f"{name}.high")
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
