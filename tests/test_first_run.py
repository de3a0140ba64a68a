"""The first run on a machine: kernels are compiled once, wherever a place for them can be had, and no worker waits."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import caching
from torch.utils.data import DataLoader

import miamix_cpu
from miamix_cpu import MiAMixCollator, MiAMixConfig
from miamix_cpu.jit import cache

#: Every Python process that finds it, workers and helpers too, writes down what it compiles.
LISTENER = """
import os
from numba.core import event

class Listener(event.Listener):
    def on_start(self, found):
        dispatcher, signature = found.data["dispatcher"], hash(str(found.data["args"]))
        options, function = dispatcher.targetoptions, dispatcher.py_func
        is_entry = "no_cfunc_wrapper" in options and "no_cpython_wrapper" not in options
        with open(os.environ["COMPILED"], "a") as file:
            file.write(f"{os.getpid()} {is_entry} {function.__module__}.{function.__name__}.{signature}\\n")

    def on_end(self, found):
        pass

event.register("numba:compile", Listener())
"""

TRAINING = """
import os, sys, zlib
import miamix_cpu
import numpy as np
from miamix_cpu import MiAMixCollator, MiAMixConfig
from torch.multiprocessing import get_context
from torch.utils.data import DataLoader

def begin(_):
    with open(os.environ["WORKERS"], "a") as file:
        file.write(f"{os.getpid()}\\n")

if __name__ == "__main__":
    method, epochs, timeout, visitors = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    assert miamix_cpu.__file__.startswith(os.environ["PACKAGE"])
    samples = [(np.full((8, 8, 3), 16 * i, np.uint8), i % 4) for i in range(16)]
    collate = MiAMixCollator(4, MiAMixConfig(p_self=0.0), seed=0)
    loader = DataLoader(samples, 4, num_workers=2, collate_fn=collate, worker_init_fn=begin, timeout=timeout,
                        multiprocessing_context=method)
    for _ in range(epochs):
        for images, targets in loader:
            print(zlib.crc32(images.numpy().tobytes()), zlib.crc32(targets.numpy().tobytes()))
    visitors = [get_context("spawn").Process(target=begin, args=(collate,)) for _ in range(visitors)]
    [visitor.start() for visitor in visitors]
    [visitor.join() for visitor in visitors]
