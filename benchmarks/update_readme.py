"""Write the tables of speed from `results/`, losses included: all in docs/performance.md, a part in the README."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.throughput import RATIO_TITLE, RATIOS, SIZES, ratio_words
from benchmarks.timing import RESULTS

ROOT = Path(__file__).parents[1]
#: The rows of the README: how they are called there, by their names in the results.
SHORT = {
    "ours, Table 1, uint8": "MiAMix, uint8",
    "ours, Table 1, float32": "MiAMix, float32",
    "ours, mixup + cutmix, uint8": "our mixup + cutmix, uint8",
    "timm FastCollateMixup elem": "timm, `FastCollateMixup(mode='elem')`, uint8",
    "timm Mixup elem after default_collate": "timm, `Mixup(mode='elem')`, float32",
    "torchvision v2 after default_collate": "torchvision v2, one ratio a batch, float32",
    "kornia RandomCutMixV2 after default_collate": "kornia, `RandomCutMixV2`, float32",
}
BEGIN, END = "<!-- speed: begin, written by python -m benchmarks.update_readme -->", "<!-- speed: end -->"


def markdown(result: dict[str, Any]) -> str:
    """The table, the ratios to the peers, and what it was measured on."""
    sizes = list(result["sizes"])
    names = dict.fromkeys(name for size in sizes for name in result["sizes"][size])
    lines = [
        f"Images a second on one core, batch {result['batch']}, from a list of (uint8 image, label) to a mixed batch",
        "with soft targets; medians of `python -m benchmarks.throughput`.",
        "",
        "| | " + " | ".join(f"{size} x {size}" for size in sizes) + " |",
        "| --- |" + " ---: |" * len(sizes),
    ]
    for name in names:
        cells = [result["sizes"][size].get(name) for size in sizes]
        words = [f"{cell['images_per_second']:,.0f}" if cell else "" for cell in cells]
        lines.append(f"| {name} | " + " | ".join(words) + " |")
    lines += [
        "",
        f"| {RATIO_TITLE} (aim) | " + " | ".join(f"{s} x {s}" for s in sizes) + " |",
        "| --- |" + " ---: |" * len(sizes),
    ]
    for ours, peer, aims in RATIOS:
        aim = dict(zip(map(str, SIZES), aims, strict=True))
        ratios = [ratio_words(result["sizes"], size, ours, peer, aim[size]) for size in sizes]
        lines.append(f"| {ours} / {peer} | " + " | ".join(ratios) + " |")
    machine = result["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines += [
        "",
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; {versions}; {machine['date']}, "
        f"commit {machine['commit']}.",
    ]
    lines += [f"Skipped: {line}." for line in result["skipped"]]
    return "\n".join(lines)


def short(result: dict[str, Any], loader: dict[str, Any]) -> str:
    """The README's tables: mixing alone, and a loader with its views."""
    sizes = list(result["sizes"])
    lines = ["| mixing, images/s on one core, batch 128 | " + " | ".join(f"{size} x {size}" for size in sizes) + " |"]
    lines.append("| --- |" + " ---: |" * len(sizes))
    for name, words in SHORT.items():
        cells = (result["sizes"][size].get(name) for size in sizes)
        lines.append(f"| {words} | " + " | ".join(f"{c['images_per_second']:,.0f}" if c else "" for c in cells) + " |")
    lines += ["", machine_of(result), ""]
    tasks = loader["tasks"]
    titles = [f"{found['size']} x {found['size']}, {name}" for name, found in tasks.items()]
    lines.append("| a loader, images/s with 0, 1 and 2 workers | " + " | ".join(titles) + " |")
    lines.append("| --- |" + " ---: |" * len(tasks))
    for kind, words in (("plain", "one view by Albumentations, `default_collate`"), ("MiAMix", "two views, MiAMix"),
                        ("MiAMix, views by Albumentations", "the same, views not compiled")):  # fmt: skip
        cells = (
            ", ".join(f"{speed[kind]:,.0f}" for speed in found["images_per_second"].values())
            for found in tasks.values()
        )
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    lines += ["", machine_of(loader)]
    return "\n".join(lines)


def machine_of(result: dict[str, Any]) -> str:
    """What it was measured on."""
    machine = result["environment"]
    return f"({machine['cpu']}, {machine['cores']} cores; {machine['date']}, commit {machine['commit']}.)"


def replace(path: Path, words: str) -> None:
    """Replace the part between the marks."""
    text = path.read_text()
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    path.write_text(f"{text[:before]}\n{words}\n{text[after:]}")
    print(f"wrote {path}")


def main() -> None:
    """Write both."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.update_readme", description=__doc__)
    options.add_argument("--json", type=Path, default=RESULTS / "throughput.json")
    given = options.parse_args()
    result = json.loads(given.json.read_text())
    replace(ROOT / "docs" / "performance.md", markdown(result))
    replace(ROOT / "README.md", short(result, json.loads((RESULTS / "loader.json").read_text())))


if __name__ == "__main__":
    main()
