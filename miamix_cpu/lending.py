"""Shared memory that a worker lends to its parent, batch after batch, and uses again when it comes back.

torch makes fresh shared memory for every batch, whose pages must be found and zeroed (as dear as mixing), and hands
it over by a thread of the worker that has to be awake for each of several messages. Here the memory comes back, and the
parent opens the worker's file through /proc by itself as soon as it has shown that it can. Nothing has a name that
could be left behind, and /dev/shm, which containers keep small, is not used.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from functools import cache
from multiprocessing import reduction
from typing import Any, Self

import numpy as np
import torch

# The first byte after a piece of memory: who has it, the worker, the parent or nobody, or that its time is over.
_MADE, _LENT, _TAKEN, _RETURNED, _SPOILT = range(5)
_NOTES = 2  # bytes after a piece; the second is 1 once its parent has opened its file through /proc
_TAKEN_AT_MOST = 8  # pieces that the parent keeps, each a file descriptor or two; older ones are left to it

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
        self._file = os.memfd_create("miamix_cpu")
        self._closing = weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, size + _NOTES)
        self._memory = mmap.mmap(self._file, size + _NOTES)
        self.start = np.frombuffer(self._memory, np.uint8).ctypes.data
        self._array: Any = lambda: None

    @property
    def state(self) -> int:
        """Who has it."""
        return self._memory[self.size]

    @property
    def reached(self) -> bool:
        """Whether the parent can open it by itself."""
        return bool(self._memory[self.size + 1])

    @property
    def idle(self) -> bool:
        """Whether no tensor looks at it, here or in the parent."""
        return self._array() is None and self.state in (_MADE, _RETURNED)

    def tensor(self, size: int) -> torch.Tensor:
        """Its first `size` bytes, uint8 (size,)."""
        array = np.frombuffer(self._memory, np.uint8, size)
        self._array, self._memory[self.size] = weakref.ref(array), _MADE
        return torch.from_numpy(array)

    def lend(self, by_hand: bool) -> Address | None:
        """What `take` needs; None where it has been lent before.

        Parameters
        ----------
        by_hand : bool, the file is handed over, for the parent may not be able to open it
        """
        if self.state != _MADE:
            return None
        self._memory[self.size] = _LENT
        status = os.fstat(self._file)
        handed = reduction.DupFd(self._file) if by_hand else None
        return os.getpid(), self._file, self.size, (status.st_dev, status.st_ino), handed


class Lender:
    """A worker's pieces of shared memory."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._lock = threading.Lock()
        self._reached = False

    def tensor(self, size: int) -> torch.Tensor | None:
        """Memory to lend, uint8 (size,), with anything in it; None where the system gives none."""
        with self._lock:
            self._pieces = [piece for piece in self._pieces if piece.state != _SPOILT]
            idle = sorted((piece for piece in self._pieces if piece.idle), key=lambda piece: piece.size)
            fitting = [piece for piece in idle if piece.size >= size]
            if fitting:
                return fitting[0].tensor(size)
            taken = [piece for piece in self._pieces if piece.state == _TAKEN]
            for piece in idle[-1:] + taken[:-_TAKEN_AT_MOST]:
                self._pieces.remove(piece)
            try:
                self._pieces.append(Piece(size))
            except (AttributeError, OSError):  # not Linux; no more files
                return None
            return self._pieces[-1].tensor(size)

    def lend(self, start: int) -> Address | None:
        """Lend the piece whose memory begins at `start`; None where there is none, or it has been lent before."""
        self._reached = self._reached or any(piece.reached for piece in self._pieces)
        return next((piece.lend(not self._reached) for piece in self._pieces if piece.start == start), None)


@cache
def lender_of(process: int) -> Lender:
    """The lender of this process, whose number is `process`."""
    return Lender()


class _Taken(mmap.mmap):
    """A worker's memory in the parent; it goes back when the last tensor that looks at it is gone."""

    _forks = 0
    _before: int

    def __new__(cls, file: int, size: int) -> Self:
        memory = super().__new__(cls, file, size + _NOTES)
        memory._before = cls._forks
        memory[size] = _TAKEN
        return memory

    def __del__(self) -> None:
        # A process forked meanwhile has the memory too, and tells nobody when it is done with it.
        self[len(self) - _NOTES] = _RETURNED if self._before == self._forks else _SPOILT


def _forking() -> None:
    _Taken._forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forking)


def take(address: Address) -> mmap.mmap:
    """The memory at a worker's `address`; it is given back when nothing refers to it.

    Raises
    ------
    OSError
        Where it is not there any more.
    """
    *_, size, _, handed = address
    if handed is None:
        file, reached = _open(address), True
    else:
        file, reached = handed.detach(), True
        try:
            os.close(_open(address))
        except OSError:
            reached = False
    try:
        memory = _Taken(file, size)
    finally:
        os.close(file)
    memory[size + 1] = reached
    return memory


def _open(address: Address) -> int:
    """A descriptor of a worker's file, through /proc."""
    process, descriptor, _, known_by, _ = address
    file = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR)
    status = os.fstat(file)
    if (status.st_dev, status.st_ino) != known_by:
        os.close(file)
        raise FileNotFoundError(f"process {process} has another file at {descriptor} than the one that it lent")
    return file
