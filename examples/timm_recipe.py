"""timm's training recipe on scikit-learn's digits: its loader, its augmentations, its losses, and our mixing.

python examples/timm_recipe.py --loss bce --no-prefetcher
"""

import argparse

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from timm.data import create_loader
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy

from miamix_cpu import MiAMixCollator, MixSchedule

MEAN, STD, SIZE = (0.31,) * 3, (0.37,) * 3, (3, 32, 32)


class Pictures(torch.utils.data.Dataset):
    """What timm's ImageDataset is: PIL images, through `transform` if there is one."""

    def __init__(self, samples: list[tuple[Image.Image, int]]) -> None:
        self.samples, self.transform = samples, None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple:
        image, label = self.samples[index]
        return image if self.transform is None else self.transform(image), label


def main() -> None:
    """Train; print the loss, the share of mixed samples and the test accuracy of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--off", type=int, help="the first epoch without mixing; by default the last")
    parser.add_argument("--loss", choices=("soft", "bce"), default="soft")
    parser.add_argument("--prefetcher", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(options.device)

    digits = load_digits()
    pictures = (digits.images * 255 / 16).round().astype(np.uint8)
    samples = [(Image.fromarray(p).convert("RGB"), int(y)) for p, y in zip(pictures, digits.target, strict=True)]
    training, test = Pictures(samples[500:]), Pictures(samples[:500])

    # The prefetcher normalises on the device, and wants bytes; without it timm's transform has normalised each view.
    output = {"dtype": "uint8" if options.prefetcher else "float32"}
    schedule = MixSchedule(off=options.epochs - 1 if options.off is None else options.off)
    collate = MiAMixCollator(10, seed=0, schedule=schedule, **output)
    both = {
        "use_prefetcher": options.prefetcher, "device": device, "num_workers": options.workers, "mean": MEAN, "std": STD
    }  # fmt: skip
    augmentation = {"scale": (0.6, 1.0), "hflip": 0, "color_jitter": 0.2}
    train_loader = create_loader(training, SIZE, 64, is_training=True, collate_fn=collate, **augmentation, **both)
    # create_loader has given the dataset a transform made of all that; the collator calls it, once a view.
    collate.transform, training.transform = training.transform, None
    test_loader = create_loader(test, SIZE, 250, crop_pct=1.0, **both)

    model = timm.create_model("test_resnet", num_classes=10).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    loss_of = SoftTargetCrossEntropy() if options.loss == "soft" else BinaryCrossEntropy()
    for epoch in range(options.epochs):
        collate.set_epoch(epoch)  # instead of mixup_enabled = False, which does not reach persistent workers
        model.train()
        losses, mixed = [], []
        for images, targets in train_loader:
            images, targets = images.to(device), targets.to(device)  # as they are, from the prefetcher
            loss = loss_of(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            mixed.append((targets.amax(dim=1) < 1).float().mean().item())
        model.eval()
        with torch.inference_mode():
            right = sum((model(x.to(device)).argmax(1) == y.to(device)).sum().item() for x, y in test_loader)
        print(f"epoch {epoch}: loss {np.mean(losses):.4f}, mixed {np.mean(mixed):.3f}, test {right / len(test):.4f}")


if __name__ == "__main__":
    main()
