"""MONAI on generated slices: Rand* transforms as our views, and an extra entry whose affines are all kept.

python examples/monai_slices.py --epochs 4
"""

import argparse
import zlib
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor, list_data_collate
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    RandAffine,
    RandFlip,
    RandGaussianNoise,
    RandSpatialCrop,
    ScaleIntensityRanged,
)  # fmt: skip
from torch import nn
from torch.utils.data import RandomSampler

from miamix_cpu import MiAMixCollator, mixed_accuracy, mixed_cross_entropy


def slices(n: int, seed: int) -> list[dict[str, Any]]:
    """CT-like slices (H, W) in Hounsfield units with a bright disc or ring: class 0 or 1."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:28, :28] - 13.5
    made = []
    for number in range(n):
        label, (y, x) = number % 2, rng.uniform(-4, 4, 2)
        far = np.hypot(rows - y, columns - x)
        inside = (far < rng.uniform(6, 9)) & (far >= 3 * label)
        values = rng.normal(-600, 80, (28, 28)) + 700 * inside
        affine = np.diag([rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.0), 1.0, 1.0])
        image = torch.from_numpy(values.astype(np.float32))
        # The mixed image of two slices has no affine of its own; what is to be kept goes beside it.
        scout = MetaTensor(image[None, ::4, ::4].clone(), affine=torch.from_numpy(affine))
        made.append({"image": image, "label": label, "scout": scout, "name": f"slice{number:03}"})
    return made


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)

    # What is not random goes into the dataset, and is cached; what is random, into the collator.
    fixed = Compose([
        EnsureChannelFirstd("image", channel_dim="no_channel"),
        ScaleIntensityRanged("image", -1000, 400, 0, 1, clip=True),
    ])  # fmt: skip
    random = Compose([
        RandAffine(prob=0.5, rotate_range=0.3, padding_mode="border"),
        RandFlip(0.5, spatial_axis=1),
        RandSpatialCrop((24, 24), random_size=False),
        RandGaussianNoise(0.5, std=0.05),
    ])  # fmt: skip
    collate = MiAMixCollator(2, transform=random, seed=0, collate_extras=list_data_collate)
    training = CacheDataset(slices(512, 0), fixed, progress=False)
    loader = DataLoader(
        training, batch_size=16, sampler=RandomSampler(training, generator=torch.Generator().manual_seed(0)),
        num_workers=options.workers, persistent_workers=options.workers > 0, collate_fn=collate,
    )  # fmt: skip
    crop = RandSpatialCrop((24, 24), random_center=False, random_size=False)
    test = CacheDataset(slices(100, 1), fixed, progress=False)
    test_loader = DataLoader(test, batch_size=50, collate_fn=collate.plain(crop))

    model = nn.Sequential(
        nn.Conv2d(1, 16, 5, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 2),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(options.epochs):
        collate.set_epoch(epoch)  # before iter(loader)
        shown = 0
        model.train()
        for batch in loader:
            loss = mixed_cross_entropy(model(batch["image"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for key in ("image", "label"):
                shown = zlib.crc32(batch[key].numpy().tobytes(), shown)
        model.eval()
        with torch.inference_mode():
            right = [float(mixed_accuracy(model(part["image"]), part["label"])) for part in test_loader]
        affines = tuple(batch["scout"].affine.shape)
        print(f"epoch {epoch}: shown {shown:08x}, test {np.mean(right):.2f}, affines {affines}")


if __name__ == "__main__":
    main()
