"""Guided Mixup: holes made of two guides, against their naive twin, as plain Python and compiled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu import GuidedMixupOptions, MiAMix, MiAMixConfig
from miamix_cpu.masks import guidedmixup
from tests.masks import twins
from tests.masks.common import BOTH_OF_ENTRIES, SIZES, alone, check_draw, hole_of, layers_of


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("guide", ["fine_grained", "spectral"])
@pytest.mark.parametrize(
    "size",
    [
        (32, 48),
        (64, 64),
        (65, 64),
        (224, 224),
        (1, 300),
        (300, 100),
        (100, 150),
        (150, 100),
        (3, 128),
        (1, 1),
        (1000, 3),
    ],
    ids=str,
)
def test_blocks_from_uniform_numbers(run, size, guide, rng):
    config = alone("guidedmixup", guidedmixup=GuidedMixupOptions(guide=guide))
    layers, _ = check_draw(run, "guidedmixup", config, size, rng)
    assert max(layers["rows"].max(), layers["columns"].max()) == min(64, *sorted(size)[1:])


def aim(run, guides, own, partners, rows, columns):
    """The blocks of layers that look at these guides; they begin at 3, and what lies around them is left alone."""
    count, size = len(own), rows * columns
    layers = layers_of("guidedmixup", count, rows=rows, columns=columns, is_field=True, guide=2, ratio=0.5)
    layers["start"] = 3 + np.arange(count) * (size + 2)
    coefficients, before = np.full(3 + count * (size + 2), np.nan, np.float32), layers.copy()
    run(guidedmixup.aim)(layers, np.array(own), np.array(partners), np.array(guides, np.float32), coefficients)
    assert layers.tobytes() == before.tobytes()
    blocks = [coefficients[start : start + size].reshape(rows, columns) for start in layers["start"]]
    assert np.isnan(coefficients).sum() == 3 + 2 * count
    return blocks


@BOTH_OF_ENTRIES
@pytest.mark.parametrize(
    ("size", "to"), [((6, 8), (6, 8)), ((20, 13), (6, 8)), ((3, 4), (6, 8)), ((7, 7), (12, 9)), ((1, 1), (1, 1))]
)
def test_holes_are_the_partners_share(run, size, to, rng):
    """Guides of the block's size, larger ones, which are averaged, and smaller ones, which are interpolated."""
    guides = rng.random((4, *size)).astype(np.float32) * np.float32([1, 100, 1e-3, 1])[:, None, None]
    guides[3] = rng.random(size) < 0.2
    pairs = [(0, 1), (2, 0), (3, 1), (1, 3), (2, 2)]
    blocks = aim(run, guides, *zip(*pairs, strict=True), *to)
    for block, (own, partner) in zip(blocks, pairs, strict=True):
        np.testing.assert_allclose(block, twins.guided(guides[own], guides[partner], *to), atol=2e-6)


@BOTH_OF_ENTRIES
def test_what_is_salient_in_neither_view_is_mixed_evenly(run, rng):
    guides = np.zeros((3, 4, 6), np.float32)
    guides[1, :, 2:], guides[2, 1] = rng.random((4, 4)) + 1, 5
    nothing, one_sided, other, twice = aim(run, guides, [0, 1, 0, 2], [0, 0, 1, 2], 4, 6)
    np.testing.assert_array_equal(nothing, 0.5)
    np.testing.assert_allclose(twice, 0.5, rtol=1e-6)
    np.testing.assert_allclose(one_sided[:, :2], 0.5, rtol=1e-6)
    assert (one_sided[:, 2:] < 1e-5).all()
    assert (other[:, 2:] > 1 - 1e-5).all()


@given(*[st.integers(1, 12)] * 2, st.floats(1e-6, 1e6), st.integers(0, 1000))
def test_a_hole_and_that_of_the_exchanged_pair_are_the_whole(rows, columns, scale, seed):
    """How large the numbers of a guide are does not count."""
    guides = np.random.default_rng(seed).random((3, rows, columns))
    guides[2] = guides[1] * scale
    one, other, scaled = aim(lambda entry: entry, guides, [0, 1, 0], [1, 0, 2], rows, columns)
    np.testing.assert_allclose(one + other, 1, atol=1e-6)
    np.testing.assert_allclose(scaled, one, atol=1e-5)
    assert ((one >= 0) & (one <= 1)).all()


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [*SIZES, (70, 33)])
@pytest.mark.parametrize("block", [(1, 1), (4, 5), (8, 8), (3, 1)])
def test_guidedmixup(run, block, size, rng):
    """The block begins at 3, and what lies before and after it is no number."""
    values = rng.random(block).astype(np.float32)
    coefficients = np.concatenate([[np.nan] * 3, values.ravel(), [np.nan] * 5])
    layer = layers_of("guidedmixup", rows=block[0], columns=block[1], is_field=True, start=3, guide=2)
    hole = hole_of(run, layer, size, coefficients)
    np.testing.assert_allclose(hole, twins.interpolate(values, *size), atol=1e-6)


# Laws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [False, True])
@pytest.mark.parametrize("size", [(24, 20), (100, 130)])
def test_lam_is_the_mean_of_the_first_views_share(size, seconds, rng):
    """s_i / (s_i + s_t), pixel by pixel where images are small, interpolated where they are large."""
    n = 12
    maps, second_maps = rng.random((2, n, *size)).astype(np.float32) ** 3
    images = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
    given_ = {"second": images.copy(), "second_maps": second_maps} if seconds else {}
    mix = MiAMix(n, MiAMixConfig.plain("guidedmixup"), return_masks=True)
    batch = mix(images, range(n), rng=rng, maps=maps, **given_)
    for i, layer in enumerate(batch.plan.layers):
        partner = (second_maps if seconds else maps)[batch.partner[i]]
        hole = twins.guided(maps[i], partner, int(layer["rows"]), int(layer["columns"]))
        expected = 1 - twins.interpolate(hole, *size)
        np.testing.assert_allclose(batch.masks[i], expected, atol=5e-6)
        assert batch.lam[i] == pytest.approx(expected.mean(), abs=2e-6)
    if size == (24, 20):
        own = maps / maps.sum(axis=(1, 2), keepdims=True, dtype=np.float64)
        others = (second_maps if seconds else maps).astype(np.float64)[batch.partner]
        others /= others.sum(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(batch.lam, (own / (own + others)).mean(axis=(1, 2)), atol=2e-3)


def test_masks_are_neither_turned_nor_smoothed(rng):
    config = alone("guidedmixup", p_aug=1.0, p_smooth=1.0)
    layers = MiAMix(2, config).plan(20, 9, 9, rng=rng).layers
    assert not layers["augmented"].any()
    assert not layers["window"].any()
