"""The epoch in memory that a parent shares with its workers, live persistent ones included."""

from __future__ import annotations

import os
import weakref
from typing import Any

import torch
from torch.utils.data import get_worker_info

from miamix_cpu.once import Once
from miamix_cpu.passes import Passes, current_fetcher

_BATCHES = 1024  # an epoch's first batches, whose keys are remembered
_SLOTS = 2 * _BATCHES  # open addressing
_LEFT_OVER = 3  # batches a worker may still make for a loop that was left early: two are prefetched, one is begun
_EPOCH, _TOLD = range(2)

#: How the epoch of a batch came to be known, and what to do where the same batch comes twice in it.
_TOLD_BY_CALL, _TOLD_BY_SAMPLES, _COUNTED = "set_epoch", "the samples", "counted"
_CALL_IT = "call collate.set_epoch(epoch) before each epoch's iter(loader)"
_REMEDIES = {
    None: f"{_CALL_IT}, or shuffle",
    _TOLD_BY_CALL: f"{_CALL_IT}, or shuffle",
    _TOLD_BY_SAMPLES: "its EpochSampler has begun this epoch again, so call its set_epoch(epoch) before iter(loader)",
    _COUNTED: "its samples are equal, in the same order, so let what tells them apart be hashed, by index_key= or an "
    "EpochSampler with an Indexed dataset; or torch was seeded alike before each pass over the loader, so that passes "
    f"can't be counted, then {_CALL_IT}",
}


class EpochState:
    """The epoch, and what must be known of it across processes, in memory that the parent shares with its workers.

    State set in the parent after workers have started does not reach persistent workers; shared memory does, under
    every start method. Until somebody tells the epoch, it is the number of the pass over the loader.

    Parameters
    ----------
    once : Once
        By which it warns.
    """

    def __init__(self, once: Once | None = None) -> None:
        # Layout: the epoch, whether it was told, the keys of the epoch's first batches.
        self._shared = torch.zeros(2 + _SLOTS, dtype=torch.int64, device="cpu").share_memory_()  # type: ignore[no-untyped-call]
        self._passes = Passes()
        self._once = once or Once()
        self._owner = os.getpid()
        self._open()

    def _open(self) -> None:
        values = self._shared.numpy()
        self._head, self._seen = values[:2], values[2:]
        self._fetcher: Any = lambda: None
        self._known_by: str | None
        self._began_in = self._strays = 0  # the epoch of that fetcher's first batch, and how many it made in others
        self._stray, self._known_by = False, None

    def __getstate__(self) -> dict[str, Any]:
        names = ("_shared", "_passes", "_once", "_owner")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # A plain pickle brings a copy of its own; torch would move it when a worker is started, and the arrays below
        # would look at freed memory.
        self._shared.share_memory_()
        self._open()

    def __deepcopy__(self, memo: Any) -> EpochState:
        """A copied loader is in the same epoch as the collator that its owner goes on calling."""
        copied = EpochState.__new__(EpochState)
        copied.__dict__.update(self.__getstate__())
        copied._open()
        return copied

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return int(self._head[_EPOCH])

    @property
    def is_known(self) -> bool:
        """Whether the last batch's epoch was told or counted."""
        return self._known_by is not None

    def set(self, epoch: int) -> None:
        """Begin `epoch`."""
        if self._owner != os.getpid():  # one of several processes that train, each with workers of its own
            self._shared = self._shared.clone().share_memory_()
            self._owner = os.getpid()
            self._open()
        self._head[_TOLD] = 1
        if epoch != self.epoch:
            self._begin(epoch)

    def _begin(self, epoch: int) -> None:
        self._head[_EPOCH] = epoch
        self._seen[:] = 0

    def begin(self, travelling: int | None = None) -> int:
        """A batch begins here; return its epoch. Warn once where the loop over the loader began in another one.

        A persistent worker also finishes what it had prefetched for a loop that was left early, and torch throws it
        away: so many batches of another epoch are no fault.

        Parameters
        ----------
        travelling : int or None
            The epoch that travels with the samples, which nobody else has to tell.
        """
        self._stray, self._known_by = False, _TOLD_BY_CALL if self._head[_TOLD] else None
        if travelling is not None:
            self._known_by = _TOLD_BY_SAMPLES
            if travelling != self.epoch:
                self._begin(travelling)
            return travelling
        fetcher, epoch = current_fetcher(), self.epoch
        if self._known_by is None and fetcher is not None:
            epoch, is_new = self._passes.number(fetcher)
            self._known_by = _COUNTED
            if is_new and epoch > self.epoch:
                self._begin(epoch)
        if fetcher is not None and fetcher is not self._fetcher():
            self._fetcher, self._began_in, self._strays = weakref.ref(fetcher), epoch, 0
        if fetcher is not None and epoch != self._began_in:
            self._stray = True
            self._strays += 1
            if self._strays > (0 if get_worker_info() is None else _LEFT_OVER):
                self._once.warn(
                    "the epoch changed",
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
                self._warn_of_a_repeated_batch()
                return

    def _warn_of_a_repeated_batch(self) -> None:
        self._once.warn(
            "a batch came twice",
            f"the same batch came twice in epoch {self.epoch}, so its mix and views repeat: "
            f"{_REMEDIES[self._known_by]}",
        )
