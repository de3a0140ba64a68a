"""Methods by a short spelling, and the paper's tables as lists of them.

A method is a name with changes: `vanilla`, `mixup` (any plain baseline), `deit` (any recipe), `miamix`,
`miamix:merge=sum`, `miamix:k_min=3+k_max=3`, `miamix:weights=1/1/1/1/1`, `gridmix:gridmix.pattern=random`, and
`automix`, `automix:alpha=1`. All run through the same collator, which leaves AutoMix's images unmixed. Spellings of the
same configuration are one method: `miamix:p_self=0.1` is `miamix`, `rsb-a1` is `torchvision`.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.training.automix import AutoMixOptions
from miamix_cpu import MiAMixConfig, MixSchedule
from miamix_cpu.methods import METHODS
from miamix_cpu.recipes import RECIPES

_FIVE = MiAMixConfig().methods


@dataclass(frozen=True)
class Method:
    """What the collator is told.

    Parameters
    ----------
    spelling : str
        The shortest one of this configuration.
    config : MiAMixConfig
    probability : float
        Of mixing a sample; 0 for vanilla and automix, for which one view a sample and no mask is made.
    automix : AutoMixOptions, optional
        Only for automix, which mixes on the device.
    """

    spelling: str
    config: MiAMixConfig
    probability: float
    automix: AutoMixOptions | None = None

    @property
    def schedule(self) -> MixSchedule:
        """Constant."""
        return MixSchedule(probability=self.probability)

    def describe(self) -> dict[str, Any]:
        """For the JSON."""
        found = {"spelling": self.spelling, "probability": self.probability, "config": dataclasses.asdict(self.config)}
        return {**found, "automix": dataclasses.asdict(self.automix)} if self.automix else found

    def summary(self) -> str:
        """One line: the fields that differ from Table 1, or AutoMix's own."""
        if self.automix:
            chosen = ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(self.automix).items())
            return f"mixed on the device by a block that is trained along, {chosen}, one view a sample"
        if self.probability == 0:
            return "nothing is mixed, one view a sample"
        changed = _differences(MiAMixConfig(), self.config)
        return ", ".join(f"{name}={value!r}" for name, value in changed) or "Table 1"


def method(spelling: str) -> Method:
    """Read a spelling.

    Raises
    ------
    ValueError
        Where the name, a field or its value is wrong; the message names it.

    Examples
    --------
    >>> method("miamix:merge=sum+p_self=0").config.merge
    'sum'
    >>> method("miamix:p_self=0.10+k_max=3").spelling
    'miamix:k_max=3'
    >>> method("vanilla").probability
    0.0
    """
    name, _, text = spelling.partition(":")
    changes = text.split("+") if text else []
    if name == "vanilla":
        if changes:
            raise ValueError(f"vanilla takes no changes, got {spelling!r}")
        return Method(spelling, MiAMixConfig(), 0.0)
    if name == "automix":
        options = _changed(AutoMixOptions(), changes)
        return Method(_spelled(name, AutoMixOptions(), options), MiAMixConfig(), 0.0, options)
    config = _changed(_base(name), changes)
    if config.mixes == "features":
        raise ValueError(f'{spelling} mixes a hidden layer (mixes="features"), but images are mixed in this training')
    name = _known_as(name, config)
    return Method(_spelled(name, _base(name), config), config, 1.0)


def spelling_of(described: dict[str, Any]) -> str:
    """The spelling, by today's defaults, of what `Method.describe` once put into a JSON.

    Ranges of what has probability 0 change nothing, and are left out.

    Examples
    --------
    >>> found = method("cutmix").describe()
    >>> found["config"]["smooth_max"] = 0.1
    >>> spelling_of(found)
    'cutmix'
    >>> spelling_of({**found, "spelling": "miamix", "config": {**method("miamix").describe()["config"], "k_max": 3}})
    'miamix:k_max=3'
    """
    name = described["spelling"].partition(":")[0]
    if name == "vanilla":
        return name
    if name == "automix":
        return _spelled(name, AutoMixOptions(), AutoMixOptions(**described["automix"]))
    today = method(name)
    config = _from_dict(today.config, described["config"])
    if config.p_smooth == 0:
        config = config.replace(smooth_max=today.config.smooth_max)
    if config.p_aug == 0:
        config = config.replace(angle_max=today.config.angle_max, shear_max=today.config.shear_max)
    name = _known_as(name, config)
    return _spelled(name, _base(name), config)


