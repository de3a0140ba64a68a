"""Smoothing against its naive twin, as plain Python and compiled, and against OpenCV's blur."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu.masks.smooth import ROWS, add_up, mean_rows, mirror, mirror_ends, slide_row, smooth
from miamix_cpu.plan.layers import LAYER
from tests import naive
from tests.kernels import python
from tests.masks.common import BOTH, BOTH_OF_ENTRIES, as_it_is, blank


def smoothed(run, hole, window, level=0.0):
    """`hole` by the entry, as the only hole of the only layer; the 32 bits of running sums wrap, as they may."""
    layers, holes = np.zeros(1, LAYER), hole[None].copy()
    layers["window"], layers["level"] = window, level
    with np.errstate(over="ignore"):
        run(smooth)(layers, np.zeros(1, np.int64), holes)
    return holes[0]


@BOTH
def test_mirror_repeats_the_end(run):
    assert [run(mirror)(i, 3) for i in range(-7, 10)] == [0, 0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1, 2, 2]


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("window", [1, 3, 5, 9, 25])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 1), (5, 8), (2, 3), (3, 2), (4, 7), (6, 5), (9, 4)])
def test_smooth(run, size, window, rng):
    """Windows several times as large as the image are among them, and heights that are no whole number of ROWS."""
    hole = (rng.random(size) < 0.4).astype(np.float32)
    np.testing.assert_allclose(smoothed(run, hole, window), naive.smooth(hole, window), atol=1e-6)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("level", [1e-9, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("window", [1, 3, 25])
def test_a_hole_may_be_above_0_outside_of_its_box(run, window, level, rng):
    """hmix's: it keeps its mean, and what is 1 all around stays 1."""
    hole = np.where(rng.random((9, 14)) < 0.4, 1, level).astype(np.float32)
    hole[:3, :3] = 1
    found = smoothed(run, hole, window, level)
    np.testing.assert_allclose(found, naive.smooth(hole, window), atol=1e-6)
    assert found.mean(dtype=np.float64) == pytest.approx(hole.mean(dtype=np.float64), abs=1e-6)
    assert found.max() <= 1
    assert window > 3 or found[0, 0] == 1
    even = np.full((5, 6), level, np.float32)
    np.testing.assert_allclose(smoothed(run, even, window, level), even, atol=1e-7)
    assert (smoothed(run, np.ones((5, 6), np.float32), window, level) == 1).all()


@BOTH_OF_ENTRIES
def test_layers_with_a_window_and_a_hole_are_smoothed_and_no_others(run, rng):
    holes = (rng.random((6, 5, 7)) < 0.4).astype(np.float32)
    layers, slots = np.zeros(7, LAYER), np.array([4, -1, 0, 2, -1, 5, 1])
    layers["window"] = [3, 3, 0, 5, 0, 25, 0]
    expected = holes.copy()
    for slot, window in ((4, 3), (2, 5), (5, 25)):
        expected[slot] = naive.smooth(holes[slot], window)
    with np.errstate(over="ignore"):
        run(smooth)(layers, slots, holes)
    np.testing.assert_allclose(holes, expected, atol=1e-6)
    for slot in (0, 1, 3):
        np.testing.assert_array_equal(holes[slot], expected[slot])


@BOTH
@pytest.mark.parametrize("top", [0, ROWS])
@pytest.mark.parametrize("n", [1, 8, 16, 40])
def test_running_sums_wrap(run, n, top, rng):
    values = rng.integers(-(2**15), 2**15, (2 * ROWS, n)).astype(np.int16)
    out = np.full((ROWS // 2, n + 5), 7, np.int32)
    with np.errstate(over="ignore"):
        run(add_up)(out, 3, values, top, n)
    rows = np.cumsum(values[top : top + ROWS], axis=1, dtype=np.int64)
    np.testing.assert_array_equal(out[:, 3 : n + 3], (rows[::2] + (rows[1::2] << 16)).astype(np.int32))
    assert (out[:, :3] == 7).all()
    assert (out[:, n + 3 :] == 7).all()


@BOTH
@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_running_sums_go_on_where_a_row_is_mirrored(run, n, rng):
    radius = n  # as far as what is known of the row reaches
    values = rng.integers(0, 10, n)
    row = values[[naive_mirror(x, n) for x in range(-radius, n + radius)]]
    expected = np.concatenate([[0], np.cumsum(row)]) - row[:radius].sum()
    running = expected.astype(np.int32)
    running[: radius + 1] = running[radius + n + 1 :] = -99
    run(mirror_ends)(running, radius, n)
    np.testing.assert_array_equal(running, expected)


def naive_mirror(index, n):
    return index % (2 * n) if index % (2 * n) < n else 2 * n - 1 - index % (2 * n)


@BOTH
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("window", [1, 3, 181])
def test_means_of_two_rows_that_share_their_sums(run, window, both, rng):
    """Up to a full window, of 32761, in each half; the mean is at most 1."""
    n = 50
    sums = rng.integers(0, window * window + 1, (2, n + window))
    sums[:, :5] = window * window
    running = np.zeros(n + window, np.int64)
    for x in range(n):
        running[x + window] = running[x] + sums[0, x] + (sums[1, x] << 16)
    share = np.nextafter(np.float32(1) / np.float32(window * window), np.float32(2))
    upper, lower = blank(n), blank(n)
    with np.errstate(over="ignore"):
        run(mean_rows)(upper, lower, running.astype(np.int32), window, share, both)
    np.testing.assert_allclose(upper, sums[0, :n] / window**2, rtol=1e-6)
    assert (upper[:5] == 1).all()
    if both:
        np.testing.assert_allclose(lower, sums[1, :n] / window**2, rtol=1e-6)
        assert (lower[:5] == 1).all()
    else:
        assert np.isnan(lower).all()


@BOTH
def test_sums_slide(run, rng):
    before = rng.integers(0, 181, 30).astype(np.int16)
    entering, leaving = rng.integers(0, 2, (2, 30)).astype(np.float32)
    sums = np.full(30, 99, np.int16)
    run(slide_row)(sums, before, entering, leaving)
    np.testing.assert_array_equal(sums, before + entering - leaving)


@pytest.mark.parametrize("window", [3, 7, 31, 181])
@pytest.mark.parametrize("size", [(64, 64), (16, 256), (33, 70), (16, 600)])
def test_smooth_is_opencvs_blur_with_mirrored_borders(size, window, rng):
    hole = (rng.random(size) < 0.4).astype(np.float32)
    expected = cv2.blur(hole.astype(np.float64), (window, window), borderType=cv2.BORDER_REFLECT)
    np.testing.assert_allclose(smoothed(as_it_is, hole, window), expected, atol=1e-6)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 90), st.integers(0, 2**32 - 1))
def test_smoothing_keeps_the_mean_and_what_is_full(height, width, radius, seed):
    hole = (np.random.default_rng(seed).random((height, width)) < 0.5).astype(np.float32)
    mean, window = hole.mean(dtype=np.float64), 2 * radius + 1
    assert smoothed(as_it_is, hole, window).mean(dtype=np.float64) == pytest.approx(mean, abs=1e-6)
    assert (smoothed(as_it_is, np.ones_like(hole), window) == 1).all()
    assert (smoothed(as_it_is, np.zeros_like(hole), window) == 0).all()


@pytest.mark.parametrize("window", [1, 3, 5, 89, 181])
def test_a_full_window_is_one_in_plain_python_too(window):
    assert (smoothed(python, np.ones((3, 5), np.float32), window) == 1).all()
