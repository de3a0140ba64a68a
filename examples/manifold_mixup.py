"""Manifold Mixup on scikit-learn's digits: workers draw how a batch is mixed, a hidden layer of the network is mixed.

python examples/manifold_mixup.py --epochs 20
"""

import argparse
from collections import Counter

import albumentations as A
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from miamix_cpu import ManifoldMixup, MiAMixCollator, MiAMixConfig, mixed_accuracy, mixed_cross_entropy

MEAN, STD = (0.31,), (0.37,)


class Network(nn.Module):
    """A small convolutional network for 8 x 8 pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = self.block(1, 32)
        self.block2 = nn.Sequential(self.block(32, 64), nn.MaxPool2d(2))
        self.block3 = nn.Sequential(self.block(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(128, 10)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        """A convolution, its normalisation, and a rectifier."""
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 1, 8, 8) to (N, 10)."""
        return self.head(self.block3(self.block2(self.block1(images))))


def main() -> float:
    """Train; return the last test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--method", default="mixup", help="its masks mix the features: cutmix, fmix, ... (default: mixup)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)[..., None]
    training, test, training_labels, test_labels = train_test_split(
        images, digits.target, test_size=0.3, random_state=0, stratify=digits.target
    )

    # For mixup alone: MiAMixConfig.recipe("manifold-mixup")
    config = MiAMixConfig.plain(options.method, alpha=2.0, mixes="features")
    transform = A.Compose([A.PadIfNeeded(10, 10), A.RandomCrop(8, 8)])
    collate = MiAMixCollator(10, config, transform=transform, seed=0, mean=MEAN, std=STD, return_batch=True)
    train_loader = DataLoader(
        list(zip(training, training_labels, strict=True)), 64, shuffle=True, drop_last=True, collate_fn=collate,
        num_workers=options.workers, persistent_workers=options.workers > 0,
    )  # fmt: skip
    test_loader = DataLoader(list(zip(test, test_labels, strict=True)), 256, collate_fn=collate.plain())

    device = torch.device(options.device)
    model = Network().to(device)
    manifold = ManifoldMixup(model, ["input", "block1", "block2"])  # and then torch.compile, DistributedDataParallel
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    accuracy, chosen = 0.0, Counter()
    for epoch in tqdm(range(options.epochs), unit="epoch"):
        collate.set_epoch(epoch)  # before iter(loader)
        model.train()
        mixed = []
        for batch in train_loader:
            batch = batch.to(device, non_blocking=True)
            with manifold(batch) as layer:
                logits = model(batch.images)
            loss = mixed_cross_entropy(logits, batch.targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            mixed.append(mixed_accuracy(logits.detach(), batch.targets).item())
            chosen[layer] += 1
        schedule.step()

        model.eval()
        with torch.inference_mode():
            right = [
                mixed_accuracy(model(batch.images.to(device)), batch.targets.to(device)).item() * len(batch)
                for batch in test_loader
            ]
        accuracy = sum(right) / len(test)
        tqdm.write(f"epoch {epoch}: training {np.mean(mixed):.3f} (mixed), test {accuracy:.4f}")
    tqdm.write("batches mixed at " + ", ".join(f"{layer}: {chosen[layer]}" for layer in manifold.layers))
    return accuracy


if __name__ == "__main__":
    main()
