"""Image sets from the disk, in the forms that they are handed out in.

CIFAR-10 and CIFAR-100 (binary version), Tiny-ImageNet, trees of class folders, npz files of JPEG streams, and the
arrays of CIFAR-10-C and CIFAR-100-C. Images are uint8 (H, W, 3) in RGB, labels int64 in [0, classes). Nothing is
unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

KINDS = ("cifar10", "cifar100", "tiny", "folder", "npz")
HELD_OUT = 5000
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_ORDER_SEED = 20230807


class DataError(Exception):
    """A set that is not there, or not as it should be; one line."""


@dataclass(frozen=True)
class Split:
    """Images in memory or on the disk, with their labels: a map-style dataset of (image, label).

    Parameters
    ----------
    images : uint8 (N, H, W, 3), or N paths
    labels : int64 (N,)
    size : int, optional
        Side, in pixels, to which images read from paths are resized.
    """

    images: np.ndarray | Sequence[Path]
    labels: np.ndarray
    size: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in [0, {len(self)}), got {index}")
        image = self.images[index]
        return (image if isinstance(image, np.ndarray) else _read(image, self.size)), int(self.labels[index])

    def take(self, indices: np.ndarray) -> Split:
        """These samples only, in this order."""
        if isinstance(self.images, np.ndarray):
            return Split(self.images[indices], self.labels[indices], self.size)
        return Split([self.images[i] for i in indices], self.labels[indices], self.size)


@dataclass(frozen=True)
class ImageSet:
    """A training and a test split of the same classes."""

    name: str
    kind: str
    train: Split
    test: Split
    num_classes: int
    resized: bool = False  # to a size that the caller chose

    @property
    def side(self) -> int:
        """Of an image, in pixels."""
        return int(self.train[0][0].shape[0])


def load(path: Path, kind: str | None = None, size: int | None = None) -> ImageSet:
    """Read a set; its kind is recognised by its files unless it is given.

    Raises
    ------
    DataError
        Says what was expected where.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    kind = kind or _recognise(path)
    readers = {"cifar10": _cifar, "cifar100": _cifar, "tiny": _tiny, "folder": _folder, "npz": _npz}
    found = readers[kind](path, kind, size)
    for which, split in (("training", found.train), ("test", found.test)):
        if len(split) == 0:
            raise DataError(f"{path}: no {which} images")
        if split.labels.min() < 0 or split.labels.max() >= found.num_classes:
            raise DataError(f"{path}: {which} labels must be in [0, {found.num_classes}), got {split.labels.max()}")
    return found


def fixed_order(labels: np.ndarray) -> np.ndarray:
    """An order of all samples that never changes, and of which each beginning holds all classes alike.

    Its beginning is the subset that `--fraction` trains on, its end the held-out images.
    """
    shuffled = np.random.default_rng(_ORDER_SEED).permutation(len(labels))
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        rank[own] = np.arange(len(own))
    return shuffled[np.argsort(rank[shuffled], kind="stable")]


