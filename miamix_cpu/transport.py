"""How a batch's tensors travel from a worker to its parent: large ones in shared memory, small ones in the message."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

_ALIGNMENT, _LARGE = 64, 1 << 22  # bytes, as torch aligns memory and as NumPy asks for huge pages
_SMALL = 1 << 16  # bytes; handing over a file descriptor takes a quarter of a millisecond, copying these a twentieth


class _InMessage(torch.Tensor):
    """A small tensor that is pickled by value, and arrives as an ordinary one.

    torch hands over every tensor of a worker, a target as well as a batch of images, as shared memory of its own.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: Any) -> Any:
        data = torch.empty(0, dtype=torch.uint8).set_(self.untyped_storage()).numpy().tobytes()
        return _arrived, (data, self.dtype, tuple(self.shape), self.stride())


def _arrived(data: bytes, dtype: torch.dtype, shape: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype).as_strided(shape, stride)


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialised tensor; in a worker one that travels to the parent without a copy, or in the message."""
    size = math.prod(shape) * dtype.itemsize
    if get_worker_info() is None:
        return _in_huge_pages(shape, dtype, size) if size >= _LARGE else torch.empty(shape, dtype=dtype)
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    if size < _SMALL:
        return torch.empty(shape, dtype=dtype).as_subclass(_InMessage)
    tensor = torch.empty(0, dtype=dtype)
    storage = tensor.untyped_storage()._new_shared(size)  # type: ignore[no-untyped-call]
    return tensor.set_(storage).view(shape)


def channels_first_view(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W, C) as (N, C, H, W), which travels alike."""
    return images.permute(0, 3, 1, 2).as_subclass(type(images))


def from_array(array: np.ndarray) -> torch.Tensor:
    """`array` as a tensor; it shares its memory except in a worker, from which it travels."""
    tensor = torch.from_numpy(array)
    return tensor if get_worker_info() is None else empty(tuple(tensor.shape), tensor.dtype).copy_(tensor)


def _in_huge_pages(shape: tuple[int, ...], dtype: torch.dtype, size: int) -> torch.Tensor:
    """NumPy asks for huge pages, torch does not: fresh memory by the megabyte is had in a quarter of the time."""
    block = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    start = -block.ctypes.data % _ALIGNMENT
    return torch.from_numpy(block[start : start + size]).view(dtype).view(shape)
