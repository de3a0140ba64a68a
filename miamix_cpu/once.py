"""Warnings that are issued once, across all processes that make batches."""

from __future__ import annotations

import os
import time
import warnings
import zlib
from typing import Any

import numpy as np

from miamix_cpu.checks import callers_level

_SLOTS = 4093  # a prime; with about ten topics, two rarely share a slot
_SETTLES = 0.01  # seconds; between reading and writing a slot, about a microsecond passes


class Once:
    """Remembers which warnings were issued, in memory that a parent process shares with its workers.

    Parameters
    ----------
    shared : bool
        If False, each process and each copy sent to another process warns separately, and torch is not imported.
    """

    def __init__(self, *, shared: bool = True) -> None:
        self._shared = shared_integers(_SLOTS) if shared else None
        self._open()

    def _open(self) -> None:
        self._told: set[str] = set()
        self._slots = None if self._shared is None else as_integers(self._shared)

    def __getstate__(self) -> dict[str, Any]:
        return {"_shared": self._shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._shared = state["_shared"]
        share(self._shared)
        self._open()

    def __deepcopy__(self, memo: Any) -> Once:
        return self

    def warn(self, topic: str, words: str, category: type[Warning] = UserWarning) -> None:
        """Warn, unless a process or thread has already warned about this topic."""
        if topic in self._told:
            return
        self._told.add(topic)
        if self._is_first(topic):
            warnings.warn(words, category, stacklevel=callers_level())

    def _is_first(self, topic: str) -> bool:
        """Whether no other process has warned about this topic yet."""
        if self._slots is None:
            return True
        slot = zlib.crc32(topic.encode()) % _SLOTS
        if self._slots[slot]:
            return False
        # The last process to write warns. No lock would be shared by all start methods and copies.
        mine = int.from_bytes(os.urandom(7), "little") + 1
        self._slots[slot] = mine
        time.sleep(_SETTLES)
        return bool(self._slots[slot] == mine)


def shared_integers(n: int) -> Any:
    """`n` int64 zeros: a tensor in memory shared with workers, or a plain array if torch is not installed."""
    try:
        import torch
    except ImportError:
        return np.zeros(n, dtype=np.int64)
    return share(torch.from_numpy(np.zeros(n, dtype=np.int64)))


def as_integers(shared: Any) -> np.ndarray:
    """A NumPy view of `shared_integers`: accessing an element of a tensor takes ten times as long."""
    array: np.ndarray = shared if isinstance(shared, np.ndarray) else shared.numpy()
    return array


def share(values: Any) -> Any:
    """Move a tensor that was made here or restored from a plain pickle into shared memory.

    Otherwise torch would move it when a worker is started. The copy uses one thread: with several, a process that was
    forked from one with a running thread pool would wait forever for threads that it does not have.
    """
    if hasattr(values, "share_memory_") and not values.is_shared():
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            values.share_memory_()
        finally:
            torch.set_num_threads(threads)
    return values
