"""Runs' results as Markdown tables and curves: mean, standard deviation, and differences to vanilla paired by seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.timing import new_figure
from benchmarks.training.corruptions import GROUPS, MADE, SEVERITIES
from benchmarks.training.data import DataError
from benchmarks.training.methods import TABLES, method, spelling_of

TITLES = {
    2: "Methods", 3: "Robustness", 4: "Methods and weights", 5: "Number of layers", 6: "Mask augmentation",
    7: "Merging, and the label's weight", 8: "Self-mixing",
}  # fmt: skip

#: The paper's own accuracies that are known here, in percent, on its own data and network. More go here, by row.
PAPER: dict[int, dict[str, float]] = {5: {"vanilla": 61.7, "miamix:k_min=4+k_max=4": 67.0}}

#: The paper's training costs, by method: time with it over time without it.
PAPER_COST = {
    "vanilla": 1.00, "mixup": 1.00, "cutmix": 1.00, "fmix": 1.07, "gridmix": 1.03, "gmix": 1.00, "saliencymix": 1.01,
    "automix": 1.87, "agmix": 1.03, "miamix": 1.11,
}  # fmt: skip


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Finished runs from files of JSON lines, or from folders of runs, each method spelled by today's defaults.

    Raises
    ------
    DataError
        Names the file and the line that is not a run, or two runs of the same settings, method and seed.
    """
    found = []
    for path in paths:
        files = sorted(path.glob("**/run.json")) if path.is_dir() else [path]
        if not files or not all(file.exists() for file in files):
            raise DataError(f"{path}: expected a folder of runs or a file of JSON lines")
        for file in files:
            for number, line in enumerate(file.read_text().splitlines(), 1):
                try:
                    run = json.loads(line)
                    finished = run["final"] is not None
                    run["settings"]["method"] = spelling_of(run["settings"]["config"])
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise DataError(f"{file}, line {number}: expected a run of benchmarks.train") from error
                if finished:
                    found.append(run)
    runs = sorted({run["run"]: run for run in found}.values(), key=lambda run: run["run"])
    seen: dict[Any, str] = {}
    for run in runs:
        same = (settings(run), run["settings"]["method"], run["settings"]["seed"])
        if seen.setdefault(same, run["run"]) != run["run"]:
            raise DataError(f"{seen[same]} and {run['run']} are both {same[1]}, seed {same[2]}: give one of them")
    return runs


