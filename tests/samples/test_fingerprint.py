import numpy as np
import pytest
from sklearn.datasets import load_digits

from miamix_cpu.samples.fingerprint import hash_images, hash_words


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (32, 32, 3), (224, 224, 3), (4, 100_000), (300, 200, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_memory_layout_does_not_matter(shape, dtype, rng):
    image = (rng.random(shape) * 255).astype(dtype)
    layouts = [image, np.asfortranarray(image), image[::-1].copy()[::-1], np.repeat(image, 2, axis=1)[:, ::2]]
    hashes = [hash_images([layout])[0] for layout in layouts]
    assert len(set(hashes)) == 1
    assert hash_images(layouts).tolist() == hashes


def test_a_tensors_layout_is_read_as_such(rng):
    image = rng.integers(0, 256, (3, 224, 224), dtype=np.uint8)
    changed = image.copy()
    changed[2, 14 * 5, 3 * 9] ^= 1  # on the lattice, in the last channel only
    assert hash_images([image], planar=True) != hash_images([changed], planar=True)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 3072, 16_384])
def test_every_byte_of_a_small_image_counts(size, rng):
    image = rng.integers(0, 256, (1, size), dtype=np.uint8)
    seen = {int(hash_images([image])[0])}
    for position in {0, size // 2, size - 1}:
        for bit in (1, 128):
            changed = image.copy()
            changed[0, position] ^= bit
            seen.add(int(hash_images([changed])[0]))
    assert len(seen) == 1 + 2 * len({0, size // 2, size - 1})


def test_trailing_zeros_count():
    assert len({int(hash_images([np.zeros((1, size), np.uint8)])[0]) for size in range(1, 200)}) == 199


def test_white_borders_do_not_collide(rng):
    """Photographs that differ in the centre only: 16 or 32 strided bytes collide for all of them."""
    images = np.full((300, 224, 224, 3), 255, np.uint8)
    images[:, 90:134, 90:134] = rng.integers(0, 256, (300, 44, 44, 3), dtype=np.uint8)
    assert len(np.unique(hash_images(list(images)))) == 300


@pytest.mark.parametrize(
    "shape", [(2000, 30), (30, 2000), (129, 129), (33, 33), (31, 33), (1, 17_000), (20, 70)], ids=str
)
def test_the_lattice_has_at_least_1024_pixels(shape):
    """Or all of them, spread over the whole image. A pixel of 16 bytes fills words of its own, so none is seen by chance."""
    image = np.zeros((*shape, 4), np.float32)
    base, seen = hash_images([image])[0], np.zeros(shape, bool)
    for y, x in np.ndindex(shape):
        image[y, x, 3] = 1
        seen[y, x] = hash_images([image])[0] != base
        image[y, x, 3] = 0
    assert seen.sum() >= min(1024, seen.size)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    np.testing.assert_array_equal(
        seen, np.isin(np.arange(shape[0]), rows)[:, None] & np.isin(np.arange(shape[1]), columns)
    )
    for lines, length in ((rows, shape[0]), (columns, shape[1])):
        gaps = np.diff([*lines, length])
        assert lines[0] == 0
        assert gaps.max() <= gaps[0]


def test_digits_do_not_collide():
    images = load_digits().images
    distinct = np.unique(images.reshape(len(images), -1), axis=0)
    assert len(np.unique(hash_images(list(images.astype(np.uint8))))) == len(distinct)
    assert len(np.unique(hash_images(list(images.astype(np.float32))))) == len(distinct)


def test_every_bit_of_the_result_flips_half_the_time(rng):
    words = rng.integers(0, 1 << 63, 64).astype(np.uint64)
    base = int(hash_words(words, np.uint64(512)))
    flips = np.zeros(64)
    for word in range(64):
        for bit in range(64):
            changed = words.copy()
            changed[word] ^= np.uint64(1) << np.uint64(bit)
            difference = base ^ int(hash_words(changed, np.uint64(512)))
            flips += [(difference >> b) & 1 for b in range(64)]
    np.testing.assert_allclose(flips / 4096, 0.5, atol=6 * 0.5 / 64)


def test_compiled_and_python_agree(rng):
    words = rng.integers(0, 1 << 63, 64).astype(np.uint64)
    with np.errstate(over="ignore"):
        assert hash_words.py_func(words, np.uint64(5)) == hash_words(words, np.uint64(5))


def test_hashes_are_the_same_in_every_version():
    """They choose what is drawn for a batch; of images read whole, with bytes left over or not, and of a lattice."""
    hashes = {
        (1, 1): 0xE9721A14488D1039,
        (3, 5, 3): 0x4BCFACB39864CC3C,
        (32, 32, 3): 0xE19586CDAA412B46,
        (80, 70, 3): 0xC445A9EB1084DD04,
        (224, 224, 3): 0x4F1101A22AE8761A,
    }
    for size, expected in hashes.items():
        image = (np.arange(np.prod(size)) * 7 % 251).astype(np.uint8).reshape(size)
        assert hash_images([image])[0] == expected
