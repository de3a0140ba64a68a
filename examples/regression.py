"""Numbers as labels: where the ink of a digit has its centre, in pixels.

python examples/regression.py --epochs 10
"""

import argparse

import albumentations as A
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator


def shifted_digits(rows: slice, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits somewhere on a canvas, uint8 (N, 16, 16), and the centres of their mass, float32 (N, 2): row, column."""
    rng = np.random.default_rng(seed)
    digits = (load_digits().images[rows] * 255 / 16).round().astype(np.uint8)
    images = np.zeros((len(digits), 16, 16), np.uint8)
    for image, digit, (y, x) in zip(images, digits, rng.integers(0, 9, (len(digits), 2)), strict=True):
        image[y : y + 8, x : x + 8] = digit
    ink = images / images.sum(axis=(1, 2), keepdims=True)
    centres = np.stack([(ink.sum(axis=2) * np.arange(16)).sum(1), (ink.sum(axis=1) * np.arange(16)).sum(1)], axis=1)
    return images, centres.astype(np.float32)


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)

    # The transform changes colours alone: a flip would move the centre, and the transform does not get it.
    noise = A.Compose([A.RandomBrightnessContrast(0.2, 0.2), A.GaussNoise((0.02, 0.08), p=1)])
    collate = MiAMixCollator(None, transform=noise, seed=0)  # targets (N, 2): lam * own + (1 - lam) * partner's
    dataset = list(zip(*shifted_digits(slice(1200), seed=0), strict=True))
    loader = DataLoader(dataset, 32, shuffle=True, num_workers=options.workers, collate_fn=collate)
    images, centres = collate.plain()(list(zip(*shifted_digits(slice(1200, None), seed=1), strict=True)))

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 2),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    print(f"the mean is wrong by {float((centres - centres.mean(0)).norm(dim=1).mean()):.2f} pixels")
    for epoch in range(options.epochs):
        model.train()
        for mixed, targets in loader:
            loss = F.mse_loss(model(mixed), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            wrong = (model(images) - centres).norm(dim=1).mean()
        print(f"epoch {epoch}: wrong by {wrong:.2f} pixels")


if __name__ == "__main__":
    main()
