"""Shared memory that is lent and comes back: never used again while anybody looks at it."""

import contextlib
import copy
import gc
import io
import logging
import multiprocessing
import os
import pickle
import shlex
import shutil
import subprocess
import sys
import threading
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from miamix_cpu import MiAMixCollator, MiAMixConfig
from miamix_cpu.workers import shared_buffers as lending
from miamix_cpu.workers import transport
from miamix_cpu.workers.shared_buffers import Lender, take
from tests.shared_memory import as_a_worker, lies_in_shared_memory
from tests.transforms import Numbers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is lent where processes have files in /proc")
SIZE = 1 << 17
ROOT = Path(__file__).parents[2]


@pytest.fixture
def lender():
    return Lender()


@pytest.fixture
def worker(monkeypatch, lender):
    with as_a_worker(monkeypatch, lender):
        yield


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
    (piece,) = (piece for piece in lender._pieces if piece.start == start)
    assert not piece.idle
    del kept
    gc.collect()
    assert piece.idle


@pytest.mark.usefixtures("worker")
def test_what_is_sent_twice_arrives_twice(lender):
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(1)
    first, second = sent(tensor), sent(tensor)
    (piece,) = lender._pieces
    del tensor, first
    assert not piece.idle
    assert (second == 1).all()
    del second
    assert piece.idle


@pytest.mark.usefixtures("worker")
def test_no_more_loans_than_are_counted(lender):
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(1)
    (piece,) = lender._pieces
    arrived = [sent(tensor) for _ in range(300)]
    assert not arrived[254].is_shared()  # lent
    assert arrived[255].is_shared()  # torch's way
    assert all((part == 1).all() for part in arrived)
    del arrived, tensor
    assert piece.idle


@pytest.mark.parametrize("view", [
    lambda x: x[:5], lambda x: x[3:], lambda x: x[::2], lambda x: x.view(-1), lambda x: x.transpose(1, 2),
    lambda x: x.view(torch.int32)[1], lambda x: x[2:4].requires_grad_(), lambda x: x[0, 0, 0],
], ids=str)  # fmt: skip
@pytest.mark.usefixtures("worker")
def test_views_are_lent_too(lender, view):
    """By whatever a user's function in the worker makes of a batch."""
    tensor = transport.empty((8, 64, 128), torch.float32)
    tensor.copy_(torch.arange(8 * 64 * 128).view(8, 64, 128))
    here = view(tensor)
    arrived = sent(here)
    assert type(arrived) is torch.Tensor
    assert torch.equal(arrived, here)
    assert (arrived.stride(), arrived.requires_grad) == (here.stride(), here.requires_grad)
    assert not arrived.is_shared()
    (piece,) = lender._pieces
    assert piece.start == tensor.data_ptr()
    del tensor, here
    assert not piece.idle
    del arrived
    gc.collect()
    assert piece.idle


@pytest.mark.usefixtures("worker")
def test_an_array_that_a_worker_keeps_while_it_sends_a_view():
    kept = []
    for number in range(5):
        tensor = transport.empty((SIZE,), torch.uint8)
        tensor.fill_(number)
        kept.append(tensor.numpy())
        assert (sent(tensor[:100]) == number).all()
        del tensor
    assert [array[0] for array in kept] == list(range(5))


@pytest.mark.usefixtures("worker")
def test_what_is_computed_from_it_is_not_lent():
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(3)
    for result in (tensor * 2, tensor.float(), torch.stack([tensor, tensor])):
        arrived = sent(result)
        assert type(arrived) is torch.Tensor
        assert arrived.is_shared()  # torch's way
        assert torch.equal(arrived, result)


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


def _says_what_it_sees(memory, here, there):
    here.recv()
    here.send(memory[0])


def test_memory_that_another_process_has_inherited_is_not_used_again(lender):
    memory = lent(lender)
    memory[0] = 1
    (piece,) = lender._pieces
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_says_what_it_sees, args=(memory, here, there), daemon=True)
    child.start()
    del memory
    assert not piece.idle
    lender.tensor(SIZE).fill_(2)
    there.send("go")
    assert there.recv() == 1
    child.join()
    assert not piece.idle
    lent(lender)  # what is taken later comes back
    assert lender._pieces[-1].idle


