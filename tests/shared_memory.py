"""What the system tells about shared memory; benchmarks ask too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.reductions import reduce_tensor


@contextmanager
def as_a_worker(monkeypatch: Any, lender: Any) -> Iterator[None]:
    """Have this process make and send tensors as a worker does, with a lender of its own."""
    from miamix_cpu.workers import transport

    monkeypatch.setattr(transport, "get_worker_info", lambda: object())
    monkeypatch.setattr(transport, "lender_of", lambda process: lender)
    try:
        yield
    finally:
        ForkingPickler.register(torch.Tensor, reduce_tensor)
        transport._registered_in = 0


def lies_in_shared_memory(tensor: torch.Tensor) -> bool:
    """Whether another process can have the same memory, torch's or ours."""
    maps = Path("/proc/self/maps")
    if not maps.exists():  # elsewhere than on Linux all of it is torch's
        return tensor.is_shared()
    for line in maps.read_text().splitlines():
        addresses, access = line.split()[:2]
        start, end = (int(address, 16) for address in addresses.split("-"))
        if start <= tensor.data_ptr() < end:
            return access.endswith("s")
    return False


def blocks_in_shared_memory() -> int:
    """Files of torch in /dev/shm, and torch's and ours that this process holds open."""
    found = len(list(Path("/dev/shm").glob("torch_*")))
    for path in Path("/proc/self/fd").iterdir():
        try:
            name = os.readlink(path)
        except FileNotFoundError:  # of the listing itself
            continue
        found += name.startswith(("/dev/shm/torch_", "/memfd:miamix_cpu"))
    return found
