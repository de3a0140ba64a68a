"""The epoch: what somebody has told, and counted on from there by passes over a loader.

torch tells a collate function neither the epoch nor that a new one has begun. But whoever is called by a DataLoader
finds its fetcher among the callers, which is new with each pass, in persistent workers too; and all workers of a pass
have the same base seed. So the first of them to make a batch writes that pass down, in memory that all share.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import weakref
import zlib
from multiprocessing import current_process, get_start_method, parent_process
from typing import Any

import numpy as np

from miamix_cpu.once import as_integers, share, shared_integers

_FETCH_MODULE = "torch.utils.data._utils.fetch"
_NEAREST_CALLERS = 24
_BLOCKS = 8  # of rows, by process and type of dataset
_PASSES = 32  # that are remembered in a block
_WORKERS = 64  # whose process is remembered
_TOLD, _EPOCH, _CURRENT, _HEAD = range(4)  # how often the epoch was told, that epoch, the last batch's; their number
#: Columns of a pass: who asks for it, what its dataset is known by, what it is known by, when it was written down, its
#: epoch, how often the epoch had been told; then, by worker, the process that it was.
_LOADER, _LENGTH, _IDENTITY, _PASS, _SERIAL, _OF, _TOLD_AT, _PROCESS = range(8)
_COLUMNS = _PROCESS + _WORKERS

_counters: weakref.WeakSet[EpochCounter] = weakref.WeakSet()


class EpochCounter:
    """The epoch, in memory that a parent shares with its workers, live persistent ones included.

    `set` says what the next pass over a loader is, as `EpochSampler.set_epoch` does; each further pass is the epoch
    after it. Loaders are counted apart, by their process and the type and length of their dataset. A process that is
    no worker but has loaders of its own (`torch.multiprocessing.spawn`) has an epoch of its own.

    Parameters
    ----------
    slots : int
        Further integers that are shared alike.
    """

    def __init__(self, slots: int = 0) -> None:
        self._size = _HEAD + _BLOCKS * (1 + _PASSES * _COLUMNS)
        self._shared = shared_integers(self._size + slots)
        self._owner = os.getpid()
        self._open()

    def _open(self) -> None:
        share(self._shared)
        values = as_integers(self._shared)
        self._head, blocks = values[:_HEAD], values[_HEAD : self._size].reshape(_BLOCKS, -1)
        self._counts, self._table = blocks[:, 0], blocks[:, 1:].reshape(_BLOCKS, _PASSES, _COLUMNS)
        self.slots: np.ndarray = values[self._size :]
        self._known: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()
        self._local = threading.local()  # workers may be threads
        _counters.add(self)

    def __getstate__(self) -> dict[str, Any]:
        self.part()
        return {"_shared": self._shared, "_owner": self._owner, "_size": self._size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __deepcopy__(self, memo: Any) -> EpochCounter:
        """A copied loader is in the same epoch as the one that its owner goes on telling."""
        return self

    def part(self) -> None:
        """Leave the memory of the process that made the counter, where this one has loaders of its own.

        It must be done before workers are started, which share what there is then.
        """
        if self._owner != os.getpid() and _worker_info() is None:
            values = as_integers(self._shared)
            self._shared = shared_integers(len(values))
            as_integers(self._shared)[:] = values
            self._owner = os.getpid()
            self._open()

    @property
    def current(self) -> int:
        """The epoch that was told last, or that of the last pass."""
        return int(self._head[_CURRENT])

    @current.setter
    def current(self, epoch: int) -> None:
        self._head[_CURRENT] = epoch

    @property
    def is_told(self) -> bool:
        """Whether anybody has told it."""
        return bool(self._head[_TOLD])

    def set(self, epoch: int) -> None:
        """Say what the next pass is."""
        self.part()
        self._head[_EPOCH] = self._head[_CURRENT] = epoch
        self._head[_TOLD] += 1

    def epoch_of(self, fetcher: Any) -> tuple[int, bool]:
        """The epoch of a batch that `fetcher`, or None, asks for, and whether its pass is only now known here."""
        self.part()
        if fetcher is None:
            return self.current, False
        known, is_new = self._known.get(fetcher), False
        if known is None:
            known, is_new = self._write_down(fetcher), True
            self._known[fetcher] = known
        epoch, told_at = known
        # Told in the middle of a pass, it counts at once.
        return (epoch if told_at == self._head[_TOLD] else int(self._head[_EPOCH])), is_new

    def _write_down(self, fetcher: Any) -> tuple[int, int]:
        loader, length, identity, passed, worker = self._identify(fetcher)
        # Read first, then looked for: workers of the same pass that come at the same time write the same row.
        block = loader % _BLOCKS
        serial, told = int(self._counts[block]), int(self._head[_TOLD])
        rows = self._table[block]
        alike = (rows[:, _LENGTH] == length) | ((rows[:, _IDENTITY] == identity) & (identity != 0))
        own = np.flatnonzero((rows[:, _LOADER] == loader) & alike)
        # torch may be seeded alike before each pass. A worker that is another process than then is of a later one.
        for again in range(_PASSES):
            known_by = zlib.crc32(b"%d %d" % (passed, again)) + 1
            for place in own[rows[own, _PASS] == known_by]:
                if worker is None or rows[place, _PROCESS + worker] in (0, os.getpid()):
                    if worker is not None:
                        rows[place, _PROCESS + worker] = os.getpid()
                    return int(rows[place, _OF]), int(rows[place, _TOLD_AT])
            if not (rows[own, _PASS] == known_by).any():
                break
        last = rows[own[rows[own, _SERIAL].argmax()]] if len(own) else None
        epoch = int(self._head[_EPOCH]) if last is None or last[_TOLD_AT] != told else int(last[_OF]) + 1
        row = rows[serial % _PASSES]
        if row[_PASS] != known_by:
            row[_PROCESS:] = 0
        row[:_PROCESS] = loader, length, identity, known_by, serial, epoch, told
        if worker is not None:
            row[_PROCESS + worker] = os.getpid()
        self._counts[block] = serial + 1
        return epoch, told

    def _identify(self, fetcher: Any) -> tuple[int, int, int, int, int | None]:
        """A pass's first columns, alike in all of its workers; and which worker this is, if it is a process."""
        process, begun = getattr(self._local, "begun", (0, 0))
        begun = begun + 1 if process == os.getpid() else 1
        self._local.begun = os.getpid(), begun
        dataset: Any = getattr(fetcher, "dataset", None)
        info, parent = _worker_info(), parent_process()
        is_process = info is not None and parent is not None
        main = parent.pid if is_process and parent is not None else os.getpid()
        loader = zlib.crc32(f"{main} {type(dataset).__qualname__}".encode()) + 1
        # In a forked process a dataset lies where it lay, elsewhere it does not. The method is asked for in workers
        # alone: in the main process the answer would be settled by it.
        is_here = main == os.getpid()
        if not is_here:
            is_here = (getattr(current_process(), "_start_method", None) or get_start_method()) == "fork"
        if info is None:
            passed = random.SystemRandom().getrandbits(62)
        else:
            passed = zlib.crc32(f"{info.seed - info.id} {begun}".encode())
        worker = info.id if is_process and info.id < _WORKERS else None
        return loader, length_of(dataset), id(dataset) if is_here else 0, passed, worker


def _part_all() -> None:
    for counter in list(_counters):
        counter.part()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_part_all)


def length_of(dataset: Any) -> int:
    """The number of a dataset's items; -1 where it has none, or does not tell."""
    try:
        return len(dataset)
    except Exception:
        return -1


def _worker_info() -> Any:
    torch = sys.modules.get("torch")
    return None if torch is None else torch.utils.data.get_worker_info()


def current_fetcher() -> Any:
    """The DataLoader's fetcher that asks for this batch, or None.

    It is the one thing that is new with each pass over a loader, in workers that live on too, and torch hands it to
    nobody; so it is looked for among the callers. Where a later torch calls it otherwise, passes are not counted.
    """
    frame = sys._getframe(1)
    for _ in range(_NEAREST_CALLERS):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        if frame.f_code.co_name == "fetch" and frame.f_globals.get("__name__") == _FETCH_MODULE:
            return frame.f_locals.get("self")
    return None
