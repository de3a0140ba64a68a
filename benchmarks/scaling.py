"""How the cost of an image grows with its pixels, the batch and the layers: fitted exponents."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.timing import new_figure, one_thread, parser, table, write

SIDES = (16, 32, 64, 128, 256, 512, 1024)
BATCHES = (1, 4, 16, 64, 256, 1024)
LAYERS = (1, 2, 4, 8)


def collate_of(side: int, n: int, k: int) -> Callable[[], Any]:
    """A call of the collator on `n` samples, k layers each."""
    from miamix_cpu import MiAMixCollator, MiAMixConfig

    rng, epochs = np.random.default_rng(0), count(1)
    samples = [(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), i % 10) for i in range(n)]
    collate = MiAMixCollator(10, MiAMixConfig(k_min=k, k_max=k), seed=0, dtype="uint8")

    def run() -> None:
        collate.set_epoch(next(epochs))
        collate(samples)

    return run


def exponent(x: list[int], y: list[float]) -> float:
    """Slope of log y over log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main() -> None:
    """Measure, fit, print, write."""
    given = parser(__doc__.splitlines()[0], "scaling").parse_args()
    one_thread()
    warnings.simplefilter("ignore")
    sweeps: dict[str, tuple[list[int], dict[str, Callable[[], Any]], list[int]]] = {
        "pixels": ([s * s for s in SIDES], {str(s): collate_of(s, max(2, 2**20 // s**2 // 4), 2) for s in SIDES},
                   [max(2, 2**20 // s**2 // 4) for s in SIDES]),
        "batch": (list(BATCHES), {str(n): collate_of(32, n, 2) for n in BATCHES}, list(BATCHES)),
        "layers": (list(LAYERS), {str(k): collate_of(64, 32, k) for k in LAYERS}, [32] * len(LAYERS)),
    }  # fmt: skip
    result: dict[str, Any] = {}
    for name, (x, runs, images) in sweeps.items():
        found = timing.measure(runs, rounds=3 if given.quick else 9, seconds=0.02 if given.quick else 0.1, label=name)
        y = [1e6 * t["median"] / n for t, n in zip(found.values(), images, strict=True)]
        result[name] = {"x": x, "microseconds_an_image": y, "exponent": exponent(x, y)}
        if name == "pixels":
            result[name]["exponent_from_128"] = exponent(x[3:], y[3:])
        if name == "batch":
            result[name]["exponent_from_16"] = exponent(x[2:], y[2:])
    rows = [[name, *(f"{a:,}: {b:,.1f}" for a, b in zip(r["x"], r["microseconds_an_image"], strict=True))]
            for name, r in result.items()]  # fmt: skip
    longest = max(map(len, rows))
    print(table(["us an image", *[""] * (longest - 1)], [row + [""] * (longest - len(row)) for row in rows]))
    for name, r in result.items():
        print(name, {key: round(value, 2) for key, value in r.items() if key.startswith("exponent")})
    write(given.json, {"sweeps": result})
    if given.plot:
        figure = new_figure(figsize=(12, 4))
        for axis, (name, r) in zip(figure.subplots(1, 3), result.items(), strict=True):
            axis.plot(r["x"], r["microseconds_an_image"], marker="o")
            axis.set(xscale="log", yscale="log", xlabel=name, ylabel="microseconds an image")
        figure.savefig(given.plot)


if __name__ == "__main__":
    main()
