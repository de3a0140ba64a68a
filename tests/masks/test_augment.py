"""Mask augmentation: OpenCV is the independent oracle."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miamix_cpu.masks.running import add_up
from numba.core.errors import TypingError

from miamix_cpu.masks.augment import make_room, mirror, smooth
from miamix_cpu.masks.cutmix import fill_cutmix
from miamix_cpu.masks.gridmix import fill_gridmix
from tests import naive

BOTH = pytest.mark.parametrize("run", [lambda f: f.py_func, lambda f: f], ids=["python", "compiled"])


@BOTH
def test_mirror_repeats_the_end(run):
    assert [run(mirror)(i, 3) for i in range(-7, 10)] == [0, 0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1, 2, 2]


@BOTH
@pytest.mark.parametrize("window", [1, 3, 5, 9, 25])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 1), (5, 8)])
def test_smooth(run, size, window, rng):
    """Windows several times as large as the image are among them."""
    hole = (rng.random(size) < 0.4).astype(np.float32)
    expected = naive.smooth(hole, window)
    run(smooth)(hole, window, make_room(*size))
    np.testing.assert_allclose(hole, expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (5, 9), (30, 70)])
def test_room_is_whole_vectors(size):
    """Nothing sees what lies beyond the image, but vectors are read from there."""
    sums, running = make_room(*size)
    assert all(0 <= room - side < step for room, side, step in zip(sums.shape, size, (4, 8), strict=True))
    assert sums.shape[0] % 4 == sums.shape[1] % 8 == 0
    assert running.shape[0] == 4
    assert running.shape[1] >= max(sums.shape[1] + 91, size[1] + 181)  # after the larger half; both ends mirrored


@pytest.mark.parametrize("top", [0, 4])
@pytest.mark.parametrize("n", [8, 16, 40])
def test_running_sums_wrap(n, top, rng):
    values = rng.integers(-(2**15), 2**15, (8, n)).astype(np.int16)
    out = np.full((4, n + 5), 7, np.int16)
    add_up(out, 3, values, top)
    np.testing.assert_array_equal(out[:, 3 : n + 3], np.cumsum(values[top : top + 4], axis=1, dtype=np.int16))
    assert (out[:, :3] == 7).all()
    assert (out[:, n + 3 :] == 7).all()


@pytest.mark.parametrize(
    "values", [np.zeros((4, 8), np.int32), np.zeros((4, 16), np.int16)[:, :8]], ids=["int32", "strided"]
)
def test_rows_that_vectors_could_not_be_read_from(values):
    with pytest.raises(TypingError):
        add_up(np.zeros((4, 8), np.int16), 0, values, 0)


@pytest.mark.parametrize("window", [3, 7, 31, 181])
@pytest.mark.parametrize("size", [(64, 64), (16, 256), (33, 70), (16, 600)])
def test_smooth_is_opencvs_blur_with_mirrored_borders(size, window, rng):
    hole = (rng.random(size) < 0.4).astype(np.float32)
    expected = cv2.blur(hole.astype(np.float64), (window, window), borderType=cv2.BORDER_REFLECT)
    smooth(hole, window, make_room(*size))
    np.testing.assert_allclose(hole, expected, atol=1e-6)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 90), st.integers(0, 2**32 - 1))
def test_smoothing_keeps_the_mean_and_what_is_full(height, width, radius, seed):
    hole = (np.random.default_rng(seed).random((height, width)) < 0.5).astype(np.float32)
    mean, full, none = hole.mean(dtype=np.float64), np.ones_like(hole), np.zeros_like(hole)
    for picture in (hole, full, none):
        smooth(picture, 2 * radius + 1, make_room(height, width))
    assert hole.mean(dtype=np.float64) == pytest.approx(mean, abs=1e-6)
    assert (full == 1).all()
    assert (none == 0).all()


def near_an_edge(picture):
    """Pixels with a neighbour, out of eight, of another value."""
    return cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0


def warped(canvas, matrix, height, width):
    """`canvas`, three times as large, warped about its centre and cropped; `matrix` maps result to source (x, y)."""
    centre = np.array([canvas.shape[1], canvas.shape[0]]) / 2 - 0.5
    affine = np.column_stack([matrix, centre - matrix @ centre])
    result = cv2.warpAffine(canvas, affine, canvas.shape[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    return result[top : top + height, left : left + width]


def matrix_of(angle, shear):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, shear], [0, 1]]) @ np.array([[c, s], [-s, c]])


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.9, -2.7])
@pytest.mark.parametrize("shear", [0.0, 0.5, -0.3])
def test_cutmix_is_turned_as_opencv_turns_it(angle, shear):
    """About the box's own centre: the canvas is drawn with the box in its middle, and cropped off-centre."""
    size, cy, cx, side = 96, 0.375, 0.5625, 0.5
    hole = np.empty((size, size), np.float32)
    fill_cutmix(hole, cy, cx, side, side, True, angle, shear)
    canvas = np.zeros((3 * size, 3 * size), np.uint8)
    middle = canvas.shape[0] // 2
    half = round(side * size / 2)
    canvas[middle - half : middle + half, middle - half : middle + half] = 1
    whole = warped(canvas, matrix_of(angle, shear), 3 * size, 3 * size)
    top, left = middle - round(cy * size), middle - round(cx * size)
    expected = whole[top : top + size, left : left + size]
    clear = ~near_an_edge(expected)
    np.testing.assert_array_equal(hole[clear], expected[clear])
    assert expected.any()


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.9, -2.7])
@pytest.mark.parametrize("shear", [0.0, 0.5, -0.3])
def test_gridmix_is_turned_as_opencv_turns_it(angle, shear):
    height, width, cells, side = 96, 128, 4, 0.5
    hole = np.empty((height, width), np.float32)
    fill_gridmix(hole, cells, side, 0.25, 0.75, angle, shear, np.zeros(0, np.float32), 0)
    canvas = np.empty((3 * height, 3 * width), np.float32)
    # The same phase at the centre of the canvas: three times as many cells of the same size.
    fill_gridmix(canvas, 3 * cells, side, 0.25, 0.75, 0.0, 0.0, np.zeros(0, np.float32), 0)
    expected = warped(canvas.astype(np.uint8), matrix_of(angle, shear), height, width)
    clear = ~near_an_edge(expected)
    np.testing.assert_array_equal(hole[clear], expected[clear])
    assert clear.mean() > 0.5
