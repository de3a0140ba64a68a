"""Peak resident memory of a worker, plain against MiAMix, and that it stays flat over many batches."""

from __future__ import annotations

import statistics
import warnings
from typing import Any

import numpy as np

from benchmarks.timing import new_figure, one_thread, parser, write

SIDE, BATCH = 64, 64


class Noise:
    """Pictures made on the fly."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return np.random.default_rng(i).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), i % 10


class Watched:
    """A collate function that sends the worker's resident memory along, in KiB."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, samples: list[Any]) -> Any:
        from pathlib import Path

        result = self.collate(samples)
        lines = Path("/proc/self/status").read_text().splitlines()
        status = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
        return result, int(status["VmRSS"]), int(status["VmHWM"])


def main() -> None:
    """Measure, print, write."""
    given = parser(__doc__.splitlines()[0], "memory").parse_args()
    one_thread()
    warnings.simplefilter("ignore")
    from torch.utils.data import DataLoader, default_collate
    from tqdm import tqdm

    from miamix_cpu import MiAMixCollator

    batches = 200 if given.quick else 2000
    result: dict[str, Any] = {"batches": batches, "batch": BATCH, "side": SIDE}
    for name, collate in (("plain", default_collate), ("MiAMix", MiAMixCollator(10, seed=0, dtype="uint8"))):
        loader: Any = DataLoader(
            Noise(batches * BATCH),  # type: ignore[arg-type]
            BATCH,
            num_workers=1,
            collate_fn=Watched(collate),
            multiprocessing_context="spawn",
        )
        resident, peak = [], 0
        for _, rss, highest in tqdm(loader, desc=name, unit="batch", leave=False):
            resident.append(rss / 1024)
            peak = highest / 1024
        tenth = batches // 10
        result[name] = {
            "peak_mib": peak,
            "second_tenth_mib": statistics.median(resident[tenth : 2 * tenth]),
            "last_tenth_mib": statistics.median(resident[-tenth:]),
            "resident_mib": resident[:: max(1, batches // 100)],
        }
        early, late = result[name]["second_tenth_mib"], result[name]["last_tenth_mib"]
        print(f"{name}: peak {peak:,.0f} MiB, resident {early:,.1f} MiB in the second tenth, {late:,.1f} in the last")
    print(f"MiAMix over plain: {result['MiAMix']['peak_mib'] - result['plain']['peak_mib']:,.0f} MiB")
    write(given.json, result)
    if given.plot:
        figure = new_figure(figsize=(7, 4))
        axis = figure.subplots()
        for name in ("plain", "MiAMix"):
            axis.plot(result[name]["resident_mib"], label=name)
        axis.set(xlabel="hundredths of the run", ylabel="resident memory of the worker, MiB")
        axis.legend()
        figure.savefig(given.plot)


if __name__ == "__main__":
    main()
