"""Schedules by epoch, and samplers that carry the epoch along with the index."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from miamix_cpu.checks import callers_level, check_integer, check_real, short


@dataclass(frozen=True, kw_only=True)
class MixSchedule:
    """Each sample's probability of being mixed, by epoch: start plainly, ramp up, switch off.

    The epoch is the one that `set_epoch` or an `EpochSampler` tells, else the number of the pass over the loader.

    Parameters
    ----------
    start : int
        The first epoch with mixing.
    ramp : int
        The number of epochs, from `start` on, over which the probability rises linearly before it is reached.
    off : int or None
        The first epoch without mixing again, None for never. It is timm's `mixup_off_epoch`, where 0 means never:
        `off=args.mixup_off_epoch or None`.
    probability : float in [0, 1]

    Warns
    -----
    UserWarning
        Where nothing would ever be mixed, because `off` comes before `start` is reached.

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
            if self.off <= self.start:
                zero = ": 0 means never in timm, off=args.mixup_off_epoch or None" if self.off == 0 else ""
                warnings.warn(
                    f"MixSchedule(start={self.start}, off={self.off}) never mixes, for off is the first epoch without "
                    f"mixing again{zero}",
                    stacklevel=callers_level(),
                )
        check_real("probability", self.probability, high=1.0)

    @property
    def varies(self) -> bool:
        """Whether the probability depends on the epoch."""
        return self.probability > 0 and (self.start > 0 or self.ramp > 0 or self.off is not None)

    def probability_at(self, epoch: int) -> float:
        """The probability in `epoch`."""
        if epoch < self.start or (self.off is not None and epoch >= self.off):
            return 0.0
        return self.probability * min(1.0, (epoch - self.start + 1) / (self.ramp + 1))


class IndexedSample(NamedTuple):
    """A sample with what it was asked for by: the epoch, the index, and the number of its draw in the epoch."""

    epoch: int
    index: Any
    sample: Any
    draw: int = 0


_INDEXED_OUTSIDE = (
    "got {} from an EpochSampler, which only an Indexed dataset understands: put it on the outside, Indexed(dataset), "
    "and "
    "around whatever selects or joins samples, Indexed(Subset(dataset, ...)), Indexed(ConcatDataset(...)); only "
    "TwoViews "
    "goes around it, TwoViews(Indexed(dataset), transform)"
)


@dataclass(frozen=True, slots=True)
class EpochIndex:
    """What an EpochSampler yields: an index that knows its epoch.

    It is no tuple, since arrays and tensors would take one for indices of several axes.

    Attributes
    ----------
    epoch : int
    index : the sampler's
    draw : int
        How often the index was drawn before in the epoch.
    """

    epoch: int
    index: Any
    draw: int = 0

    def __index__(self) -> NoReturn:
        """Say what is wrong where a dataset takes it for a number."""
        raise TypeError(_INDEXED_OUTSIDE.format(self))

    def __lt__(self, other: Any) -> NoReturn:
        """The same."""
        raise TypeError(_INDEXED_OUTSIDE.format(self))

    __gt__ = __le__ = __ge__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __lt__
    __floordiv__ = __rfloordiv__ = __truediv__ = __mod__ = __rmod__ = __lt__
    __int__ = __hash__ = __index__

    def __format__(self, specification: str) -> str:
        """As text, but not as a number."""
        if specification:
            raise TypeError(_INDEXED_OUTSIDE.format(self))
        return repr(self)


class EpochSampler:
    """Wraps a sampler so that the epoch travels with each index, and how often it was drawn in the epoch: `EpochIndex`.

    With an `Indexed` dataset the collator then needs no `set_epoch`, and a sample that is drawn several times in an
    epoch (weighted sampling, repeated augmentation) has views of its own each time. Each `iter` begins the next epoch;
    `set_epoch`, which Lightning and others call by themselves, also on resuming, says which one.

    Draws are counted from the beginning of the epoch: whoever resumes in the middle of one must skip what this sampler
    yields, as Accelerate, Hugging Face's Trainer and torchdata do, not begin with a later index.

    Parameters
    ----------
    sampler : iterable of indices
        Its own `set_epoch` (DistributedSampler) is called at each `iter`.
    epoch : int
        The first.
    rank, num_replicas : int
        For several processes that may draw the same index (timm's RepeatAugSampler, a weighted sampler in each): which
        one this is, and how many there are. Draws are then numbered differently in each of them.

    Examples
    --------
    >>> sampler = EpochSampler([7, 7])
    >>> list(sampler)
    [EpochIndex(epoch=0, index=7, draw=0), EpochIndex(epoch=0, index=7, draw=1)]
    >>> next(iter(sampler))
    EpochIndex(epoch=1, index=7, draw=0)
    """

    def __init__(self, sampler: Iterable[Any], *, epoch: int = 0, rank: int = 0, num_replicas: int = 1) -> None:
        torch_data = sys.modules.get("torch.utils.data")
        if torch_data is not None and isinstance(sampler, torch_data.BatchSampler):
            raise TypeError(_NO_BATCHES.format(type(sampler).__name__))
        self.sampler = sampler
        self.epoch = epoch
        self.num_replicas = check_integer("num_replicas", num_replicas, low=1)
        self.rank = check_integer("rank", rank, low=0)
        if rank >= num_replicas:
            raise ValueError(f"rank must be below num_replicas={num_replicas}, got {rank}")

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next `iter` begins."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[EpochIndex]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        drawn: dict[Any, int] = {}
        for index in self.sampler:
            if isinstance(index, list) or getattr(index, "ndim", 0) > 0:
                raise TypeError(_NO_BATCHES.format(type(self.sampler).__name__))
            number = index.item() if getattr(index, "ndim", None) == 0 and hasattr(index, "item") else index
            draw = drawn.get(number, self.rank)
            drawn[number] = draw + self.num_replicas
            yield EpochIndex(epoch, index, draw)


_NO_BATCHES = (
    "EpochSampler needs a sampler of single indices, got {}, which gives lists: put it inside, "
    "BatchSampler(EpochSampler(sampler), batch_size, drop_last)"
)


class Indexed:
    """A map-style dataset asked by `EpochSampler`: gives each sample with its epoch, index and draw.

    Parameters
    ----------
    dataset : map-style dataset
        `TwoViews` goes around it, `TwoViews(Indexed(dataset), transform)`, and then sees the epoch too; `Subset` and
        `ConcatDataset` go inside.
    """

    def __init__(self, dataset: Any) -> None:
        if getattr(dataset, "draws_views", False):
            raise TypeError("Indexed must be inside TwoViews, which needs the epoch: TwoViews(Indexed(dataset), ...)")
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> IndexedSample:
        if not isinstance(key, EpochIndex):
            raise TypeError(
                "Indexed must be asked by an EpochSampler, DataLoader(dataset, sampler=EpochSampler(...)), got "
                f"{short(key)}: the loader has another sampler, perhaps one that a framework put in its place "
                "(Lightning's overfit_batches and use_distributed_sampler do)"
            )
        return IndexedSample(int(key.epoch), key.index, self.dataset[key.index], key.draw)


def probability_of(schedule: MixSchedule | None, epoch: int) -> float:
    """The schedule's probability in `epoch`; 1 without a schedule."""
    return 1.0 if schedule is None else schedule.probability_at(epoch)
