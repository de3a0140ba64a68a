"""Shared memory that is lent and comes back: never used again while anybody looks at it."""

import copy
import gc
import io
import multiprocessing
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, get_worker_info

from miamix_cpu import MiAMixCollator, MiAMixConfig, lending, transport
from miamix_cpu.lending import Lender, take
from tests.shared_memory import lies_in_shared_memory
from tests.transforms import Numbers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is lent where processes have files in /proc")
SIZE = 1 << 17
ROOT = Path(__file__).parents[1]


@pytest.fixture
def lender():
    return Lender()


@pytest.fixture
def worker(monkeypatch, lender):
    monkeypatch.setattr(transport, "get_worker_info", lambda: object())
    monkeypatch.setattr(transport, "lender_of", lambda process: lender)


def sent(tensor):
    """What arrives of a tensor that a worker's queue pickles; here the parent is the same process."""
    return ForkingPickler.loads(ForkingPickler.dumps(tensor))


def lent(lender, size=SIZE):
    """Memory of the lender that has been taken; only the parent looks at it."""
    return take(lender.lend(lender.tensor(size).data_ptr()))


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
    assert lender.tensor(SIZE).data_ptr() != piece.start
    del memory
    assert lender.tensor(SIZE).data_ptr() == piece.start
    assert len(lender._pieces) == 2


def test_memory_that_has_not_been_fetched_is_not_used_again(lender):
    address = lender.lend(lender.tensor(SIZE).data_ptr())
    assert lender.lend(lender._pieces[0].start) is None  # nor lent twice
    assert lender.tensor(SIZE).data_ptr() != lender._pieces[0].start
    take(address)
    assert lender.tensor(SIZE).data_ptr() == lender._pieces[0].start


@pytest.mark.parametrize("keep", [
    lambda tensor: tensor, lambda tensor: tensor.numpy(), lambda tensor: tensor[3:5], lambda tensor: iter(tensor),
    lambda tensor: torch.utils.dlpack.to_dlpack(tensor), lambda tensor: memoryview(tensor.numpy())[7:],
], ids=["tensor", "array", "slice", "iterator", "capsule", "memoryview"])  # fmt: skip
@pytest.mark.parametrize("where", ["worker", "parent"])
@pytest.mark.usefixtures("worker")
def test_whoever_looks_at_it_keeps_it(lender, keep, where):
    tensor = transport.empty((SIZE,), torch.uint8)
    start = tensor.data_ptr()
    kept = keep(tensor if where == "worker" else sent(tensor))
    del tensor
    assert transport.empty((SIZE,), torch.uint8).data_ptr() != start
    del kept
    gc.collect()
    assert transport.empty((SIZE,), torch.uint8).data_ptr() == start


@pytest.mark.usefixtures("worker")
def test_what_is_sent_twice_arrives_twice():
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(1)
    first, second = sent(tensor), sent(tensor)
    assert not first.is_shared()  # lent
    assert second.is_shared()  # torch's way
    del first
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(2)
    assert (second == 1).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.float16, torch.int64], ids=str)
@pytest.mark.usefixtures("worker")
def test_arrives_as_it_is_sent(dtype):
    images = transport.channels_first_view(transport.empty((4, 80, 90, 3), dtype))
    images.copy_(torch.arange(4 * 80 * 90 * 3).view(4, 3, 80, 90) % 199)
    arrived = sent(images)
    assert type(arrived) is torch.Tensor
    assert arrived.dtype == dtype
    assert arrived.stride() == images.stride() == (21600, 1, 270, 3)
    assert torch.equal(arrived, images)
    assert arrived.data_ptr() != images.data_ptr()
    images += 1
    assert torch.equal(arrived, images)  # the same memory
    assert arrived.untyped_storage().nbytes() == images.numel() * dtype.itemsize


def test_memory_of_another_size(lender):
    tensors = [lender.tensor(size) for size in (SIZE, 2 * SIZE)]
    starts = {len(tensor): tensor.data_ptr() for tensor in tensors}
    del tensors
    assert {lender.tensor(SIZE - 1).data_ptr() for _ in range(3)} == {starts[SIZE]}  # the nearest that is large enough
    assert lender.tensor(SIZE + 1).data_ptr() == starts[2 * SIZE]
    lender.tensor(4 * SIZE)
    assert [piece.size for piece in lender._pieces] == [SIZE, 4 * SIZE]  # in place of the next smaller one


