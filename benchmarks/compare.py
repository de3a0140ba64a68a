"""Compare this checkout with another commit, interleaved in one run: our rows of `throughput`, and loaders.

Each version runs in a process of its own, which is asked for one measurement after the other, in turns. A ratio is of
measurements that were made one right after the other; what the machine does in between is in neither.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SIZES, BATCH, CLASSES = (32, 64, 224), 128, 10
SECONDS = 0.1  # of a measurement, at least


class Version:
    """A checkout in a process of its own."""

    def __init__(self, checkout: Path, cache: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": cache}
        command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout
        )

    def ask(self, row: str) -> float:
        """Seconds a batch of this row; measured once."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        print(row, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of a version ended at {row!r}")
        return float(json.loads(answer))

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def serve() -> None:
    """Answer each line of stdin, the name of a row, by the seconds a batch takes."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever is printed is no answer
    from benchmarks.timing import one_thread

    one_thread()
    made: dict[str, tuple[Callable[[], Any], int]] = {}
    for line in sys.stdin:
        row = line.strip()
        if row not in made:
            run = prepare(row)
            run()
            start = time.perf_counter()
            run()
            made[row] = run, max(1, round(SECONDS / (time.perf_counter() - start)))
        run, calls = made[row]
        start = time.perf_counter()
        batches = sum(run() or 1 for _ in range(calls))
        print(json.dumps((time.perf_counter() - start) / batches), file=answers, flush=True)


def prepare(row: str) -> Callable[[], Any]:
    """What a row measures; it returns the number of batches that it made, or nothing for one."""
    size, _, name = row.partition(" ")
    if name.startswith("loader"):
        return partial(one_epoch, loader(int(size)))
    from benchmarks import peers

    case = next(case for case in peers.ours(CLASSES) if case.name == name)
    samples = peers.samples_for(case.layout, BATCH, int(size), CLASSES)

    def run() -> None:
        case.run(samples)

    return run


class Images:
    """Random images, uint8 (size, size, 3), with labels."""

    def __init__(self, size: int, length: int) -> None:
        import numpy as np

        self._images = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), dtype=np.uint8)
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._images[index % 64], index % CLASSES


def loader(size: int) -> Any:
    """Two workers, two views by Albumentations, Table 1."""
    import albumentations as A
    from torch.utils.data import DataLoader

    from miamix_cpu import MiAMixCollator

    views = A.Compose([A.PadIfNeeded(size + 8, size + 8), A.RandomCrop(size, size), A.HorizontalFlip()])
    collate = MiAMixCollator(CLASSES, transform=views, seed=0, dtype="uint8")
    images = Images(size, BATCH * (40 if size < 200 else 10))
    return DataLoader(images, BATCH, num_workers=2, collate_fn=collate, persistent_workers=True)


def one_epoch(batches: Any) -> int:
    """Take all batches over; return how many there were."""
    return sum(1 for _ in batches)


def main() -> None:
    """Measure, print, write."""
    from benchmarks import peers
    from benchmarks.timing import one_thread, parser, table, write

    options = parser("Compare this checkout with another commit, in turns.", "compare", plots=False)
    options.add_argument("commit", help="of this repository, to compare with")
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--rows", nargs="+", default=(), help="only these, e.g. those that the other commit has")
    given = options.parse_args()
    one_thread()
    rounds = 3 if given.quick else given.rounds
    names = [case.name for case in peers.ours(CLASSES) if case.name in given.rows or not given.rows]
    names += ["loader, 2 workers, two views, uint8"] if not given.rows else []
    result: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        git = partial(subprocess.run, cwd=ROOT, check=True, capture_output=True)
        git(["git", "worktree", "add", "--detach", f"{folder}/before", given.commit])
        versions = [Version(Path(folder, "before"), f"{folder}/cache_before"), Version(ROOT, f"{folder}/cache_now")]
        try:
            for name in names:
                result[name] = {}
                for size in SIZES if not given.quick else SIZES[:1]:
                    result[name][str(size)] = compared(versions, f"{size} {name}", rounds)
        finally:
            for version in versions:
                version.close()
            git(["git", "worktree", "remove", "--force", f"{folder}/before"])
    rows = [[name, *(words(found) for found in by_size.values())] for name, by_size in result.items()]
    print(table(["time now / before (quartiles); ms before, now", *result[names[0]]], rows))
    write(given.json, {"before": given.commit, "batch": BATCH, "rows": result})


def compared(versions: list[Version], row: str, rounds: int) -> dict[str, Any]:
    """Times of both versions, in turns, each the first one every other time."""
    times: list[list[float]] = [[], []]
    for version in versions:
        version.ask(row)
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            times[which].append(versions[which].ask(row))
    return {"before": times[0], "now": times[1], "ratios": [b / a for a, b in zip(*times, strict=True)]}


def words(found: dict[str, Any]) -> str:
    """A cell of the table."""
    low, middle, high = statistics.quantiles(found["ratios"], n=4)
    before, now = (1e3 * statistics.median(found[name]) for name in ("before", "now"))
    return f"{middle:.2f} ({low:.2f}-{high:.2f}); {before:.2f}, {now:.2f}"


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
