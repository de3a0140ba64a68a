"""Numbers in kernels: Numba compiles a function for every type that `max`, `min` and `view` meet; here none is."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.errors import TypingError

from miamix_cpu.jit.compile import instructions


def _chosen(comparison: str) -> Any:
    def define(typing_context: Any, one: Any, other: Any) -> Any:
        number = typing_context.unify_types(one, other)
        signs = {given.signed for given in (one, other) if isinstance(given, types.Integer)}
        if len(signs) == 2 or not isinstance(number, (types.Integer, types.Float)):
            raise TypingError(f"{one} and {other} are not two floats or two integers, signed or not")

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            first, second = arguments
            if isinstance(number, types.Float):
                found = builder.fcmp_ordered(comparison, second, first)
            elif number.signed:
                found = builder.icmp_signed(comparison, second, first)
            else:
                found = builder.icmp_unsigned(comparison, second, first)
            return builder.select(found, second, first)

        return number(number, number), codegen

    return define


@instructions(_chosen(">"))
def larger(one: Any, other: Any) -> Any:
    """max(one, other); `one` where either is NaN."""
    return other if other > one else one


@instructions(_chosen("<"))
def smaller(one: Any, other: Any) -> Any:
    """min(one, other); `one` where either is NaN."""
    return other if other < one else one


def _reinterpret(typing_context: Any, value: Any, dtype: Any) -> Any:
    if value.bitwidth != dtype.dtype.bitwidth:
        raise TypingError(f"{value} and {dtype.dtype} are of different widths")

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(dtype.dtype))

    return dtype.dtype(value, dtype), codegen


@instructions(_reinterpret)
def reinterpret(value: Any, dtype: Any) -> Any:
    """The same bits as another type of the same width."""
    return value.view(dtype)
