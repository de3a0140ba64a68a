"""Several partners: each of two layers shows another digit, and the label has three parts.

python examples/several_partners.py --epochs 10
"""

import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator, MiAMixConfig, mixed_accuracy, mixed_cross_entropy


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)

    digits = load_digits()
    samples = list(zip((digits.images * 255 / 16).round().astype(np.uint8), digits.target, strict=True))
    config = MiAMixConfig(partners="layer", k_min=2, p_self=0.0)
    collate = MiAMixCollator(10, config, seed=0, targets="pair", return_batch=True)
    loader = DataLoader(samples[:1200], 32, shuffle=True, num_workers=options.workers, collate_fn=collate)
    test = collate.plain()(samples[1200:])

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.BatchNorm2d(32),
        nn.ReLU(), nn.Flatten(), nn.Linear(32 * 3 * 3, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(options.epochs):
        model.train()
        for batch in loader:
            labels, weights = batch.targets  # (N, 3) each: of the image itself, and of the partners of its layers
            loss = mixed_cross_entropy(model(batch.images), (labels, weights))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            right = mixed_accuracy(model(test.images), test.targets)
        shares = ", ".join(f"{share:.2f}" for share in weights.mean(0))
        print(f"epoch {epoch}: mean weights {shares}, test {right:.3f}")
    print(batch.describe(0))


if __name__ == "__main__":
    main()
