"""Computed guides: equal to their slow twins and to OpenCV, of grey copies that are what they say."""

import cv2
import numpy as np
import pytest

from miamix_cpu.options import guide_size
from miamix_cpu.samples.addresses import gather
from miamix_cpu.views import grey
from miamix_cpu.views.grey import grey_copies
from miamix_cpu.views.saliency import fine_grained, spectral
from tests import naive_saliency as naive
from tests.kernels import python

SIZES = [(32, 32), (64, 64), (20, 50), (7, 7), (13, 1), (1, 9), (2, 3), (1, 1)]


def pictures(height, width):
    """Noise, noise with a bright patch, a smooth picture, a black one with a dot, and stripes: uint8 (5, h, w)."""
    rng = np.random.default_rng(height * 1000 + width)
    noise = rng.integers(0, 256, (height, width), dtype=np.uint8)
    patch = noise // 4
    patch[height // 4 : height // 2 + 1, width // 3 : width // 2 + 1] = 250
    dot = np.zeros((height, width), np.uint8)
    dot[height // 3, 2 * width // 3] = 255
    stripes = np.broadcast_to(np.arange(width) % 8 * 30, (height, width)).astype(np.uint8)
    return np.stack([noise, patch, cv2.GaussianBlur(noise, (15, 15), 4), dot, stripes])


def copies_of(views, planar=False):
    """Grey copies of an array of views (N, H, W, C), (N, C, H, W) or (N, H, W)."""
    gathered = gather(views)
    shape = (*views.shape[1:], 1) if views.ndim == 3 else views.shape[1:]
    height, width, channels = (shape[1], shape[2], shape[0]) if planar else shape
    return grey_copies(gathered.addresses, gathered.dtype, height, width, channels, planar)


# ---- guides


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_fine_grained_is_its_twin(size):
    images = pictures(*size)[: 2 if size == (64, 64) else None]
    guides = fine_grained(images)
    assert guides.dtype == np.float32
    assert guides.flags.c_contiguous
    for image, guide in zip(images, guides, strict=True):
        np.testing.assert_array_equal(guide, naive.fine_grained(image))


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (224, 224), (20, 50), (13, 1), (1, 1)], ids=str)
def test_fine_grained_is_opencvs(size):
    """Where the contrib build is installed: no other has it."""
    saliency = getattr(cv2, "saliency", None)
    if saliency is None:
        pytest.skip("cv2.saliency is only in opencv-contrib")
    opencvs = saliency.StaticSaliencyFineGrained_create()
    for image, guide in zip(pictures(*size), fine_grained(pictures(*size)), strict=True):
        works, theirs = opencvs.computeSaliency(image)
        assert works
        np.testing.assert_array_equal(guide, theirs)


