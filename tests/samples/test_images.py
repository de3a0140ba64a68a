import numpy as np
import pytest
import torch
from PIL import Image

from miamix_cpu.samples.images import HASHED, TRANSFORMED, as_array, is_planar, read_images


def name(i):
    return f"image of sample {i}"


def read(images, layout="auto", **options):
    return read_images(images, layout, name, **options)


@pytest.mark.parametrize("image", [
    np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.float32), torch.zeros(3, 4, 5), torch.zeros(4, 5, dtype=torch.uint8),
    Image.new("RGB", (5, 4)), Image.new("L", (5, 4)), Image.new("RGBA", (5, 4)), Image.new("F", (5, 4)),
])  # fmt: skip
def test_what_an_image_may_be(image):
    read = as_array(image, "it")
    assert read.dtype in (np.uint8, np.float32)
    planar = is_planar(image, read.shape, "auto", "it")
    assert (read.shape[1:] if planar else read.shape[:2]) == (4, 5)


@pytest.mark.parametrize("image", [
    np.full((4, 5), 0.25, np.float64), np.full((4, 5), 0.25, np.float16), np.full((4, 5), 0.25, ">f4"),
    np.full((4, 5), 0.25, ">f8"), torch.full((4, 5), 0.25, dtype=torch.float64),
    torch.full((4, 5), 0.25, dtype=torch.bfloat16), torch.full((4, 5), 0.25, dtype=torch.float16),
], ids=lambda image: str(image.dtype))  # fmt: skip
def test_other_floats_are_read_as_float32(image):
    array = as_array(image, "it")
    assert array.dtype == np.float32
    assert array.dtype.isnative
    assert (array == 0.25).all()
    for several in ([image, image], [image, np.zeros((4, 5), np.float32)]):
        assert {read.dtype for read in read(several).arrays} == {np.dtype(np.float32)}


def test_bytes_of_either_order_are_bytes():
    assert as_array(np.zeros((4, 5), ">u1"), "it").dtype == np.uint8


def test_tensors_and_arrays_share_their_memory():
    tensor, array = torch.zeros(3, 4, 5), np.zeros((4, 5, 3), np.uint8)
    assert np.shares_memory(as_array(tensor, "it"), tensor.numpy())
    assert as_array(array, "it") is array


@pytest.mark.parametrize(("image", "error", "words"), [
    ("a.png", TypeError, "it must be an array, a PIL image or a tensor, got 'a.png'"),
    (np.zeros((4, 5), bool), TypeError, r"it must be uint8 or float32, got bool: use image.astype\(np.uint8\) \* 255"),
    (np.zeros((4, 5), np.uint16), TypeError, r"got uint16: use image.astype\(np.float32\) / 65535"),
    (np.zeros((4, 5), ">u2"), TypeError, r"got >u2: use image.astype\(np.float32\) / 65535"),
    (np.zeros((4, 5), np.int64), TypeError, r"got int64: use image.astype\(np.uint8\) if its values are 0 to 255"),
    (torch.zeros(4, 5, dtype=torch.complex64), TypeError, "it must be uint8 or float32, got complex64$"),
    (torch.zeros(4, 5, device="meta"), TypeError, "it must be on the CPU, got a tensor on meta"),
    (np.zeros(5, np.uint8), ValueError, r"it must have 2 or 3 axes, .* got \(5,\)"),
    (np.zeros((0, 4, 3), np.uint8), ValueError, r"none empty, got \(0, 4, 3\)"),
    (Image.new("P", (5, 4)), TypeError, "it is a PIL image of mode 'P', allowed modes are .*convert"),
    (Image.new("1", (5, 4)), TypeError, "mode '1'"),
    (Image.new("CMYK", (5, 4)), TypeError, "mode 'CMYK'"),
    (torch.zeros(4, 5).to_sparse(), TypeError, "it must be dense, got a tensor of layout torch.sparse_coo"),
])  # fmt: skip
def test_bad_images_are_named(image, error, words):
    with pytest.raises(error, match=words):
        as_array(image, "it")


@pytest.mark.parametrize(("image", "layout", "planar"), [
    (np.zeros((32, 32, 3)), "auto", False), (torch.zeros(3, 32, 32), "auto", True),
    (np.zeros((3, 32, 32)), "channels_first", True), (torch.zeros(32, 32, 3), "channels_last", False),
    (np.zeros((32, 32)), "channels_first", False), (np.zeros((64, 64, 16)), "auto", False),
    (Image.new("RGB", (5, 4)), "channels_first", False),
])  # fmt: skip
def test_layouts(image, layout, planar):
    shape = np.asarray(image).shape
    assert is_planar(image, shape, layout, "it") == planar


@pytest.mark.parametrize(("image", "words"), [
    (np.zeros((3, 32, 32)), r"it is an array of shape \(3, 32, 32\); read as \(H, W, C\), it has 32 channels. Set layout='channels_first' if it is \(C, H, W\), or layout='channels_last' if it really"),
    (np.zeros((13, 64, 64)), r"it has 64 channels. Set layout='channels_first' if it is \(C, H, W\), or layout='channels_last' if it"),
    (torch.zeros(64, 64, 13), "it has 64 channels. Set layout='channels_last'"),
    (torch.zeros(32, 40, 3), r"it is a tensor of shape \(32, 40, 3\); read as \(C, H, W\), it has 32 channels. Set layout='channels_last' if it is \(H, W, C\), or layout='channels_first' if"),
])  # fmt: skip
def test_an_axis_order_that_cannot_be_right_is_refused(image, words):
    with pytest.raises(ValueError, match=words):
        is_planar(image, image.shape, "auto", "it")


