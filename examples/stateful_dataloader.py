"""torchdata's StatefulDataLoader: stop in the middle of an epoch, and go on with the batches that would have come.

python examples/stateful_dataloader.py --stop 30 --state state.pt
python examples/stateful_dataloader.py --state state.pt
"""

import argparse
import zlib
from pathlib import Path

import albumentations as A
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from miamix_cpu import EpochSampler, Indexed, MiAMixCollator, mixed_cross_entropy


def main() -> None:
    """Train; where there is a saved state, go on from it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stop", type=int, help="the number of steps after which to save the state and stop")
    parser.add_argument("--state", type=Path, help="a file")
    options = parser.parse_args()
    torch.manual_seed(0)

    digits = load_digits()
    pictures = (digits.images * 255 / 16).round().astype(np.uint8)
    collate = MiAMixCollator(10, transform=A.Compose([A.PadIfNeeded(10, 10), A.RandomCrop(8, 8)]), seed=0)
    dataset = Indexed(list(zip(pictures, digits.target, strict=True)))
    # The order is the epoch's alone: `shuffle=True` goes on in another one after the epoch in which it is resumed.
    sampler = EpochSampler(DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=True, seed=0))
    loader = StatefulDataLoader(
        dataset, 100, sampler=sampler, collate_fn=collate,
        num_workers=options.workers, persistent_workers=options.workers > 0,
    )  # fmt: skip
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    first, step = 0, 0
    if options.state and options.state.exists():
        state = torch.load(options.state)
        first, step = state["epoch"], state["step"]
        model.load_state_dict(state["model"])
        loader.load_state_dict(state["loader"])  # how many batches of the epoch are done

    for epoch in range(first, options.epochs):
        sampler.set_epoch(epoch)  # before iter(loader); it travels with each index
        for images, targets in loader:
            loss = mixed_cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            shown = zlib.crc32(targets.numpy().tobytes(), zlib.crc32(images.numpy().tobytes()))
            print(f"step {step}: epoch {epoch}, shown {shown:08x}, loss {loss.item():.6f}")
            if step == options.stop:
                state = {"epoch": epoch, "step": step, "model": model.state_dict(), "loader": loader.state_dict()}
                torch.save(state, options.state)
                return


if __name__ == "__main__":
    main()
