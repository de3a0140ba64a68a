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
    """Calls a transform as `transform(image=x, mask=map)` if it takes these keywords, otherwise `transform(x, map)`.

    Parameters
    ----------
    transform : callable
    keyword : bool
        Whether it takes the keyword `image`.
    """

    def __init__(self, transform: Callable[..., Any], keyword: bool) -> None:
        self._transform = transform
        self.keyword = keyword and _takes_mask(transform)
        self._is_torchvision = any(
            base.__module__.startswith("torchvision.transforms.v2") for base in type(transform).__mro__
        )

    def call(self, image: Any, map_: np.ndarray) -> Any:
        """Return what the transform returns."""
        if self.keyword:
            return self._transform(image=image, mask=map_)
        if self._is_torchvision:  # leaves arrays as they are
            return self._transform(image, sys.modules["torchvision.tv_tensors"].Mask(map_[None]))
        return self._transform(image, map_)

    @property
    def example(self) -> str:
        """How the transform is called."""
        return "transform(image=image, mask=map)" if self.keyword else "transform(image, map)"

    def read(self, result: Any, name: str) -> tuple[Any, np.ndarray]:
        """Return the view and the map in what the transform returned.

        Raises
        ------
        TypeError, ValueError
            If one is missing, or the map is none (`as_map`). The message names the view, `name`.
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
    parameters = inspect.signature(transform).parameters.values()
    return any(p.name == "mask" or p.kind is p.VAR_KEYWORD for p in parameters)
