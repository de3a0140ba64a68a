"""Numba's cache: whatever is wrong with it, a working collator and at most one warning."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import miamix_cpu

#: The targets of two samples, by one small entry that stands for all.
CODE = """
import os, tempfile, warnings
tempfile.tempdir = os.environ.get("TEMPORARY")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    from miamix_cpu.mix.targets import mix_classes, soft_targets
    targets = np.empty((2, 2), np.float32)
    soft_targets(np.array([0, 1]), np.array([1, 0]), np.array([0.25, 1], np.float32), 2, 0.0, targets)
    print(targets.tolist())
print(len(caught), *(w.message for w in caught))
print(sum(mix_classes.stats.cache_hits.values()))
"""
TARGETS = "[[0.25, 0.75], [0.0, 1.0]]"

unix = pytest.mark.skipif(sys.platform == "win32", reason="without locks nobody waits, and folders have no owners")


def copy_of_the_package(folder):
    package = folder / "site" / "miamix_cpu"
    shutil.copytree(Path(miamix_cpu.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def run(cache, package=None, *, first="", prefix=(), **environment):
    """The number of warnings, their words, and the cache hits of a fresh process, which does `first` before all else."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment}
    if package is not None:
        environment["PYTHONPATH"] = str(package.parent)
    folder = Path(miamix_cpu.__file__).parents[1] if package is None else package.parent
    command = [*prefix, sys.executable, "-c", first + CODE]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=folder)
    assert result.returncode == 0, result.stderr
    targets, caught, hits = result.stdout.splitlines()
    assert targets == TARGETS
    return int(caught.split()[0]), caught, int(hits)


def files(cache, suffix):
    return sorted(Path(cache).rglob(f"*{suffix}"))


def contents(cache):
    return {path: path.read_bytes() for path in (*files(cache, ".nbi"), *files(cache, ".nbc"))}


def test_the_second_process_compiles_nothing(tmp_path):
    assert run(tmp_path)[::2] == (0, 0)
    assert run(tmp_path)[::2] == (0, 1)


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage"])
def test_a_damaged_cache_is_mended(suffix, damage, tmp_path):
    run(tmp_path)
    for path in files(tmp_path, suffix):
        content = path.read_bytes()
        path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "garbage": b"\x80garbage"}[damage])
    warned, words, hits = run(tmp_path)
    assert (warned, hits) == (1, 0)
    assert "Numba's cache could not be used" in words
    assert run(tmp_path)[::2] == (0, 1)


#: Whose code is in the same cache, and is no longer once it was emptied.
OTHER_CPU = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}

CHANGED = """
from numba.core import caching, compiler
def changed(*arguments, **options):
    raise {error}("not as it was")
{method} = changed
"""


@pytest.mark.parametrize(("method", "error"), [
    ("caching.IndexDataCacheFile.load", "AttributeError"), ("caching.IndexDataCacheFile.load", "ImportError"),
    ("caching.IndexDataCacheFile._load_data", "ModuleNotFoundError"), ("caching.Cache._index_key", "NameError"),
    ("compiler.CompileResult._rebuild", "AttributeError"), ("compiler.CompileResult._rebuild", "NotImplementedError"),
])  # fmt: skip
def test_a_good_cache_is_left_alone_where_numba_has_changed(method, error, tmp_path):
    """It may be of use to others, for it is Numba that is not as expected, and no file is damaged."""
    run(tmp_path, **OTHER_CPU)
    run(tmp_path)
    before = contents(tmp_path)
    warned, words, hits = run(tmp_path, first=CHANGED.format(method=method, error=error))
    assert (warned, hits) == (1, 0)
    assert f"Numba's cache could not be used ({error}: not as it was)" in words
    assert contents(tmp_path) == before
    assert run(tmp_path)[::2] == (0, 1)


def test_where_numba_has_changed_all_entries_work_with_one_warning(tmp_path):
    first = CHANGED.format(method="caching.IndexDataCacheFile.load", error="AttributeError")
    another = (
        "    from miamix_cpu.plan.mix_plan import LAYER\n    from miamix_cpu.plan.sampling import lay_out\n"
        "    assert lay_out(np.zeros(3, LAYER), np.zeros(12, bool)) == (0, 0, 0)\n"
    )
    code = first + CODE.replace("    print(targets", another + "    print(targets")
    out, words = python(code, tmp_path)
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["1", "0"], words
    assert out.startswith(TARGETS)


@pytest.mark.parametrize("method", ["caching.IndexDataCacheFile.save", "caching.CompileResultCacheImpl.reduce"])
def test_code_that_cannot_be_kept_is_used_all_the_same(method, tmp_path):
    """On a full disk, say."""
    warned, words, hits = run(tmp_path, first=CHANGED.format(method=method, error="OSError"))
    assert (warned, hits) == (1, 0)
    assert "Numba's cache could not be used (OSError: not as it was)" in words
    assert contents(tmp_path) == {}


def test_no_place_for_a_cache(tmp_path):
    """Files where folders should be: they can't be made, not even by root."""
    package = copy_of_the_package(tmp_path)
    (package / "mix" / "__pycache__").write_text("")
    (tmp_path / "file").write_text("")
    nowhere = str(tmp_path / "file" / "home")
    warned, words, hits = run(nowhere, package, HOME=nowhere, XDG_CACHE_HOME=nowhere, TEMPORARY=nowhere)
    assert (warned, hits) == (1, 0)
    assert "NUMBA_CACHE_DIR" in words


