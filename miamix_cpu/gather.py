"""From separate images to what a kernel can read: their addresses.

A kernel that took a list of arrays would cost a microsecond an array, as does asking each for its address in Python;
one block of them all would cost a copy of every pixel, into memory that may be fresh. So a kernel reads the addresses
where NumPy keeps them.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from miamix_cpu.compile import entry, kernel

_LINE = 64  # bytes of a cache line

#: In CPython `id` is an object's address, and an array's pointer to its values comes first after the object's head.
_POINTER = object.__basicsize__


class Gathered(NamedTuple):
    """Images of one shape and dtype where kernels can find them."""

    addresses: np.ndarray  # uint64 (N,)
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    keep: Any  # whatever owns the memory


def gather(images: Sequence[np.ndarray] | np.ndarray) -> Gathered:
    """The C-contiguous images, copied only where they are not contiguous.

    Parameters
    ----------
    images : arrays of one shape and dtype, or one array (N, ...); any strides; never modified
    """
    if not isinstance(images, np.ndarray):
        arrays = list(map(np.ascontiguousarray, images))
        return Gathered(addresses_of(arrays), images[0].shape, images[0].dtype, arrays)
    block = np.ascontiguousarray(images)
    each = block[0].nbytes
    addresses = np.uint64(block.ctypes.data) + np.arange(len(block), dtype=np.uint64) * np.uint64(each)
    return Gathered(addresses, block.shape[1:], block.dtype, block)


def addresses_of(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Where the values of each array begin, uint64 (N,)."""
    if not _POINTER_IS_THERE:
        return np.array([array.ctypes.data for array in arrays], dtype=np.uint64)
    addresses = np.fromiter(map(id, arrays), np.uint64, len(arrays))
    follow(addresses, _POINTER)
    return addresses


def _pointer_is_there() -> bool:
    array = np.zeros(3, dtype=np.uint8)
    if sys.implementation.name != "cpython":
        return False
    return ctypes.c_void_p.from_address(id(array) + _POINTER).value == array.ctypes.data


_POINTER_IS_THERE = _pointer_is_there()


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing_context: Any, address: Any, dtype: Any) -> Any:
    """A typed pointer to `address`."""
    pointer = types.CPointer(dtype.dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.uint64, dtype), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(typing_context: Any, address: Any) -> Any:
    """Ask for the cache line at `address` (uint64); never faults."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch.p0", fnty=ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        )
        hints = [ir.Constant(number, hint) for hint in (0, 3, 1)]  # to read, into the second cache, data
        builder.call(function, [builder.inttoptr(arguments[0], byte), *hints])
        return context.get_dummy_value()

    return types.none(types.uint64), codegen


@kernel
def prefetch(address: np.uint64, size: int) -> None:
    """Ask for `size` bytes that are read soon.

    The processor sees by itself what is read in order, but not beyond a page of 4 KiB, and nothing of a lattice.
    """
    for byte in range(0, size, _LINE):
        _prefetch(address + np.uint64(byte))


@kernel
def array_at(address: np.uint64, size: int, dtype: Any) -> np.ndarray:
    """The `size` values of `dtype`, a NumPy scalar type, that lie at `address`, as a flat array."""
    return carray(_pointer(address, dtype), (size,))  # type: ignore[no-any-return]


@entry
def follow(addresses: np.ndarray, offset: int) -> None:
    """Replace each address by the one that is kept `offset` bytes behind it.

    Parameters
    ----------
    addresses : uint64 (N,); changed
    offset : int, bytes
    """
    for i in range(addresses.size):
        addresses[i] = array_at(addresses[i] + np.uint64(offset), 1, np.uint64)[0]
