"""Segmentation of a stained tissue: each image's map is mixed by the mask that mixes the image.

python examples/segmentation.py --epochs 6 --picture mixed.png
"""

import argparse

import albumentations as A
import numpy as np
import torch
from skimage import color, data, filters, io
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator

PALETTE = np.array([[255, 255, 255], [60, 60, 200], [150, 90, 30]], np.uint8)  # background, nuclei, membranes
TRANSFORM = A.Compose([A.RandomCrop(64, 64), A.HorizontalFlip(), A.VerticalFlip()])


def collator() -> MiAMixCollator:
    """It takes samples (image, map of classes). Of maps it makes the classes' shares, (N, classes, H, W)."""
    return MiAMixCollator(None, transform=TRANSFORM, seed=0, also={1: ("soft", len(PALETTE))})


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
    loader = DataLoader(
        [(image[tile], classes[tile]) for tile in tiles], 16, shuffle=True, drop_last=True,
        collate_fn=collator(), num_workers=options.workers,
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
