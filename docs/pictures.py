"""The pictures of docs/algorithm.md, by the package itself: masks by its generators, batches by `MiAMix`.

python docs/pictures.py
"""

from __future__ import annotations

import argparse
import functools
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from PIL import Image
from scipy import stats

from miamix_cpu import GridMixOptions, MiAMix, MiAMixConfig, MixPlan
from miamix_cpu.cli.preview import photographs
from miamix_cpu.masks import UNIFORMS, method_of, methods_that
from miamix_cpu.methods import METHODS
from miamix_cpu.plan.layers import LAYER
from miamix_cpu.plan.sampling import choose_methods, draw_layers, lay_out

HERE = Path(__file__).parent / "algorithm"
RATIOS = (0.1, 0.3, 0.5, 0.7)
SIDE = 160  # pixels of a mask
BLUE, ORANGE, GREY = "#2f6fb5", "#e07b39", "#9a9a9a"
COLOURS = dict(zip(METHODS, ("#8c8c8c", "#2f6fb5", "#4d9a57", "#c44e52", "#b39a3c", "#8064a2"), strict=False))
CLASSES = np.array([[40, 60, 110], [200, 90, 60], [240, 220, 150]], np.uint8)  # a colour each
RANDOM_CELLS = GridMixOptions(pattern="random")


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, metavar="FOLDER", help="default: beside this file")
    out = parser.parse_args().out
    out.mkdir(exist_ok=True)
    pictures: dict[str, Callable[[], Figure]] = {
        "pairing": pairing,
        "partners": partners,
        "sampling": sampling,
        "mixup": lambda: by_ratio(alone("mixup"), seed=0),
        "cutmix": lambda: by_ratio(alone("cutmix"), seed=17),
        "fmix": lambda: by_ratio(alone("fmix"), seed=3),
        "gridmix": lambda: by_ratio(alone("gridmix"), seed=0),
        "gridmix_random": lambda: by_ratio(alone("gridmix", gridmix=RANDOM_CELLS), seed=0),
        "gmix": lambda: by_ratio(alone("gmix"), seed=5),
        "agmix": lambda: by_ratio(alone("agmix"), seed=6),
        "hmix": lambda: by_ratio(alone("hmix"), seed=17),
        "smoothmix": lambda: by_draw(alone("smoothmix"), seed=3),
        "resizemix": lambda: by_draw(alone("resizemix"), seed=4),
        "saliencymix": lambda: by_draw(alone("saliencymix"), seed=1),
        "attentivecutmix": lambda: by_draw(alone("attentivecutmix"), seed=1),
        "guidedmixup": lambda: by_draw(alone("guidedmixup"), seed=1),
        "area": lambda: by_ratio(alone("agmix", gauss_scale="area"), seed=6),
        "augmentation": augmentation,
        "warped": warped,
        "merging": merging,
        "readings": readings,
        "lam": measured_lam,
        "also": maps_too,
    }
    for name, draw in pictures.items():
        save(draw(), out / f"{name}.png")


def save(figure: Figure, path: Path) -> None:
    """Write a figure in 256 colours of its own, dithered: half the bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    picture = Image.open(drawn).convert("RGB")
    dithered = picture.quantize(palette=picture.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
    palette = np.reshape(dithered.getpalette(), (-1, 3))
    palette[palette.min(axis=1) > 248] = 255  # white is white, which is looked up to a few levels only
    dithered.putpalette(palette.ravel().tolist())
    dithered.save(path, optimize=True)


def panels(rows: int, columns: int, width: float = 1.9, height: float = 2.1) -> tuple[Figure, np.ndarray]:
    """A figure of `rows` x `columns` panels, inches each."""
    figure = Figure(figsize=(width * columns, height * rows), dpi=100, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def show(axis: Any, picture: np.ndarray, title: str = "") -> None:
    """A mask (float, white is 1) or a photograph (uint8)."""
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=8)
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)


@functools.cache
def photograph(name: str, side: int = SIDE) -> np.ndarray:
    """The middle of one of scikit-image's photographs, uint8 (side, side, 3)."""
    picture = dict(photographs())[name]
    height, width = picture.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return cv2.resize(picture[top : top + short, left : left + short], (side, side), interpolation=cv2.INTER_AREA)


