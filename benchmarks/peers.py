"""Ours, its peers and the floors: one table, which feeds the check and the clock alike.

A case takes samples in the layout that is native to it and returns (images, targets). What can't be imported is named.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from benchmarks.plain import PlainMiAMix
from benchmarks.torchvision_wheel import import_torchvision
from miamix_cpu import MiAMixCollator, MiAMixConfig
from miamix_cpu.methods import METHODS

MIXUP_CUTMIX = MiAMixConfig(methods=("mixup", "cutmix"), weights=(1, 1), k_max=1, p_self=0, p_aug=0, p_smooth=0)


@dataclass(frozen=True)
class Case:
    """One row: its name, what it needs, and how it is run."""

    name: str
    layout: str  # "HWC" arrays, "CHW" arrays or "CHW" tensors
    run: Callable[[list[Any]], Any]
    mixes: bool = True


def ours(num_classes: int) -> list[Case]:
    """Our collator in the configurations that are reported."""

    def case(name: str, config: MiAMixConfig, **options: Any) -> Case:
        collate, epochs = MiAMixCollator(num_classes, config, seed=0, **options), count(1)

        def run(samples: list[Any]) -> Any:
            collate.set_epoch(next(epochs))  # another mix each time
            return collate(samples)

        return Case(f"ours, {name}", "HWC", run)

    cases = [
        case("Table 1, uint8", MiAMixConfig(), dtype="uint8"),
        case("Table 1, float32", MiAMixConfig()),
        case("Table 1, uint8, channels_last", MiAMixConfig(), dtype="uint8", memory_format="channels_last"),
        case("mixup + cutmix, uint8", MIXUP_CUTMIX, dtype="uint8"),
    ]
    for method in METHODS:
        one = MiAMixConfig(methods=(method,), weights=(1,))
        cases.append(case(f"{method} alone, uint8", one, dtype="uint8"))
    for method in ("cutmix", "fmix", "resizemix", "saliencymix"):
        cases.append(case(f"plain {method}, uint8", MiAMixConfig.plain(method), dtype="uint8"))
    return cases


def timm_cases(num_classes: int) -> list[Case]:
    """timm's own mixup.py, by its path: importing all of timm needs torchvision's operators."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("No module named 'timm'")
    path = Path(spec.submodule_search_locations[0]) / "data" / "mixup.py"
    own = importlib.util.spec_from_file_location("timm_mixup", path)
    assert own is not None
    assert own.loader is not None
    module = importlib.util.module_from_spec(own)
    own.loader.exec_module(module)
    options = {"mixup_alpha": 1.0, "cutmix_alpha": 1.0, "label_smoothing": 0.0, "num_classes": num_classes}
    cases = [
        Case(f"timm FastCollateMixup {mode}", "CHW", module.FastCollateMixup(mode=mode, **options))
        for mode in ("elem", "pair", "batch")
    ]
    for mode in ("elem", "batch"):
        mixup = module.Mixup(mode=mode, **options)

        def run(samples: list[Any], mixup: Any = mixup) -> Any:
            images, labels = default_collate(samples)
            return mixup(images.float().div_(255), labels)

        cases.append(Case(f"timm Mixup {mode} after default_collate", "tensor", run))
    return cases


def torchvision_cases(num_classes: int) -> list[Case]:
    """torchvision's v2 MixUp and CutMix, which mix a collated batch with its neighbour."""
    import_torchvision()
    from torchvision.transforms import v2

    choice = v2.RandomChoice([v2.MixUp(num_classes=num_classes), v2.CutMix(num_classes=num_classes)])

    def run(samples: list[Any]) -> Any:
        images, labels = default_collate(samples)
        return choice(images.float().div_(255), labels)

    return [Case("torchvision v2 after default_collate", "tensor", run)]


def kornia_cases(num_classes: int) -> list[Case]:
    """kornia's RandomMixUpV2 and RandomCutMixV2."""
    from kornia.augmentation import RandomCutMixV2, RandomMixUpV2

    def case(name: str, mix: Any) -> Case:
        def run(samples: list[Any]) -> Any:
            images, labels = default_collate(samples)
            return mix(images.float().div_(255), labels)

        return Case(f"kornia {name} after default_collate", "tensor", run)

    keys: Any = ["input", "class"]
    return [
        case("RandomMixUpV2", RandomMixUpV2(p=1.0, data_keys=keys)),
        case("RandomCutMixV2", RandomCutMixV2(p=1.0, data_keys=keys)),
    ]


