"""Send the tensors of a batch from a worker: large ones in shared memory, small ones in the message itself.

torch sends every tensor of a worker, a small target as well as a batch of images, in separate shared memory. Here the
worker's queue pickles tensors with `_send`. This uses private API of torch (`_ways_of_torch`); if that is gone, torch
sends tensors in its own way.
"""

from __future__ import annotations

import dataclasses
import errno
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.multiprocessing import get_sharing_strategy
from torch.utils.data import get_worker_info

from miamix_cpu.memory import LARGE, empty_array
from miamix_cpu.private_api import attempt
from miamix_cpu.workers.shared_buffers import Address, Lender, lender_of, take

_SMALL = 1 << 16  # bytes; opening and mapping a file takes as long as copying these, sending one several times as long


class _Ways(NamedTuple):
    """Functions of torch and multiprocessing for sending tensors."""

    register: Callable[..., Any]  # sets how the queues of workers pickle a type
    reduce_tensor: Callable[..., Any]
    reduce_storage: Callable[..., Any]


def _ways_of_torch() -> _Ways:
    from multiprocessing.reduction import ForkingPickler

    from torch.multiprocessing import reductions

    return _Ways(ForkingPickler.register, reductions.reduce_tensor, reductions.reduce_storage)


_ways: Any = attempt(
    "torch does not send tensors as expected, so workers send batches in torch's own way, which takes longer",
    _ways_of_torch,
    lambda: None,
)


def _shared_by_torch(size: int) -> torch.Tensor:
    """Allocate shared memory, uint8 (size,)."""
    memory = torch.empty(0, dtype=torch.uint8, device="cpu")
    return memory.set_(memory.untyped_storage()._new_shared(size))  # type: ignore[no-untyped-call]


def _shared_by_copy(size: int) -> torch.Tensor:
    memory = torch.empty(size, dtype=torch.uint8, device="cpu")
    memory.share_memory_()  # type: ignore[no-untyped-call]
    return memory


def _shares() -> Callable[[int], torch.Tensor]:
    _shared_by_torch(1)
    return _shared_by_torch


_new_shared = attempt(
    "torch's shared memory cannot be allocated directly, so it is made by a copy", _shares, lambda: _shared_by_copy
)

_Layout = tuple[torch.dtype, int, tuple[int, ...], tuple[int, ...], bool]


def _layout_of(tensor: torch.Tensor) -> _Layout:
    """Return how a tensor refers to its storage."""
    return tensor.dtype, int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.requires_grad


def _looking_at(memory: Any, size: int, layout: _Layout) -> torch.Tensor:
    """Return an ordinary tensor with `layout`, whose storage is the first `size` bytes of `memory`."""
    dtype, offset, shape, stride, requires_grad = layout
    if not size:  # torch rejects an empty buffer
        return torch.empty_strided(shape, stride, dtype=dtype, device="cpu").requires_grad_(requires_grad)
    storage = torch.frombuffer(memory, dtype=torch.uint8, count=size).untyped_storage()
    return torch.empty(0, dtype=dtype, device="cpu").set_(storage, offset, shape, stride).requires_grad_(requires_grad)


def _send_in_message(tensor: torch.Tensor) -> Any:
    data = torch.empty(0, dtype=torch.uint8, device="cpu").set_(tensor.untyped_storage()).numpy().tobytes()
    return _from_message, (data, _layout_of(tensor))


def _from_message(data: bytes, layout: _Layout) -> torch.Tensor:
    return _looking_at(bytearray(data), len(data), layout)


def _borrowed(address: Address, size: int, layout: _Layout) -> torch.Tensor:
    return _looking_at(take(address), size, layout)


def _send(tensor: torch.Tensor) -> Any:
    """Return what a worker's queue pickles instead of a tensor: lent memory, the bytes themselves, or torch's own form.

    This runs in another thread. An error there would not be seen, and the parent would wait forever. So if sending
    fails, for example because the process has no file descriptors left, the bytes are sent.
    """
    if tensor.is_conj() or tensor.is_neg():  # torch loses these flags when it sends a tensor
        tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or not _is_plain(tensor):
        return _ways.reduce_tensor(tensor)
    storage = tensor.untyped_storage()
    lender = _lender()
    try:
        address = None if lender is None else lender.lend(storage.data_ptr())
        if address is not None:
            return _borrowed, (address, storage.nbytes(), _layout_of(tensor))
        if not storage.nbytes() < _SMALL or storage.is_shared():
            # Here, and not when the storage itself is pickled, so that a failure is caught.
            return _handed_over, (*_ways.reduce_storage(storage), _layout_of(tensor))
    except Exception:  # no error would be seen here, and sending the bytes works as well
        pass
    return _send_in_message(tensor)


