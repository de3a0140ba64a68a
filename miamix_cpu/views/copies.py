"""Copies of images, and whose memory an image lies in."""

from __future__ import annotations

from typing import Any

import numpy as np

from miamix_cpu.samples.images import is_pil, is_tensor


def copied(image: Any) -> Any:
    """Return a writable copy with its own memory. An object that is not an image is returned as it is."""
    if is_pil(image):
        return _copied_picture(image)
    if isinstance(image, np.ndarray):
        return image.copy()
    return image.clone() if is_tensor(image) else image


def _copied_picture(picture: Any) -> Any:
    """Copy a PIL image with its attributes (`filename` and the caller's own), except those of the open file."""
    new = picture.copy()
    for name, value in vars(picture).items():
        if name not in vars(new) and not name.startswith("_") and name not in _OF_A_FILE:
            setattr(new, name, value)
    new.format = picture.format
    return new


_OF_A_FILE = frozenset(("fp", "tile", "decoderconfig", "decodermaxblock", "map"))


def _root(array: np.ndarray) -> np.ndarray:
    """Return the array that `array` is a view of, or `array` itself."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def owns_its_memory(view: Any) -> bool:
    """False if an array or a PIL image lies in a buffer of some other object, which may write to it."""
    if isinstance(view, np.ndarray):
        return _root(view).base is None
    return not getattr(view, "readonly", 0) if is_pil(view) else True


def _owner(view: Any) -> int:
    """Return an identifier of a view's memory, unique as long as all views are alive."""
    if isinstance(view, np.ndarray):
        return id(_root(view))
    if is_tensor(view) and str(view.layout) == "torch.strided":  # others have no storage, and are refused later
        return int(view.untyped_storage().data_ptr())
    return id(view)


def overlap(views: list[Any]) -> bool:
    """Whether two views share memory: a transform that reuses its result overwrote an earlier view."""
    return len(set(map(_owner, views))) < len(views)
