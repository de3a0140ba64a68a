"""The Python code that `explore` shows beside its pictures."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from miamix_cpu.cli.explore import Scene
from miamix_cpu.cli.preview import PHOTOGRAPHS
from miamix_cpu.config import MiAMixConfig

_CODE_WIDTH = 88


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
            arguments.append(f"{name}={_wrapped(_literal(value))}")
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


def _wrapped(tuple_: str) -> str:
    """A literal in one line, or a tuple over several where it is too long for an argument's line."""
    if len(tuple_) <= _CODE_WIDTH or not tuple_.startswith("("):
        return tuple_
    lines = textwrap.wrap(f"{tuple_[1:-1].rstrip(',')},", _CODE_WIDTH - 8, break_on_hyphens=False)
    return "\n        ".join(["(", *lines]) + "\n    )"


def _call(function: str, arguments: list[str], indent: int = 0) -> str:
    """A call in one line, or one argument a line where that is too long."""
    line = f"{function}({', '.join(arguments)})"
    if indent + len(line) <= _CODE_WIDTH:
        return line
    return "\n".join([f"{function}(", *(f"    {argument}," for argument in arguments), ")"])
