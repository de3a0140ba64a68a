"""Render a batch, stages 3 and 4: a pure function of a plan and the views, without any random state.

Samples are rendered in chunks whose holes fit into the L2 cache: one call of `fill` for each method among them, one
that smooths, one that pastes resized partners, one that merges, measures and blends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from miamix_cpu.jit.flags import entry
from miamix_cpu.masks import method_of, methods_that
from miamix_cpu.masks.smooth import smooth
from miamix_cpu.methods import METHODS
from miamix_cpu.mix.kernels import mix_bytes, mix_floats
from miamix_cpu.mix.layered import mix_layers, room_for
from miamix_cpu.mix.merge import BOX, CONSTANT
from miamix_cpu.mix.resize import resized_views
from miamix_cpu.plan.mix_plan import MixPlan

_CHUNK = 1 << 20  # bytes of holes; from 128 KiB to 4 MiB it makes hardly a difference
_NO_MASKS = np.empty((0, 1), dtype=np.float32)
_LIKE = {np.dtype(dtype): np.empty(0, dtype) for dtype in (np.uint8, np.float32)}


def mix_views(
    plan: MixPlan,
    first: np.ndarray,
    second: np.ndarray,
    dtype: Any,
    out: np.ndarray,
    masks: np.ndarray | None,
    scale: np.ndarray,
    bias: np.ndarray,
    *,
    planar_in: bool = False,
    planar_out: bool = False,
) -> np.ndarray:
    """Render `plan`, straight into `out`; return lam, float32 (N,), or with K partners the weights, float64 (N, K + 1).

    Parameters
    ----------
    first, second : uint64 (N,)
        Addresses of the samples' views, each C-contiguous; where `plan.needs_second_view` does not name a sample, any
        image will do as the second.
    dtype : uint8 or float32, of the views
    out : uint8 or float32, N * T * H * W * C values, C-contiguous; T is the number of a clip's frames, 1 for images;
        overwritten
    masks : float32 (N, H, W), or (N, K + 1, H, W), overwritten, or None
    scale, bias : float32 (C,), from `formats.normalisation`
    planar_in, planar_out : bool, (C, H, W) rather than (H, W, C); clips go in as (T, C, H, W) and come out as
        (C, T, H, W), rather than (T, H, W, C)
    """
    if plan.mixes == "features":
        return _leave_unmixed(plan, first, dtype, out, masks, scale, bias, planar_in, planar_out)
    if plan.is_layered:
        return _mix_layers(plan, first, second, dtype, out, masks, scale, bias, planar_in, planar_out)
    n, layers, ends, size = len(plan), plan.layers, plan.first_layer, (plan.height, plan.width)
    second, lam, rows = second[plan.partner], np.empty(n, dtype=np.float32), out.reshape(n, -1)
    flat_masks, view = _NO_MASKS if masks is None else masks.reshape(n, -1), (*size, scale.size, planar_in)
    rules = (*size, plan.merge == "mul", plan.lam_from == "merged", planar_in, planar_out, scale, bias)
    for begin, end, slots, holes, resized in filled_holes(plan, masks is None):
        if resized:
            _kept = resized_views(plan, second, ends, begin, end, dtype, rows.shape[1], view)
        given = (rows, lam, flat_masks, holes, slots, first, second, layers, ends, begin, end, *rules)
        if out.dtype == np.uint8:
            mix_bytes(*given)
        else:
            mix_floats(*given, _LIKE[np.dtype(dtype)])
    return lam


def _mix_layers(
    plan: MixPlan,
    first: np.ndarray,
    second: np.ndarray,
    dtype: Any,
    out: np.ndarray,
    masks: np.ndarray | None,
    scale: np.ndarray,
    bias: np.ndarray,
    planar_in: bool,
    planar_out: bool,
) -> np.ndarray:
    """`mix_views` where each layer has a partner of its own."""
    n, layers, ends, size = len(plan), plan.layers, plan.first_layer, (plan.height, plan.width)
    shares = np.zeros((n, 1 + plan.partner.shape[1]))
    flat_masks = np.empty((0, 1, 1), np.float32)
    if masks is not None:
        masks[:] = 0
        flat_masks = masks.reshape(n, shares.shape[1], -1)
    rows, second, view = out.reshape(n, -1), second[plan.layers_partner], (*size, scale.size, planar_in)
    _kept = resized_views(plan, second, np.arange(len(layers) + 1), 0, len(layers), dtype, rows.shape[1], view)
    rules = (*size, plan.merge == "mul", plan.lam_from == "merged", planar_in, planar_out, scale, bias)
    room = room_for(shares.shape[1], *size, scale.size, np.dtype(dtype), out.dtype)
    for begin, end, slots, holes, _ in filled_holes(plan, False):
        given = (rows, shares, flat_masks, *room, holes, slots, first, second, layers, ends, begin, end, *rules)
        mix_layers(*given, _LIKE[np.dtype(dtype)])
    return shares


def filled_holes(plan: MixPlan, boxes: bool) -> Iterator[tuple[int, int, np.ndarray, np.ndarray, int]]:
    """Render the holes of a plan, chunk by chunk; each overwrites those before.

    Parameters
    ----------
    plan : MixPlan
    boxes : bool
        Whether an upright box that is the only hole of its sample needs none (`merge.constant_and_box`).

    Yields
    ------
    begin, end : int
        The samples of a chunk.
    slots : int64 (L,)
        Each layer's place among its chunk's holes, or CONSTANT or BOX.
    holes : float32 (S, H * W)
    resized : int
        The number of these samples that have a resized partner.
    """
    n, layers, ends = len(plan), plan.layers, plan.first_layer
    slots, begins = np.empty(len(layers), dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    used = np.zeros((n, len(METHODS) + 2), dtype=np.int64)
    capacity = max(1, _CHUNK // (4 * plan.height * plan.width))
    kinds = methods_that("fill"), methods_that("BOX"), methods_that("RESIZES")
    chunks, most = assign_holes(layers, ends, *kinds, capacity, boxes, slots, begins, used)
    flat_holes = np.empty((most, plan.height * plan.width), dtype=np.float32)
    holes = flat_holes.reshape(most, plan.height, plan.width)
    for chunk, (*counts, smoothed, resized) in enumerate(used[:chunks].tolist()):
        begin, end = begins[chunk], begins[chunk + 1]
        those = slice(ends[begin], ends[end])
        for code, count in enumerate(counts):
            if count:
                method_of(code).fill(layers[those], code, slots[those], holes, plan.coefficients)
        if smoothed:
            smooth(layers[those], slots[those], holes)
        yield begin, end, slots, flat_holes, resized


def _leave_unmixed(
    plan: MixPlan,
    first: np.ndarray,
    dtype: Any,
    out: np.ndarray,
    masks: np.ndarray | None,
    scale: np.ndarray,
    bias: np.ndarray,
    planar_in: bool,
    planar_out: bool,
) -> np.ndarray:
    """Convert first views into `out`; make masks and lam as if they were mixed.

    An image that is mixed with itself comes out as it was: bytes exactly, floats but for rounding, so these are then
    converted by a plan without layers.
    """
    n, planar = len(plan), {"planar_in": planar_in, "planar_out": planar_out}
    alone = dataclasses.replace(plan, partner=np.arange(n), mixes="images")
    lam = mix_views(alone, first, first, dtype, out, masks, scale, bias, **planar)
    if dtype != np.uint8:
        unmixed = dataclasses.replace(alone, layers=plan.layers[:0], first_layer=np.zeros(n + 1, dtype=np.int64))
        mix_views(unmixed, first, first, dtype, out, None, scale, bias, **planar)
    return lam


def needs_masks(plan: MixPlan) -> bool:
    """Whether features are mixed by masks: these are not one number each, or this number is not lam."""
    if plan.mixes != "features" or not len(plan.layers):
        return False
    return plan.lam_from == "orig" or bool(methods_that("fill")[plan.layers["method"]].any())


@entry
def assign_holes(
    layers: np.ndarray,
    first_layer: np.ndarray,
    has_hole: np.ndarray,
    is_box: np.ndarray,
    resizes: np.ndarray,
    capacity: int,
    boxes: bool,
    slots: np.ndarray,
    begins: np.ndarray,
    used: np.ndarray,
) -> tuple[int, int]:
    """Divide the samples into chunks, and say which layers need a hole, and which of its chunk's holes that is.

    Parameters
    ----------
    layers, first_layer : the plan's
    has_hole, is_box, resizes : bool (number of methods,), by code: `fill`, `BOX` and `RESIZES` of a method
    capacity : int, after how many holes, and resized partners, a chunk ends
    boxes : bool, an upright box that is the only hole of its sample needs none
    slots : int64 (L,); overwritten with each layer's place among its chunk's holes, or CONSTANT or BOX
    begins : int64 (N + 1,); overwritten from its start with each chunk's first sample, and at last N
    used : int64 (N, number of methods + 2), zeros; changed to each chunk's number of holes by method, of holes that are
        smoothed, and of samples whose partner is resized

    Returns
    -------
    two int
        How many chunks there are, and how many holes the fullest has.
    """
    chunk, slot, most = 0, 0, 0
    begins[0] = 0
    for i in range(first_layer.size - 1):
        if slot + used[chunk, has_hole.size + 1] >= capacity:
            chunk, slot = chunk + 1, 0
            begins[chunk] = i
        holes, resized = 0, False
        for j in range(first_layer[i], first_layer[i + 1]):
            holes += has_hole[layers[j]["method"]]
            resized = resized or resizes[layers[j]["method"]]
        used[chunk, has_hole.size + 1] += resized
        for j in range(first_layer[i], first_layer[i + 1]):
            layer = layers[j]
            method = layer["method"]
            if not has_hole[method]:
                slots[j] = CONSTANT
            elif boxes and holes == 1 and is_box[method] and not layer["augmented"] and layer["window"] == 0:
                slots[j] = BOX
            else:
                slots[j] = slot
                slot += 1
                used[chunk, method] += 1
                used[chunk, has_hole.size] += layer["window"] > 0
        most = max(most, slot)
    begins[chunk + 1] = first_layer.size - 1
    return chunk + 1, most
