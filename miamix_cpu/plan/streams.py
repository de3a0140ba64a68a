"""From a batch to its generators: a batch is a pure function of (seed, epoch, its samples).

A collate function sees neither the batch's number nor the samples' indices, and generators that live in a worker make
results depend on the number of workers. So a batch is keyed by its content, and the key gives two streams, one for the
plan and one for the views: changing the transform never changes the mix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

PLAN, VIEWS = 0, 1


def fingerprint_of(parts: Sequence[bytes]) -> bytes:
    """What makes up a batch, in one: each part with its length, so that none runs into the next."""
    return b"".join([b"|%d:%b" % (len(part), part) for part in parts])


def batch_key(seed: int, epoch: int, fingerprint: bytes) -> bytes:
    """A 128-bit digest of (seed, epoch, fingerprint): 16 bytes.

    Parameters
    ----------
    seed, epoch : int
    fingerprint : bytes, from `fingerprint_of`
    """
    return hashlib.blake2b(b"%d,%d" % (seed, epoch) + fingerprint, digest_size=16, person=b"miamix_cpu").digest()


def samples_digest(fingerprint: bytes) -> bytes:
    """A 128-bit digest of the fingerprint alone: 16 bytes, whatever the seed and the epoch."""
    return hashlib.blake2b(fingerprint, digest_size=16, person=b"samples").digest()


class _Digest(np.random.SeedSequence):
    """256 bits of a cryptographic hash, from which PCG64 takes its state: no stream overlaps another."""

    def __init__(self, key: bytes, which: int) -> None:
        digest = hashlib.blake2b(key, digest_size=32, person=b"stream %d" % which).digest()
        self.words = np.frombuffer(digest, dtype="<u8")

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> np.ndarray:
        return self.words[:n_words].astype(dtype, copy=False)


def stream(key: bytes, which: int) -> np.random.Generator:
    """One of the key's two independent streams, PLAN or VIEWS."""
    return np.random.Generator(np.random.PCG64(_Digest(key, which)))


def index_bytes(index: Any, sample: int) -> bytes:
    """A dataset's index or key in a form of its own: 3, np.int64(3) and tensor(3) alike, "3" not.

    Raises
    ------
    TypeError
        Naming the sample, where the key is no integer, string, bytes, or tuple of them.
    """
    if getattr(index, "ndim", None) == 0 and hasattr(index, "item"):
        index = index.item()
    if isinstance(index, Integral):
        return b"i%d" % int(index)
    if isinstance(index, str):
        return b"s" + index.encode(errors="surrogatepass")
    if isinstance(index, bytes):
        return b"b" + index
    if isinstance(index, (tuple, list)):
        parts = [index_bytes(part, sample) for part in index]
        return b"(" + b",".join(b"%d:%b" % (len(part), part) for part in parts) + b")"
    raise TypeError(f"the index of sample {sample} must be an integer, a string or bytes, got {type(index).__name__}")
