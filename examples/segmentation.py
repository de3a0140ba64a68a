"""Segmentation of a stained tissue: maps mixed by the very masks that mix the images.

python examples/segmentation.py --epochs 6 --picture mixed.png
"""

import argparse
import random

import albumentations as A
import numpy as np
import torch
from skimage import color, data, filters, io
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler

from miamix_cpu import EpochIndex, EpochSampler, MiAMixCollator

PALETTE = np.array([[255, 255, 255], [60, 60, 200], [150, 90, 30]], np.uint8)  # background, nuclei, membranes


class MappedViews:
    """Each image's two views, and each view's map: `((first, second), 0, first_map, second_map)`.

    The views are augmented apart from each other, so each takes its own map along.
    """

    def __init__(self, images: list[np.ndarray], maps: list[np.ndarray], seed: int = 0) -> None:
        self.images, self.maps, self.seed = images, maps, seed
        self.transform = A.Compose([A.RandomCrop(64, 64), A.HorizontalFlip(), A.VerticalFlip()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: EpochIndex) -> tuple:
        index = key.index
        rng = np.random.default_rng([self.seed, key.epoch, index, key.draw])
        self.transform.set_random_state(rng, random.Random(int(rng.integers(1 << 63))))
        first, second = (self.transform(image=self.images[index], mask=self.maps[index]) for _ in range(2))
        return (first["image"], second["image"]), 0, first["mask"], second["mask"]


class SegmentationCollator:
    """Mixes maps as it mixes images."""

    def __init__(self, classes: int, seed: int = 0) -> None:
        self.classes = classes
        # There is no label to mix: two classes, the least there are, and all samples are of the first.
        self.collate = MiAMixCollator(2, seed=seed, return_masks=True, return_batch=True)

    def __call__(self, samples: list[tuple]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, 3, H, W) and, for each of their pixels, the classes' probabilities, (N, classes, H, W)."""
        batch = self.collate(samples)
        first, second = (F.one_hot(maps.long(), self.classes) for maps in batch.extras.values())
        mask = batch.masks[..., None]
        return batch.images, (mask * first + (1 - mask) * second[batch.partner]).permute(0, 3, 1, 2)


def tissue() -> tuple[np.ndarray, np.ndarray]:
    """A photograph (512, 512, 3), and its map (512, 512) by the stains' thresholds."""
    image = data.immunohistochemistry()
    blue, _, brown = np.moveaxis(color.rgb2hed(image), 2, 0)
    membranes = brown > filters.threshold_otsu(brown)
    nuclei = ~membranes & (blue > filters.threshold_otsu(blue[~membranes]))
    return image, np.where(membranes, 2, nuclei).astype(np.uint8)


def main() -> None:
    """Train on the left of the photograph, test on the right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--picture", help="where to save mixed images above their maps")
    options = parser.parse_args()
    torch.manual_seed(0)

    image, classes = tissue()
    tiles = [np.s_[y : y + 96, x : x + 96] for y in range(0, 417, 32) for x in range(0, 289, 32)]
    dataset = MappedViews([image[tile] for tile in tiles], [classes[tile] for tile in tiles])
    loader = DataLoader(
        dataset, 16, sampler=EpochSampler(RandomSampler(dataset)), drop_last=True,
        collate_fn=SegmentationCollator(len(PALETTE)), num_workers=options.workers,
    )  # fmt: skip
    test_image = torch.from_numpy(image[:, 384:].copy()).permute(2, 0, 1)[None] / 255
    test_map = torch.from_numpy(classes[:, 384:].astype(np.int64))

    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, len(PALETTE), 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    print(f"majority {test_map.flatten().bincount().max() / test_map.numel():.3f}")
    for epoch in range(options.epochs):
        model.train()
        for images, targets in loader:
            loss = F.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            right = (model(test_image)[0].argmax(0) == test_map).float().mean()
        print(f"epoch {epoch}: loss {loss.item():.3f}, test {right:.3f}")
    if options.picture:
        shown = torch.einsum("nkhw,kc->nhwc", targets, torch.from_numpy(PALETTE / 255).float())
        rows = [np.hstack(list(part[:6].numpy())) for part in (images.permute(0, 2, 3, 1), shown)]
        io.imsave(options.picture, (np.vstack(rows) * 255).round().astype(np.uint8))


if __name__ == "__main__":
    main()
