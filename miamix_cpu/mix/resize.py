"""ResizeMix's second views: the partner with its resized self pasted over the box (`masks/resizemix.py`)."""

from __future__ import annotations

import numpy as np

from miamix_cpu.jit.flags import entry
from miamix_cpu.jit.intrinsics import array_at
from miamix_cpu.masks.cutmix import box_of
from miamix_cpu.masks.resample import average_into, take_nearest


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
