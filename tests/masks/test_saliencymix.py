"""SaliencyMix: boxes at the peaks of the partners' guides, against their naive twin, as plain Python and compiled."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu import MiAMix, MiAMixConfig, SaliencyMixOptions
from miamix_cpu.masks import cutmix, saliencymix
from miamix_cpu.plan.layers import describe_layer
from tests import naive
from tests.masks import twins
from tests.masks.common import BOTH_OF_ENTRIES, SIZES, aimed, alone, as_it_is, check_draw, hole_of, layers_of

NOTHING = np.empty(0, np.float32)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("guide", ["fine_grained", "spectral"])
def test_sides_from_uniform_numbers(run, guide, rng):
    layers, _ = check_draw(
        run, "saliencymix", alone("saliencymix", saliencymix=SaliencyMixOptions(guide=guide)), (32, 48), rng
    )
    assert not layers["cy"].any()
    assert not layers["cx"].any()


def aim(run, guides, partners):
    """The centres of layers that look at these guides; nothing else of them changes."""
    layers = layers_of("saliencymix", len(partners), ratio=0.3, height=0.5, width=0.5, guide=1)
    before = layers.copy()
    own = np.full(len(partners), 10**9)  # nobody's
    run(saliencymix.aim)(layers, own, np.array(partners), np.array(guides, np.float32), NOTHING)
    found = np.stack([layers["cy"], layers["cx"]], axis=1)
    layers["cy"] = layers["cx"] = 0
    assert layers.tobytes() == before.tobytes()
    return found


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [*SIZES, (64, 48)])
def test_boxes_are_centred_at_the_peaks(run, size, rng):
    guides = rng.random((5, *size)).astype(np.float32)
    guides[2] = rng.integers(0, 3, size)  # equal ones, of which the first is the peak
    guides[3] = 0
    guides[4, -1, -1] = 1e30
    partners = [4, 0, 3, 2, 1, 0]
    expected = [twins.peak(guides[partner]) for partner in partners]
    np.testing.assert_allclose(aim(run, guides, partners), expected, rtol=1e-12)
    np.testing.assert_allclose(aim(run, guides, [3])[0], [0.5 / size[0], 0.5 / size[1]])
    np.testing.assert_allclose(aim(run, guides, [4])[0], [1 - 0.5 / size[0], 1 - 0.5 / size[1]])


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 1000))
def test_the_first_of_equal_peaks(height, width, values, seed):
    guide = np.random.default_rng(seed).integers(0, values, (1, height, width)).astype(np.float32)
    np.testing.assert_allclose(aim(as_it_is, guide, [0])[0], twins.peak(guide[0]), rtol=1e-12)


def test_the_tiniest_values_count():
    guide = np.zeros((1, 6, 7), np.float32)
    guide[0, 4, 5] = np.float32(1e-44)
    np.testing.assert_allclose(aim(as_it_is, guide, [0])[0], [4.5 / 6, 5.5 / 7])


def test_it_is_filled_as_cutmix():
    assert saliencymix.fill is cutmix.fill


@BOTH_OF_ENTRIES
@pytest.mark.parametrize(("angle", "shear"), [(0, 0), (0.7, 0), (-2.5, 0.4)])
@pytest.mark.parametrize("size", SIZES)
def test_saliencymix(run, size, angle, shear, rng):
    for cy, cx, side in rng.random((4, 3)):
        layer = layers_of(
            "saliencymix", cy=cy, cx=cx, height=side, width=side, augmented=angle != 0, angle=angle, shear=shear
        )
        expected, margin = naive.cutmix(*size, cy, cx, side, side, angle, shear)
        clear = margin > 1e-5
        np.testing.assert_array_equal(hole_of(run, layer, size)[clear], expected[clear])


# Laws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [False, True])
@pytest.mark.parametrize("size", [(24, 20), (90, 130)])
def test_each_sample_has_its_own_box_at_its_partners_peak(size, seconds, rng):
    """Of the second view, if there is one; lam is what is left of the clipped box."""
    n = 40
    maps, second_maps = rng.random((2, n, 12, 15)).astype(np.float32)
    images = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
    given_ = {"second": images.copy(), "second_maps": second_maps} if seconds else {}
    mix = MiAMix(n, MiAMixConfig.plain("saliencymix"), return_masks=True)
    batch = mix(images, range(n), rng=rng, maps=maps, **given_)
    looked = second_maps if seconds else maps
    for i, layer in enumerate(batch.plan.layers):
        cy, cx = twins.peak(looked[batch.partner[i]])
        side = math.sqrt(layer["ratio"])
        assert (layer["cy"], layer["cx"]) == pytest.approx((cy, cx), abs=1e-12)
        hole = naive.cutmix(*size, cy, cx, side, side)[0]
        np.testing.assert_array_equal(1 - batch.masks[i], hole)
        assert batch.lam[i] == pytest.approx(1 - hole.mean(), abs=1e-6)
        assert f"peak at {cy:.2f}, {cx:.2f}" in batch.describe(i)
    assert len(np.unique(batch.plan.layers["cy"])) > 5


def test_masks_may_be_turned_and_smoothed_where_they_are(rng):
    config = alone("saliencymix", p_aug=1.0, p_smooth=1.0)
    maps = rng.random((12, 13, 9))
    plan = aimed(MiAMix(2, config).plan(12, 13, 9, rng=rng), maps)
    assert plan.layers["augmented"].all()
    assert (plan.layers["window"] > 0).all()
    mix = MiAMix(2, config, return_masks=True)
    masks = mix.render(plan, np.zeros((12, 13, 9), np.uint8), np.zeros(12, int), maps=maps).masks
    expected = np.array([1 - naive.hole_of(layer, plan.coefficients, 13, 9) for layer in plan.layers])
    assert (np.abs(masks - expected) > 1e-5).mean() < 0.01


def test_a_plan_that_looked_at_nothing_yet_says_nothing_of_a_peak(rng):
    plan = MiAMix(2, MiAMixConfig.plain("saliencymix")).plan(3, 8, 8, rng=rng)
    assert "peak" not in describe_layer(plan.layers[0])
    assert "peak at" in describe_layer(aimed(plan, rng.random((3, 8, 8))).layers[0])
