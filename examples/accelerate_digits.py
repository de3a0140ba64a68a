"""Accelerate on scikit-learn's digits: the epoch travels with the samples, and a run stopped in mid-epoch goes on.

python examples/accelerate_digits.py --epochs 4
python examples/accelerate_digits.py --epochs 4 --folder run --stop 1 5
python examples/accelerate_digits.py --epochs 4 --folder run --resume
"""

import argparse
import zlib
from pathlib import Path

import albumentations as A
import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration, debug_launcher, skip_first_batches
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from miamix_cpu import EpochSampler, Indexed, MiAMixCollator, mixed_cross_entropy


def checksum(tensors: list[torch.Tensor], crc: int = 0) -> int:
    """Of all bytes, in this order."""
    for tensor in tensors:
        crc = zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes(), crc)
    return crc


def train(options: argparse.Namespace) -> None:
    """What each process does."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    configuration = DataLoaderConfiguration(dispatch_batches=options.dispatch, split_batches=options.split)
    accelerator = Accelerator(cpu=True, dataloader_config=configuration)
    digits = load_digits()
    pictures = (digits.images * 255 / 16).round().astype(np.uint8)
    samples = list(zip(pictures, digits.target, strict=True))

    collate = MiAMixCollator(10, transform=A.Compose([A.PadIfNeeded(10, 10), A.RandomCrop(8, 8)]), seed=0)
    dataset = Indexed(samples[500:])
    # One order for all processes: Accelerate deals it out by itself.
    sampler = EpochSampler(DistributedSampler(dataset, num_replicas=1, rank=0, seed=0))
    loader = DataLoader(dataset, 64, sampler=sampler, drop_last=True, num_workers=options.workers, collate_fn=collate)
    test_loader = DataLoader(samples[:500], 100, collate_fn=collate.plain())
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model, optimizer, loader, test_loader = accelerator.prepare(model, optimizer, loader, test_loader)

    first_epoch, done = 0, 0
    if options.resume:
        accelerator.load_state(options.folder)
        first_epoch, done = map(int, Path(options.folder, "position.txt").read_text().split())
    for epoch in range(first_epoch, options.epochs):
        loader.set_epoch(epoch)  # before skip_first_batches and before the loop; it reaches the EpochSampler
        # Where the first process makes all batches, a step takes one for each process, and all of them are counted.
        a_step = accelerator.num_processes if options.dispatch and not options.split else 1
        batches = skip_first_batches(loader, done * a_step) if done else loader
        for number, (images, targets) in enumerate(batches, start=done):
            loss = mixed_cross_entropy(model(images), targets)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            crc = accelerator.gather(torch.tensor([checksum([images, targets])], dtype=torch.int64))
            if accelerator.is_main_process:
                print(f"epoch {epoch}, batch {number}: shown {' '.join(f'{int(c):08x}' for c in crc)}")
            if options.stop == [epoch, number + 1]:
                accelerator.save_state(options.folder)
                if accelerator.is_main_process:
                    Path(options.folder, "position.txt").write_text(f"{epoch} {number + 1}")
                accelerator.end_training()
                return
        done = 0
        model.eval()
        right, seen = 0, 0
        with torch.inference_mode():
            for images, targets in test_loader:
                hits = model(images).argmax(1) == targets.argmax(1)
                hits = accelerator.gather_for_metrics(hits)
                right, seen = right + int(hits.sum()), seen + len(hits)
        model.train()
        weights = checksum(list(model.parameters()))
        if accelerator.is_main_process:
            print(f"epoch {epoch}: weights {weights:08x}, test {right / seen:.3f} of {seen}")
    accelerator.end_training()


def main() -> None:
    """Start the processes, as `accelerate launch` would."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dispatch", action="store_true", help="the first process makes all batches")
    parser.add_argument("--split", action="store_true", help="a batch is cut up among the processes")
    parser.add_argument("--folder", default="accelerate_digits")
    parser.add_argument("--stop", type=int, nargs=2, metavar=("EPOCH", "BATCHES"), help="save there and stop")
    parser.add_argument("--resume", action="store_true", help="from what --stop has saved")
    options = parser.parse_args()
    if options.processes == 1:
        train(options)
    else:
        debug_launcher(train, (options,), num_processes=options.processes)


if __name__ == "__main__":
    main()
