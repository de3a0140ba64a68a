"""Shared memory that a worker lends to its parent, batch after batch, and uses again when it comes back.

torch makes fresh shared memory for every batch, whose pages must be found and zeroed (as dear as mixing), and hands
it over by a thread of the worker that has to be awake for each of several messages. Here the parent opens the worker's
file through /proc by itself, and the memory's last byte says who has it. Nothing has a name that could be left behind.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from functools import cache
from typing import Any, Self

import numpy as np
import torch

# Who has a piece of memory, its last byte: the worker, the parent, or nobody; or it must not be used again.
_MADE, _LENT, _TAKEN, _RETURNED, _SPOILT = range(5)
_TAKEN_AT_MOST = 8  # pieces that the parent keeps, each a file descriptor or two; older ones are left to it

Address = tuple[int, int, int, tuple[int, int]]


class Piece:
    """A piece of shared memory, in the worker that makes it: `size` bytes, and one for who has it.

    Raises
    ------
    OSError
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._file = os.memfd_create("miamix_cpu")
        self._closing = weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, size + 1)
        self._memory = mmap.mmap(self._file, size + 1)
        self.start = np.frombuffer(self._memory, np.uint8).ctypes.data
        self._array: Any = lambda: None

    @property
    def state(self) -> int:
        """Who has it."""
        return self._memory[self.size]

    @property
    def idle(self) -> bool:
        """Whether no tensor looks at it, here or in the parent."""
        return self._array() is None and self.state in (_MADE, _RETURNED)

    def tensor(self, size: int) -> torch.Tensor:
        """Its first `size` bytes, uint8 (size,)."""
        array = np.frombuffer(self._memory, np.uint8, size)
        self._array, self._memory[self.size] = weakref.ref(array), _MADE
        return torch.from_numpy(array)

    def lend(self) -> Address | None:
        """What `take` needs; None where it has been lent before."""
        if self.state != _MADE:
            return None
        self._memory[self.size] = _LENT
        return self.address()

    def address(self) -> Address:
        """Process, file descriptor, bytes, and what the file is known by."""
        status = os.fstat(self._file)
        return os.getpid(), self._file, self.size, (status.st_dev, status.st_ino)


class Lender:
    """A worker's pieces. None is lent before the parent has shown that it can open one.

    Raises
    ------
    OSError
    """

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._lock = threading.Lock()
        self._asked = Piece(0)

    def question(self) -> Address | None:
        """A piece for the parent to take, if it can; None once it has."""
        return self._asked.address() if self._asked.state == _MADE else None

    def tensor(self, size: int) -> torch.Tensor | None:
        """Memory to lend, uint8 (size,), with anything in it; None where there is none or the parent has taken none."""
        if self._asked.state == _MADE:
            return None
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
            except OSError:
                return None
            return self._pieces[-1].tensor(size)

    def lend(self, start: int) -> Address | None:
        """Lend the piece whose memory begins at `start`; None where there is none, or it has been lent before."""
        return next((piece.lend() for piece in self._pieces if piece.start == start), None)


@cache
def lender_of(process: int) -> Lender | None:
    """The lender of this process, whose number is `process`; None where the system can't have one."""
    try:
        return Lender()
    except (AttributeError, OSError):  # not Linux; no more file descriptors
        return None


class _Taken(mmap.mmap):
    """A worker's memory in the parent; it goes back when the last tensor that looks at it is gone."""

    _forks = 0
    _before: int

    def __new__(cls, file: int, size: int) -> Self:
        memory = super().__new__(cls, file, size + 1)
        memory._before = cls._forks
        memory[size] = _TAKEN
        return memory

    def __del__(self) -> None:
        # A process forked meanwhile has the memory too, and tells nobody when it is done with it.
        self[len(self) - 1] = _RETURNED if self._before == self._forks else _SPOILT


def _forking() -> None:
    _Taken._forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forking)


def take(address: Address) -> mmap.mmap:
    """The memory at a worker's `address`; it is given back when nothing refers to it.

    Raises
    ------
    OSError
        Where it can't be opened, or is not there any more.
    """
    process, descriptor, size, known_by = address
    file = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR)
    try:
        status = os.fstat(file)
        if (status.st_dev, status.st_ino) != known_by:
            raise FileNotFoundError(f"process {process} has another file at {descriptor} than when it lent it")
        return _Taken(file, size)
    finally:
        os.close(file)
