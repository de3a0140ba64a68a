"""What holds for all methods: their table, that each fills its own layers only, and that holes keep their ratio."""

import numpy as np
import pytest

from miamix_cpu import FMixOptions, GridMixOptions, MiAMix, MiAMixConfig
from miamix_cpu.masks import method_of, methods_that
from miamix_cpu.methods import METHODS
from tests import naive
from tests.masks.common import (
    BOTH_OF_ENTRIES,
    GUIDED,
    SIZES,
    WITH_A_RATIO,
    aimed,
    alone,
    as_it_is,
    assert_mean,
    blank,
    check_draw,
    holes_of,
    masks_with_ratio,
    with_ratio,
)


def test_each_method_has_a_module():
    for code, name in enumerate(METHODS):
        assert method_of(code).__name__ == f"miamix_cpu.masks.{name}"
        assert method_of(np.uint8(code)) is method_of(code)
    having = {
        what: {name for name, has in zip(METHODS, methods_that(what), strict=True) if has}
        for what in (
            "TURNS", "SMOOTHS", "BOX", "RESIZES", "GUIDED", "aim", "draw", "fill", "finish", "details", "rules", "nothing"
        )
    }  # fmt: skip
    assert having == {
        "TURNS": {"cutmix", "fmix", "gridmix", "saliencymix"},
        "SMOOTHS": {"cutmix", "fmix", "gridmix", "saliencymix", "hmix", "attentivecutmix"},
        "BOX": {"cutmix", "hmix", "resizemix", "saliencymix"},
        "RESIZES": {"resizemix"},
        "GUIDED": set(GUIDED),
        "aim": set(GUIDED),
        "draw": set(METHODS),
        "fill": set(METHODS) - {"mixup"},
        "finish": {"fmix", "gridmix"},
        "details": {"gridmix", "agmix", "saliencymix", "attentivecutmix"},
        "rules": {"fmix", "gridmix", *GUIDED},
        "nothing": set(),
    }
    kinds = {name: method_of(METHODS.index(name)).GUIDED for name in GUIDED}
    assert kinds == {"saliencymix": "partner", "attentivecutmix": "partner", "guidedmixup": "both"}


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("method", [name for name in METHODS if name != "mixup"])
@pytest.mark.parametrize("other", ["usual", "unusual"])
def test_each_method_fills_its_own_layers_and_no_others(run, other, method, rng):
    """By their slots, in any order; a layer without a slot is left out."""
    size = (9, 14)
    config = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), k_max=4, p_aug=0.5, p_smooth=0.0)
    if other == "unusual":
        config = config.replace(gridmix=GridMixOptions(pattern="random"), fmix=FMixOptions(decay=0.0))
    plan = aimed(MiAMix(2, config).plan(48, *size, rng=rng), rng.random((48, *size)))
    count = len(plan.layers)
    holes, code = blank((count + 5, *size)), METHODS.index(method)
    slots = rng.permutation(count + 4)[:count]  # nobody's are the last hole, which is holes[-1], and some others
    slots[np.flatnonzero(plan.layers["method"] == code)[::3]] = -1
    coefficients, layers = plan.coefficients.copy(), plan.layers.copy()
    run(method_of(code).fill)(layers, code, slots, holes, coefficients)
    filled = 0
    for slot, layer in zip(slots, plan.layers, strict=True):
        if slot >= 0 and layer["method"] == code:
            expected = naive.hole_of(layer, plan.coefficients, *size)
            np.testing.assert_allclose(holes[slot], expected, atol=2e-6)
            holes[slot], filled = np.nan, filled + 1
    assert filled >= 3
    assert np.isnan(holes).all()
    np.testing.assert_array_equal(coefficients, plan.coefficients)
    assert layers.tobytes() == plan.layers.tobytes()


def test_mixup_draws_nothing(rng):
    layers, _ = check_draw(as_it_is, "mixup", alone("mixup"), (32, 48), rng)
    expected = np.zeros_like(layers)
    expected["ratio"], expected["method"] = layers["ratio"], METHODS.index("mixup")
    np.testing.assert_array_equal(layers, expected)


@pytest.mark.parametrize("size", SIZES)
def test_mixup_is_constant(size, rng):
    for mask in masks_with_ratio("mixup", 0.3, *size, 3, rng):
        np.testing.assert_allclose(1 - mask, naive.mixup(*size, 0.3), rtol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("augmentation", [{}, {"p_aug": 1.0, "p_smooth": 1.0}], ids=["plain", "augmented"])
@pytest.mark.parametrize("method", ["mixup", "fmix", "gridmix", "hmix"])
def test_holes_keep_their_ratio(method, augmentation, ratio, size, rng):
    means = with_ratio(method, ratio, *size, 1500, rng, **augmentation)
    assert_mean(means, ratio, extra=1e-6)
    if method in ("mixup", "hmix"):
        np.testing.assert_allclose(means, ratio, atol=1e-6)
    if method == "fmix":  # never off by more than the one pixel that is drawn by lot
        assert np.abs(means - ratio).max() < 1 / (size[0] * size[1]) + 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (32, 32), (31, 57)])
@pytest.mark.parametrize("augmentation", [{}, {"p_aug": 1.0, "p_smooth": 1.0}], ids=["plain", "augmented"])
@pytest.mark.parametrize("scale", ["paper", "area"])
@pytest.mark.parametrize("method", WITH_A_RATIO)
def test_no_ratio_no_hole(method, scale, augmentation, size, rng):
    assert with_ratio(method, 0.0, *size, 20, rng, gauss_scale=scale, **augmentation).max() == 0
    if method == "gridmix":
        random = GridMixOptions(pattern="random")
        assert with_ratio(method, 0.0, *size, 20, rng, gridmix=random, **augmentation).max() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (32, 32), (31, 57)])
@pytest.mark.parametrize("augmentation", [{}, {"p_aug": 1.0, "p_smooth": 1.0}], ids=["plain", "augmented"])
@pytest.mark.parametrize("method", ["mixup", "fmix", "gridmix", "hmix", "resizemix", "attentivecutmix"])
def test_full_ratio_full_hole(method, augmentation, size, rng):
    assert with_ratio(method, 1.0, *size, 20, rng, **augmentation).min() == 1
    if method == "gridmix":
        random = GridMixOptions(pattern="random")
        assert with_ratio(method, 1.0, *size, 20, rng, gridmix=random, **augmentation).min() == 1


def test_holes_do_not_repeat(rng):
    for method in METHODS:
        holes, ratios = holes_of(alone(method), 16, 16, 40, rng)
        assert len(np.unique(holes.reshape(40, -1), axis=0)) > 20 or method == "mixup"
        if method not in ("resizemix", "attentivecutmix", "guidedmixup"):  # whose ratios are of whole pixels, or fixed
            assert len(np.unique(ratios)) == 40
