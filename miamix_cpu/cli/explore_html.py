"""HTML of the images and the histogram on the page of `explore`."""

from __future__ import annotations

import base64
from html import escape

import cv2
import numpy as np

from miamix_cpu.cli.explore import LAM_SAMPLES, LAM_SIDE
from miamix_cpu.cli.gallery import Row

_BINS = 40

CSS = """
#controls { position: sticky; top: 0; max-height: 100vh; overflow-y: auto; flex-wrap: nowrap; padding-bottom: 1rem; }
#controls > * { flex-shrink: 0; }
.miamix-problem { border-left: 4px solid #c2410c; background: #c2410c22; padding: .6rem .8rem; }
.miamix-row { margin: 0 0 1rem; }
.miamix-row > p, .miamix-lam > p { margin: 0 0 .25rem; font-size: .85rem; }
.miamix-row > div { display: grid; gap: .4rem; }
.miamix-row figure { margin: 0; min-width: 0; }
.miamix-row img { width: 100%; image-rendering: pixelated; outline: 1px solid var(--border-color-primary); }
.miamix-row figcaption { font-size: .72rem; line-height: 1.2; padding-top: .2rem; overflow-wrap: anywhere; }
.miamix-row figcaption, .miamix-axis { color: var(--body-text-color-subdued); }
@media (max-width: 900px) { .miamix-row figcaption { font-size: .64rem; } }
.miamix-lam svg { width: 100%; height: 140px; display: block; fill: var(--color-accent); }
.miamix-lam h4 { margin: 0 0 .4rem; font-weight: 600; }
.miamix-axis { display: flex; justify-content: space-between; font-size: .72rem; padding: .1rem 0 .4rem; }
"""


def problem_html(words: str) -> str:
    """Return an error message to show above the previous images."""
    return f'<div class="miamix-problem" role="alert">{escape(words)}. The pictures below are from before.</div>'


def gallery_html(rows: list[Row]) -> str:
    """Return the rows as HTML, with every image embedded as a PNG, pixel for pixel."""
    layers = max(len(row.layers) for row in rows)
    return "".join(map(_row_html, rows, range(len(rows)), [layers] * len(rows)))


def _row_html(row: Row, number: int, layers: int) -> str:
    figures = [_figure("first view", row.first), _figure("second view (partner)", row.second)]
    figures += [_figure(name, mask) for name, mask in row.layers]
    figures += ["<figure></figure>"] * (layers - len(row.layers))
    figures += [
        _figure(f"merged mask, mean {row.mask.mean():.2f}", row.mask),
        _figure("mixed", row.mixed, f' class="mixed" data-row="{number}"'),
    ]
    columns = f"grid-template-columns: repeat({len(figures)}, minmax(0, 1fr))"
    return f'<div class="miamix-row"><p>{escape(row.caption)}</p><div style="{columns}">{"".join(figures)}</div></div>'


def _figure(name: str, picture: np.ndarray, attributes: str = "") -> str:
    return (
        f'<figure><img src="{_png(picture)}" alt="{escape(name)}"{attributes}>'
        f"<figcaption>{escape(name)}</figcaption></figure>"
    )


def _png(picture: np.ndarray) -> str:
    """Return an image uint8 (H, W, 3) in RGB, or a mask float32 (H, W) in [0, 1], as a data URI."""
    if picture.ndim == 2:
        picture = (255 * picture).round().astype(np.uint8)
    else:
        picture = picture[..., ::-1]
    data = cv2.imencode(".png", picture)[1].tobytes()
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def histogram_html(lam: np.ndarray) -> str:
    """Return a histogram of lam over [0, 1] as HTML."""
    counts = np.histogram(lam, bins=_BINS, range=(0, 1))[0]
    heights = 100 * counts / counts.max()
    bars = "".join(
        f'<rect x="{i + 0.05:.2f}" y="{100 - height:.1f}" width="0.9" height="{height:.1f}">'
        f"<title>{i / _BINS:g} to {(i + 1) / _BINS:g}: {count / len(lam):.1%}</title></rect>"
        for i, (height, count) in enumerate(zip(heights, counts, strict=True))
    )
    return (
        '<div class="miamix-lam"><h4>lam, the weight of an image\'s own label</h4>'
        f'<svg viewBox="0 0 {_BINS} 100" preserveAspectRatio="none" role="img" aria-label="histogram of lam">'
        f"{bars}</svg>"
        '<div class="miamix-axis"><span>0: all its partner</span><span>0.5</span><span>1: all its own</span></div>'
        f"<p>Measured on {LAM_SAMPLES:,} samples of {LAM_SIDE} x {LAM_SIDE} pixels: mean {lam.mean():.2f}, "
        f"{(lam < 0.05).mean():.0%} below 0.05, {(lam > 0.95).mean():.0%} above 0.95.</p></div>"
    )
