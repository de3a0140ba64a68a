"""What must hold for a plan, so that kernels can trust it: it may come from a file, or from a caller's hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from miamix_cpu.config import LARGEST_WINDOW
from miamix_cpu.masks import method_of
from miamix_cpu.methods import METHODS
from miamix_cpu.options import GUIDES
from miamix_cpu.plan.layers import block_sizes

if TYPE_CHECKING:
    from miamix_cpu.plan.mix_plan import MixPlan

_LARGEST = 1e6  # of any number in a plan; what is drawn stays far below


def check_plan(plan: MixPlan) -> None:
    """Raise ValueError unless the plan can be rendered; its arrays have the right dtypes already."""
    n, layers = plan.partner.shape[0] if plan.partner.ndim else 0, plan.layers
    sizes = np.diff(plan.first_layer)
    rows, columns = layers["rows"].astype(np.int64), layers["columns"].astype(np.int64)
    ends = layers["start"] + block_sizes(layers, np.float64)  # in which nothing overflows
    names = ("ratio", "cy", "cx", "height", "width", "level", "angle", "shear", "decay", "dither")
    numbers = [layers[name] for name in names]
    rules = (
        (plan.height >= 1 and plan.width >= 1, "height and width must be at least 1"),
        (plan.merge in ("mul", "sum"), "merge must be 'mul' or 'sum'"),
        (plan.lam_from in ("merged", "orig"), "lam_from must be 'merged' or 'orig'"),
        (plan.second_view in ("independent", "shared"), "second_view must be 'independent' or 'shared'"),
        (plan.mixes in ("images", "features"), "mixes must be 'images' or 'features'"),
        (0 <= plan.depth < 1, "depth must be in [0, 1)"),
        (plan.key is None or len(plan.key) == 16, "key must be 16 bytes"),
        (n >= 1 and plan.partner.ndim in (1, 2), "partner must have one or two dimensions and not be empty"),
        (bool(np.all((plan.partner >= 0) & (plan.partner < n))), "partner must be a sample of the batch"),
        (
            plan.first_layer.shape == (n + 1,)
            and plan.first_layer[0] == 0
            and plan.first_layer[-1] == len(layers)
            and bool(np.all(sizes >= 0)),
            "first_layer must rise from 0 to the number of layers",
        ),
        (
            plan.partner.ndim != 2 or bool(np.all(sizes <= plan.partner.shape[1])),
            "partner must have one column for each layer of a sample",
        ),
        (plan.partner.ndim == 1 or plan.mixes == "images", "mixes must be 'images' with a partner for each layer"),
        (bool(np.all(layers["method"] < len(METHODS))), "method must be a known code"),
        (all(bool(np.all(np.abs(c) <= _LARGEST)) for c in numbers), f"layers must be finite, at most {_LARGEST:g}"),
        (bool(np.all(layers["decay"] >= 0)), "decay must be at least 0"),
        (bool(np.all((layers["ratio"] >= 0) & (layers["ratio"] <= 1))), "ratio must be in [0, 1]"),
        (bool(np.all((layers["level"] >= 0) & (layers["level"] <= 1))), "level must be in [0, 1]"),
        (bool(np.all(layers["guide"] <= len(GUIDES))), "guide must be a known code"),
        (bool(np.all((layers["dither"] >= 0) & (layers["dither"] < 1))), "dither must be in [0, 1)"),
        (bool(np.all((layers["window"] == 0) | (layers["window"] % 2 == 1))), "window must be odd"),
        (
            bool(np.all((layers["window"] >= 0) & (layers["window"] <= LARGEST_WINDOW))),
            f"window must be at most {LARGEST_WINDOW}",
        ),
        (bool(np.all((rows >= 0) & (columns >= 0) & (layers["start"] >= 0))), "blocks must not be negative"),
        (bool(np.all(ends <= len(plan.coefficients))), "blocks must lie inside coefficients"),
        (bool(np.all(np.abs(plan.coefficients) <= _LARGEST)), f"coefficients must be finite, at most {_LARGEST:g}"),
    )
    for holds, words in rules:
        if not holds:
            raise ValueError(words)
    for code in np.unique(layers["method"]).tolist():
        if plan.mixes == "features" and getattr(method_of(code), "RESIZES", False):
            raise ValueError(f"mixes must be 'images' for {METHODS[code]}, which pastes a resized image")
        of_method = getattr(method_of(code), "rules", None)
        if of_method is not None:
            own = of_method(layers[layers["method"] == code], plan.coefficients, plan.height, plan.width)
            for holds, words in own:
                if not holds:
                    raise ValueError(words)