def test_memory_that_the_parent_keeps_is_left_to_it():
    lent(Lender())  # multiprocessing has its own files to hand over
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    lender = Lender()
    kept = [lent(lender) for _ in range(50)]
    assert len(lender._pieces) == lending._TAKEN_AT_MOST + 1
    assert len(os.listdir("/proc/self/fd")) <= before + 2 + 50 + 2 * (lending._TAKEN_AT_MOST + 1)
    for number, memory in enumerate(kept):
        memory[0] = number
    assert [memory[0] for memory in kept] == list(range(50))
    del kept, memory, lender
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def _says_what_it_sees(memory, here, there):
    here.recv()
    here.send(memory[0])


def test_memory_that_another_process_has_inherited_is_not_used_again(lender):
    memory = lent(lender)
    memory[0] = 1
    (piece,) = lender._pieces
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_says_what_it_sees, args=(memory, here, there))
    child.start()
    del memory
    again = lender.tensor(SIZE)
    again.fill_(2)
    assert again.data_ptr() != piece.start
    assert piece not in lender._pieces
    there.send("go")
    assert there.recv() == 1
    child.join()
    memory = lent(lender)
    start = lender._pieces[-1].start
    del memory, again
    assert lender.tensor(SIZE).data_ptr() in (start, lender._pieces[0].start)  # what is taken later comes back


def test_another_file_under_the_same_number(lender):
    lent(lender)
    process, descriptor, size, (device, inode), _ = lender.lend(lender.tensor(SIZE).data_ptr())
    with pytest.raises(FileNotFoundError, match="another file"):
        take((process, descriptor, size, (device, inode + 1), None))
    with pytest.raises(FileNotFoundError):
        take((process, 9999, size, (device, inode), None))


@pytest.mark.usefixtures("worker")
def test_no_more_memory(lender, monkeypatch):
    def none(name):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none)
    assert lender.tensor(SIZE) is None
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(4)
    assert tensor.is_shared()  # torch's way
    assert torch.equal(sent(tensor), tensor)
    monkeypatch.delattr(os, "memfd_create")  # as elsewhere than on Linux
    assert lender.tensor(SIZE) is None


@pytest.mark.usefixtures("worker")
def test_torchs_other_strategy_is_respected(monkeypatch):
    assert not transport.empty((SIZE,), torch.uint8).is_shared()
    monkeypatch.setattr(transport, "get_sharing_strategy", lambda: "file_system")
    assert transport.empty((SIZE,), torch.uint8).is_shared()


@pytest.mark.usefixtures("worker")
def test_a_copy_is_an_ordinary_tensor():
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(3)
    saved = io.BytesIO()
    torch.save(tensor, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    for copied in (loaded, copy.copy(tensor), copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))):
        assert type(copied) is torch.Tensor
        assert torch.equal(copied, tensor)


class Spy:
    """Tells where each batch lies."""

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, samples):
        images, targets, masks = self.collate(samples)
        return images, targets, masks, (get_worker_info().id, images.data_ptr(), lies_in_shared_memory(images))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_batches_in_lent_memory_are_those_made_without_workers(method):
    """All of them, kept or dropped, of several epochs, with smaller ones at the end."""

    def batches(workers, **options):
        collate = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0, dtype="uint8", return_masks=True)
        loader = DataLoader(Numbers(104, 64), 16, num_workers=workers, collate_fn=Spy(collate) if workers else collate,
                            persistent_workers=workers > 0, **options)  # fmt: skip
        for epoch in range(3):
            collate.set_epoch(epoch)
            yield from loader

    expected = list(batches(0))
    kept, places = [], []
    for number, (images, targets, masks, place) in enumerate(batches(2, multiprocessing_context=method)):
        assert place[2]
        places.append(place[:2])
        if number % 5 == 0:
            kept.append((number, images, masks[1:3], targets.numpy()))
        for found, wanted in zip((images, targets, masks), expected[number], strict=True):
            assert type(found) is torch.Tensor
            assert torch.equal(found, wanted)
    assert len(expected) == number + 1 == 21
    assert len(set(places)) < len(places) - 4  # used again
    for number, images, masks, targets in kept:
        assert torch.equal(images, expected[number][0])
        assert torch.equal(masks, expected[number][2][1:3])
        assert np.array_equal(targets, expected[number][1].numpy())


def test_a_loader_in_a_list():
    """Nothing comes back, and nothing is overwritten."""
    loaders = [
        DataLoader(Numbers(160, 64), 8, num_workers=workers, collate_fn=MiAMixCollator(10, seed=0, transform=np.flipud))
        for workers in (0, 1)
    ]
    for (here, _), (arrived, _) in zip(*map(list, loaders), strict=True):
        assert torch.equal(here, arrived)


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
