"""From separate images to what a kernel can read: their addresses.

A kernel that took a list of arrays would cost a microsecond an array, as does asking each for its shape, dtype and
address in Python; one block of them all would cost a copy of every pixel, into memory that may be fresh. So a kernel
reads the arrays' heads, where NumPy keeps all of it.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from miamix_cpu.jit.arrays import array_at
from miamix_cpu.jit.compile import entry_with_gil, kernel

_LINE = 64  # bytes of a cache line
_LOWER = np.uint64(0xFFFFFFFF)  # the half of a word that a 32-bit integer is in

#: Words of an array's and a list's head, counted from the end of what every Python object begins with, whose last word
#: is its type (NumPy's `PyArrayObject_fields`, CPython's `PyListObject`; `id` is an object's address there).
_TYPE, _DATA, _AXES, _LENGTHS, _DTYPE, _FLAGS, _WORDS = -1, 0, 1, 2, 5, 6, 7
_ITEMS = 1
_HEAD = object.__basicsize__ // 8
_CONTIGUOUS = 1  # among the flags


class Gathered(NamedTuple):
    """Images of one shape and dtype where kernels can find them."""

    addresses: np.ndarray  # uint64 (N,)
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    keep: Any  # whatever owns the memory


class Found(NamedTuple):
    """Where arrays lie that are alike."""

    addresses: np.ndarray  # uint64 (N,), 0 for those that are not C-contiguous
    strided: int  # the number of those


def find(arrays: list[Any]) -> Found | None:
    """Where arrays of one type, shape and dtype lie; None where not all are, or their heads can't be read."""
    if not (_HEADS_ARE_KNOWN and isinstance(arrays, list) and isinstance(arrays[0], np.ndarray)):
        return None
    addresses = np.empty(len(arrays), dtype=np.uint64)
    strided = read_heads(id(arrays), _HEAD, addresses)
    return None if strided < 0 else Found(addresses, strided)


def gather(images: list[np.ndarray] | np.ndarray, found: Found | None = None) -> Gathered:
    """The C-contiguous images, copied only where they are not contiguous.

    Parameters
    ----------
    images : arrays of one shape and dtype, or one array (N, ...); any strides; never modified
    found : Found, optional
        `find(images)`, where that is known already.
    """
    if isinstance(images, np.ndarray):
        block = np.ascontiguousarray(images)
        each = block[0].nbytes
        addresses = np.uint64(block.ctypes.data) + np.arange(len(block), dtype=np.uint64) * np.uint64(each)
        return Gathered(addresses, block.shape[1:], block.dtype, block)
    found = found or find(images)
    copies = []
    if found is None:  # dtypes that are equal, say, but not one object
        copies = list(map(np.ascontiguousarray, images))
        addresses = np.array([array.ctypes.data for array in copies], dtype=np.uint64)
    else:
        addresses = found.addresses
        if found.strided:
            addresses, strided = addresses.copy(), np.flatnonzero(addresses == 0)
            copies = [np.ascontiguousarray(images[i]) for i in strided.tolist()]
            addresses[strided] = gather(copies).addresses
    return Gathered(addresses, images[0].shape, images[0].dtype, (images, copies))


def _heads_are_known() -> bool:
    if sys.implementation.name != "cpython":
        return False

    def words(address: int) -> Any:
        return (ctypes.c_uint64 * _WORDS).from_address(address)

    block = np.zeros((3, 5), dtype=np.uint8)
    arrays = [block, block[:, :4], block[1]]
    start = 8 * _HEAD
    known = list(words(words(id(arrays) + start)[_ITEMS])[:3]) == list(map(id, arrays))
    for array in arrays if known else ():
        head = words(id(array) + start)
        known = (
            known
            and words(id(array) + start + 8 * _TYPE)[0] == id(np.ndarray)
            and head[_DATA] == array.ctypes.data
            and head[_AXES] & _LOWER == array.ndim
            and tuple(words(head[_LENGTHS])[: array.ndim]) == array.shape
            and head[_DTYPE] == id(array.dtype)
            and bool(head[_FLAGS] & _CONTIGUOUS) == array.flags.c_contiguous
        )
    return known


_HEADS_ARE_KNOWN = _heads_are_known()


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


@entry_with_gil
def read_heads(objects: int, head: int, addresses: np.ndarray) -> int:
    """See whether all items of a list are arrays that are alike, and where their values lie.

    Parameters
    ----------
    objects : int, address of a list of N Python objects, the first of which is an array
    head : int, words that every Python object begins with
    addresses : uint64 (N,); overwritten, with 0 for what is not C-contiguous

    Returns
    -------
    int
        How many are not C-contiguous; -1 where not all are arrays of one type, shape and dtype.
    """
    items = array_at(
        array_at(np.uint64(objects), head + _ITEMS + 1, np.uint64)[head + _ITEMS], addresses.size, np.uint64
    )
    like = array_at(items[0], head + _WORDS, np.uint64)
    axes = like[head + _AXES] & _LOWER
    lengths = array_at(like[head + _LENGTHS], np.int64(axes), np.uint64)
    strided = 0
    for i in range(addresses.size):
        array = array_at(items[i], head + _WORDS, np.uint64)
        # What is no array may end right behind its type.
        if array[head + _TYPE] != like[head + _TYPE] or array[head + _DTYPE] != like[head + _DTYPE]:
            return -1
        if array[head + _AXES] & _LOWER != axes:
            return -1
        own = array_at(array[head + _LENGTHS], lengths.size, np.uint64)
        for axis in range(lengths.size):
            if own[axis] != lengths[axis]:
                return -1
        contiguous = array[head + _FLAGS] & np.uint64(_CONTIGUOUS) != 0
        addresses[i] = array[head + _DATA] if contiguous else np.uint64(0)
        strided += not contiguous
    return strided
