"""Large arrays in memory that is used again, and never while anything looks at it."""

import copy
import gc
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, memory
from miamix_cpu.memory import LARGE, empty_array
from miamix_cpu.workers import transport

pytestmark = pytest.mark.filterwarnings("ignore:.*come out unmixed")


@pytest.fixture(autouse=True)
def nothing_idle():
    gc.collect()
    memory._idle.clear()


def address(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data_ptr()


def numbers(shape=(5, 1000, 1000), dtype=np.float32):
    return empty_array(shape, dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 1000, 1000), (LARGE,), (3, 2), (0, 4)], ids=str)
def test_it_is_an_array(shape, dtype):
    array = empty_array(shape, dtype)
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    if array.nbytes >= LARGE:
        assert array.ctypes.data % 64 == 0
    array[:] = 7
    assert (array == 7).all()


def test_memory_comes_back():
    array = numbers()
    array[:] = 7
    del array
    (block,) = memory._idle  # malloc might give a new one the same address
    assert np.shares_memory(numbers(), block)


LOOKS = {
    "the array": lambda array: array,
    "a view": lambda array: array[2, 3:5],
    "a view of a view": lambda array: array[1:][::2][0, 3:5],
    "another dtype": lambda array: array.view(np.int16)[0, 0, :3],
    "a memoryview": lambda array: memoryview(array)[3:4],
    "a tensor": torch.from_numpy,
    "a view of a tensor": lambda array: torch.from_numpy(array)[0, :5, 3],
    "a tensor's array": lambda array: torch.from_numpy(array).permute(2, 0, 1)[3:].numpy(),
    "a detached tensor": lambda array: torch.from_numpy(array).requires_grad_().detach()[3:],
    "by DLPack": lambda array: torch.from_dlpack(torch.from_numpy(array))[4],
    "by DLPack from NumPy": lambda array: np.from_dlpack(array[1:])[0],
    "a tensor's storage": lambda array: torch.from_numpy(array).untyped_storage(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_whatever_looks_at_it_keeps_it(look):
    array = numbers()
    start, seen = address(array), look(array)
    del array
    gc.collect()
    assert address(numbers()) != start
    del seen
    gc.collect()
    assert address(numbers()) == start


def test_a_block_is_at_most_twice_as_large():
    array = numbers((4 * LARGE,), np.uint8)
    start = address(array)
    del array
    assert address(numbers((LARGE,), np.uint8)) != start
    assert address(numbers((3 * LARGE,), np.uint8)) == start


def test_two_sizes_in_turns():
    """Images and masks, say: neither takes the other's memory, nor drives it out."""
    blocks = []
    for _ in range(20):
        images, masks = numbers((9 * LARGE,), np.uint8), numbers((2 * LARGE,), np.uint8)
        assert not memory._idle
        del images, masks
        blocks = blocks or list(memory._idle)  # malloc might give new ones the same addresses
        assert set(map(id, memory._idle)) == set(map(id, blocks))
    assert len(blocks) == 2


def test_some_blocks_are_kept():
    arrays = [numbers() for _ in range(10)]
    starts = set(map(address, arrays))
    del arrays
    assert len(memory._idle) == memory._IDLE == 6
    assert {address(array) for array in [numbers(), numbers()]} <= starts


def test_threads_never_share_a_block():
    wrong = []

    def fill(value):
        for _ in range(60):
            array = numbers((LARGE,), np.uint8)
            array[:] = value
            if (array != value).any():
                wrong.append(value)

    threads = [threading.Thread(target=fill, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def batches():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 224, 224, 3), dtype=np.uint8)
    labels = np.arange(32) % 10
    samples = list(zip(images, labels, strict=True))
    yield "collator", lambda t: MiAMixCollator(10, seed=t)(samples)[0]
    yield "float16", lambda t: MiAMixCollator(10, seed=t, dtype="float16")(samples)[0]
    yield "MiAMix", lambda t: MiAMix(10, dtype="float32")(images, labels, rng=np.random.default_rng(t)).images
    yield "MiAMixBatch", lambda t: MiAMixBatch(10, seed=t)({"image": images, "label": labels})["image"]


@pytest.mark.parametrize(("name", "make"), list(batches()), ids=[name for name, _ in batches()])
def test_batches_that_are_kept_stay_as_they_are(name, make):
    expected = [copy.deepcopy(make(seed)) for seed in range(6)]
    kept = [make(seed) for seed in range(6)]
    for batch, copied in zip(kept, expected, strict=True):
        assert (batch == copied).all()
    starts = set(map(address, kept))
    assert len(starts) == 6
    memory._idle.clear()
    del kept, batch
    assert all(any(0 <= start - address(block) < 64 for start in starts) for block in memory._idle)
    assert len(memory._idle) == memory._IDLE


def test_nothing_is_said_when_python_ends():
    code = (
        "import numpy as np; from miamix_cpu.memory import *; kept = empty_array((LARGE,), np.uint8); del empty_array"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (0, "")


def test_tensors_outside_workers_come_back():
    tensor = transport.empty((5, 1 << 20), torch.float32)
    assert not memory._idle
    del tensor
    (block,) = memory._idle
    assert np.shares_memory(transport.empty((5, 1 << 20), torch.float32).numpy(), block)
