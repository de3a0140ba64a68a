"""Mixing schedules by epoch, and samplers that pass the epoch along with each index."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from miamix_cpu.checks import callers_level, check_integer, check_real, short


@dataclass(frozen=True, kw_only=True)
class MixSchedule:
    """The probability that a sample is mixed, by epoch: it can start late, ramp up and switch off.

    The epoch is set by `set_epoch` or an `EpochSampler`; otherwise it is the number of the pass over the loader.

    Parameters
    ----------
    start : int
        The first epoch with mixing.
    ramp : int
        The number of epochs, from `start` on, during which the probability rises linearly. Epoch `start + ramp` is
        the first with the full probability.
    off : int or None
        The first epoch without mixing again; None for never. It corresponds to timm's `mixup_off_epoch`, where 0 means
        never: `off=args.mixup_off_epoch or None`.
    probability : float in [0, 1]
        The value after the ramp.

    Warns
    -----
    UserWarning
        If nothing is ever mixed because `off` is not after `start`.

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
                zero = ". In timm, 0 means never: use off=args.mixup_off_epoch or None" if self.off == 0 else ""
                warnings.warn(
                    f"MixSchedule(start={self.start}, off={self.off}) never mixes, because mixing stops at epoch off: "
                    f"off must be above start, or None to mix until the end{zero}",
                    stacklevel=callers_level(),
                )
        check_real("probability", self.probability, high=1.0)

    @property
    def varies(self) -> bool:
        """Whether the probability depends on the epoch."""
        return self.probability > 0 and (self.start > 0 or self.ramp > 0 or self.off is not None)

    def probability_at(self, epoch: int) -> float:
        """Return the probability in `epoch`."""
        if epoch < self.start or (self.off is not None and epoch >= self.off):
            return 0.0
        return self.probability * min(1.0, (epoch - self.start + 1) / (self.ramp + 1))


class IndexedSample(NamedTuple):
    """A sample with the epoch, the index and the draw number under which it was requested."""

    epoch: int
    index: Any
    sample: Any
    draw: int = 0


_INDEXED_OUTSIDE = (
    "got {} from an EpochSampler, but only an Indexed dataset accepts it. Wrap the dataset, Indexed(dataset). If "
    "another dataset selects or joins samples, wrap that one, Indexed(Subset(dataset, ...)), "
    "Indexed(ConcatDataset(...)). Only TwoViews goes around Indexed: TwoViews(Indexed(dataset), transform)"
)


@dataclass(frozen=True, slots=True)
class EpochIndex:
    """An index with its epoch, as yielded by `EpochSampler`.

    It is not a tuple, because arrays and tensors would interpret a tuple as one index per axis.

    Attributes
    ----------
    epoch : int
    index : object
        The index that the wrapped sampler yielded.
    draw : int
        The number of earlier draws n of the index in the epoch; with an EpochSampler for several replicas,
        `rank + num_replicas * n`, which differs between them.
    """

    epoch: int
    index: Any
    draw: int = 0

    def __index__(self) -> NoReturn:
        """Raise TypeError with the remedy: a dataset used the object as a number."""
        raise TypeError(_INDEXED_OUTSIDE.format(self))

    def __lt__(self, other: Any) -> NoReturn:
        """Raise TypeError, as `__index__` does."""
        raise TypeError(_INDEXED_OUTSIDE.format(self))

    __gt__ = __le__ = __ge__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __lt__
    __floordiv__ = __rfloordiv__ = __truediv__ = __mod__ = __rmod__ = __lt__
    __int__ = __hash__ = __index__

    def __format__(self, specification: str) -> str:
        """Format as text; raise TypeError for a format specification, as for a number."""
        if specification:
            raise TypeError(_INDEXED_OUTSIDE.format(self))
        return repr(self)


class EpochSampler:
    """Wrap a sampler so that each index carries its epoch and draw number, as an `EpochIndex`.

    With an `Indexed` dataset, the collator then needs no `set_epoch`, and a sample that is drawn several times in an
    epoch (weighted sampling, repeated augmentation) gets different views each time. Each `iter` starts the next epoch.
    `set_epoch` selects which one; Lightning and others call it automatically, also when they resume.

    Draws are counted from the start of the epoch. To resume within an epoch, skip indices that this sampler yields, as
    Accelerate, Hugging Face's Trainer and torchdata do, instead of starting at a later index.

    Parameters
    ----------
    sampler : iterable of indices
        If it has a `set_epoch` (like DistributedSampler), that is called at each `iter`.
    epoch : int
        The first epoch.
    rank, num_replicas : int
        The index of this process and the number of processes, if several may draw the same index (timm's
        RepeatAugSampler, or a weighted sampler in each process). Each process then numbers its draws differently.

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
        """Set the epoch that the next `iter` starts."""
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
    "EpochSampler needs a sampler of single indices, got {}, which yields lists: put the EpochSampler inside, "
    "BatchSampler(EpochSampler(sampler), batch_size, drop_last)"
)


class Indexed:
    """Wrap a map-style dataset so that, with an `EpochSampler`, each sample carries its epoch, index and draw number.

    Parameters
    ----------
    dataset : map-style dataset
        `Subset` and `ConcatDataset` go inside `Indexed`. `TwoViews` goes around it and then gets the epoch too:
        `TwoViews(Indexed(dataset), transform)`.
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
                "an Indexed dataset needs the indices of an EpochSampler, DataLoader(dataset, "
                f"sampler=EpochSampler(...)), got {short(key)}: the loader has another sampler. A framework may have "
                "replaced it, as Lightning's overfit_batches and use_distributed_sampler do"
            )
        return IndexedSample(int(key.epoch), key.index, self.dataset[key.index], key.draw)


def probability_of(schedule: MixSchedule | None, epoch: int) -> float:
    """Return the schedule's probability in `epoch`; 1 without a schedule."""
    return 1.0 if schedule is None else schedule.probability_at(epoch)
