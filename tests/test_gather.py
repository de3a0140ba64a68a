import numpy as np
import pytest
from numba import njit

from miamix_cpu import gather as module
from miamix_cpu.gather import addresses_of, array_at, gather


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
    assert all(kept is image for kept, image in zip(gathered.keep, images, strict=True))


@pytest.mark.parametrize("there", [True, False])
def test_addresses_are_the_arrays_own(there, monkeypatch, rng):
    """Read from the arrays themselves, or asked for one by one where Python or NumPy is not as known."""
    monkeypatch.setattr(module, "_POINTER_IS_THERE", there)
    values = rng.random((5, 8)).astype(np.float32)
    arrays = [*values, values[1, 3:], np.frombuffer(b"read-only", np.uint8), np.empty((0, 3)), values.view(np.recarray)]
    found = addresses_of(arrays)
    assert found.dtype == np.uint64
    assert found.tolist() == [array.ctypes.data for array in arrays]


def test_arrays_keep_their_pointer_where_it_is_read():
    assert module._POINTER_IS_THERE
