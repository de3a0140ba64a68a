"""Shared memory that a worker lends to its parent, batch after batch, and uses again when it comes back.

torch makes fresh shared memory for every batch, whose pages must be found and zeroed (as dear as mixing), and hands
it over by a thread of the worker that has to be awake for each of several messages. Here the memory comes back, and the
parent opens the worker's file through /proc by itself as soon as it has shown that it can. Nothing has a name that
could be left behind, and /dev/shm, which containers keep small, is not used.
"""

from __future__ import annotations

import gc
import mmap
import os
import threading
import time
import weakref
from functools import cache
from itertools import count
from multiprocessing import reduction
from typing import Any, Self

import numpy as np
import torch

# Bytes behind a piece, written by its parent and read by the worker: how often it was taken and given back, and whether
# its file was opened through /proc.
_TAKEN, _RETURNED, _REACHED = range(3)
_NOTES = 3
_LOANS = 255  # of a piece at a time, counted in a byte
_DYING = 0.1  # seconds until a worker that was killed is known to be dead: DataLoader asks, and says so
_RECENT = 64  # a piece not used for so many tensors is let go, unless it is on its way or in use in the worker

#: Process, file descriptor, bytes, what the file is known by, and multiprocessing's way to it where that is needed.
Address = tuple[int, int, int, tuple[int, int], Any]


class Piece:
    """A piece of shared memory, in the worker that makes it.

    Parameters
    ----------
    size : int
        Bytes.

    Raises
    ------
    OSError
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0  # when, as the lender counts
        self._file = os.memfd_create("miamix_cpu")
        weakref.finalize(self, os.close, self._file).atexit = False  # a thread may be lending it still
        os.ftruncate(self._file, size + _NOTES)
        self._memory = mmap.mmap(self._file, size + _NOTES)
        self.start = np.frombuffer(self._memory, np.uint8).ctypes.data
        status = os.fstat(self._file)
        self._known_by = (status.st_dev, status.st_ino)
        self._lent = 0
        self._array: Any = lambda: None

    def note(self, which: int) -> int:
        """One of the bytes behind it."""
        return self._memory[self.size + which]

    @property
    def on_its_way(self) -> bool:
        """Whether the parent has yet to take it."""
        return self._lent > self.note(_TAKEN)

    @property
    def in_use(self) -> bool:
        """Whether a tensor of this process looks at it."""
        return self._array() is not None

    @property
    def idle(self) -> bool:
        """Whether no tensor looks at it, here or in the parent."""
        return not self.in_use and self._lent == self.note(_RETURNED)

    def tensor(self, size: int) -> torch.Tensor:
        """Its first `size` bytes, uint8 (size,); it must be idle."""
        self._lent = self._memory[self.size + _TAKEN] = self._memory[self.size + _RETURNED] = 0
        array = np.frombuffer(self._memory, np.uint8, size)
        self._array = weakref.ref(array)
        return torch.from_numpy(array)

    def lend(self, by_hand: bool) -> Address | None:
        """What `take` needs; None where it can't be lent once more.

        Parameters
        ----------
        by_hand : bool, the file is handed over, for the parent may not be able to open it
        """
        if self._lent == _LOANS:
            return None
        handed = reduction.DupFd(self._file) if by_hand else None
        self._lent += 1
        return os.getpid(), self._file, self.size, self._known_by, handed


class Lender:
    """A worker's pieces of shared memory."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._lock = threading.Lock()  # tensors are made in one thread and sent by another
        self._uses = count(1)
        self._reached = False

    def tensor(self, size: int) -> torch.Tensor | None:
        """Memory to lend, uint8 (size,), with anything in it; None where the system knows no such memory.

        Raises
        ------
        OSError
            Where it has no more files, or no more memory.
        """
        with self._lock:
            now = next(self._uses)
            self._pieces = [piece for piece in self._pieces if _kept(piece, now)]
            # Much larger ones would be kept from larger tensors by whoever keeps a small one.
            fitting = [piece for piece in self._pieces if piece.idle and size <= piece.size <= 2 * size]
            if not fitting:
                try:
                    fitting = [self._new(size)]
                except AttributeError:  # not Linux
                    return None
                self._pieces += fitting
            piece = max(fitting, key=lambda piece: piece.used)
            piece.used = now
            return piece.tensor(size)

    def _new(self, size: int) -> Piece:
        """A new piece; where the system has no more, those that are idle are let go first."""
        try:
            return Piece(size)
        except OSError:
            self._pieces = [piece for piece in self._pieces if not piece.idle]
            gc.collect()
        return Piece(size)

    def lend(self, start: int) -> Address | None:
        """Lend the piece whose memory begins at `start`; None where there is none, or it can't be lent once more."""
        with self._lock:
            self._reached = self._reached or any(piece.note(_REACHED) for piece in self._pieces)
            return next((piece.lend(not self._reached) for piece in self._pieces if piece.start == start), None)


def _kept(piece: Piece, now: int) -> bool:
    """Whether a lender has still to do with a piece."""
    return piece.on_its_way or piece.in_use or now - piece.used <= _RECENT


@cache
def lender_of(process: int) -> Lender:
    """The lender of this process, whose number is `process`."""
    return Lender()


class _Forks:
    """Forks of this process; several threads may be at it."""

    def __init__(self) -> None:
        self.begun = 0
        self.under_way: list[bool] = []
        self._numbers = count(1)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._begin, after_in_parent=self.under_way.pop, after_in_child=self.under_way.clear
            )

    def _begin(self) -> None:
        self.under_way.append(True)
        self.begun = next(self._numbers)


_forks = _Forks()


class _Taken(mmap.mmap):
    """A worker's memory in the parent; it goes back when the last tensor that looks at it is gone.

    Not where a process has been forked meanwhile: that one has it too, and tells nobody when it is done with it.
    """

    _taken_after: int | None = None  # so many forks had begun; None during one, and where it could not be opened

    def __new__(cls, file: int, size: int) -> Self:
        begun = _forks.begun
        taken_after = None if _forks.under_way else begun
        memory = super().__new__(cls, file, size + _NOTES)
        memory._taken_after = taken_after
        memory[size + _TAKEN] += 1
        return memory

    # Bound here, for modules are emptied when Python ends.
    def __del__(self, forks: _Forks = _forks, place: int = _RETURNED - _NOTES) -> None:
        if self._taken_after == forks.begun:
            self[len(self) + place] += 1


def take(address: Address) -> mmap.mmap:
    """The memory at a worker's `address`; it is given back when nothing refers to it.

    Raises
    ------
    OSError, EOFError
        Where the worker is gone, or no more files can be opened.
    """
    try:
        file, reached = _file_at(address)
    except (OSError, EOFError):
        time.sleep(_DYING)
        raise
    size = address[2]
    try:
        memory = _Taken(file, size)
    finally:
        os.close(file)
    memory[size + _REACHED] = reached
    return memory


def _file_at(address: Address) -> tuple[int, bool]:
    """A descriptor of a worker's file, and whether it can be had through /proc."""
    handed = address[-1]
    if handed is None:
        return _open(address), True
    file = handed.detach()
    try:
        os.close(_open(address))
    except OSError:
        return file, False
    return file, True


def _open(address: Address) -> int:
    """A descriptor of a worker's file, through /proc."""
    process, descriptor, _, known_by, _ = address
    file = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR)
    status = os.fstat(file)
    if (status.st_dev, status.st_ino) != known_by:
        os.close(file)
        raise FileNotFoundError(f"process {process} has another file at {descriptor} than the one that it lent")
    return file
