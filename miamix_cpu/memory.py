"""Large arrays in buffers that are reused: finding and zeroing fresh pages takes the kernel as long as mixing."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np

LARGE = 1 << 22  # bytes; from here on NumPy asks for huge pages, and malloc returns freed memory to the system
_ALIGNMENT = 64  # bytes, as torch aligns memory
_IDLE = 6  # blocks that are kept: images, masks and further maps of a batch that is in use, and of the next one

# Any thread may take or return a block at any moment, a finaliser among them, so each step is one atomic operation.
_idle: deque[np.ndarray] = deque(maxlen=_IDLE)


def empty_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised array, C-contiguous; a large one lies in a block that is reused once it is unreferenced.

    Views of the array, and tensors made from it, keep the block in use.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    block = _taken(size)
    start = -block.ctypes.data % _ALIGNMENT
    # From a buffer: a view of a view would refer to the block alone, and the finaliser would run too early.
    array = np.frombuffer(block.data, np.uint8, size, start)
    weakref.finalize(array, _idle.append, block).atexit = False
    shaped: np.ndarray = array.view(dtype).reshape(shape)
    return shaped


def _taken(size: int) -> np.ndarray:
    """A block for `size` bytes, at most twice as large as needed."""
    needed = size + _ALIGNMENT
    for _ in range(_IDLE):
        try:
            block = _idle.pop()  # the last one, which is most likely still in a cache
        except IndexError:
            break
        if needed <= block.size <= 2 * needed:
            return block
        _idle.appendleft(block)
    return np.empty(needed, np.uint8)
