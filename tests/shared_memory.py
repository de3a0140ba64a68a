"""What the system tells about shared memory; benchmarks ask too."""

import os
from pathlib import Path

import torch


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