@pytest.mark.parametrize(
    "size", [(16, 16), (9, 14), (7, 7), (13, 1), (1, 9), (1, 2), (2, 3), (4, 1), (5, 4), (1, 1)], ids=str
)
def test_spectral_is_its_twin(size):
    """Up to what the filter's sums of 49 pixels lose in float32: all before them is in float64, as in the twin.

    A diagonal gradient's spectrum is 0 at most frequencies, where float32 would leave errors that the logarithm shows.
    """
    gradient = np.add.outer(np.arange(size[0]), np.arange(size[1])).astype(np.uint8)
    images = np.concatenate([pictures(*size), gradient[None]])
    guides = spectral(images)
    assert guides.dtype == np.float32
    assert guides.flags.c_contiguous
    for image, guide in zip(images, guides, strict=True):
        np.testing.assert_allclose(guide, naive.spectral(image), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("compute", [fine_grained, spectral])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_guides_are_not_negative_and_constant_images_give_0(compute, size):
    guides = compute(pictures(*size))
    assert np.isfinite(guides).all()
    assert not np.signbit(guides).any()
    for value in (0, 1, 128, 255):
        assert not compute(np.full((2, *size), value, np.uint8)).any()


@pytest.mark.parametrize("compute", [fine_grained, spectral])
def test_a_guide_does_not_depend_on_the_other_images(compute):
    images = pictures(20, 50)
    alone = np.concatenate([compute(image[None]) for image in images[::-1]])
    np.testing.assert_array_equal(compute(images)[::-1], alone)
    np.testing.assert_array_equal(compute(np.tile(images, (7, 1, 1))), np.tile(alone[::-1], (7, 1, 1)))


# ---- grey copies


def test_grey_of_bytes_is_opencvs():
    rng = np.random.default_rng(0)
    ends = np.stack(np.meshgrid(*[[0, 1, 127, 254, 255]] * 3), -1).reshape(5, 25, 3)
    for image in (*rng.integers(0, 256, (20, 64, 64, 3)), ends):
        image = image.astype(np.uint8)
        expected = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        np.testing.assert_array_equal(copies_of(image[None])[0], expected)
        np.testing.assert_array_equal(copies_of(image.transpose(2, 0, 1)[None], planar=True)[0], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channels(dtype, rng):
    """RGB with and without alpha, grey with and without alpha, more that are averaged; planar or not."""
    views = rng.integers(0, 256, (3, 20, 30, 6)).astype(dtype)
    for channels in range(1, 7):
        some = np.ascontiguousarray(views[..., :channels])
        copies = copies_of(some)
        np.testing.assert_array_equal(copies, copies_of(np.ascontiguousarray(some.transpose(0, 3, 1, 2)), planar=True))
        like = {2: some[..., :1], 4: some[..., :3]}.get(channels, some)
        np.testing.assert_array_equal(copies, copies_of(np.ascontiguousarray(like)))
        if channels > 4:
            mean = some.astype(float).mean(-1).astype(np.float32)
            expected = np.floor(mean + 0.5) if dtype == np.uint8 else stretched(mean)
            assert np.abs(copies - expected).max() <= (dtype == np.float32)
    np.testing.assert_array_equal(copies_of(views[..., 0]), copies_of(views[..., :1]))
    if dtype == np.uint8:
        np.testing.assert_array_equal(copies_of(views[..., 0]), views[..., 0])


def stretched(values):
    """Each picture's smallest value as 0, its largest as 255."""
    low, high = (np.asarray(f(values, axis=(1, 2), keepdims=True), float) for f in (np.min, np.max))
    return np.floor((values - low) * (255 / np.where(high > low, high - low, np.inf)) + 0.5)


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1 / 255, 0), (4 / 255, -2), (1e-30, 0), (1e30, -1e32)], ids=str)
def test_floats_are_stretched_view_by_view(scale, shift, rng):
    """So that normalised images have the grey copies of the bytes that they were made of."""
    views = rng.integers(0, 256, (4, 16, 24)).astype(np.uint8)
    views[:, 0, 0], views[:, 0, 1] = 0, 255
    floats = (views * scale + shift).astype(np.float32)
    floats[1] *= np.float32(0.5)
    assert np.abs(copies_of(floats).astype(int) - views).max() <= 1
    np.testing.assert_array_equal(copies_of(floats), stretched(floats.astype(float)))
    assert not copies_of(np.full((1, 5, 5), -3, np.float32)).any()


def test_what_is_not_finite_counts_as_0(rng):
    views = rng.normal(size=(3, 10, 10, 3)).astype(np.float32)
    spoilt = views.copy()
    spoilt[0, 2, 3, 1], spoilt[1, 4, 5, 0], spoilt[2, 6, 7, 2] = np.nan, np.inf, -np.inf
    views[0, 2, 3], views[1, 4, 5], views[2, 6, 7] = 0, 0, 0
    np.testing.assert_array_equal(copies_of(spoilt), copies_of(views))
    assert not copies_of(np.full((1, 9, 9, 3), np.nan, np.float32)).any()


@pytest.mark.parametrize("size", [(128, 128), (224, 224), (100, 70), (65, 64), (30, 500), (700, 1)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_large_views_are_averaged_by_area(size, dtype, rng):
    views = rng.integers(0, 256, (1, *size)).astype(dtype)
    copies, small = copies_of(views), guide_size(*size)
    assert copies.shape == (1, *small)
    assert max(small) == 64
    expected = naive.averaged(views[0], *small)
    if dtype == np.uint8:
        assert np.abs(copies[0] - expected).max() <= 0.501
        np.testing.assert_array_equal(copies_of(np.repeat(views[..., None], 3, axis=3)), copies)
    else:
        assert np.abs(copies[0] - stretched(expected[None])[0]).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_compiled_copies_are_those_of_plain_python(dtype, channels, rng):
    """What the kernels say in Python, on small views and on one that is averaged."""
    for size in ((6, 5), (3, 66)):
        views = rng.integers(0, 256, (2, *size, channels)).astype(dtype)
        copies = copies_of(views)
        plain, like = np.empty_like(copies), np.empty(0, dtype)
        python(grey.copy_grey)(plain, gather(views).addresses, *size, channels, False, like)
        assert np.abs(copies.astype(int) - plain).max() <= 1
        assert size[1] > 64 or np.array_equal(copies, plain)