def _handed_over(rebuild: Any, parts: Any, layout: _Layout) -> torch.Tensor:
    dtype, offset, shape, stride, requires_grad = layout
    tensor = torch.empty(0, dtype=dtype, device="cpu").set_(rebuild(*parts), offset, shape, stride)
    return tensor.requires_grad_(requires_grad)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is fully described by its storage, shape and strides."""
    return tensor.is_leaf and not tensor.is_quantized


@dataclasses.dataclass(eq=False)
class _Unseen:
    """A pytree context that equals all others, so that one function can be mapped over several batches."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unseen)

    __hash__ = None  # type: ignore[assignment]


def register_node(kind: type, context_of: str) -> None:
    """Register a dataclass with torch's pytrees. The field `context_of` is not a leaf and stays unchanged.

    The pytree module is private API of torch. If it is gone, such an object is a single leaf.
    """

    def register() -> None:
        from torch.utils import _pytree

        names = [field.name for field in dataclasses.fields(kind) if field.name != context_of]
        _pytree.register_pytree_node(
            kind,
            lambda value: ([getattr(value, name) for name in names], _Unseen(getattr(value, context_of))),
            lambda parts, unseen: kind(**dict(zip(names, parts, strict=True)), **{context_of: unseen.value}),
        )

    attempt(f"torch's pytrees treat a {kind.__name__} as a single leaf", register, lambda: None)


_registered_in = 0  # the process ID


def send_from_here() -> None:
    """In a worker, register `_send` for the tensors that it sends."""
    global _registered_in
    if _registered_in != os.getpid() and _ways is not None:
        _registered_in = os.getpid()
        _ways.register(torch.Tensor, _send)  # replaces torch's own function


def _lender() -> Lender | None:
    """Return the worker's lender; None if torch does not share memory by file descriptors, or if `_ways` is None."""
    if _ways is None:
        return None
    strategy = get_sharing_strategy()  # type: ignore[no-untyped-call]
    return lender_of(os.getpid()) if strategy == "file_descriptor" else None


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return an uninitialised tensor. In a worker, it can be sent to the parent without a copy, or in the message."""
    size = math.prod(shape) * dtype.itemsize
    if get_worker_info() is None:
        if size < LARGE:
            return torch.empty(shape, dtype=dtype, device="cpu")
        return torch.from_numpy(empty_array((size,), np.uint8)).view(dtype).view(shape)
    send_from_here()
    if size < _SMALL:
        return torch.empty(shape, dtype=dtype, device="cpu")
    lender = _lender()
    try:
        memory = None if lender is None else lender.tensor(size)
        if memory is None:
            memory = _new_shared(size)
    except (OSError, RuntimeError) as error:
        explained = _explained(error, size)
        if explained is None:
            raise
        raise explained from error
    return memory.view(dtype).view(shape)


def _explained(error: Exception, size: int) -> Exception | None:
    """Return an error that says what could not be allocated and what to do; None if the cause is not recognised."""
    what = f"{size / 2**20:.1f} MiB of shared memory for a batch"
    number = getattr(error, "errno", None)
    if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in str(error):
        return RuntimeError(
            f"Too many open files: a worker could not open {what}. Each batch that is kept holds one file open: keep "
            "fewer batches, raise the limit with `ulimit -n` in the shell, or call "
            "torch.multiprocessing.set_sharing_strategy('file_system') at the beginning of the program"
        )
    if number == errno.ENOMEM or "allocate memory" in str(error):
        return MemoryError(
            f"a worker could not allocate {what}: its memory is limited (RLIMIT_AS, a container's limit) or used up. "
            "Use smaller batches, fewer workers or a smaller prefetch_factor"
        )
    return None


def channels_first_view(images: torch.Tensor) -> torch.Tensor:
    """Return (N, H, W, C), or (N, T, H, W, C), as a view (N, C, H, W), or (N, C, T, H, W)."""
    return images.movedim(-1, 1)


def from_array(array: np.ndarray) -> torch.Tensor:
    """Return `array` as a tensor that shares its memory; in a worker, a copy that can be sent."""
    tensor = torch.from_numpy(array)
    return tensor if get_worker_info() is None else empty(tuple(tensor.shape), tensor.dtype).copy_(tensor)
