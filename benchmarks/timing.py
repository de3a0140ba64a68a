"""How everything here is measured: interleaved, shuffled, warmed up, medians and spread, outputs checked first."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

# One core: all thread pools at 1, set before anything that has one is imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from tqdm import tqdm  # noqa: E402

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "numpy", "numba", "torch", "albumentations", "opencv-python-headless", "scipy", "timm", "torchvision",
    "kornia", "mixup",
)  # fmt: skip


def one_thread() -> None:
    """Set the pools that environment variables do not reach."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def environment() -> dict[str, Any]:
    """Hardware and versions, for the JSON."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "miamix_cpu": metadata.version("miamix_cpu"),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Of this checkout, with "+" where tracked files differ from it; None where there is none."""
    try:
        git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        changed = git(["git", "status", "--porcelain", "--untracked-files=no", "--", "*.py"]).stdout
        return git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def measure(
    cases: Mapping[str, Callable[[], Any]], *, rounds: int, seconds: float, label: str, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Time each case in every round, in a new order each time.

    Parameters
    ----------
    cases : name to callable
    rounds : int
    seconds : float
        How long a case runs in a round, at least; the calls are averaged.
    label : str
        Of the progress bar.

    Returns
    -------
    dict
        By name: median, least and greatest seconds a call over the rounds, and all of them, `times`.
    """
    calls, times = {}, {name: [] for name in cases}
    for name, run in cases.items():
        run()  # compile, import, fill caches
        start = time.perf_counter()
        run()
        calls[name] = max(1, round(seconds / max(time.perf_counter() - start, 1e-7)))
    shuffle = random.Random(seed)
    with tqdm(total=rounds * len(cases), desc=label, unit="case", leave=False) as bar:
        for _ in range(rounds):
            for name in shuffle.sample(list(cases), len(cases)):
                run, n = cases[name], calls[name]
                start = time.perf_counter()
                for _ in range(n):
                    run()
                times[name].append((time.perf_counter() - start) / n)
                bar.update()
    return {
        name: {"median": statistics.median(values), "least": min(values), "greatest": max(values), "times": values}
        for name, values in times.items()
    }


def parser(description: str, name: str, *, plots: bool = True) -> argparse.ArgumentParser:
    """Options that all benchmarks share."""
    found = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    found.add_argument("--json", type=Path, default=RESULTS / f"{name}.json", help="default: %(default)s")
    if plots:
        found.add_argument("--plot", type=Path, metavar="PNG", help="draw the result too")
    found.add_argument("--quick", action="store_true", help="few rounds: does it run, not how fast is it")
    return found


def write(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result and its environment as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": environment(), **result}, indent=1) + "\n")
    print(f"wrote {path}")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table for the terminal, first column left, others right."""
    widths = [max(len(row[c]) for row in [header, *rows]) for c in range(len(header))]
    lines = []
    for first, *others in [header, ["-" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def new_figure(**options: Any) -> Any:
    """A matplotlib figure that needs no display."""
    from matplotlib.figure import Figure

    return Figure(layout="constrained", **options)
