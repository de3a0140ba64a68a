"""How kernels are compiled: every flag in one place, with its reason.

`kernel` and `exact` compile building blocks, called from other kernels. `entry` compiles one of the few functions
that Python calls; it carries all kernels it uses, so only entries are cached on disk. `by_address` compiles one that
entries call and do not carry. What `instructions` decorates is not compiled but written out wherever it is called.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.core.extending import _Intrinsic
from numba.extending import intrinsic

from miamix_cpu.jit.cache import helper, use_cache
from miamix_cpu.jit.pipeline import Entry, Part

FLAGS: dict[str, Any] = {
    # Threads that share a collator run side by side; but for one, kernels touch no Python object.
    "nogil": True,
    # Fused multiply-add and unsigned zeros only. Not `reassoc`: sums would depend on the vector width. Not
    # `arcp`: a full smoothing window would be w*w * (1/(w*w)), which is not always 1. Not `nnan`: images may hold NaN.
    "fastmath": {"contract", "nsz"},
    # Division by zero gives inf as in NumPy, without a branch in every loop.
    "error_model": "numpy",
    # For callers in C, of whom there are none but in `ByAddress`: a tenth of the time to compile.
    "no_cfunc_wrapper": True,
}

#: Types of `by_address`.
ADDRESS, INTEGER, FLOAT = types.uint64, types.int64, types.float64


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` as a building block of an entry. What it writes to must not overlap another argument.

    It makes no arrays, so none of those that it is given has to be counted while it looks at parts of it. It must not
    return one either, not even in a tuple: memory would be freed that is still in use. Nor can it print.
    """
    return Part(function, {**FLAGS, "_nrt": False})


def allocating(function: Callable[..., Any]) -> Any:
    """Compile `function` as a `kernel` that makes arrays for itself."""
    # Left unsaid, it would be as in the kernel that calls it first.
    return Part(function, {**FLAGS, "_nrt": True})


def inlined(function: Callable[..., Any]) -> Any:
    """Compile `function` into its callers, few: it holds no loops over pixels, and each level of calls costs time."""
    return numba.njit(**FLAGS, inline="always")(function)


def exact(function: Callable[..., Any]) -> Any:
    """Compile `function` as a `kernel` without fused multiply-add.

    It is rounded alike on every CPU, so that a plan is the same everywhere, and in a loop's vectors as in its last odd
    values.
    """
    return Part(function, {**FLAGS, "_nrt": False, "fastmath": False})


def entry(function: Callable[..., Any]) -> Any:
    """Compile `function` as a function that Python calls, cached on disk where a cache can be had."""
    return _entry(function, FLAGS)


def entry_with_gil(function: Callable[..., Any]) -> Any:
    """Compile an entry that reads Python objects, which other threads must not change meanwhile."""
    return _entry(function, {**FLAGS, "nogil": False})


class _Instructions(_Intrinsic):  # type: ignore[misc]
    """An intrinsic that Python can call too."""

    def __init__(self, define: Callable[..., Any], function: Callable[..., Any]) -> None:
        super().__init__(function.__name__, define)
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __reduce__(self) -> Any:
        return _by_name, (self.__module__, self.__name__)


def instructions(define: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Give kernels a few instructions in place of a Python function.

    Parameters
    ----------
    define : callable
        From the typing context and the types of the arguments to a signature and what writes the code, as for
        `numba.extending.intrinsic`.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        written = _Instructions(define, function)
        written._register()
        return written

    return decorate


class ByAddress:
    """A function that entries call by its address, with a cache of its own.

    Parameters
    ----------
    function : callable
        From numbers to an int above 0.
    arguments : ADDRESS, INTEGER or FLOAT

    Attributes
    ----------
    call : intrinsic
        For entries: call(address, numbers), a tuple of those types. 0 where the function has failed.
    """

    def __init__(self, function: Callable[..., int], arguments: tuple[Any, ...]) -> None:
        # The wrapper for callers in C is what is called; none for Python.
        self.dispatcher = _entry(function, {**FLAGS, "no_cfunc_wrapper": False, "no_cpython_wrapper": True})
        self.call = _call_of(arguments)
        self._arguments = arguments
        helper.wanted_for = self.dispatcher._cache

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
        address: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name)
        if not address:
            raise RuntimeError(f"{self.dispatcher.py_func.__name__} was compiled, but can't be found")
        return address

    def __reduce__(self) -> Any:
        function = self.dispatcher.py_func
        return _by_name, (function.__module__, function.__name__)  # elsewhere it has another address


def _by_name(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def by_address(*arguments: Any) -> Callable[[Callable[..., int]], ByAddress]:
    """Compile a function apart from the entries that call it, by another process where there is one to spare."""
    return lambda function: ByAddress(function, arguments)


def _call_of(expected: tuple[Any, ...]) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def call(typing_context: Any, address: Any, arguments: Any) -> Any:
        if tuple(arguments) != expected:
            raise TypingError(f"called with {tuple(arguments)}, compiled for {expected}")

        def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            numbers = [builder.extract_value(given[1], i) for i in range(len(expected))]
            function = ir.FunctionType(ir.IntType(64), [number.type for number in numbers])
            return builder.call(builder.inttoptr(given[0], function.as_pointer()), numbers)

        return INTEGER(ADDRESS, arguments), codegen

    return call


def _entry(function: Callable[..., Any], flags: dict[str, Any]) -> Any:
    dispatcher = Entry(function, flags)
    use_cache(dispatcher)
    return dispatcher
