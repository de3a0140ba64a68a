"""Schedules by epoch, and samplers that carry the epoch along with the index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from miamix_cpu.checks import check_integer, check_real


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
        Its own `set_epoch` (DistributedSampler) is called at each `iter`.
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

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        for index in self.sampler:
            yield epoch, index


class Indexed:
    """A map-style dataset asked by `EpochSampler`: gives each sample with its epoch and index.

    Parameters
    ----------
    dataset : map-style dataset
        `TwoViews` goes around it, `TwoViews(Indexed(dataset), transform)`, and then sees the epoch too.
    """

    def __init__(self, dataset: Any) -> None:
        if getattr(dataset, "draws_views", False):
            raise TypeError("Indexed must be inside TwoViews, which needs the epoch: TwoViews(Indexed(dataset), ...)")
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
