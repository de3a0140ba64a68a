"""From separate images to what a kernel can read: their addresses.

A kernel that took a list of arrays would cost a microsecond an array, and one block of them all a copy of every
pixel. Addresses cost neither for large images; small ones are cheaper to copy into one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from miamix_cpu.compile import kernel

#: Bytes an image up to which one block is cheaper than addresses one by one (0.1 against 1 microsecond at 3 KiB).
_BLOCK_BELOW = 1 << 14


_LINE = 64  # bytes of a cache line


class Gathered(NamedTuple):
    """Images of one shape and dtype where kernels can find them."""

    addresses: np.ndarray  # uint64 (N,)
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    keep: Any  # whatever owns the memory


def gather(images: Sequence[np.ndarray] | np.ndarray) -> Gathered:
    """The C-contiguous images, copied only where they are small or not contiguous.

    Parameters
    ----------
    images : arrays of one shape and dtype, or one array (N, ...); any strides; never modified
    """
    if not isinstance(images, np.ndarray):
        shape, dtype = images[0].shape, images[0].dtype
        if images[0].nbytes > _BLOCK_BELOW:
            arrays = [np.ascontiguousarray(image) for image in images]
            addresses = np.array([array.ctypes.data for array in arrays], dtype=np.uint64)
            return Gathered(addresses, shape, dtype, arrays)
        try:
            # A third of np.concatenate's time.
            images = np.frombuffer(b"".join(images), dtype).reshape(-1, *shape)  # type: ignore[arg-type]
        except TypeError:  # not contiguous
            images = np.stack(list(images))
    block = np.ascontiguousarray(images)
    each = block[0].nbytes
    addresses = np.uint64(block.ctypes.data) + np.arange(len(block), dtype=np.uint64) * np.uint64(each)
    return Gathered(addresses, block.shape[1:], block.dtype, block)


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing_context: Any, address: Any, like: Any) -> Any:
    """A typed pointer to `address`."""
    pointer = types.CPointer(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.uint64, like), codegen


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
def array_at(address: np.uint64, size: int, like: np.ndarray) -> np.ndarray:
    """The `size` values of the dtype of `like` that lie at `address`, as a flat array."""
    return carray(_pointer(address, like), (size,))  # type: ignore[no-any-return]
