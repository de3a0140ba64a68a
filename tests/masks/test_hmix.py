"""HMix: boxes and levels against their naive twin, as plain Python and compiled; the mean is the ratio."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu import HMixOptions
from miamix_cpu.masks import UNIFORMS, cutmix, hmix
from tests import naive
from tests.masks import twins
from tests.masks.common import (
    BOTH_OF_ENTRIES,
    SIZES,
    alone,
    as_it_is,
    check_draw,
    hole_of,
    layers_of,
    masks_with_ratio,
    shares,
    sizes,
)

below_one = st.floats(0, 1, exclude_max=True)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(32, 48), (5, 40), (1, 1), (3, 2)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_boxes_and_levels_from_uniform_numbers(run, share, size, rng):
    layers, _ = check_draw(run, "hmix", alone("hmix", hmix=HMixOptions(share=share)), size, rng)
    assert not layers["augmented"].any()
    if share == 0:
        np.testing.assert_array_equal(layers["level"], layers["ratio"])


def drawn(run, size, ratio, share, cy, cx):
    """One layer whose box is centred at (cy, cx)."""
    layers, uniforms = layers_of("hmix", ratio=ratio), np.full((1, UNIFORMS), np.nan)
    uniforms[0, 6:8] = cy, cx
    run(hmix.draw)(layers, layers["method"][0], uniforms, alone("hmix", hmix=HMixOptions(share=share)), *size)
    return layers


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_hmix(run, share, size, rng):
    for ratio, cy, cx in [*rng.random((6, 3)), (0.0, 0.4, 0.4), (1.0, 0.0, 0.9), (1.0, 0.5, 0.5)]:
        layers = drawn(run, size, ratio, share, cy, cx)
        hole = hole_of(run, layers, size)
        side = math.sqrt(ratio * share)
        expected = naive.cutmix(*size, cy, cx, side, side)[0]
        level = 0.0 if expected.all() else max(0.0, (ratio - expected.mean()) / (1 - expected.mean()))
        np.testing.assert_allclose(hole, np.where(expected == 1, 1, level), atol=1e-6)
        np.testing.assert_array_equal(hole[expected == 1], 1)


@given(sizes, shares, shares, below_one, below_one)
def test_the_mean_is_the_ratio(size, ratio, share, cy, cx):
    """Whatever is clipped; only where the pixels inside the box are more than the ratio is the mean theirs."""
    layers = drawn(as_it_is, size, ratio, share, cy, cx)
    hole = hole_of(as_it_is, layers, size)
    side = math.sqrt(ratio * share)
    inside = twins.box(*size, cy, cx, side, side).mean()
    assert hole.mean(dtype=np.float64) == pytest.approx(max(ratio, inside), abs=1e-6)
    assert ((hole >= 0) & (hole <= 1)).all()


@pytest.mark.parametrize("size", [(32, 32), (31, 57)])
def test_a_share_of_0_is_mixup(size, rng):
    masks = masks_with_ratio("hmix", 0.3, *size, 20, rng, hmix=HMixOptions(share=0.0))
    np.testing.assert_allclose(1 - masks, 0.3, atol=1e-6)


def test_a_share_of_1_is_cutmix_where_nothing_is_clipped(rng):
    """A quarter of the image, from whole pixels to whole pixels; and clipped to half of it, the rest is made up for."""
    box = {"ratio": 0.25, "cy": 0.5, "cx": 0.375, "height": 0.5, "width": 0.5}
    layers = drawn(as_it_is, (16, 16), 0.25, 1.0, 0.5, 0.375)
    assert layers["level"] == 0
    expected = hole_of(as_it_is, layers_of("cutmix", **box), (16, 16))
    np.testing.assert_array_equal(hole_of(as_it_is, layers, (16, 16)), expected)
    clipped = drawn(as_it_is, (16, 16), 0.25, 1.0, 0.0, 0.375)
    assert clipped["level"] == pytest.approx(0.125 / 0.875, abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("size", [(32, 32), (31, 57)])
def test_a_smoothed_hole_keeps_the_ratio(size, share, rng):
    for ratio in (0.2, 0.7, 0.95):
        options = {"hmix": HMixOptions(share=share), "p_smooth": 1.0}
        masks = masks_with_ratio("hmix", ratio, *size, 50, rng, **options)
        np.testing.assert_allclose(1 - masks.mean(axis=(1, 2), dtype=np.float64), ratio, atol=1e-6)
        assert share == 0 or len(np.unique(masks[0])) > 2


def test_it_is_filled_as_cutmix_at_a_level():
    assert hmix.fill is cutmix.fill
