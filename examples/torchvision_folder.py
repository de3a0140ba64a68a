"""torchvision: a folder of pictures, its v2 transforms as our views, normalised once, and a step on the device.

python examples/torchvision_folder.py --epochs 6
"""

import argparse
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from miamix_cpu import MiAMixCollator, mixed_accuracy, mixed_cross_entropy, normalize_on_device

MEAN, STD = (0.31, 0.31, 0.31), (0.37, 0.37, 0.37)


def write_pictures(folder: Path) -> None:
    """scikit-learn's digits as train/3/0001.png and so on."""
    digits = load_digits()
    for number, (picture, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = folder / ("test" if number < 300 else "train") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture * 255 / 16).round().astype(np.uint8)).save(place / f"{number:04}.png")


def train(folder: Path, options: argparse.Namespace) -> None:
    """Train on folder/train, test on folder/test."""
    # Neither ToDtype nor Normalize: views stay bytes, and the device normalises what was mixed.
    augment = v2.Compose([v2.RandomCrop(8, padding=1), v2.ColorJitter(0.2, 0.2)])
    collate = MiAMixCollator(10, transform=augment, seed=0, dtype="uint8")
    training = ImageFolder(folder / "train")  # no transform: the collator calls it, once a view
    loader = DataLoader(
        training, 64, sampler=RandomSampler(training, generator=torch.Generator().manual_seed(0)), drop_last=True,
        num_workers=options.workers, persistent_workers=options.workers > 0, collate_fn=collate,
    )  # fmt: skip
    test_loader = DataLoader(ImageFolder(folder / "test"), 100, collate_fn=collate.plain(v2.CenterCrop(8)))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(options.epochs):
        collate.set_epoch(epoch)  # before iter(loader)
        shown = 0
        for images, targets in loader:
            loss = mixed_cross_entropy(model(normalize_on_device(images, MEAN, STD)), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for part in (images, targets):
                shown = zlib.crc32(part.numpy().tobytes(), shown)
        with torch.inference_mode():
            right = [
                float(mixed_accuracy(model(normalize_on_device(images, MEAN, STD)), targets))
                for images, targets in test_loader
            ]
        print(f"epoch {epoch}: shown {shown:08x}, test {np.mean(right):.3f}")


def main() -> None:
    """Write the pictures, and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        train(Path(folder), options)


if __name__ == "__main__":
    main()
