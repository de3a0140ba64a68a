"""Guides: maps of where a view's content is, for the methods whose holes depend on them (`GUIDED`).

A guide is computed from the view, made by the caller's function, or given with the sample. Guides are made only of
views that a guided layer of the plan looks at; then each method sets its fields by them (`aim`).
"""

from __future__ import annotations

import ctypes
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from miamix_cpu.masks import method_of, methods_that
from miamix_cpu.options import GUIDES
from miamix_cpu.plan.mix_plan import MixPlan
from miamix_cpu.samples.images import as_map, size_of
from miamix_cpu.views.grey import grey_copies
from miamix_cpu.views.saliency import fine_grained, spectral

_COMPUTED = {"fine_grained": fine_grained, "spectral": spectral}


@cache
def _guided_codes() -> bytes:
    """The codes of the methods that depend on guides."""
    return bytes(np.flatnonzero(methods_that("GUIDED")).tolist())


def _is_guided(plan: MixPlan) -> bool:
    present = plan.layers["method"].tobytes()
    return any(code in present for code in _guided_codes())  # a tenth of the time of an array of bools


def aim_layers(
    plan: MixPlan,
    first: np.ndarray,
    second: np.ndarray,
    dtype: Any,
    shape: tuple[int, ...],
    planar: bool,
    guide: Callable[[np.ndarray], Any] | None = None,
    maps: Callable[[int, int], Any] | None = None,
) -> MixPlan:
    """Return the plan with the fields that depend on guides; the plan itself, if no layer is guided.

    Parameters
    ----------
    plan : MixPlan
    first, second : uint64 (N,), addresses of the samples' views, as in `mix_views`; the same array if there are no
        second views
    dtype, shape : of the views; the guide of a clip is that of its middle frame
    planar : bool, views are (C, H, W)
    guide : callable, optional
        Makes the guide of a view; called once for each view.
    maps : callable, optional
        (which, sample) -> the map that the caller gave for a first view (which = 0) or second view (1). Without `guide`
        and `maps`, guides are computed as the layers say.
    """
    if not _is_guided(plan):
        return plan
    guided = methods_that("GUIDED")[plan.layers["method"]]
    layers, coefficients, n = plan.layers.copy(), plan.coefficients.copy(), len(plan)

    def guides_of(views: np.ndarray, kind: int) -> np.ndarray:
        """Guides of the views sample + n * which."""
        addresses = np.where(views < n, first[views % n], second[views % n])
        if maps is None and guide is None:
            return _COMPUTED[GUIDES[kind - 1]](_grey(addresses, dtype, shape, planar))
        found = []
        for view, address in zip(views.tolist(), addresses.tolist(), strict=True):
            with _named(*divmod(view, n)):
                found.append(guide(_copy_at(address, dtype, shape)) if guide is not None else maps(*divmod(view, n)))  # type: ignore[misc]
        return read_guides(found, [_name_of(*divmod(view, n)) for view in views.tolist()])

    own, partners = plan.layers_sample, plan.layers_partner + (0 if second is first else n)
    kinds = layers["guide"] if maps is None and guide is None else np.ones(len(layers), np.int64)
    for kind in np.unique(kinds[guided]).tolist():
        codes = np.unique(layers["method"][guided & (kinds == kind)]).tolist()
        of_method = [np.flatnonzero((layers["method"] == code) & (kinds == kind)) for code in codes]
        both = [those for code, those in zip(codes, of_method, strict=True) if method_of(code).GUIDED == "both"]
        looked = np.unique(np.concatenate([*(partners[those] for those in of_method), *(own[those] for those in both)]))
        guides = guides_of(looked, kind)
        for code, those in zip(codes, of_method, strict=True):
            chosen, rows = layers[those], (np.searchsorted(looked, views[those]) for views in (own, partners))
            method_of(code).aim(chosen, *rows, guides, coefficients)
            layers[those] = chosen
    return dataclasses.replace(plan, layers=layers, coefficients=coefficients)


def _grey(addresses: np.ndarray, dtype: Any, shape: tuple[int, ...], planar: bool) -> np.ndarray:
    """Grey copies of views, or of the middle frames of clips."""
    channels = 1 if len(shape) == 2 else shape[-3 if planar else -1]
    if len(shape) == 4:
        frame = math.prod(shape[1:]) * np.dtype(dtype).itemsize
        addresses = addresses + np.uint64(shape[0] // 2 * frame)
    return grey_copies(addresses, dtype, *size_of(shape, planar), channels, planar)


def read_guides(maps: Sequence[Any], names: Sequence[str]) -> np.ndarray:
    """Return the caller's guides as one array, float32 (n, h, w), C-contiguous.

    Parameters
    ----------
    maps : arrays, CPU tensors or PIL images (h, w), (h, w, 1) or (1, h, w)
    names : str of each, for messages

    Raises
    ------
    TypeError, ValueError
        If one is no map of finite numbers of at least 0, or differs in shape from the first. The message names the
        sample.
    """
    arrays = [as_map(value, name) for value, name in zip(maps, names, strict=True)]
    for array, name in zip(arrays, names, strict=True):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{name} has shape {array.shape}, {names[0]} has {arrays[0].shape}: all guides of a batch must have "
                "the same shape"
            )
    return np.stack(arrays)


def _name_of(which: int, sample: int) -> str:
    """The name of a view's guide in messages."""
    return f"the guide of the {('first', 'second')[which]} view of sample {sample}"


@contextmanager
def _named(which: int, sample: int) -> Iterator[None]:
    """Say in an error which view's guide was made."""
    try:
        yield
    except Exception as error:
        error.add_note(f"raised when {_name_of(which, sample)} was made")
        raise


def _copy_at(address: int, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return a copy of the view at an address."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(ctypes.string_at(address, size), dtype).reshape(shape).copy()