@pytest.mark.parametrize("other", [torch.zeros(3, 8, 6), np.zeros((8, 6, 3), np.uint8)], ids=["tensor", "array"])
def test_images_that_differ_are_named(other):
    kind = torch.zeros if isinstance(other, torch.Tensor) else np.zeros
    smaller = kind((3, 8, 5) if kind is torch.zeros else (8, 5, 3), dtype=other.dtype)
    with pytest.raises(ValueError, match=r"image of sample 2 has shape .*5.*, image of sample 0 has .*6"):
        read([other, other, smaller])
    changed = kind(other.shape, dtype=torch.uint8 if kind is torch.zeros else np.float32)
    with pytest.raises(ValueError, match=r"image of sample 1 is \w+, image of sample 0 is \w+"):
        read([other, changed])
    assert len(read([other, smaller, changed], purpose=TRANSFORMED).arrays) == 3


def test_pictures_of_two_modes_are_told_what_to_do():
    words = r"has shape \(4, 5\), image of sample 0 has \(4, 5, 3\): the PIL modes are 'L' and 'RGB', so call .convert\(\"RGB\"\)"
    with pytest.raises(ValueError, match=words):
        read([Image.new("RGB", (5, 4)), Image.new("L", (5, 4))])


def test_images_of_two_layouts_are_named():
    with pytest.raises(ValueError, match=r"image of sample 1 is \(C, H, W\), image of sample 0 is \(H, W, C\)"):
        read([np.zeros((3, 3, 3), np.float32), torch.zeros(3, 3, 3)])


def test_raw_images_may_be_of_any_dtype():
    read([np.zeros((4, 4), np.uint16), np.zeros((5, 5), np.float64)], purpose=TRANSFORMED)
    with pytest.raises(TypeError, match="image of sample 1 must contain numbers, got complex64"):
        read([np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.complex64)], purpose=TRANSFORMED)


def test_only_pil_images_of_intensities_become_arrays():
    for mode in ("1", "I", "I;16"):
        assert as_array(Image.new(mode, (5, 4)), "it", TRANSFORMED).shape == (4, 5)
    for mode in ("P", "CMYK", "YCbCr", "LAB", "HSV"):
        with pytest.raises(TypeError, match=rf"mode '{mode}', allowed modes are L, .*, 1, I, I;16: call .convert"):
            as_array(Image.new(mode, (5, 4)), "it", TRANSFORMED)
        assert as_array(Image.new(mode, (5, 4)), "it", HASHED).size >= 20


def test_tensors_of_any_kind_are_read():
    conjugated = torch.complex(torch.zeros(4, 5), torch.ones(4, 5)).conj().imag
    assert conjugated.is_neg()
    np.testing.assert_array_equal(as_array(conjugated, "it"), -np.ones((4, 5)))
    as_array(torch.ones(4, 5, requires_grad=True), "it")
    halves = torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16)
    assert len({as_array(bits, "it", HASHED).tobytes() for bits in (halves, 2 * halves)}) == 2


IMAGE = np.zeros((4, 5, 3), np.uint8)
OTHERS = [
    np.zeros((4, 5, 3), np.float32), np.zeros((4, 5, 3), np.int8), np.zeros((4, 5, 4), np.uint8), np.zeros((4, 6, 3), np.uint8),
    np.zeros((3, 5, 3), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3, 1), np.uint8), np.zeros((), np.uint8),
    None, 7, 1 << 90, "image", (), [IMAGE], torch.zeros(4, 5, 3), object(),
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: f"{type(other).__name__}{getattr(other, 'shape', '')}")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_not_alike_is_seen(other, place):
    """Arrays that are alike are not looked at one by one."""
    images = [IMAGE, IMAGE.copy(), IMAGE[::-1]]
    assert read(images).alike
    assert read(images).arrays is images
    images[place] = other
    with pytest.raises((TypeError, ValueError), match=rf"image of sample {place or '[01]'}"):
        read(images)
    if isinstance(other, np.ndarray) and other.ndim in (2, 3):
        seen = read(images, purpose=TRANSFORMED)
        assert not seen.alike
        assert all(array is image for array, image in zip(seen.arrays, images, strict=True))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_arrays_of_other_classes_are_arrays(place):
    """They are looked at one by one, and are like the others."""
    for other in IMAGE.view(np.recarray), np.ma.masked_array(IMAGE), IMAGE.view(np.dtype(np.uint8, metadata={"a": 1})):
        images = [IMAGE, IMAGE.copy(), IMAGE[::-1]]
        images[place] = other
        seen = read(images)
        assert seen.alike
        assert len(seen.gathered.addresses) == 3
        np.testing.assert_array_equal(np.concatenate(seen.gathered.arrays).ravel(), np.zeros(3 * 60))


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("side", [4, 200])
def test_matrices_are_grey_images(side, rng):
    """They have two axes whatever is done to them."""
    values = rng.integers(0, 256, (3, side, side), np.uint8)
    seen = read([np.asmatrix(value) for value in values])
    assert (seen.alike, seen.gathered.shape) == (True, (side, side))
    np.testing.assert_array_equal(np.concatenate([np.ravel(array) for array in seen.gathered.arrays]), values.ravel())