def settings(run: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """What runs share that may be compared: all but the method and the seed."""
    apart = ("method", "seed", "config")
    return tuple(sorted((name, value) for name, value in run["settings"].items() if name not in apart))


def by_settings(runs: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs that may be compared, together."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(settings(run), []).append(run)
    return list(groups.values())


def by_seed(runs: Iterable[dict[str, Any]], value: Any) -> dict[str, dict[int, float]]:
    """`value(run)` by method and seed, where it is not None."""
    found: dict[str, dict[int, float]] = {}
    for run in runs:
        number = value(run)
        if number is not None:
            found.setdefault(run["settings"]["method"], {})[run["settings"]["seed"]] = number
    return found


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, in percent."""
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{deviation}"


def difference(own: dict[int, float], other: dict[int, float]) -> str:
    """Mean of own - other over the seeds that both have, its standard error, and the number of pairs, in points.

    Examples
    --------
    >>> difference({0: 0.52, 1: 0.54}, {0: 0.51, 1: 0.51, 2: 0.9})
    '+2.00 ± 1.00 (2)'
    """
    pairs = [100 * (own[seed] - other[seed]) for seed in own if seed in other]
    if not pairs:
        return ""
    error = f" ± {statistics.stdev(pairs) / len(pairs) ** 0.5:.2f}" if len(pairs) > 1 else ""
    return f"{statistics.fmean(pairs):+.2f}{error} ({len(pairs)})"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, the first column left, others right."""
    return [
        "| " + " | ".join(header) + " |",
        "| --- |" + " ---: |" * (len(header) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def label(spelling: str) -> str:
    """A row's first cell."""
    if spelling in ("miamix", "automix"):
        return {"miamix": "MiAMix (Table 1)", "automix": "AutoMix"}[spelling]
    return spelling.removeprefix("miamix:").replace("+", ", ")


def table(number: int, group: Sequence[dict[str, Any]]) -> list[str]:
    """A table of the paper from runs that may be compared; empty where none of its own rows was run."""
    return _table(f"Table {number}: {TITLES[number]}", TABLES[number], group, PAPER.get(number, {}))


def further(group: Sequence[dict[str, Any]]) -> list[str]:
    """What was run and is in no table of the paper."""
    listed = {method(row).spelling for rows in TABLES.values() for row in rows}
    rest = sorted({run["settings"]["method"] for run in group} - listed)
    return _table("Further rows", ("vanilla", "miamix", *rest), group, {}) if rest else []


def robustness(group: Sequence[dict[str, Any]]) -> list[str]:
    """Table 3's columns, for all that was tried on corrupted images: accuracy by kind of corruption."""
    lines: list[str] = []
    tried = [run for run in group if run.get("robust")]
    for source, images in sorted({(run["robust"]["source"], run["robust"]["images"]) for run in tried}):
        own = [run for run in tried if (run["robust"]["source"], run["robust"]["images"]) == (source, images)]
        lines += _robust_table(source, images, own)
    return lines


def _robust_table(source: str, images: int, runs: Sequence[dict[str, Any]]) -> list[str]:
    if len({tuple(run["robust"]["accuracy"]) for run in runs}) > 1:
        raise DataError("runs were tried on different corruptions: let benchmarks.train --robust finish first")
    everything = tuple(runs[0]["robust"]["accuracy"])
    kinds = {**(GROUPS if source == MADE else {}), "all": everything}
    columns = {"clean": by_seed(runs, lambda run: run["final"]["accuracy"])}
    for kind, names in kinds.items():
        columns[kind] = by_seed(runs, partial(_mean_corrupted, names=names))
    rows = []
    for name in _order(columns["all"]):
        cells = [spread(list(column[name].values())) for column in columns.values()]
        apart = [
            "" if name == other else difference(columns["all"][name], columns["all"].get(other, {}))
            for other in ("vanilla", "miamix")
        ]
        rows.append([label(name), str(len(columns["all"][name])), *cells, *apart])
    on = f"the first {images:,} test images" if images else "all test images"
    title = (
        f"Table 3: {TITLES[3]}. {len(everything)} corruptions at {SEVERITIES} severities, {source}, of {on}; "
        "clean: all test images, uncorrupted."
    )
    return [title, "", *markdown(["", "n", *columns, "all, to vanilla", "all, to MiAMix"], rows), ""]


def cost_table(result: dict[str, Any]) -> list[str]:
    """Training cost from the JSON of `--cost`."""
    where, chosen = result["where"], result["settings"]
    rows = [
        [
            label(name),
            f"{t['median']:.2f}",
            f"{t['least']:.2f} to {t['greatest']:.2f}",
            f"{t['ratio']:.2f}",
            f"{PAPER_COST[name]:.2f}" if name in PAPER_COST else "",
        ]
        for name, t in result["epochs"].items()
    ]
    return [
        f"Training cost: seconds an epoch, median of {result['rounds']} interleaved epochs, {chosen['network']}, "
        f"{chosen['training_images']:,} images, batch {chosen['batch']}, loader's workers {where['workers']}, "
        f"on {where['device']} ({where['cpu']}, {where['cores']} cores).",
        "",
        *markdown(["", "seconds", "range", "ratio", "the paper's"], rows),
        "",
    ]  # fmt: skip


def describe(group: Sequence[dict[str, Any]]) -> str:
    """What the runs of a group share."""
    s, machine = group[0]["settings"], group[0]["environment"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "albumentations", "numba"))
    return (
        f"{s['data']}, {s['network']}, {s['training_images']:,} training images, {s['epochs']} epochs, "
        f"batch {s['batch']}, lr {s['lr']:g} cosine, momentum {s['momentum']:g}, weight decay {s['weight_decay']:g}, "
        f"amp {s['amp']}, augmentation {s['augment']}; "
        f"{machine['device']} ({machine['cpu']}, {machine['cores']} cores), Python {machine['python']}, "
        f"{versions}, {machine['date']}."
    )


def report(runs: Sequence[dict[str, Any]], costs: Sequence[dict[str, Any]] = ()) -> str:
    """All tables that the runs give."""
    lines: list[str] = []
    for group in by_settings(runs):
        final = group[0]["final"]
        lines += [f"**{final['images']:,} {final['on']} images.** {describe(group)}", ""]
        for number in (2, 4, 5, 6, 7, 8):
            lines += table(number, group)
        lines += further(group) + robustness(group)
    for result in costs:
        lines += cost_table(result)
    return "\n".join(lines).rstrip() + "\n"


def curves(runs: Sequence[dict[str, Any]]) -> Any:
    """A figure: mean curves of Table 2's methods, of the largest group of runs."""
    group = max(by_settings(runs), key=len)
    columns = {
        "loss": "training loss", "training_accuracy": "accuracy on unmixed training images",
        "held_out_accuracy": "accuracy on held-out images",
    }  # fmt: skip
    figure = new_figure(figsize=(12, 3.6))
    axes = figure.subplots(1, len(columns))
    for axis, (column, title) in zip(axes, columns.items(), strict=True):
        for name in TABLES[2]:
            of_method = [run["curves"].get(column) for run in group if run["settings"]["method"] == name]
            points = _mean_curve([curve for curve in of_method if curve])
            if points:
                axis.plot(*zip(*points, strict=True), label=f"{label(name)}, n = {len(of_method)}")
        axis.set(xlabel="epoch", title=title)
    axes[0].legend(fontsize=8)
    return figure


def _mean_curve(of_runs: Sequence[Sequence[float | None]]) -> list[tuple[int, float]]:
    """(epoch, mean) where all runs have a value."""
    together = enumerate(zip(*of_runs, strict=True), 1)
    return [(epoch, statistics.fmean(values)) for epoch, values in together if None not in values]


def _table(title: str, rows: Sequence[str], group: Sequence[dict[str, Any]], paper: dict[str, float]) -> list[str]:
    accuracy = by_seed(group, lambda run: run["final"]["accuracy"])
    fitted = by_seed(group, lambda run: run["final"]["training_accuracy"])
    cells, own = [], False
    for row in rows:
        name = method(row).spelling
        if name not in accuracy:
            continue
        own |= name not in ("vanilla", "miamix")
        values = accuracy[name]
        cells.append([
            label(row), str(len(values)), spread(list(values.values())),
            *("" if name == other else difference(values, accuracy.get(other, {})) for other in ("vanilla", "miamix")),
            spread(list(fitted[name].values())), *([f"{paper[row]:.1f}" if row in paper else ""] if paper else []),
        ])  # fmt: skip
    if not own and not title.startswith("Table 2"):
        return []
    header = ["", "n", "accuracy", "to vanilla", "to MiAMix", "on training images", *(["the paper's"] if paper else [])]
    left_out = [label(row) for row in rows if method(row).spelling not in accuracy]
    note = f" Not run: {'; '.join(left_out)}." if left_out else ""
    return [f"{title}.{note}", "", *markdown(header, cells), ""]


def _mean_corrupted(run: dict[str, Any], names: Sequence[str]) -> float:
    return statistics.fmean(value for name in names for value in run["robust"]["accuracy"][name])


def _order(found: dict[str, Any]) -> list[str]:
    """Table 2's methods first."""
    return [name for name in TABLES[2] if name in found] + sorted(set(found) - set(TABLES[2]))
