"""The epoch in memory that a parent shares with its workers, live persistent ones included."""

from __future__ import annotations

import os
import sys
import time
import warnings
import weakref
from typing import Any

import torch
from torch.utils.data import get_worker_info

_BATCHES = 1024  # an epoch's first batches, whose keys are remembered
_SLOTS = 2 * _BATCHES  # open addressing
_NEAREST_CALLERS = 12
_LEFT_OVER = 3  # batches a worker may still make for a loop that was left early: two are prefetched, one is begun
_SETTLES = 0.01  # seconds; between reading a flag and writing it passes a millionth


class EpochState:
    """The epoch, and what must be known of it across processes, in memory that the parent shares with its workers.

    State set in the parent after workers have started does not reach persistent workers; shared memory does, under
    every start method.
    """

    def __init__(self) -> None:
        # Layout: epoch, three flags, the keys of the epoch's first batches.
        self._shared = torch.zeros(4 + _SLOTS, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._open()

    def _open(self) -> None:
        values = self._shared.numpy()
        self._head, self._seen = values[:4], values[4:]
        self._fetcher: Any = lambda: None
        self._began_in = self._strays = 0  # the epoch of that fetcher's first batch, and how many it made in others
        self._stray = False

    def __getstate__(self) -> dict[str, Any]:
        return {"_shared": self._shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A plain pickle or a deep copy brings a copy of its own; torch would move it when a worker is started, and
        # the arrays below would look at freed memory.
        self._shared = state["_shared"].share_memory_()
        self._open()

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return int(self._head[0])

    def set(self, epoch: int) -> None:
        """Begin `epoch`."""
        if epoch != self.epoch:
            self._head[0] = epoch
            self._seen[:] = 0

    def begin(self) -> int:
        """A batch begins here; return its epoch. Warn once where the loop over the loader began in another one.

        A persistent worker also finishes what it had prefetched for a loop that was left early, and torch throws it
        away: so many batches of another epoch are no fault.
        """
        epoch = self.epoch
        fetcher = _fetcher()
        if fetcher is not None and fetcher is not self._fetcher():
            self._fetcher, self._began_in, self._strays = weakref.ref(fetcher), epoch, 0
        self._stray = fetcher is not None and epoch != self._began_in
        if self._stray:
            self._strays += 1
            if self._strays > (0 if get_worker_info() is None else _LEFT_OVER):
                self.warn(
                    2,
                    f"the epoch changed from {self._began_in} to {epoch} in the middle of a loop over the loader: "
                    "workers prefetch at once, so call collate.set_epoch(epoch) before iter(loader)",
                )
        return epoch

    def remember(self, key: bytes) -> None:
        """Warn once where a batch of this epoch had the same key, in whatever process."""
        if self._stray:
            return
        number = int.from_bytes(key[:8], "little", signed=True) or 1
        for probe in range(8):
            slot = (number + probe) % _SLOTS
            if self._seen[slot] == 0:
                self._seen[slot] = number
                return
            if self._seen[slot] == number:
                self.warn(
                    1,
                    f"the same batch came twice in epoch {self.epoch}, so its mix and views repeat: call "
                    "collate.set_epoch(epoch) before each epoch's iter(loader), or shuffle",
                )
                return

    def warn(self, flag: int, words: str) -> None:
        """Warn once among all processes and threads."""
        if self._head[flag]:
            return
        # Whoever wrote last warns: there is no lock that all start methods and copies would share.
        mine = int.from_bytes(os.urandom(7), "little") + 1
        self._head[flag] = mine
        time.sleep(_SETTLES)
        if self._head[flag] == mine:
            warnings.warn(words, stacklevel=_callers_level())


def _callers_level() -> int:
    """The `stacklevel`, for `warn`, of the nearest caller outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("miamix_cpu."):
        level, frame = level + 1, frame.f_back
    return level


def _fetcher() -> Any:
    """The DataLoader's fetcher that asks for this batch, or None.

    It is the one thing that is new with each loop over a loader, in workers that live on too, and torch hands it to
    nobody; so it is looked for among the callers.
    """
    frame = sys._getframe(1)
    for _ in range(_NEAREST_CALLERS):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        if frame.f_code.co_name == "fetch" and frame.f_globals.get("__name__") == _FETCH_MODULE:
            return frame.f_locals.get("self")
    return None


_FETCH_MODULE = "torch.utils.data._utils.fetch"
