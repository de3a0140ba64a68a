"""Numba's cache: whatever is wrong with it, a working collator and at most one warning."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import miamix_cpu

CODE = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    from miamix_cpu.fingerprint import hash_lattices, hash_images
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
    warned, words, hits = run(nowhere, package, HOME=nowhere, XDG_CACHE_HOME=nowhere)
    assert (warned, hits) == (1, 0)
    assert "NUMBA_CACHE_DIR" in words


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
            "    import numpy", "    import miamix_cpu.cache; miamix_cpu.cache._PATIENCE = 0.5\n    import numpy"
        )
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-c", impatient]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.stdout.split() == ["1", "0", "0"], result.stderr
    assert run(tmp_path)[::2] == (0, 1)


APART = """
import os, sys
from multiprocessing import spawn
{first}
from miamix_cpu import MiAMixCollator, MiAMixConfig, cache, warmup
from miamix_cpu.holes import draw_holes
warmup()
stats = draw_holes.dispatcher.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), cache.helper._process)
"""


@pytest.mark.parametrize(
    ("first", "loaded"),
    [
        ("", 1),
        ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", 0),
        ("spawn.set_executable('/bin/false')", 0),
        ("spawn.set_executable('/nowhere')", 0),
        ("sys.frozen = True", 0),
    ],
    ids=["two cores", "one core", "a helper that fails", "no interpreter", "frozen"],
)
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity tells here how many cores there are")
def test_another_process_compiles_what_is_compiled_apart(first, loaded, tmp_path):
    """And this one does, where there is none."""
    if loaded and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("needs two cores")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", APART.format(first=first)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    hits, misses, helper = result.stdout.split(maxsplit=2)
    assert (int(hits), int(misses)) == (loaded, 1 - loaded), result.stderr
    assert helper == "None\n"  # no zombie
    assert result.stderr == ""


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
        warned, words, hits = run(empty, package, prefix=prefix, HOME=nowhere, XDG_CACHE_HOME=nowhere)
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
from miamix_cpu import fingerprint, gather, holes, labels, normals, render, sampling
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
    from miamix_cpu.output import merge

    merge(np.ones(3, np.float32), np.ones(3, np.float32), 2, 1.0, True)
    for text in merge.entry.inspect_llvm().values():
        assert "vector.body" in text
        assert "vector.memcheck" not in text


def test_kernels_use_wide_vectors_and_count_no_references():
    """Inner switches of Numba's likewise; wrappers that nobody calls would take a tenth longer to compile."""
    from miamix_cpu.masks.augment import make_room, smooth
    from miamix_cpu.normals import make_normals
    from miamix_cpu.pipeline import EntryCompiler

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
        "import gc, miamix_cpu.mixer; from miamix_cpu.cache import helper\n"
        "helper.wanted = False; miamix_cpu.warmup()\n"
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
    assert set(result.stdout.splitlines()) == {"array_at 8", "blend 3"}, result.stderr


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
