"""Compiled code on disk, once a machine: whatever processes want it, one of them compiles and the others wait."""

from __future__ import annotations

import getpass
import hashlib
import os
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba

from miamix_cpu.jit.progress import progress
from miamix_cpu.private_api import attempt, is_child

try:
    import fcntl
except ImportError:  # Windows: each process compiles for itself
    fcntl = None  # type: ignore[assignment]

#: Files and folders of the package whose text decides what the compiled code does.
KERNEL_SOURCES = ("config.py", "methods.py", "jit", "masks", "mix", "plan", "views", "compiled_views")

_PATIENCE = 120.0  # seconds that a process waits for another one to compile


def compile_cached(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """`numba.njit(**options)(function)` whose code is kept on disk, where there is a place for it."""

    def ours() -> Any:
        dispatcher = numba.njit(**options)(function)
        dispatcher._cache = _cache_class()(function)
        dispatcher.compile = _releasing(dispatcher.compile, dispatcher._cache)
        _folders.add(Path(dispatcher._cache.cache_path))
        return dispatcher

    def or_uncached(compiled: Callable[[], Any]) -> Any:
        try:
            return compiled()
        except (OSError, RuntimeError) as error:  # no folder can be written to: slower to start, never broken
            _warn_uncached(error)
            return numba.njit(**options)(function)

    return attempt(
        "Numba's cache is used without this package's fixes, so an edited kernel may still run its old code",
        lambda: or_uncached(ours),
        lambda: or_uncached(lambda: numba.njit(**options, cache=True)(function)),
    )


def _releasing(compile_one: Callable[[Any], Any], cache: Any) -> Callable[[Any], Any]:
    """`compile_one`, after which, whatever happened, other processes are not kept waiting.

    A thread that found its code in the cache must not release what another thread of the process holds.
    """

    def compile_and_release(signature: Any) -> Any:
        try:
            return compile_one(signature)
        finally:
            if getattr(cache.missed, "here", False):
                cache.missed.here = False
                progress.end()
                cache.lock.release()

    return compile_and_release


_folders: set[Path] = set()


def cache_folders() -> list[Path]:
    """Where the code of entries is kept, of the modules that have been imported."""
    return sorted(_folders)


@cache
def _cache_class() -> Any:
    """Numba's file cache with some repairs.

    Numba looks only at the file of the entry itself, so an edited mask generator would go on running its old
    code: the digest of all kernel sources is part of the key. A truncated cache file raises EOFError for
    ever: here it is emptied and written anew. Processes that want the same code at the same time, as workers do, would
    all compile it: here one does, and the others wait. Where Numba finds no folder that can be written to, the cache is
    in the temporary directory.
    """
    from numba.core.caching import FunctionCache

    for name in ("_index_key", "load_overload", "save_overload", "cache_path", "flush", "disable"):
        getattr(FunctionCache, name)  # what is gone must not be missed silently

    class EntryCache(FunctionCache):  # type: ignore[misc]
        def __init__(self, function: Any) -> None:
            try:
                super().__init__(function)
            except RuntimeError:  # Numba finds no place: neither beside the sources nor in a home can be written
                with _cache_in(_temporary_folder()):
                    super().__init__(function)
            self.missed = threading.local()  # by thread, whether it compiles
            self.lock = Lock(Path(self.cache_path) / f"{function.__module__}.{function.__qualname__}.lock")

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            """What the cache holds; None where it is to be compiled here."""
            found = self._found(sig, target_context)
            if found is None:
                self.missed.here = True
                progress.begin(self.cache_path)
                if self.lock.wait():
                    found = self._found(sig, target_context)
            return found

        def save_overload(self, sig: Any, data: Any) -> None:
            """Write it, or warn."""
            try:
                super().save_overload(sig, data)
            except Exception as error:
                _warn_uncached(error)
                self.disable()

        def _found(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)
            except _CHANGED as error:  # Numba is another one than expected; what the cache holds may be good
                _warn_uncached(error)
                self.disable()
            except Exception as error:  # a damaged file
                _warn_uncached(error)
                try:
                    self.flush()
                except Exception:
                    self.disable()
            return None

        def _index_key(self, sig: Any, codegen: Any) -> Any:
            return (*super()._index_key(sig, codegen), _digest_of_sources())

    return EntryCache


#: Errors that a change of Numba's or of ours causes, rather than damage to a file.
_CHANGED = (AttributeError, ImportError, NameError, NotImplementedError)


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Have Numba make caches in `folder`."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, folder
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


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
        raise PermissionError(f"{folder} must be a folder that belongs to this user and that no one else can write to")
    return str(folder)


class Lock:
    """A file that one process at a time holds; the system releases it when that process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def wait(self) -> bool:
        """Take it; return whether another process held it meanwhile, so that there is something to load."""
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
        """Whether this process holds it."""
        return self._file is not None

    def release(self) -> None:
        """Release it, if this process holds it."""
        if self._file is not None:
            self._file.close()
            self._file = None


@cache
def _digest_of_sources() -> str:
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in KERNEL_SOURCES:
        for path in sorted(folder.glob(f"{name}/*.py")) or [folder / name]:
            digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


_warned = False


def _warn_uncached(error: Exception) -> None:
    global _warned
    if not _warned and not is_child():
        _warned = True
        warnings.warn(
            f"miamix_cpu: Numba's cache could not be used ({type(error).__name__}: {error}). Kernels are compiled "
            "again in each process that is not forked from this one, which takes ten seconds or more: set the "
            "environment variable NUMBA_CACHE_DIR to a writable folder",
            RuntimeWarning,
            stacklevel=2,
        )
