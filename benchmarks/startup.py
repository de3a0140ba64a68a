"""How long a process takes to its first batch: importing, with a cold cache, with a warm one, in a spawned worker."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.timing import parser, table, write

_IMPORT = "import time; t = time.perf_counter(); import miamix_cpu; print(time.perf_counter() - t)"
_ON_ONE_CORE = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
_WARMUP = """
import time
import numpy as np
from miamix_cpu import MiAMix, warmup
import miamix_cpu.mix.render
t = time.perf_counter()
warmup()
print(time.perf_counter() - t)
"""


def seconds(code: str, cache: str) -> float:
    """What a fresh process prints."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return float(result.stdout)


def first_batch(_: int, queue: object) -> None:
    """In a spawned process: seconds from the imports to the first mixed batch."""
    import numpy as np

    from miamix_cpu import MiAMixCollator, MiAMixConfig

    samples = [(np.full((32, 32, 3), i, np.uint8), i % 10) for i in range(128)]
    start = time.perf_counter()
    MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0)(samples)
    queue.put(time.perf_counter() - start)  # type: ignore[attr-defined]


def first_batches(times: int, cache: str) -> list[float]:
    """`first_batch` of so many processes, one after the other."""
    import torch

    os.environ["NUMBA_CACHE_DIR"] = cache
    context = torch.multiprocessing.get_context("spawn")
    found = []
    for _ in range(times):
        queue = context.Queue()
        process = context.Process(target=first_batch, args=(0, queue))
        process.start()
        found.append(queue.get())
        process.join()
    return found


def main() -> None:
    """Measure, print, write."""
    given = parser(__doc__.splitlines()[0], "startup", plots=False).parse_args()
    times = 2 if given.quick else 5
    with tempfile.TemporaryDirectory() as folder:
        caches = [os.path.join(folder, str(i)) for i in range(times)]
        runs = {
            "compile everything, cold cache": [seconds(_WARMUP, cache) for cache in caches],
            "load everything, warm cache": [seconds(_WARMUP, cache) for cache in caches],
            "import miamix_cpu": [seconds(_IMPORT, cache) for cache in caches],
            "first batch in a spawned worker, warm cache": first_batches(times, caches[0]),
        }
        if hasattr(os, "sched_setaffinity"):
            alone = [seconds(_ON_ONE_CORE + _WARMUP, f"{cache}-alone") for cache in caches]
            runs["compile everything, cold cache, on one core"] = alone
    rows = [[name, *(f"{of(found):.2f}" for of in (statistics.median, min, max))] for name, found in runs.items()]
    print(table(["seconds", "median", "least", "most"], rows))
    write(given.json, {"seconds": {name: statistics.median(found) for name, found in runs.items()}, "runs": runs})


if __name__ == "__main__":
    main()
