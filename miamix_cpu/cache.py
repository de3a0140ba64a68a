"""Compiled code on disk: once a machine, whatever processes want it, and by two of them where there are two cores."""

from __future__ import annotations

import atexit
import hashlib
import os
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from multiprocessing import spawn
from pathlib import Path
from typing import Any

#: Files and folders whose text decides what the compiled code does.
KERNEL_SOURCES = (
    "addresses.py", "cache.py", "compile.py", "fingerprint.py", "gather.py", "holes.py", "labels.py", "masks",
    "normals.py", "output.py", "pairing.py", "pipeline.py", "plan.py", "render.py", "sampling.py",
)  # fmt: skip

_PATIENCE = 120.0  # seconds that a process waits for another one to compile
_PARTING = 5.0  # and for its helper to end


def use_cache(dispatcher: Any) -> None:
    """Have Numba keep on disk what `dispatcher` compiles, where a place for it can be had."""
    try:
        dispatcher._cache = _entry_cache(dispatcher.py_func)
    except Exception as error:  # no writable place, or another Numba: slower to start, never broken
        _warn_uncached(error)


def _entry_cache(function: Any) -> Any:
    """Numba's file cache with four repairs.

    Numba looks only at the file of the entry itself, so an edited mask generator would go on running its old
    code: the digest of all kernel sources is part of the key. A truncated cache file raises EOFError for
    ever: here it is emptied and written anew. Before Numba loads anything it fills its tables of all that it can
    compile, and imports scipy.linalg for them: most of the time to a process's first batch, for tables that are not
    looked at. Whoever compiles something later has them filled then. And processes that want the same code at the same
    time, as workers do, would all compile it: here one does, and the others wait.
    """
    from numba.core.caching import FunctionCache
    from numba.core.runtime import rtsys

    class EntryCache(FunctionCache):  # type: ignore[misc]
        _lock: _Lock | None = None

        def _index_key(self, sig: Any, codegen: Any) -> Any:
            return (*super()._index_key(sig, codegen), _SOURCES_DIGEST)

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                found = self._found(sig, target_context)
                if found is None and self._enabled:
                    helper.start()
                    self._lock = _Lock(Path(self.cache_path) / f"{self._impl.filename_base}.lock")
                    if self._lock.wait():
                        found = self._found(sig, target_context)
                    if found is not None:
                        self._unlock()
                return found
            except Exception as error:
                _warn_uncached(error)
                try:
                    self.flush()
                except Exception:
                    self.disable()
                return None

        def _found(self, sig: Any, target_context: Any) -> Any:
            rtsys.initialize(target_context)  # what compiled code calls
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except Exception as error:
                _warn_uncached(error)
                self.disable()
            finally:
                self._unlock()

        def _unlock(self) -> None:
            if self._lock is not None:
                self._lock.release()

    return EntryCache(function)


class _Lock:
    """A file that one process at a time holds; whenever that ends it is let go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def wait(self) -> bool:
        """Take it; whether another process had it meanwhile. Where there are no locks nobody waits."""
        try:
            import fcntl

            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a")
            began = time.monotonic()
            waited = False
            while time.monotonic() - began < _PATIENCE:
                try:
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited where a process is forked
                    return waited
                except (BlockingIOError, PermissionError):
                    waited = True
                    time.sleep(0.02)
        except (ImportError, OSError):
            pass
        return True

    def release(self) -> None:
        """Let it go."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Helper:
    """Another process, which compiles the other half while this one is at the first (`warm.other_half`).

    Attributes
    ----------
    wanted : bool
        Whether there is something for it to do.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, once, where it is wanted, and has a second core and an interpreter."""
        python = spawn.get_executable()
        if not (self.wanted and python and _cores() > 1) or getattr(sys, "frozen", False):
            return
        self.wanted = False
        code = f"import sys; sys.path[:] = {sys.path!r}; from miamix_cpu.warm import other_half; other_half()"
        nothing = subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                [os.fsdecode(python), "-c", code], stdin=nothing, stdout=nothing, stderr=nothing
            )
        except OSError:
            return
        atexit.register(self._stop)

    def finish(self) -> None:
        """Wait until it has ended, which it is about to do when its half can be had."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_PARTING)
                self._process = None

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


helper = Helper()


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _digest_of_sources() -> str:
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for name in KERNEL_SOURCES:
        for path in sorted(folder.glob(f"{name}/*.py")) or [folder / name]:
            digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


_SOURCES_DIGEST = _digest_of_sources()
_warned = False


def _warn_uncached(error: Exception) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"miamix_cpu: Numba's cache could not be used ({type(error).__name__}: {error}); kernels are compiled "
            "in this process, which takes some seconds. Set NUMBA_CACHE_DIR to a writable folder.",
            RuntimeWarning,
            stacklevel=2,
        )