def _base(name: str) -> MiAMixConfig:
    """What a name without changes means; a name of METHODS is the plain method, also where a recipe has it."""
    if name in METHODS:
        return MiAMixConfig.plain(name)
    if name in RECIPES:
        return MiAMixConfig.recipe(name)
    images = (recipe for recipe in RECIPES if RECIPES[recipe].fields.get("mixes") != "features")
    names = dict.fromkeys(("vanilla", "miamix", "automix", *METHODS, *images))
    raise ValueError(f"unknown method {name!r}: methods are {', '.join(names)}")


def _known_as(name: str, config: MiAMixConfig) -> str:
    """`name`, or of a recipe's names the one from which this configuration takes the fewest changes."""
    if name in METHODS or name == "miamix":
        return name
    if len(config.methods) == 1:
        return config.methods[0]
    others = [other for other in RECIPES if len(RECIPES[other].plain) > 1]
    return min([*others, name], key=lambda other: len(list(_differences(_base(other), config))))


def _from_dict(base: Any, values: dict[str, Any]) -> Any:
    """`base` with these fields, of which JSON has made tuples lists."""
    fields = {}
    for name, value in values.items():
        group = getattr(base, name)
        if dataclasses.is_dataclass(group):
            value = _from_dict(group, value)
        fields[name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(base, **fields)


def _spelled(name: str, base: Any, config: Any) -> str:
    different = "+".join(f"{field}={_text(value)}" for field, value in _differences(base, config))
    return f"{name}:{different}" if different else name


def _differences(base: Any, other: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of `other` that are not those of `base`, those of the methods' options with a dot."""
    for field in dataclasses.fields(base):
        old, new = getattr(base, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(old):
            yield from _differences(old, new, f"{field.name}.")
        elif old != new:
            yield prefix + field.name, new


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_text, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _changed(config: Any, changes: list[str]) -> Any:
    fields: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        group, dot, inner = name.partition(".")
        holder = getattr(config, group, None) if dot else config
        known = {field.name for field in dataclasses.fields(holder)} if dataclasses.is_dataclass(holder) else set()
        if not equals or (inner if dot else name) not in known:
            raise ValueError(f"expected FIELD=VALUE with a field of {type(config).__name__}, got {change!r}")
        fields[group] = dataclasses.replace(fields.get(group, holder), **{inner: _value(text)}) if dot else _value(text)
    return dataclasses.replace(config, **fields)


def _value(text: str) -> Any:
    if "/" in text:
        return tuple(_value(part) for part in text.split("/"))
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _without(left_out: str) -> str:
    rest = [name for name in _FIVE if name != left_out]
    return f"miamix:methods={'/'.join(rest)}+weights=1/1/1/1"


#: Rows by table. The paper's exact rows of Tables 4 to 8 are not at hand: these span its ranges.
TABLES: dict[int, tuple[str, ...]] = {
    2: ("vanilla", "mixup", "cutmix", "fmix", "gridmix", "gmix", "agmix", "miamix"),
    3: ("vanilla", "mixup", "cutmix", "fmix", "gridmix", "gmix", "agmix", "miamix"),
    4: (
        "vanilla",
        *(f"miamix:weights={weights}" for weights in ("1/1/1/1/1", "2/1/1/1/1", "1/2/1/1/1", "1/1/1/1/2")),
        *(_without(name) for name in _FIVE),
    ),
    5: ("vanilla", *(f"miamix:k_min={k}+k_max={k}" for k in (1, 2, 3, 4)), *(f"miamix:k_max={k}" for k in (2, 3, 4))),
    6: ("vanilla", *(f"miamix:p_aug={a}+p_smooth={s}" for a in (0, 0.25, 0.5, 1) for s in (0, 0.25, 0.5, 1))),
    7: ("vanilla", *(f"miamix:merge={merge}+lam_from={lam}" for merge in ("mul", "sum") for lam in ("merged", "orig"))),
    8: ("vanilla", *(f"miamix:p_self={p}" for p in (0, 0.05, 0.1, 0.2, 0.3, 0.5, 1))),
}  # fmt: skip

#: Tables whose networks are also tried on corrupted images.
ROBUST_TABLES = (3, 8)
