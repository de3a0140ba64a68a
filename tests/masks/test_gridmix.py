"""Grids against their naive twin, as plain Python and compiled; turned as OpenCV turns them; their law by statistics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu import GridMixOptions, MiAMix
from miamix_cpu.masks import gridmix
from tests import naive
from tests.kernels import compiled
from tests.masks.common import (
    BOTH,
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


def check_gridmix(run, size, cells, side, phase_y, phase_x, angle, shear):
    layer = layers_of("gridmix", cells=cells, height=side, width=side, cy=phase_y, cx=phase_x, angle=angle, shear=shear)
    hole = hole_of(run, layer, size)
    expected, margin = naive.gridmix(*size, cells, side, phase_y, phase_x, angle, shear)
    clear = (margin > 1e-5) | (side >= 1)
    np.testing.assert_array_equal(hole[clear], expected[clear])


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("angle", "shear"), [(0, 0), (0.7, 0), (-2.5, 0.4)])
def test_gridmix(run, size, angle, shear, rng):
    for cells in (1, 2, 5):
        check_gridmix(run, size, cells, *rng.random(3), angle, shear)


@given(sizes, st.integers(1, 20), shares, shares, shares, st.floats(-math.pi, math.pi), st.floats(-1, 1))
def test_gridmix_anywhere(size, cells, side, phase_y, phase_x, angle, shear):
    check_gridmix(as_it_is, size, cells, side, phase_y, phase_x, angle, shear)


def check_random_cells(run, size, cells, chosen, angle, shear):
    """The block of cells begins at 3, and what lies before and after it is no number."""
    coefficients = np.concatenate([[np.nan] * 3, chosen, [np.nan] * 5])
    layer = layers_of(
        "gridmix", cells=cells, rows=cells, columns=cells, is_field=True, start=3, angle=angle, shear=shear
    )
    hole = hole_of(run, layer, size, coefficients)
    expected, margin = naive.gridmix_random(*size, cells, chosen, angle, shear)
    exact = angle == 0 and shear == 0
    np.testing.assert_array_equal(hole[(margin > 1e-9) | exact], expected[(margin > 1e-9) | exact])
    assert set(np.unique(hole)) <= {0, 1}


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("angle", "shear"), [(0, 0), (-2.5, 0.4), (0, 0.3)])
def test_gridmix_of_random_cells(run, size, angle, shear, rng):
    for cells, count in ((1, 1), (3, 4), (5, 25), (4, 0), (5, 11)):
        chosen = naive.largest(rng.standard_normal(cells * cells), count)
        check_random_cells(run, size, cells, chosen, angle, shear)


@given(sizes, st.integers(1, 9), st.integers(0, 1000), st.sampled_from([0.0, 1.0, -2.2]), st.floats(-1, 1))
def test_gridmix_of_random_cells_anywhere(size, cells, seed, angle, shear):
    chosen = np.random.default_rng(seed).integers(0, 2, cells * cells).astype(np.float32)
    check_random_cells(as_it_is, size, cells, chosen, angle, shear)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(32, 32), (5, 40)])
@pytest.mark.parametrize("pattern", ["regular", "random"])
@pytest.mark.parametrize("cells", [(2, 6), (3, 3)])
def test_grids_from_uniform_numbers(run, cells, pattern, size, rng):
    config = alone("gridmix", gridmix=GridMixOptions(cells=cells, pattern=pattern))
    layers, _ = check_draw(run, "gridmix", config, size, rng)
    assert set(layers["cells"]) == set(range(cells[0], cells[1] + 1))
    np.testing.assert_array_equal(layers["width"], layers["height"])
    assert layers["is_field"].all() == layers["is_field"].any() == (pattern == "random")


@given(
    st.lists(
        st.tuples(st.integers(1, 6), shares, st.floats(0, 1, exclude_max=True), st.integers(0, 3)),
        min_size=1, max_size=4,
    ),
    st.integers(0, 1000),
)  # fmt: skip
def test_chosen_cells_are_those_of_the_largest_normals(drawn, seed):
    """As many as the ratio says; equal ones by index, and what lies between the blocks is left alone."""
    rng = np.random.default_rng(seed)
    layers, blocks, at = layers_of("gridmix", len(drawn), is_field=True), [], 0
    for layer, (cells, ratio, dither, gap) in zip(layers, drawn, strict=True):
        layer["cells"] = layer["rows"] = layer["columns"] = cells
        layer["ratio"], layer["dither"], layer["start"] = ratio, dither, at + gap
        noise = rng.integers(-3, 4, cells * cells) if gap == 1 else rng.standard_normal(cells * cells)
        blocks.append((rng.standard_normal(gap).astype(np.float32), noise.astype(np.float32)))
        at += gap + cells * cells
    coefficients = np.concatenate([part for block in blocks for part in block])
    gridmix.finish(layers, coefficients)
    at = 0
    for (gap, noise), (cells, ratio, dither, _) in zip(blocks, drawn, strict=True):
        np.testing.assert_array_equal(coefficients[at : at + len(gap)], gap)
        at += len(gap)
        expected = naive.random_cells(cells, noise, ratio, dither)
        np.testing.assert_array_equal(coefficients[at : at + len(noise)], expected)
        at += len(noise)


def test_a_count_of_cells_is_never_rounded_beyond_all(rng):
    """36 + the number before 1 is 37 in float64; one more than there are."""
    config = alone("gridmix", gridmix=GridMixOptions(pattern="random", cells=(6, 6)))
    plan = MiAMix(2, config).plan(20, 6, 6, rng=rng)
    plan.layers["ratio"], plan.layers["dither"] = 1.0, np.nextafter(1.0, 0.0)
    plan.coefficients[:] = rng.standard_normal(20 * 36)
    gridmix.finish(plan.layers, plan.coefficients)
    assert (plan.coefficients == 1).all()
    batch = MiAMix(2, config, return_masks=True).render(plan, np.zeros((20, 6, 6), np.uint8), np.zeros(20, int))
    assert (batch.masks == 0).all()


@BOTH
def test_a_full_grid_has_no_gap_where_a_coordinate_rounds_to_one(run):
    """u - floor(u) is 1.0 for the tiniest negative u, as turns by multiples of 45 degrees make it."""
    for quarter in range(-8, 9):
        hole = blank((9, 9))
        run(gridmix.fill_regular)(hole, 3, 1.0, 0.0, 0.0, quarter * math.pi / 4, 0.0)
        assert hole.min() == 1


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.9, -2.7])
@pytest.mark.parametrize("shear", [0.0, 0.5, -0.3])
def test_gridmix_is_turned_as_opencv_turns_it(angle, shear):
    height, width, cells, side = 96, 128, 4, 0.5
    hole = np.empty((height, width), np.float32)
    compiled(gridmix.fill_regular)(hole, cells, side, 0.25, 0.75, angle, shear)
    canvas = np.empty((3 * height, 3 * width), np.float32)
    # The same phase at the centre of the canvas: three times as many cells of the same size.
    compiled(gridmix.fill_regular)(canvas, 3 * cells, side, 0.25, 0.75, 0.0, 0.0)
    expected = warped(canvas.astype(np.uint8), matrix_of(angle, shear), height, width)
    clear = ~near_an_edge(expected)
    np.testing.assert_array_equal(hole[clear], expected[clear])
    assert clear.mean() > 0.5


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
@pytest.mark.parametrize("augmented", [0.0, 1.0])
def test_gridmix_of_random_cells_keeps_its_ratio(augmented, ratio, size, rng):
    means = with_ratio("gridmix", ratio, *size, 1500, rng, p_aug=augmented, gridmix=GridMixOptions(pattern="random"))
    assert_mean(means, ratio)
