"""Draw the table of the `demo` command as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from miamix_cpu.cli import UserError


def draw_chart(bars: dict[str, list[tuple[float, float]]], names: Sequence[str], out: Path) -> None:
    """Write a chart of accuracies to `out` as a PNG.

    Parameters
    ----------
    bars : the mean and the standard error for each of `names`, in [0, 1], by kind of training
    names : str
    out : Path
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=100, layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(bars)
    for j, (kind, found) in enumerate(bars.items()):
        places = [i + (j - (len(bars) - 1) / 2) * width for i in range(len(names))]
        heights, errors = [100 * mean for mean, _ in found], [100 * error for _, error in found]
        drawn = axis.bar(places, heights, width, yerr=errors, label=kind, color=f"C{j}", capsize=2)
        axis.bar_label(drawn, fmt="%.0f", fontsize=7, padding=1)
    axis.set(xticks=range(len(names)), xticklabels=names, ylabel="test accuracy, %", ylim=(0, 109))
    axis.set_title(
        "500 training digits, tested as they are and changed; at the right, trained with wrong labels", fontsize=10
    )
    axis.legend(ncols=len(bars), fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(out)
    except OSError as error:
        raise UserError(f"--out: {out} can't be written: {error.strerror}") from error
