"""The few instructions that Numba has no function for, by its public `numba.extending`."""

from __future__ import annotations

from typing import Any

import numba
from numba import types
from numba.extending import intrinsic, register_jitable


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing_context: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.uint64), codegen


@register_jitable(inline="always")  # type: ignore[untyped-decorator]
def array_at(address: Any, shape: Any, dtype: Any) -> Any:
    """The values of `dtype` that lie at `address`, a C-contiguous array of `shape`; it keeps no memory alive.

    Parameters
    ----------
    address : uint64
    shape : int or tuple of int
    dtype : NumPy scalar type
    """
    return numba.carray(_pointer(address), shape, dtype)


@intrinsic  # type: ignore[untyped-decorator]
def reinterpret(typing_context: Any, value: Any, dtype: Any) -> Any:
    """The bits of `value` as another type of the same width."""
    if value.bitwidth != dtype.dtype.bitwidth:
        raise numba.TypingError(f"{value} and {dtype.dtype} are of different widths")

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(dtype.dtype))

    return dtype.dtype(value, dtype), codegen


@intrinsic  # type: ignore[untyped-decorator]
def mix_byte(typing_context: Any, weight: Any, first: Any, second: Any) -> Any:
    """second + round(weight * (second - first) / 2^15), all of it in 16 bits: -2^15 gives `first`, 0 `second`.

    Numba widens every integer to 64 bits, in which LLVM no longer sees the one instruction for the upper half of a
    16-bit product (a third of the time to mix uint8 images at 224 x 224). The product keeps 6 bits after the point, and
    the floor of a floor is the floor, so rounding is exact.

    Parameters
    ----------
    weight : int16
    first, second : uint8
    """
    if (weight, first, second) != (types.int16, types.uint8, types.uint8):
        raise numba.TypingError(f"mix_byte takes int16, uint8, uint8, got {weight}, {first}, {second}")

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, short, long = (context.get_value_type(t) for t in (types.uint8, types.int16, types.int32))
        w, f, s = arguments
        f, s = builder.zext(f, short), builder.zext(s, short)
        difference = builder.shl(builder.sub(s, f), short(7))
        product = builder.mul(builder.sext(difference, long), builder.sext(w, long))
        upper = builder.trunc(builder.ashr(product, long(16)), short)
        rounded = builder.ashr(builder.add(upper, short(32)), short(6))
        return builder.trunc(builder.add(s, rounded), byte)

    return types.uint8(weight, first, second), codegen
