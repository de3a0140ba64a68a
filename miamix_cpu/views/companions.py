"""Call a transform with an image and what belongs to it, so that all of it goes through the same random geometry."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from miamix_cpu.checks import short
from miamix_cpu.samples.companions import name_of
from miamix_cpu.samples.images import HASHED, TRANSFORMED, as_array, is_pil, is_planar, is_tensor

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
        others : the entries; arrays with channels last for Albumentations (`as_given`), otherwise as in the samples
        name : str, of the view in messages

        Raises
        ------
        Exception
            The transform's own exception, with notes that name the view and say how the transform is called.
        TypeError, ValueError
            If an entry can't be passed on, or is missing in what the transform returns.
        """
        if self._is_albumentations:
            return self._call_albumentations(image, others, name)
        if self._takes_names(others):
            result = self._called(others, name, image=image, **others)
            return _of_dict(result, "image", others, name)
        if not self._is_torchvision:
            result = self._called(others, name, {self._image_key: image, **others})
            return _of_dict(result, self._image_key, others, name)
        masks = {key: _as_mask(value, f"{name_of(key)} for {name}") for key, value in others.items()}
        result = self._called(others, name, {self._image_key: image, **{key: mask for key, (mask, _) in masks.items()}})
        view, made = _of_dict(result, self._image_key, others, name)
        return view, {key: made[key][0] if is_flat else made[key] for key, (_, is_flat) in masks.items()}

    def _called(self, others: Mapping[Any, Any], name: str, /, *given: Any, **named: Any) -> Any:
        try:
            return self._transform(*given, **named)
        except Exception as error:
            error.add_note(f"raised by the transform, for {name}")
            error.add_note(f"it is called as {self.example(others)}, because of map_key or also")
            raise

    def example(self, others: Mapping[Any, Any]) -> str:
        """How the transform is called with these entries."""
        if self._is_albumentations:
            return f"transform(image=image, {', '.join(f'{target}=..' for target in self._targets(others))})"
        if self._takes_names(others):
            return f"transform(image=image, {', '.join(f'{key}={key}' for key in others)})"
        return f"transform({{{', '.join(f'{key!r}: ..' for key in (self._image_key, *others))}}})"

    def _takes_names(self, others: Mapping[Any, Any]) -> bool:
        if not self._keyword or not all(isinstance(key, str) and key != "image" for key in others):
            return False
        parameters = inspect.signature(self._transform).parameters
        return set(others) <= set(parameters) or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    @property
    def _declared(self) -> Mapping[str, str]:
        """What a Compose declares, by name: "image", "mask" and the like."""
        return getattr(self._transform, "additional_targets", None) or {}

    def _targets(self, others: Mapping[Any, Any]) -> dict[str, list[Any]]:
        """Which entries go to which of Albumentations' targets; those of a clip, with frames, are `masks`."""
        have_frames = {key for key, value in others.items() if np.ndim(value) == 4}
        own = {key for key in others if key in self._declared or (key == "mask" and key not in have_frames)}
        targets = {key: [key] for key in others if key in own}
        rest = [key for key in others if key not in own]
        flat = next((key for key in rest if key not in have_frames), None)
        if flat is not None and "mask" not in targets:
            targets["mask"] = [flat]
            rest.remove(flat)
        if rest:
            targets["masks"] = rest
        return targets

    def _call_albumentations(
        self, image: np.ndarray, others: Mapping[Any, np.ndarray], name: str
    ) -> tuple[Any, dict[Any, Any]]:
        arrays = {key: for_opencv(value, f"{name_of(key)} for {name}") for key, value in others.items()}
        targets, given = self._targets(others), {}
        for target, keys in targets.items():
            given[target] = (
                [part for key in keys for part in _frames(arrays[key])] if target == "masks" else arrays[keys[0]]
            )
        kinds = {(array.shape, array.dtype) for array in given.get("masks", ())}
        if len(kinds) > 1:
            raise TypeError(
                f"{', '.join(map(name_of, targets['masks']))} differ in shape or dtype for {name}, but Albumentations' "
                '`masks` must be alike: declare them, A.Compose(..., additional_targets={"depth": "image"})'
            )
        clip = image.ndim == 4
        result = self._called(others, name, **{"images" if clip else "image": image}, **given)
        view, made = _stacked(result["images"]) if clip else result["image"], {}
        for target, keys in targets.items():
            values = list(result[target]) if target == "masks" else result[target]
            for key in keys:
                value = values
                if target == "masks":
                    count = len(_frames(arrays[key]))
                    value, values = values[:count] if others[key].ndim == 4 else values[0], values[count:]
                made[key] = _from_opencv(value, arrays[key], others[key], self._declared.get(target, "mask"))
        return view, made


