"""DistributedDataParallel on scikit-learn's digits: two processes, and one `set_epoch` for order, views and mixing.

python examples/ddp.py --epochs 4
"""

import argparse
import gc
import tempfile
import zlib

import albumentations as A
import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from miamix_cpu import EpochSampler, Indexed, MiAMixCollator, mixed_cross_entropy


def checksum(tensors: list[torch.Tensor]) -> str:
    """Of all bytes, in this order."""
    crc = 0
    for tensor in tensors:
        crc = zlib.crc32(tensor.detach().cpu().numpy().tobytes(), crc)
    return f"{crc:08x}"


def run(rank: int, options: argparse.Namespace, store: str) -> None:
    """What each process does."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=options.processes)
    train(rank, options)
    gc.collect()  # the model's cycles hold the group, whose threads must end before Python does
    dist.destroy_process_group()


def train(rank: int, options: argparse.Namespace) -> None:
    """Train, and tell what this rank was shown."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    digits = load_digits()
    pictures = (digits.images * 255 / 16).round().astype(np.uint8)
    samples = list(zip(pictures, digits.target, strict=True))

    # The same seed on all ranks: they see different samples, so they mix differently.
    collate = MiAMixCollator(10, transform=A.Compose([A.PadIfNeeded(10, 10), A.RandomCrop(8, 8)]), seed=0)
    dataset = Indexed(samples[500:])
    sampler = EpochSampler(DistributedSampler(dataset, shuffle=True, seed=0))
    loader = DataLoader(
        dataset, 32, sampler=sampler, drop_last=True, collate_fn=collate,
        num_workers=options.workers, persistent_workers=options.workers > 0,
    )  # fmt: skip
    test_images, test_targets = collate.plain()(samples[:500])

    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    model = DistributedDataParallel(layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(options.epochs):
        sampler.set_epoch(epoch)  # before iter(loader); it tells the DistributedSampler, and travels to the workers
        shown = []
        for images, targets in loader:
            loss = mixed_cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            shown += [images, targets]
        with torch.inference_mode():
            accuracy = (layers(test_images).argmax(1) == test_targets.argmax(1)).float().mean().item()
        told = f"shown {checksum(shown)}, weights {checksum(list(model.parameters()))}, test {accuracy:.3f}"
        everybody = [None] * options.processes
        dist.all_gather_object(everybody, told)
        if rank == 0:
            for other, line in enumerate(everybody):
                print(f"epoch {epoch}, rank {other}: {line}")


def main() -> None:
    """Start the processes, as torchrun would."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(run, (options, f"{folder}/store"), options.processes)


if __name__ == "__main__":
    main()
