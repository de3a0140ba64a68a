"""The machine of a run: where it runs, how that is described, and with how many threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.timing import environment


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run's numbers do not hang on, up to rounding: where and how fast it runs."""

    device: str = "cpu"
    workers: int = 0


def where(machine: Machine) -> dict[str, Any]:
    """Hardware and versions, for the JSON."""
    device = torch.cuda.get_device_name() if machine.device.startswith("cuda") else "cpu"
    return {**environment(), "device": device, "workers": machine.workers, "threads": torch.get_num_threads()}


def best_device() -> str:
    """The GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(name: str) -> None:
    """Raise ValueError unless torch can use it here."""
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device must be one that torch can use here, got {name!r}") from error


def set_threads(threads: int) -> None:
    """Of torch's operators."""
    torch.set_num_threads(threads)
