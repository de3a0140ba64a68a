"""Depth and a label at once: which digit stands out from a wall, and how far away is each pixel?

python examples/depth.py --epochs 8
"""

import argparse
from typing import Any

import albumentations as A
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator, mixed_accuracy, mixed_cross_entropy

DEPTH = {"depth": "mask"}  # what Albumentations calls a mask is cropped as the image is, but keeps its values
TRANSFORM = A.Compose([A.RandomCrop(8, 8), A.GaussNoise((0.01, 0.04))], additional_targets=DEPTH)


def reliefs(rows: slice, seed: int) -> list[dict[str, Any]]:
    """Digits in relief: dicts of an image (10, 10, 1), its depth in metres (10, 10), and the digit.

    A digit rises from a wall 1 to 3 m away by up to 0.5 m. What is farther away is darker.
    """
    rng, digits = np.random.default_rng(seed), load_digits()
    made = []
    for digit, label in zip(digits.images[rows], digits.target[rows], strict=True):
        ink = np.pad(digit / 16, 1)
        depth = (rng.uniform(1, 3) - 0.5 * ink).astype(np.float32)
        grey = (80 + 100 * ink) / depth + rng.normal(0, 4, ink.shape)
        made.append({"image": grey.clip(0, 255).astype(np.uint8)[..., None], "depth": depth, "label": int(label)})
    return made


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)

    collate = MiAMixCollator(10, transform=TRANSFORM, seed=0, also={"depth": "blend"})
    loader = DataLoader(reliefs(slice(1200), 0), 32, shuffle=True, num_workers=options.workers, collate_fn=collate)
    test = collate.plain(A.Compose([A.CenterCrop(8, 8)], additional_targets=DEPTH))(reliefs(slice(1200, None), 1))

    trunk = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
    )  # fmt: skip
    depth_of, class_of = nn.Conv2d(32, 1, 1), nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 4 * 4, 10))
    model = nn.ModuleList((trunk, depth_of, class_of))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    print(f"the mean is wrong by {float((test['depth'] - test['depth'].mean()).abs().mean()):.3f} m")
    for epoch in range(options.epochs):
        model.train()
        for batch in loader:
            features = trunk(batch["image"])
            loss = mixed_cross_entropy(class_of(features), batch["label"])
            loss = loss + F.l1_loss(depth_of(features)[:, 0], batch["depth"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            features = trunk(test["image"])
            wrong = (depth_of(features)[:, 0] - test["depth"]).abs().mean()
            right = mixed_accuracy(class_of(features), test["label"])
        print(f"epoch {epoch}: depth is wrong by {wrong:.3f} m, test {right:.2f}")


if __name__ == "__main__":
    main()