def test_where_there_is_no_other_place_the_temporary_directory_is_one(tmp_path):
    package = copy_of_the_package(tmp_path)
    (package / "mix" / "__pycache__").write_text("")
    (tmp_path / "file").write_text("")
    nowhere, temporary = str(tmp_path / "file" / "home"), tmp_path / "temporary"
    temporary.mkdir()
    places = {"HOME": nowhere, "XDG_CACHE_HOME": nowhere, "TEMPORARY": str(temporary)}
    assert run(nowhere, package, **places)[::2] == (0, 0)
    assert run(nowhere, package, **places)[::2] == (0, 1)
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_edited_generator_is_compiled_anew(tmp_path):
    """Numba itself looks only at the file of the entry, and would go on running the old code of all others."""
    package, cache = copy_of_the_package(tmp_path), tmp_path / "cache"
    run(cache, package)
    assert run(cache, package)[2] == 1
    with (package / "masks" / "cutmix.py").open("a") as file:
        file.write("\n# edited\n")
    assert run(cache, package)[::2] == (0, 0)
    assert run(cache, package)[::2] == (0, 1)


def test_four_processes_that_want_it_at_once(tmp_path):
    """One compiles, the others wait and load."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        for _ in range(4)
    ]
    loaded = []
    for process in processes:
        out, words = process.communicate(timeout=300)
        assert process.returncode == 0, words
        targets, caught, hits = out.decode().splitlines()
        assert (targets, int(caught.split()[0])) == (TARGETS, 0)
        loaded.append(int(hits))
    assert sorted(loaded) == [0, 1, 1, 1]
    assert run(tmp_path)[::2] == (0, 1)


@unix
def test_nobody_waits_for_ever(tmp_path):
    """Another process may have stopped in the midst of it."""
    import fcntl

    assert run(tmp_path)[::2] == (0, 0)
    (lock,) = files(tmp_path, "mix_classes.lock")
    for path in contents(tmp_path):
        path.unlink()
    with lock.open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        impatient = "import miamix_cpu.jit.cache\nmiamix_cpu.jit.cache._PATIENCE = 0.5\n"
        assert run(tmp_path, first=impatient)[::2] == (0, 0)
    assert run(tmp_path)[::2] == (0, 1)


def python(code, cache):
    """Run code in a fresh process; what it printed, and its errors."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "MIAMIX_CPU_QUIET": "1"}
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


BROKEN = """
import sys
sys.path.insert(0, {folder!r})
from broken import broken, works
from miamix_cpu.jit.flags import entry
from miamix_cpu.jit.progress import progress
for function, argument in (broken, 1), (works, 1):
    function, held = entry(function), []
    before = function._compiler.compile
    function._compiler.compile = lambda *given: (held.append(function._cache.lock.held), before(*given))[1]
    try:
        print(function(argument))
    except Exception as error:
        print(type(error).__name__)
    print(*held, function._cache.lock.held, progress._active)
"""


@unix
def test_who_compiles_holds_a_lock_and_lets_go_of_it_also_where_that_fails(tmp_path):
    (tmp_path / "broken.py").write_text("def broken(x): return x.nothing\ndef works(x): return x + 1\n")
    out, words = python(BROKEN.format(folder=str(tmp_path)), tmp_path)
    assert out.split() == ["TypingError", "True", "False", "0", "2", "True", "False", "0"], words


def test_threads_that_want_it_at_once(tmp_path):
    """One of them compiles."""
    code = (
        "import threading, numpy as np\n"
        "from miamix_cpu.plan.mix_plan import LAYER\n"
        "from miamix_cpu.plan.sampling import lay_out\n"
        "found, layers = [], np.zeros(3, LAYER)\n"
        "threads = [threading.Thread(target=lambda: found.append(lay_out(layers, np.zeros(12, bool)))) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(found == 4 * [(0, 0, 0)], sum(lay_out.stats.cache_misses.values()), sum(lay_out.stats.cache_hits.values()))\n"
    )
    assert python(code, tmp_path)[0].split() == ["True", "1", "0"]


def test_another_cpus_cache_is_left_alone(tmp_path):
    """A cache on a network drive: code for another processor is neither run nor overwritten."""
    assert run(tmp_path, **OTHER_CPU)[::2] == (0, 0)
    assert run(tmp_path)[::2] == (0, 0)
    assert run(tmp_path)[::2] == (0, 1)
    assert run(tmp_path, **OTHER_CPU)[::2] == (0, 1)


def test_a_read_only_cache(tmp_path):
    """Read where something is in it, compiled in the process where nothing is."""
    package = copy_of_the_package(tmp_path)
    full, empty = tmp_path / "full", tmp_path / "empty"
    empty.mkdir()
    assert run(full, package)[::2] == (0, 0)
    prefix = ()
    if os.geteuid() == 0:  # who may write everywhere, unless told otherwise
        prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
        if shutil.which("setpriv") is None:
            pytest.skip("root can't be kept from writing without setpriv")
    folders = [full, *(path for path in full.rglob("*") if path.is_dir()), empty]
    for folder in folders:
        folder.chmod(0o500)
    try:
        assert run(full, package, prefix=prefix)[0] <= 1
        shutil.rmtree(package / "mix" / "__pycache__")
        (package / "mix" / "__pycache__").write_text("")  # nor beside the package
        nowhere = str(package / "mix" / "__pycache__" / "home")
        warned, words, hits = run(
            empty, package, prefix=prefix, HOME=nowhere, XDG_CACHE_HOME=nowhere, TEMPORARY=nowhere
        )  # fmt: skip
        assert (warned, hits) == (1, 0)
        assert "NUMBA_CACHE_DIR" in words
    finally:
        for folder in folders:
            folder.chmod(0o700)
