"""Pictures and maps in which each pixel says where it comes from: what tests of `also` share."""

import dataclasses

import albumentations as A
import numpy as np

from miamix_cpu import MiAMixCollator, MiAMixConfig
from miamix_cpu.config import METHODS
from miamix_cpu.plan.layers import LAYER
from tests.masks import twins
from tests.naive import resized_layers

N, HEIGHT, WIDTH = 10, 20, 24  # of the samples
INNER = (14, 14)

#: Moves pixels and invents none: a crop, flips, and turns by right angles.
GEOMETRY = [A.RandomCrop(*INNER), A.D4()]
METHOD = [MiAMixConfig.plain(name, p_self=0.0, second_view="independent") for name in METHODS]


def codes(i, view=0, height=HEIGHT, width=WIDTH):
    """int64 (height, width): which pixel of which view of sample i; never 0."""
    return ((2 * i + view) * height + np.arange(height)[:, None]) * width + np.arange(width) + (1 << 40)


def picture(i, view=0, height=HEIGHT, width=WIDTH):
    """uint8 (height, width, 3) that says the same, and has something to look at: sample and view, row, column."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([np.full_like(y, 2 * i + view + 1), 10 * y + 1, 10 * x + 1], 2)


def read(map_):
    """The picture's pixels that belong to a map's; black to 0."""
    code = map_ - (1 << 40)
    pixels = [code // (HEIGHT * WIDTH) + 1, 10 * (code // WIDTH % HEIGHT) + 1, 10 * (code % WIDTH) + 1]
    return (np.stack(pixels, -1) * (map_ > 0)[..., None]).astype(np.uint8)


def small(map_):
    """Codes that fit into 32 bits, as Albumentations needs them."""
    return map_ - (1 << 40) + (1 << 30)


def unsmall(map_):
    return np.where(map_ == 0, 0, map_.astype(np.int64) + (1 << 40) - (1 << 30))


def collator(also, config=None, **options):
    options = {"seed": 3, "dtype": "uint8", "return_batch": True, "return_masks": True, **options}
    return MiAMixCollator(10, config, also=also, **options)


def first_and_second(collate, samples, plan):
    """What the views of a plan are: two batches, by the same plan without layers, and with itself behind a whole box.

    Every sample must be mixed into another one, or its second view is not made.
    """
    assert plan.needs_second_view == list(range(len(plan)))
    boxes = np.zeros(len(plan), LAYER)
    boxes["sample"], boxes["method"] = np.arange(len(plan)), METHODS.index("cutmix")
    for name in ("cy", "cx"):
        boxes[name] = 0.5
    boxes["height"] = boxes["width"] = 1
    ends = np.arange(len(plan) + 1)
    return (
        collate.replay(samples, dataclasses.replace(plan, layers=boxes[:0], first_layer=np.zeros_like(ends))),
        collate.replay(samples, dataclasses.replace(plan, layers=boxes, first_layer=ends, partner=ends[:-1])),
    )


def expected(plan, masks, first, second):
    """What "choose" makes of maps (N, H, W), where masks are the images' own."""
    rows = []
    for i, t in enumerate(plan.partner.tolist()):
        other = twins.with_shrunk(resized_layers(plan, i), second[t], plan.height, plan.width)
        rows.append(np.where(masks[i] >= 0.5, first[i], other))
    return np.stack(rows)
