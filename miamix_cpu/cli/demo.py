"""The `demo` command: train on digits, plainly and with mixing, and test where mixing is meant to help."""

from __future__ import annotations

import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

from miamix_cpu.cli.demo_chart import draw_chart
from miamix_cpu.cli.gallery import draw_gallery, rows_of
from miamix_cpu.collate import MiAMixCollator
from miamix_cpu.config import MiAMixConfig
from miamix_cpu.views.two_views import TwoViews
from miamix_cpu.warm import warmup

_SIDE = 16
_BATCH = 64
_TRAINING = 500  # of 1,797 digits: few enough to overfit
_WRONG = 0.3  # share of training labels that are replaced in the second experiment
_BINS = 15  # of the calibration error

#: None stands for training without mixing.
KINDS: dict[str, MiAMixConfig | None] = {
    "plain": None, "mixup + cutmix": MiAMixConfig.plain("mixup", "cutmix"), "MiAMix": MiAMixConfig(),
}  # fmt: skip
#: What the test images go through, and what the rows of the table are called.
TESTS = ("clean", "noise", "blur", "occlusion", "low contrast")
WRONG, CALIBRATION = "wrong labels", "calibration error"


def run_demo(*, epochs: int, seeds: int, seed: int, out: Path) -> None:
    """Train each kind with `seeds` seeds, twice; print a table and what it says, and draw it beside mixed images."""
    warmup()
    results: dict[str, list[dict[str, float]]] = {kind: [{} for _ in range(seeds)] for kind in KINDS}
    for wrong, words in ((False, "correct labels"), (True, f"{_WRONG:.0%} wrong labels")):
        total = len(KINDS) * seeds * epochs * (_TRAINING // _BATCH)
        with _progress(total, f"training with {words}") as bar:
            for turn in range(seeds):
                training, test = digits(seed + turn)
                labelled = mislabelled(training, seed + turn) if wrong else training
                for kind, config in KINDS.items():
                    model = train(labelled, config, epochs, seed + turn, bar)
                    found = evaluate(model, test, seed + turn)
                    results[kind][turn].update({WRONG: found["clean"]} if wrong else found)
    training, _ = digits(seed)
    speed = throughput(training, seed)
    print(table(results, speed))
    print(sentences(results))
    draw(training, results, seed, out)


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


def mislabelled(training: list[tuple[np.ndarray, int]], seed: int) -> list[tuple[np.ndarray, int]]:
    """Return the training samples with some of their labels replaced by others."""
    rng, changed = np.random.default_rng(seed), list(training)
    for i in rng.permutation(len(changed))[: round(_WRONG * len(changed))].tolist():
        image, label = changed[i]
        changed[i] = image, (label + int(rng.integers(1, 10))) % 10
    return changed


def augmentation() -> Any:
    """Return a transform that shifts digits by up to two pixels."""
    import albumentations as A

    return A.Compose([A.PadIfNeeded(_SIDE + 4, _SIDE + 4), A.RandomCrop(_SIDE, _SIDE)])


def train(
    training: list[tuple[np.ndarray, int]], config: MiAMixConfig | None, epochs: int, seed: int, bar: Any
) -> nn.Module:
    """Train a small CNN, and return it."""
    transform = augmentation()
    collate = MiAMixCollator(10, config, transform=transform, seed=seed)
    if config is None:
        collate = collate.plain(transform)
    loader: DataLoader[Any] = DataLoader(
        training,  # type: ignore[arg-type]
        _BATCH, shuffle=True, drop_last=True, collate_fn=collate, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    torch.manual_seed(seed)
    model, loss_of = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * len(loader))
    for epoch in range(epochs):
        collate.set_epoch(epoch)
        for images, targets in loader:
            loss = loss_of(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
    return model.eval()


def evaluate(model: nn.Module, test: list[tuple[np.ndarray, int]], seed: int) -> dict[str, float]:
    """Return the accuracy on clean and on corrupted test images, the calibration error, and the mean confidence."""
    images = torch.from_numpy(np.stack([image for image, _ in test]))[:, None].float() / 255
    labels = torch.tensor([label for _, label in test])
    found = {}
    for name, changed in corrupted(images, seed).items():
        with torch.inference_mode():
            confidence, predicted = model(changed).softmax(1).max(1)
        right = (predicted == labels).float()
        found[name] = float(right.mean())
        if name == "clean":
            bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
            gaps = torch.zeros(_BINS).index_add(0, bins, confidence - right)
            found[CALIBRATION] = float(gaps.abs().sum() / len(labels))
            found["confidence"] = float(confidence.mean())
    return found


def corrupted(images: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """Return the images as they are, and in four ways that training never shows; floats (N, 1, 16, 16) in [0, 1]."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=random)
    hidden = images.clone()
    for i, (y, x) in enumerate(torch.randint(0, _SIDE - 5, (len(images), 2), generator=random).tolist()):
        hidden[i, :, y : y + 6, x : x + 6] = 0
    padded = nn.functional.pad(images, (2, 2, 2, 2), mode="replicate")
    return {
        "clean": images,
        "noise": (images + 0.3 * noise).clamp(0, 1),
        "blur": nn.functional.avg_pool2d(padded, 5, stride=1),
        "occlusion": hidden,
        "low contrast": 0.3 * images,
    }


class Augmented:
    """A dataset that augments in `__getitem__`, as plain training has it."""

    def __init__(self, samples: list[tuple[np.ndarray, int]]) -> None:
        self.samples, self.transform = samples, augmentation()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        image, label = self.samples[i]
        view = self.transform(image=image)["image"]
        return torch.from_numpy(view)[None].float() / 255, label


def throughput(training: list[tuple[np.ndarray, int]], seed: int) -> dict[str, float]:
    """Return images per second from loaders without workers, medians of rounds in turn.

    Plain is `Augmented` with torch's `default_collate`.
    """
    loaders: dict[str, tuple[Any, Any]] = {}
    for kind, config in KINDS.items():
        collate: Any = default_collate
        if config is not None:
            collate = MiAMixCollator(10, config, transform=augmentation(), seed=seed)
        dataset: Any = Augmented(training) if config is None else training
        loaders[kind] = DataLoader(dataset, _BATCH, drop_last=True, collate_fn=collate), collate
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(9):
        for kind, (loader, collate) in loaders.items():
            if isinstance(collate, MiAMixCollator):
                collate.set_epoch(turn)
            start = time.perf_counter()
            count = sum(len(images) for images, _ in loader)
            rates[kind].append(count / (time.perf_counter() - start))
    return {kind: statistics.median(found[1:]) for kind, found in rates.items()}


def table(results: dict[str, list[dict[str, float]]], speed: dict[str, float]) -> str:
    """Return the table: means over seeds, and standard errors."""
    seeds = len(next(iter(results.values())))
    lines = [f"{'accuracy in % on the test digits':34}" + "".join(f"{kind:>16}" for kind in KINDS)]
    for name in (*TESTS, WRONG, CALIBRATION):
        words = {WRONG: f"clean, {_WRONG:.0%} of labels wrong", CALIBRATION: "calibration error, clean (low: good)"}
        cells = []
        for kind in KINDS:
            mean, error = summary([found[name] for found in results[kind]])
            cells.append(f"{100 * mean:.1f}" + (f" ± {100 * error:.1f}" if seeds > 1 else ""))
        lines.append(f"{words.get(name, name):36}" + "".join(f"{cell:>16}" for cell in cells).removeprefix("  "))
    lines.append(f"{'images/s of the loader':34}" + "".join(f"{speed[kind]:>16,.0f}" for kind in KINDS))
    lines.append(f"({seeds} seeds, ± standard error; loader: no workers, plain has one view of each image, MiAMix two)")
    return "\n".join(lines)


def summary(values: list[float]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.mean(values), error


def sentences(results: dict[str, list[dict[str, float]]]) -> str:
    """Say what MiAMix gains and what it loses, beside plain training."""

    def gain(name: str, of: str = "MiAMix") -> float:
        return 100 * statistics.mean(
            mine[name] - plain[name] for mine, plain in zip(results[of], results["plain"], strict=True)
        )

    places = {"clean": "on clean digits", "noise": "with noise", "blur": "blurred", "occlusion": "partly hidden",
              "low contrast": "at low contrast", WRONG: "after training with wrong labels"}  # fmt: skip
    up = [f"{gain(name):.1f} {place}" for name, place in places.items() if gain(name) > 0]
    down = [f"{-gain(name):.1f} {place}" for name, place in places.items() if gain(name) < 0]
    parts = ([f"gains points of accuracy: {', '.join(up)}"] if up else []) + (
        [f"loses {', '.join(down)}"] if down else []
    )
    sure = 100 * statistics.mean(found["confidence"] - found["clean"] for found in results["MiAMix"])
    words = f"Beside plain training, MiAMix {'; it '.join(parts)}."
    if sure < 0:
        words += (
            f" It is under-confident: on clean digits its confidence is {-sure:.0f} points below its accuracy, so "
            "fit a temperature before you use its probabilities."
        )
    return words


def draw(
    training: list[tuple[np.ndarray, int]], results: dict[str, list[dict[str, float]]], seed: int, out: Path
) -> None:
    """Write the gallery to `out`, and the chart of the table beside it."""
    dataset = TwoViews(training, augmentation(), seed=seed)
    samples = [dataset[i] for i in range(_BATCH)]
    picture = MiAMixCollator(10, seed=seed, dtype="uint8", return_masks=True, return_batch=True)
    rows = rows_of(samples, picture(samples), [f"a {label}" for _, label in samples], 4)
    draw_gallery(rows, out, f"MiAMix on digits, seed {seed}")
    chart = out.with_name(f"{out.stem}_chart.png")
    bars = {kind: [summary([found[name] for found in results[kind]]) for name in (*TESTS, WRONG)] for kind in KINDS}
    draw_chart(bars, [*TESTS, f"{_WRONG:.0%} wrong labels"], chart)
    print(f"wrote {out} and {chart}")


def _progress(total: int, words: str) -> Any:
    """A progress bar in a terminal; one line elsewhere."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        print(words, file=sys.stderr)
    return tqdm(total=total, desc=words, unit="batch", disable=None)


def network() -> nn.Module:
    """Return a network of three convolutions with batch normalisation."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, 16), nn.MaxPool2d(2), *block(16, 32), nn.MaxPool2d(2), *block(32, 64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
