"""How functions are compiled: every flag in one place, with its reason.

`kernel`, `allocating` and `exact` compile building blocks, which only compiled code calls. `entry` and `exact_entry`
compile what Python calls; an entry contains all kernels that it uses, so only entries are cached on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from miamix_cpu.jit.cache import compile_cached
from miamix_cpu.jit.compiler import compiler_options

FLAGS: dict[str, Any] = {
    # Threads that share a collator run side by side.
    "nogil": True,
    # Fused multiply-add and unsigned zeros only. Not `reassoc`: sums would depend on the vector width. Not
    # `arcp`: a full smoothing window would be w*w * (1/(w*w)), which is not always 1. Not `nnan`: images may hold NaN.
    "fastmath": {"contract", "nsz"},
    # Division by zero gives inf as in NumPy, without a branch in every loop.
    "error_model": "numpy",
}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` as a building block of entries. What it writes to must not overlap another argument.

    It makes no arrays, so references to those that it is given are not counted, which would be a locked instruction for
    each row that it looks at. So it must not return an array either: memory would be freed that is still in use.
    Nor may Python call it: it has no wrapper, and the process would crash. Tests go through `tests/kernels.py`.
    """
    return numba.njit(**FLAGS, **compiler_options(called_by_python=False, counts_references=False))(function)


def allocating(function: Callable[..., Any]) -> Any:
    """Compile `function` as a `kernel` that makes arrays for itself."""
    return numba.njit(**FLAGS, **compiler_options(called_by_python=False, counts_references=True))(function)


def exact(function: Callable[..., Any]) -> Any:
    """Compile `function` as a `kernel` without fused multiply-add.

    It rounds alike on every CPU, and alike in a loop's vectors and in its last odd values.
    """
    options = compiler_options(called_by_python=False, counts_references=False)
    return numba.njit(**{**FLAGS, "fastmath": False}, **options)(function)


def entry(function: Callable[..., Any]) -> Any:
    """Compile `function` as a function that Python calls, cached on disk where there is a place for it."""
    options = compiler_options(called_by_python=True, counts_references=True)
    return compile_cached(function, {**FLAGS, **options})


def exact_entry(function: Callable[..., Any]) -> Any:
    """Compile `function` as an `entry` without fused multiply-add: what a plan holds is the same on every CPU."""
    options = compiler_options(called_by_python=True, counts_references=True)
    return compile_cached(function, {**FLAGS, "fastmath": False, **options})
