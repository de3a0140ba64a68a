"""Compiled code on disk: once a machine, whatever processes want it, and by two of them where there are two cores."""

from __future__ import annotations

import atexit
import getpass
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import current_process, parent_process, spawn
from pathlib import Path
from typing import Any

from numba import config
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

try:
    import fcntl
except ImportError:  # Windows: each process compiles for itself
    fcntl = None  # type: ignore[assignment]

#: Files and folders whose text decides what the compiled code does.
KERNEL_SOURCES = ("config.py", "jit", "masks", "mix", "plan", "samples")

_PATIENCE = 120.0  # seconds that a process waits for another one to compile
_PARTING = 5.0  # and for its helper to end


class EntryCache(FunctionCache):  # type: ignore[misc]
    """Numba's file cache with some repairs.

    Numba looks only at the file of the entry itself, so an edited mask generator would go on running its old
    code: the digest of all kernel sources is part of the key. A truncated cache file raises EOFError for
    ever: here it is emptied and written anew. Before Numba loads anything it fills its tables of all that it can
    compile, and imports scipy.linalg for them: most of the time to a process's first batch, for tables that are not
    looked at. Whoever compiles something later has them filled then. And processes that want the same code at the same
    time, as workers do, would all compile it: here one does, and the others wait.
    Where Numba finds no place that can be written to, the cache is in the temporary directory.
    """

    def __init__(self, function: Any) -> None:
        try:
            super().__init__(function)
        except RuntimeError:  # Numba finds no place: neither beside the sources nor in a home can be written
            with _cache_in(_temporary_folder()):
                super().__init__(function)
        self._lock = _Lock(Path(self.cache_path) / f"{self._impl.filename_base}.lock")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What the cache has; None where it is to be compiled here."""
        found = self._found(sig, target_context)
        if found is None and self._enabled:
            if self._lock.wait():
                found = self._found(sig, target_context)
            elif self._lock.held:
                helper.start(self)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write it, or warn."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _warn_uncached(error)
            self.disable()

    def release(self) -> None:
        """Let other processes have it."""
        self._lock.release()

    def _found(self, sig: Any, target_context: Any) -> Any:
        try:
            rtsys.initialize(target_context)  # what compiled code calls
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except Exception as error:
            _warn_uncached(error)
            try:
                self.flush()
            except Exception:
                self.disable()
        return None

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _SOURCES_DIGEST)


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Have Numba make caches in `folder`."""
    before, config.CACHE_DIR = config.CACHE_DIR, folder
    try:
        yield
    finally:
        config.CACHE_DIR = before


def _temporary_folder() -> str:
    """A folder of this user's in the temporary directory; no other user can have put code into it.

    Raises
    ------
    OSError
        Where there is none.
    """
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"miamix_cpu-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if hasattr(os, "getuid") and (status.st_uid != user or status.st_mode & 0o022 or not stat.S_ISDIR(status.st_mode)):
        raise PermissionError(f"{folder} is not a folder of this user's alone")
    return str(folder)


def use_cache(dispatcher: Any) -> None:
    """Have Numba keep on disk what `dispatcher` compiles, where a place for it can be had."""
    try:
        dispatcher._cache = EntryCache(dispatcher.py_func)
    except Exception as error:  # no writable place, or another Numba: slower to start, never broken
        _warn_uncached(error)


class _Lock:
    """A file that one process at a time holds; whenever that ends it is let go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def wait(self) -> bool:
        """Take it; whether there is something to look at again, for another process had it meanwhile."""
        if fcntl is None:
            return False
        began, waited = time.monotonic(), False
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a")
            while True:
                try:
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited where a process is forked
                    return waited
                except BlockingIOError:
                    waited = True
                if time.monotonic() - began >= _PATIENCE:
                    self.release()
                    return True
                time.sleep(0.02)
        except OSError:  # no place for it, or a file system without locks
            self.release()
            return waited

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._file is not None

    def release(self) -> None:
        """Let it go."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Helper:
    """Another process, which compiles the other half while this one is at the first (`warm.other_half`).

    Attributes
    ----------
    wanted_for : EntryCache or None
        Of what it compiles, last of all; None where nothing is left to it.
    """

    def __init__(self) -> None:
        self.wanted_for: Any = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, missing: EntryCache) -> None:
        """Start it, once, where it has something to do, a second core and an interpreter.

        Parameters
        ----------
        missing : what this process is about to compile
        """
        other, python = self.wanted_for, os.fsdecode(spawn.get_executable() or "")
        if not isinstance(other, EntryCache) or other is missing or fcntl is None or _cores() == 1:
            return
        # Others than Python, in which it is embedded, would take the command line for something else.
        if getattr(sys, "frozen", False) or not Path(python).name.lower().startswith(("python", "pypy")):
            return
        self.wanted_for = None
        code = (
            f"import os, sys; sys.path[:] = {sys.path!r}; from miamix_cpu.warm import other_half; other_half(); "
            "os._exit(0)"  # to take itself apart takes a third of a second
        )
        nothing = subprocess.DEVNULL
        try:
            with (Path(other.cache_path) / "helper.lock").open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # handed on; only one helper at a time has it
                self._process = subprocess.Popen(
                    [python, "-c", code], stdin=nothing, stdout=nothing, stderr=nothing, pass_fds=[file.fileno()]
                )
        except Exception:  # another process has started one, or processes are forbidden here, say
            return
        atexit.register(self._stop)

    def finish(self) -> None:
        """See it off: when the last that it compiles can be had it is about to end, and no other one is needed."""
        self.wanted_for = None
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(_PARTING)
            except subprocess.TimeoutExpired:
                self._process = process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


helper = Helper()


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _digest_of_sources() -> str:
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in KERNEL_SOURCES:
        for path in sorted(folder.glob(f"{name}/*.py")) or [folder / name]:
            digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


_SOURCES_DIGEST = _digest_of_sources()
_warned = False


def _warn_uncached(error: Exception) -> None:
    global _warned
    # A worker's parent has said it, or all workers would; one that is spawned knows its parent only after its imports.
    is_worker = parent_process() is not None or getattr(current_process(), "_inheriting", False)
    if not _warned and not is_worker:
        _warned = True
        warnings.warn(
            f"miamix_cpu: Numba's cache could not be used ({type(error).__name__}: {error}). Kernels are compiled "
            "anew in each process that is not forked from this one, which takes ten seconds or more: set the "
            "environment variable NUMBA_CACHE_DIR to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
