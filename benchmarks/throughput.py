"""Images a second on one core: a list of (uint8 image, label) to a mixed batch with soft targets, ours against peers.

All thread pools are at 1 and each call makes a fresh output. Every case gets samples in its native layout, is checked
before it is timed, and runs in a new order in every round.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.timing import new_figure, one_thread, parser, table, write

SIZES = {32: 10, 64: 200, 224: 1000}  # with the classes of CIFAR-10, Tiny-ImageNet, ImageNet
BATCH = 128
RATIO_TITLE = "ratio, median and quartiles over the rounds"
RATIOS = (
    ("ours, Table 1, uint8", "timm FastCollateMixup elem", (5.0, 2.5, 1.0)),
    ("ours, mixup + cutmix, uint8", "timm FastCollateMixup elem", (8.0, 8.0, 5.0)),
    ("ours, Table 1, uint8", "plain NumPy + SciPy + OpenCV MiAMix", (20.0, 20.0, 20.0)),
    ("ours, Table 1, float32", "torchvision v2 after default_collate", (0.5, 0.8, 4.0)),
    ("ours, hmix alone, uint8", "ours, cutmix alone, uint8", (1.0, 1.0, 1.0)),
    ("ours, smoothmix alone, uint8", "ours, gmix alone, uint8", (1.0, 1.0, 1.0)),
    ("ours, resizemix alone, uint8", "ours, cutmix alone, uint8", (0.5, 0.5, 0.5)),
    ("ours, saliencymix alone, uint8", "ours, cutmix alone, uint8", (0.25, 0.25, 0.5)),
    ("ours, plain resizemix, uint8", "mixup ResizeMix after default_collate", (10.0, 10.0, 10.0)),
    ("ours, plain saliencymix, uint8", "mixup SaliencyMix after default_collate", (10.0, 10.0, 10.0)),
)


def main() -> None:
    """Measure, print, write."""
    options = parser(__doc__.splitlines()[0], "throughput")
    options.add_argument("--sizes", type=int, nargs="+", choices=list(SIZES), default=list(SIZES))
    options.add_argument("--only", metavar="WORDS", help="cases whose name contains this, and those of the ratios")
    given = options.parse_args()
    one_thread()
    warnings.filterwarnings("ignore", message=".*come out unmixed")
    from benchmarks import peers

    result: dict[str, Any] = {}
    skipped: list[str] = []
    for size in given.sizes:
        classes = SIZES[size]
        cases, skipped = peers.all_cases(classes)
        if size == 32 and not given.quick and given.only is None:
            cases.append(peers.naive_case(classes))
        if given.only is not None:
            kept = {name for row in RATIOS for name in row[:2]}
            cases = [case for case in cases if given.only in case.name or case.name in kept]
        runs = {}
        for case in cases:
            samples = peers.samples_for(case.layout, BATCH if case.name != "naive twin" else 4, size, classes)
            peers.check(case, samples, classes)
            runs[case.name] = partial(case.run, samples)
        found = timing.measure(
            runs, rounds=3 if given.quick else 11, seconds=0.02 if given.quick else 0.1, label=f"{size} x {size}"
        )
        result[str(size)] = {
            name: {"images_per_second": (4 if name == "naive twin" else BATCH) / t["median"], **t}
            for name, t in found.items()
        }
    for line in skipped:
        print(f"skipped {line}")
    print(report(result))
    write(given.json, {"batch": BATCH, "classes": SIZES, "skipped": skipped, "sizes": result})
    if given.plot:
        plot(result, given.plot)


def report(result: dict[str, Any]) -> str:
    """Images a second with the spread over the rounds, and the ratios."""
    sizes = list(result)
    names = list(dict.fromkeys(name for size in sizes for name in result[size]))
    rows = []
    for name in names:
        row = [name]
        for size in sizes:
            t = result[size].get(name)
            spread = "" if t is None else f"{t['least'] / t['median'] - 1:+.0%} {t['greatest'] / t['median'] - 1:+.0%}"
            row.append("" if t is None else f"{t['images_per_second']:,.0f} ({spread})")
        rows.append(row)
    lines = [table(["images/s (spread of the time)", *sizes], rows), ""]
    ratio_rows = []
    for ours, peer, wanted in RATIOS:
        row = [f"{ours} / {peer}"]
        for size in sizes:
            row.append(ratio_words(result, size, ours, peer, wanted[list(map(str, SIZES)).index(size)]))
        ratio_rows.append(row)
    lines.append(table([f"{RATIO_TITLE} (aim)", *sizes], ratio_rows))
    return "\n".join(lines)


def ratio_words(result: dict[str, Any], size: str, ours: str, peer: str, aim: float) -> str:
    """How many times the peer's images a second, round by round; empty where one of both was not run.

    Examples
    --------
    >>> rounds = {"ours": {"times": [1.0, 1.0, 2.0]}, "theirs": {"times": [2.0, 3.0, 8.0]}}
    >>> ratio_words({"32": rounds}, "32", "ours", "theirs", 2)
    '3.00 [2.50, 3.50] (2)'
    """
    found = result[size]
    if ours not in found or peer not in found:
        return ""
    low, middle, high = np.quantile(np.divide(found[peer]["times"], found[ours]["times"]), (0.25, 0.5, 0.75))
    return f"{middle:.2f} [{low:.2f}, {high:.2f}] ({aim:g})"


def plot(result: dict[str, Any], path: Any) -> None:
    """A bar a case, a panel a size, logarithmic."""
    figure = new_figure(figsize=(6 * len(result), 7))
    for axis, (size, found) in zip(figure.subplots(1, len(result), squeeze=False)[0], result.items(), strict=True):
        names = sorted(found, key=lambda name: found[name]["images_per_second"])
        axis.barh(
            names,
            [found[name]["images_per_second"] for name in names],
            color=["tab:orange" if name.startswith("ours") else "tab:gray" for name in names],
        )
        axis.set(xscale="log", xlabel="images/s, one core", title=f"{size} x {size}, batch {BATCH}")
        axis.tick_params(axis="y", labelsize=7)
    figure.savefig(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
