"""ResizeMix: its boxes against their naive twin, as plain Python and compiled; one size a sample, exactly its ratio."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from miamix_cpu import MiAMix, MiAMixConfig, ResizeMixOptions
from miamix_cpu.masks import UNIFORMS, cutmix, resizemix
from tests.masks import twins
from tests.masks.common import BOTH_OF_ENTRIES, alone, as_it_is, check_draw, hole_of, layers_of, shares, with_ratio

below_one = st.floats(0, 1, exclude_max=True)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(32, 48), (5, 40), (1, 1), (3, 2), (224, 224)])
@pytest.mark.parametrize(
    "options",
    [
        ResizeMixOptions(),
        ResizeMixOptions(tau=(0, 0)),
        ResizeMixOptions(tau=(0.5, 1)),
        ResizeMixOptions(tau=(1e-3, 0.05)),
        ResizeMixOptions(tau_from="alpha"),
    ],
    ids=["defaults", "nothing", "large", "tiny", "alpha"],
)
def test_boxes_from_uniform_numbers(run, options, size, rng):
    check_draw(run, "resizemix", alone("resizemix", resizemix=options), size, rng)


def drawn(size, tau, cy, cx):
    """One layer of this size and place."""
    layers, uniforms = layers_of("resizemix", ratio=0.123), np.full((1, UNIFORMS), np.nan)
    uniforms[0, 6:9] = cy, cx, 0.5
    config = alone("resizemix", resizemix=ResizeMixOptions(tau=(tau, tau)))
    resizemix.draw(layers, layers["method"][0], uniforms, config, *size)
    return layers


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), shares, below_one, below_one)
def test_a_box_is_whole_pixels_and_not_clipped(size, tau, cy, cx):
    layers = drawn(size, tau, cy, cx)
    hole = hole_of(as_it_is, layers, size)
    sides = [max(int(tau > 0), math.floor(tau * side + 0.5)) for side in size]
    assert set(np.unique(hole)) <= {0, 1}
    if min(sides) == 0:
        assert not hole.any()
        return
    ys, xs = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    assert [len(ys), len(xs)] == sides
    assert hole.sum() == sides[0] * sides[1]
    assert layers["ratio"] == pytest.approx(hole.mean(dtype=np.float64), abs=1e-12)
    for at, n, side, centre in ((ys[0], sides[0], size[0], cy), (xs[0], sides[1], size[1], cx)):
        wanted = min(max(centre * side, n / 2), side - n / 2)
        assert abs(at + n / 2 - wanted) <= 0.5 + 1e-9


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (13, 9), (16, 40)])
def test_resizemix(run, size, rng):
    for tau, cy, cx in rng.random((6, 3)):
        layers = drawn(size, tau, cy, cx)
        place = [float(layers[name][0]) for name in ("cy", "cx", "height", "width")]
        np.testing.assert_array_equal(hole_of(run, layers, size), twins.box(*size, *place))


def test_it_is_filled_as_cutmix():
    assert resizemix.fill is cutmix.fill


# Laws ----------------------------------------------------------------------------------------------------------------


def test_each_sample_has_a_size_of_its_own(rng):
    """Uniform in its range, but for rounding to pixels; published code draws one a batch."""
    plan = MiAMix(2, MiAMixConfig.plain("resizemix")).plan(4000, 1000, 1000, rng=rng)
    sides = plan.layers["height"]
    assert len(np.unique(sides)) > 600
    np.testing.assert_array_equal(sides, plan.layers["width"])
    assert stats.kstest(sides + (rng.random(4000) - 0.5) / 1000, stats.uniform(0.1, 0.7).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(sides[1:], sides[:-1])[0, 1]) < 4 / math.sqrt(4000)


@pytest.mark.parametrize("size", [(32, 32), (31, 57)])
def test_lam_is_what_the_box_leaves(size, rng):
    """Exactly: 1 - h' w' / (H W)."""
    images = rng.integers(0, 256, (200, *size, 3), dtype=np.uint8)
    batch = MiAMix(200, MiAMixConfig.plain("resizemix"))(images, range(200), rng=rng)
    layers = batch.plan.layers
    heights, widths = np.rint(layers["height"] * size[0]), np.rint(layers["width"] * size[1])
    np.testing.assert_allclose(batch.lam, 1 - heights * widths / (size[0] * size[1]), atol=1e-7)
    np.testing.assert_allclose(1 - layers["ratio"], batch.lam, atol=1e-7)
    low, high = (np.array(size) * tau for tau in (0.1, 0.8))
    assert (heights >= low[0] - 0.5).all()
    assert (heights <= high[0] + 0.5).all()
    assert (widths >= low[1] - 0.5).all()
    assert (widths <= high[1] + 0.5).all()


def test_centres_are_uniform_and_then_shifted_inside(rng):
    """Of a half of the side: a quarter of the boxes touches either border, in between they are uniform."""
    layers, uniforms = layers_of("resizemix", 20_000), rng.random((20_000, UNIFORMS))
    config = alone("resizemix", resizemix=ResizeMixOptions(tau=(0.5, 0.5)))
    resizemix.draw(layers, layers["method"][0], uniforms, config, 1000, 1000)
    for name in ("cy", "cx"):
        centres = layers[name]
        for border in (0.25, 0.75):
            assert np.isclose(centres, border).mean() == pytest.approx(0.25, abs=0.015)
        between = centres[(centres > 0.2501) & (centres < 0.7499)]
        assert stats.kstest(between, stats.uniform(0.25, 0.5).cdf).pvalue > 1e-4


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_the_ratio_may_give_the_size(ratio, rng):
    """Its square root, rounded to pixels."""
    means = with_ratio("resizemix", ratio, 64, 96, 20, rng)
    sides = [math.floor(math.sqrt(ratio) * side + 0.5) for side in (64, 96)]
    np.testing.assert_allclose(means, sides[0] * sides[1] / (64 * 96), atol=1e-6)
