"""Epochs: what the parent says, and live workers see; schedules; samplers that carry the epoch along."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import get_worker_info

from miamix_cpu.checks import check_integer, check_real

_BATCHES = 1024  # an epoch's first batches, whose keys are remembered
_SLOTS = 2 * _BATCHES  # open addressing
_WORKERS = 64


@dataclass(frozen=True, kw_only=True)
class MixSchedule:
    """Each sample's probability of being mixed, by epoch: start plainly, ramp up, switch off.

    Parameters
    ----------
    start : int
        The first epoch with mixing.
    ramp : int
        The number of epochs, from `start` on, over which the probability rises linearly before it is reached.
    off : int or None
        The first epoch without mixing again (timm's `mixup_off_epoch`).
    probability : float in [0, 1]

    Examples
    --------
    >>> schedule = MixSchedule(start=1, ramp=1, off=4)
    >>> [schedule.probability_at(epoch) for epoch in range(5)]
    [0.0, 0.5, 1.0, 1.0, 0.0]
    """

    start: int = 0
    ramp: int = 0
    off: int | None = None
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_integer("start", self.start, low=0)
        check_integer("ramp", self.ramp, low=0)
        if self.off is not None:
            check_integer("off", self.off, low=0)
        check_real("probability", self.probability, high=1.0)

    def probability_at(self, epoch: int) -> float:
        """The probability in `epoch`."""
        if epoch < self.start or (self.off is not None and epoch >= self.off):
            return 0.0
        return self.probability * min(1.0, (epoch - self.start + 1) / (self.ramp + 1))


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
        self._shared = state["_shared"]
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
            "the epoch changed while batches were being made: workers prefetch at once, so call "
            "collate.set_epoch(epoch) before iter(loader)",
        )

    def warn(self, flag: int, words: str) -> None:
        """Warn once among all processes."""
        if not self._head[flag]:
            self._head[flag] = 1
            warnings.warn(words, stacklevel=5)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class IndexedSample(NamedTuple):
    """A sample with the epoch and the index that it was asked for by."""

    epoch: int
    index: Any
    sample: Any


class EpochSampler:
    """Wraps a sampler so that the epoch travels with each index: `(epoch, index)`.

    With an `Indexed` dataset the collator then needs no `set_epoch`. Each `iter` begins the next epoch;
    `set_epoch`, which Lightning and others call by themselves, also on resuming, says which one.

    Parameters
    ----------
    sampler : iterable of indices
        Its own `set_epoch` (DistributedSampler) is called too.
    epoch : int
        The first.

    Examples
    --------
    >>> sampler = EpochSampler(range(2))
    >>> list(sampler), list(sampler)
    ([(0, 0), (0, 1)], [(1, 0), (1, 1)])
    """

    def __init__(self, sampler: Iterable[Any], *, epoch: int = 0) -> None:
        self.sampler = sampler
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next `iter` begins."""
        self.epoch = epoch
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        for index in self.sampler:
            yield epoch, index


class Indexed:
    """A map-style dataset asked by `EpochSampler`: gives each sample with its epoch and index.

    Parameters
    ----------
    dataset : map-style dataset
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> IndexedSample:
        if not (isinstance(key, tuple) and len(key) == 2):
            raise TypeError(f"Indexed must be asked by an EpochSampler for (epoch, index), got {key!r}")
        epoch, index = key
        return IndexedSample(int(epoch), index, self.dataset[index])


def probability_of(schedule: MixSchedule | None, epoch: int) -> float:
    """The schedule's probability in `epoch`; 1 without a schedule."""
    return 1.0 if schedule is None else schedule.probability_at(epoch)