def alone(method: str, **changes: Any) -> MiAMixConfig:
    """One layer of one method, not augmented."""
    return MiAMixConfig.plain(method, **changes)


def plan_of(config: MiAMixConfig, ratios: Sequence[float], seed: int, *, alike: bool = True) -> MixPlan:
    """A plan whose sample j has one layer of ratio j; `alike`, nothing but the ratio differs between them."""
    rng = np.random.default_rng(seed)
    layers = np.zeros(len(ratios), dtype=LAYER)
    layers["sample"], layers["ratio"] = np.arange(len(ratios)), ratios
    uniforms = rng.random((1 if alike else len(ratios), UNIFORMS))
    uniforms, counts = np.repeat(uniforms, len(ratios) // len(uniforms), axis=0), np.zeros(len(METHODS), np.int64)
    choose_methods(layers, uniforms, config.shares, counts)
    draw_layers(config, layers, counts, SIDE, SIDE, uniforms)
    size, _, fields = lay_out(layers, methods_that("GUIDED"))
    coefficients = rng.standard_normal(size // len(ratios) if alike else size, dtype=np.float32)
    if alike:
        coefficients = np.tile(coefficients, len(ratios))
    if fields:
        method_of(int(layers["method"][0])).finish(layers, coefficients)
    return MixPlan(
        height=SIDE, width=SIDE, layers=layers, coefficients=coefficients,
        partner=np.roll(np.arange(len(ratios)), -1), first_layer=np.arange(len(ratios) + 1),
    )  # fmt: skip


def masks_of(plan: MixPlan) -> np.ndarray:
    """Rendered alone, float32 (n, H, W): the weight of the first view."""
    blank = np.zeros((len(plan), plan.height, plan.width), dtype=np.uint8)
    return MiAMix(2, return_masks=True).render(plan, blank, np.zeros(len(plan), dtype=int), second=blank).masks


def by_ratio(config: MiAMixConfig, seed: int) -> Figure:
    """One generator's masks at four ratios, and what they make of two photographs."""
    plan = plan_of(config, RATIOS, seed)
    first = np.stack([photograph("chelsea")] * len(RATIOS))
    second = np.stack([photograph("rocket")] * len(RATIOS))
    batch = MiAMix(2, return_masks=True).render(plan, first, [0] * len(RATIOS), second=second)
    figure, axes = panels(2, len(RATIOS), height=2.05)
    for j, ratio in enumerate(RATIOS):
        show(axes[0, j], batch.masks[j], f"ratio {ratio}: hole {1 - batch.lam[j]:.2f}, lam {batch.lam[j]:.2f}")
        show(axes[1, j], batch.images[j])
    return figure


def by_draw(config: MiAMixConfig, seed: int) -> Figure:
    """One generator's masks as they are drawn, with four partners, whose guides they may depend on."""
    partners = ("rocket", "astronaut", "coffee", "retina")
    n = len(partners)
    plan = MiAMix(2, config).plan(n, SIDE, SIDE, rng=np.random.default_rng(seed))
    plan.partner[:] = np.arange(n)
    first = np.stack([photograph("chelsea")] * n)
    second = np.stack([photograph(name) for name in partners])
    batch = MiAMix(2, return_masks=True).render(plan, first, [0] * n, second=second)
    figure, axes = panels(2, n, height=2.05)
    for j in range(n):
        show(axes[0, j], batch.masks[j], f"ratio {batch.plan.layers['ratio'][j]:.2f}, lam {batch.lam[j]:.2f}")
        show(axes[1, j], batch.images[j])
    return figure


def pairing() -> Figure:
    """A batch of seven photographs and who shows through whom."""
    names = [name for name, _ in photographs()]
    n = len(names)
    plan = MiAMix(2).plan(n, 8, 8, rng=np.random.default_rng(1093))
    figure, axes = panels(2, n, width=1.25, height=1.75)
    for i, name in enumerate(names):
        show(axes[0, i], photograph(name, 96), f"{i}, first view")
        if i in plan.needs_second_view:
            show(axes[1, i], cv2.flip(photograph(name, 120)[12:108, 12:108], 1), f"{i}, second view")
        else:
            show(axes[1, i], np.full((1, 1), 250, np.uint8), f"{i}: not made")
    figure.get_layout_engine().set(hspace=0.25)
    for i, partner in enumerate(plan.partner):
        arrow = ConnectionPatch(
            (0.5, 0), (0.5, 1.22), "axes fraction", "axes fraction", axesA=axes[0, i], axesB=axes[1, partner],
            arrowstyle="<|-", linewidth=1.4, color=ORANGE if partner == i else BLUE,
        )  # fmt: skip
        figure.add_artist(arrow)
    return figure


def partners() -> Figure:
    """A sample whose two layers show different partners: the weights of its three views, and what they make."""
    config = MiAMixConfig(partners="layer", k_min=2, methods=("cutmix", "agmix"), weights=(1, 1), p_aug=0, p_smooth=0)
    plan = MiAMix(3, config).plan(3, SIDE, SIDE, rng=np.random.default_rng(1))
    plan.partner[:] = [[1, 2], [2, 0], [0, 1]]
    images = np.stack([photograph(name) for name in ("chelsea", "rocket", "coffee")])
    batch = MiAMix(3, return_masks=True).render(plan, images, range(3), second=images)
    figure, axes = panels(1, 4, width=1.8, height=2.0)
    names = ("first view", "first layer's partner", "second layer's partner")
    for axis, mask, lam, name in zip(axes[0], batch.masks[0], batch.lam[0], names, strict=False):
        show(axis, mask, f"{name}:\nmean weight {lam:.2f}")
    show(axes[0, 3], batch.images[0], "\nmixed")
    return figure


def maps_too() -> Figure:
    """Two photographs and maps of their dark, grey and bright pixels, mixed by one mask in two ways."""
    images = np.stack([photograph("chelsea"), photograph("coffee")])
    maps = np.digitize(images.mean(axis=-1), (80, 140))
    plan = plan_of(alone("agmix"), (0.06, 0.06), seed=6)
    made = {}
    for way in ("choose", ("soft", 3)):
        mix = MiAMix(2, return_masks=True, also={"map": way})
        made[way] = mix.render(plan, images, (0, 1), also={"map": maps}).extras["map"][0]
    batch = MiAMix(2, return_masks=True).render(plan, images, (0, 1))
    figure, axes = panels(2, 4, width=1.6, height=1.75)
    pictures = (
        (images[0], "first view"), (images[1], "second view"), (batch.masks[0], f"mask, lam {batch.lam[0]:.2f}"),
        (batch.images[0], "mixed"), (CLASSES[maps[0]], "its map"), (CLASSES[maps[1]], "its map"),
        (CLASSES[made["choose"]], '"choose"'),
        (np.einsum("khw,kc->hwc", made["soft", 3], CLASSES).round().astype(np.uint8), '("soft", 3)'),
    )  # fmt: skip
    for axis, (picture, title) in zip(axes.flat, pictures, strict=True):
        show(axis, picture, title)
    return figure


def sampling() -> Figure:
    """Layers of twelve samples as they are drawn, and the law of the partner's share."""
    figure = Figure(figsize=(7.6, 2.9), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    plan = MiAMix(2).plan(12, 32, 32, rng=np.random.default_rng(40))
    used = []
    for i in range(len(plan)):
        start = 0.0
        for layer in plan.layers_of(i):
            method = METHODS[layer["method"]]
            label = None if method in used else method
            left.barh(i, layer["ratio"], left=start, color=COLOURS[method], label=label, edgecolor="white")
            used.append(method)
            start += layer["ratio"]
    left.set(xlim=(0, 1), xlabel="ratios of a sample's layers; what is left is its own", ylabel="sample")
    left.set_yticks(range(12), [str(i) for i in range(12)], fontsize=6)
    left.invert_yaxis()
    left.legend(fontsize=7, frameon=False, ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1), columnspacing=1,
                handlelength=1)  # fmt: skip
    grid = np.linspace(0, 1, 201)
    for k, colour in ((1, GREY), (2, BLUE), (4, ORANGE)):
        plan = MiAMix(2, MiAMixConfig(k_min=k, k_max=k)).plan(20_000, 32, 32, rng=np.random.default_rng(k))
        shares = plan.layers["ratio"].reshape(-1, k).sum(axis=1)
        right.hist(shares, bins=40, range=(0, 1), density=True, color=colour, alpha=0.35)
        right.plot(grid, stats.beta.pdf(grid, k, k), color=colour, label=f"k = {k}, Beta({k}, {k})")
    right.set(xlim=(0, 1), yticks=[], xlabel="the partner's share, the sum of the ratios")
    right.legend(fontsize=7, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), columnspacing=1,
                 handlelength=1)  # fmt: skip
    return tidy(figure)


def tidy(figure: Figure) -> Figure:
    """No frames that say nothing, small letters."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7)
        axis.xaxis.label.set_size(8)
        axis.yaxis.label.set_size(8)
        axis.title.set_size(8)
    return figure


def augmentation() -> Figure:
    """The same mask plain, turned, sheared, both, and smoothed."""
    steps = [("plain", 0, 0, 0), ("rotated 30 degrees", 30, 0, 0), ("sheared 0.4", 0, 0.4, 0),
             ("rotated, sheared", 30, 0.4, 0), ("smoothed, 19 px", 0, 0, 19)]  # fmt: skip
    figure, axes = panels(3, len(steps), width=1.55, height=1.8)
    for row, (method, seed) in enumerate((("cutmix", 17), ("fmix", 3), ("gridmix", 0))):
        plan = plan_of(alone(method, p_aug=1.0), [0.3] * len(steps), seed)
        layers = plan.layers
        layers["augmented"] = [turn or shear for _, turn, shear, _ in steps]
        layers["angle"] = [math.radians(turn) for _, turn, _, _ in steps]
        layers["shear"] = [shear for _, _, shear, _ in steps]
        layers["window"] = [window for _, _, _, window in steps]
        for axis, mask, (name, *_) in zip(axes[row], masks_of(plan), steps, strict=True):
            show(axis, mask, f"{name}\nhole {1 - mask.mean():.3f}" if row == 0 else f"hole {1 - mask.mean():.3f}")
        axes[row, 0].set_ylabel(method, fontsize=8)
    return figure


def warped() -> Figure:
    """Rotation and shear of coordinates, beside those of pixels with zeros from outside; means of 400 masks."""
    figure, axes = panels(2, 3, width=2.5, height=2.75)
    for row, (method, seed, shown) in enumerate((("gridmix", 0, 1), ("cutmix", 7, 4))):
        plain = plan_of(alone(method), [0.5] * 400, seed, alike=False)
        turned = plan_of(alone(method, p_aug=1.0), [0.5] * 400, seed, alike=False)  # the same but for that
        before, ours = masks_of(plain), masks_of(turned)
        theirs = np.stack([warp(mask, layer) for mask, layer in zip(before, turned.layers, strict=True)])
        names = ("plain", "coordinates turned", "pixels turned")
        for axis, masks, name in zip(axes[row], (before, ours, theirs), names, strict=True):
            hole, mean = 1 - masks[shown].mean(), 1 - masks.mean()
            show(axis, masks[shown], f"{name}: hole {hole:.2f}\nmean of 400: {mean:.2f}")
        axes[row, 0].set_ylabel(f"{method}, ratio 0.5", fontsize=8)
    return figure


def warp(mask: np.ndarray, layer: Any) -> np.ndarray:
    """What this project does not do: turn and shear the mask's pixels about the image's centre."""
    cosine, sine, shear, middle = math.cos(layer["angle"]), math.sin(layer["angle"]), layer["shear"], (SIDE - 1) / 2
    to_source = np.array([[cosine - shear * sine, sine + shear * cosine], [-sine, cosine]])
    shift = middle - to_source @ (middle, middle)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(mask, np.column_stack([to_source, shift]), (SIDE, SIDE), flags=flags)


def merging() -> Figure:
    """Two pairs of layers, their product, and their clipped sum of holes."""
    figure, axes = panels(2, 4)
    for row, (methods, ratios) in enumerate(((("cutmix", "agmix"), (0.35, 0.05)), (("mixup", "agmix"), (0.4, 0.1)))):
        plans = [plan_of(alone(method), [ratio], seed=6) for method, ratio in zip(methods, ratios, strict=True)]
        for axis, method, ratio, plan in zip(axes[row, :2], methods, ratios, plans, strict=True):
            mask = masks_of(plan)[0]
            show(axis, mask, f"{method} {ratio}, mean {mask.mean():.2f}")
        layers = np.concatenate([plan.layers for plan in plans])
        for axis, merge in zip(axes[row, 2:], ("mul", "sum"), strict=True):
            mask = masks_of(MixPlan(
                height=SIDE, width=SIDE, partner=np.zeros(1, np.int64), layers=layers, merge=merge,
                first_layer=np.array([0, 2]), coefficients=np.zeros(0, np.float32),
            ))[0]  # fmt: skip
            show(axis, mask, f'merge="{merge}", lam {mask.mean():.2f}')
    return figure


def readings() -> Figure:
    """lam at k = 2, ideal masks, under both readings of lambda_j."""
    plan = MiAMix(2, MiAMixConfig(k_min=2)).plan(50_000, 32, 32, rng=np.random.default_rng(0))
    ratios = plan.layers["ratio"].reshape(-1, 2)
    figure = Figure(figsize=(7.6, 2.4), dpi=100, layout="constrained")
    for axis, lam, name, colour in zip(
        figure.subplots(1, 2),
        (np.prod(1 - ratios, axis=1), np.prod(ratios, axis=1)),
        ("lambda_j is the mean of layer j's hole", "lambda_j is the mean of layer j's mask"),
        (BLUE, ORANGE),
        strict=True,
    ):
        axis.hist(lam, bins=50, range=(0, 1), color=colour, weights=np.full(len(lam), 1 / len(lam)))
        axis.set(xlim=(0, 1), yticks=[], xlabel="lam, the mean of the product",
                 title=f"{name}\nmean {lam.mean():.2f}; {np.mean(lam < 0.05):.0%} below 0.05")  # fmt: skip
    return tidy(figure)


def measured_lam() -> Figure:
    """Measured lam over nominal 1 - sum of the ratios, method by method, and all of Table 1."""
    panels_of = {
        "mixup": alone("mixup"), "cutmix": alone("cutmix"), "fmix": alone("fmix"), "gridmix": alone("gridmix"),
        "gmix": alone("gmix"), "agmix": alone("agmix"), 'agmix, gauss_scale="area"': alone("agmix", gauss_scale="area"),
        "all of Table 1": MiAMixConfig(),
    }  # fmt: skip
    figure, axes = panels(2, 4, height=1.95)
    for axis, (name, config) in zip(axes.flat, panels_of.items(), strict=True):
        plan = MiAMix(2, config).plan(500, 64, 64, rng=np.random.default_rng(0))
        lam = masks_of(plan).mean(axis=(1, 2))
        nominal = 1 - np.add.reduceat(plan.layers["ratio"], plan.first_layer[:-1])
        axis.plot((0, 1), (0, 1), color=GREY, linewidth=0.8)
        axis.scatter(nominal, lam, s=3, color=ORANGE if "Table" in name else BLUE, linewidths=0)
        axis.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal", title=name)
    figure.supxlabel("nominal: 1 - sum of the ratios", fontsize=8)
    figure.supylabel("measured lam", fontsize=8)
    return tidy(figure)


if __name__ == "__main__":
    main()
