"""Attentive CutMix: the cells where the partner's guide is largest, against their naive twin, in Python and compiled."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu import AttentiveCutMixOptions, MiAMix
from miamix_cpu.masks import attentivecutmix, gridmix
from tests import naive
from tests.masks import twins
from tests.masks.common import (
    BOTH_OF_ENTRIES,
    SIZES,
    aimed,
    alone,
    as_it_is,
    assert_mean,
    check_draw,
    hole_of,
    layers_of,
)


def options_of(**options):
    return alone("attentivecutmix", attentivecutmix=AttentiveCutMixOptions(**options))


@BOTH_OF_ENTRIES
@pytest.mark.parametrize(
    "options", [{}, {"grid": 1, "cells": 1}, {"grid": 64, "cells": 0, "guide": "spectral"}, {"cells": "ratio"}]
)
def test_blocks_from_uniform_numbers(run, options, rng):
    layers, _ = check_draw(run, "attentivecutmix", options_of(**options), (32, 48), rng)
    assert options.get("cells") == "ratio" or not layers["dither"].any()


def aim(run, guides, partners, grid, ratio, dither=0.0):
    """The blocks of layers that look at these guides; they begin at 3, and what lies around them is left alone."""
    count, size = len(partners), grid * grid
    layers = layers_of("attentivecutmix", count, cells=grid, rows=grid, columns=grid, is_field=True, guide=1)
    layers["ratio"], layers["dither"], layers["start"] = ratio, dither, 3 + np.arange(count) * (size + 2)
    coefficients, before = np.full(3 + count * (size + 2), np.nan, np.float32), layers.copy()
    own = np.full(count, 10**9)  # nobody's
    run(attentivecutmix.aim)(layers, own, np.array(partners), np.array(guides, np.float32), coefficients)
    assert layers.tobytes() == before.tobytes()
    blocks = [coefficients[start : start + size] for start in layers["start"]]
    assert np.isnan(coefficients).sum() == 3 + 2 * count
    return blocks


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(7, 7), (64, 64), (64, 43), (14, 28), (3, 5), (1, 1), (100, 90)])
@pytest.mark.parametrize("grid", [1, 4, 7])
def test_the_highest_cells_are_chosen(run, grid, size, rng):
    """Of the guide's mean over each; of smaller guides too, whose pixels then cover several cells."""
    guides = rng.random((4, *size)).astype(np.float32)
    partners = [3, 0, 2, 2]
    for count in range(0, grid * grid + 1, 4):
        blocks = aim(run, guides, partners, grid, count / grid**2)
        for block, partner in zip(blocks, partners, strict=True):
            assert block.sum() == count
            assert set(np.unique(block)) <= {0, 1}
            np.testing.assert_array_equal(block, twins.highest_cells(guides[partner], grid, count))
            means = twins.average_area(guides[partner], grid, grid).ravel()
            assert means[block == 1].min(initial=2) >= means[block == 0].max(initial=-1) - 1e-6


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(4, 4), (16, 8)])
def test_of_equal_cells_the_first_are_chosen(run, size, rng):
    """Means over powers of two are exact."""
    for values in (1, 2, 3):
        guide = np.kron(rng.integers(0, values, (4, 4)), np.ones((size[0] // 4, size[1] // 4)))
        for count in range(17):
            (block,) = aim(run, [guide], [0], 4, count / 16)
            np.testing.assert_array_equal(block, twins.highest_cells(guide, 4, count))


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(32, 32), (64, 43), (5, 9), (1, 1), (64, 64), (33, 50)])
@pytest.mark.parametrize("grid", [3, 7, 20])
def test_of_a_flat_guide_the_first_cells_are_chosen(run, grid, size):
    """Also where pixels lie across the edges of cells: shares of pixels are counted in whole numbers."""
    flat = np.stack([np.full(size, value, np.float32) for value in (0, 0.1, 1 / 3, 0.7, 123.4, 1e-30, 1e30)])
    first = (np.arange(grid * grid) < 6).astype(np.float32)
    for block in aim(run, flat, range(len(flat)), grid, 6 / grid**2):
        np.testing.assert_array_equal(block, first)


@BOTH_OF_ENTRIES
def test_of_cells_that_mirror_each_other_the_first_are_chosen(run, rng):
    """Equal sums, added up in another order."""
    half = (rng.integers(0, 512, (32, 16)) / np.float32(255)).astype(np.float32)
    guide = np.concatenate([half, half[:, ::-1]], axis=1)
    guide = np.concatenate([guide[:16], guide[15::-1]])
    for count in range(0, 50, 3):
        (block,) = aim(run, [guide], [0], 7, count / 49)
        np.testing.assert_array_equal(block, twins.highest_cells(guide, 7, count))


@given(st.integers(1, 64), st.data())
def test_a_number_of_cells_is_that_number(grid, data):
    """Also where count / cells^2 times cells^2 is a little less."""
    count = data.draw(st.integers(0, grid * grid))
    config = options_of(grid=grid, cells=count)
    plan = aimed(MiAMix(2, config).plan(2, 8, 8, rng=np.random.default_rng(0)), np.ones((2, 8, 8)))
    assert plan.coefficients.sum() == 2 * count
    np.testing.assert_allclose(plan.layers["ratio"], count / grid**2)


@given(st.integers(1, 9), st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_a_ratio_is_rounded_by_lot(grid, ratio, dither):
    (block,) = aim(as_it_is, np.ones((1, 6, 6)), [0], grid, ratio, dither)
    wanted = ratio * grid**2 + dither
    assert block.sum() == min(grid**2, math.floor(wanted)) or wanted % 1 > 1 - 2e-6


def test_a_ratio_is_kept_on_average(rng):
    config = options_of(cells="ratio", grid=3).replace(alpha=2.0)
    plan = aimed(MiAMix(2, config).plan(4000, 6, 6, rng=rng), rng.random((4000, 6, 6)))
    blocks = plan.coefficients.reshape(4000, 9)
    assert_mean(blocks.mean(axis=1, dtype=np.float64) - plan.layers["ratio"], 0.0)


def test_it_is_filled_as_gridmix():
    assert attentivecutmix.fill is gridmix.fill


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grid", [1, 7, 20])
def test_attentivecutmix(run, grid, size, rng):
    """The block begins at 3, and what lies before and after it is no number."""
    chosen = rng.integers(0, 2, grid * grid)
    coefficients = np.concatenate([[np.nan] * 3, chosen, [np.nan] * 5])
    layer = layers_of("attentivecutmix", cells=grid, rows=grid, columns=grid, is_field=True, start=3, guide=1)
    hole = hole_of(run, layer, size, coefficients)
    np.testing.assert_array_equal(hole, naive.gridmix_random(*size, grid, chosen)[0])


# Laws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [False, True])
@pytest.mark.parametrize(("options", "share"), [({}, 6 / 49), ({"cells": 20}, 20 / 49), ({"grid": 4}, 6 / 16)])
def test_lam_is_the_share_of_cells_that_are_left(options, share, seconds, rng):
    """At the place of the cells in the partner's own guide, on images whose cells are whole pixels."""
    n, size = 20, (28, 56)
    maps, second_maps = rng.random((2, n, 14, 28)).astype(np.float32)
    images = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
    given_ = {"second": images.copy(), "second_maps": second_maps} if seconds else {}
    config = options_of(**options)
    batch = MiAMix(n, config, return_masks=True)(images, range(n), rng=rng, maps=maps, **given_)
    grid = config.attentivecutmix.grid
    for i in range(n):
        guide = (second_maps if seconds else maps)[batch.partner[i]]
        cells = twins.highest_cells(guide, grid, config.attentivecutmix.cells).reshape(grid, grid)
        expected = np.kron(cells, np.ones((size[0] // grid, size[1] // grid)))
        np.testing.assert_array_equal(1 - batch.masks[i], expected)
        assert f"of {grid} x {grid} cells" in batch.describe(i)
    np.testing.assert_allclose(batch.lam, 1 - share, atol=1e-6)


def test_masks_may_be_smoothed_and_are_not_turned(rng):
    config = options_of().replace(p_smooth=1.0, p_aug=1.0)
    maps = rng.random((9, 12, 15))
    mix = MiAMix(2, config, return_masks=True)
    batch = mix(np.zeros((9, 12, 15), np.uint8), np.zeros(9, int), rng=rng, maps=maps)
    assert not batch.plan.layers["augmented"].any()
    for mask, layer in zip(batch.masks, batch.plan.layers, strict=True):
        expected = naive.hole_of(layer, batch.plan.coefficients, 12, 15)
        np.testing.assert_allclose(1 - mask, expected, atol=1e-6)
        assert len(np.unique(mask)) > 2
