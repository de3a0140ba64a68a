"""Count epochs: an epoch can be set, and each further pass over a loader increments it.

torch does not tell a collate function the epoch, or that a new one has started. But code that a DataLoader calls can
find the loader's fetcher in the call stack. The fetcher is new in each pass, in persistent workers too, and all workers
of a pass have the same base seed. So the first worker that makes a batch records the pass in memory that all share.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import threading
import weakref
import zlib
from functools import cache
from multiprocessing import current_process, get_start_method, parent_process
from typing import Any

import numpy as np

from miamix_cpu.once import as_integers, share, shared_integers
from miamix_cpu.private_api import attempt

_FETCH_MODULE = "torch.utils.data._utils.fetch"
_NEAREST_CALLERS = 24
_BLOCKS = 8  # of rows; the block depends on the process and the type of the dataset
_PASSES = 32  # recorded in each block
_WORKERS = 64  # whose process ID is recorded
_TOLD, _EPOCH, _CURRENT, _HEAD = range(4)  # how often the epoch was set, its value then, the current epoch; size
#: Columns of a pass: a hash of the loader's process and dataset type, the dataset's length and identity, a hash of the
#: pass, its serial number, its epoch, how often the epoch had been set; then the process ID of each worker.
_LOADER, _LENGTH, _IDENTITY, _PASS, _SERIAL, _OF, _TOLD_AT, _PROCESS = range(8)
_COLUMNS = _PROCESS + _WORKERS

_counters: weakref.WeakSet[EpochCounter] = weakref.WeakSet()


class EpochCounter:
    """The epoch, in memory that a parent shares with its workers, including live persistent ones.

    `set` sets the epoch of the next pass over a loader, as `EpochSampler.set_epoch` does, and each further pass
    increments it. Passes are counted separately for loaders that differ in their process or in the type or length of
    their dataset. A process that is not a worker but has its own loaders (`torch.multiprocessing.spawn`) has its own
    epoch.

    Parameters
    ----------
    slots : int
        Number of additional shared integers.
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
        if "torch" in sys.modules:
            _fetchers_are_known()  # here, so that a warning comes from the main process and not from a worker
        _counters.add(self)

    def __getstate__(self) -> dict[str, Any]:
        self.part()
        return {"_shared": self._shared, "_owner": self._owner, "_size": self._size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __deepcopy__(self, memo: Any) -> EpochCounter:
        """Return the counter itself: a copied loader must follow `set_epoch` calls on the original."""
        return self

    def part(self) -> None:
        """Switch to separate memory if another process made the counter and this process is not a worker.

        This must happen before workers are started, because they share the memory that exists then.
        """
        if self._owner != os.getpid() and _worker_info() is None:
            values = as_integers(self._shared)
            self._shared = shared_integers(len(values))
            as_integers(self._shared)[:] = values
            self._owner = os.getpid()
            self._open()

    @property
    def current(self) -> int:
        """The epoch that was set last, or that of the last pass."""
        return int(self._head[_CURRENT])

    @current.setter
    def current(self, epoch: int) -> None:
        self._head[_CURRENT] = epoch

    @property
    def is_told(self) -> bool:
        """Whether the epoch was ever set."""
        return bool(self._head[_TOLD])

    def set(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self.part()
        self._head[_EPOCH] = self._head[_CURRENT] = epoch
        self._head[_TOLD] += 1

    def epoch_of(self, fetcher: Any) -> tuple[int, bool]:
        """Return the epoch of a batch requested by `fetcher` or None, and whether its pass is new in this process."""
        self.part()
        if fetcher is None:
            return self.current, False
        known, is_new = self._known.get(fetcher), False
        if known is None:
            known, is_new = self._write_down(fetcher), True
            self._known[fetcher] = known
        epoch, told_at = known
        # An epoch that is set during a pass applies immediately.
        return (epoch if told_at == self._head[_TOLD] else int(self._head[_EPOCH])), is_new

    def _write_down(self, fetcher: Any) -> tuple[int, int]:
        loader, length, identity, passed, worker = self._identify(fetcher)
        # Read the counters before the search: simultaneous workers of the same pass then write the same row.
        block = loader % _BLOCKS
        serial, told = int(self._counts[block]), int(self._head[_TOLD])
        rows = self._table[block]
        alike = (rows[:, _LENGTH] == length) | ((rows[:, _IDENTITY] == identity) & (identity != 0))
        own = np.flatnonzero((rows[:, _LOADER] == loader) & alike)
        # torch may get the same seed before each pass. A worker with another process ID then belongs to a later pass.
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
        """Return columns that identify a pass, equal in all its workers, and this worker's ID if it is a process."""
        process, begun = getattr(self._local, "begun", (0, 0))
        begun = begun + 1 if process == os.getpid() else 1
        self._local.begun = os.getpid(), begun
        dataset: Any = getattr(fetcher, "dataset", None)
        info, parent = _worker_info(), parent_process()
        is_process = info is not None and parent is not None
        main = parent.pid if is_process and parent is not None else os.getpid()
        loader = zlib.crc32(f"{main} {type(dataset).__qualname__}".encode()) + 1
        # Only in a forked process does the dataset keep its address. The start method is queried in workers only: in
        # the main process, the query would fix it.
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
    """Return the length of a dataset; -1 if it has none or `len` raises."""
    try:
        return len(dataset)
    except Exception:
        return -1


def _worker_info() -> Any:
    torch = sys.modules.get("torch")
    return None if torch is None else torch.utils.data.get_worker_info()


def current_fetcher() -> Any:
    """Return the DataLoader's fetcher that requests this batch, or None.

    It is the only object that is new in each pass over a loader, in persistent workers too. torch does not expose it,
    so it is taken from the call stack. If a later version of torch renames it, passes are not counted.
    """
    if "torch" not in sys.modules or not _fetchers_are_known():
        return None
    frame = sys._getframe(1)
    for _ in range(_NEAREST_CALLERS):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        if frame.f_code.co_name == "fetch" and frame.f_globals.get("__name__") == _FETCH_MODULE:
            return frame.f_locals.get("self")
    return None


@cache
def _fetchers_are_known() -> bool:
    """Whether torch has the fetchers that `current_fetcher` searches for."""

    def known() -> bool:
        fetchers = importlib.import_module(_FETCH_MODULE)
        return all(callable(kind.fetch) for kind in (fetchers._MapDatasetFetcher, fetchers._IterableDatasetFetcher))

    return attempt(
        "torch's DataLoader does not work as expected, so passes over it are not counted: call set_epoch(epoch) before "
        "each pass",
        known,
        lambda: False,
    )
