"""How the cost of an image grows with its pixels, the batch and the layers: fitted exponents.

By pixels and layers it is what one more image costs, a batch of 2 N less one of N over N, since what a batch costs at
any size would flatten the curve; by batch it is the whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
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


def exponent(x: Sequence[int], y: Sequence[float]) -> float:
    """Slope of log y over log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main() -> None:
    """Measure, fit, print, write."""
    given = parser(__doc__.splitlines()[0], "scaling").parse_args()
    one_thread()
    warnings.simplefilter("ignore")
    few = [max(4, 2**18 // side**2) for side in SIDES]
    result: dict[str, Any] = {}

    def measure(name: str, x: Sequence[int], *sweeps: Sequence[Callable[[], Any]]) -> list[list[float]]:
        """Medians of all `sweeps`, interleaved: seconds by sweep and x."""
        runs = {f"{i} {at}": run for i, sweep in enumerate(sweeps) for at, run in zip(x, sweep, strict=True)}
        found = timing.measure(runs, rounds=3 if given.quick else 9, seconds=0.02 if given.quick else 0.1, label=name)
        return [[found[f"{i} {at}"]["median"] for at in x] for i in range(len(sweeps))]

    def put(name: str, x: Sequence[int], seconds: Iterable[float], **tails: int) -> None:
        y = [1e6 * value for value in seconds]
        exponents = {f"exponent_{words}": exponent(x[start:], y[start:]) for words, start in tails.items()}
        result[name] = {"x": list(x), "microseconds_an_image": y, "exponent": exponent(x, y), **exponents}

    pixels = [side * side for side in SIDES]
    once, twice = measure(
        "pixels", pixels, [collate_of(s, n, 2) for s, n in zip(SIDES, few, strict=True)],
        [collate_of(s, 2 * n, 2) for s, n in zip(SIDES, few, strict=True)],
    )  # fmt: skip
    put("pixels", pixels, [(b - a) / n for a, b, n in zip(once, twice, few, strict=True)], from_128=3)
    once, twice = measure(
        "layers", LAYERS, [collate_of(64, 64, k) for k in LAYERS], [collate_of(64, 128, k) for k in LAYERS]
    )
    put("layers", LAYERS, [(b - a) / 64 for a, b in zip(once, twice, strict=True)])
    slope, start = np.polyfit(LAYERS, result["layers"]["microseconds_an_image"], 1)
    result["layers"] |= {"microseconds_a_layer": float(slope), "microseconds_without": float(start)}
    (whole,) = measure("batch", BATCHES, [collate_of(32, n, 2) for n in BATCHES])
    put("batch", BATCHES, [a / n for a, n in zip(whole, BATCHES, strict=True)], from_16=2)
    rows = [[name, *(f"{a:,}: {b:,.1f}" for a, b in zip(r["x"], r["microseconds_an_image"], strict=True))]
            for name, r in result.items()]  # fmt: skip
    longest = max(map(len, rows))
    print(table(["us an image", *[""] * (longest - 1)], [row + [""] * (longest - len(row)) for row in rows]))
    for name, r in result.items():
        print(name, {key: round(value, 2) for key, value in r.items() if isinstance(value, float)})
    write(given.json, {"sweeps": result})
    if given.plot:
        plot(result, given.plot)


def plot(result: dict[str, Any], path: Any) -> None:
    """Microseconds an image, a panel a sweep."""
    figure = new_figure(figsize=(12, 4))
    for axis, (name, r) in zip(figure.subplots(1, 3), result.items(), strict=True):
        axis.plot(r["x"], r["microseconds_an_image"], marker="o")
        scale = "linear" if name == "layers" else "log"
        of = "an image of a batch" if name == "batch" else "one more image"
        axis.set(xscale=scale, yscale=scale, xlabel=name, ylabel=f"microseconds, {of}")
    figure.savefig(path)


if __name__ == "__main__":
    main()
