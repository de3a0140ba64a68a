"""What goes wrong in a worker or around it: told as it is, and nothing left behind."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator, MiAMixConfig
from tests.shared_memory import blocks_in_shared_memory
from tests.transforms import Numbers

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="counts processes and shared memory as Linux shows them"
)


def collator():
    return MiAMixCollator(10, MiAMixConfig(p_self=0), seed=0, dtype="uint8")


KILLED = """
import gc, multiprocessing, os, signal
from torch.utils.data import DataLoader
from tests.test_failures import collator
from tests.transforms import Numbers
collate = collator()
loader = DataLoader(Numbers(200, 128), 4, num_workers=2, collate_fn=collate, multiprocessing_context="fork")
try:
    for i, _ in enumerate(loader):
        if i == 1:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
except RuntimeError as error:
    # torch goes on to raise wherever the next child's end finds the dead worker still registered.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    print(error)
gc.collect()
collate.set_epoch(1)
print("next epoch:", sum(1 for _ in loader))
"""


def test_a_killed_worker_is_told_and_the_next_epoch_works():
    result = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=300, cwd=ROOT)
    told, *_, after = result.stdout.splitlines()
    assert re.search(r"worker.*(killed by signal|exited unexpectedly)", told)
    assert after == "next epoch: 50"


@pytest.mark.parametrize("persistent", [False, True])
def test_a_consumer_that_stops_early_leaves_nothing_behind(persistent):
    collate = collator()
    before, children = blocks_in_shared_memory(), len(multiprocessing.active_children())
    for epoch in range(5):
        loader = DataLoader(Numbers(64, 128), 4, num_workers=2, collate_fn=collate, persistent_workers=persistent)
        collate.set_epoch(epoch)
        for i, _batch in enumerate(loader):
            if i == 2:
                break
        del loader, _batch
    deadline = time.time() + 30
    while (
        blocks_in_shared_memory() > before or len(multiprocessing.active_children()) > children
    ) and time.time() < deadline:
        time.sleep(0.1)
    assert blocks_in_shared_memory() <= before
    assert len(multiprocessing.active_children()) <= children


ENDLESS = """
from torch.utils.data import DataLoader
from miamix_cpu import MiAMixCollator, MiAMixConfig
from tests.transforms import Numbers
if __name__ == "__main__":
    collate = MiAMixCollator(10, MiAMixConfig(p_self=0), seed=0)
    loader = DataLoader(Numbers(64), 4, num_workers=2, persistent_workers=True, collate_fn=collate)
    epoch = 0
    while True:
        collate.set_epoch(epoch)
        for _ in loader:
            pass
        print(epoch, flush=True)
        epoch += 1
"""


def test_ctrl_c_leaves_no_process_behind():
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"0\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    try:
        _, words = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in words
    deadline = time.time() + 30
    while time.time() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("processes of the group are still there")
