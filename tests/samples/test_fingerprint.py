"""The digest by which a batch is known: of every byte of every image in order, and of nothing else."""

import numpy as np
import pytest
import torch
import xxhash
from PIL import Image
from sklearn.datasets import load_digits

from miamix_cpu import MiAMixCollator, MiAMixConfig
from miamix_cpu.samples.fingerprint import digest_of_images


def digest(*images):
    found = digest_of_images(images)
    assert (type(found), len(found)) == (bytes, 16)
    return found


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (32, 32, 3), (224, 224, 3), (4, 100_000), (300, 200, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_memory_layout_does_not_matter(shape, dtype, rng):
    image = (rng.random(shape) * 255).astype(dtype)
    frozen = image.copy()
    frozen.setflags(write=False)
    layouts = [image, np.asfortranarray(image), image[::-1].copy()[::-1], np.repeat(image, 2, axis=1)[:, ::2], frozen]
    assert len(set(map(digest, layouts))) == 1
    assert len({digest(image, layout, image) for layout in layouts}) == 1
    assert len({digest(*(layout for _ in range(3))) for layout in layouts}) == 1


def every_byte_counts(images, flipped):
    """Whether each byte, changed alone, changes the digest, each to another one."""
    seen = {digest(*images)}
    for position in range(flipped.nbytes):
        flipped.flat[position] ^= 1 << position % 8
        seen.add(digest(*images))
        flipped.flat[position] ^= 1 << position % 8
    assert len(seen) == 1 + flipped.nbytes


@pytest.mark.parametrize(
    "size", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 63, 64, 65, 128, 129, 240, 241, 512, 1023, 1025, 3072]
)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_byte_counts(which, size, rng):
    """Of any image; at sizes around those where XXH3 goes on in another way."""
    images = list(rng.integers(0, 256, (3, 1, size), dtype=np.uint8))
    every_byte_counts(images, images[which])


@pytest.mark.parametrize("change", ["reversed", "every other", "fortran", "planes"])
def test_every_byte_of_a_strided_image_counts(change, rng):
    plain = rng.integers(0, 256, (23, 17, 3), dtype=np.uint8)
    image = {
        "reversed": plain.copy()[::-1, ::-1],
        "every other": np.repeat(plain, 2, axis=1)[:, ::2],
        "fortran": np.asfortranarray(plain),
        "planes": plain.transpose(2, 0, 1),
    }[change]
    assert not image.flags.c_contiguous
    every_byte_counts([plain.copy(), image, plain.copy()], image)


def test_every_byte_of_a_large_image_counts(rng):
    image = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    every_byte_counts([image], image)


def test_every_byte_of_floats_counts(rng):
    """The lowest bit of a mantissa is a byte's as well, and so is the sign of a zero."""
    image = rng.standard_normal((9, 11)).astype(np.float32)
    every_byte_counts([image], image.view(np.uint8))
    assert digest(np.zeros((2, 2), np.float32)) != digest(-np.zeros((2, 2), np.float32))


def test_the_order_of_images_counts(rng):
    images = rng.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    orders = [rng.permutation(4) for _ in range(40)]
    assert len({digest(*images[order]) for order in orders}) == len({tuple(order) for order in orders}) > 10


def test_it_is_of_the_images_one_after_the_other(rng):
    """A batch in one block has the digest of its images."""
    images = rng.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    assert digest(*images) == digest(images) == digest_of_images(iter(list(images)))


def test_trailing_zeros_count():
    assert len({digest(np.zeros((1, size), np.uint8)) for size in range(1, 200)}) == 199
    assert len({digest(*[np.zeros((1, 1), np.uint8)] * n) for n in range(1, 200)}) == 199


def test_white_borders_do_not_collide(rng):
    """Photographs that differ in the centre only."""
    images = np.full((300, 224, 224, 3), 255, np.uint8)
    images[:, 90:134, 90:134] = rng.integers(0, 256, (300, 44, 44, 3), dtype=np.uint8)
    assert len(set(map(digest, images))) == 300


def test_digits_do_not_collide():
    images = load_digits().images
    distinct = np.unique(images.reshape(len(images), -1), axis=0)
    assert len(set(map(digest, images.astype(np.uint8)))) == len(distinct)
    assert len(set(map(digest, images.astype(np.float32)))) == len(distinct)


def test_digests_are_the_same_in_every_version():
    """They choose what is drawn for a batch."""
    digests = {
        (1, 1): "a6cd5e9392000f6ac44bdff4074eecdb",
        (3, 5, 3): "8fc7bedd314af163f7afc1e93b927d83",
        (32, 32, 3): "d33ace2581ade29e76898421678b9f16",
        (80, 70, 3): "57e60ccae7631ad7eef01d83ac2f4f16",
        (224, 224, 3): "3128c1b07a1f6aff81eb2c4b3e8d95ba",
    }
    for size, expected in digests.items():
        image = (np.arange(np.prod(size)) * 7 % 251).astype(np.uint8).reshape(size)
        assert digest(image).hex() == expected, size
        assert digest(image) == xxhash.xxh3_128_digest(image.tobytes())


KINDS = {
    "arrays": np.asarray,
    "strided": lambda image: image[::-1, ::-1],
    "floats": lambda image: image.astype(np.float32) / 255,
    "pictures": Image.fromarray,
    "tensors": lambda image: torch.from_numpy(image).permute(2, 0, 1),
}


@pytest.mark.filterwarnings("ignore:the same batch came twice")
@pytest.mark.parametrize("transform", [None, lambda image: np.full((8, 8, 3), 7, np.uint8)], ids=["mixed", "hashed"])
@pytest.mark.parametrize("side", [9, 70])
@pytest.mark.parametrize("kind", KINDS)
def test_any_byte_of_any_image_changes_the_key_of_a_batch(kind, side, transform, rng):
    """Small ones, that are copied into one block, and large ones; mixed as they are, or only hashed."""
    images = rng.integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    config = MiAMixConfig.plain("mixup")
    collate = MiAMixCollator(5, config, seed=0, return_batch=True, transform=transform)

    def key():
        return collate([(KINDS[kind](image.copy()), i) for i, image in enumerate(images)]).plan.key

    seen = {key()}
    places = [(0, 0, 0, 0), (4, side - 1, side - 1, 2), *(tuple(rng.integers(0, images.shape)) for _ in range(20))]
    for place in places:
        images[place] ^= 1
        seen.add(key())
        images[place] ^= 1
    assert len(seen) == 1 + len(set(map(tuple, places)))
    assert key() in seen


def test_second_views_and_shapes_count_in_the_key_of_a_batch(rng):
    values = rng.integers(0, 256, 144, dtype=np.uint8)
    other = values.copy()
    other[-1] ^= 1
    one, two = values.reshape(12, 12), other.reshape(12, 12)
    batches = [
        [one, one], [one, two], [two, one], [(one, one), (one, one)], [(one, one), (one, two)], [(one, one), (two, one)],
        [one.reshape(9, 16)] * 2, [one.reshape(4, 12, 3)] * 2, [one.reshape(6, 6, 4)] * 2,
    ]  # fmt: skip
    collate = MiAMixCollator(5, MiAMixConfig.plain("mixup"), seed=0, return_batch=True)
    keys = [collate([(image, i) for i, image in enumerate(batch)]).plan.key for batch in batches]
    assert len(set(keys)) == len(batches)