def mixup_cases(num_classes: int) -> list[Case]:
    """The package `mixup`: methods on tensors, one lam and one box a batch (SaliencyMix: one box a sample)."""
    import mixup

    def case(name: str) -> Case:
        mix = getattr(mixup, name)()

        def run(samples: list[Any]) -> Any:
            images, labels = default_collate(samples)
            targets = torch.nn.functional.one_hot(labels, num_classes).float()
            if name == "SaliencyMix":  # whose weights are (N, 1, 1, 1): targets (N, C) would become (N, 1, N, C)
                targets = targets[:, None, None]
            images, targets = mix(images.float().div_(255), targets)
            return images, targets.reshape(len(labels), num_classes)

        return Case(f"mixup {name} after default_collate", "tensor", run)

    return [case(name) for name in ("CutMix", "FMix", "ResizeMix", "SaliencyMix", "PuzzleMix")]


def slow_cases(num_classes: int) -> list[Case]:
    """The same algorithm without Numba."""
    return [Case("plain NumPy + SciPy + OpenCV MiAMix", "HWC", PlainMiAMix(num_classes))]


def naive_case(num_classes: int) -> Case:
    """The tests' twin, one pixel at a time; worth a look at 32 x 32 only."""
    from miamix_cpu import MiAMix
    from tests import naive

    rng = np.random.default_rng(0)

    def run(samples: list[Any]) -> Any:
        images, labels = (np.array(column) for column in zip(*samples, strict=True))
        plan = MiAMix(num_classes).plan(len(images), *images.shape[1:3], rng=rng)
        mixed, targets, _, _ = naive.mix(plan, images, images, labels, num_classes)
        return torch.from_numpy(np.rint(mixed).astype(np.uint8)).permute(0, 3, 1, 2), torch.from_numpy(targets)

    return Case("naive twin", "HWC", run)


def floors(num_classes: int) -> list[Case]:
    """What collating takes without mixing, and NumPy for the least that could be called mixing."""
    half = np.float32(0.5)

    def copy(samples: list[Any]) -> Any:
        return torch.from_numpy(np.stack([image for image, _ in samples])), None

    def blend(samples: list[Any]) -> Any:
        images = np.stack([image for image, _ in samples])
        return torch.from_numpy((half * images + half * images[::-1]).astype(np.uint8)), None

    return [
        Case("floor: default_collate, uint8", "tensor", default_collate, mixes=False),
        Case("floor: copy of the bytes", "HWC", copy, mixes=False),
        Case("NumPy blend with a constant mask", "HWC", blend, mixes=False),
    ]


def all_cases(num_classes: int) -> tuple[list[Case], list[str]]:
    """Every case that can be had, and a line for each that can't."""
    cases, skipped = ours(num_classes), []
    for peer in (timm_cases, torchvision_cases, kornia_cases, mixup_cases, slow_cases):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cases += peer(num_classes)
        except ImportError as error:
            skipped.append(f"{peer.__name__.removesuffix('_cases')}: {error}")
    return cases + floors(num_classes), skipped


def samples_for(layout: str, n: int, size: int, num_classes: int) -> list[Any]:
    """`n` samples of noise in a case's own layout."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, num_classes, n).tolist()
    if layout == "HWC":
        return [(image.copy(), label) for image, label in zip(images, labels, strict=True)]
    planar = [np.ascontiguousarray(image.transpose(2, 0, 1)) for image in images]
    if layout == "tensor":
        return [(torch.from_numpy(image), label) for image, label in zip(planar, labels, strict=True)]
    return list(zip(planar, labels, strict=True))


def check(case: Case, samples: list[Any], num_classes: int) -> None:
    """Raise unless the case mixed: shape, range, targets, and another image than went in."""
    images, targets = case.run(samples)
    n, size = len(samples), samples[0][0].shape[1]
    if images.shape[0] != n or size not in images.shape[2:]:
        raise ValueError(f"{case.name}: images of shape {tuple(images.shape)}")
    if not case.mixes:
        return
    if images.shape != (n, 3, size, size):
        raise ValueError(f"{case.name}: images of shape {tuple(images.shape)}")
    top = 255 if images.dtype == torch.uint8 else 1
    if not (images.min() >= 0 and images.max() <= top and images.float().std() > 0.05 * top):
        raise ValueError(f"{case.name}: values from {images.min()} to {images.max()}")
    if targets.ndim == 2 and targets.shape[1] == num_classes:
        if not torch.allclose(targets.sum(dim=1).double(), torch.ones(n, dtype=torch.float64), atol=1e-4):
            raise ValueError(f"{case.name}: targets do not sum to 1")
    elif "kornia" not in case.name:  # its targets are (label, partner's label, lam)
        raise ValueError(f"{case.name}: targets of shape {tuple(targets.shape)}")
    planar = torch.stack([torch.as_tensor(image) for image, _ in samples])
    planar = planar if planar.shape[1] == 3 else planar.permute(0, 3, 1, 2)
    changed = (images.float() / top - planar.float() / 255).abs().flatten(1).mean(dim=1) > 1e-3
    if changed.float().mean() < 0.3:
        raise ValueError(f"{case.name}: only {changed.float().mean():.0%} of the images changed")
