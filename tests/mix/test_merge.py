"""The final mask, merged and measured, against its naive twins."""

import numpy as np
import pytest

from miamix_cpu.methods import METHODS
from miamix_cpu.mix.merge import BOX, CONSTANT, STEPS, constant_and_box, merge, nominal_lam, steps_of, steps_of_box
from miamix_cpu.plan.layers import LAYER
from tests import naive
from tests.kernels import compiled, python

MIXUP, CUTMIX, HMIX, FMIX, GMIX = (METHODS.index(name) for name in ("mixup", "cutmix", "hmix", "fmix", "gmix"))
BOTH = pytest.mark.parametrize("run", [python, compiled])


@BOTH
@pytest.mark.parametrize("how", ["mul", "sum"])
@pytest.mark.parametrize("base", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("layers", [0, 1, 2, 3, 5])
def test_merge(run, how, base, layers, rng):
    """Some rows at a time, of holes that lie among those of other samples, beside layers without any."""
    holes = (rng.random((7, 42)) * 0.6).astype(np.float32)
    before, slots = holes.copy(), rng.permutation(7)[:layers]
    mask = np.full(42, np.nan, np.float32)
    for start, stop in (0, 12), (12, 13), (13, 42):
        with_gaps = np.insert(slots, [0, layers // 2, layers], [CONSTANT, BOX, CONSTANT])
        run(merge)(mask[start:stop], start, holes, with_gaps, base, how == "mul")
    constant = np.full((6, 7), 1 - base, np.float32)
    expected = naive.merge([constant, *holes[slots].reshape(layers, 6, 7)], 6, 7, how)
    np.testing.assert_allclose(mask.reshape(6, 7), expected, atol=1e-6)
    assert mask.min() >= 0
    np.testing.assert_array_equal(holes, before)


@BOTH
@pytest.mark.parametrize("how", ["mul", "sum"])
def test_masks_of_zeros_and_ones_are_exact(run, how, rng):
    holes = rng.integers(0, 2, (3, 42)).astype(np.float32)
    mask = np.empty(42, np.float32)
    run(merge)(mask, 0, holes, np.arange(3), 1.0, how == "mul")
    np.testing.assert_array_equal(mask, 1 - holes.max(axis=0))


@BOTH
@pytest.mark.parametrize("how", ["mul", "sum"])
def test_what_needs_no_hole(run, how, rng):
    """The mask of constant layers and of a box's level, clipped at 0 where they are added up, and the box itself."""
    methods = [MIXUP, CUTMIX, HMIX, FMIX, GMIX, MIXUP]
    seen = set()
    for boxed in [CUTMIX, HMIX] * 30:
        layers = np.zeros(6, LAYER)
        layers["method"] = rng.permutation(methods)
        layers["ratio"] = rng.random(6) * 0.7
        layers["level"] = np.where(layers["method"] == HMIX, rng.random(6), 0)
        for name in "cy", "cx", "height", "width":
            layers[name] = rng.random(6)
        slots = np.where(layers["method"] == MIXUP, CONSTANT, np.arange(6))
        (upright,) = np.flatnonzero(layers["method"] == boxed)
        slots[upright] = BOX
        base, box = run(constant_and_box)(layers, slots, 23, 17, how == "mul")
        constants = [*layers["ratio"][layers["method"] == MIXUP], layers["level"][upright]]
        expected = naive.merge([np.full((1, 1), constant) for constant in constants], 1, 1, how)[0, 0]
        np.testing.assert_allclose(base, expected, atol=1e-12 if boxed == CUTMIX else 2e-7)
        top, bottom, left, right = box
        mask = np.zeros((23, 17))
        mask[top:bottom, left:right] = 1
        places = (float(layers[upright][name]) for name in ("cy", "cx", "height", "width"))
        np.testing.assert_array_equal(mask, naive.cutmix(23, 17, *places)[0])
        seen.add((boxed, base == 0))
    some = {(CUTMIX, False), (HMIX, False)}
    assert seen == (some if how == "mul" else some | {(CUTMIX, True), (HMIX, True)})


@BOTH
@pytest.mark.parametrize("how", ["mul", "sum"])
def test_a_box_in_a_hole_is_none_of_its_own(run, how):
    layers = np.zeros(2, LAYER)
    layers["method"], layers["ratio"], layers["cy"], layers["cx"] = (CUTMIX, HMIX), 0.25, 0.5, 0.5
    layers["height"], layers["width"], layers["level"] = 0.5, 0.5, (0, 0.3)
    base, box = run(constant_and_box)(layers, np.array([0, 1]), 8, 8, how == "mul")
    assert (base, tuple(box)) == (1.0, (0, 0, 0, 0))


@BOTH
def test_lam_is_measured(run, rng):
    mask = rng.random(1000).astype(np.float32)
    assert run(steps_of)(mask) / (1000 * STEPS) == pytest.approx(mask.mean(dtype=np.float64), abs=5e-8)
    binary = (mask < 0.3).astype(np.float32)
    assert run(steps_of)(binary) == binary.sum() * STEPS
    assert run(steps_of)(np.ones(77, np.float32)) == 77 * STEPS
    assert run(steps_of)(np.zeros(77, np.float32)) == 0


def test_lam_of_a_large_image_is_measured():
    """The sum of its steps exceeds 32 bits."""
    assert compiled(steps_of)(np.ones(4096, np.float32)) == 4096 * STEPS
    assert compiled(steps_of_box)(1.0, (0, 0, 0, 0), 4096 * 4096) == 4096 * 4096 * STEPS


def test_each_pixel_is_rounded_by_itself(rng):
    """So the order of summation does not count, nor does where an image is cut."""
    mask = rng.random(1001).astype(np.float32)
    parts = sum(int(compiled(steps_of)(mask[start : start + 13])) for start in range(0, 1001, 13))
    assert parts == compiled(steps_of)(mask) == compiled(steps_of)(rng.permutation(mask))
    exact = np.floor(mask.astype(np.float64) * STEPS + 0.5)
    assert abs(int(exact.sum()) - parts) <= 0.002 * 1001  # a tie that float32 sees and float64 does not


@BOTH
@pytest.mark.parametrize("base", [0.0, 0.3, 1 / 3, 1.0])
@pytest.mark.parametrize("box", [(0, 0, 0, 0), (2, 3, 1, 9), (0, 7, 0, 11), (6, 7, 10, 11), (1, 5, 2, 6)])
def test_lam_of_a_box(run, base, box):
    mask = np.full((7, 11), base, np.float32)
    mask[box[0] : box[1], box[2] : box[3]] = 0
    assert run(steps_of_box)(base, box, 77) == compiled(steps_of)(mask.ravel())


@BOTH
def test_the_nominal_lam(run, rng):
    """1 - sum of the ratios, whatever the methods, and never below 0."""
    for k in range(6):
        layers = np.zeros(k, LAYER)
        layers["method"], layers["ratio"] = rng.integers(0, len(METHODS), k), rng.random(k) * 0.4
        found = run(nominal_lam)(layers)
        assert found == pytest.approx(max(0.0, 1 - layers["ratio"].sum()), abs=1e-12)
    layers = np.zeros(3, LAYER)
    layers["ratio"] = 0.5
    assert run(nominal_lam)(layers) == 0
