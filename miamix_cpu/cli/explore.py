"""`explore`, without its page: its controls, the configuration they make, the pictures, and the code for them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from miamix_cpu.checks import check_integer
from miamix_cpu.cli import UserError
from miamix_cpu.cli.gallery import Row, row_of
from miamix_cpu.cli.preview import PHOTOGRAPHS, crops, photographs, read_picture
from miamix_cpu.collate import MiAMixCollator
from miamix_cpu.config import METHODS, MIXUP, MiAMixConfig
from miamix_cpu.mixer import MiAMix
from miamix_cpu.plan.mix_plan import LAYER

LAM_SAMPLES, LAM_SIDE = 4096, 32  # lam is measured on that many masks of that many pixels a side
_MOST_FILES, _MOST_PIXELS = 16, 100_000_000
_CODE_WIDTH = 88


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
        Control(name="k_min", words="The fewest masks that are stacked for an image.", low=1, high=8, step=1),
        Control(name="k_max", words="The most masks.", low=1, high=8, step=1),
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
            "agmix": "A stretched, turned, soft spot.",
        }.items()
    ),
    "Augmentation": (
        Control(name="p_aug", words="How often a mask is rotated and sheared.", low=0, high=1, step=0.05),
        Control(name="angle_max", words="Rotated by up to so many degrees.", low=0, high=180, step=1),
        Control(name="shear_max", words="Sheared by up to this.", low=0, high=3, step=0.05),
        Control(name="p_smooth", words="How often a mask is smoothed.", low=0, high=1, step=0.05),
        Control(
            name="smooth_max", words="The largest window, as a share of the shorter side.",
            low=0.005, high=1, step=0.005,
        ),
    ),
    "Output": (
        Control(name="p_self", words="How often an image meets another view of itself.", low=0, high=1, step=0.05),
        Control(name="merge", words="The product of the masks, or the sum of their holes.", choices=("mul", "sum")),
        Control(
            name="lam_from", words="The label's weight: measured on the merged mask, or 1 - sum of the ratios.",
            choices=("merged", "orig"),
        ),
        Control(
            name="second_view", words="The partner as a view of its own, or as the view mixed in its own row.",
            choices=("independent", "shared"),
        ),
    ),
    "Options of cutmix": (
        Control(name="cutmix.inside", words="Keep the box inside the image."),
        Control(name="cutmix.minmax", words="Draw each side from this range instead, as timm's cutmix_minmax."),
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
            name="gauss_scale", words="As wide as the paper says, or as covers the ratio.", choices=("paper", "area")
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


@dataclass(frozen=True)
class Scene:
    """All that a picture follows from.

    Parameters
    ----------
    config : MiAMixConfig
    seed : int, at least 0
    rows : int, how many samples are shown
    size : int, pixels a side
    files : names of the caller's pictures, or none for scikit-image's photographs
    """

    config: MiAMixConfig
    seed: int
    rows: int
    size: int
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, low=0)
        check_integer("rows", self.rows, low=1)
        check_integer("size", self.size, low=1)

    @property
    def classes(self) -> int:
        """Each picture is a class of its own."""
        return len(self.files or PHOTOGRAPHS)

    @property
    def count(self) -> int:
        """The batch's size: every picture at least once, to have partners to choose from."""
        return max(self.rows, self.classes)


def draw(scene: Scene, pictures: Sequence[tuple[str, np.ndarray]]) -> list[Row]:
    """The rows of a scene.

    Parameters
    ----------
    pictures : (name, uint8 (H, W, 3)), as many as the scene has classes
    """
    chosen = [i % len(pictures) for i in range(scene.count)]
    samples = [(pictures[i][1], i) for i in chosen]
    collate = MiAMixCollator(
        max(2, scene.classes), scene.config, transform=crops(scene.size), seed=scene.seed, dtype="uint8",
        return_masks=True, return_batch=True,
    )  # fmt: skip
    batch = collate(samples)
    # The views are those that the same plan shows where its masks are all 1, and all 0.
    layers = np.zeros(scene.count, dtype=LAYER)
    layers["method"] = MIXUP
    bare = dataclasses.replace(batch.plan, layers=layers, first_layer=np.arange(scene.count + 1))
    first = collate.replay(samples, bare).images.permute(0, 2, 3, 1).numpy()
    layers["ratio"] = 1
    second = collate.replay(samples, bare).images.permute(0, 2, 3, 1).numpy()
    names = [pictures[i][0] for i in chosen]
    return [row_of(batch, i, first[i], second[i], names) for i in range(scene.rows)]


def measure_lam(config: MiAMixConfig, seed: int) -> np.ndarray:
    """lam of `LAM_SAMPLES` samples of `LAM_SIDE` x `LAM_SIDE` pixels, float32."""
    blank = np.zeros((LAM_SAMPLES, LAM_SIDE, LAM_SIDE), dtype=np.uint8)
    labels = np.zeros(LAM_SAMPLES, dtype=np.int64)
    lam: np.ndarray = MiAMix(2, config)(blank, labels, second=blank, rng=np.random.default_rng(seed)).lam
    return lam


