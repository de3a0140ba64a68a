import numpy as np
import pytest
from numba import njit

from miamix_cpu.gather import array_at, gather


@njit
def copy_from(addresses, size, out, like):
    for i in range(addresses.size):
        out[i] = array_at(addresses[i], size, like)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7, 3), (80, 90, 3), (3, 100, 100)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("kind", ["list", "array", "fortran", "reversed", "read-only"])
def test_addresses_lead_to_the_values(kind, dtype, shape, rng):
    """Shapes on both sides of the size up to which images are copied into one block."""
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
    copy_from(gathered.addresses, images[0].size, out, np.empty(0, dtype))
    np.testing.assert_array_equal(out, images.reshape(4, -1))


def test_large_contiguous_images_are_not_copied(rng):
    images = [rng.random((100, 100, 3)).astype(np.float32) for _ in range(3)]
    assert gather(images).addresses.tolist() == [image.ctypes.data for image in images]
