"""Cutout, Random Erasing, RandAugment, AutoAugment or AugMix as the views' transform, on scikit-learn's digits.

python examples/view_augmentations.py --views cutout
python examples/view_augmentations.py --views augmix --jsd

None of them looks at a second image, so each is simply the collator's `transform`: it augments both views of a sample,
which are then mixed. `--probability 0` leaves the mixing out. The last three are timm's, for PIL images; they draw from
`random` and `numpy.random`, which the collator seeds for its views and restores.
"""

import argparse
from collections.abc import Callable

import albumentations as A
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator, MixSchedule, mixed_accuracy, mixed_cross_entropy, normalize_on_device

SIDE, MEAN, STD, GREY = 32, (0.31,) * 3, (0.32,) * 3, 79  # GREY is the mean as a byte: it fills what is cut out
VIEWS = ("cutout", "random-erasing", "randaugment", "autoaugment", "augmix")


def views_of(name: str) -> Callable:
    """One of VIEWS. Crops and flips would go before it, in A.Compose or torchvision's Compose."""
    if name == "cutout":  # DeVries and Taylor, 2017: a square, its centre anywhere, clipped by the border
        hole = A.CoarseDropout((1, 1), (16, 16), (16, 16), fill=GREY, p=1)
        return A.Compose([A.Pad(8), hole, A.CenterCrop(SIDE, SIDE)])
    if name == "random-erasing":  # Zhong et al., 2017: half of the images lose a rectangle, in whose place is noise
        return A.Compose([A.Erasing(scale=(0.02, 0.4), ratio=(0.3, 3.3), fill="random", p=0.5)])
    from timm.data.auto_augment import augment_and_mix_transform, auto_augment_transform, rand_augment_transform

    options = {"translate_const": int(0.45 * SIDE), "img_mean": (GREY,) * 3}
    if name == "randaugment":  # Cubuk et al., 2019, in the form that timm's recipes use
        return rand_augment_transform("rand-m9-mstd0.5-inc1", options)
    if name == "autoaugment":  # Cubuk et al., 2018, the policy for ImageNet
        return auto_augment_transform("original", options)
    augmix = augment_and_mix_transform("augmix-m3-w3", options)  # Hendrycks et al., 2020
    # The paper leaves out what resembles the corruptions on which it tests.
    resembling = ("ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing")
    augmix.ops = [operation for operation in augmix.ops if operation.name not in resembling]
    return augmix


class ThreeViews:
    """The clean image and two of AugMix as channels of one view, so that all three would be mixed by the same mask."""

    def __init__(self, augmix: Callable) -> None:
        self.augmix = augmix

    def __call__(self, image: Image.Image) -> np.ndarray:
        """(32, 32, 9); a random crop of the image would come first, the same for all three."""
        return np.concatenate([image, self.augmix(image), self.augmix(image)], axis=2)


def jensen_shannon(*logits: torch.Tensor) -> torch.Tensor:
    """The divergence of several predictions (N, C), the mean over samples: mean_v KL(p_v || m), m = mean_v p_v."""
    logs = torch.stack(logits).log_softmax(dim=2)
    mixture = logs.logsumexp(dim=0) - np.log(len(logits))
    return (logs.exp() * (logs - mixture)).sum(dim=2).mean()


def network() -> nn.Module:
    """A small convolutional network for 32 x 32 pictures."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(3, 32), *block(32, 64), *block(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(128, 10))


def main() -> None:
    """Train; print the loss and the test accuracy of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", choices=VIEWS, default="cutout")
    parser.add_argument("--jsd", action="store_true", help="AugMix's loss; nothing is mixed then, as in its paper")
    parser.add_argument("--probability", type=float, help="of mixing a sample; 1 by default, 0 with --jsd")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.jsd and options.views != "augmix":
        parser.error("--jsd needs --views augmix")
    if options.probability is None:
        options.probability = 0.0 if options.jsd else 1.0
    torch.manual_seed(0)

    digits = load_digits()
    pictures = [Image.fromarray((picture * 255 / 16).round().astype(np.uint8)) for picture in digits.images]
    pictures = [p.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR) for p in pictures]
    samples = list(zip(pictures, digits.target.tolist(), strict=True))

    views = views_of(options.views)
    collate = MiAMixCollator(
        10,
        transform=ThreeViews(views) if options.jsd else views,
        seed=0,
        dtype="uint8",
        schedule=MixSchedule(probability=options.probability),
    )
    train_loader = DataLoader(
        samples[500:], 64, shuffle=True, drop_last=True, collate_fn=collate,
        num_workers=options.workers, persistent_workers=options.workers > 0,
    )  # fmt: skip
    test_loader = DataLoader(samples[:500], 250, collate_fn=collate.plain())

    device = torch.device(options.device)
    model = network().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    for epoch in range(options.epochs):
        collate.set_epoch(epoch)  # before iter(loader)
        model.train()
        losses = []
        for images, targets in train_loader:
            images, targets = images.to(device), targets.to(device)
            parts = images.chunk(3, dim=1) if options.jsd else (images,)
            logits = model(normalize_on_device(torch.cat(parts), MEAN, STD)).chunk(len(parts))
            loss = mixed_cross_entropy(logits[0], targets)
            if options.jsd:
                loss = loss + 12 * jensen_shannon(*logits)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
        model.eval()
        with torch.inference_mode():
            right = sum(
                mixed_accuracy(model(normalize_on_device(x.to(device), MEAN, STD)), y.to(device)).item() * len(x)
                for x, y in test_loader
            )
        print(f"epoch {epoch}: loss {np.mean(losses):.4f}, test {right / 500:.4f}")


if __name__ == "__main__":
    main()
