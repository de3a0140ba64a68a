"""Where images lie: addresses that lead to their values, whatever their memory, and copies only where they must be."""

import gc
import sys
import threading

import numpy as np
import pytest
from numba import njit

from miamix_cpu.jit.intrinsics import array_at
from miamix_cpu.samples.addresses import _SMALL, gather


@njit
def copy_from(addresses, size, out, dtype):
    for i in range(addresses.size):
        out[i] = array_at(addresses[i], size, dtype)


def values_at(gathered):
    """What a kernel reads there: (N, values of an image)."""
    size = int(np.prod(gathered.shape))
    out = np.empty((len(gathered.addresses), size), gathered.dtype)
    copy_from(gathered.addresses, size, out, gathered.dtype.type)
    return out


KINDS = {
    "list": lambda images: list(images.copy()),
    "array": lambda images: images,
    "reversed array": lambda images: images[:, ::-1].copy()[:, ::-1],
    "fortran": lambda images: [np.asfortranarray(image) for image in images],
    "reversed": lambda images: [image[::-1].copy()[::-1] for image in images],
    "every other": lambda images: [np.repeat(image, 2, axis=1)[:, ::2] for image in images],
    "read-only": lambda images: list(read_only(images)),
    "the third one is read-only": lambda images: [*images[:2].copy(), read_only(images[2]), images[3].copy()],
    "the last one is reversed": lambda images: [*images[:3].copy(), images[3, ::-1].copy()[::-1]],
    "all are one": lambda images: [images[0]] * 4,
}


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


@pytest.mark.parametrize("shape", [(1, 1), (5, 7, 3), (80, 90, 3), (3, 100, 100)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_addresses_lead_to_the_values(kind, dtype, shape, rng):
    images = (rng.random((4, *shape)) * 255).astype(dtype)
    given = KINDS[kind](images)
    expected, before = np.stack(list(given)).reshape(4, -1), np.copy(given)
    gathered = gather(given)
    assert (gathered.shape, gathered.dtype, gathered.addresses.dtype) == (shape, dtype, np.uint64)
    np.testing.assert_array_equal(values_at(gathered), expected)
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [5, 200])
def test_its_arrays_keep_the_memory_and_hold_the_same_values(kind, side, rng):
    """The images may be gone before they are mixed; and the digest of a batch is made of those arrays."""
    images = rng.integers(0, 256, (4, side, side), np.uint8)
    given = KINDS[kind](images)
    expected = np.stack(list(given)).reshape(4, -1)
    gathered = gather(given)
    del images, given
    gc.collect()
    filling = [np.full((side, side), 77, np.uint8) for _ in range(50)]  # where memory that came back would be
    np.testing.assert_array_equal(values_at(gathered), expected)
    assert all(array.flags.c_contiguous for array in gathered.arrays)
    np.testing.assert_array_equal(np.concatenate([array.ravel() for array in gathered.arrays]), expected.ravel())
    assert len(filling) == 50


def test_large_contiguous_images_are_not_copied(rng):
    images = [rng.random((100, 100, 3)).astype(np.float32) for _ in range(3)]
    assert gather(images).addresses.tolist() == [image.ctypes.data for image in images]
    strided = [*images, images[0][::-1]]
    gathered = gather(strided)
    assert gathered.addresses[:3].tolist() == [image.ctypes.data for image in images]
    assert gathered.addresses[3] not in [0, strided[3].ctypes.data]
    frozen = [*images, read_only(images[0])]
    assert gather(frozen).addresses.tolist() == [image.ctypes.data for image in frozen]


def test_an_array_of_images_is_not_copied(rng):
    images = rng.random((5, 9, 8, 3))
    gathered = gather(images[1:])
    assert gathered.addresses.tolist() == [image.ctypes.data for image in images[1:]]


@pytest.mark.parametrize("more", [0, 1])
def test_small_images_are_copied_into_one_block(more, rng):
    images = [rng.integers(0, 256, (1, _SMALL + more), np.uint8) for _ in range(3)]
    gathered = gather(images)
    assert len(gathered.arrays) == (3 if more else 1)
    own = [image.ctypes.data for image in images]
    assert (gathered.addresses.tolist() == own) == bool(more)
    if not more:
        assert np.diff(gathered.addresses.astype(np.int64)).tolist() == [_SMALL, _SMALL]


@pytest.mark.parametrize("side", [4, 100])
@pytest.mark.parametrize("dtype", ["bool", "int8", ">u2", "int64", "float16", ">f4", "float64", "longdouble"])
def test_images_that_are_only_hashed_are_gathered_too(dtype, side, rng):
    """They may be of any kind of number."""
    images = [(rng.random((side, side)) * 2).astype(dtype) for _ in range(3)]
    gathered = gather(images)
    assert gathered.shape == (side, side)
    np.testing.assert_array_equal(
        np.concatenate([array.ravel() for array in gathered.arrays]),
        np.concatenate([image.ravel() for image in images]),
    )


def test_arrays_of_equal_dtypes_are_gathered():
    """A dtype of its own, which is equal to NumPy's: rare, so it is enough that it works."""
    own = np.dtype(np.uint8, metadata={"unit": "grey levels"})
    for side in 4, 100:
        images = [np.zeros((side, side), np.uint8), np.ones((side, side), own)]
        assert images[0].dtype == images[1].dtype
        np.testing.assert_array_equal(values_at(gather(images)), np.reshape(images, (2, -1)))


def test_threads_gather_the_same_images(rng):
    """Each array is asked where it is by a buffer, which is let go at once."""
    images = [rng.integers(0, 256, (100, 100), np.uint8) for _ in range(20)]
    expected, wrong = [image.ctypes.data for image in images], []
    references = list(map(sys.getrefcount, images))

    def work():
        for _ in range(200):
            if gather(images).addresses.tolist() != expected:
                wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert list(map(sys.getrefcount, images)) == references