def training_and_held_out(split: Split, fraction: float, held_out: bool) -> tuple[Split, Split | None]:
    """The images to train on and, where none of them is trained on, the held-out ones.

    With `held_out` the last 5,000 of the fixed order are never trained on; without it they are, once `fraction`
    reaches them. A small fraction is the same subset either way. At most a fifth of the images is held out.
    """
    order = fixed_order(split.labels)
    kept = len(order) - min(HELD_OUT, len(order) // 5)
    n = max(1, round(fraction * len(order)))
    if held_out:
        n = min(n, kept)
    return split.take(order[:n]), split.take(order[kept:]) if n <= kept else None


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the channels, in units of [0, 1], from the first 2,000 images."""
    pixels = np.stack([split[i][0] for i in range(min(2000, len(split)))]).reshape(-1, 3) / 255.0
    return tuple(map(float, pixels.mean(axis=0))), tuple(map(float, pixels.std(axis=0) + 1e-6))


def corrupted(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """CIFAR-10-C's or CIFAR-100-C's arrays (50,000, 32, 32, 3), five severities one after the other, and labels."""
    labels = _array(folder / "labels.npy").astype(np.int64)
    names = sorted(path.stem for path in folder.glob("*.npy") if path.stem != "labels")
    if not names:
        raise DataError(f"{folder}: expected files such as fog.npy beside labels.npy")
    arrays = {name: _array(folder / f"{name}.npy") for name in names}
    for name, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 4 or len(array) != len(labels) or len(array) % 5:
            raise DataError(
                f"{folder / name}.npy: expected uint8 (5 n, H, W, 3) and as many labels, "
                f"got {array.dtype} {array.shape} and {len(labels)} labels"
            )
    return arrays, labels


def _recognise(path: Path) -> str:
    marks = {
        "npz": path.suffix == ".npz" or bool(list(path.glob("*_train.npz"))),
        "cifar10": bool(_below(path, "data_batch_1.bin", "cifar-10-batches-bin")),
        "cifar100": bool(_below(path, "train.bin", "cifar-100-binary")),
        "tiny": (path / "wnids.txt").exists(),
        "folder": (path / "train").is_dir(),
    }
    for kind, found in marks.items():
        if found:
            return kind
    raise DataError(
        f"{path}: expected data_batch_1.bin (CIFAR-10), train.bin (CIFAR-100), wnids.txt (Tiny-ImageNet), *_train.npz, "
        "or a folder train/ of class folders"
    )


def _below(path: Path, name: str, folder: str) -> Path | None:
    """The folder that holds the file: `path`, or the one that the archive unpacks to in it."""
    return next((place for place in (path, path / folder) if (place / name).exists()), None)


def _cifar(path: Path, kind: str, size: int | None) -> ImageSet:
    coarse, classes = (0, 10) if kind == "cifar10" else (1, 100)
    if kind == "cifar10":
        place = _below(path, "data_batch_1.bin", "cifar-10-batches-bin") or path
        train, test = [f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"]
    else:
        place = _below(path, "train.bin", "cifar-100-binary") or path
        train, test = ["train.bin"], ["test.bin"]
    splits = [_cifar_split([place / name for name in names], coarse) for names in (train, test)]
    return ImageSet(kind, kind, *splits, num_classes=classes)


def _cifar_split(paths: list[Path], coarse: int) -> Split:
    """Records of label bytes (a coarse one first in CIFAR-100) and 3 planes of 32 x 32."""
    width, records = coarse + 1 + 3072, []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: expected this file of the binary version")
        content = np.fromfile(path, np.uint8)
        if len(content) == 0 or len(content) % width:
            raise DataError(f"{path}: expected records of {width} bytes, got {len(content)} bytes in all")
        records.append(content.reshape(-1, width))
    table = np.concatenate(records)
    planes = table[:, coarse + 1 :].reshape(-1, 3, 32, 32)
    return Split(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), table[:, coarse].astype(np.int64))


def _tiny(path: Path, kind: str, size: int | None) -> ImageSet:
    names, notes = path / "wnids.txt", path / "val" / "val_annotations.txt"
    for file in (names, notes):
        if not file.exists():
            raise DataError(f"{file}: expected this file of Tiny-ImageNet")
    classes = {name: i for i, name in enumerate(sorted(names.read_text().split()))}
    images, labels = [], []
    for name, label in classes.items():
        own = sorted((path / "train" / name / "images").glob("*.JPEG"))
        if not own:
            raise DataError(f"{path / 'train' / name / 'images'}: expected JPEG files")
        images += own
        labels += [label] * len(own)
    rows = [line.split("\t") for line in notes.read_text().splitlines() if line]
    unknown = next((row for row in rows if len(row) < 2 or row[1] not in classes), None)
    if unknown:
        raise DataError(f"{notes}: expected a file and a class of wnids.txt in each line, got {unknown!r}")
    test = Split([path / "val" / "images" / row[0] for row in rows], _int64(classes[row[1]] for row in rows), size)
    train = Split(images, _int64(labels), size)
    return ImageSet("tiny-imagenet", kind, train, test, len(classes), resized=size is not None)


def _folder(path: Path, kind: str, size: int | None) -> ImageSet:
    places = path / "train", next((path / name for name in ("test", "val") if (path / name).is_dir()), path / "test")
    for place in places:
        if not place.is_dir():
            raise DataError(f"{place}: expected a folder of class folders")
    classes = {folder.name: i for i, folder in enumerate(sorted(p for p in places[0].iterdir() if p.is_dir()))}
    if size is None:
        raise DataError(f"{path}: images of class folders differ in size, say --size PIXELS")

    def split(place: Path) -> Split:
        files = sorted(file for file in place.glob("*/*") if file.suffix.lower() in _SUFFIXES)
        strange = next((file for file in files if file.parent.name not in classes), None)
        if strange:
            raise DataError(f"{strange}: the class {strange.parent.name!r} has no folder in {places[0]}")
        return Split(files, _int64(classes[file.parent.name] for file in files), size)

    return ImageSet(path.resolve().name, kind, split(places[0]), split(places[1]), len(classes), resized=True)


def _npz(path: Path, kind: str, size: int | None) -> ImageSet:
    trains = [path] if path.suffix == ".npz" else sorted(path.glob("*_train.npz"))
    if len(trains) != 1 or not trains[0].name.endswith("_train.npz"):
        raise DataError(f"{path}: expected one file NAME_train.npz with NAME_test.npz beside it")
    name = trains[0].name.removesuffix("_train.npz")
    train, classes = _npz_split(trains[0])
    test, _ = _npz_split(trains[0].with_name(f"{name}_test.npz"))
    return ImageSet(f"{name}-jpeg", kind, train, test, classes)


def _npz_split(path: Path) -> tuple[Split, int]:
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            jpeg, offset, label = file["jpeg"], file["offset"], file["label"].astype(np.int64)
            classes = len(file["classes"]) if "classes" in file else int(label.max()) + 1
    except (KeyError, ValueError, OSError) as error:
        raise DataError(f"{path}: expected the arrays jpeg, offset and label ({error})") from error
    if len(offset) != len(label) + 1 or offset[-1] > len(jpeg):
        raise DataError(f"{path}: expected offset to hold one number more than label ({len(label)}) and to end in jpeg")
    images = []
    for i, (begin, end) in enumerate(pairwise(offset)):
        image = cv2.imdecode(jpeg[begin:end], cv2.IMREAD_COLOR_RGB) if end > begin else None
        if image is None:
            raise DataError(f"{path}: image {i} is no JPEG stream")
        images.append(image)
    if len({image.shape for image in images}) > 1:
        raise DataError(f"{path}: images differ in size")
    return Split(np.stack(images), label), classes


def _read(path: Path, size: int | None) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(f"{path}: expected a readable image")
    if size is not None and image.shape[:2] != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return image


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected an array in a .npy file ({error})") from error


def _int64(values) -> np.ndarray:
    return np.fromiter(values, np.int64)
