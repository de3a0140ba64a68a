"""How a batch's tensors travel from a worker to its parent: large ones in shared memory, small ones in the message."""

from __future__ import annotations

import copy
import math
import os
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch.multiprocessing import get_sharing_strategy
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import get_worker_info

from miamix_cpu.lending import Address, Lender, lender_of, take
from miamix_cpu.memory import LARGE, empty_array

_SMALL = 1 << 16  # bytes; to open and map a file takes as long as to copy these, to hand one over several times that


class _Travelling(torch.Tensor):
    """A tensor that a worker sends in a way of its own; an ordinary one arrives, as do copies and pickles of it."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.as_subclass(torch.Tensor).__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: Any) -> torch.Tensor:
        return copy.deepcopy(self.as_subclass(torch.Tensor), memo)


class _InMessage(_Travelling):
    """A small tensor, which is sent by value.

    torch hands over every tensor of a worker, a target as well as a batch of images, as shared memory of its own.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # results may be large


class _InSharedMemory(_Travelling):
    """A large tensor, or a view of one, which is lent to the parent; what has other memory is sent torch's way."""


_Layout = tuple[torch.dtype, int, tuple[int, ...], tuple[int, ...], bool]


def _layout_of(tensor: torch.Tensor) -> _Layout:
    """How a tensor looks at its storage."""
    return tensor.dtype, int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.requires_grad


def _looking_at(memory: Any, size: int, layout: _Layout) -> torch.Tensor:
    """An ordinary tensor that looks at the first `size` bytes of `memory` as another did at its storage."""
    dtype, offset, shape, stride, requires_grad = layout
    storage = torch.frombuffer(memory, dtype=torch.uint8, count=size).untyped_storage()
    return torch.empty(0, dtype=dtype).set_(storage, offset, shape, stride).requires_grad_(requires_grad)


def _send_in_message(tensor: torch.Tensor) -> Any:
    data = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy().tobytes()
    return _from_message, (data, _layout_of(tensor))


def _from_message(data: bytes, layout: _Layout) -> torch.Tensor:
    return _looking_at(bytearray(data), len(data), layout)


def _send_in_shared_memory(tensor: torch.Tensor) -> Any:
    tensor, lender = tensor.as_subclass(torch.Tensor), _lender()
    storage = tensor.untyped_storage()
    address = None if lender is None else lender.lend(storage.data_ptr())
    if address is None:
        return reduce_tensor(tensor)  # type: ignore[no-untyped-call]
    return _borrowed, (address, storage.nbytes(), _layout_of(tensor))


def _borrowed(address: Address, size: int, layout: _Layout) -> torch.Tensor:
    return _looking_at(take(address), size, layout)


# As torch has its own tensors sent: by the type that a worker's queue finds.
ForkingPickler.register(_InMessage, _send_in_message)
ForkingPickler.register(_InSharedMemory, _send_in_shared_memory)


def _lender() -> Lender | None:
    """The worker's lender, unless torch was told to share otherwise than by file descriptors."""
    strategy = get_sharing_strategy()  # type: ignore[no-untyped-call]
    return lender_of(os.getpid()) if strategy == "file_descriptor" else None


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialised tensor; in a worker one that travels to the parent without a copy, or in the message."""
    tensor, kind = _allocate(shape, dtype)
    return tensor if kind is None else tensor.as_subclass(kind)


def empty_and_array(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[torch.Tensor, np.ndarray]:
    """`empty`, and the same memory as an array, for which one that travels would be asked at six times the price."""
    tensor, kind = _allocate(shape, dtype)
    return tensor if kind is None else tensor.as_subclass(kind), tensor.numpy()


def _allocate(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[torch.Tensor, type[_Travelling] | None]:
    """An ordinary tensor, and what it has to be to travel."""
    size = math.prod(shape) * dtype.itemsize
    if get_worker_info() is None:
        if size < LARGE:
            return torch.empty(shape, dtype=dtype), None
        return torch.from_numpy(empty_array((size,), np.uint8)).view(dtype).view(shape), None
    if size < _SMALL:
        return torch.empty(shape, dtype=dtype), _InMessage if size else None
    lender = _lender()
    memory = None if lender is None else lender.tensor(size)
    if memory is None:
        memory = torch.empty(0, dtype=torch.uint8)
        memory.set_(memory.untyped_storage()._new_shared(size))  # type: ignore[no-untyped-call]
    return memory.view(dtype).view(shape), _InSharedMemory


def channels_first_view(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W, C) as (N, C, H, W), which travels alike."""
    return images.permute(0, 3, 1, 2).as_subclass(type(images))


def from_array(array: np.ndarray) -> torch.Tensor:
    """`array` as a tensor; it shares its memory except in a worker, from which it travels."""
    tensor = torch.from_numpy(array)
    return tensor if get_worker_info() is None else empty(tuple(tensor.shape), tensor.dtype).copy_(tensor)
