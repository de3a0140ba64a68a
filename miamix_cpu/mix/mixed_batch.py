"""MixedBatch: a mixed batch and all that is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from miamix_cpu.plan.mix_plan import MixPlan


@dataclass(eq=False)
class MixedBatch:
    """A mixed batch and all that is known about it; NumPy arrays from `MiAMix`, tensors from `MiAMixCollator`.

    It goes through what frameworks do to a batch: `pin_memory`, `to`, pickle and deepcopy, `torch.utils._pytree`, and
    Lightning's `apply_to_collection`. Its tensors are the leaves; the plan stays as it is.

    Attributes
    ----------
    images : (N, H, W, C) or (N, H, W) from `MiAMix`, (N, C, H, W) from `MiAMixCollator`
    targets : float32 (N, num_classes), or with `targets="pair"` the triple (y_a, y_b, lam); of the labels' shape if
        they are numbers. With partners="layer" the pair is (labels, weights), (N, k_max + 1) each.
    lam : float32 (N,)
        The weight of sample i's own label. With partners="layer", (N, k_max + 1): the weights of all labels.
    partner : int64 (N,)
        With partners="layer", (N, k_max + 1): the samples that these are the labels of, i itself first.
    plan : MixPlan
    masks : float32 (N, H, W) or None
        The weight of the first view at each pixel, with `return_masks=True`; with partners="layer" of all views,
        (N, k_max + 1, H, W).
    extras : dict
        The samples' other entries, collated; by key, or by position for tuples.
    """

    images: Any
    targets: Any
    lam: Any
    partner: Any
    plan: MixPlan
    masks: Any = None
    extras: dict[Any, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.plan)

    def __contains__(self, name: Any) -> bool:
        """Whether there is a field of this name: Hugging Face's Trainer asks a batch for its "labels"."""
        return name in {f.name for f in fields(self)}

    def describe(self, i: int) -> str:
        """What happened to sample `i`, in one line: partner, layers, and the measured lam.

        Examples
        --------
        >>> import numpy as np
        >>> from miamix_cpu import MiAMix, MiAMixConfig
        >>> images = np.zeros((2, 8, 8, 3), np.uint8)
        >>> mix = MiAMix(10, MiAMixConfig.plain("mixup"))
        >>> mix(images, [3, 5], rng=np.random.default_rng(1)).describe(0)
        'sample 0 with sample 1: mixup 0.92, lam 0.08'
        """
        words = self.plan.describe(i)
        return (
            f"{words}, lam {', '.join(f'{float(weight):.2f}' for weight in self.lam[i].reshape(-1))}"
            if len(self.plan.layers_of(i))
            else words
        )

    def pin_memory(self) -> MixedBatch:
        """The batch in page-locked memory (called by DataLoader with `pin_memory=True`); tensors only."""
        return self._map(lambda tensor: tensor.pin_memory())

    def to(self, *args: Any, **kwargs: Any) -> MixedBatch:
        """The batch moved to a device; a dtype is what floating images become, everything else keeps its own.

        Labels would be rounded: bfloat16 has no 257. Takes what `torch.Tensor.to` does.
        """
        moving, shaping = _moving_and_shaping(args, kwargs)
        moved = self._map(lambda tensor: tensor.to(**moving))
        if not self.images.is_floating_point():
            shaping.pop("dtype", None)
        if shaping:
            moved.images = moved.images.to(**shaping)
        return moved

    def _map(self, function: Any) -> MixedBatch:
        def apply(value: Any) -> Any:
            if isinstance(value, tuple) and hasattr(value, "_fields"):
                return type(value)(*map(apply, value))
            if isinstance(value, (tuple, list)):
                return type(value)(map(apply, value))
            if isinstance(value, dict):
                return {key: apply(part) for key, part in value.items()}
            return function(value) if hasattr(value, "pin_memory") else value

        return replace(self, **{f.name: apply(getattr(self, f.name)) for f in fields(self) if f.name != "plan"})


def _moving_and_shaping(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `torch.Tensor.to`, apart: what goes for all tensors, and what goes for images alone."""
    moving, shaping, flags = dict(kwargs), {}, ["non_blocking", "copy"]
    for name in ("dtype", "memory_format"):
        if moving.get(name) is not None:
            shaping[name] = moving[name]
        moving.pop(name, None)
    for value in (*args, *([moving.pop("other")] if "other" in moving else [])):
        if isinstance(value, bool):
            moving[flags.pop(0)] = value
        elif hasattr(value, "is_floating_point") and hasattr(value, "device"):  # another tensor
            moving["device"], shaping["dtype"] = value.device, value.dtype
        elif hasattr(value, "is_floating_point"):  # a dtype
            shaping["dtype"] = value
        elif value is not None:
            moving["device"] = value
    return moving, shaping
