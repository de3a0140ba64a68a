"""Numba's cache: whatever is wrong with it, a working collator and at most one warning."""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import miamix_cpu
from miamix_cpu.jit import cache

CODE = """
import os, tempfile, warnings
tempfile.tempdir = os.environ.get("TEMPORARY")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    from miamix_cpu.samples.fingerprint import hash_lattices, hash_images
    print(len(hash_images([np.zeros((2, 2), np.uint8)])))
print(len(caught), *(w.message for w in caught))
print(sum(hash_lattices.stats.cache_hits.values()))
"""


def copy_of_the_package(folder):
    package = folder / "site" / "miamix_cpu"
    shutil.copytree(Path(miamix_cpu.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def run(cache, package=None, *, prefix=(), **environment):
    """How many hashes, the warnings, and the cache hits of a fresh process; the one small entry stands for all."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment}
    if package is not None:
        environment["PYTHONPATH"] = str(package.parent)
    folder = Path(miamix_cpu.__file__).parents[1] if package is None else package.parent
    command = [*prefix, sys.executable, "-c", CODE]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=folder)
    assert result.returncode == 0, result.stderr
    hashes, caught, hits = result.stdout.splitlines()
    assert hashes == "1"
    return int(caught.split()[0]), caught, int(hits)


def files(cache, suffix):
    return sorted(Path(cache).rglob(f"*{suffix}"))


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


def test_no_place_for_a_cache(tmp_path):
    """Files where folders should be: they can't be made, not even by root."""
    package = copy_of_the_package(tmp_path)
    (package / "__pycache__").write_text("")
    (tmp_path / "file").write_text("")
    nowhere = str(tmp_path / "file" / "home")
    warned, words, hits = run(nowhere, package, HOME=nowhere, XDG_CACHE_HOME=nowhere, TEMPORARY=nowhere)
    assert (warned, hits) == (1, 0)
    assert "NUMBA_CACHE_DIR" in words


def test_where_there_is_no_other_place_the_temporary_directory_is_one(tmp_path):
    package = copy_of_the_package(tmp_path)
    (package / "__pycache__").write_text("")
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
    assert run(cache, package)[2] == 0


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
        hashes, caught, hits = out.decode().splitlines()
        assert (hashes, int(caught.split()[0])) == ("1", 0)
        loaded.append(int(hits))
    assert sorted(loaded) == [0, 1, 1, 1]
    assert run(tmp_path)[::2] == (0, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="without locks nobody waits")
def test_nobody_waits_for_ever(tmp_path):
    """Another process may have stopped in the midst of it."""
    import fcntl

    assert run(tmp_path)[::2] == (0, 0)
    (lock,) = (path for path in files(tmp_path, ".lock") if "hash_lattices" in path.name)
    for path in [*files(tmp_path, ".nbi"), *files(tmp_path, ".nbc")]:
        path.unlink()
    with lock.open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        impatient = CODE.replace(
            "    import numpy",
            "    import miamix_cpu.jit.cache; miamix_cpu.jit.cache._PATIENCE = 0.5\n    import numpy",
        )
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-c", impatient]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.stdout.split() == ["1", "0", "0"], result.stderr
    assert run(tmp_path)[::2] == (0, 1)


def python(code, cache):
    """Run code in a fresh process; what it printed, and its errors."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


BROKEN = """
import sys
sys.path.insert(0, {folder!r})
from broken import broken
from miamix_cpu.jit.compile import entry
entry = entry(broken)
try:
    entry(1)
except Exception as error:
    print(type(error).__name__)
print(entry._cache._lock.held)
"""


def test_a_failed_compilation_lets_go_of_its_lock(tmp_path):
    (tmp_path / "broken.py").write_text("def broken(x): return x.nothing")
    assert python(BROKEN.format(folder=str(tmp_path)), tmp_path)[0].split() == ["TypingError", "False"]


def test_processes_at_once_start_one_helper(tmp_path):
    """Whoever compiles starts it, and the others wait."""
    code = (
        "import subprocess, time\n"
        "from multiprocessing import get_context\n"
        "from miamix_cpu import mixer, warmup\nfrom miamix_cpu.jit import cache\n"
        "class Started(subprocess.Popen):\n"
        "    def __init__(self, *arguments, **options):\n"
        "        if 'other_half' in str(arguments):  # NumPy 2.0 asks lscpu\n"
        "            print('helper', flush=True)\n"
        "        super().__init__(*arguments, **options)\n"
        "subprocess.Popen = Started\n"
        "workers = [get_context('fork').Process(target=warmup) for _ in range(3)]\n"
        "[worker.start() for worker in workers]\n"
        "[worker.join() for worker in workers]\n"
        "print(*(worker.exitcode for worker in workers))\n"
    )
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("needs two cores")
    assert python(code, tmp_path)[0].split() == ["helper", "0", "0", "0"]


def test_threads_that_want_it_at_once(tmp_path):
    code = (
        "import threading\n"
        "from miamix_cpu.mix.holes import draw_holes\n"
        "found = []\n"
        "threads = [threading.Thread(target=lambda: found.append(draw_holes.address)) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(len(found), len(set(found)), found[0] > 0)\n"
    )
    assert python(code, tmp_path)[0].split() == ["4", "1", "True"]


def test_what_fails_in_a_function_called_by_its_address_is_told():
    """An exception can't leave it; it is printed there, and raised by who called it."""
    code = (
        "import numpy as np\n"
        "from miamix_cpu import MiAMix, MiAMixConfig, mixer\n"
        "from miamix_cpu.jit.compile import by_address\n"
        "from miamix_cpu.mix.holes import draw_holes\n"
        "def fails(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p):\n"
        "    if a >= 0: raise MemoryError('no room')\n"
        "    return 1\n"
        "failing = by_address(*draw_holes._arguments)(fails)\n"
        "mix = MiAMix(2, MiAMixConfig(methods=('agmix',), weights=(1,)))\n"
        "images, rng = np.zeros((4, 8, 8, 3), np.uint8), np.random.default_rng(0)\n"
        "mix(images, [0, 1, 0, 1], rng=rng)\n"
        "mixer.draw_holes = failing\n"
        "try:\n"
        "    mix(images, [0, 1, 0, 1], rng=rng)\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "a mask could not be drawn" in result.stdout, result.stderr
    assert "MemoryError: no room" in result.stderr


def test_a_call_by_address_is_of_what_it_was_compiled_for():
    import numba
    from miamix_cpu.mix.holes import draw_holes

    call = draw_holes.call
    with pytest.raises(numba.TypingError, match="compiled for"):
        numba.njit(lambda: call(np.uint64(0), (np.float32(1.0), np.int64(1))))()


def test_what_is_called_by_its_address_is_pickled_by_its_name():
    from miamix_cpu.mix.holes import draw_holes

    assert pickle.loads(pickle.dumps(draw_holes)) is draw_holes


APART = """
import os, sys
from multiprocessing import spawn
{first}
from miamix_cpu import MiAMixCollator, MiAMixConfig, warmup
from miamix_cpu.jit import cache
from miamix_cpu.mix.holes import draw_holes
warmup()
stats = draw_holes.dispatcher.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), cache.helper._process)
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity tells here how many cores there are")
@pytest.mark.parametrize("fails", [False, True])
def test_another_process_compiles_what_is_compiled_apart(fails, tmp_path):
    """And this one does, where that fails."""
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("needs two cores")
    failing, package = tmp_path / "python", copy_of_the_package(tmp_path)
    failing.symlink_to("/bin/false")
    first = f"sys.path.insert(0, {str(package.parent)!r})"  # known to this process alone
    if fails:
        first += f"; spawn.set_executable({str(failing)!r})"
    out, words = python(APART.format(first=first), tmp_path)
    assert out.split() == (["0", "1", "None"] if fails else ["1", "0", "None"]), words  # None: no zombie
    assert words == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(cache, "_cores", lambda: 1),
        lambda patch: patch.setattr(cache, "fcntl", None),
        lambda patch: patch.setattr(sys, "frozen", True, raising=False),
        lambda patch: patch.setattr(cache.spawn, "get_executable", lambda: "/usr/bin/an-application"),
        lambda patch: patch.setattr(cache.spawn, "get_executable", lambda: None),
        lambda patch: patch.setattr(cache.fcntl, "flock", lambda *_: os.open("/nowhere", 0)),
        lambda patch: None,
    ],
    ids=["one core", "no locks", "frozen", "embedded", "no interpreter", "another helper", "forbidden"],
)
def test_where_no_helper_can_be_had_there_is_none(change, monkeypatch):
    from miamix_cpu.mix.holes import draw_holes

    from miamix_cpu.mix.render import render

    def forbidden(*arguments, **options):
        asked.append(arguments)
        raise RuntimeError("no processes here")

    asked = []
    monkeypatch.setattr(cache.subprocess, "Popen", forbidden)
    monkeypatch.setattr(cache, "_cores", lambda: 2)
    change(monkeypatch)
    helper = cache.Helper()
    helper.wanted_for = draw_holes.dispatcher._cache
    helper.start(draw_holes.dispatcher._cache)
    assert not asked
    helper.start(render._cache)
    helper.start(render._cache)
    assert len(asked) == ("forbidden" in os.environ["PYTEST_CURRENT_TEST"])
    helper.wanted_for = draw_holes.dispatcher._cache
    helper.finish()
    helper.start(render._cache)  # nothing is left to it
    assert len(asked) == ("forbidden" in os.environ["PYTEST_CURRENT_TEST"])


def test_another_cpus_cache_is_left_alone(tmp_path):
    """A cache on a network drive: code for another processor is neither run nor overwritten."""
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert run(tmp_path, **other)[::2] == (0, 0)
    assert run(tmp_path)[::2] == (0, 0)
    assert run(tmp_path)[::2] == (0, 1)
    assert run(tmp_path, **other)[::2] == (0, 1)


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
        shutil.rmtree(package / "__pycache__")
        (package / "__pycache__").write_text("")  # nor beside the package
        nowhere = str(package / "__pycache__" / "home")
        warned, words, hits = run(
            empty, package, prefix=prefix, HOME=nowhere, XDG_CACHE_HOME=nowhere, TEMPORARY=nowhere
        )  # fmt: skip
        assert (warned, hits) == (1, 0)
        assert "NUMBA_CACHE_DIR" in words
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_warmup_compiles_every_signature():
    code = (
        "from miamix_cpu import warmup; warmup()\n"
        "from miamix_cpu import fingerprint, gather, holes, labels, normals, render, sampling\n"
        "entries = render.render, sampling.fill_plan, normals.make_normals, fingerprint.hash_lattices, gather.read_heads,"
        " labels.mix_classes, holes.draw_holes.dispatcher\n"
        "print(*(len(entry.signatures) for entry in entries))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.stdout.split() == ["1"] * 7, result.stderr


def test_whatever_is_given_compiles_nothing_anew():
    """Other kinds of numbers, and arrays that are read-only, strided or of another dtype: seconds each, were it so."""
    code = """
import dataclasses, pickle
import numpy as np
from miamix_cpu import MiAMix, MiAMixCollator, MiAMixConfig, warmup
warmup()
from miamix_cpu.samples import fingerprint
from miamix_cpu.samples import addresses as gather
from miamix_cpu.mix import holes
from miamix_cpu.samples import labels
from miamix_cpu.plan import normals
from miamix_cpu.mix import render
from miamix_cpu.plan import sampling
images = np.zeros((4, 8, 8, 3), np.uint8)
kinds = dict(p_self=0, alpha=1, k_min=np.int8(1), k_max=np.uint8(3), p_aug=np.float32(0.5))
mix = MiAMix(np.int16(3), MiAMixConfig(**kinds), label_smoothing=0)
rng = np.random.default_rng(0)
wide = np.arange(8) % 3
frozen = wide[:4].copy()
frozen.setflags(write=False)
for given in ([0, 1, 2, 0], [np.uint8(1)] * 4, wide[::2], frozen, np.array([1, 2, 0, 1], ">i4"), [True] * 4, [np.uint64(2)] * 4):
    batch = mix(images, given, rng=rng)
    assert not np.shares_memory(batch.targets, given)
mix.plan(np.int8(100), np.int16(8), 8, rng=rng)
buffers = []
data = pickle.dumps(batch.plan, 5, buffer_callback=buffers.append)
plan = pickle.loads(data, buffers=[bytes(buffer) for buffer in buffers])
assert not plan.partner.flags.writeable
mix.render(plan, images[:, ::-1], frozen)
collate = MiAMixCollator(3, MiAMixConfig(**kinds), seed=np.int64(3), return_batch=True)
samples = [(image, label) for image, label in zip(images, frozen)]
collate.replay(samples, dataclasses.replace(plan, partner=np.array([1, 0, 3, 2], np.int32), key=collate(samples).plan.key))
entries = render.render, sampling.fill_plan, normals.make_normals, fingerprint.hash_lattices, gather.read_heads
print(*(len(entry.signatures) for entry in (*entries, labels.mix_classes, holes.draw_holes.dispatcher)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.stdout.split() == ["1"] * 7, result.stderr


def test_loops_are_told_that_arrays_do_not_overlap():
    """A promise that Numba passes on to LLVM by an inner switch: were it gone, kernels would be slower, not wrong."""
    from miamix_cpu.mix.blend import merge

    merge(np.ones(3, np.float32), np.ones(3, np.float32), 2, 1.0, True)
    for text in merge.entry.inspect_llvm().values():
        assert "vector.body" in text
        assert "vector.memcheck" not in text


def test_kernels_use_wide_vectors_and_count_no_references():
    """Inner switches of Numba's likewise; wrappers that nobody calls would take a tenth longer to compile."""
    from miamix_cpu.jit.pipeline import EntryCompiler
    from miamix_cpu.plan.normals import make_normals

    from miamix_cpu.masks.augment import make_room, smooth

    smooth(np.ones((3, 3), np.float32), 3, make_room(3, 3))
    for text in smooth.inspect_llvm().values():
        assert '"prefer-vector-width"="512"' in text
        assert "NRT_incref" not in text
        assert "NRT_decref" not in text
        assert "@cfunc." not in text
    assert make_normals._compiler.pipeline_class is EntryCompiler  # what a cache holds can't be looked at


def test_kernels_are_compiled_once():
    """But for what handles several dtypes; a literal among the arguments, say, would double a large one unseen."""
    code = (
        "import gc, miamix_cpu.mixer; from miamix_cpu.jit.cache import helper\n"
        "helper.wanted_for = None; miamix_cpu.warmup()\n"
        "from numba.core.dispatcher import Dispatcher\n"
        "for found in filter(lambda thing: isinstance(thing, Dispatcher), gc.get_objects()):\n"
        "    if found.py_func.__module__.startswith('miamix_cpu') and len(found.signatures) > 1:\n"
        "        print(found.py_func.__name__, len(found.signatures))"
    )
    with tempfile.TemporaryDirectory() as cold:  # what is loaded from a cache brings none of its kernels
        environment = {**os.environ, "NUMBA_CACHE_DIR": cold}
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment
        )
    assert set(result.stdout.splitlines()) == {"blend 3"}, result.stderr


def test_a_warm_process_compiles_nothing():
    """A building block that Python calls is cached nowhere: a tenth of a second in each worker.

    Nor does it fill Numba's tables of what can be compiled, four times as long; they are filled for whoever compiles.
    """
    code = (
        "import sys\n"
        "import numba\n"
        "import numpy as np\n"
        "from numba.core import event\n"
        "from miamix_cpu import MiAMixCollator, MiAMixConfig, warmup\n"
        "compiled = event.RecordingListener()\n"
        "samples = [(np.full((32, 32, 3), i, np.uint8), i) for i in range(4)]\n"
        "with event.install_listener('numba:compile', compiled):\n"
        "    MiAMixCollator(4, MiAMixConfig(p_self=0), seed=0)(samples)\n"
        "    warmup()\n"
        "print(*{str(found.data['dispatcher']) for _, found in compiled.buffer})\n"
        "print('numba.np.arraymath' in sys.modules)\n"
        "print(numba.njit(lambda a: a @ a)(np.eye(3)[0] * 2))"
    )
    for _ in range(2):  # by the second run the cache is warm
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.stdout == "\nFalse\n4.0\n", result.stdout + result.stderr
