"""What it costs to mix more than one image and one class: maps and further images, clips, several partners."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.timing import one_thread, parser, table, write
from miamix_cpu import MiAMix, MiAMixConfig

CLASSES = 21
BATCHES = {32: 128, 64: 128, 224: 64}
FRAMES, CLIPS, FRAME = 16, 8, 112

Times = dict[str, dict[str, Any]]


def mixing(mix: MiAMix, images: np.ndarray, **given: Any) -> Callable[[], Any]:
    """Mix the same batch by the same plan, each sample with the second view of another."""
    labels = np.arange(len(images)) % 10
    return lambda: mix(images, labels, second=images[::-1], rng=np.random.default_rng(1), **given)


def along(side: int) -> tuple[dict[str, Callable[[], Any]], dict[str, int]]:
    """Cases with one more entry, and the bytes of each entry."""
    rng = np.random.default_rng(0)
    n = BATCHES[side]
    images = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    classes = rng.integers(0, CLASSES, (n, side, side))
    entries = {
        "blend, uint8 x 3": ("blend", images[:, ::-1].copy()),
        "blend, float32": ("blend", rng.random((n, side, side), dtype=np.float32)),
        "choose, int64": ("choose", classes),
        "choose, uint8": ("choose", classes.astype(np.uint8)),
        f"soft, {CLASSES} classes": (("soft", CLASSES), classes),
    }
    cases = {"images": mixing(MiAMix(10), images), "masks": mixing(MiAMix(10, return_masks=True), images)}
    for name, (way, entry) in entries.items():
        given = {"also": {"entry": entry}, "second_also": {"entry": entry[::-1]}}
        cases[name] = mixing(MiAMix(10, also={"entry": way}), images, **given)
        if cases[name]().extras["entry"].shape[0] != n:
            raise ValueError(f"{name} is not mixed")
    return cases, {"images": images.nbytes, **{name: entry.nbytes for name, (_, entry) in entries.items()}}


def partners(side: int) -> dict[str, Callable[[], Any]]:
    """One partner a sample, and one for each of k layers."""
    images = np.random.default_rng(0).integers(0, 256, (BATCHES[side], side, side, 3), dtype=np.uint8)
    return {
        f"{k} {who}": mixing(MiAMix(10, MiAMixConfig(k_min=k, k_max=k, partners=who)), images)
        for k in (1, 2, 3) for who in ("sample", "layer")
    }  # fmt: skip


def clips() -> dict[str, Callable[[], Any]]:
    """Clips, and as many images as they have frames."""
    shape = (CLIPS, FRAMES, FRAME, FRAME, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return {"clips": mixing(MiAMix(10), frames), "images": mixing(MiAMix(10), frames.reshape(-1, *shape[2:]))}


def quartiles(values: list[float]) -> list[float]:
    """Median, lower and upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4)
    return [middle, low, high]


def by_round(times: Times, formula: Callable[..., float], *names: str) -> list[float]:
    """Quartiles of a formula of several cases' times within each round."""
    return quartiles([formula(*row) for row in zip(*(times[name]["times"] for name in names), strict=True)])


def shares(times: Times, sizes: dict[str, int]) -> dict[str, list[float]]:
    """What one more entry takes beside masks: as a share of a batch of images, and a byte of it."""
    found = {}
    second = "blend, uint8 x 3"
    for name in [name for name in sizes if name != "images"]:
        found[f"{name} / images"] = by_round(times, lambda entry, masks, images: (entry - masks) / images,
                                             name, "masks", "images")  # fmt: skip
        scale = sizes[second] / sizes[name]
        found[f"{name}, a byte / of a second image"] = by_round(
            times, partial(lambda scale, entry, masks, blend: scale * (entry - masks) / (blend - masks), scale),
            name, "masks", second,
        )  # fmt: skip
    return found


def main() -> None:
    """Measure, print, write."""
    given = parser(__doc__.splitlines()[0], "along", plots=False).parse_args()
    one_thread()
    rounds, seconds = (3, 0.02) if given.quick else (31, 0.1)
    ratios: dict[str, dict[str, list[float]]] = {}
    milliseconds: dict[str, dict[str, float]] = {}
    for side in BATCHES:
        cases, sizes = along(side)
        times = timing.measure(cases, rounds=rounds, seconds=seconds, label=f"entries, {side}")
        ratios[f"entries, {side}"] = shares(times, sizes)
        milliseconds[f"entries, {side}"] = {name: 1e3 * t["median"] for name, t in times.items()}
        times = timing.measure(partners(side), rounds=rounds, seconds=seconds, label=f"partners, {side}")
        milliseconds[f"partners, {side}"] = {name: 1e3 * t["median"] for name, t in times.items()}
        ratios[f"partners, {side}"] = {
            f"layer / sample, {k} layers": by_round(times, lambda a, b: a / b, f"{k} layer", f"{k} sample")
            for k in (1, 2, 3)
        }
    times = timing.measure(clips(), rounds=rounds, seconds=seconds, label="clips")
    milliseconds["clips"] = {name: 1e3 * t["median"] for name, t in times.items()}
    ratios["clips"] = {"a frame / an image": by_round(times, lambda a, b: a / b, "clips", "images")}
    rows = [[f"{part}: {name}", "{:.2f} [{:.2f}, {:.2f}]".format(*values)] for part, found in ratios.items()
            for name, values in found.items()]  # fmt: skip
    print(table(["median ratio [quartiles]", ""], rows))
    write(given.json, {"batches": BATCHES, "milliseconds": milliseconds, "ratios": ratios})


if __name__ == "__main__":
    main()
