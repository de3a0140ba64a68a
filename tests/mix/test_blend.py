"""Merging, measuring and blending against their naive twins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numba.core.errors import TypingError

from miamix_cpu.mix.blend import STEPS, blend, blend_box, merge, mixed, steps_of, steps_of_box, to_weights
from tests import naive

BOTH = pytest.mark.parametrize("run", [lambda f: f.py_func, lambda f: f], ids=["python", "compiled"])


@BOTH
@pytest.mark.parametrize("how", ["mul", "sum"])
@pytest.mark.parametrize("base", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("holes", [0, 1, 2, 3, 5])
def test_merge(run, how, base, holes, rng):
    drawn = rng.random((holes, 42)).astype(np.float32) * 0.6
    mask = drawn[0].copy() if holes else np.full(42, np.nan, np.float32)
    for count in range(min(holes, 2), holes + 1):
        run(merge)(mask, drawn[count - 1].copy() if count >= 2 else mask[:0], count, base, how == "mul")
    layers = [np.full((6, 7), 1 - base, np.float32), *drawn.reshape(holes, 6, 7)]
    np.testing.assert_allclose(mask.reshape(6, 7), naive.merge(layers, 6, 7, how), atol=1e-6)
    assert mask.min() >= 0


@BOTH
def test_lam_is_measured(run, rng):
    mask = rng.random(1000).astype(np.float32)
    assert run(steps_of)(mask) / (1000 * STEPS) == pytest.approx(mask.mean(dtype=np.float64), abs=5e-8)
    binary = (mask < 0.3).astype(np.float32)
    assert run(steps_of)(binary) == binary.sum() * STEPS
    assert run(steps_of)(np.ones(77, np.float32)) == 77 * STEPS
    assert run(steps_of)(np.zeros(77, np.float32)) == 0


@BOTH
@pytest.mark.parametrize("base", [0.0, 0.3, 1 / 3, 1.0])
@pytest.mark.parametrize("inside", [0, 13, 77])
def test_lam_of_a_box(run, base, inside):
    mask = np.full(77, base, np.float32)
    mask[:inside] = 0
    assert run(steps_of_box)(base, inside, 77) == steps_of(mask)


def layout(images, planar):
    return np.ascontiguousarray(images.transpose(2, 0, 1) if planar else images).ravel()


def fixed_point(mask, run=to_weights):
    weights = np.empty(mask.size, np.int16)
    run(weights, mask.ravel())
    return weights


def check_blend(run, channels, source, target, planar_in, planar_out, rng):
    mask = rng.random((5, 9)).astype(np.float32)
    mask[0], mask[1] = 0, 1
    views = rng.integers(0, 256, (2, 5, 9, channels)).astype(source)
    scale, bias = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    if target == np.float32 and source == np.uint8:
        scale, bias = rng.random(channels).astype(np.float32) / 255, rng.standard_normal(channels).astype(np.float32)
    out = np.full(45 * channels, 77, target)
    weights = fixed_point(mask) if target == np.uint8 else mask.ravel()
    before = views.copy()
    run(blend)(out, *(layout(view, planar_in) for view in views), weights, 0, planar_in, planar_out, scale,
               bias)  # fmt: skip
    expected = naive.blend(mask, *views) * scale + bias
    found = out.reshape(channels, 5, 9).transpose(1, 2, 0) if planar_out else out.reshape(5, 9, channels)
    # Half a grey level for rounding, and what 16 bits do to a weight.
    np.testing.assert_allclose(found, expected, atol=0.5 + 255 / 2**16 if target == np.uint8 else 1e-4)
    if target == np.uint8:
        np.testing.assert_array_equal(found[0], views[1][0])
        np.testing.assert_array_equal(found[1], views[0][1])
    np.testing.assert_array_equal(views, before)


@BOTH
@pytest.mark.parametrize("planar_out", [False, True])
@pytest.mark.parametrize("planar_in", [False, True])
@pytest.mark.parametrize(("source", "target"), [(np.uint8, np.uint8), (np.uint8, np.float32), (np.float32, np.float32)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_blend(run, channels, source, target, planar_in, planar_out, rng):
    check_blend(run, channels, source, target, planar_in, planar_out, rng)


@pytest.mark.parametrize(
    ("weight", "first", "second"),
    [(np.int16, np.float32, np.float32), (np.float32, np.uint8, np.float32), (np.float64, np.float32, np.float32)],
)
def test_other_kinds_are_not_mixed(weight, first, second):
    one = np.float32(1)
    with pytest.raises(TypingError):
        njit(lambda *numbers: mixed(*numbers))(weight(1), first(1), second(1), one, one)


@BOTH
@pytest.mark.parametrize("box", [(0, 0, 0, 0), (3, 3, 2, 5), (0, 7, 0, 9), (2, 6, 3, 4), (1, 7, 0, 5), (0, 5, 4, 9)])
@pytest.mark.parametrize("base", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("channels", "planar_in", "planar_out"), [
    (1, False, True), (1, True, False), (2, False, False), (3, False, False), (3, False, True), (3, True, True), (4, True, True),
])  # fmt: skip
def test_a_box_is_blended_as_its_mask_would_be(run, channels, planar_in, planar_out, base, box, rng):
    mask = np.full((7, 9), base, np.float32)
    mask[box[0] : box[1], box[2] : box[3]] = 0
    views = [layout(view, planar_in) for view in rng.integers(0, 256, (2, 7, 9, channels), np.uint8)]
    before, unit, nothing = np.copy(views), np.ones(channels, np.float32), np.zeros(channels, np.float32)
    expected = np.empty(63 * channels, np.uint8)
    blend(expected, *views, fixed_point(mask), 0, planar_in, planar_out, unit, nothing)
    for room in (3, 50, 3 * 63):
        out, taken_apart = np.full(63 * channels, 77, np.uint8), channels == 3 and planar_in != planar_out
        run(blend_box)(out, *views, base, box, 9, channels, planar_in, taken_apart, np.empty(room, np.uint8))
        np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(views, before)


@njit
def mixed_bytes(out, weight, first, second):
    for p in range(out.size):
        out[p] = mixed(weight, first[p], second[p], np.float32(1), np.float32(0))


@pytest.mark.parametrize("weight", [0, 1, 77, 16383, 16384, 20000, 32767, 32768])
def test_every_pair_of_bytes(weight):
    """Compiled in 16 bits, in Python in as many as it takes: the same, rounded, between both, exact at the ends."""
    first, second = (values.ravel().astype(np.uint8) for values in np.meshgrid(np.arange(256), np.arange(256)))
    out = np.empty_like(first)
    mixed_bytes(out, np.int16(-weight), first, second)
    exact = second + (first.astype(float) - second) * weight / 2**15
    np.testing.assert_array_equal(out, np.floor(exact + 0.5))
    assert ((out >= np.minimum(first, second)) & (out <= np.maximum(first, second))).all()
    if weight in (0, 32768):
        np.testing.assert_array_equal(out, first if weight else second)
    some = np.arange(0, first.size, 97)
    python = [mixed(np.int16(-weight), first[p], second[p], 1, 0) for p in some]
    np.testing.assert_array_equal(out[some], python)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50))
def test_weights_of_bytes(values):
    mask = np.array(values, np.float32)
    weights = fixed_point(mask)
    np.testing.assert_allclose(weights / -32768, mask, atol=0.501 / 32768)
    np.testing.assert_array_equal(weights, fixed_point(mask, to_weights.py_func))


def test_large_floats_do_not_overflow():
    huge = np.full(4, 3e38, np.float32)
    out = np.empty(4, np.float32)
    mask = np.array([0, 0.25, 0.5, 1], np.float32)
    blend(out, huge, -huge, mask, 0, True, True, np.ones(1, np.float32), np.zeros(1, np.float32))
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, [-3e38, -1.5e38, 0, 3e38], rtol=1e-6)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_a_view_without_weight_does_not_count(odd):
    one, other = np.array([1, odd], np.float32), np.array([odd, 2], np.float32)
    out, unit, nothing = np.empty(2, np.float32), np.ones(1, np.float32), np.zeros(1, np.float32)
    for run in (blend, blend.py_func):
        with np.errstate(invalid="ignore"):
            run(out, one, other, np.array([1, 0], np.float32), 0, True, True, unit, nothing)
        assert out.tolist() == [1, 2]
