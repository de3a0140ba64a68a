"""Microseconds to render a mask by generator and augmentation, against a fill of the array; fmix against FFTs too."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.timing import new_figure, one_thread, parser, table, write

SIZES = (32, 64, 224, 512)
MASKS = 64


def cases(size: int) -> dict[str, Callable[[], Any]]:
    """A plan of one method each, all its masks rendered in one call, into the same few."""
    from numba import njit

    from miamix_cpu import MiAMix, MiAMixConfig
    from miamix_cpu.masks import method_of
    from miamix_cpu.masks.smooth import smooth
    from miamix_cpu.methods import METHODS

    def fill_all(code: int, layers: Any, coefficients: Any) -> None:
        method_of(code).fill(layers, code, slots, holes, coefficients)
        if layers["window"].any():
            smooth(layers, slots, holes)

    @njit(nogil=True)
    def fill_constant(hole: Any, times: int) -> None:
        for j in range(times):
            hole[:] = np.float32(j)

    holes, slots, found = np.empty((2, size, size), np.float32), np.arange(MASKS) % 2, {}
    found["floor: fill"] = partial(fill_constant, holes[0], MASKS)
    for code, method in enumerate(METHODS):
        if not hasattr(method_of(code), "fill"):
            continue
        variants = {"": {"p_aug": 0, "p_smooth": 0}}
        if getattr(method_of(code), "TURNS", False):
            variants[" rotated, sheared"] = {"p_aug": 1, "p_smooth": 0}
        if getattr(method_of(code), "SMOOTHS", False):
            variants[" smoothed"] = {"p_aug": 0, "p_smooth": 1}
        for name, augmentation in variants.items():
            config = MiAMixConfig(methods=(method,), weights=(1,), k_max=1, **augmentation)
            plan = MiAMix(2, config).plan(MASKS, size, size, rng=np.random.default_rng(0))
            found[method + name] = partial(fill_all, code, plan.layers, plan.coefficients)
            found[method + name]()
            if not (np.isfinite(holes).all() and 0 <= holes.min() <= holes.max() <= 1):
                raise ValueError(f"{method}{name}: values from {holes.min()} to {holes.max()}")
    from scipy import fft

    rng = np.random.default_rng(0)
    noise = rng.standard_normal((MASKS, 2, size, size // 2 + 1), dtype=np.float32)
    counts = (rng.random(MASKS) * size * size).astype(int).tolist()
    found["fmix, numpy.fft + argpartition"] = partial(by_fft, np.fft, noise, counts)
    found["fmix, scipy.fft + argpartition"] = partial(by_fft, fft, noise, counts)
    return found


def by_fft(fft: Any, noises: np.ndarray, counts: list[int]) -> None:
    """The same formula over the full spectrum; as in ours, the random numbers are drawn before."""
    size = noises.shape[2]
    f = np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size))
    amplitude = 1 / np.maximum(f, 1 / size) ** 3
    for noise, count in zip(noises, counts, strict=True):
        field = fft.irfft2((noise[0] + 1j * noise[1]) * amplitude, s=(size, size)).ravel()
        hole = np.zeros(size * size, np.float32)
        hole[np.argpartition(-field, min(count, size * size - 1))[:count]] = 1


def main() -> None:
    """Measure, print, write."""
    given = parser(__doc__.splitlines()[0], "masks").parse_args()
    one_thread()
    result: dict[str, dict[str, float]] = {}
    for size in SIZES:
        found = timing.measure(
            cases(size), rounds=3 if given.quick else 11, seconds=0.005 if given.quick else 0.05, label=f"{size}"
        )
        result[str(size)] = {name: 1e6 * t["median"] / MASKS for name, t in found.items()}
    names = list(next(iter(result.values())))
    print(table(["microseconds a mask", *result], [[n, *(f"{result[s][n]:,.2f}" for s in result)] for n in names]))
    write(given.json, {"microseconds": result})
    if given.plot:
        plot(result, given.plot)


def plot(result: dict[str, dict[str, float]], path: Any) -> None:
    """Microseconds a mask over the side: a colour a method, a line a treatment."""
    figure = new_figure(figsize=(9, 5))
    axis = figure.subplots()
    names = list(next(iter(result.values())))
    methods = list(dict.fromkeys(re.split("[ ,:]", name)[0] for name in names))
    for name in names:
        treatment = next((word for word in ("rotated", "smoothed", "numpy", "scipy") if word in name), "")
        axis.plot(
            [int(size) for size in result],
            [result[size][name] for size in result],
            color=f"C{methods.index(re.split('[ ,:]', name)[0])}",
            linestyle={"": "-", "rotated": "--", "smoothed": ":"}.get(treatment, "-."),
            marker={"numpy": "s", "scipy": "^"}.get(treatment, "o"),
            label=name,
        )
    axis.set(xscale="log", yscale="log", xlabel="side in pixels", ylabel="microseconds a mask, one core")
    axis.set_xticks([int(size) for size in result], labels=list(result), minor=False)
    axis.minorticks_off()
    figure.legend(*axis.get_legend_handles_labels(), fontsize=8, loc="outside right upper", handlelength=4)
    figure.savefig(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
