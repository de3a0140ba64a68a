import threading

import numpy as np
import pytest
import torch
from miamix_cpu.jit.arrays import array_at
from numba import njit

from miamix_cpu.samples import addresses as module
from miamix_cpu.samples.addresses import find, gather


@njit
def copy_from(addresses, size, out, dtype):
    for i in range(addresses.size):
        out[i] = array_at(addresses[i], size, dtype)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7, 3), (80, 90, 3), (3, 100, 100)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("kind", ["list", "array", "fortran", "reversed", "read-only"])
def test_addresses_lead_to_the_values(kind, dtype, shape, rng):
    images = (rng.random((4, *shape)) * 255).astype(dtype)
    given = {
        "list": list(images),
        "array": images,
        "fortran": [np.asfortranarray(image) for image in images],
        "reversed": [image[::-1].copy()[::-1] for image in images],
        "read-only": list(images),
    }[kind]
    if kind == "read-only":
        images.setflags(write=False)
    gathered = gather(given)
    assert (gathered.shape, gathered.dtype) == (shape, dtype)
    out = np.empty((4, images[0].size), dtype)
    copy_from(gathered.addresses, images[0].size, out, dtype)
    np.testing.assert_array_equal(out, images.reshape(4, -1))


def test_contiguous_images_are_not_copied(rng):
    images = [rng.random((100, 100, 3)).astype(np.float32) for _ in range(3)]
    gathered = gather(images)
    assert gathered.addresses.tolist() == [image.ctypes.data for image in images]
    strided = [*images, images[0][::-1]]
    gathered = gather(strided)
    assert gathered.addresses[:3].tolist() == [image.ctypes.data for image in images]
    assert gathered.addresses[3] not in [0, strided[3].ctypes.data]


@pytest.mark.parametrize("known", [True, False])
def test_addresses_are_the_arrays_own(known, monkeypatch, rng):
    """Read from the arrays' heads, or asked for one by one where Python or NumPy is not as known."""
    monkeypatch.setattr(module, "_HEADS_ARE_KNOWN", known)
    values = rng.random((5, 8)).astype(np.float32)
    read_only = values[1].copy()
    read_only.setflags(write=False)
    arrays = [*values, values[1].copy(), read_only, np.frombuffer(values[2].tobytes(), np.float32)]
    assert (find(arrays) is not None) == known
    gathered = gather(arrays)
    assert gathered.addresses.dtype == np.uint64
    assert gathered.addresses.tolist() == [array.ctypes.data for array in arrays]


def test_heads_are_known():
    assert module._HEADS_ARE_KNOWN


IMAGE = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize("other", [
    np.zeros((4, 5, 3), np.float32), np.zeros((4, 5, 3), np.int8), np.zeros((4, 5, 4), np.uint8), np.zeros((4, 6, 3), np.uint8),
    np.zeros((3, 5, 3), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3, 1), np.uint8), np.zeros((), np.uint8),
    np.zeros((4, 5, 3), np.uint8).view(np.recarray), None, 7, 1 << 90, "image", (), [IMAGE], torch.zeros(4, 5, 3), object(),
], ids=lambda other: f"{type(other).__name__}{getattr(other, 'shape', '')}")  # fmt: skip
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_not_alike_is_seen(other, place):
    images = [IMAGE, IMAGE.copy(), IMAGE[::-1]]
    assert find(images).strided == 1
    images[place] = other
    assert find(images) is None


def test_arrays_of_equal_dtypes_are_gathered():
    """A dtype of its own, which is equal to NumPy's: rare, so it is enough that it works."""
    own = np.dtype(np.uint8, metadata={"unit": "grey levels"})
    images = [IMAGE, np.ones((4, 5, 3), own)]
    assert images[0].dtype == images[1].dtype
    assert find(images) is None
    assert gather(images).addresses.tolist() == [image.ctypes.data for image in images]


def test_no_other_thread_changes_an_array_meanwhile():
    """NumPy frees an array's lengths when it gets others: whoever reads them holds the interpreter's lock."""
    images = [np.zeros((4, 6), np.uint8)] * 200_000
    over = threading.Event()

    def reshape():
        while not over.is_set():
            images[0].shape = (4, 6)

    thread = threading.Thread(target=reshape)
    thread.start()
    try:
        assert all(find(images) is not None for _ in range(100))
    finally:
        over.set()
        thread.join()
