"""Where files or memory run out, a worker says so, and its parent is not left waiting."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from miamix_cpu.workers import shared_buffers as lending
from miamix_cpu.workers import transport
from tests.workers.common import LINUX, ROOT, SIZE, lent, sent

pytestmark = LINUX


@pytest.mark.usefixtures("worker")
def test_no_more_files(monkeypatch):
    """The worker says so; torch would leave its parent waiting for ever."""

    def none(name):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none)
    words = r"Too many open files: a worker could not open 3.0 MiB .*ulimit -n.*file_system"
    with pytest.raises(RuntimeError, match=words):
        transport.empty((3 << 20,), torch.uint8)


@pytest.mark.usefixtures("worker")
def test_idle_memory_is_let_go_where_files_run_out(lender, monkeypatch):
    made, calls = os.memfd_create, []

    def once(name):
        calls.append(name)
        if len(calls) == 1:
            raise OSError(24, "Too many open files")
        return made(name)

    lent(lender)
    (idle,) = lender._pieces
    monkeypatch.setattr(os, "memfd_create", once)
    tensor = transport.empty((2 * SIZE + 1,), torch.uint8)
    assert len(tensor) == 2 * SIZE + 1
    assert idle not in lender._pieces


@pytest.mark.usefixtures("worker")
def test_no_more_memory(monkeypatch):
    def none(file, size):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(lending.mmap, "mmap", none)
    with pytest.raises(
        MemoryError, match=r"a worker could not allocate 3.0 MiB of shared memory for a batch: .*RLIMIT_AS"
    ):
        transport.empty((3 << 20,), torch.uint8)


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
from torch.utils.data import DataLoader
from miamix_cpu import MiAMixCollator, MiAMixConfig
from tests.transforms import Numbers
collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0)
loader = DataLoader(Numbers(4 * 200, 64), 4, num_workers=1, collate_fn=collate)
try:
    kept = list(loader)
    print("all", len(kept))
except RuntimeError as error:
    print(" ".join(str(error).split()))
"""

FAILS_LATER = """
import os, resource, sys
import numpy as np, torch
from torch.utils.data import DataLoader
from miamix_cpu import MiAMixCollator, MiAMixConfig
def extras(values):
    soft = 8 + len(os.listdir("/proc/self/fd"))
    if soft > 60:
        return torch.zeros(300_000)
    held.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(400))
    return torch.zeros(300_000)
held = []
resource.setrlimit(resource.RLIMIT_NOFILE, (460, 460))
collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, collate_extras=extras)
samples = [(np.full((8, 8, 3), i, np.uint8), i % 10, 0) for i in range(16)]
try:
    print(sum(1 for _ in DataLoader(samples, 4, num_workers=1, collate_fn=collate, timeout=20)))
except Exception as error:
    print(type(error).__name__, " ".join(str(error).split())[:100])
"""


def test_what_cannot_be_handed_over_is_sent_by_its_bytes(monkeypatch, worker):
    """Where files run out between the making of a batch and its sending, in another thread."""
    tensor = torch.arange(1 << 17)
    transport.send_from_here()

    def none(*arguments):
        raise RuntimeError("unable to open shared memory object: Too many open files (24)")

    monkeypatch.setattr(transport, "_ways", transport._ways._replace(reduce_storage=none))
    assert torch.equal(sent(tensor), tensor)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is lent where processes have files in /proc")
def test_a_worker_whose_files_run_out_later_does_not_keep_its_parent_waiting():
    result = subprocess.run(
        [sys.executable, "-c", FAILS_LATER], capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2]
    )
    assert "timed out" not in result.stdout, result.stdout
    assert result.stdout == "4\n" or "Too many open files" in result.stdout, (result.stdout, result.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is lent where processes have files in /proc")
def test_batches_that_are_kept_with_few_files_do_not_wait_for_ever():
    result = subprocess.run(
        [sys.executable, "-c", FEW_FILES], capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2]
    )
    assert "Too many open files" in result.stdout, result.stderr
    assert "ulimit -n" in result.stdout


CROWDED = """
from torch.utils.data import DataLoader
from miamix_cpu import MiAMixCollator, MiAMixConfig
from tests.transforms import Numbers
collate = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0)
loader = DataLoader(Numbers(64, 128), 32, num_workers=2, collate_fn=collate)
print(*(images.nbytes for images, _ in loader))
"""


def test_a_container_with_little_shared_memory():
    """6 MiB a batch where /dev/shm holds half a MiB."""
    if shutil.which("unshare") is None:
        pytest.skip("needs util-linux")
    shell = "mount -t tmpfs -o size=512k tmpfs /dev/shm || exit 99; exec " + shlex.join([sys.executable, "-c", CROWDED])
    result = subprocess.run(["unshare", "--mount", "sh", "-c", shell], capture_output=True, text=True, cwd=ROOT)
    if result.returncode == 99 or "unshare" in result.stderr:
        pytest.skip("only root may mount")
    assert result.stdout.split() == [str(32 * 3 * 128 * 128 * 4)] * 2, result.stderr
