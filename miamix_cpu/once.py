"""Warnings that are given once, by one of all processes that make batches."""

from __future__ import annotations

import os
import time
import warnings
import zlib
from typing import Any

import numpy as np

from miamix_cpu.checks import callers_level

_SLOTS = 4093  # a prime; some ten topics hardly ever meet in one
_SETTLES = 0.01  # seconds; between reading a slot and writing it passes a millionth


class Once:
    """What was warned of, in memory that a parent shares with its workers.

    Parameters
    ----------
    shared : bool
        False: each process, and each copy that is sent to one, warns for itself, and torch is not imported.
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
        """Warn, unless there was a warning of this topic before, in whatever process or thread."""
        if topic in self._told:
            return
        self._told.add(topic)
        if self._is_first(topic):
            warnings.warn(words, category, stacklevel=callers_level())

    def _is_first(self, topic: str) -> bool:
        """Whether no other process was before."""
        if self._slots is None:
            return True
        slot = zlib.crc32(topic.encode()) % _SLOTS
        if self._slots[slot]:
            return False
        # Whoever wrote last warns: there is no lock that all start methods and copies would share.
        mine = int.from_bytes(os.urandom(7), "little") + 1
        self._slots[slot] = mine
        time.sleep(_SETTLES)
        return bool(self._slots[slot] == mine)


def shared_integers(n: int) -> Any:
    """`n` integers, 0, that workers see change: a shared tensor where there is torch, else an array."""
    try:
        import torch
    except ImportError:
        return np.zeros(n, dtype=np.int64)
    return share(torch.from_numpy(np.zeros(n, dtype=np.int64)))


def as_integers(shared: Any) -> np.ndarray:
    """`shared_integers` as an array that looks at them: of a tensor each would cost ten times as much."""
    array: np.ndarray = shared if isinstance(shared, np.ndarray) else shared.numpy()
    return array


def share(values: Any) -> Any:
    """Share what was made here, or what a plain pickle has brought: torch would move it when a worker is started.

    By one thread: torch copies by several, for which a process waits for ever that was forked from one that had them.
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
