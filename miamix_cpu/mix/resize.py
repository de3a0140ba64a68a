"""ResizeMix's second views: the partner with its resized self pasted over the box (`masks/resizemix.py`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.jit.flags import entry
from miamix_cpu.jit.intrinsics import array_at
from miamix_cpu.masks import methods_that
from miamix_cpu.masks.cutmix import box_of
from miamix_cpu.masks.resample import average_into, take_nearest
from miamix_cpu.plan.mix_plan import MixPlan


def resized_views(
    plan: MixPlan,
    second: np.ndarray,
    first_layer: np.ndarray,
    begin: int,
    end: int,
    dtype: Any,
    size: int,
    view: tuple[int, int, int, bool],
    nearest: bool = False,
) -> np.ndarray | None:
    """Make the second views of samples `begin` to `end` that have a box with the whole partner (`paste_resized`).

    Parameters
    ----------
    plan : MixPlan
    second : uint64 (N,); changed to the addresses of these views
    first_layer : int64 (N + 1,), the plan's; or 0, 1, 2, .. where each layer has a view of its own
    begin, end : int
    dtype : of the views
    size : int, the number of values of a view
    view : (rows, columns, channels, planar), as in `paste_resized`
    nearest : bool

    Returns
    -------
    array or None
        The memory of these views, which must be kept as long as they are in use.
    """
    resizes = methods_that("RESIZES")
    those = slice(first_layer[begin], first_layer[end])
    resized = resizes[plan.layers["method"][those]]
    if not resized.any():
        return None
    # At most one for each of these layers. Places that can't be seen are left as they are, but may be read as classes.
    canvas = (np.zeros if nearest else np.empty)((np.count_nonzero(resized), size), dtype)
    paste_resized(
        canvas, canvas.ctypes.data, second, plan.layers, first_layer, resizes, begin, end, plan.height, plan.width,
        *view, nearest,
    )  # fmt: skip
    return canvas


@entry
def paste_resized(
    canvas: np.ndarray,
    address: int,
    second: np.ndarray,
    layers: np.ndarray,
    first_layer: np.ndarray,
    resizes: np.ndarray,
    begin: int,
    end: int,
    height: int,
    width: int,
    rows: int,
    columns: int,
    channels: int,
    planar: bool,
    nearest: bool,
) -> None:
    """Make the second views of samples `begin` to `end` that have a box with the whole partner.

    Layer after layer, each pastes the partner as it was, resized, over its box. Where the box is all of the sample's
    layers, nothing outside of it is visible, and it is not copied.

    Parameters
    ----------
    canvas : numbers (m, T * P * C), C-contiguous, one for each such sample; overwritten
    address : int, of `canvas`
    second : uint64 (N,), addresses of each sample's second view; changed to those in `canvas`
    layers, first_layer : the plan's
    resizes : bool (number of methods,), by code
    begin, end : int
    height, width : int, pixels of the images, in which boxes are whole
    rows, columns : int, pixels of the views: fewer for maps of a lower resolution, where boxes are rounded outwards
    channels : int
    planar : bool, each of T frames is (C, H, W) rather than (H, W, C)
    nearest : bool, take the nearest pixel rather than an average
    """
    size = canvas.shape[1]
    planes, step = (size // (rows * columns), 1) if planar else (size // (rows * columns * channels), channels)
    line = np.empty(columns * step, np.float32)
    spans, edges = np.empty((2, columns), np.int64), np.empty((3, columns), np.float32)
    used = 0
    for i in range(begin, end):
        is_first = True
        for j in range(first_layer[i], first_layer[i + 1]):
            layer = layers[j]
            if not resizes[layer["method"]]:
                continue
            view, pasted = array_at(second[i], size, canvas.dtype), canvas[used]
            if is_first and first_layer[i + 1] - first_layer[i] > 1:
                for p in range(size):
                    pasted[p] = view[p]
            is_first = False
            top, bottom, left, right = box_of(layer["cy"], layer["cx"], layer["height"], layer["width"], height, width)
            top, bottom = top * rows // height, -(-bottom * rows // height)
            left, right = left * columns // width, -(-right * columns // width)
            for plane in range(planes):
                start = plane * rows * columns * step
                to = start + (top * columns + left) * step
                if nearest:
                    take_nearest(pasted, to, columns, bottom - top, right - left, view, start, rows, columns, step)
                    continue
                average_into(
                    pasted, to, columns, bottom - top, right - left,
                    view, start, rows, columns, step, line, spans, edges,
                )  # fmt: skip
        if not is_first:
            second[i] = address + used * size * canvas.itemsize
            used += 1
