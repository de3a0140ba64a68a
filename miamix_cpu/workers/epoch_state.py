"""The epoch of a collator's batches, and those of its batches that came before, in memory that processes share."""

from __future__ import annotations

import weakref
from typing import Any

from torch.utils.data import get_worker_info

from miamix_cpu.once import Once
from miamix_cpu.workers.passes import EpochCounter, current_fetcher, length_of

_BATCHES = 1024  # an epoch's first batches, whose keys are remembered
_SLOTS = 2 * _BATCHES  # open addressing
_MANY_TIMES = 4  # that a sampler may draw each sample in an epoch
_LEFT_OVER = 3  # batches a worker may still make for a loop that was left early: two are prefetched, one is begun

#: How the epoch of a batch came to be known, and what to do where the same batch comes twice in it.
_TOLD, _TRAVELS, _COUNTED = "told", "travels with the samples", "counted"
_CALL_IT = "call collate.set_epoch(epoch) before each epoch's iter(loader)"
_HASH_IT = "let what tells its samples apart be hashed, by index_key= or an EpochSampler with an Indexed dataset"
_REMEDIES = {
    None: f"{_CALL_IT}, or shuffle",
    _TOLD: f"{_CALL_IT}, another one each time. Where samples are equal, in the same order, {_HASH_IT}",
    _TRAVELS: "its EpochSampler has begun this epoch again, so call its set_epoch(epoch) before iter(loader)",
    _COUNTED: f"its samples are equal, in the same order, so {_HASH_IT}; or torch was seeded alike before each pass "
    f"over the loader, so that passes can't be counted, then {_CALL_IT}",
}


class EpochState:
    """The epoch, and what must be known of it across processes, in memory that the parent shares with its workers.

    State set in the parent after workers have started does not reach persistent workers; shared memory does, under
    every start method.

    Parameters
    ----------
    once : Once
        By which it warns.
    """

    def __init__(self, once: Once | None = None) -> None:
        self._counter = EpochCounter(_SLOTS)  # with the keys of the epoch's first batches
        self._once = once or Once()
        self._open()

    def _open(self) -> None:
        self._fetcher: Any = lambda: None
        self._began_in = self._strays = self._made = 0  # that fetcher's first epoch, its batches in others, its samples
        self._stray = False
        self._known_by: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_counter": self._counter, "_once": self._once}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
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
        return self._counter.current

    @property
    def is_known(self) -> bool:
        """Whether the last batch's epoch was told or counted."""
        return self._known_by is not None

    @property
    def is_counted(self) -> bool:
        """Whether a DataLoader asked for the last batch, so that each pass over it is an epoch."""
        return self._known_by == _COUNTED

    def set(self, epoch: int) -> None:
        """Begin `epoch`."""
        before = self.epoch
        self._counter.set(epoch)
        if epoch != before:
            self._counter.slots[:] = 0

    def begin(self, travelling: int | None = None) -> int:
        """A batch begins here; return its epoch. Warn once where the loop over the loader began in another one.

        A persistent worker also finishes what it had prefetched for a loop that was left early, and torch throws it
        away: so many batches of another epoch are no fault.

        Parameters
        ----------
        travelling : int or None
            The epoch that travels with the samples, which nobody else has to tell.
        """
        self._stray = False
        if travelling is not None:
            self._known_by = _TRAVELS
            self._move_to(travelling)
            return travelling
        fetcher = current_fetcher()
        epoch, is_new = self._counter.epoch_of(fetcher)
        self._known_by = _TOLD if self._counter.is_told else None if fetcher is None else _COUNTED
        if is_new:
            self._move_to(epoch)
        if fetcher is None:
            return epoch
        if fetcher is not self._fetcher():
            self._fetcher, self._began_in, self._strays, self._made = weakref.ref(fetcher), epoch, 0, 0
        if epoch != self._began_in:
            self._stray = True
            self._strays += 1
            if self._strays > (0 if get_worker_info() is None else _LEFT_OVER):
                self._once.warn(
                    "the epoch changed",
                    f"the epoch changed from {self._began_in} to {epoch} in the middle of a loop over the loader: "
                    "workers prefetch at once, so call collate.set_epoch(epoch) before iter(loader)",
                )
        return epoch

    def is_endless(self, samples: int) -> bool:
        """Whether one pass over the loader has given far more samples than there are, this batch's among them."""
        fetcher = self._fetcher()
        if self._known_by != _COUNTED or fetcher is None:
            return False
        self._made += samples
        info = get_worker_info()
        length = length_of(fetcher.dataset)
        return 0 < _MANY_TIMES * length < self._made * (1 if info is None else info.num_workers)

    def _move_to(self, epoch: int) -> None:
        if epoch != self.epoch:
            self._counter.current = epoch
            self._counter.slots[:] = 0

    def remember(self, key: bytes) -> None:
        """Warn once where a batch of this epoch had the same key, in whatever process."""
        if self._stray:
            return
        number, seen = int.from_bytes(key[:8], "little", signed=True) or 1, self._counter.slots
        for probe in range(8):
            slot = (number + probe) % _SLOTS
            if seen[slot] == 0:
                seen[slot] = number
                return
            if seen[slot] == number:
                self._once.warn(
                    "a batch came twice",
                    f"the same batch came twice in epoch {self.epoch}, so its mix and views repeat: "
                    f"{_REMEDIES[self._known_by]}",
                )
                return
