"""Shared memory that is lent and comes back: handed over, used again, let go."""

import contextlib
import gc
import os
import subprocess
import sys

import pytest

from miamix_cpu.workers import shared_buffers as lending
from miamix_cpu.workers.shared_buffers import Lender, take
from tests.workers.common import LINUX, ROOT, SIZE, lent

pytestmark = LINUX


def test_a_file_is_handed_over_until_the_parent_has_opened_one(lender):
    handed = [lender.lend(lender.tensor(SIZE).data_ptr()) for _ in range(2)]
    assert all(address[-1] for address in handed)
    memory = take(handed[0])
    memory[5] = 55
    assert lender._pieces[0]._memory[5] == 55
    address = lender.lend(lender.tensor(SIZE).data_ptr())
    assert address[-1] is None
    take(address)[5] = 5
    assert lender._pieces[2]._memory[5] == 5
    take(handed[1])[5] = 6
    assert lender._pieces[1]._memory[5] == 6


def test_where_the_parent_can_open_none_files_are_handed_over_for_ever(lender, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    for number in range(5):
        tensor = lender.tensor(SIZE)
        tensor.fill_(number)
        address = lender.lend(tensor.data_ptr())
        assert address[-1]
        assert take(address)[7] == number
    assert len(lender._pieces) == 2  # memory comes back all the same


def test_memory_is_used_again_once_it_has_come_back(lender):
    memory = lent(lender)
    (piece,) = lender._pieces
    other = lender.tensor(SIZE)
    assert other.data_ptr() != piece.start
    del memory
    assert lender.tensor(SIZE).data_ptr() == piece.start
    assert len(lender._pieces) == 2


def test_memory_on_its_way_is_not_used_again_nor_let_go(lender):
    addresses = []
    for number in range(lending._RECENT + 10):
        tensor = lender.tensor(SIZE)
        tensor.fill_(number)
        addresses.append(lender.lend(tensor.data_ptr()))
        del tensor
    assert len({address[1] for address in addresses}) == len(lender._pieces) == lending._RECENT + 10
    for number, address in enumerate(addresses):
        assert take(address)[7] == number
    lender.tensor(SIZE)
    assert len(lender._pieces) == lending._RECENT


def test_memory_of_another_size(lender):
    """A small tensor never has a large one's memory: whoever keeps it would keep that."""
    tensors = [lender.tensor(size) for size in (SIZE, 3 * SIZE)]
    small, large = (tensor.data_ptr() for tensor in tensors)
    del tensors
    assert lender.tensor(SIZE // 2).data_ptr() == small
    assert lender.tensor(2 * SIZE).data_ptr() == large
    assert lender.tensor(SIZE).data_ptr() == small
    assert len(lender._pieces) == 2
    assert lender.tensor(SIZE + 1).data_ptr() not in (small, large)
    assert lender.tensor(SIZE // 2 - 1).data_ptr() not in (small, large)


def test_memory_that_is_not_needed_is_let_go(lender):
    before = len(os.listdir("/proc/self/fd"))
    tensors = [lender.tensor(SIZE) for _ in range(5)]
    assert len(lender._pieces) == 5
    del tensors
    for _ in range(lending._RECENT + 1):
        lender.tensor(8 * SIZE)
    assert [piece.size for piece in lender._pieces] == [8 * SIZE]
    assert len(os.listdir("/proc/self/fd")) == before + 2


def test_what_a_burst_needed_is_let_go(lender):
    tensors = [lender.tensor(SIZE) for _ in range(5)]
    del tensors
    for _ in range(lending._RECENT + 1):
        lender.tensor(SIZE)
    assert len(lender._pieces) == 1


def test_a_tensor_that_waits_in_the_worker_is_lent_in_the_end(lender):
    tensor = lender.tensor(SIZE)
    for _ in range(lending._RECENT + 1):
        lender.tensor(SIZE)
    assert lender.lend(tensor.data_ptr())


def test_memory_that_the_parent_keeps_is_left_to_it():
    lent(Lender())  # multiprocessing has its own files to hand over
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    lender = Lender()
    kept = [lent(lender) for _ in range(3 * lending._RECENT)]
    assert len(lender._pieces) == lending._RECENT + 1
    for number, memory in enumerate(kept):
        memory[0] = number
    assert [memory[0] for memory in kept] == list(range(3 * lending._RECENT))
    del kept, memory, lender
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_memory_that_cannot_be_opened(lender, monkeypatch, capfd):
    """The parent's own error, without a word of the finalizer."""
    address = lender.lend(lender.tensor(SIZE).data_ptr())
    process, descriptor, size, known_by, _ = address
    with pytest.raises((OSError, ValueError)):
        take((process, descriptor, 1 << 60, known_by, None))
    gc.collect()
    assert "Exception ignored" not in capfd.readouterr().err
    assert take((process, descriptor, size, known_by, None))[0] is not None


KEPT_TO_THE_END = """
import gc, os, sys, torch
from multiprocessing.reduction import ForkingPickler
from miamix_cpu.workers import shared_buffers as lending
lender = lending.Lender()
tensor = lender.tensor(1 << 17)
sys.kept = torch.frombuffer(lending.take(lender.lend(tensor.data_ptr())), dtype=torch.uint8, count=1 << 17).numpy()
torch.kept = sys.kept[1:]
"""


def test_memory_that_is_kept_until_python_ends():
    result = subprocess.run([sys.executable, "-c", KEPT_TO_THE_END], capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stderr) == (0, "")


def test_another_file_under_the_same_number(lender):
    lent(lender)
    process, descriptor, size, (device, inode), _ = lender.lend(lender.tensor(SIZE).data_ptr())
    before = open_files_like(descriptor)
    with pytest.raises(FileNotFoundError, match="another file"):
        take((process, descriptor, size, (device, inode + 1), None))
    with pytest.raises(FileNotFoundError, match="another file"):
        take((process, descriptor, size, (device + 1, inode), None))
    with pytest.raises(FileNotFoundError):
        take((process, 9999, size, (device, inode), None))
    assert open_files_like(descriptor) == before


def open_files_like(descriptor):
    """How often this process has a file open; other threads may open and close others meanwhile."""
    wanted, found = os.fstat(descriptor), 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.path.samestat(os.fstat(int(name)), wanted)
    return found
