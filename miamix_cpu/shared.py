"""The epoch in memory that a parent shares with its workers, live persistent ones included."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from torch.utils.data import get_worker_info

_BATCHES = 1024  # an epoch's first batches, whose keys are remembered
_SLOTS = 2 * _BATCHES  # open addressing
_WORKERS = 64


class EpochState:
    """The epoch, and what must be known of it across processes, in memory that the parent shares with its workers.

    State set in the parent after workers have started does not reach persistent workers; shared memory does, under
    every start method.
    """

    def __init__(self) -> None:
        # Layout: epoch, three flags, one slot a worker, the keys of the epoch's first batches.
        self._shared = torch.zeros(4 + _WORKERS + _SLOTS, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._open()

    def _open(self) -> None:
        values = self._shared.numpy()
        self._head, self._busy, self._seen = values[:4], values[4 : 4 + _WORKERS], values[4 + _WORKERS :]

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
        """Begin `epoch`; warn once where a worker is in the middle of a batch."""
        if epoch == self.epoch:
            return
        self._head[0] = epoch
        self._seen[:] = 0
        if any(_is_alive(int(pid)) for pid in self._busy[self._busy > 0] if pid != os.getpid()):
            self._warn_late()

    def begin(self) -> int:
        """A batch begins here; return its epoch."""
        info = get_worker_info()
        if info is not None:
            self._busy[info.id % _WORKERS] = os.getpid()
        return self.epoch

    def end(self, epoch: int) -> None:
        """A batch that began in `epoch` ends here."""
        info = get_worker_info()
        if info is not None:
            self._busy[info.id % _WORKERS] = 0
        if epoch != self.epoch:
            self._warn_late()

    def remember(self, key: bytes) -> None:
        """Warn once where a batch of this epoch had the same key, in whatever process."""
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

    def _warn_late(self) -> None:
        self.warn(
            2,
            "the epoch changed while a batch was being made: workers prefetch at once, so call "
            "collate.set_epoch(epoch) before iter(loader); harmless if the loop over the last epoch was left early",
        )

    def warn(self, flag: int, words: str) -> None:
        """Warn once among all processes."""
        if not self._head[flag]:
            self._head[flag] = 1
            warnings.warn(words, stacklevel=5)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
