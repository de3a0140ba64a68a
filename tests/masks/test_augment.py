"""Who is rotated, sheared and smoothed, and by how much, against the naive twin; the law is in tests/plan."""

import math

import numpy as np
import pytest

from miamix_cpu import MiAMixConfig
from miamix_cpu.config import LARGEST_WINDOW
from miamix_cpu.masks import UNIFORMS, methods_that
from miamix_cpu.masks.augment import draw_augmentation
from miamix_cpu.methods import METHODS
from miamix_cpu.plan.layers import LAYER
from tests import naive
from tests.masks.common import BOTH_OF_ENTRIES

NAMES = ("augmented", "angle", "shear", "window")


def drawn(run, config, size, uniforms, rng):
    """Layers of all methods by turns, after `draw_augmentation`, which must change nothing but the four fields."""
    layers = np.zeros(len(uniforms), LAYER)
    layers["method"], layers["ratio"] = np.arange(len(layers)) % len(METHODS), rng.random(len(layers))
    before = layers.copy()
    run(draw_augmentation)(layers, methods_that("TURNS"), methods_that("SMOOTHS"), uniforms, config, *size)
    for name in LAYER.names:
        if name not in NAMES:
            np.testing.assert_array_equal(layers[name], before[name])
    return layers


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(32, 32), (5, 40), (1, 1), (600, 900)])
@pytest.mark.parametrize(
    "config",
    [
        MiAMixConfig(p_aug=0.5),
        MiAMixConfig(angle_max=30, shear_max=0.2, p_aug=1.0),
        MiAMixConfig(p_aug=0.0, p_smooth=1.0, smooth_max=1.0),
        MiAMixConfig(p_aug=0.4, p_smooth=0.0),
    ],
    ids=["defaults", "small", "smoothed", "unsmoothed"],
)
def test_augmentation_from_uniform_numbers(run, config, size, rng):
    uniforms = rng.random((300, UNIFORMS))
    for layer, uniform in zip(drawn(run, config, size, uniforms, rng), uniforms, strict=True):
        method = METHODS[layer["method"]]
        # The twin chooses a method itself: it is left but this one.
        wanted = naive.draw_layer(config.replace(methods=(method,), weights=(1,)), 0.5, uniform, *size)
        if method == "agmix":
            wanted["angle"] = 0.0  # of the Gaussian, which agmix draws
        for name in NAMES:
            assert layer[name] == pytest.approx(wanted[name], abs=1e-12), name


@BOTH_OF_ENTRIES
def test_other_methods_are_left_alone(run, rng):
    layers = drawn(run, MiAMixConfig(p_aug=1.0, p_smooth=1.0), (32, 32), rng.random((60, UNIFORMS)), rng)
    able, smoothed = (
        np.isin(layers["method"], [METHODS.index(name) for name in names])
        for names in (
            ("cutmix", "fmix", "gridmix", "saliencymix"),
            ("cutmix", "fmix", "gridmix", "saliencymix", "hmix", "attentivecutmix"),
        )
    )
    np.testing.assert_array_equal(layers["augmented"], able)
    np.testing.assert_array_equal(layers["window"] > 0, smoothed)
    assert not layers["angle"][~able].any()
    assert not layers["shear"][~able].any()


@BOTH_OF_ENTRIES
@pytest.mark.parametrize(("smooth_max", "side", "largest"), [
    (1.0, 3000, LARGEST_WINDOW), (1.0, 182, 181), (1.0, 180, 179), (0.25, 20, 5), (0.25, 19, 3), (0.25, 3, 3),
])  # fmt: skip
def test_the_ends_of_every_range(run, smooth_max, side, largest, rng):
    config = MiAMixConfig(p_aug=1.0, p_smooth=1.0, smooth_max=smooth_max, angle_max=90, shear_max=0.4)
    for at, window, angle, shear in (
        (0.0, 3, -math.pi / 2, -0.4),
        (np.nextafter(1.0, 0.0), largest, math.pi / 2, 0.4),
    ):
        uniforms = np.full((12, UNIFORMS), at)
        uniforms[:, 1:3] = 0.0
        layers = drawn(run, config, (side, side + 7), uniforms, rng)
        layers = layers[layers["method"] == METHODS.index("cutmix")]
        assert set(layers["window"]) == {window}
        np.testing.assert_allclose(layers["angle"], angle)
        np.testing.assert_allclose(layers["shear"], shear)