def test_memory_that_is_taken_while_another_thread_forks_is_not_used_again(lender):
    """A fork has begun when logging's hook waits for its lock; other threads run meanwhile."""
    kept, holds = [], threading.Event()

    def logs():
        with logging._lock:
            holds.set()
            while not lending._forks.under_way:
                time.sleep(0.001)
            kept.append(lent(lender))

    thread = threading.Thread(target=logs)
    thread.start()
    holds.wait()
    pid = os.fork()
    if pid == 0:
        kept.clear()  # the child drops what it has inherited
        os._exit(0)
    os.waitpid(pid, 0)
    thread.join()
    (piece,) = lender._pieces
    assert not piece.on_its_way
    assert not piece.idle
    kept.clear()
    assert not piece.idle
    assert not lending._forks.under_way
    lent(lender)
    assert lender._pieces[-1].idle


def test_a_process_that_a_worker_forks_has_pieces_of_its_own():
    lender = transport._lender()
    here, there = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            there.send(transport._lender() is not lender)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert here.recv()


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
    with pytest.raises(MemoryError, match=r"a worker could not get 3.0 MiB of shared memory for a batch: .*RLIMIT_AS"):
        transport.empty((3 << 20,), torch.uint8)


@pytest.mark.usefixtures("worker")
def test_elsewhere_than_on_linux_memory_is_torchs(lender, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    assert lender.tensor(SIZE) is None
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(4)
    assert tensor.is_shared()
    assert torch.equal(sent(tensor), tensor)


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

    monkeypatch.setattr(transport, "reduce_storage", none)
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
    for copied in (loaded, copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))):
        assert type(copied) is torch.Tensor
        assert torch.equal(copied, tensor)
        assert copied.data_ptr() != tensor.data_ptr()
    assert torch.equal(copy.copy(tensor), tensor)


class Spy:
    """Tells where each batch lies."""

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, samples):
        images, targets, masks = self.collate(samples)
        return images, targets, masks, (get_worker_info().id, images.data_ptr(), lies_in_shared_memory(images))


@pytest.mark.parametrize("options", [
    {"multiprocessing_context": "fork"}, {"multiprocessing_context": "spawn"},
    {"multiprocessing_context": "forkserver", "prefetch_factor": 5},
], ids=str)  # fmt: skip
def test_batches_in_lent_memory_are_those_made_without_workers(options):
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
    for number, (images, targets, masks, place) in enumerate(batches(2, **options)):
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


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loop_that_is_left_early_spoils_no_other(persistent):
    """What was prefetched for it is thrown away; what it kept stays as it was."""
    collate = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0, dtype="uint8")
    expected = {}
    for epoch in range(4):
        collate.set_epoch(epoch)
        expected[epoch] = list(DataLoader(Numbers(104, 64), 8, collate_fn=collate))
    loader = DataLoader(Numbers(104, 64), 8, num_workers=2, persistent_workers=persistent, collate_fn=collate)
    kept = []
    for epoch in range(4):
        collate.set_epoch(epoch)
        for number, (images, _) in enumerate(loader):
            assert torch.equal(images, expected[epoch][number][0])
            if number % 3 == 0:
                kept.append((epoch, number, images[1:]))
            if number == 7 and epoch % 2 == 0:
                break
    for epoch, number, images in kept:
        assert torch.equal(images, expected[epoch][number][0][1:])


class Stream(IterableDataset):
    def __iter__(self):
        return iter([Numbers(64, 64)[i] for i in (range(16), range(16, 64))[get_worker_info().id]])


def test_workers_that_have_ended():
    """A stream's workers end one by one; what they lent stays, and is fetched in time."""
    collate = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0, dtype="uint8")
    batches = [(images, images.clone()) for images, _ in DataLoader(Stream(), 8, num_workers=2, collate_fn=collate)]
    gc.collect()
    assert len(batches) == 8
    assert all(torch.equal(images, copied) for images, copied in batches)


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
