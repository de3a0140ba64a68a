"""How kernels are compiled: every flag in one place, with its reason.

`kernel` and `exact` compile building blocks, called from other kernels. `entry` compiles one of the few functions
that Python calls; it carries all kernels it uses, so only entries are cached on disk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
from numba import types

from miamix_cpu.cache import helper, use_cache
from miamix_cpu.pipeline import EntryCompiler, KernelCompiler, Part, PartCompiler

FLAGS: dict[str, Any] = {
    # Threads that share a collator run side by side; but for one, kernels touch no Python object.
    "nogil": True,
    # Fused multiply-add and unsigned zeros only. Not `reassoc`: sums would depend on the vector width. Not
    # `arcp`: a full smoothing window would be w*w * (1/(w*w)), which is not always 1. Not `nnan`: images may hold NaN.
    "fastmath": {"contract", "nsz"},
    # Division by zero gives inf as in NumPy, without a branch in every loop.
    "error_model": "numpy",
    # For callers in C, of whom there are none: a tenth of the time to compile.
    "no_cfunc_wrapper": True,
}

#: Without fused multiply-add: rounded alike on every CPU, and in a loop's vectors as in its last odd values.
EXACT = {**FLAGS, "fastmath": False}

#: Types of `by_address`.
ADDRESS, INTEGER, FLOAT = types.uint64, types.int64, types.float64


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` as a building block of an entry. What it writes to must not overlap another argument.

    It makes no arrays, so none of those that it is given has to be counted while it looks at parts of it. It must not
    return one either, not even in a tuple: memory would be freed that is still in use.
    """
    return Part(function, KernelCompiler, {**FLAGS, "_nrt": False})


def allocating(function: Callable[..., Any]) -> Any:
    """Compile `function` as a `kernel` that makes arrays for itself."""
    # Left unsaid, it would be as in the kernel that calls it first.
    return Part(function, KernelCompiler, {**FLAGS, "_nrt": True})


def inlined(function: Callable[..., Any]) -> Any:
    """Compile `function` into its only caller: it holds no loops over pixels, and each level of calls costs time."""
    return numba.njit(**FLAGS, inline="always")(function)


def exact(function: Callable[..., Any]) -> Any:
    """Compile `function` as a building block that is rounded alike on every CPU: the same plan everywhere."""
    return Part(function, PartCompiler, EXACT)


def entry(function: Callable[..., Any]) -> Any:
    """Compile `function` as a function that Python calls, cached on disk where a cache can be had."""
    return _entry(function, FLAGS)


def entry_with_gil(function: Callable[..., Any]) -> Any:
    """Compile an entry that reads Python objects, which other threads must not change meanwhile."""
    return _entry(function, {**FLAGS, "nogil": False})


class ByAddress:
    """A function that entries call by its address (`addresses.call_at`), with a cache of its own.

    Parameters
    ----------
    function : callable
        From numbers to an int.
    arguments : ADDRESS, INTEGER or FLOAT
    """

    def __init__(self, function: Callable[..., int], arguments: tuple[Any, ...]) -> None:
        # The wrapper for callers in C is what is called; none for Python.
        self.dispatcher = _entry(function, {**FLAGS, "no_cfunc_wrapper": False, "no_cpython_wrapper": True})
        self._arguments = arguments
        helper.wanted = True

    @property
    def ready(self) -> bool:
        """Whether it has been compiled or loaded in this process."""
        return "address" in self.__dict__

    @functools.cached_property
    def address(self) -> int:
        """Where it is in this process; compiled or loaded if it has to be."""
        self.dispatcher.compile(INTEGER(*self._arguments))
        helper.finish()
        compiled = self.dispatcher.overloads[self._arguments]
        return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name)  # type: ignore[no-any-return]


def by_address(*arguments: Any) -> Callable[[Callable[..., int]], ByAddress]:
    """Compile a function apart from the entries that call it, by another process where there is one to spare."""
    return lambda function: ByAddress(function, arguments)


def _entry(function: Callable[..., Any], flags: dict[str, Any]) -> Any:
    dispatcher = numba.njit(**flags, pipeline_class=EntryCompiler)(function)
    use_cache(dispatcher)
    return dispatcher