def read_uploads(paths: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """The caller's pictures: (file name, uint8 (H, W, 3)).

    Raises
    ------
    UserError
        Where one is not a picture, is damaged, or has the name of another; or where they are too many or too large.
    """
    names = [Path(path).name for path in paths]
    if len(names) > _MOST_FILES:
        raise UserError(f"{len(names)} pictures are too many: at most {_MOST_FILES}")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise UserError(f"two pictures are called {twice[0]}: rename one, the code opens them by name")
    pixels = 0
    for path, name in zip(paths, names, strict=True):
        pixels += _pixels(path, name)
        if pixels > _MOST_PIXELS:
            raise UserError(f"{name} is too large: at most {_MOST_PIXELS // 10**6} million pixels in all pictures")
    return [(name, _read(path, name)) for path, name in zip(paths, names, strict=True)]


@lru_cache(maxsize=_MOST_FILES)
def _pixels(path: str, name: str) -> int:
    """A picture's number of pixels, by its header alone: an enormous one is never decoded."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return int(image.width * image.height)
    except Image.DecompressionBombError:
        return _MOST_PIXELS + 1
    except FileNotFoundError as error:
        raise UserError(f"{name} is not there any more: upload it again") from error
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{name} is not a picture, or is damaged") from error


@lru_cache(maxsize=_MOST_FILES)
def _read(path: str, name: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()  # strict, where OpenCV before its version 5 fills in what is missing
    except Exception as error:
        raise UserError(f"{name} is not a picture, or is damaged") from error
    return read_picture(Path(path), name)


@lru_cache(maxsize=1)
def default_pictures() -> list[tuple[str, np.ndarray]]:
    """scikit-image's photographs."""
    return photographs()


def code_of(scene: Scene) -> str:
    """Python that makes the scene's batch again; run where the pictures lie."""
    config, options = config_code(scene.config)
    names = ", ".join(sorted(["MiAMixCollator", "MiAMixConfig", *options]))
    n, files = scene.classes, [f"    {_literal(name)}," for name in scene.files or PHOTOGRAPHS]
    if scene.files:
        imports = ["import cv2", f"from miamix_cpu import {names}"]
        read = "pictures = [cv2.cvtColor(cv2.imread(name), cv2.COLOR_BGR2RGB) for name in names]"
    else:
        imports = [f"from miamix_cpu import {names}", "from skimage import data"]
        read = "pictures = [getattr(data, name)()[..., :3] for name in names]"
    lines = [
        "import albumentations as A",
        *imports,
        "",
        f"config = {config}",
        "transform = A.Compose(",
        f"    [A.RandomResizedCrop(({scene.size}, {scene.size}), scale=(0.4, 1.0)), A.HorizontalFlip()]",
        ")",
        _call("collate = MiAMixCollator", [
            f"num_classes={max(2, n)}", "config=config", "transform=transform", f"seed={scene.seed}", 'dtype="uint8"',
            "return_batch=True",
        ]),
        "",
        "names = [",
        *files,
        "]",
        read,
        f"batch = collate([(pictures[i % {n}], i % {n}) for i in range({scene.count})])",
        f"batch.images[:{scene.rows}]  # the page's rows: uint8 ({scene.rows}, 3, {scene.size}, {scene.size})",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def config_code(config: MiAMixConfig) -> tuple[str, list[str]]:
    """`config` as Python, with only what differs from the defaults, and the names of the option classes it needs."""
    arguments, classes = [], []
    for name, value in _changes(config):
        if dataclasses.is_dataclass(value):
            classes.append(type(value).__name__)
            options = [f"{option}={_literal(chosen)}" for option, chosen in _changes(value)]
            arguments.append(f"{name}={classes[-1]}({', '.join(options)})")
        else:
            arguments.append(f"{name}={_literal(value)}")
    return _call("MiAMixConfig", arguments, indent=len("config = ")), classes


def _changes(options: Any) -> list[tuple[str, Any]]:
    """(name, value) of the fields that are not as by default."""
    default = type(options)()
    values = [(field.name, getattr(options, field.name)) for field in dataclasses.fields(options)]
    return [(name, value) for name, value in values if value != getattr(default, name)]


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    plain = isinstance(value, str) and value.isprintable() and not set(value) & {'"', "\\"}
    return f'"{value}"' if plain else repr(value)


def _call(function: str, arguments: list[str], indent: int = 0) -> str:
    """A call in one line, or one argument a line where that is too long."""
    line = f"{function}({', '.join(arguments)})"
    if indent + len(line) <= _CODE_WIDTH:
        return line
    return "\n".join([f"{function}(", *(f"    {argument}," for argument in arguments), ")"])