def as_given(value: Any, what: str, layout: str) -> np.ndarray:
    """Return an entry as an array (h, w) or (h, w, C), with an axis of frames in front for clips, of its own dtype.

    Parameters
    ----------
    value : as in the samples
    what : str, its name in messages
    layout : one of `images.LAYOUTS`
    """
    array = _as_array(value, what)
    if is_planar(value, array.shape, layout, what):
        array = np.ascontiguousarray(np.moveaxis(array, -3, -1))
    return array


def _as_array(value: Any, what: str) -> np.ndarray:
    """Return an array in native byte order: neither OpenCV nor torch knows another."""
    array = as_array(value, what, HASHED if is_pil(value) else TRANSFORMED)  # a palette's indices are classes
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _of_dict(result: Any, image_key: str, others: Mapping[Any, Any], name: str) -> tuple[Any, dict[Any, Any]]:
    wanted = [image_key, *others]
    missing = [key for key in wanted if result.get(key) is None] if isinstance(result, dict) else wanted
    if missing:
        raise TypeError(
            f"the transform must return a dict with {', '.join(map(repr, wanted))} for {name}, because these go "
            f"through the same geometry, got {short(result)}"
            + (f", which lacks {', '.join(map(repr, missing))}" if isinstance(result, dict) else "")
        )
    return result[image_key], {key: result[key] for key in others}


def _frames(array: np.ndarray) -> list[np.ndarray]:
    return list(array) if array.ndim == 4 else [array]


def _stacked(values: Any) -> Any:
    """Return frames as one array or tensor."""
    if not isinstance(values, (list, tuple)):
        return values
    return sys.modules["torch"].stack(list(values)) if is_tensor(values[0]) else np.stack(values)


def for_opencv(array: np.ndarray, what: str) -> np.ndarray:
    """Return an entry in a dtype that OpenCV knows.

    Raises
    ------
    ValueError
        If integers do not fit into 32 bits.
    """
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


def _from_opencv(value: Any, given: np.ndarray, own: np.ndarray, kind: str) -> np.ndarray:
    """Return what Albumentations made of `given` with channels last, and of the dtype of `own`.

    ToTensorV2 makes images (C, h, w), but leaves masks (h, w, C), unless it is told otherwise.
    """
    value = _stacked(value)
    array = np.asarray(value)
    if array.ndim > 2 and is_tensor(value) and (kind.startswith("image") or array.shape[-1] != given.shape[-1]):
        array = np.ascontiguousarray(np.moveaxis(array, -3, -1))
    if given.dtype != array.dtype:  # Normalize has made floats of an image, which stay floats
        return array
    return array.astype(own.dtype, copy=False)


def _as_mask(value: Any, what: str) -> tuple[Any, bool]:
    """Return an entry as torchvision's mask, (C, h, w), unless it has a type of torchvision's already.

    Returns
    -------
    mask, bool
        Whether it has no axis of channels of its own.
    """
    types, torch = sys.modules["torchvision.tv_tensors"], sys.modules["torch"]
    if isinstance(value, types.TVTensor):
        return value, False
    if is_tensor(value):
        tensor = value
    else:
        array = _as_array(value, what)
        tensor = torch.from_numpy(np.array(array, order="C"))
        tensor = tensor.movedim(-1, -3) if tensor.ndim > 2 else tensor
    return types.Mask(tensor if tensor.ndim > 2 else tensor[None]), tensor.ndim == 2
