"""Resampling against its naive twins and OpenCV, as plain Python and compiled."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu.masks.resample import average_area, average_into, interpolate
from tests.kernels import compiled
from tests.masks import twins
from tests.masks.common import BOTH, blank

#: From, and to: smaller by whole, odd and large ratios, larger, both at once, and as it is.
RESIZES = [
    ((8, 8), (4, 4)), ((9, 14), (4, 5)), ((13, 9), (12, 8)), ((1, 1), (5, 3)), ((3, 2), (7, 5)), ((5, 40), (9, 7)),
    ((6, 7), (6, 7)), ((40, 30), (1, 1)), ((2, 17), (1, 16)), ((64, 64), (7, 7)), ((1, 9), (3, 9)),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize(("size", "to"), RESIZES, ids=str)
def test_average_area(run, size, to, rng):
    values, out = rng.random(size).astype(np.float32), blank(to)
    before = values.copy()
    run(average_area)(out, values)
    np.testing.assert_allclose(out, twins.average_area(values, *to), atol=2e-6)
    assert out.mean(dtype=np.float64) == pytest.approx(values.mean(dtype=np.float64), abs=2e-6)
    np.testing.assert_array_equal(values, before)


@given(*[st.integers(1, 30)] * 4, st.integers(0, 1000))
def test_average_area_at_any_ratio(rows, columns, height, width, seed):
    values, out = np.random.default_rng(seed).random((rows, columns)).astype(np.float32), blank((height, width))
    compiled(average_area)(out, values)
    np.testing.assert_allclose(out, twins.average_area(values, height, width), atol=2e-6)


def workspace(columns, width, step):
    """`line`, `spans` and `edges`, longer than needed and with nothing of use in them."""
    return (
        blank(columns * step + 3), np.full((2, width + 2), -(10**9), np.int64), blank((3, width + 2))
    )  # fmt: skip


@BOTH
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("size", "to"), [((9, 14), (4, 5)), ((3, 2), (7, 5)), ((5, 6), (5, 6)), ((12, 9), (1, 8))])
def test_a_picture_is_resized_into_a_part_of_another(run, size, to, channels, dtype, rng):
    """Bytes are rounded to the nearest; nothing around the part is touched, and nothing around the picture is read."""
    picture = rng.integers(0, 256, (*size, channels)).astype(dtype)
    values = np.concatenate([np.full(7, 99, dtype), picture.ravel(), np.full(5, 99, dtype)])
    frame = np.full((to[0] + 4, to[1] + 3, channels), 77, dtype)
    expected, at = frame.astype(np.float64), (2, 1)
    expected[2 : 2 + to[0], 1 : 1 + to[1]] = twins.average_area(picture, *to)
    out, stride = frame.ravel(), to[1] + 3
    start = (at[0] * stride + at[1]) * channels
    run(average_into)(
        out, start, stride, *to, values, 7, *size, channels, *workspace(size[1], to[1], channels)
    )  # fmt: skip
    np.testing.assert_allclose(
        out.reshape(expected.shape), expected, atol=0.5 + 1e-4 if dtype == np.uint8 else 1e-4
    )  # fmt: skip


@BOTH
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("size", "to"), RESIZES, ids=str)
def test_a_constant_stays_constant(run, size, to, channels, dtype):
    for value in (0, 1, 128, 255):
        values, out = np.full(size[0] * size[1] * channels, value, dtype), np.full(to[0] * to[1] * channels, 77, dtype)
        run(average_into)(out, 0, to[1], *to, values, 0, *size, channels, *workspace(size[1], to[1], channels))
        np.testing.assert_allclose(out, value, rtol=0 if dtype == np.uint8 else 1e-6)
    level, map_ = np.full(size, 0.3, np.float32), blank(to)
    run(average_area)(map_, level)
    np.testing.assert_allclose(map_, 0.3, rtol=1e-6)
    run(interpolate)(map_, level)
    np.testing.assert_array_equal(map_, np.float32(0.3))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("size", "to"), [((224, 224), (37, 101)), ((64, 48), (32, 16)), ((57, 31), (57, 7))])
def test_bytes_are_averaged_as_opencv_does(size, to, channels, rng):
    picture = rng.integers(0, 256, (*size, channels), dtype=np.uint8)
    expected = cv2.resize(picture, to[::-1], interpolation=cv2.INTER_AREA).astype(int)
    out = np.empty(to[0] * to[1] * channels, np.uint8)
    compiled(average_into)(
        out, 0, to[1], *to, picture.ravel(), 0, *size, channels, *workspace(size[1], to[1], channels)
    )
    assert np.abs(out.reshape(*to, channels) - expected.reshape(*to, channels)).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_interleaved_channels_are_resized_as_planes_are(channels, dtype, rng):
    """To the bit: layouts change no byte."""
    picture = (rng.random((37, 41, channels)) * 255).astype(dtype)
    whole = np.empty(23 * 17 * channels, dtype)
    compiled(average_into)(whole, 0, 17, 23, 17, picture.ravel(), 0, 37, 41, channels, *workspace(41, 17, channels))
    for c in range(channels):
        plane, values = np.empty(23 * 17, dtype), np.ascontiguousarray(picture[..., c]).ravel()
        compiled(average_into)(plane, 0, 17, 23, 17, values, 0, 37, 41, 1, *workspace(41, 17, 1))
        np.testing.assert_array_equal(whole.reshape(-1, channels)[:, c], plane)


@BOTH
@pytest.mark.parametrize(("size", "to"), [(to, size) for size, to in RESIZES], ids=str)
def test_interpolate(run, size, to, rng):
    values, out = rng.random(size).astype(np.float32), blank(to)
    run(interpolate)(out, values)
    np.testing.assert_allclose(out, twins.interpolate(values, *to), atol=1e-6)
    if size == to:
        np.testing.assert_allclose(out, values, atol=1e-7)


@pytest.mark.parametrize(("size", "to"), [((4, 5), (9, 14)), ((7, 7), (64, 64)), ((1, 3), (5, 8))])
def test_maps_are_enlarged_as_opencv_does(size, to, rng):
    values, out = rng.random(size).astype(np.float32), blank(to)
    compiled(interpolate)(out, values)
    np.testing.assert_allclose(out, cv2.resize(values, to[::-1], interpolation=cv2.INTER_LINEAR), atol=1e-5)


@given(*[st.integers(1, 9)] * 2, *[st.integers(1, 30)] * 2, st.integers(0, 1000))
def test_what_is_interpolated_stays_in_range(rows, columns, height, width, seed):
    """To the very ends: a mask must lie in [0, 1]."""
    values = np.clip(2 * np.random.default_rng(seed).random((rows, columns)) - 0.5, 0, 1).astype(np.float32)
    out = blank((height, width))
    compiled(interpolate)(out, values)
    np.testing.assert_allclose(out, twins.interpolate(values, height, width), atol=1e-6)
    assert 0 <= out.min() <= out.max() <= 1
