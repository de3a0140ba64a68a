"""Where a batch's time goes: milliseconds of the collator's parts, all of Table 1, called again and again on one list.

Each part is timed where it is called, so the clock itself is in it: a fifth of a microsecond a call.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections import defaultdict
from typing import Any

import numpy as np

from benchmarks.timing import one_thread, parser, table, write

SIZES, BATCH = (32, 64, 224), 128
REST = "the rest"


def measured(size: int, rounds: int) -> dict[str, float]:
    """Milliseconds a batch by part; `REST` is what none of them holds."""
    from miamix_cpu import MiAMixCollator, collate, keyed, prepared

    parts = {
        "render": [(prepared, "mix_views")],
        "draw the plan": [(keyed.KeyedMixer, "_draw")],
        "read samples, images, labels": [(collate, "read_samples"), (keyed, "read_labels"), (keyed.KeyedMixer, "_raw")],
        "gather, key": [(keyed.KeyedMixer, "_fingerprint"), (keyed, "batch_key"), (keyed, "samples_digest")],
        "allocate, targets": [(collate, "empty"), (collate, "write_targets")],
    }
    spent: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            spent[part] += time.perf_counter() - start
            return result

        return run

    before = [(holder, name, getattr(holder, name)) for places in parts.values() for holder, name in places]
    rng = np.random.default_rng(0)
    samples = [(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), i % 10) for i in range(BATCH)]
    mix = MiAMixCollator(10, seed=0, dtype="uint8")
    found: dict[str, list[float]] = defaultdict(list)
    try:
        for part, places in parts.items():
            for holder, name in places:
                setattr(holder, name, timed(part, getattr(holder, name)))
        for epoch in range(rounds):
            mix.set_epoch(epoch)
            spent.clear()
            start = time.perf_counter()
            mix(samples)
            whole = time.perf_counter() - start
            for part in parts:
                found[part].append(spent[part])
            found[REST].append(whole - sum(spent.values()))
    finally:
        for holder, name, function in before:
            setattr(holder, name, function)
    return {part: 1e3 * statistics.median(times[rounds // 10 :]) for part, times in found.items()}


def main() -> None:
    """Measure, print, write."""
    given = parser(__doc__.splitlines()[0], "parts", plots=False).parse_args()
    one_thread()
    warnings.filterwarnings("ignore", message=".*come out unmixed")
    result = {str(size): measured(size, 20 if given.quick else 300 if size < 224 else 60) for size in SIZES}
    names = list(next(iter(result.values())))
    print(table([f"ms a batch of {BATCH}", *result], [[n, *(f"{result[s][n]:.3f}" for s in result)] for n in names]))
    write(given.json, {"batch": BATCH, "milliseconds": result})


if __name__ == "__main__":
    main()
