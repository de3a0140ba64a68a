"""Memory and code by their addresses: arrays that no list holds, functions compiled apart from those that call them."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from miamix_cpu.compile import allocating


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing_context: Any, address: Any, dtype: Any) -> Any:
    """A typed pointer to `address`."""
    pointer = types.CPointer(dtype.dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.uint64, dtype), codegen


@allocating
def array_at(address: np.uint64, shape: Any, dtype: Any) -> np.ndarray:
    """The values of `dtype`, a NumPy scalar type or a dtype, that lie at `address`; `shape` is an int or a tuple."""
    return carray(_pointer(address, dtype), shape)  # type: ignore[no-any-return]


@intrinsic  # type: ignore[untyped-decorator]
def address_of(typing_context: Any, array: Any) -> Any:
    """Where the values of an array begin, uint64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(values, ir.IntType(64))

    return types.uint64(array), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_at(typing_context: Any, address: Any, arguments: Any) -> Any:
    """Call the function at `address` (uint64) with a tuple of numbers, as `compile.by_address` compiled it for them.

    It returns an int64. Nothing says so where it takes others.
    """

    def codegen(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        numbers = [builder.extract_value(given[1], i) for i in range(len(arguments))]
        function = ir.FunctionType(ir.IntType(64), [number.type for number in numbers])
        return builder.call(builder.inttoptr(given[0], function.as_pointer()), numbers)

    return types.int64(types.uint64, arguments), codegen
