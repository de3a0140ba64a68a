"""What a batch is: a digest of its images, labels and keys, from which its random streams are made.

Images up to 16 KiB are hashed whole; larger ones on a 2-D lattice of at least 1,024 pixels with all channels. Never on
a flat stride: on photographs with white borders that hits the same border again and again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from miamix_cpu.compile import entry, kernel
from miamix_cpu.gather import Gathered, array_at, gather

_WHOLE_UP_TO = 1 << 14
_LATTICE_PIXELS = 1024

# The primes of xxHash64; its rounds mix well and run at memory speed.
_PRIME_1 = np.uint64(0x9E3779B185EBCA87)
_PRIME_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME_3 = np.uint64(0x165667B19E3779F9)


def hash_images(images: Sequence[np.ndarray], *, planar: bool = False) -> np.ndarray:
    """A 64-bit hash of each image's values, whatever its memory layout.

    Parameters
    ----------
    images : arrays (H, W) or (H, W, C), or (C, H, W) where `planar`; shapes and dtypes may differ
    planar : bool

    Returns
    -------
    uint64 (N,)
    """
    first = images[0]
    if all(image.shape == first.shape and image.dtype == first.dtype for image in images):
        return hash_gathered(gather(images), planar=planar)
    return np.concatenate([hash_gathered(gather([image]), planar=planar) for image in images])


def hash_gathered(images: Gathered, *, planar: bool = False) -> np.ndarray:
    """`hash_images` of images that are gathered already."""
    hashes = np.empty(len(images.addresses), dtype=np.uint64)
    item = images.dtype.itemsize
    size = math.prod(images.shape) * item
    if size <= _WHOLE_UP_TO:
        hash_lattices(images.addresses, 1, 1, 1, size, 0, 0, 0, hashes)
        return hashes
    height, width = images.shape[-2:] if planar else images.shape[:2]
    planes, pixel = (images.shape[0], item) if planar and len(images.shape) == 3 else (1, size // (height * width))
    # ceil(H / s) * ceil(W / s) >= 1024 for any sides.
    step = max(1, math.isqrt(height * width // _LATTICE_PIXELS))
    hash_lattices(
        images.addresses,
        planes,
        -(-height // step),
        -(-width // step),
        pixel,
        height * width * pixel,
        step * width * pixel,
        step * pixel,
        hashes,
    )
    return hashes


@entry
def hash_lattices(
    addresses: np.ndarray,
    planes: int,
    rows: int,
    columns: int,
    run: int,
    plane_step: int,
    row_step: int,
    column_step: int,
    hashes: np.ndarray,
) -> None:
    """Hash `run` bytes at each point of a lattice of bytes, for each of `addresses`.

    Parameters
    ----------
    addresses : uint64 (N,)
    planes, rows, columns : int, points of the lattice
    run : int, bytes
    plane_step, row_step, column_step : int, bytes from one point to the next
    hashes : uint64 (N,); overwritten
    """
    bytes_like, words_like = np.empty(0, np.uint8), np.empty(0, np.uint64)
    size = planes * rows * columns * run
    whole = planes * rows * columns == 1
    span = (planes - 1) * plane_step + (rows - 1) * row_step + (columns - 1) * column_step + run
    # Copied to where eight bytes are one aligned word; the end is padded with zeros.
    words = np.zeros((size + 63) // 64 * 8, np.uint64)
    buffer = words.view(np.uint8)
    for i in range(addresses.size):
        if whole and size % 64 == 0 and addresses[i] % np.uint64(8) == 0:
            hashes[i] = hash_words(array_at(addresses[i], size // 8, words_like), np.uint64(size))
            continue
        source = array_at(addresses[i], span, bytes_like)
        filled = 0
        for plane in range(planes):
            for row in range(rows):
                start = plane * plane_step + row * row_step
                for _ in range(columns):
                    if run == 3:  # the usual pixel, without a loop: twice as fast
                        buffer[filled] = source[start]
                        buffer[filled + 1] = source[start + 1]
                        buffer[filled + 2] = source[start + 2]
                    else:
                        for b in range(run):
                            buffer[filled + b] = source[start + b]
                    filled += run
                    start += column_step
        hashes[i] = hash_words(words, np.uint64(size))


@kernel
def hash_words(words: np.ndarray, seed: np.uint64) -> np.uint64:
    """Eight running hashes side by side, then folded into one; every bit of every word counts.

    Parameters
    ----------
    words : uint64 (8 * n,)
    seed : uint64
    """
    lanes = np.empty(8, np.uint64)
    for lane in range(8):
        lanes[lane] = seed + np.uint64(lane) * _PRIME_3
    for w in range(0, words.size, 8):
        for lane in range(8):
            mixed = lanes[lane] + words[w + lane] * _PRIME_2
            lanes[lane] = ((mixed << np.uint64(31)) | (mixed >> np.uint64(33))) * _PRIME_1
    result = seed ^ _PRIME_3
    for lane in range(8):
        result = (result ^ lanes[lane]) * _PRIME_1
        result ^= result >> np.uint64(29)
        result *= _PRIME_2
        result ^= result >> np.uint64(32)
    return result
