"""Blending against its naive twin: pixels by masks, evenly around a box, and a mask as weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numba.core.errors import TypingError

from miamix_cpu.mix.blend import ONE, blend, blend_box, fill_tile, mix_evenly, mixed, split_channels, to_weights
from tests import naive
from tests.kernels import compiled, python

BOTH = pytest.mark.parametrize("run", [python, compiled])
DTYPES = [(np.uint8, np.uint8), (np.uint8, np.float32), (np.float32, np.float32)]


def layout(images, planar):
    return np.ascontiguousarray(images.transpose(2, 0, 1) if planar else images).ravel()


def fixed_point(mask, run=compiled):
    weights = np.empty(mask.size, np.int16)
    run(to_weights)(weights, mask.ravel())
    return weights


def unit(channels):
    return np.ones(channels, np.float32), np.zeros(channels, np.float32)


@BOTH
@pytest.mark.parametrize("planar_out", [False, True])
@pytest.mark.parametrize("planar_in", [False, True])
@pytest.mark.parametrize(("source", "target"), DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_blend(run, channels, source, target, planar_in, planar_out, rng):
    mask = rng.random((5, 9)).astype(np.float32)
    mask[0], mask[1] = 0, 1
    views = rng.integers(0, 256, (2, 5, 9, channels)).astype(source)
    scale, bias = unit(channels)
    if target == np.float32:
        scale, bias = rng.random(channels).astype(np.float32) / 255, rng.standard_normal(channels).astype(np.float32)
    weights = fixed_point(mask) if target == np.uint8 else mask.ravel()
    first, second = (layout(view, planar_in) for view in views)
    before, out = (first.copy(), second.copy()), np.full(45 * channels, 77, target)
    run(blend)(out, first, second, weights, 0, 0, planar_in, planar_out, scale, bias)
    expected = naive.blend(mask, *views) * scale + bias
    found = out.reshape(channels, 5, 9).transpose(1, 2, 0) if planar_out else out.reshape(5, 9, channels)
    # Half a grey level for rounding, and what 16 bits do to a weight.
    np.testing.assert_allclose(found, expected, atol=0.5 + 255 / 2**16 if target == np.uint8 else 1e-4)
    if target == np.uint8:
        np.testing.assert_array_equal(found[0], views[1][0])
        np.testing.assert_array_equal(found[1], views[0][1])
    np.testing.assert_array_equal((first, second), before)


@BOTH
@pytest.mark.parametrize("planar_out", [False, True])
@pytest.mark.parametrize("planar_in", [False, True])
@pytest.mark.parametrize(("source", "target"), DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_run_of_pixels_is_blended_as_in_the_whole(run, channels, source, target, planar_in, planar_out, rng):
    """To the bit, however an image is cut into runs; and nothing before or after a run is touched."""
    mask = rng.random(45).astype(np.float32)
    weights = fixed_point(mask) if target == np.uint8 else mask
    first, second = rng.integers(0, 256, (2, 45 * channels)).astype(source)
    scale, bias = unit(channels)
    whole, pieces = np.empty(45 * channels, target), np.full(45 * channels, 77, target)
    run(blend)(whole, first, second, weights, 0, 0, planar_in, planar_out, scale, bias)
    untouched = np.ones(45, bool)
    for start, stop in (9, 17), (0, 9), (44, 45), (17, 44):
        run(blend)(pieces, first, second, weights[start:stop], start, start, planar_in, planar_out, scale, bias)
        untouched[start:stop] = False
        by_pixel = pieces.reshape(channels, 45).T if planar_out else pieces.reshape(45, channels)
        assert (by_pixel[untouched] == 77).all()
    np.testing.assert_array_equal(pieces, whole)


@pytest.mark.parametrize(
    ("weight", "first", "second"),
    [(np.int16, np.float32, np.float32), (np.int16, np.uint8, np.float32), (np.float64, np.float32, np.float32)],
)
def test_other_kinds_are_not_mixed(weight, first, second):
    one = np.float32(1)
    with pytest.raises(TypingError):
        njit(lambda *numbers: mixed(*numbers))(weight(1), first(1), second(1), one, one)


BOXES = [(0, 0, 0, 0), (3, 3, 2, 5), (0, 7, 0, 9), (2, 6, 3, 4), (1, 7, 0, 5), (0, 5, 4, 9), (6, 7, 8, 9)]


@BOTH
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("base", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(("channels", "planar_in", "planar_out"), [
    (1, False, True), (1, True, False), (2, False, False), (3, False, False), (3, False, True), (3, True, True), (4, True, True),
])  # fmt: skip
def test_a_box_is_blended_as_its_mask_would_be(run, channels, planar_in, planar_out, base, box, rng):
    mask = np.full((7, 9), base, np.float32)
    mask[box[0] : box[1], box[2] : box[3]] = 0
    views = [layout(view, planar_in) for view in rng.integers(0, 256, (2, 7, 9, channels), np.uint8)]
    before, expected = np.copy(views), np.empty(63 * channels, np.uint8)
    compiled(blend)(expected, *views, fixed_point(mask), 0, 0, planar_in, planar_out, *unit(channels))
    for room in (3, 50, 3 * 63):
        out, split = np.full(63 * channels, 77, np.uint8), channels == 3 and planar_in != planar_out
        run(blend_box)(out, *views, base, box, 9, channels, planar_in, split, np.empty(room, np.uint8))
        np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(views, before)


@BOTH
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_a_mask_with_a_box_is_made_some_rows_at_a_time(run, rows, box):
    mask = np.full((7, 9), 0.3, np.float32)
    mask[box[0] : box[1], box[2] : box[3]] = 0
    tile = np.full(rows * 9, np.nan, np.float32)
    for start in range(0, 63, tile.size):
        part = tile[: min(tile.size, 63 - start)]
        run(fill_tile)(part, start, 0.3, 9, box)
        np.testing.assert_array_equal(part, mask.ravel()[start : start + tile.size])


@BOTH
@pytest.mark.parametrize(("start", "n"), [(0, 0), (0, 100), (33, 66), (99, 1)])
def test_bytes_are_mixed_evenly(run, start, n, rng):
    first, second = rng.integers(0, 256, (2, 100), np.uint8)
    out = np.full(100, 77, np.uint8)
    run(mix_evenly)(out, first, second, start, n, np.int16(-12345))
    exact = second + (first.astype(float) - second) * 12345 / 2**15
    np.testing.assert_array_equal(out[:n], np.floor(exact + 0.5)[start : start + n])
    assert (out[n:] == 77).all()


@BOTH
@pytest.mark.parametrize(("to", "start", "n"), [(0, 0, 20), (3, 8, 12), (19, 0, 1), (5, 5, 0)])
def test_channels_are_split(run, to, start, n, rng):
    values, out = rng.integers(0, 256, (20, 3), np.uint8), np.full((3, 20), 77, np.uint8)
    expected = out.copy()
    expected[:, to : to + n] = values[start : start + n].T
    run(split_channels)(out.ravel(), values.ravel(), to, start, n)
    np.testing.assert_array_equal(out, expected)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50))
def test_weights_of_bytes(values):
    mask = np.array(values, np.float32)
    weights = fixed_point(mask)
    np.testing.assert_allclose(weights / -32768, mask, atol=0.501 / 32768)
    np.testing.assert_array_equal(weights, fixed_point(mask, python))
    np.testing.assert_array_equal(weights == ONE, mask >= 1 - 0.5 / 32768)


def test_large_floats_do_not_overflow():
    huge = np.full(4, 3e38, np.float32)
    out = np.empty(4, np.float32)
    mask = np.array([0, 0.25, 0.5, 1], np.float32)
    compiled(blend)(out, huge, -huge, mask, 0, 0, True, True, *unit(1))
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, [-3e38, -1.5e38, 0, 3e38], rtol=1e-6)


@BOTH
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_without_weight_does_not_count(run, channels, odd):
    one = np.repeat(np.array([1, odd], np.float32), channels)
    other = np.repeat(np.array([odd, 2], np.float32), channels)
    out = np.empty(2 * channels, np.float32)
    with np.errstate(invalid="ignore"):
        run(blend)(out, one, other, np.array([1, 0], np.float32), 0, 0, False, False, *unit(channels))
    np.testing.assert_array_equal(out, np.repeat([1, 2], channels))
