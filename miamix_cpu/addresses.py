"""Arrays by their addresses, and back."""

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
    """Where the values of an array begin, uint64.

    It keeps no array alive: the name of one that a kernel made has to be used after the address is, or in a loop around
    both.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(values, ir.IntType(64))

    return types.uint64(array), codegen
