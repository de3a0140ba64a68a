"""Published settings by name. `MiAMixConfig.recipe` makes a configuration of one, `MiAMixConfig.recipes` lists them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from miamix_cpu.options import GridMixOptions


@dataclass(frozen=True)
class Recipe:
    """A row: where it comes from, the methods of `MiAMixConfig.plain` if it is a baseline, and the fields to set."""

    source: str
    plain: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "miamix": Recipe("Liang et al., 2023, Table 1: k of 1 or 2, five methods, self-mixing, mask augmentation"),
    "mixup": Recipe("Zhang et al., 2018: alpha 1 as on CIFAR (ImageNet: 0.2)", ("mixup",)),
    "cutmix": Recipe("Yun et al., 2019: alpha 1", ("cutmix",)),
    "fmix": Recipe("Harris et al., 2020: alpha 1, decay 3", ("fmix",)),
    "gridmix": Recipe("Dobrynin, 2020, GridMixup: one hole in each cell of a grid", ("gridmix",)),
    "gridmix-cells": Recipe(
        "Baek et al., 2021, GridMix: whole cells of a grid, chosen at random; without the paper's loss on cells",
        ("gridmix",),
        {"gridmix": GridMixOptions(pattern="random")},
    ),
    "gmix": Recipe("Liang et al., 2023, section 2: an isotropic Gaussian", ("gmix",)),
    "agmix": Recipe("Liang et al., 2023, section 3.2.3: an anisotropic, rotated Gaussian", ("agmix",)),
    "hmix": Recipe("Park et al., 2022: alpha 1, half of the ratio in the box", ("hmix",)),
    "smoothmix": Recipe("Lee et al., 2020: a Gaussian of 0.25 to 0.5 of the side", ("smoothmix",)),
    "resizemix": Recipe("Qin et al., 2020: tau from U(0.1, 0.8)", ("resizemix",)),
    "saliencymix": Recipe("Uddin et al., 2020: alpha 1, fine-grained saliency", ("saliencymix",)),
    "attentivecutmix": Recipe("Walawalkar et al., 2020: 6 of 7 x 7 cells", ("attentivecutmix",)),
    "guidedmixup": Recipe("Kang and Kim, 2023, the SR form: spectral saliency", ("guidedmixup",)),
    "randommix": Recipe(
        "Liu et al., 2022: one of four methods a sample, alpha 1, equal weights",
        ("mixup", "cutmix", "fmix", "resizemix"),
    ),
    "manifold-mixup": Recipe(
        "Verma et al., 2018: alpha 2; for `ManifoldMixup`, which mixes a hidden layer",
        ("mixup",),
        {"alpha": 2.0, "mixes": "features"},
    ),
    "deit": Recipe(
        "Touvron et al., 2021, and timm: mixup 0.8, cutmix 1.0, one or the other",
        ("mixup", "cutmix"),
        {"alpha": (0.8, 1.0)},
    ),
    "torchvision": Recipe(
        "torchvision's reference training: mixup 0.2, cutmix 1.0, one or the other",
        ("mixup", "cutmix"),
        {"alpha": (0.2, 1.0)},
    ),
    "rsb-a1": Recipe(
        "Wightman et al., 2021, ResNet strikes back, A1: mixup 0.2, cutmix 1.0, one or the other",
        ("mixup", "cutmix"),
        {"alpha": (0.2, 1.0)},
    ),
    "rsb-a2": Recipe(
        "Wightman et al., 2021, ResNet strikes back, A2: mixup 0.1, cutmix 1.0, one or the other",
        ("mixup", "cutmix"),
        {"alpha": (0.1, 1.0)},
    ),
}
