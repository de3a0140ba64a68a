"""What layers are made of uniform numbers and of normals: against the naive twin, and by statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from miamix_cpu import (
    AGMixOptions,
    AttentiveCutMixOptions,
    CutMixOptions,
    FMixOptions,
    GridMixOptions,
    HMixOptions,
    MiAMixConfig,
    ResizeMixOptions,
    SmoothMixOptions,
)
from miamix_cpu.masks import UNIFORMS, fmix, methods_that
from miamix_cpu.methods import METHODS
from miamix_cpu.plan.layers import LAYER, block_sizes
from miamix_cpu.plan.sampling import choose_methods, draw_coefficients, draw_layers, draw_plan, lay_out
from tests import naive
from tests.kernels import python
from tests.masks.common import GUIDED

BOTH = pytest.mark.parametrize("run", [python, lambda entry: entry], ids=["python", "compiled"])
SIGNIFICANT = 1e-4


@pytest.mark.parametrize(
    "config",
    [
        MiAMixConfig(methods=METHODS, weights=(1, 2, 3) * 4, p_aug=0.5),
        MiAMixConfig(gauss_scale="area", methods=METHODS, weights=(0, 1, 0, 1, 1, 1) * 2, angle_max=30, shear_max=0.2),
        MiAMixConfig(cutmix=CutMixOptions(inside=True), gridmix=GridMixOptions(cells=(3, 3), pattern="random")),
        MiAMixConfig(cutmix=CutMixOptions(minmax=(0.2, 0.6)), agmix=AGMixOptions(q_max=0.3), smooth_max=1.0),
        MiAMixConfig(fmix=FMixOptions(decay=1.0), p_aug=0.5),
        MiAMixConfig(
            methods=METHODS[6:],
            weights=(1,) * 6,
            p_smooth=1.0,
            hmix=HMixOptions(share=0.9),
            smoothmix=SmoothMixOptions(sigma=(0.1, 2)),
            resizemix=ResizeMixOptions(tau_from="alpha"),
            attentivecutmix=AttentiveCutMixOptions(grid=5, cells="ratio", guide="spectral"),
        ),
    ],
    ids=["all", "area", "options", "minmax", "slow decay", "options of guided and resized"],
)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (5, 40)])
def test_layers_from_uniform_numbers(config, height, width, rng):
    uniforms = rng.random((200, UNIFORMS))
    layers = np.zeros(200, dtype=LAYER)
    layers["ratio"], layers["sample"] = rng.random(200) * (rng.random(200) < 0.95), np.arange(200)
    expected = [naive.draw_layer(config, r, u, height, width) for r, u in zip(layers["ratio"], uniforms, strict=True)]
    counts = np.zeros(len(METHODS), np.int64)
    choose_methods(layers, uniforms, config.shares, counts)
    draw_layers(config, layers, counts, height, width, uniforms)
    for layer, wanted in zip(layers, expected, strict=True):
        assert METHODS[layer["method"]] == wanted.pop("method")
        for name, value in wanted.items():
            assert layer[name] == pytest.approx(value, abs=1e-12), name
    np.testing.assert_array_equal(layers["sample"], np.arange(200))
    for layer in layers[layers["method"] == METHODS.index("fmix")]:
        harmonics = fmix.harmonics_of(height, width, config.fmix.decay, config.shear_max)[int(layer["augmented"])]
        assert layer["is_field"] == (harmonics < 0)
        if harmonics >= 0:
            longer = max(height, width)
            rows, columns = (min(harmonics * side // longer, side // 2) for side in (height, width))
            assert (layer["rows"], layer["columns"]) == (2 * rows + 1, columns + 1)


@BOTH
def test_a_method_is_as_likely_as_its_weight(run):
    """Exactly: its numbers are those between the shares, the lower one its own."""
    config = MiAMixConfig(methods=("gridmix", "cutmix", "agmix"), weights=(1, 2, 5))
    steps = (np.arange(800) / 800)[:, None] * np.ones(UNIFORMS)
    steps[:, 1:] = 0.999  # only the first column counts
    layers, counts = np.zeros(800, LAYER), np.zeros(len(METHODS), np.int64)
    run(choose_methods)(layers, steps, config.shares, counts)
    expected = {"cutmix": 200, "gridmix": 100, "agmix": 500}
    assert dict(zip(METHODS, counts.tolist(), strict=True)) == {name: expected.get(name, 0) for name in METHODS}
    wanted = np.repeat([METHODS.index(name) for name in expected], list(expected.values()))
    np.testing.assert_array_equal(layers["method"], wanted)


@BOTH
def test_the_last_method_takes_what_rounding_leaves(run):
    """Weights whose shares do not add up to 1 in floating point: no number may lead past the last method."""
    config = MiAMixConfig(methods=METHODS, weights=(0.1, 0.2, 0.3, 0.1, 0.15, 0.7) * 2)
    layers, counts = np.zeros(3, LAYER), np.zeros(len(METHODS), np.int64)
    uniforms = np.full((3, UNIFORMS), np.nextafter(1.0, 0.0))
    run(choose_methods)(layers, uniforms, config.shares, counts)
    assert layers["method"].tolist() == [len(METHODS) - 1] * 3
    run(choose_methods)(layers, uniforms, config.replace(methods=("fmix",), weights=(0.3,)).shares, counts)
    assert layers["method"].tolist() == [METHODS.index("fmix")] * 3


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans(), st.sampled_from(range(len(METHODS)))),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_blocks_follow_one_another(blocks):
    """Those that depend on guides after all others."""
    rows, columns, fields, methods = (np.array(values) for values in zip(*blocks, strict=True))
    expected = np.where(fields, 1, 2) * rows * columns
    guided = np.isin(methods, [METHODS.index(name) for name in GUIDED])
    order = np.concatenate([np.flatnonzero(~guided), np.flatnonzero(guided)])
    starts = np.empty_like(expected)
    starts[order] = np.cumsum(expected[order]) - expected[order]
    for run in (python, lambda entry: entry):
        layers = np.zeros(len(blocks), LAYER)
        layers["rows"], layers["columns"], layers["is_field"], layers["start"] = rows, columns, fields, 77
        layers["method"] = methods
        np.testing.assert_array_equal(block_sizes(layers), expected)
        found = run(lay_out)(layers, methods_that("GUIDED"))
        assert tuple(found) == (expected.sum(), expected[~guided].sum(), fields[~guided].sum())
        np.testing.assert_array_equal(layers["start"], starts)


def test_what_depends_on_guides_is_nothing_yet(rng):
    """Zeros, after all normals, of which there are as many and as good as without."""
    layers = np.zeros(60, LAYER)
    layers["method"] = np.resize([METHODS.index(name) for name in ("fmix", "attentivecutmix", "guidedmixup")], 60)
    layers["rows"], layers["columns"] = 9, 7
    layers["is_field"] = layers["method"] != METHODS.index("fmix")
    found = draw_coefficients(layers, np.random.default_rng(4))
    normals = np.random.default_rng(4).standard_normal(20 * 2 * 63, dtype=np.float32)
    np.testing.assert_array_equal(found[: normals.size], normals)
    assert found.size == normals.size + 40 * 63
    assert not found[normals.size :].any()
    assert found.dtype == np.float32


def test_harmonics_are_standard_normal(rng):
    """And differ from each other, within a layer and between layers."""
    layers = np.zeros(300, LAYER)
    layers["method"], layers["rows"], layers["columns"] = METHODS.index("fmix"), 9, 5
    found = draw_coefficients(layers, rng)
    assert (found.shape, found.dtype) == ((300 * 90,), np.float32)
    assert stats.kstest(found.astype(float), "norm").pvalue > SIGNIFICANT
    for lag in (1, 2, 90):
        assert abs(np.corrcoef(found[lag:], found[:-lag])[0, 1]) < 4 / np.sqrt(found.size)
    assert len(np.unique(found)) > 0.99 * found.size
    assert draw_coefficients(layers[:0], rng).shape == (0,)


def test_the_same_normals_make_cells_and_fields(rng):
    """Of layers that need it, by their own methods, and in their own blocks; harmonics stay normals."""
    config = MiAMixConfig(
        methods=METHODS, weights=(1,) * len(METHODS), p_aug=0.5, k_max=4,
        gridmix=GridMixOptions(pattern="random"), fmix=FMixOptions(decay=2.3),
    )  # fmt: skip
    plan = draw_plan(config, 120, 24, 64, rng)
    layers = plan.layers.copy()
    fmix_layers = np.flatnonzero(layers["method"] == METHODS.index("fmix"))
    for j in fmix_layers[::2]:  # half of them as fields
        layers["rows"][j], layers["columns"][j], layers["is_field"][j] = 24, 64, True
    found = draw_coefficients(layers, np.random.default_rng(3))
    normals = np.random.default_rng(3).standard_normal(found.size, dtype=np.float32)
    assert found.size == block_sizes(layers).sum()
    kinds = set()
    for layer, size in zip(layers, block_sizes(layers), strict=True):
        block = slice(layer["start"], layer["start"] + size)
        method, is_field = METHODS[layer["method"]], bool(layer["is_field"])
        if method == "gridmix":
            expected = naive.random_cells(int(layer["cells"]), normals[block], layer["ratio"], layer["dither"])
        elif method in GUIDED:
            expected = np.zeros(size, np.float32)
        elif is_field:
            noise = normals[block].reshape(24, 64)
            expected = fmix.filter_noise(noise, layer["decay"], layer["angle"], layer["shear"]).ravel()
        else:
            expected = normals[block]
        np.testing.assert_array_equal(found[block], expected)
        kinds.add((method, is_field))
    assert kinds >= {("gridmix", True), ("fmix", True), ("fmix", False)}
