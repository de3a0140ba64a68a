"""Draw a gallery of mixed images: one row per sample, with both views, the masks and the result."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miamix_cpu.cli import UserError
from miamix_cpu.mix.mixed_batch import MixedBatch
from miamix_cpu.mix.render import mix_views
from miamix_cpu.plan.layers import describe_layer
from miamix_cpu.plan.mix_plan import MixPlan


@dataclass(frozen=True)
class Row:
    """One sample in a gallery. Images are uint8 (H, W, C) or (H, W), masks are float32 (H, W)."""

    first: np.ndarray
    second: np.ndarray
    layers: list[tuple[str, np.ndarray]]
    mask: np.ndarray
    mixed: np.ndarray
    caption: str


def layer_masks(plan: MixPlan, i: int) -> list[tuple[str, np.ndarray]]:
    """Return each layer's name and mask for sample `i`, rendered alone: float32 (H, W), the first view's weight."""
    rendered = []
    for layer in plan.layers_of(i):
        alone = MixPlan(
            height=plan.height,
            width=plan.width,
            partner=np.zeros(1, dtype=np.int64),
            layers=np.array([layer]),
            first_layer=np.array([0, 1]),
            coefficients=plan.coefficients,
        )
        # Not by MiAMix.render, which would aim the layer anew, by guides of the blank image.
        blank, masks = (
            np.zeros((2, plan.height, plan.width), np.uint8),
            np.empty((1, plan.height, plan.width), np.float32),
        )
        address, ones = np.array([blank.ctypes.data], np.uint64), np.ones(1, np.float32)
        mix_views(alone, address, address, np.uint8, blank[1:], masks, ones, ones)
        rendered.append((describe_layer(layer), masks[0]))
    return rendered


def rows_of(samples: list[Any], batch: MixedBatch, names: list[str], count: int) -> list[Row]:
    """Return the first `count` rows of a uint8 batch that was mixed from pairs of views and includes its masks.

    Parameters
    ----------
    samples : list of ((first view, second view), label), arrays (H, W, C) or (H, W)
    batch : MixedBatch of MiAMixCollator
    names : list of str, one per sample
    """
    partners = batch.partner.tolist()
    return [row_of(batch, i, samples[i][0][0], samples[partners[i]][0][1], names) for i in range(count)]


def row_of(batch: MixedBatch, i: int, first: np.ndarray, second: np.ndarray, names: list[str]) -> Row:
    """Return the row of sample `i` of such a batch, mixed from the views `first` and `second`."""
    mixed = batch.images[i].permute(1, 2, 0).numpy()
    return Row(
        first=first,
        second=second,
        layers=layer_masks(batch.plan, i),
        mask=batch.masks[i].numpy(),
        mixed=mixed[..., 0] if mixed.shape[2] == 1 else mixed,
        caption=f"{batch.describe(i)} ({names[i]} with {names[int(batch.partner[i])]})",
    )


def draw_gallery(rows: list[Row], out: Path, title: str) -> None:
    """Write `rows` to `out` as a PNG."""
    from matplotlib.figure import Figure

    columns = 4 + max(len(row.layers) for row in rows)
    captions = [textwrap.fill(row.caption, 32 * columns) for row in rows]
    titles = [[textwrap.fill(name, 34) for name, _ in row.layers] for row in rows]
    lines = [max(title.count("\n") for title in (caption, *own)) for caption, own in zip(captions, titles, strict=True)]
    heights = [2.75 + 0.15 * more for more in lines]  # inches
    figure = Figure(figsize=(2.3 * columns, sum(heights) + 0.4), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11)
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, row, caption, own in zip(parts, rows, captions, titles, strict=True):
        part.suptitle(caption, fontsize=9, x=0.01, ha="left", parse_math=False)
        panels: list[tuple[str, np.ndarray | None]] = [("first view", row.first), ("second view (partner)", row.second)]
        panels += [(name, mask) for name, (_, mask) in zip(own, row.layers, strict=True)]
        panels += [("", None)] * (columns - 4 - len(row.layers))
        panels += [(f"merged mask, mean {row.mask.mean():.2f}", row.mask), ("mixed", row.mixed)]
        for axis, (name, picture) in zip(part.subplots(1, columns), panels, strict=True):
            _show(axis, name, picture)
    try:
        figure.savefig(out)
    except OSError as error:
        raise UserError(f"--out: {out} can't be written: {error.strerror}") from error


def _show(axis: Any, name: str, picture: np.ndarray | None) -> None:
    axis.set(xticks=[], yticks=[])
    if picture is None:
        axis.set_axis_off()
        return
    axis.set_title(name, fontsize=7, parse_math=False)
    limits = {"cmap": "gray", "vmin": 0, "vmax": 255 if picture.dtype == np.uint8 else 1}
    axis.imshow(picture, interpolation="nearest", **(limits if picture.ndim == 2 else {}))
