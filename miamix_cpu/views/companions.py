"""Call a transform with an image and what belongs to it, so that all of it goes through the same random geometry."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from miamix_cpu.checks import short
from miamix_cpu.samples.images import HASHED, TRANSFORMED, as_array, is_pil, is_tensor

_INT32 = np.iinfo(np.int32)


class CompanionCaller:
    """Calls a transform with an image and the entries that belong to it, by key.

    - Albumentations: an entry that the Compose declares in `additional_targets`, or that is called "mask", is passed
      under its name. Of the others, the first is the `mask`, if that is free, and the rest are `masks`.
    - torchvision's v2 transforms get a dict of the image and of `tv_tensors.Mask`s, and return one.
    - A callable whose parameters are `image` and the entries' names is called with keywords, any other with a dict.
      Both return a dict.

    Parameters
    ----------
    transform : callable
    keyword : bool
        Whether it takes the keyword `image`.
    is_albumentations : bool
    image_key : str
        The image's key in the dict.
    """

    def __init__(
        self, transform: Callable[..., Any], keyword: bool, is_albumentations: bool, image_key: str = "image"
    ) -> None:
        self._transform = transform
        self._keyword = keyword
        self._is_albumentations = is_albumentations
        self._image_key = image_key
        self._is_torchvision = any(
            base.__module__.startswith("torchvision.transforms.v2") for base in type(transform).__mro__
        )

    def call(self, image: Any, others: Mapping[Any, Any], name: str) -> tuple[Any, dict[Any, Any]]:
        """Return the view, and the entries by key.

        Parameters
        ----------
        image : as the transform takes it
        others : the entries
        name : str, of the view in messages

        Raises
        ------
        TypeError, ValueError
            If an entry can't be passed on, or is missing in what the transform returns.
        """
        if self._is_albumentations:
            return self._call_albumentations(image, others, name)
        if self._takes_names(others):
            image_key, result = "image", self._transform(image=image, **others)
        elif self._is_torchvision:
            image_key, result = self._image_key, self._transform({self._image_key: image, **_as_masks(others)})
            result = _without_axis(result, others)
        else:
            image_key, result = self._image_key, self._transform({self._image_key: image, **others})
        return self._of_dict(result, image_key, others, name)

    def example(self, others: Mapping[Any, Any]) -> str:
        """How the transform is called with these entries."""
        if self._is_albumentations:
            return f"transform(image=image, {', '.join(f'{target}=..' for target in self._targets(others))})"
        if self._takes_names(others):
            return f"transform(image=image, {', '.join(f'{key}={key}' for key in others)})"
        return f"transform({{{', '.join(f'{key!r}: ..' for key in (self._image_key, *others))}}})"

    def _takes_names(self, others: Mapping[Any, Any]) -> bool:
        if not self._keyword or not all(isinstance(key, str) for key in others):
            return False
        parameters = inspect.signature(self._transform).parameters
        return set(others) <= set(parameters) or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    def _of_dict(self, result: Any, image_key: str, others: Mapping[Any, Any], name: str) -> tuple[Any, dict[Any, Any]]:
        wanted = [image_key, *others]
        missing = [key for key in wanted if result.get(key) is None] if isinstance(result, dict) else wanted
        if missing:
            raise TypeError(
                f"the transform must return a dict with {', '.join(map(repr, wanted))} for {name}, because these go "
                f"through the same geometry, got {short(result)}"
            )
        return result[image_key], {key: result[key] for key in others}

    def _targets(self, others: Mapping[Any, Any]) -> dict[str, list[Any]]:
        """Which entries go to which of Albumentations' targets."""
        named = {"mask", *(getattr(self._transform, "additional_targets", None) or ())}
        targets = {key: [key] for key in others if key in named}
        rest = [key for key in others if key not in named]
        if rest and "mask" not in targets:
            targets["mask"] = [rest.pop(0)]
        if rest:
            targets["masks"] = rest
        return targets

    def _call_albumentations(
        self, image: np.ndarray, others: Mapping[Any, Any], name: str
    ) -> tuple[Any, dict[Any, Any]]:
        arrays = {key: _for_opencv(value, f"{key!r} for {name}") for key, value in others.items()}
        targets, given = self._targets(others), {}
        for target, keys in targets.items():
            given[target] = [arrays[key] for key in keys] if target == "masks" else arrays[keys[0]]
        kinds = {(array.shape, array.dtype) for array in given.get("masks", ())}
        if len(kinds) > 1:
            raise TypeError(
                f"{', '.join(map(repr, targets['masks']))} differ in shape or dtype, but Albumentations' `masks` must "
                'be alike: declare them, A.Compose(..., additional_targets={"depth": "image", "classes": "mask"})'
            )
        clip = image.ndim == 4
        result = self._transform(**{"images" if clip else "image": image}, **given)
        view, made = result["images" if clip else "image"], {}
        if clip and isinstance(view, list):
            view = np.stack(view)
        for target, keys in targets.items():
            values = result[target] if target == "masks" else [result[target]]
            for key, value in zip(keys, values, strict=True):
                made[key] = _from_opencv(value, arrays[key], others[key])
        return view, made


