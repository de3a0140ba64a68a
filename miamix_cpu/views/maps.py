"""Call a transform with an image and its map, so that both go through the same random geometry."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from miamix_cpu.checks import short
from miamix_cpu.samples.images import as_map


class MapCaller:
    """Calls a transform as `transform(image=x, mask=map)` or as `transform(x, map)`, as it can be called.

    Parameters
    ----------
    transform : callable
    """

    def __init__(self, transform: Callable[..., Any]) -> None:
        self._transform = transform
        self.keyword = _takes_mask(transform)
        self._is_torchvision = _is_torchvision(transform)

    def call(self, image: Any, map_: np.ndarray) -> Any:
        """Return what the transform returns."""
        if self.keyword:
            return self._transform(image=image, mask=map_)
        return self._transform(image, _as_mask(map_) if self._is_torchvision else map_)

    def read(self, result: Any, name: str) -> tuple[Any, np.ndarray]:
        """Return the view and the map in a transform's result.

        Raises
        ------
        TypeError, ValueError
            If there is no view, or no map that is one (`as_map`). The message names the view, `name`.
        """
        parts = (result.get("image"), result.get("mask")) if isinstance(result, dict) else result
        if not (isinstance(parts, (tuple, list)) and len(parts) == 2) or any(part is None for part in parts):
            wanted = 'a dict with "image" and "mask"' if self.keyword else "a pair (image, map)"
            raise TypeError(
                f"the transform must return {wanted} for {name}, because samples have a map that goes through the same "
                f"geometry as the image, got {short(result)}"
            )
        return parts[0], as_map(parts[1], f"the map that the transform returned for {name}")


def _takes_mask(transform: Any) -> bool:
    """Whether `transform` is called as `transform(image=x, mask=map)` rather than `transform(x, map)`."""
    if _is_from(transform, "albumentations"):
        return True
    try:
        parameters = inspect.signature(transform).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return False
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    others = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return {"image", "mask"} <= named or (others and ("image" in named or not any(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)))


def _is_torchvision(transform: Any) -> bool:
    """Whether `transform` is from torchvision.transforms.v2, which leaves arrays as they are."""
    return _is_from(transform, "torchvision.transforms.v2")


def _is_from(transform: Any, package: str) -> bool:
    return any(f"{base.__module__}.".startswith(f"{package}.") for base in type(transform).__mro__)


def _as_mask(map_: np.ndarray) -> Any:
    """Return the map as the type that torchvision's v2 transforms move along with an image."""
    return sys.modules["torchvision.tv_tensors"].Mask(map_[None])
