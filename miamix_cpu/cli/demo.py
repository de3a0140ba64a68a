"""The `demo` command: train on scikit-learn's digits, without and with MiAMix."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from miamix_cpu.cli.gallery import draw_gallery, rows_of
from miamix_cpu.collate import MiAMixCollator
from miamix_cpu.views.two_views import TwoViews
from miamix_cpu.warm import warmup

_SIDE = 16
_BATCH = 64
_TRAINING = 500  # of 1,797 digits: few enough to overfit


def run_demo(*, epochs: int, seed: int, out: Path) -> None:
    """Train twice, print throughput and accuracies, and write a gallery to `out`."""
    warmup()
    training, test = digits(seed)
    transform = augmentation()
    mixing = MiAMixCollator(10, transform=transform, seed=seed)
    plain = mixing.plain(transform)
    results = {}
    for name, collate in (("plain", plain), ("MiAMix", mixing)):
        # spawn: a fork would inherit the state of torch's thread pool.
        loader: DataLoader[Any] = DataLoader(
            training,  # type: ignore[arg-type]
            _BATCH, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True, collate_fn=collate,
            generator=torch.Generator().manual_seed(seed), multiprocessing_context="spawn",
        )  # fmt: skip
        images_per_second = throughput(loader, collate)
        accuracy = train(loader, collate, test, epochs, seed, name)
        results[name] = images_per_second, accuracy
    print(f"{'':8}{'images/s from the loader':>26}{'test accuracy':>16}")
    for name, (images_per_second, accuracy) in results.items():
        print(f"{name:8}{images_per_second:>26,.0f}{accuracy:>15.1%}")

    dataset = TwoViews(training, transform, seed=seed)
    samples = [dataset[i] for i in range(_BATCH)]
    picture = MiAMixCollator(10, seed=seed, dtype="uint8", return_masks=True, return_batch=True)
    rows = rows_of(samples, picture(samples), [f"a {label}" for _, label in samples], 8)
    draw_gallery(rows, out, f"MiAMix on digits, seed {seed}")
    print(f"wrote {out}")


def digits(seed: int) -> tuple[list[tuple[np.ndarray, int]], list[tuple[np.ndarray, int]]]:
    """Return scikit-learn's digits as (uint8 (16, 16), label): 500 for training, the rest for testing."""
    import cv2
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    large = [cv2.resize(image.reshape(8, 8).astype(np.float32), (_SIDE, _SIDE)) for image in images]
    samples = [((image * (255 / 16)).round().astype(np.uint8), int(label))
               for image, label in zip(large, labels, strict=True)]  # fmt: skip
    order = np.random.default_rng(seed).permutation(len(samples))
    return [samples[i] for i in order[:_TRAINING]], [samples[i] for i in order[_TRAINING:]]


def augmentation() -> Any:
    """Return a transform with small shifts, rotations and changes of scale."""
    import albumentations as A

    return A.Compose([A.Affine(translate_percent=(-0.1, 0.1), rotate=(-10, 10), scale=(0.9, 1.1), p=1.0)])


def throughput(loader: DataLoader[Any], collate: MiAMixCollator) -> float:
    """Return images per second from the loader alone, over five epochs, after its workers have started."""
    count, start = 0, 0.0
    for epoch in range(6):
        if epoch == 1:
            start = time.perf_counter()
        collate.set_epoch(1_000_000 + epoch)
        for images, _ in loader:
            count += len(images) if epoch else 0
    return count / (time.perf_counter() - start)


def train(
    loader: DataLoader[Any], collate: MiAMixCollator, test: list[Any], epochs: int, seed: int, name: str
) -> float:
    """Train a small CNN and return its test accuracy."""
    from tqdm import tqdm

    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * len(loader))
    loss_of = nn.CrossEntropyLoss()
    with tqdm(total=epochs * len(loader), desc=f"train {name}", unit="batch") as bar:
        for epoch in range(epochs):
            collate.set_epoch(epoch)
            for images, targets in loader:
                loss = loss_of(model(images), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
                bar.set_postfix(epoch=epoch + 1, loss=f"{loss.item():.3f}")
    model.eval()
    images, targets = collate.plain()(test)
    with torch.inference_mode():
        return float((model(images).argmax(1) == targets.argmax(1)).float().mean())


def network() -> nn.Module:
    """Return a network of three convolutions with batch normalisation."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, 16), nn.MaxPool2d(2), *block(16, 32), nn.MaxPool2d(2), *block(32, 64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
