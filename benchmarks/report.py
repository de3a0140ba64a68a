"""Tables and curves from finished runs of benchmarks.train.

python -m benchmarks.report runs                                     print the tables
python -m benchmarks.report runs --gather benchmarks/results/train.jsonl --write docs/experiments.md
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.timing import RESULTS
from benchmarks.training.data import DataError
from benchmarks.training.tables import curves, read, report

BEGIN, END = "<!-- tables: begin, written by python -m benchmarks.report -->", "<!-- tables: end -->"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("runs", type=Path, nargs="*",
        help="folders of runs, files of JSON lines (default: train.jsonl of benchmarks/results)")  # fmt: skip
    add("--gather", type=Path, metavar="JSONL", help="write the finished runs as JSON lines")
    add("--cost", type=Path, nargs="*", metavar="JSON",
        help="of benchmarks.train --cost (default: benchmarks/results/cost*.json, unless runs are given)")  # fmt: skip
    add("--write", type=Path, metavar="MD", help="put the tables between this file's marks")
    add("--plot", type=Path, metavar="PNG", help="draw the curves")
    return found


def put(path: Path, text: str) -> None:
    """Replace the part between the marks."""
    old = path.read_text()
    if BEGIN not in old or END not in old:
        raise DataError(f"{path}: expected the lines {BEGIN!r} and {END!r}")
    before, after = old.index(BEGIN) + len(BEGIN), old.index(END)
    path.write_text(f"{old[:before]}\n{text}{old[after:]}")


def main(arguments: list[str] | None = None) -> int:
    """Read, print or write; the exit status."""
    given = parser().parse_args(arguments)
    try:
        places = given.runs or [RESULTS / "train.jsonl"]
        runs = read(places)
        if not runs:
            raise DataError(f"{', '.join(map(str, places))}: no run is finished")
        costs = given.cost
        if costs is None:
            costs = [] if given.runs else sorted(RESULTS.glob("cost*.json"))
        text = report(runs, [json.loads(path.read_text()) for path in costs])
        if given.gather:
            given.gather.parent.mkdir(parents=True, exist_ok=True)
            given.gather.write_text("".join(json.dumps(run) + "\n" for run in runs))
        if given.plot:
            curves(runs).savefig(given.plot)
        if given.write:
            put(given.write, text)
        else:
            print(text, end="")
    except (DataError, OSError, json.JSONDecodeError) as error:
        print(f"{parser().prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
