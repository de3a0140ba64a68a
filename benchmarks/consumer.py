"""What takes a loader's batches: a simulated step that leaves the CPU idle, or a real one on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.torchvision_wheel import import_torchvision
from benchmarks.training.networks import NETWORKS
from miamix_cpu import mixed_cross_entropy, normalize_on_device

#: From a batch of a loader to nothing.
Step = Callable[[torch.Tensor, torch.Tensor], None]

CLASSES = 10
STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def asleep(seconds: float) -> Step:
    """A simulated step of so many seconds, after which the next batch is asked for."""

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        time.sleep(seconds)

    return step


def copied(device: str) -> Step:
    """Images on the device, and nothing else: what a loader can deliver at most."""

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        images.to(device, non_blocking=True)
        targets.to(device, non_blocking=True)

    return step


class Training:
    """Training steps of a residual network: bytes to the device, normalised there, bfloat16, SGD.

    Parameters
    ----------
    device : str
    size : int
        Of the images: up to 64 ResNet-18 in its CIFAR form, above it ResNet-50.
    network : str, optional
        Another of `training.networks`.

    Attributes
    ----------
    name : str
        The network's.
    """

    def __init__(self, device: str, size: int, network: str | None = None) -> None:
        self.device = device
        torch.manual_seed(0)
        self.name = network or ("resnet18" if size <= 64 else "resnet50")
        model = NETWORKS[self.name](CLASSES) if self.name in NETWORKS else _resnet50()
        self.model: nn.Module = model.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, 0.9, weight_decay=5e-4)

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> None:
        """Take a step; on a GPU it goes on after the return."""
        images, targets = (part.to(self.device, non_blocking=True) for part in (images, targets))
        pictures = normalize_on_device(images, *STATISTICS).contiguous(memory_format=torch.channels_last)
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16):
            logits = self.model(pictures)
        loss = mixed_cross_entropy(logits.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def seconds(self, images: torch.Tensor, targets: torch.Tensor, steps: int = 50, rounds: int = 3) -> float:
        """Median of a step's time where no batch has to be waited for; the network is warm then."""
        found = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            for _ in range(steps):
                self(images, targets)
            finish()
            found.append((time.perf_counter() - start) / steps)
        return statistics.median(found[1:])


def _resnet50() -> Any:
    import_torchvision()
    from torchvision.models import resnet50

    return resnet50(num_classes=CLASSES)


def finish() -> None:
    """Wait for what was given to a GPU."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
