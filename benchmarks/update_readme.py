"""Write the README's table of speed from `results/throughput.json`, losses included."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.throughput import RATIO_TITLE, RATIOS, SIZES, ratio_words
from benchmarks.timing import RESULTS

README = Path(__file__).parents[1] / "README.md"
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


def main() -> None:
    """Replace the part between the marks."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.update_readme", description=__doc__)
    options.add_argument("--json", type=Path, default=RESULTS / "throughput.json")
    given = options.parse_args()
    text = README.read_text()
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    README.write_text(f"{text[:before]}\n{markdown(json.loads(given.json.read_text()))}\n{text[after:]}")
    print(f"wrote {README}")


if __name__ == "__main__":
    main()