def _for_opencv(value: Any, what: str) -> np.ndarray:
    """Return an entry as an array (h, w) or (h, w, C) of a dtype that OpenCV knows.

    Raises
    ------
    ValueError
        If integers do not fit into 32 bits.
    """
    array = as_array(value, what, HASHED if is_pil(value) else TRANSFORMED)
    if is_tensor(value) and array.ndim == 3:
        array = np.ascontiguousarray(array.transpose(1, 2, 0))
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind in "iu" and array.dtype.itemsize >= 4 and array.dtype != np.int32:
        low, high = int(array.min()), int(array.max())
        if low < _INT32.min or high > _INT32.max:
            raise ValueError(
                f"{what} must fit into 32-bit integers to go through Albumentations, got values from {low} to {high}"
            )
        return array.astype(np.int32)
    return array


def _from_opencv(value: Any, given: np.ndarray, own: Any) -> np.ndarray:
    """Return what Albumentations made of `given` as an array (h, w) or (h, w, C) of the dtype of the caller's entry.

    ToTensorV2 leaves masks (h, w, C), unless it is told otherwise, but makes images (C, h, w).
    """
    array = np.asarray(value)
    if array.ndim == 3 and is_tensor(value) and given.ndim == 3 and array.shape[2] != given.shape[2]:
        array = np.ascontiguousarray(array.transpose(1, 2, 0))
    if given.dtype != array.dtype:  # Normalize has made floats of an image, which stay floats
        return array
    kind = as_array(own, "an entry", HASHED if is_pil(own) else TRANSFORMED).dtype
    return array.astype(kind, copy=False)


def _as_masks(others: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return entries as torchvision's masks, (C, h, w), unless they have a type of torchvision's already."""
    types, torch = sys.modules["torchvision.tv_tensors"], sys.modules["torch"]
    masks = {}
    for key, value in others.items():
        if isinstance(value, types.TVTensor):
            masks[key] = value
            continue
        tensor = value if is_tensor(value) else torch.from_numpy(np.array(value))
        if tensor.ndim == 3 and not is_tensor(value):
            tensor = tensor.permute(2, 0, 1)
        masks[key] = types.Mask(tensor if tensor.ndim > 2 else tensor[None])
    return masks


def _without_axis(result: Any, others: Mapping[Any, Any]) -> Any:
    """Return a dict in which maps that came as (h, w) are so again, as plain tensors."""
    if not isinstance(result, dict):
        return result
    are_flat = [key for key, value in others.items() if is_pil(value) or np.ndim(value) == 2]
    return {**result, **{key: result[key][0] for key in are_flat if result.get(key) is not None}}
