"""What a batch is: a digest of its images, labels and keys, from which its random streams are made.

Images up to 16 KiB are hashed whole; larger ones on a 2-D lattice of at least 1,024 pixels, or all, with all channels.
Never on a flat stride: on photographs with white borders that hits the same border again and again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from miamix_cpu.jit.arrays import array_at, empty, run
from miamix_cpu.jit.compile import allocating, entry, kernel
from miamix_cpu.jit.scalars import smaller
from miamix_cpu.samples.addresses import Gathered, gather, prefetch

_WHOLE_UP_TO = 1 << 14
_LATTICE_PIXELS = 1024
_LANES = 32

# The primes of xxHash64; its rounds mix well and run at memory speed.
_PRIME_1 = np.uint64(0x9E3779B185EBCA87)
_PRIME_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME_3 = np.uint64(0x165667B19E3779F9)
_PRIME_32, _LOWER = np.uint64(0xFFFFFFFB), np.uint64(0xFFFFFFFF)


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
        return hash_gathered(gather(list(images)), planar=planar)
    return np.concatenate([hash_gathered(gather([image]), planar=planar) for image in images])


def hash_gathered(images: Gathered, *, planar: bool = False) -> np.ndarray:
    """`hash_images` of images that are gathered already."""
    hashes = np.empty(len(images.addresses), dtype=np.uint64)
    item = images.dtype.itemsize
    size = math.prod(images.shape) * item
    if size <= _WHOLE_UP_TO:
        hash_lattices(images.addresses, size, 1, 1, 1, size, 0, 0, 0, hashes)
        return hashes
    height, width = images.shape[-2:] if planar else images.shape[:2]
    planes, pixel = (images.shape[0], item) if planar and len(images.shape) == 3 else (1, size // (height * width))
    # ceil(H / s) * ceil(W / s) >= 1024 for any sides, and so it is with twice the one step and half the other.
    step = max(1, math.isqrt(height * width // _LATTICE_PIXELS))
    # Fewer rows, of more points each: what is read are cache lines, and a row's points share them.
    down, across = (2 * step, step // 2) if step > 1 else (1, 1)
    hash_lattices(
        images.addresses,
        size,
        planes,
        -(-height // down),
        -(-width // across),
        pixel,
        height * width * pixel,
        down * width * pixel,
        across * pixel,
        hashes,
    )
    return hashes


@entry
def hash_lattices(
    addresses: np.ndarray,
    size: int,
    planes: int,
    rows: int,
    columns: int,
    length: int,
    plane_step: int,
    row_step: int,
    column_step: int,
    hashes: np.ndarray,
) -> None:
    """Hash `length` bytes at each point of a lattice of bytes, and what follows them up to a whole word.

    Parameters
    ----------
    addresses : uint64 (N,)
    size : int, bytes of an image
    planes, rows, columns : int, points of the lattice
    length : int, bytes
    plane_step, row_step, column_step : int, bytes from one point to the next
    hashes : uint64 (N,); overwritten
    """
    each = -(-length // 8)
    points = planes * rows * columns
    in_place = points == 1 and size % (8 * _LANES) == 0
    words = empty(-(-points * each // _LANES) * _LANES, np.uint64)
    for w in range(points * each, words.size):
        words[w] = np.uint64(0)
    for i in range(addresses.size):
        if in_place and addresses[i] % np.uint64(8) == 0:
            hashes[i] = hash_words(array_at(addresses[i], size // 8, np.uint64), np.uint64(size))
            continue
        filled = 0
        ahead = addresses[smaller(i + 1, addresses.size - 1)]
        for plane in range(planes):
            for row in range(rows):
                start = plane * plane_step + row * row_step
                prefetch(ahead + np.uint64(start), columns * column_step)
                for _ in range(columns):
                    for word in range(each):
                        words[filled] = word_at(addresses[i], start + 8 * word, size)
                        filled += 1
                    start += column_step
        hashes[i] = hash_words(words, np.uint64(size))


@kernel
def word_at(address: np.uint64, start: int, size: int) -> np.uint64:
    """The eight bytes from `start`, or the last eight of `size`, or all bytes if they are fewer."""
    if size >= 8:
        return array_at(address + np.uint64(smaller(start, size - 8)), 1, np.uint64)[0]  # type: ignore[no-any-return]
    source = array_at(address, size, np.uint8)
    word = np.uint64(0)
    for b in range(size):
        word |= np.uint64(source[b]) << np.uint64(8 * b)
    return word


@allocating
def hash_words(words: np.ndarray, seed: np.uint64) -> np.uint64:
    """Running hashes side by side, then folded into one; every bit of every word counts.

    Thirty-two of them: the next four vectors are begun before the first multiplication has ended.

    Parameters
    ----------
    words : uint64 (LANES * n,)
    seed : uint64
    """
    lanes = empty(_LANES, np.uint64)
    for lane in range(_LANES):
        lanes[lane] = seed + np.uint64(lane) * _PRIME_3
    for w in range(0, words.size, _LANES):
        block = run(words, w, w + _LANES)
        for lane in range(_LANES):
            mixed = lanes[lane] ^ block[lane]
            lanes[lane] = (mixed & _LOWER) * _PRIME_32 + (mixed >> np.uint64(32))
    for lane in range(4):  # first, or a change here and the same four lanes on would be one
        lanes[lane] *= _PRIME_2
    for lane in range(4, _LANES):
        mixed = (lanes[lane - 4] ^ lanes[lane]) * _PRIME_1
        lanes[lane] = mixed ^ (mixed >> np.uint64(32))
    result = seed ^ _PRIME_3
    for lane in range(_LANES - 4, _LANES):
        result = (result ^ lanes[lane]) * _PRIME_1
        result ^= result >> np.uint64(29)
        result *= _PRIME_2
        result ^= result >> np.uint64(32)
    return result
