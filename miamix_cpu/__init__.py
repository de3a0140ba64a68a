"""MiAMix (multi-stage augmented mixup) on the CPU, inside PyTorch DataLoader workers or on NumPy arrays.

`MiAMixCollator` is a `collate_fn` for PyTorch. `MiAMix` and `MiAMixBatch` mix NumPy arrays and do not need torch.
Importing this package imports neither torch nor albumentations; names that need torch import it on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from miamix_cpu.config import MiAMixConfig
from miamix_cpu.options import (
    AGMixOptions,
    AttentiveCutMixOptions,
    CutMixOptions,
    FMixOptions,
    GridMixOptions,
    GuidedMixupOptions,
    HMixOptions,
    ResizeMixOptions,
    SaliencyMixOptions,
    SmoothMixOptions,
)

if TYPE_CHECKING:
    from miamix_cpu.collate import MiAMixCollator
    from miamix_cpu.columns import MiAMixBatch
    from miamix_cpu.environment import check_environment
    from miamix_cpu.epochs import EpochIndex, EpochSampler, Indexed, MixSchedule
    from miamix_cpu.manifold import ManifoldMixup
    from miamix_cpu.mix.mixed_batch import MixedBatch
    from miamix_cpu.mixer import MiAMix
    from miamix_cpu.plan.mix_plan import MixPlan
    from miamix_cpu.training import mixed_accuracy, mixed_cross_entropy, normalize_on_device
    from miamix_cpu.views.two_views import TwoViews
    from miamix_cpu.warm import warmup

__version__ = "0.1.0"

__all__ = [
    "AGMixOptions",
    "AttentiveCutMixOptions",
    "CutMixOptions",
    "EpochIndex",
    "EpochSampler",
    "FMixOptions",
    "GridMixOptions",
    "GuidedMixupOptions",
    "HMixOptions",
    "Indexed",
    "ManifoldMixup",
    "MiAMix",
    "MiAMixBatch",
    "MiAMixCollator",
    "MiAMixConfig",
    "MixPlan",
    "MixSchedule",
    "MixedBatch",
    "ResizeMixOptions",
    "SaliencyMixOptions",
    "SmoothMixOptions",
    "TwoViews",
    "check_environment",
    "mixed_accuracy",
    "mixed_cross_entropy",
    "normalize_on_device",
    "warmup",
]

_LAZY = {
    "MiAMixBatch": "columns",
    "MiAMixCollator": "collate",
    "EpochIndex": "epochs",
    "EpochSampler": "epochs",
    "Indexed": "epochs",
    "MixSchedule": "epochs",
    "MiAMix": "mixer",
    "ManifoldMixup": "manifold",
    "MixedBatch": "mix.mixed_batch",
    "MixPlan": "plan.mix_plan",
    "TwoViews": "views.two_views",
    "mixed_accuracy": "training",
    "mixed_cross_entropy": "training",
    "normalize_on_device": "training",
    "check_environment": "environment",
    "warmup": "warm",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'miamix_cpu' has no attribute {name!r}")
    import importlib

    try:
        module = importlib.import_module(f"miamix_cpu.{_LAZY[name]}")
    except Exception as error:
        # Python would report an AttributeError as "cannot import name", without its cause.
        if getattr(error, "name", None) == "torch" and isinstance(error, ModuleNotFoundError):
            raise ImportError(f"miamix_cpu.{name} needs PyTorch: pip install 'miamix_cpu[torch]'") from error
        raise ImportError(
            f"miamix_cpu.{name} cannot be imported, because its module miamix_cpu.{_LAZY[name]} raises "
            f"{type(error).__name__}: {error}"
        ) from error
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
