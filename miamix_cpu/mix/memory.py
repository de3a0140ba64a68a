"""Large arrays in memory that is used again: fresh pages must be found and zeroed, which is as dear as mixing."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np

LARGE = 1 << 22  # bytes, from which on NumPy asks for huge pages; smaller memory malloc keeps by itself
_ALIGNMENT = 64  # bytes, as torch aligns memory
_IDLE = 2  # blocks kept, which is what a loop needs that looks at one batch while the next one is made

# Taken from and given back to by any thread, in the middle of anything: every step is one operation.
_idle: deque[np.ndarray] = deque(maxlen=_IDLE)


def empty_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised array, C-contiguous; a large one in memory that comes back when nobody looks at it any more.

    Whatever looks at it keeps it: views, and tensors made of it.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    block = _taken(size)
    start = -block.ctypes.data % _ALIGNMENT
    # Of a buffer, since what views a view of an array refers to that array alone.
    array = np.frombuffer(block.data, np.uint8, size, start)
    weakref.finalize(array, _idle.append, block).atexit = False
    shaped: np.ndarray = array.view(dtype).reshape(shape)
    return shaped


def _taken(size: int) -> np.ndarray:
    """A block for `size` bytes, at most twice as large as it needs to be."""
    needed = size + _ALIGNMENT
    for _ in range(_IDLE):
        try:
            block = _idle.pop()  # the last one, of which most may be in a cache
        except IndexError:
            break
        if needed <= block.size <= 2 * needed:
            return block
        _idle.appendleft(block)
    return np.empty(needed, np.uint8)
