"""The parts of the cache one by one: its key, its places, its lock and its warning."""

import os
import shutil
import stat
import sys
import tempfile
import warnings
from pathlib import Path

import numba
import pytest

import miamix_cpu
from miamix_cpu.jit import cache


def test_what_kernels_are_made_of_is_part_of_the_key(tmp_path, monkeypatch):
    package = tmp_path / "miamix_cpu"
    shutil.copytree(Path(miamix_cpu.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "__file__", str(package / "jit" / "cache.py"))
    seen = [cache._digest_of_sources.__wrapped__()]
    for path in sorted(package.rglob("*.py")):
        with path.open("a") as file:
            file.write("\n# edited\n")
        digest, name = cache._digest_of_sources.__wrapped__(), path.relative_to(package)
        counts = name.parts[0] in ("jit", "masks", "mix", "plan", "views", "compiled_views") or name.name in (
            "config.py",
            "methods.py",
        )
        assert (digest not in seen) == counts, name
        seen.append(digest)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no owners there")
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, "a link"])
def test_a_temporary_folder_that_others_can_write_is_not_used(mode, tmp_path, monkeypatch):
    """Whoever can write a cache has his code run by whoever reads it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = Path(cache._temporary_folder())
    assert folder.parent == tmp_path
    assert cache._temporary_folder() == str(folder)
    if mode == "a link":
        folder.symlink_to(folder.rename(tmp_path / "elsewhere"))
    else:
        folder.chmod(mode)
    with pytest.raises(
        PermissionError, match="must be a folder that belongs to this user and that no one else can write to"
    ):
        cache._temporary_folder()
    if mode == "a link":  # where others could not write it, as elsewhere than on Linux
        closed = os.stat_result((stat.S_IFLNK | 0o700, *folder.lstat()[1:]))
        with monkeypatch.context() as patch, pytest.raises(PermissionError):
            patch.setattr(Path, "lstat", lambda path: closed)
            cache._temporary_folder()
    monkeypatch.setattr(os, "getuid", lambda: -1)
    (tmp_path / "miamix_cpu--1").mkdir(mode=0o700)  # of somebody else
    with pytest.raises(PermissionError):
        cache._temporary_folder()


def test_numbas_own_setting_is_as_it_was_afterwards():
    before = numba.config.CACHE_DIR
    with pytest.raises(KeyError), cache._cache_in("somewhere"):
        assert numba.config.CACHE_DIR == "somewhere"
        raise KeyError
    assert before == numba.config.CACHE_DIR != "somewhere"


@pytest.mark.parametrize("without", ["locks", "a place"])
def test_where_there_can_be_no_lock_nobody_waits(without, tmp_path, monkeypatch):
    if without == "locks":
        monkeypatch.setattr(cache, "fcntl", None)
    (tmp_path / "file").write_text("")
    lock = cache.Lock(tmp_path / ("lock" if without == "locks" else "file/lock"))
    assert (lock.wait(), lock.held) == (False, False)
    lock.release()


@pytest.mark.skipif(cache.fcntl is None, reason="there are no locks")
def test_a_lock_makes_its_folder(tmp_path):
    """Which somebody may have removed since the process began."""
    lock = cache.Lock(tmp_path / "new" / "folder" / "lock")
    assert (lock.wait(), lock.held) == (False, True)
    lock.release()
    assert not lock.held


def test_one_process_warns_once(monkeypatch):
    monkeypatch.setattr(cache, "_warned", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(cache, "is_child", lambda: True)
        cache._warn_uncached(OSError("full"))
    monkeypatch.setattr(cache, "is_child", lambda: False)
    with pytest.warns(RuntimeWarning, match=r"could not be used \(OSError: full\).*NUMBA_CACHE_DIR"):
        cache._warn_uncached(OSError("full"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache._warn_uncached(OSError("full"))


def test_the_caches_of_what_was_imported_are_known():
    from miamix_cpu.masks.cutmix import fill
    from miamix_cpu.mix.targets import mix_classes

    folders = cache.cache_folders()
    assert {Path(entry._cache.cache_path) for entry in (fill, mix_classes)} <= set(folders)
    assert len(folders) == len(set(folders))


@pytest.mark.skipif(cache.fcntl is None, reason="there are no locks")
def test_a_thread_that_finds_its_code_releases_nothing(tmp_path, monkeypatch):
    """Another one may be compiling for another signature meanwhile."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache.progress, "_active", 1)
    kept = cache.compile_cached(adds_one, {})._cache
    kept.lock.wait()
    compiled = cache._releasing(str, kept)
    assert compiled(1) == "1"
    assert (kept.lock.held, cache.progress._active) == (True, 1)
    kept.missed.here = True  # as where this thread has found nothing
    assert compiled(1) == "1"
    assert (kept.lock.held, cache.progress._active, kept.missed.here) == (False, 0, False)


def adds_one(x):
    return x + 1
