"""How a batch's tensors travel from a worker to its parent: large ones in shared memory, small ones in the message."""

from __future__ import annotations

import dataclasses
import errno
import math
import os
import warnings
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch.multiprocessing import get_sharing_strategy
from torch.multiprocessing.reductions import reduce_storage, reduce_tensor
from torch.utils.data import get_worker_info

from miamix_cpu.mix.memory import LARGE, empty_array
from miamix_cpu.workers.shared_buffers import Address, Lender, lender_of, take

_SMALL = 1 << 16  # bytes; to open and map a file takes as long as to copy these, to hand one over several times that


_Layout = tuple[torch.dtype, int, tuple[int, ...], tuple[int, ...], bool]


def _layout_of(tensor: torch.Tensor) -> _Layout:
    """How a tensor looks at its storage."""
    return tensor.dtype, int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.requires_grad


def _looking_at(memory: Any, size: int, layout: _Layout) -> torch.Tensor:
    """An ordinary tensor that looks at the first `size` bytes of `memory` as another did at its storage."""
    dtype, offset, shape, stride, requires_grad = layout
    if not size:  # torch makes no tensor of an empty buffer
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
    """What a worker's queue pickles in a tensor's place: memory that is lent, the bytes themselves, or torch's own.

    torch hands over every tensor of a worker, a target as well as a batch of images, as shared memory of its own. It is
    sent from another thread, whose errors nobody would see while the parent waits for ever: so where the process has no
    file descriptors left for it, the bytes are sent.
    """
    if tensor.is_conj() or tensor.is_neg():  # which torch forgets on the way
        tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or not _is_plain(tensor):
        return reduce_tensor(tensor)  # type: ignore[no-untyped-call]
    storage = tensor.untyped_storage()
    lender = _lender()
    try:
        address = None if lender is None else lender.lend(storage.data_ptr())
        if address is not None:
            return _borrowed, (address, storage.nbytes(), _layout_of(tensor))
        if not storage.nbytes() < _SMALL or storage.is_shared():
            # Here, and not when the storage itself is pickled, so that what fails is seen.
            return _handed_over, (*reduce_storage(storage), _layout_of(tensor))  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError):
        pass
    return _send_in_message(tensor)


def _handed_over(rebuild: Any, parts: Any, layout: _Layout) -> torch.Tensor:
    dtype, offset, shape, stride, requires_grad = layout
    tensor = torch.empty(0, dtype=dtype, device="cpu").set_(rebuild(*parts), offset, shape, stride)
    return tensor.requires_grad_(requires_grad)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is its storage, looked at by shape and strides, and nothing else."""
    return tensor.is_leaf and not tensor.is_quantized


@dataclasses.dataclass(eq=False)
class _Unseen:
    """What tells no two trees apart, so that one function may go over several batches."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unseen)

    __hash__ = None  # type: ignore[assignment]


def register_node(kind: type, context_of: str) -> None:
    """Let torch's pytrees look into objects of a dataclass; one field of it is no leaf and stays as it is.

    torch promises neither the module nor its names: without them such an object is one leaf.
    """
    try:
        from torch.utils import _pytree

        names = [field.name for field in dataclasses.fields(kind) if field.name != context_of]
        _pytree.register_pytree_node(
            kind,
            lambda value: ([getattr(value, name) for name in names], _Unseen(getattr(value, context_of))),
            lambda parts, unseen: kind(**dict(zip(names, parts, strict=True)), **{context_of: unseen.value}),
        )
    except Exception as error:
        warnings.warn(f"torch's pytrees do not know {kind.__name__}: {error}", RuntimeWarning, stacklevel=2)


_registered_in = 0  # the process


def send_from_here() -> None:
    """In a worker, have its tensors sent as `_send` says."""
    global _registered_in
    if _registered_in != os.getpid():
        _registered_in = os.getpid()
        ForkingPickler.register(torch.Tensor, _send)  # in the place of torch's own


def _lender() -> Lender | None:
    """The worker's lender, unless torch was told to share otherwise than by file descriptors."""
    strategy = get_sharing_strategy()  # type: ignore[no-untyped-call]
    return lender_of(os.getpid()) if strategy == "file_descriptor" else None


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialised tensor; in a worker one that travels to the parent without a copy, or in the message."""
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
            memory = torch.empty(0, dtype=torch.uint8, device="cpu")
            memory.set_(memory.untyped_storage()._new_shared(size))  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        explained = _explained(error, size)
        if explained is None:
            raise
        raise explained from error
    return memory.view(dtype).view(shape)


def _explained(error: Exception, size: int) -> Exception | None:
    """An error that says what could not be had and what to do; None where the other says all that is known."""
    what = f"{size / 2**20:.1f} MiB of shared memory for a batch"
    number = getattr(error, "errno", None)
    if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in str(error):
        return RuntimeError(
            f"Too many open files: a worker could not open {what}. Each batch that is kept holds one file open: keep "
            "fewer, raise the limit with `ulimit -n` in the shell, or call "
            "torch.multiprocessing.set_sharing_strategy('file_system') at the beginning of the program"
        )
    if number == errno.ENOMEM or "allocate memory" in str(error):
        return MemoryError(
            f"a worker could not get {what}: its memory is limited (RLIMIT_AS, a container's limit) or used up; use "
            "smaller batches, fewer workers or a smaller prefetch_factor"
        )
    return None


def channels_first_view(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W, C) as (N, C, H, W)."""
    return images.permute(0, 3, 1, 2)


def from_array(array: np.ndarray) -> torch.Tensor:
    """`array` as a tensor; it shares its memory except in a worker, from which it travels."""
    tensor = torch.from_numpy(array)
    return tensor if get_worker_info() is None else empty(tuple(tensor.shape), tensor.dtype).copy_(tensor)
