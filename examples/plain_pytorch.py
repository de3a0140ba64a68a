"""Plain PyTorch on scikit-learn's digits: mixed training, plain validation, bytes normalised on the device.

python examples/plain_pytorch.py --epochs 20
"""

import argparse
import math

import albumentations as A
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from miamix_cpu import MiAMixCollator, MixSchedule, mixed_accuracy, mixed_cross_entropy, normalize_on_device

MEAN, STD = (0.31,), (0.37,)


def network() -> nn.Module:
    """A small convolutional network for 8 x 8 pictures."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(1, 32), *block(32, 64), nn.MaxPool2d(2), *block(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(128, 10))


def main() -> float:
    """Train; return the last test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)[..., None]
    training, test, training_labels, test_labels = train_test_split(
        images, digits.target, test_size=0.3, random_state=0, stratify=digits.target
    )

    collate = MiAMixCollator(
        10,
        transform=A.Compose([A.PadIfNeeded(10, 10), A.RandomCrop(8, 8)]),
        seed=0,
        dtype="uint8",  # a quarter of the bytes; normalised on the device
        memory_format="channels_last",
        schedule=MixSchedule(off=options.epochs - 2),  # the last epochs see real pictures
    )
    workers = {"num_workers": options.workers, "persistent_workers": options.workers > 0}
    train_loader = DataLoader(
        list(zip(training, training_labels, strict=True)),
        64,
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
        **workers,
    )
    test_loader = DataLoader(list(zip(test, test_labels, strict=True)), 256, collate_fn=collate.plain())

    device = torch.device(options.device)
    model = network().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / options.epochs))
    )
    accuracy = 0.0
    for epoch in tqdm(range(options.epochs), unit="epoch"):
        collate.set_epoch(epoch)  # before iter(loader)
        model.train()
        mixed = []
        for pictures, targets in train_loader:
            pictures, targets = pictures.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                logits = model(normalize_on_device(pictures, MEAN, STD))
                loss = mixed_cross_entropy(logits, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            mixed.append(mixed_accuracy(logits.detach(), targets).item())
        schedule.step()

        model.eval()
        with torch.inference_mode():
            right = [
                mixed_accuracy(model(normalize_on_device(pictures.to(device), MEAN, STD)), targets.to(device)).item()
                * len(pictures)
                for pictures, targets in test_loader
            ]
        accuracy = sum(right) / len(test)
        tqdm.write(f"epoch {epoch}: training {np.mean(mixed):.3f} (mixed), test {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
