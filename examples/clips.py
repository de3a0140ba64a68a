"""Clips: in which direction does a digit move? One mask mixes all frames of a clip.

python examples/clips.py --epochs 4
"""

import argparse

import albumentations as A
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator, mixed_accuracy, mixed_cross_entropy

STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # a class each: up, down, left, right
TRANSFORM = A.Compose([A.RandomCrop(20, 20), A.RandomBrightnessContrast(0.2, 0.2, p=1)])  # alike in all frames


def moving_digits(rows: slice, seed: int) -> list[tuple[np.ndarray, int]]:
    """Clips (T, H, W, C) of 6 frames, uint8 (6, 24, 24, 1), and the direction in which the digit moves."""
    rng = np.random.default_rng(seed)
    clips = []
    for digit in (load_digits().images[rows] * 255 / 16).round().astype(np.uint8):
        clip, label, start = np.zeros((6, 24, 24, 1), np.uint8), int(rng.integers(4)), rng.integers(5, 12, 2)
        for t, frame in enumerate(clip):
            y, x = start + (t - 2) * np.array(STEPS[label])
            frame[y : y + 8, x : x + 8, 0] = digit
        clips.append((clip, label))
    return clips


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)

    collate = MiAMixCollator(len(STEPS), transform=TRANSFORM, seed=0)
    loader = DataLoader(
        moving_digits(slice(1200), 0), 32, shuffle=True, num_workers=options.workers, collate_fn=collate
    )
    clips, labels = collate.plain(A.CenterCrop(20, 20))(moving_digits(slice(1200, None), 1))

    model = nn.Sequential(  # clips are (N, C, T, H, W), as Conv3d takes them
        nn.Conv3d(1, 8, 3, (1, 2, 2)), nn.BatchNorm3d(8), nn.ReLU(),
        nn.Conv3d(8, 16, 3, (1, 2, 2)), nn.BatchNorm3d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 2 * 4 * 4, 4),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(options.epochs):
        model.train()
        for mixed, targets in loader:
            loss = mixed_cross_entropy(model(mixed), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            right = mixed_accuracy(model(clips), labels)
        print(f"epoch {epoch}: clips {tuple(mixed.shape[1:])}, test {right:.2f}")


if __name__ == "__main__":
    main()
