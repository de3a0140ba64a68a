"""Shared memory that a worker lends to its parent for each batch and reuses once it has been returned.

torch allocates new shared memory for every batch. Its pages must be found and zeroed, which is as expensive as mixing,
and a thread of the worker must wake up for each of several messages to send it. Here the memory is reused, and the
parent opens the worker's file through /proc as soon as it has shown that it can. No named file can be left behind, and
/dev/shm, which is small in containers, is not used.
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
from typing import Any, Self

import numpy as np
import torch

from miamix_cpu.private_api import attempt

# Bytes after the end of a buffer, written by the parent and read by the worker: how often the buffer was taken and
# returned, and whether its file was opened through /proc.
_TAKEN, _RETURNED, _REACHED = range(3)
_NOTES = 3
_LOANS = 255  # of a buffer at a time; the count is a byte
_DYING = 0.1  # seconds until a killed worker is seen to be dead, so that DataLoader reports it
_RECENT = 64  # a buffer not used for this many tensors is released, unless it is in transit or in use in the worker


def _hands_over() -> Any:
    from multiprocessing.reduction import DupFd

    return DupFd


#: Wraps a file descriptor so that multiprocessing sends it to the parent.
_hand_over: Any = attempt(
    "multiprocessing cannot send a file descriptor, so workers copy large batches to send them",
    _hands_over,
    lambda: None,
)

#: Process ID, file descriptor, size in bytes, device and inode of the file, and the wrapped descriptor if it is sent.
Address = tuple[int, int, int, tuple[int, int], Any]


class Piece:
    """A shared memory buffer, in the worker that allocates it.

    Parameters
    ----------
    size : int
        Size in bytes.

    Raises
    ------
    OSError
        If no more files or no more memory are available.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0  # the last use, as counted by the lender
        self._file = os.memfd_create("miamix_cpu")
        weakref.finalize(self, os.close, self._file).atexit = False  # a thread may still be sending it
        os.ftruncate(self._file, size + _NOTES)
        self._memory = mmap.mmap(self._file, size + _NOTES)
        self.start = np.frombuffer(self._memory, np.uint8).ctypes.data
        status = os.fstat(self._file)
        self._known_by = (status.st_dev, status.st_ino)
        self._lent = 0
        self._array: Any = lambda: None

    def note(self, which: int) -> int:
        """One of the bytes after its end."""
        return self._memory[self.size + which]

    @property
    def on_its_way(self) -> bool:
        """Whether it was lent and the parent has not taken it yet."""
        return self._lent > self.note(_TAKEN)

    @property
    def in_use(self) -> bool:
        """Whether a tensor of this process refers to it."""
        return self._array() is not None

    @property
    def idle(self) -> bool:
        """Whether no tensor refers to it, in this process or in the parent."""
        return not self.in_use and self._lent == self.note(_RETURNED)

    def tensor(self, size: int) -> torch.Tensor:
        """Return its first `size` bytes, uint8 (size,); it must be idle."""
        self._lent = self._memory[self.size + _TAKEN] = self._memory[self.size + _RETURNED] = 0
        array = np.frombuffer(self._memory, np.uint8, size)
        self._array = weakref.ref(array)
        return torch.from_numpy(array)

    def lend(self, by_hand: bool) -> Address | None:
        """Return what `take` needs; None if the buffer cannot be lent again.

        Parameters
        ----------
        by_hand : bool, send the file descriptor, because the parent may not be able to open the file
        """
        if self._lent == _LOANS:
            return None
        if by_hand and _hand_over is None:
            return None
        handed = _hand_over(self._file) if by_hand else None
        self._lent += 1
        return os.getpid(), self._file, self.size, self._known_by, handed


class Lender:
    """A worker's shared memory buffers."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._lock = threading.Lock()  # tensors are made in one thread and sent in another
        self._uses = count(1)
        self._reached = False

    def tensor(self, size: int) -> torch.Tensor | None:
        """Return uninitialised memory to lend, uint8 (size,); None if the system does not support such memory.

        Raises
        ------
        OSError
            If no more files or no more memory are available.
        """
        with self._lock:
            now = next(self._uses)
            self._pieces = [piece for piece in self._pieces if _kept(piece, now)]
            # No much larger buffer: a small tensor that is kept for long would block it for large ones.
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
        """Allocate a buffer; if that fails, release the idle ones and try again."""
        try:
            return Piece(size)
        except OSError:
            self._pieces = [piece for piece in self._pieces if not piece.idle]
            gc.collect()
        return Piece(size)

    def lend(self, start: int) -> Address | None:
        """Lend the buffer whose memory starts at `start`; None if there is none or it cannot be lent again."""
        with self._lock:
            self._reached = self._reached or any(piece.note(_REACHED) for piece in self._pieces)
            return next((piece.lend(not self._reached) for piece in self._pieces if piece.start == start), None)


def _kept(piece: Piece, now: int) -> bool:
    """Whether the lender must still keep a buffer."""
    return piece.on_its_way or piece.in_use or now - piece.used <= _RECENT


@cache
def lender_of(process: int) -> Lender:
    """Return the lender of this process, whose ID is `process`."""
    return Lender()


class _Forks:
    """Counts forks of this process; several threads may fork at once."""

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
    """A worker's buffer in the parent. It is returned to the worker when the last tensor that refers to it is deleted.

    It is never returned if the parent forks in the meantime: the child has it too, and cannot report when it is done.
    """

    _taken_after: int | None = None  # number of forks begun until then; None during a fork or if mapping failed

    def __new__(cls, file: int, size: int) -> Self:
        begun = _forks.begun
        taken_after = None if _forks.under_way else begun
        memory = super().__new__(cls, file, size + _NOTES)
        memory._taken_after = taken_after
        memory[size + _TAKEN] += 1
        return memory

    # Bound as defaults, because module globals are cleared when Python exits.
    def __del__(self, forks: _Forks = _forks, place: int = _RETURNED - _NOTES) -> None:
        if self._taken_after == forks.begun:
            self[len(self) + place] += 1


def take(address: Address) -> mmap.mmap:
    """Map the buffer at a worker's `address`; it is returned to the worker when nothing refers to it any more.

    Raises
    ------
    OSError, EOFError
        If the worker is gone, or if no more files can be opened.
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
    """Return a file descriptor for a worker's file, and whether the file can be opened through /proc."""
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
    """Open a worker's file through /proc and return the file descriptor."""
    process, descriptor, _, known_by, _ = address
    file = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR)
    status = os.fstat(file)
    if (status.st_dev, status.st_ino) != known_by:
        os.close(file)
        raise FileNotFoundError(f"process {process} did not lend the file at {descriptor}: it is another file")
    return file
