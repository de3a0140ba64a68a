"""A long run: a million samples through two workers with everything of Table 1, views included.

Memory of the workers must stay flat, nothing may be left in shared memory, and the last tenth must be as fast as the
first. Exit status 1 where one of them does not hold (with --quick the speed is printed, not judged).
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import new_figure, one_thread, parser, write
from tests.shared_memory import blocks_in_shared_memory

BATCH, SIDE, EPOCHS = 128, 32, 20
_MAY_GROW = 16  # MiB over 80% of the run


class Tiles:
    """As many samples as wanted from a few thousand different pictures."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.pictures = np.random.default_rng(0).integers(0, 256, (4096, SIDE, SIDE, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return self.pictures[i % len(self.pictures)], i % 10


def resident_mib(pid: int | str) -> float:
    """Resident memory of a process that it shares with no other."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def run(loader: Any, collate: Any) -> tuple[list[float], list[float]]:
    """Samples a second and MiB of the workers, epoch by epoch."""
    from tqdm import tqdm

    speeds: list[float] = []
    memory: list[float] = []
    with tqdm(total=EPOCHS * len(loader.dataset), unit="sample", unit_scale=True) as bar:
        for epoch in range(EPOCHS):
            collate.set_epoch(epoch)
            start = None
            for images, _targets in loader:
                start = start or time.perf_counter()  # not the start of the workers
                bar.update(len(images))
            speeds.append((len(loader.dataset) - BATCH) / (time.perf_counter() - (start or 0.0)))
            pids = [child.pid for child in multiprocessing.active_children()] or ["self"]
            memory.append(sum(resident_mib(pid) for pid in pids if pid is not None))
    return speeds, memory


def main() -> int:
    """Run, judge, write; return the exit status."""
    options = parser(__doc__.splitlines()[0], "soak")
    options.add_argument("--samples", type=int, help="default: 1,000,000; with --quick 40,000")
    options.add_argument("--workers", type=int, default=2, help="default: %(default)s")
    given = options.parse_args()
    one_thread()
    import albumentations as A
    from torch.utils.data import DataLoader

    from miamix_cpu import MiAMixCollator, warmup

    warmup()
    samples = given.samples or (40_000 if given.quick else 1_000_000)
    transform = A.Compose([A.PadIfNeeded(SIDE + 8, SIDE + 8), A.RandomCrop(SIDE, SIDE), A.HorizontalFlip()])
    collate = MiAMixCollator(10, transform=transform, seed=0, dtype="uint8")
    before = blocks_in_shared_memory()
    loader: Any = DataLoader(
        Tiles(max(BATCH, samples // EPOCHS)),  # type: ignore[arg-type]
        BATCH, shuffle=True, num_workers=given.workers, persistent_workers=given.workers > 0, collate_fn=collate,
    )  # fmt: skip
    speeds, memory = run(loader, collate)
    del loader
    left = blocks_in_shared_memory() - before
    tenth = EPOCHS // 10
    first, last = (float(np.mean(part)) for part in (speeds[:tenth], speeds[-tenth:]))
    early, late = (float(np.mean(part)) for part in (memory[tenth : 2 * tenth], memory[-tenth:]))
    print(f"{samples:,} samples, {given.workers} workers, {BATCH} a batch, {SIDE} x {SIDE}")
    print(f"memory of the workers: {early:,.1f} MiB in the second tenth, {late:,.1f} in the last")
    print(f"left in shared memory: {left} blocks")
    print(f"samples/s: {first:,.0f} in the first tenth, {last:,.0f} in the last ({last / first:.2f})")
    write(
        given.json,
        {
            "samples": samples,
            "workers": given.workers,
            "samples_per_second": speeds,
            "memory_mib": memory,
            "left": left,
        },
    )
    if given.plot:
        figure = new_figure(figsize=(8, 3.5))
        for axis, values, what in zip(figure.subplots(1, 2), (speeds, memory), ("samples/s", "MiB"), strict=True):
            axis.plot(values)
            axis.set(xlabel="twentieths of the run", ylabel=what, ylim=(0, 1.1 * max(values)))
        figure.savefig(given.plot)
    failed = []
    if late - early > _MAY_GROW:
        failed.append(f"memory grew by {late - early:.1f} MiB")
    if left > 0:
        failed.append(f"{left} blocks are left in shared memory")
    if not given.quick and last < 0.9 * first:
        failed.append("the last tenth is more than 10% slower than the first")
    for what in failed:
        print(f"failed: {what}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
