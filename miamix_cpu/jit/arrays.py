"""Arrays in kernels: by their addresses, new ones, and parts of others.

Numba has NumPy's ways to all of these, each as a function that it compiles for every type it meets, or as code that
also looks for negative indices and clips: a third of the time to compile everything. These are a few instructions.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref
from numba.np.arrayobj import make_array, populate_array

from miamix_cpu.jit.compile import ADDRESS, INTEGER, instructions

_INDEX, _CACHE_LINE = ir.IntType(64), 64


def _array_at(typing_context: Any, address: Any, shape: Any, dtype: Any) -> Any:
    array, lengths = _array_type(shape, dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = builder.inttoptr(arguments[0], context.get_data_type(array.dtype).as_pointer())
        return _made(context, builder, array, data, _lengths(builder, arguments[1]), None)

    return array(ADDRESS, lengths, dtype), codegen


@instructions(_array_at)
def array_at(address: Any, shape: Any, dtype: Any) -> np.ndarray:
    """The values of `dtype`, a NumPy scalar type or a dtype, that lie at `address`; `shape` is an int or a tuple.

    It keeps nothing alive: an array that a kernel made, and that lies there, has to be named once more afterwards.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.ndarray(shape, dtype, (ctypes.c_char * size).from_address(int(address)))


def _address_of(typing_context: Any, array: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(make_array(array)(context, builder, arguments[0]).data, _INDEX)

    return ADDRESS(array), codegen


@instructions(_address_of)
def address_of(array: np.ndarray) -> np.uint64:
    """Where the values of an array begin; see `array_at`."""
    return np.uint64(array.ctypes.data)


def _empty(typing_context: Any, shape: Any, dtype: Any) -> Any:
    array, lengths = _array_type(shape, dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        shape, data_type = _lengths(builder, arguments[0]), context.get_data_type(array.dtype)
        size = _INDEX(context.get_abi_sizeof(data_type))
        for length in shape:
            size = builder.mul(size, length)
        memory = context.nrt.meminfo_alloc_aligned(builder, size, _CACHE_LINE)
        data = builder.bitcast(context.nrt.meminfo_data(builder, memory), data_type.as_pointer())
        return impl_ret_new_ref(context, builder, array, _made(context, builder, array, data, shape, memory))

    return array(lengths, dtype), codegen


@instructions(_empty)
def empty(shape: Any, dtype: Any) -> np.ndarray:
    """A new array, its values undefined; `shape` is an int or a tuple, not looked at.

    For entries and functions that are `allocating`. Where memory runs out it raises MemoryError.
    """
    return np.empty(shape, dtype)


def _run(typing_context: Any, array: Any, start: Any, stop: Any) -> Any:
    if array.ndim != 1 or array.layout != "C":
        return None

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole, (_, start, stop) = make_array(array)(context, builder, arguments[0]), arguments
        if context.enable_boundscheck:
            cgutils.do_boundscheck(context, builder, start, builder.add(stop, _INDEX(1)), 0)
            cgutils.do_boundscheck(context, builder, stop, builder.add(whole.nitems, _INDEX(1)), 0)
        data, length = builder.gep(whole.data, [start]), builder.sub(stop, start)
        part = _made(context, builder, array, data, [length], whole.meminfo)
        return impl_ret_borrowed(context, builder, array, part)

    return array(array, INTEGER, INTEGER), codegen


@instructions(_run)
def run(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """array[start:stop] of one axis, C-contiguous; 0 <= start <= stop <= array.size is looked at by nobody."""
    return array[start:stop]


def _fill(typing_context: Any, array: Any, value: Any) -> Any:
    if array.layout != "C" or value != array.dtype:
        return None

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = make_array(array)(context, builder, arguments[0])
        with cgutils.for_range(builder, whole.nitems) as loop:
            context.pack_value(builder, array.dtype, arguments[1], builder.gep(whole.data, [loop.index]))
        return context.get_dummy_value()

    return types.none(array, array.dtype), codegen


@instructions(_fill)
def fill(array: np.ndarray, value: Any) -> None:
    """Make all values of a C-contiguous array `value`."""
    array[...] = value


def _array_type(shape: Any, dtype: Any) -> tuple[Any, Any]:
    """The type of a C-contiguous array, and that of its shape."""
    if isinstance(shape, types.BaseTuple):
        return types.Array(dtype.dtype, len(shape), "C"), types.UniTuple(INTEGER, len(shape))
    return types.Array(dtype.dtype, 1, "C"), INTEGER


def _lengths(builder: Any, shape: Any) -> list[Any]:
    return list(cgutils.unpack_tuple(builder, shape)) if isinstance(shape.type, ir.ArrayType) else [shape]


def _made(context: Any, builder: Any, array: Any, data: Any, shape: list[Any], memory: Any) -> Any:
    """An array's structure."""
    made = make_array(array)(context, builder)
    size = _INDEX(context.get_abi_sizeof(context.get_data_type(array.dtype)))
    strides = [size]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    populate_array(made, data=data, shape=shape, strides=strides, itemsize=size, meminfo=memory)
    return made._getvalue()
