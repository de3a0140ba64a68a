"""What a batch is: a digest of its images, labels and keys, from which its random streams are made.

Images up to 16 KiB are hashed whole; larger ones on a 2-D lattice of at least 1,024 pixels with all channels. Never on
a flat stride: on photographs with white borders that hits the same border again and again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from miamix_cpu.compile import entry, kernel
from miamix_cpu.gather import array_at, gather

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
    images : uint8 or float32 arrays (H, W) or (H, W, C), or (C, H, W) where `planar`; shapes may differ
    planar : bool

    Returns
    -------
    uint64 (N,)
    """
    first = images[0]
    if all(image.shape == first.shape and image.dtype == first.dtype for image in images):
        return _hash_alike(images, planar)
    return np.concatenate([_hash_alike([image], planar) for image in images])


def _hash_alike(images: Sequence[np.ndarray], planar: bool) -> np.ndarray:
    shape, dtype = images[0].shape, images[0].dtype
    values = math.prod(shape)
    hashes = np.empty(len(images), dtype=np.uint64)
    step = 1
    if values * dtype.itemsize > _WHOLE_UP_TO:
        height, width = shape[-2:] if planar else shape[:2]
        # ceil(H / s) * ceil(W / s) >= 1024 for any sides.
        step = max(1, math.isqrt(height * width // _LATTICE_PIXELS))
        if step > 1 or not all(image.flags.c_contiguous for image in images):
            images = [np.ascontiguousarray(image[..., ::step, ::step] if planar else image[::step, ::step])
                      for image in images]  # fmt: skip
    gathered = gather(images)
    hash_bytes_of(gathered.addresses, images[0].nbytes, hashes)
    return hashes


@entry
def hash_bytes_of(addresses: np.ndarray, size: int, hashes: np.ndarray) -> None:
    """Hash the `size` bytes at each of `addresses`.

    Parameters
    ----------
    addresses : uint64 (N,)
    size : int, bytes
    hashes : uint64 (N,); overwritten
    """
    like = np.empty(0, np.uint8)
    # Copied to where eight bytes are one aligned word; the end is padded with zeros.
    words = np.zeros((size + 63) // 64 * 8, np.uint64)
    buffer = words.view(np.uint8)
    for i in range(addresses.size):
        buffer[:size] = array_at(addresses[i], size, like)
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
