"""The epoch of a collator and the keys of batches already made in it, in memory that processes share."""

from __future__ import annotations

import weakref
from typing import Any

from torch.utils.data import get_worker_info

from miamix_cpu.once import Once
from miamix_cpu.workers.passes import EpochCounter, current_fetcher, length_of

_BATCHES = 1024  # at the start of an epoch, whose keys are recorded
_SLOTS = 2 * _BATCHES  # of a hash table with open addressing
_MANY_TIMES = 4  # how often a sampler may draw each sample in an epoch
_LEFT_OVER = 3  # batches a worker may still make after a loop was left early: two prefetched, one in progress

#: How the epoch of a batch is known, and the remedy if the same batch comes twice in it.
_TOLD, _TRAVELS, _COUNTED = "told", "travels with the samples", "counted"
_CALL_IT = "call collate.set_epoch(epoch) before each epoch's iter(loader)"
_HASH_IT = "identify the samples with index_key=, or use an EpochSampler with an Indexed dataset"
_REMEDIES = {
    None: f"{_CALL_IT}, or shuffle",
    _TOLD: f"{_CALL_IT}, with a new epoch each time. If the samples are equal and in the same order, {_HASH_IT}",
    _TRAVELS: "the EpochSampler has started this epoch again, so call its set_epoch(epoch) before iter(loader)",
    _COUNTED: f"if the samples are equal and in the same order, {_HASH_IT}. If torch was seeded with the same number "
    f"before each pass over the loader, passes can't be counted: {_CALL_IT}",
}


class EpochState:
    """The epoch and related state, in memory that the parent shares with its workers.

    Attributes set in the parent after workers have started do not reach persistent workers. Values in shared memory do,
    with every start method.

    Parameters
    ----------
    once : Once
        Issues the warnings.
    """

    def __init__(self, once: Once | None = None) -> None:
        self._counter = EpochCounter(_SLOTS)  # its slots hold the keys of the epoch's first batches
        self._once = once or Once()
        self._open()

    def _open(self) -> None:
        self._fetcher: Any = lambda: None
        self._began_in = self._strays = self._made = 0  # of that fetcher: first epoch, batches in others, samples
        self._stray = False
        self._known_by: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_counter": self._counter, "_once": self._once}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __deepcopy__(self, memo: Any) -> EpochState:
        """Share the epoch with the copy: a copied loader must follow `set_epoch` calls on the original collator."""
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
        """Whether the last batch's epoch was set, carried by its samples, or counted."""
        return self._known_by is not None

    @property
    def is_counted(self) -> bool:
        """Whether the last batch's epoch was counted by passes over a DataLoader."""
        return self._known_by == _COUNTED

    def set(self, epoch: int) -> None:
        """Start `epoch`."""
        before = self.epoch
        self._counter.set(epoch)
        if epoch != before:
            self._counter.slots[:] = 0

    def begin(self, travelling: int | None = None) -> int:
        """Start a batch and return its epoch. Warn once if the epoch changed during the loop over the loader.

        A persistent worker also finishes batches that it prefetched for a loop that was left early, and torch discards
        them. So there is no warning about the first `_LEFT_OVER` batches in another epoch.

        Parameters
        ----------
        travelling : int or None
            The epoch carried by the samples, if any; it then does not have to be set or counted.
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
                    "workers prefetch immediately, so call collate.set_epoch(epoch) before iter(loader)",
                )
        return epoch

    def is_endless(self, samples: int) -> bool:
        """Whether this pass over the loader, with this batch, has returned far more samples than the dataset has."""
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
        """Record a batch's key; warn once if any process has already made a batch with this key in this epoch."""
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
