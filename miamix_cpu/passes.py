"""Which pass over a loader asks for a batch: an epoch that nobody has to tell.

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
from multiprocessing import parent_process
from typing import Any

from miamix_cpu.once import as_integers, share, shared_integers

_FETCH_MODULE = "torch.utils.data._utils.fetch"
_NEAREST_CALLERS = 24
_BLOCKS = 64  # loaders, by a hash of what is known of them
_PASSES = 64  # of a loader, that are remembered
_LOADER, _PASS, _NUMBER = range(3)  # columns


class Passes:
    """Counts the passes over each loader, in memory that a parent shares with its workers."""

    def __init__(self) -> None:
        self._rows = shared_integers(_BLOCKS * (_PASSES * 3 + 1))
        self._open()

    def _open(self) -> None:
        share(self._rows)
        values = as_integers(self._rows).reshape(_BLOCKS, -1)
        self._counts, self._table = values[:, 0], values[:, 1:].reshape(_BLOCKS, _PASSES, 3)
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._local = threading.local()  # workers may be threads

    def __getstate__(self) -> dict[str, Any]:
        return {"_rows": self._rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._rows = state["_rows"]
        self._open()

    def number(self, fetcher: Any) -> tuple[int, bool]:
        """The number of the pass, from 0, that a fetcher belongs to, and whether it is only now known here."""
        number = self._known.get(fetcher)
        if number is not None:
            return number, False
        number = self._known[fetcher] = self._write_down(*self._identify(fetcher))
        return number, True

    def _identify(self, fetcher: Any) -> tuple[int, int]:
        """A loader's number and a pass's, alike in all workers of the pass."""
        process, begun = getattr(self._local, "begun", (0, 0))
        begun = begun + 1 if process == os.getpid() else 1
        self._local.begun = os.getpid(), begun
        dataset: Any = getattr(fetcher, "dataset", None)
        info, parent = _worker_info(), parent_process()
        length = len(dataset) if hasattr(type(dataset), "__len__") else -1
        main = os.getpid() if info is None or parent is None else parent.pid
        loader = zlib.crc32(f"{main} {type(dataset).__qualname__} {length}".encode()) + 1
        if info is None:
            return loader, random.SystemRandom().getrandbits(62) + 1
        return loader, zlib.crc32(f"{info.seed - info.id} {begun}".encode()) + 1

    def _write_down(self, loader: int, passed: int) -> int:
        # Read first, then looked for: workers of the same pass that come at the same time write the same row.
        block = loader % _BLOCKS
        count = int(self._counts[block])
        rows = self._table[block]
        own = rows[rows[:, _LOADER] == loader]
        found = own[own[:, _PASS] == passed]
        if len(found):
            return int(found[0, _NUMBER])
        number = int(own[:, _NUMBER].max()) + 1 if len(own) else 0
        rows[count % _PASSES] = loader, passed, number
        self._counts[block] = count + 1
        return number


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
