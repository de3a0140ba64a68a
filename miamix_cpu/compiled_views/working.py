"""The views of a batch while a program makes them: moves are collected until the pixels are needed."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np

from miamix_cpu.compiled_views.moves import flip_axis, gather_pixels, sample_axes, shift_axes
from miamix_cpu.memory import empty_array


class Working:
    """Views that begin as images, or as maps, and go through the steps of a program.

    Parameters
    ----------
    arrays : N arrays (h, w) or (h, w, C), of one dtype and number of channels; never changed
    addresses : uint64 (N,), theirs, if they are known, C-contiguous and alike
    is_map : bool, of classes, depth or importance: what changes pixels' values leaves it, and it has fills of its own

    Attributes
    ----------
    arrays : list, or an array (N, h, w, ..)
        As far as moves have been made (`settle`).
    """

    def __init__(self, arrays: list[np.ndarray], addresses: np.ndarray | None = None, is_map: bool = False) -> None:
        self.arrays: list[np.ndarray] | np.ndarray = arrays
        self.is_map = is_map
        self._addresses = addresses
        self._owned = np.zeros(len(arrays), bool)
        self._index: np.ndarray | None = None  # of the moves that are still to be made, if there are any
        self._fills: list[Any] = []

    def __len__(self) -> int:
        return len(self.arrays)

    @property
    def channels(self) -> int:
        """The number of channels."""
        first = self.arrays[0]
        return 1 if first.ndim == 2 else first.shape[2]

    def shift(self, those: np.ndarray, starts: np.ndarray, lengths: np.ndarray, border: int = 0, fill: Any = 0) -> None:
        """Crop or extend views (`moves.shift_axes`); `fill` is a number or one for each channel."""
        index = self._begin(int(lengths.max(initial=0)))
        if not self._fills or self._fills[-1] != fill:
            self._fills.append(fill)
        shift_axes(index, self._sizes, those, starts, lengths, border, -len(self._fills))

    def sizes(self, those: np.ndarray) -> np.ndarray:
        """The heights and widths of views, int64 (2, m)."""
        self._begin(0)
        return self._sizes[:, those]

    def sample(self, those: np.ndarray, lengths: np.ndarray) -> None:
        """Resize views by taking the nearest pixels (`moves.sample_axes`)."""
        sample_axes(self._begin(int(lengths.max(initial=0))), self._sizes, those, lengths)

    def flip(self, axis: int, those: np.ndarray) -> None:
        """Reverse views along an axis."""
        if self._index is None and self._owned[those].all() and self.channels <= 4:
            flip = cv2().flip
            for i in those.tolist():
                flip(self.arrays[i], 1 - axis, dst=self.arrays[i])
            return
        flip_axis(self._begin(0), self._sizes, axis, those)

    def transpose(self, those: np.ndarray) -> None:
        """Exchange the rows and columns of views."""
        index = self._begin(0)
        index[:, those] = index[::-1, those]
        self._sizes[:, those] = self._sizes[::-1, those]
        self._turned[those] = ~self._turned[those]

    def _begin(self, length: int) -> np.ndarray:
        """Return lists with room for `length` pixels (`moves`), new ones if there are no moves to be made yet."""
        if self._index is None:
            arrays = self.arrays
            self._sizes = sizes_of(arrays, self._addresses is not None)
            self._turned = np.zeros(len(arrays), bool)
            self._fills = []
            longest = max(length, int(self._sizes.max()))
            self._index = np.empty((2, len(arrays), longest), np.int32)
            self._index[:] = np.arange(longest, dtype=np.int32)
        elif self._index.shape[2] < length:
            wider = np.empty((*self._index.shape[:2], length), np.int32)
            wider[..., : self._index.shape[2]] = self._index
            self._index = wider
        return self._index

    def settle(self) -> None:
        """Make the moves that were collected."""
        if self._index is None:
            return
        first, sizes = self.arrays[0], self._sizes
        addresses, strides = self._sources()
        unit = np.dtype(np.uint32 if first.itemsize == 4 else np.uint8)
        fills = np.empty((max(1, len(self._fills)), self.channels), first.dtype)
        for row, fill in zip(fills, self._fills, strict=False):
            row[:] = filling(fill, first.dtype)
        fills = fills.view(unit)
        counts = sizes[0] * sizes[1]
        flat = empty_array((int(counts.sum()) * fills.shape[1],), unit)
        gather_pixels(flat, addresses, strides // unit.itemsize, self._index, sizes, self._turned, fills)
        values, rest = flat.view(first.dtype), first.shape[2:]
        if (sizes == sizes[:, :1]).all():
            self.arrays = values.reshape(len(self), *sizes[:, 0].tolist(), *rest)
        else:
            parts = np.split(values, np.cumsum(counts[:-1]) * self.channels)
            self.arrays = [part.reshape(*size, *rest) for part, size in zip(parts, sizes.T.tolist(), strict=True)]
        self._owned[:], self._index, self._addresses = True, None, None

    def _sources(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the addresses of the arrays, and how many bytes lie between their rows; copy some if need be."""
        arrays, first = self.arrays, self.arrays[0]
        if isinstance(arrays, np.ndarray):
            addresses = arrays.ctypes.data + arrays.strides[0] * np.arange(len(arrays), dtype=np.uint64)
            return addresses.astype(np.uint64), np.full(len(arrays), arrays.strides[1])
        if self._addresses is not None:
            return self._addresses, np.full(len(arrays), first.itemsize * first[0].size)
        pixel = (self.channels * first.itemsize, first.itemsize)[: first.ndim - 1]
        kept = [a if a.strides[1:] == pixel and a.strides[0] >= 0 else np.ascontiguousarray(a) for a in arrays]
        self.arrays = kept
        return np.array([a.ctypes.data for a in kept], np.uint64), np.array([a.strides[0] for a in kept])

    def new(self, those: np.ndarray, height: int, width: int) -> list[np.ndarray] | np.ndarray:
        """Return arrays of one size for views to be written to: one block if these are all of them."""
        first = self.arrays[0]
        return empty_array((len(those), height, width, *first.shape[2:]), first.dtype)

    def put(self, those: np.ndarray, made: Any) -> None:
        """Take arrays of our own as these views."""
        if len(those) == len(self):
            self.arrays = made
        else:
            self.arrays = list(self.arrays)
            for i, array in zip(those.tolist(), made, strict=True):
                self.arrays[i] = array
        self._owned[those], self._addresses = True, None

    def change(self, those: np.ndarray, made: list[np.ndarray]) -> None:
        """Take new arrays as these views, which may be of another dtype if they are all of them."""
        alike = len(those) == len(self) and len({array.shape for array in made}) == 1
        self.put(those, np.stack(made) if alike else made)

    def addresses(self, those: np.ndarray) -> np.ndarray:
        """The addresses of views that are our own, uint64 (m,)."""
        if isinstance(self.arrays, np.ndarray):
            return (self.arrays.ctypes.data + self.arrays.strides[0] * those).astype(np.uint64)
        return np.array([self.arrays[i].ctypes.data for i in those.tolist()], np.uint64)

    def own(self, those: np.ndarray) -> None:
        """Copy those of these views that lie in the caller's memory, so that they may be changed in place."""
        foreign = those[~self._owned[those]]
        if len(foreign):
            self.put(foreign, [np.array(self.arrays[i], order="C") for i in foreign.tolist()])


def filling(fill: Any, dtype: np.dtype[Any]) -> Any:
    """A fill, a number or one for each channel, as OpenCV converts it: rounded, and in the range of its dtype."""
    if dtype.kind == "f":
        return fill
    limits = np.iinfo(dtype)
    if not isinstance(fill, (tuple, list)):
        return min(max(round(fill), limits.min), limits.max)
    return [filling(number, dtype) for number in fill]


def sizes_of(arrays: Any, alike: bool) -> np.ndarray:
    """The heights and widths of arrays, int64 (2, N)."""
    if alike or isinstance(arrays, np.ndarray):
        sizes = np.empty((2, len(arrays)), np.int64)
        sizes[0], sizes[1] = arrays[0].shape[:2]
        return sizes
    return np.array([array.shape[:2] for array in arrays]).T.copy()


def cv2() -> Any:
    """OpenCV, which Albumentations has imported already."""
    return importlib.import_module("cv2")


@cache
def compile_moves() -> None:
    """Compile the kernels that move bytes."""
    views, own = Working([np.zeros((2, 2), np.uint8)]), np.zeros(1, np.int64)
    views.shift(own, np.zeros((2, 1), np.int64), np.ones((2, 1), np.int64))
    views.flip(1, own)
    views.settle()
