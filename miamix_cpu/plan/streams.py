"""From a batch to its generators: a batch is a pure function of (seed, epoch, its samples).

A collate function sees neither the batch's number nor the samples' indices, and generators that live in a worker make
results depend on the number of workers. So a batch is keyed by its content, and the key gives two streams, one for the
plan and one for the views: changing the transform never changes the mix.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

PLAN, VIEWS = 0, 1

# A process has one of each global generator, and threads may share a transform, so views are made one at a time.
_VIEWS_LOCK = threading.RLock()


def views_lock() -> Any:
    """Held by the thread of this process that makes views."""
    return _VIEWS_LOCK


def _renew_lock() -> None:
    """A forked worker has none of the threads that may have held it."""
    global _VIEWS_LOCK
    _VIEWS_LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


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


class _Digest(ISeedSequence):
    """256 bits of a cryptographic hash, from which PCG64 takes its state: no stream overlaps another."""

    def __init__(self, key: bytes, which: int) -> None:
        digest = hashlib.blake2b(key, digest_size=32, person=b"stream %d" % which).digest()
        self.words = np.frombuffer(digest, dtype="<u8")

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> np.ndarray:
        return self.words[:n_words].astype(dtype, copy=False)


def stream(key: bytes, which: int) -> np.random.Generator:
    """One of the key's two independent streams, PLAN or VIEWS."""
    return np.random.Generator(np.random.PCG64(_Digest(key, which)))  # type: ignore[arg-type]


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


@contextmanager
def seeded_globals(rng: np.random.Generator) -> Iterator[None]:
    """Seed `random`, `numpy.random` and torch's CPU generator from `rng`, and restore them afterwards.

    OpenCV's is seeded too, which would else give the same in all workers; its state can't be read, so it stays so.

    So transforms that draw from them, torchvision's among them, are keyed by the batch, and their states are the same
    before and after. torch's CUDA generators are left alone. What a thread that is none of ours draws meanwhile changes
    the results, and is drawn again afterwards.
    """
    torch = sys.modules.get("torch")
    cv2 = sys.modules.get("cv2")
    seeds = rng.integers(0, 1 << 32, size=3)
    state, numpy_state = random.getstate(), np.random.get_state(legacy=False)
    torch_state = torch.default_generator.get_state() if torch else None
    try:
        random.seed(int(seeds[0]))
        np.random.seed(int(seeds[1]))
        if torch:
            torch.default_generator.manual_seed(int(seeds[2]))
        if cv2 is not None and hasattr(cv2, "setRNGSeed"):
            cv2.setRNGSeed(int(seeds[0]) >> 1)
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        if torch:
            torch.default_generator.set_state(torch_state)
