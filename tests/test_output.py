"""Merging, measuring and blending against their naive twins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu.output import blend, measure, multiply, subtract
from tests import naive

BOTH = pytest.mark.parametrize("run", [lambda f: f.py_func, lambda f: f], ids=["python", "compiled"])


@BOTH
@pytest.mark.parametrize(("kernel", "how"), [(multiply, "mul"), (subtract, "sum")])
@pytest.mark.parametrize("layers", [0, 1, 2, 5])
def test_merge(run, kernel, how, layers, rng):
    holes = rng.random((layers, 6, 7)).astype(np.float32) * 0.6
    mask = np.ones(42, np.float32)
    for hole in holes:
        run(kernel)(mask, hole.reshape(42))
    np.testing.assert_allclose(mask.reshape(6, 7), naive.merge(list(holes), 6, 7, how), atol=1e-6)
    assert mask.min() >= 0


@BOTH
def test_measure(run, rng):
    mask = rng.random(1000).astype(np.float32)
    assert run(measure)(mask) == pytest.approx(mask.mean(dtype=np.float64), abs=5e-8)
    binary = (mask < 0.3).astype(np.float32)
    assert run(measure)(binary) == binary.mean(dtype=np.float64)
    assert run(measure)(np.ones(77, np.float32)) == 1
    assert run(measure)(np.zeros(77, np.float32)) == 0


def layout(images, planar):
    return np.ascontiguousarray(images.transpose(2, 0, 1) if planar else images).ravel()


def check_blend(run, channels, source, target, planar_in, planar_out, rng):
    mask = rng.random((5, 9)).astype(np.float32)
    mask[0], mask[1] = 0, 1
    views = rng.integers(0, 256, (2, 5, 9, channels)).astype(source)
    scale, bias = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    if target == np.uint8:
        bias[:] = 0.5
    elif source == np.uint8:
        scale, bias = rng.random(channels).astype(np.float32) / 255, rng.standard_normal(channels).astype(np.float32)
    out = np.full(45 * channels, 77, target)
    before = views.copy()
    run(blend)(out, *(layout(view, planar_in) for view in views), mask.ravel(), channels, planar_in, planar_out, scale,
               bias)  # fmt: skip
    expected = naive.blend(mask, *views) * scale + bias
    if target == np.uint8:
        expected = np.floor(expected + 1e-4)
    found = out.reshape(channels, 5, 9).transpose(1, 2, 0) if planar_out else out.reshape(5, 9, channels)
    np.testing.assert_allclose(found, expected, atol=1 if target == np.uint8 else 1e-4)
    if target == np.uint8:  # a product in float32 may fall on the other side of a half, hardly ever
        assert (found != expected).mean() < 0.01
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


@given(st.integers(0, 255), st.integers(0, 255), st.floats(0, 1, width=32))
def test_blended_bytes_are_rounded(a, b, weight):
    out = np.zeros(1, np.uint8)
    first, second, mask = np.array([a], np.uint8), np.array([b], np.uint8), np.array([weight], np.float32)
    blend(out, first, second, mask, 1, True, True, np.ones(1, np.float32), np.full(1, 0.5, np.float32))
    assert abs(float(out[0]) - (weight * a + (1 - weight) * b)) <= 0.5 + 1e-4
    assert min(a, b) <= out[0] <= max(a, b)


def test_large_floats_do_not_overflow():
    huge = np.full(4, 3e38, np.float32)
    out = np.empty(4, np.float32)
    mask = np.array([0, 0.25, 0.5, 1], np.float32)
    blend(out, huge, -huge, mask, 1, True, True, np.ones(1, np.float32), np.zeros(1, np.float32))
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, [-3e38, -1.5e38, 0, 3e38], rtol=1e-6)
