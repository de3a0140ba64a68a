"""Boxes against their naive twin, as plain Python and compiled; turned as OpenCV turns them; their law by statistics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu import CutMixOptions
from miamix_cpu.masks.cutmix import box_of, fill_turned
from tests import naive
from tests.kernels import compiled, python
from tests.masks.common import (
    BOTH_OF_ENTRIES,
    SIZES,
    alone,
    as_it_is,
    assert_mean,
    blank,
    check_draw,
    hole_of,
    layers_of,
    matrix_of,
    near_an_edge,
    shares,
    sizes,
    warped,
    with_ratio,
)


def check_cutmix(run, size, cy, cx, height, width, angle, shear):
    layer = layers_of(
        "cutmix", cy=cy, cx=cx, height=height, width=width, augmented=angle != 0 or shear != 0, angle=angle, shear=shear
    )
    hole = hole_of(run, layer, size)
    expected, margin = naive.cutmix(*size, cy, cx, height, width, angle, shear)
    clear = margin > 1e-5
    np.testing.assert_array_equal(hole[clear], expected[clear])
    assert set(np.unique(hole)) <= {0, 1}


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("angle", "shear"), [(0, 0), (0.7, 0), (-2.5, 0.4)])
def test_cutmix(run, size, angle, shear, rng):
    for _ in range(8):
        check_cutmix(run, size, *rng.random(4), angle, shear)


@given(sizes, shares, shares, shares, shares, st.floats(-math.pi, math.pi), st.floats(-1, 1))
def test_cutmix_anywhere(size, cy, cx, height, width, angle, shear):
    check_cutmix(as_it_is, size, cy, cx, height, width, angle, shear)


@given(sizes, shares, shares, shares, shares)
def test_a_box_turned_by_nothing_is_upright(size, cy, cx, height, width):
    hole = blank(size)
    compiled(fill_turned)(hole, cy, cx, height, width, 0.0, 0.0)
    expected, margin = naive.cutmix(*size, cy, cx, height, width)
    np.testing.assert_array_equal(hole[margin > 1e-5], expected[margin > 1e-5])


@given(sizes, *[st.sampled_from([i / 16 for i in range(-8, 25)])] * 2, *[st.integers(0, 24).map(lambda i: i / 16)] * 2)
def test_a_box_holds_the_pixels_whose_centres_lie_inside(size, cy, cx, height, width):
    """Also outside of the image; a centre on the very edge, of which there are many here, is outside."""
    rows, columns = size
    expected = np.zeros(size)
    for y, x in naive.pixels(*size):
        inside_y = abs(2 * ((y + 0.5) - cy * rows)) < height * rows
        expected[y, x] = inside_y and abs(2 * ((x + 0.5) - cx * columns)) < width * columns
    for run in (python, compiled):
        top, bottom, left, right = run(box_of)(cy, cx, height, width, rows, columns)
        hole = np.zeros(size)
        hole[top:bottom, left:right] = 1
        np.testing.assert_array_equal(hole, expected)
        assert 0 <= top <= bottom <= rows
        assert 0 <= left <= right <= columns
        assert expected.any() or (top, bottom, left, right) == (0, 0, 0, 0)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize(
    "options",
    [CutMixOptions(), CutMixOptions(inside=True), CutMixOptions(minmax=(0.2, 0.6)), CutMixOptions(minmax=(0, 0))],
    ids=["clipped", "inside", "minmax", "nothing"],
)
def test_boxes_from_uniform_numbers(run, options, rng):
    check_draw(run, "cutmix", alone("cutmix", cutmix=options), (32, 48), rng)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.9, -2.7])
@pytest.mark.parametrize("shear", [0.0, 0.5, -0.3])
def test_cutmix_is_turned_as_opencv_turns_it(angle, shear):
    """About the box's own centre: the canvas is drawn with the box in its middle, and cropped off-centre."""
    size, cy, cx, side = 96, 0.375, 0.5625, 0.5
    layer = layers_of("cutmix", cy=cy, cx=cx, height=side, width=side, augmented=True, angle=angle, shear=shear)
    hole = hole_of(as_it_is, layer, (size, size))
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


# Laws ----------------------------------------------------------------------------------------------------------------


def box_mean(side, angle, shear, rng, points=200_000):
    """Mean of a clipped box that is turned about a uniform centre: E[(1 - |dy|)(1 - |dx|)] over the box, times its
    area; offsets of a side or more never overlap."""
    v, u = (rng.random((2, points)) - 0.5) * side
    u = u - shear * v
    dx, dy = u * np.cos(angle) - v * np.sin(angle), u * np.sin(angle) + v * np.cos(angle)
    return side**2 * np.mean(np.maximum(0, 1 - np.abs(dx)) * np.maximum(0, 1 - np.abs(dy)))


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("p_smooth", [0.0, 1.0])
def test_cutmix_is_clipped_as_it_should_be(p_smooth, ratio, size, rng):
    means = with_ratio("cutmix", ratio, *size, 4000, rng, p_smooth=p_smooth)
    side = math.sqrt(ratio)
    # Half a pixel of the shorter side is what a grid of centres may add.
    assert_mean(means, (side - side**2 / 4) ** 2, extra=0.25 / min(size) ** 2)


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_cutmix_turned_and_sheared_keeps_its_area(ratio, size, rng):
    """On the unit square: turned in pixels, a box of ratio .5 on 16 x 256 would shrink from .34 to .10."""
    means = with_ratio("cutmix", ratio, *size, 6000, rng, p_aug=1.0)
    angles, shears = rng.uniform(-math.pi, math.pi, 200), rng.uniform(-0.5, 0.5, 200)
    expected = np.mean([box_mean(math.sqrt(ratio), a, s, rng, 5000) for a, s in zip(angles, shears, strict=True)])
    assert_mean(means, expected, extra=0.003)
    side = math.sqrt(ratio)
    assert expected == pytest.approx((side - side**2 / 4) ** 2, abs=0.015)


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_cutmix_kept_inside_has_its_ratio(ratio, rng):
    means = with_ratio("cutmix", ratio, 32, 32, 4000, rng, cutmix=CutMixOptions(inside=True))
    assert_mean(means, ratio, extra=0.002)


def test_cutmix_minmax_draws_sides(rng):
    means = with_ratio("cutmix", 0.9, 64, 64, 4000, rng, cutmix=CutMixOptions(minmax=(0.2, 0.6)))
    assert_mean(means, 0.4**2, extra=0.002)
