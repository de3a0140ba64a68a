"""One line where compiling takes long: after a while, once, by the process that was started, and on stderr."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import miamix_cpu
from miamix_cpu.jit import progress as module
from miamix_cpu.jit.progress import Progress

LINE = "miamix_cpu: compiling its kernels, once per machine; this takes 10 to 30 seconds. The compiled code is cached in {}\n"

#: Two small entries, by the process itself and by one that it starts.
SCRIPT = """
import multiprocessing, sys
import numpy as np
import miamix_cpu.jit.progress
miamix_cpu.jit.progress._SILENT = 0.0

def compile_some():
    from miamix_cpu.mix.targets import soft_targets
    from miamix_cpu.plan.layers import LAYER
    from miamix_cpu.plan.sampling import lay_out
    lay_out(np.zeros(3, LAYER), np.zeros(12, bool))
    soft_targets(np.array([0, 1]), np.array([1, 0]), np.ones(2, np.float32), 2, 0.0, np.empty((2, 2), np.float32))

if __name__ == "__main__":
    if sys.argv[1] == "itself":
        compile_some()
    else:
        process = multiprocessing.get_context(sys.argv[1]).Process(target=compile_some)
        process.start()
        process.join()
        assert process.exitcode == 0
    print("done")
"""


@pytest.fixture
def said(tmp_path):
    """What a fresh process says as errors; its cache is kept from one to the next."""
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(who, **environment):
        environment = {
            **{name: value for name, value in os.environ.items() if name != module.QUIET},
            "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(Path(miamix_cpu.__file__).parents[1]),
            **environment,
        }  # fmt: skip
        command = [sys.executable, str(tmp_path / "script.py"), who]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
        return result.stderr

    return run


def test_one_line_names_the_folder(said, tmp_path):
    """For several entries one; and none where they are in the cache."""
    words = said("itself")
    (code,) = (tmp_path / "cache").rglob("*lay_out*.nbc")
    assert words == LINE.format(code.parent)
    assert said("itself") == ""


@pytest.mark.parametrize("quiet", ["1", "yes"])
def test_nothing_is_said_where_that_is_asked_for(quiet, said):
    assert said("itself", **{module.QUIET: quiet}) == ""


@pytest.mark.parametrize("quiet", ["0", ""])
def test_no_and_nothing_ask_for_nothing(quiet, said):
    assert said("itself", **{module.QUIET: quiet}).startswith("miamix_cpu: compiling its kernels")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_process_says_nothing(method, said, tmp_path):
    if sys.platform == "win32" and method != "spawn":
        pytest.skip("Windows only spawns")
    assert said(method) == ""
    assert list((tmp_path / "cache").rglob("*lay_out*.nbc"))  # it did compile


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """And timers that fire when a test says so."""
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    monkeypatch.delenv(module.QUIET, raising=False)
    return found


def fire(progress):
    """What a timer does when its time has come."""
    timer = progress._timer
    timer.cancel()
    timer.function(*timer.args)


def test_nothing_is_said_before_its_time(clock, capsys):
    progress = Progress()
    for _ in range(3):
        progress.begin("here")
        timer = progress._timer
        assert timer.daemon  # no process waits for it
        progress.end()
        assert timer.finished.is_set()  # cancelled
        timer.function(*timer.args)  # even if it was on its way
    assert capsys.readouterr().err == ""


def test_it_is_the_time_of_all_entries_together(clock, capsys):
    progress = Progress()
    progress.begin("one")
    assert progress._timer.interval == module._SILENT
    clock.now += 1.5
    progress.end()
    clock.now += 1000  # of something else
    progress.begin("two")
    assert progress._timer.interval == module._SILENT - 1.5
    clock.now += 3.0
    progress.end()
    progress.begin("three")
    assert progress._timer.interval == 0
    fire(progress)
    assert capsys.readouterr().err == LINE.format("three")
    progress.end()
    progress.begin("four")
    assert progress._timer is None  # it was said
    progress.end()
    assert capsys.readouterr().err == ""


def test_who_compiles_at_once_is_timed_once(clock, capsys):
    """Threads; the first begins, and the last ends."""
    progress = Progress()
    progress.begin("one")
    timer = progress._timer
    progress.begin("two")
    assert progress._timer is timer
    progress.end()
    assert not timer.finished.is_set()
    fire(progress)
    progress.end()
    assert capsys.readouterr().err == LINE.format("one")


def test_an_end_without_a_beginning_does_not_count(clock, capsys):
    """Of an entry that was in the cache."""
    progress = Progress()
    progress.end()
    progress.begin("one")
    fire(progress)
    progress.end()
    assert capsys.readouterr().err == LINE.format("one")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")
def test_a_lock_that_another_thread_held_when_a_process_was_forked_is_open_in_it():
    code = (
        "import os\n"
        "from miamix_cpu.jit.progress import progress\n"
        "progress._lock.acquire()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    progress.begin('here')\n"
        "    progress.end()\n"
        "    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert result.stdout == "7\n", result.stderr