"""


@functools.cache
def batches(epochs):
    """What TRAINING prints, made by this process."""
    samples = [(np.full((8, 8, 3), 16 * i, np.uint8), i % 4) for i in range(16)]
    loader = DataLoader(samples, 4, collate_fn=MiAMixCollator(4, MiAMixConfig(p_self=0.0), seed=0))
    return "".join(
        f"{zlib.crc32(images.numpy().tobytes())} {zlib.crc32(targets.numpy().tobytes())}\n"
        for _ in range(epochs)
        for images, targets in loader
    )


@functools.cache
def nobody():
    """What runs a command as a user who has nothing here, but may read Python; whoever is not root is one already."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root can't be another user without setpriv")
    plain = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    reading = (*plain, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # Python is in root's home
    # Asked of a process that another one starts: setpriv itself, which starts the first, can still read everything.
    command = [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"]
    for prefix in (plain, reading):
        found = subprocess.run(
            [*prefix, *command, "import os, numpy; print(os.__file__)"], capture_output=True, text=True, timeout=60
        )
        if found.stdout.strip() == os.__file__:
            return prefix
    pytest.skip("another user than root can't read this Python")


class Machine:
    """A folder that stands for a machine.

    Its package can be read only; its temporary folder is everybody's, as usual.
    """

    def __init__(self, folder):
        self.temporary, self.logs, self._site = folder / "tmp", folder / "logs", folder / "site"
        package = Path(miamix_cpu.__file__).parent
        shutil.copytree(package, self._site / "miamix_cpu", ignore=shutil.ignore_patterns("__pycache__"))
        (self._site / "sitecustomize.py").write_text(LISTENER)
        (self._site / "training.py").write_text(TRAINING)
        for path in [*self._site.rglob("*"), self._site]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        for path in (self.temporary, self.logs):
            path.mkdir()
            path.chmod(0o1777)
        folder.chmod(0o755)

    def train(self, method, *, epochs=3, timeout=0, visitors=0, prefix=(), **environment):
        """The entries that were compiled, none of them by a worker, and what was printed as errors.

        Visitors are spawned processes that are given the collator and mix nothing.
        """
        for path in self.logs.iterdir():
            path.unlink()
        compiled, workers = self.logs / "compiled", self.logs / "workers"
        without = ("HOME", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "PYTHONWARNINGS")
        environment = {
            **{name: value for name, value in os.environ.items() if name not in without},
            "PYTHONPATH": str(self._site), "PACKAGE": str(self._site), "TMPDIR": str(self.temporary),
            "COMPILED": str(compiled), "WORKERS": str(workers), "MIAMIX_CPU_QUIET": "1", "PYTHONHASHSEED": "0",
            **environment,
        }  # fmt: skip
        command = [*prefix, sys.executable, self._site / "training.py", method, *map(str, (epochs, timeout, visitors))]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env=environment, cwd=self.temporary
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout == batches(epochs)
        found = [line.split() for line in compiled.read_text().splitlines()] if compiled.exists() else []
        workers = workers.read_text().split()
        assert len(set(workers)) == 2 * epochs + visitors
        assert not {process for process, _, _ in found} & set(workers)
        return [name for _, is_entry, name in found if is_entry == "True"], result.stderr


@pytest.fixture
def machine():
    """A fresh one; pytest's own folders are closed to other users."""
    with tempfile.TemporaryDirectory() as folder:
        yield Machine(Path(folder))


linux = pytest.mark.skipif(sys.platform != "linux", reason="needs workers that are forked, and other users")


@linux
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_without_a_home_it_is_compiled_once(method, machine):
    """By no worker; a user without a home, and a package that can't be written, are what a container often has."""
    as_nobody = {"prefix": nobody(), "HOME": "/nonexistent"}
    compiled, words = machine.train(method, epochs=3 if method == "fork" else 2, **as_nobody)
    assert words == ""
    folder = machine.temporary / f"miamix_cpu-{65534 if nobody() else os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    kept = list(folder.rglob("*.nbc"))
    assert len(compiled) == len(set(compiled)) == len(kept) > 0
    assert machine.train(method, epochs=1, **as_nobody) == ([], "")
    assert sorted(folder.rglob("*.nbc")) == sorted(kept)


@linux
def test_without_a_place_it_is_compiled_in_the_parent(machine):
    """With one warning for all processes."""
    user = 65534 if nobody() else os.getuid()
    folder = machine.temporary / f"miamix_cpu-{user}"
    folder.mkdir()
    os.chown(folder, user, -1)
    folder.chmod(0o500)
    compiled, words = machine.train("fork", epochs=2, visitors=2, prefix=nobody(), HOME="/nonexistent")
    assert len(compiled) == len(set(compiled)) > 0
    assert words.count("Warning") == 1, words
    assert "RuntimeWarning: miamix_cpu: Numba's cache could not be used" in words
    assert "NUMBA_CACHE_DIR" in words
    assert not list(folder.iterdir())


@linux
def test_no_worker_is_waited_for_until_it_has_compiled(machine, tmp_path):
    """`DataLoader(timeout=)` is for workers that hang, and shorter than it takes to compile."""
    compiled, words = machine.train("fork", epochs=1, timeout=5, HOME=str(tmp_path), NUMBA_CACHE_DIR=str(tmp_path))
    assert len(compiled) == len(list(tmp_path.rglob("*.nbc"))) > 0
    assert words == ""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder, and no other place where Numba might keep anything."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    monkeypatch.setattr(cache, "_warned", False)
    return tmp_path


unix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders have no owners here")


@unix
@pytest.mark.parametrize("mode", [None, 0o700, 0o755])
def test_the_temporary_folder_is_this_users(mode, temporary):
    """Made where there is none, whatever the umask."""
    folder = temporary / f"miamix_cpu-{os.getuid()}"
    if mode is not None:
        folder.mkdir()
        folder.chmod(mode)
    before = os.umask(0)
    try:
        assert cache._temporary_folder() == str(folder)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == (mode or 0o700)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dispatcher = cache.compile_cached(batches.__wrapped__, {})
    assert isinstance(dispatcher._cache, cache._cache_class())
    assert Path(dispatcher._cache.cache_path).parent == folder
    assert numba.config.CACHE_DIR == ""


def of_somebody_else(folder, monkeypatch):
    folder.mkdir(mode=0o700)
    user = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: user)
    return folder.rename(folder.with_name(f"miamix_cpu-{user}"))


def which_others_write(mode):
    def make(folder, monkeypatch):
        folder.mkdir()
        folder.chmod(mode)
        return folder

    return make


def which_is_a_link(folder, monkeypatch):
    """To a folder of this user's: whoever laid it could lay it elsewhere."""
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")
    return folder


@unix
@pytest.mark.parametrize(
    "make",
    [of_somebody_else, which_others_write(0o720), which_others_write(0o702), which_others_write(0o1777), which_is_a_link],
    ids=["of somebody else", "the group writes", "others write", "as /tmp", "a link"],
)  # fmt: skip
def test_a_temporary_folder_of_others_is_not_used(make, temporary, monkeypatch):
    """Whoever can write a cache has his code run by whoever reads it."""
    folder = make(temporary / f"miamix_cpu-{os.getuid()}", monkeypatch)
    with pytest.raises(
        PermissionError, match="must be a folder that belongs to this user and that no one else can write to"
    ):
        cache._temporary_folder()
    with pytest.warns(
        RuntimeWarning,
        match="must be a folder that belongs to this user and that no one else can write to.*NUMBA_CACHE_DIR",
    ):
        dispatcher = cache.compile_cached(batches.__wrapped__, {})
    assert not isinstance(dispatcher._cache, cache._cache_class())
    assert not list(folder.iterdir())


@unix
def test_a_file_in_its_place(temporary):
    (temporary / f"miamix_cpu-{os.getuid()}").write_text("")
    with pytest.raises(FileExistsError):
        cache._temporary_folder()
