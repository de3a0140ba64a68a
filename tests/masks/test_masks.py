"""Each generator against its naive twin, as plain Python and compiled; its law by statistics; its edge cases."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miamix_cpu.masks.product import LANES, ROWS, multiply_small, padded
from numba.core.errors import TypingError

from miamix_cpu import AGMixOptions, CutMixOptions, FMixOptions, GridMixOptions, MiAMix, MiAMixConfig
from miamix_cpu.config import METHODS
from miamix_cpu.masks import GENERATORS, UNIFORMS, draw_layers, fmix, options_of
from miamix_cpu.masks.cutmix import fill_cutmix
from miamix_cpu.masks.fmix import fill_fmix, fill_waves, make_tables, scale_noise, synthesise
from miamix_cpu.masks.gmix import fill_gaussian, power_of_half
from miamix_cpu.masks.gridmix import fill_gridmix
from miamix_cpu.masks.mixup import fill_mixup
from miamix_cpu.masks.threshold import choose_largest, collect, extremes, find_threshold
from miamix_cpu.plan.mix_plan import LAYER
from tests import naive

SIZES = [(1, 1), (1, 17), (17, 1), (8, 8), (13, 9), (16, 40)]
BOTH = pytest.mark.parametrize("run", [lambda f: f.py_func, lambda f: f], ids=["python", "compiled"])
shares = st.floats(0, 1)
sizes = st.tuples(st.integers(1, 14), st.integers(1, 14))


def blank(size):
    """An output with nothing in it that could pass for a result."""
    return np.full(size, np.nan, dtype=np.float32)


def holes_of(config, height, width, count, rng):
    """`count` first-layer holes under `config`, and their ratios."""
    mix = MiAMix(2, config, return_masks=True)
    images = np.zeros((count, height, width), dtype=np.uint8)
    batch = mix(images, np.zeros(count, dtype=int), rng=rng)
    return 1 - batch.masks, batch.plan.layers["ratio"]


def alone(method, **changes):
    return MiAMixConfig(methods=(method,), weights=(1,), k_max=1, p_self=0, **{"p_aug": 0, "p_smooth": 0, **changes})


def test_the_table_of_generators_follows_the_methods():
    assert tuple(generator.name for generator in GENERATORS) == METHODS


# Against the naive twin ----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_mixup(run, size):
    hole = blank(size)
    run(fill_mixup)(hole, 0.3)
    np.testing.assert_allclose(hole, naive.mixup(*size, 0.3), rtol=1e-6)


def check_cutmix(run, size, cy, cx, height, width, angle, shear):
    hole = blank(size)
    run(fill_cutmix)(hole, cy, cx, height, width, angle != 0 or shear != 0, angle, shear)
    expected, margin = naive.cutmix(*size, cy, cx, height, width, angle, shear)
    clear = margin > 1e-5
    np.testing.assert_array_equal(hole[clear], expected[clear])
    assert set(np.unique(hole)) <= {0, 1}


@BOTH
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("angle", "shear"), [(0, 0), (0.7, 0), (-2.5, 0.4)])
def test_cutmix(run, size, angle, shear, rng):
    for _ in range(8):
        check_cutmix(run, size, *rng.random(4), angle, shear)


@given(sizes, shares, shares, shares, shares, st.floats(-math.pi, math.pi), st.floats(-1, 1))
def test_cutmix_anywhere(size, cy, cx, height, width, angle, shear):
    check_cutmix(lambda f: f, size, cy, cx, height, width, angle, shear)


def check_gridmix(run, size, cells, side, phase_y, phase_x, angle, shear):
    hole = blank(size)
    run(fill_gridmix)(hole, cells, side, phase_y, phase_x, angle, shear, np.zeros(0, np.float32), 0)
    expected, margin = naive.gridmix(*size, cells, side, phase_y, phase_x, angle, shear)
    clear = (margin > 1e-5) | (side >= 1)
    np.testing.assert_array_equal(hole[clear], expected[clear])


@BOTH
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("angle", "shear"), [(0, 0), (0.7, 0), (-2.5, 0.4)])
def test_gridmix(run, size, angle, shear, rng):
    for cells in (1, 2, 5):
        check_gridmix(run, size, cells, *rng.random(3), angle, shear)


@given(sizes, st.integers(1, 20), shares, shares, shares, st.floats(-math.pi, math.pi), st.floats(-1, 1))
def test_gridmix_anywhere(size, cells, side, phase_y, phase_x, angle, shear):
    check_gridmix(lambda f: f, size, cells, side, phase_y, phase_x, angle, shear)


@BOTH
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("angle", "shear"), [(0, 0), (-2.5, 0.4)])
def test_gridmix_of_random_cells(run, size, angle, shear, rng):
    for cells, count in ((1, 1), (3, 4), (5, 25), (4, 0)):
        noise = rng.standard_normal(cells * cells).astype(np.float32)
        hole = blank(size)
        run(fill_gridmix)(hole, cells, 0.0, 0.0, 0.0, angle, shear, noise, count)
        expected, margin = naive.gridmix_random(*size, cells, noise, count, angle, shear)
        np.testing.assert_array_equal(hole[margin > 1e-9], expected[margin > 1e-9])


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_gaussian(run, size, rng):
    for _ in range(5):
        cy, cx, sigma_v, sigma_u, angle = rng.random(5) * (1, 1, 1, 1, 7)
        hole = blank(size)
        run(fill_gaussian)(hole, cy, cx, sigma_v, sigma_u, angle)
        np.testing.assert_allclose(hole, naive.gaussian(*size, cy, cx, sigma_v, sigma_u, angle), atol=2e-6)


def test_gaussian_thin_and_far_stays_in_range():
    """The exponent in float32 must not go below 0, nor the result above 1."""
    hole = blank((64, 512))
    fill_gaussian(hole, 0.01, 0.99, 0.5 / 64, 1.0, 0.3)
    assert hole.min() >= 0
    assert hole.max() <= 1 + 1e-6
    np.testing.assert_allclose(hole, naive.gaussian(64, 512, 0.01, 0.99, 0.5 / 64, 1.0, 0.3), atol=2e-4)


@BOTH
@pytest.mark.parametrize("n", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("transposed", [False, True])
def test_waves(run, n, transposed):
    """More periods than pixels among them, which a field of 1 x 40 asks for."""
    waves = blank((n + 3, 2 * 20) if transposed else (2 * 20, n + 3))
    run(fill_waves)(waves, n, transposed)
    waves = waves.T if transposed else waves
    angles = 2 * np.pi * np.arange(20)[:, None] * np.arange(n) / n
    np.testing.assert_allclose(waves[::2, :n], np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(waves[1::2, :n], np.sin(angles), atol=1e-6)
    assert (waves[:, n:] == 0).all()


@BOTH
def test_power_of_half(run):
    z = np.concatenate([np.linspace(0, 2, 2001), np.linspace(2, 200, 500), [3e38, np.inf]]).astype(np.float32)
    found = np.array([run(power_of_half)(value) for value in z], dtype=np.float64)
    np.testing.assert_allclose(found, np.exp2(-z.astype(np.float64)), atol=2e-7)
    assert run(power_of_half)(np.float32(0)) == 1


@BOTH
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (6, 8), (7, 5)])
@pytest.mark.parametrize(("angle", "shear", "decay"), [(0.0, 0.0, 3.0), (0.0, 0.0, 1.2), (0.9, 0.5, 3.0)])
def test_fmix_field(run, size, angle, shear, decay, rng):
    """All frequencies of small images, so that the doubled ones at half the sampling rate are among them."""
    height, width = size
    rows, columns = 2 * (height // 2) + 1, width // 2 + 1
    noise = rng.standard_normal((columns, rows, 2)).astype(np.float32)
    scaled, field = blank(noise.size), blank(padded(height, width))
    tables = run(make_tables)(height, width, max(rows // 2, columns - 1))
    run(scale_noise)(scaled, noise.ravel(), rows, columns, height, width, decay, angle, shear)
    run(synthesise)(field, scaled, height, width, rows, columns, tables)
    expected = naive.fmix_field(height, width, noise, decay, angle, shear)
    np.testing.assert_allclose(field[: height * width].reshape(size), expected, atol=2e-6)


@given(*(st.integers(1, 40) for _ in range(3)), st.integers(0, 5), st.integers(0, 1000))
def test_small_products(rows, depth, columns, more, seed):
    """Equal to NumPy's, whatever the tiles leave over; nothing is written past the promised end."""
    rng = np.random.default_rng(seed)
    left, right = blank((-(-rows // 4) * 4, depth + more)), blank((depth + more, max(columns, 16) + more))
    left[:rows, :depth], right[:depth, :columns] = rng.random((rows, depth)), rng.random((depth, columns))
    out = np.full(padded(rows, columns) + 50, -7, np.float32)
    multiply_small(out, left, right, rows, depth, columns)
    expected = left[:rows, :depth] @ right[:depth, :columns]
    np.testing.assert_allclose(out[: rows * columns].reshape(rows, columns), expected, rtol=1e-5)
    assert (out[-50:] == -7).all()


@BOTH
@pytest.mark.parametrize("is_field", [False, True])
def test_fmix_hole(run, is_field, rng):
    height, width = 9, 14
    layer = np.zeros(1, dtype=LAYER)
    layer["start"], layer["ratio"], layer["dither"], layer["decay"] = 3, 0.37, 0.5, 3
    layer["rows"], layer["columns"] = (height, width) if is_field else (7, 4)
    layer["is_field"] = is_field
    coefficients = rng.standard_normal(200).astype(np.float32)
    hole = blank((height, width))
    run(fill_fmix)(hole, layer[0], coefficients, make_tables(height, width, 3), blank(padded(height, width)))
    layer["method"] = METHODS.index("fmix")
    np.testing.assert_array_equal(hole, naive.hole_of(layer[0], coefficients, height, width))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=60))
def test_extremes(values):
    for run in (extremes.py_func, extremes):
        least, greatest = run(np.array(values, dtype=np.float32))
        assert (least, greatest) == (min(values), max(values))


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=60), st.data())
def test_largest_values_with_ties(values, data):
    values = np.array(values, dtype=np.float32)
    count = data.draw(st.integers(0, len(values)))
    chosen = blank(len(values))
    choose_largest(chosen, values, len(values), count)
    np.testing.assert_array_equal(chosen, naive.largest(values, count))


@BOTH
@pytest.mark.parametrize(
    ("size", "columns"), [(3000, 50), (6007, 64), (6007, 70)]
)  # from 4096 on every 17th, 13th value
@pytest.mark.parametrize(
    "kind", ["normal", "few", "constant", "tiny", "huge", "clustered", "ramp", "misleading", "misleading the other way"]
)
def test_largest_values_of_hard_fields(run, kind, size, columns, rng):
    every = np.where(np.arange(size) % (17 if columns == 64 else 13), 0.0, 10.0)
    values = {
        "normal": rng.standard_normal(size),
        "few": rng.integers(0, 3, size),
        "constant": np.ones(size),
        "tiny": rng.standard_normal(size) * 1e-44,
        "huge": rng.standard_normal(size) * 1e37,
        "clustered": np.where(rng.random(size) < 0.9, 1 + rng.random(size) * 1e-6, rng.standard_normal(size) * 1e6),
        "ramp": np.arange(size),
        "misleading": rng.standard_normal(size) + every,
        "misleading the other way": rng.standard_normal(size) - every,
    }[kind].astype(np.float32)
    for count in (1, 2, 15, 16 * 13, size // 3, size // 2, size - 16 * 13, size - 1, size):
        chosen = blank(size)
        run(choose_largest)(chosen, values, columns, count)
        np.testing.assert_array_equal(chosen, naive.largest(values, count))
        threshold, ties, alike = run(find_threshold)(values, columns, count)
        assert threshold == np.sort(values)[-count]
        assert ties == count - (values > threshold).sum()
        assert alike == (values == threshold).sum()


def test_largest_values_where_denormal_numbers_are_0(rng):
    torch = pytest.importorskip("torch")
    values = np.maximum(0, rng.standard_normal(100)).astype(np.float32)
    expected, chosen = naive.largest(values, 60), blank(100)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU does not take them for 0")
    try:
        choose_largest(chosen, values, 10, 60)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 100])
def test_values_between(size, rng):
    values = rng.integers(-4, 5, size).astype(np.float32)
    for low, high in ((-1, 2), (-np.inf, 0), (0, np.inf), (-np.inf, np.inf), (9, 10), (2, 2)):
        expected = values[(values > low) & (values <= high)]
        room = np.full(size, np.nan, np.float32)
        found, above = collect(room, values, np.float32(low), np.float32(high))
        np.testing.assert_array_equal(room[:found], expected)
        assert (found, above) == (expected.size, np.sum(values > high))
        assert np.isnan(room[found:]).all()
        if expected.size:
            assert collect(room[: expected.size - 1], values, np.float32(low), np.float32(high))[0] == 0


@pytest.mark.parametrize("values", [np.zeros(40), np.zeros(80, np.float32)[::2]], ids=["float64", "strided"])
def test_values_that_vectors_could_not_be_read_from(values):
    with pytest.raises(TypingError):
        collect(blank(40), values, np.float32(0), np.float32(1))


@pytest.mark.parametrize(
    "config",
    [
        MiAMixConfig(methods=METHODS, weights=(1, 2, 3, 1, 2, 3), p_aug=0.5),
        MiAMixConfig(gauss_scale="area", methods=METHODS, weights=(0, 1, 0, 1, 1, 1), angle_max=30, shear_max=0.2),
        MiAMixConfig(cutmix=CutMixOptions(inside=True), gridmix=GridMixOptions(cells=(3, 3), pattern="random")),
        MiAMixConfig(cutmix=CutMixOptions(minmax=(0.2, 0.6)), agmix=AGMixOptions(q_max=0.3), smooth_max=1.0),
    ],
    ids=["all", "area", "options", "minmax"],
)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (5, 40)])
def test_layers_from_uniform_numbers(config, height, width, rng):
    uniforms = rng.random((200, UNIFORMS))
    layers = np.zeros(200, dtype=LAYER)
    layers["ratio"] = rng.random(200) * (rng.random(200) < 0.95)
    expected = [naive.draw_layer(config, r, u, height, width) for r, u in zip(layers["ratio"], uniforms, strict=True)]
    draw_layers(layers, uniforms.ravel(), options_of(config, height, width)[0], height, width)
    for layer, wanted in zip(layers, expected, strict=True):
        assert METHODS[layer["method"]] == wanted.pop("method")
        for name, value in wanted.items():
            assert layer[name] == pytest.approx(value, abs=1e-12), name


# Laws ----------------------------------------------------------------------------------------------------------------


def clipped_gaussian_mean(sigma):
    """Mean over c of the hole's mean: the integral of (1 - |d|) exp(-d^2 / 2 sigma^2) over [-1, 1], squared."""
    d = (np.arange(20000) + 0.5) / 20000
    return (2 * np.mean((1 - d) * np.exp(-(d**2) / (2 * sigma**2)))) ** 2


def box_mean(side, angle, shear, rng, points=200_000):
    """Mean of a clipped box that is turned about a uniform centre: E[(1 - |dy|)(1 - |dx|)] over the box, times its
    area; offsets of a side or more never overlap."""
    v, u = (rng.random((2, points)) - 0.5) * side
    u = u - shear * v
    dx, dy = u * np.cos(angle) - v * np.sin(angle), u * np.sin(angle) + v * np.cos(angle)
    return side**2 * np.mean(np.maximum(0, 1 - np.abs(dx)) * np.maximum(0, 1 - np.abs(dy)))


def agmix_mean(ratio, scale, rng, centres=400):
    """Hole mean of agmix by integration over many centres, angles and q on a 64 x 64 grid."""
    p = (np.arange(64) + 0.5) / 64
    total = 0.0
    for _ in range(centres):
        cy, cx, q, angle = rng.random(4) * (1, 1, 1.9, 2 * math.pi) - (0, 0, 0.95, 0)
        sigma = math.sqrt(ratio if scale == "paper" else ratio / (2 * math.pi * math.sqrt(1 - q * q)))
        precision = naive.agmix_precision(sigma, q, angle)
        dx, dy = p[None, :] - cx, p[:, None] - cy
        z = precision[0, 0] * dx * dx + 2 * precision[0, 1] * dx * dy + precision[1, 1] * dy * dy
        total += np.exp(-0.5 * z).mean()
    return total / centres


def test_the_papers_gaussian_is_far_above_its_ratio(rng):
    found = [agmix_mean(ratio, "paper", rng, centres=4000) for ratio in (0.05, 0.1, 0.25, 0.5)]
    np.testing.assert_allclose(found, (0.17, 0.29, 0.49, 0.65), atol=0.015)


@pytest.mark.parametrize("method", ["fmix", "gridmix"])
def test_a_count_is_never_rounded_beyond_all(method, rng):
    """36 + the number before 1 is 37 in float64; one more than there are would be read from behind the array."""
    config = alone(method, gridmix=GridMixOptions(pattern="random"))
    plan = MiAMix(2, config).plan(20, 6, 6, rng=rng)
    plan.layers["ratio"], plan.layers["dither"] = 1.0, np.nextafter(1.0, 0.0)
    batch = MiAMix(2, config, return_masks=True).render(plan, np.zeros((20, 6, 6), np.uint8), np.zeros(20, int))
    assert (batch.masks == 0).all()


def with_ratio(method, ratio, height, width, count, rng, **changes):
    """Hole means of `count` layers of this ratio."""
    config = alone(method, **changes)
    layers = np.zeros(count, dtype=LAYER)
    layers["ratio"] = ratio
    layers["sample"] = np.arange(count)
    blocks = draw_layers(layers, rng.random(count * UNIFORMS), options_of(config, height, width)[0], height, width)
    mix = MiAMix(2, config, return_masks=True)
    plan = mix.plan(count, height, width, rng=rng)
    object.__setattr__(plan, "layers", layers)
    object.__setattr__(plan, "coefficients", rng.standard_normal(blocks, dtype=np.float32))
    batch = mix.render(plan, np.zeros((count, height, width), np.uint8), np.zeros(count, int))
    return 1 - batch.masks.astype(np.float64).mean(axis=(1, 2))


def assert_mean(values, expected, extra=0.0):
    """To three standard errors, and what the expectation itself is unsure of."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - expected) < 3 * error + extra, (values.mean(), expected, error)


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("augmentation", [{}, {"p_aug": 1.0, "p_smooth": 1.0}], ids=["plain", "augmented"])
@pytest.mark.parametrize("method", ["mixup", "fmix", "gridmix"])
def test_holes_keep_their_ratio(method, augmentation, ratio, size, rng):
    means = with_ratio(method, ratio, *size, 1500, rng, **augmentation)
    assert_mean(means, ratio, extra=1e-6)
    if method == "mixup":
        np.testing.assert_allclose(means, ratio, atol=1e-6)
    if method == "fmix":  # never off by more than the one pixel that is drawn by lot
        assert np.abs(means - ratio).max() < 1 / (size[0] * size[1]) + 1e-6


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
@pytest.mark.parametrize("augmented", [0.0, 1.0])
def test_gridmix_of_random_cells_keeps_its_ratio(augmented, ratio, size, rng):
    means = with_ratio("gridmix", ratio, *size, 1500, rng, p_aug=augmented, gridmix=GridMixOptions(pattern="random"))
    assert_mean(means, ratio)


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("p_smooth", [0.0, 1.0])
def test_cutmix_is_clipped_as_it_should_be(p_smooth, ratio, size, rng):
    means = with_ratio("cutmix", ratio, *size, 4000, rng, p_smooth=p_smooth)
    side = math.sqrt(ratio)
    # Half a pixel of the shorter side is what a grid of centres may add.
    assert_mean(means, (side - side**2 / 4) ** 2, extra=0.25 / min(size) ** 2)


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_cutmix_turned_and_sheared_keeps_its_area(ratio, size, rng):
    """On the unit square: turned in pixels, a box of ratio .5 on 16 x 256 would shrink from .34 to .10."""
    means = with_ratio("cutmix", ratio, *size, 6000, rng, p_aug=1.0)
    angles, shears = rng.uniform(-math.pi, math.pi, 200), rng.uniform(-0.5, 0.5, 200)
    expected = np.mean([box_mean(math.sqrt(ratio), a, s, rng, 5000) for a, s in zip(angles, shears, strict=True)])
    assert_mean(means, expected, extra=0.003)
    side = math.sqrt(ratio)
    assert expected == pytest.approx((side - side**2 / 4) ** 2, abs=0.015)


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_cutmix_kept_inside_has_its_ratio(ratio, rng):
    means = with_ratio("cutmix", ratio, 32, 32, 4000, rng, cutmix=CutMixOptions(inside=True))
    assert_mean(means, ratio, extra=0.002)


def test_cutmix_minmax_draws_sides(rng):
    means = with_ratio("cutmix", 0.9, 64, 64, 4000, rng, cutmix=CutMixOptions(minmax=(0.2, 0.6)))
    assert_mean(means, 0.4**2, extra=0.002)


@pytest.mark.parametrize("size", [(32, 32), (16, 256)])
@pytest.mark.parametrize("scale", ["paper", "area"])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_gaussians_are_clipped_as_they_should_be(scale, ratio, size, rng):
    sigma = math.sqrt(ratio if scale == "paper" else ratio / (2 * math.pi))
    means = with_ratio("gmix", ratio, *size, 2000, rng, gauss_scale=scale)
    assert_mean(means, clipped_gaussian_mean(sigma), extra=0.001)
    means = with_ratio("agmix", ratio, *size, 2000, rng, gauss_scale=scale)
    expected = agmix_mean(ratio, scale, rng, centres=4000)
    spread = means.std() / math.sqrt(4000)
    assert_mean(means, expected, extra=3 * spread)


@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_agmix_is_the_papers_kernel(ratio, rng):
    """Two standard deviations and an angle stand for sigma^2 R Sigma R'."""
    layers = np.zeros(20, dtype=LAYER)
    layers["ratio"] = ratio
    uniforms = rng.random((20, UNIFORMS))
    draw_layers(layers, uniforms.ravel(), options_of(alone("agmix"), 32, 32)[0], 32, 32)
    for layer, uniform in zip(layers, uniforms, strict=True):
        q, angle = 0.95 * (2 * uniform[9] - 1), 2 * math.pi * uniform[8]
        c, s = math.cos(layer["angle"]), math.sin(layer["angle"])
        rotation = np.array([[c, -s], [s, c]])
        covariance = rotation @ np.diag([layer["width"] ** 2, layer["height"] ** 2]) @ rotation.T
        np.testing.assert_allclose(
            np.linalg.inv(covariance), naive.agmix_precision(math.sqrt(ratio), q, angle), rtol=1e-9
        )


def structure_tensor(fields):
    """Mean of the gradient's outer product, (2, 2), y first."""
    gy, gx = np.diff(fields, axis=1)[:, :, :-1], np.diff(fields, axis=2)[:, :-1]
    return np.array([[np.mean(gy * gy), np.mean(gy * gx)], [np.mean(gy * gx), np.mean(gx * gx)]])


def fmix_fields(height, width, count, rng, decay=3.0, angle=0.0, shear=0.0, harmonics=None):
    """Fields of the few harmonics that the package uses, normalised to unit variance: (count, H, W)."""
    longer = max(height, width)
    harmonics = fmix.cutoff(height, width, decay) if harmonics is None else harmonics
    rows = 2 * min(harmonics * height // longer, height // 2) + 1
    columns = min(harmonics * width // longer, width // 2) + 1
    tables = make_tables(height, width, max(rows // 2, columns - 1))
    fields = np.empty((count, padded(height, width)), np.float32)
    for field in fields:
        noise = rng.standard_normal(rows * columns * 2).astype(np.float32)
        scaled = np.empty_like(noise)
        scale_noise(scaled, noise, rows, columns, height, width, decay, angle, shear)
        synthesise(field, scaled, height, width, rows, columns, tables)
    fields = fields[:, : height * width].reshape(count, height, width)
    return fields / fields.std()


def full_fields(height, width, count, rng, decay=3.0):
    """Filtered white noise, every frequency, by NumPy's complex FFT."""
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    amplitude = 1 / np.maximum(f, 1 / max(height, width)) ** decay
    amplitude[0, 0] = 0
    fields = np.fft.ifft2(np.fft.fft2(rng.standard_normal((count, height, width))) * amplitude).real
    return fields / fields.std()


@pytest.mark.parametrize("size", [(32, 32), (24, 48), (6, 6)])
def test_fmix_has_the_law_of_the_full_spectrum(size, rng):
    """Variogram along both axes: half the mean squared difference at some distances, within 5% of the full FFT's."""
    few, full = fmix_fields(*size, 1500, rng), full_fields(*size, 1500, rng)
    for axis in (1, 2):
        for distance in (1, 2, size[axis - 1] // 2):
            found, expected = (
                np.mean((np.roll(fields, distance, axis) - fields) ** 2) / 2 for fields in (few, full)
            )  # fmt: skip
            assert found == pytest.approx(expected, rel=0.06), (axis, distance)


def test_fmix_is_invariant_under_transposition(rng):
    """Boundary length along y and x alike; the official half spectrum gives 0.80."""
    fields = fmix_fields(32, 32, 3000, rng)
    tensor = structure_tensor(fields)
    assert tensor[0, 0] / tensor[1, 1] == pytest.approx(1, abs=0.05)
    wide, tall = fmix_fields(16, 32, 1500, rng), fmix_fields(32, 16, 1500, rng)
    np.testing.assert_allclose(structure_tensor(wide), structure_tensor(tall)[::-1, ::-1], atol=0.05 * tensor[0, 0])


def test_fmix_turns_the_axis_of_its_shear(rng):
    """g(p) = field(A p) has the mean structure tensor A' A, up to scale, since the field itself is isotropic.

    On the grid of whole periods the tensor is the sum of power * f f', which the field must meet closely; the
    continuous law only to within what so few frequencies allow.
    """
    shear = 0.5
    k = np.arange(-14, 15)
    f = np.stack(np.meshgrid(k, k))  # fx, fy
    for angle in (0.0, 0.6, 2.0):
        fields = fmix_fields(48, 48, 1500, rng, angle=angle, shear=shear, harmonics=14)
        found = structure_tensor(fields)
        c, s = math.cos(angle), math.sin(angle)
        a = np.array([[1, shear], [0, 1]]) @ np.array([[c, s], [-s, c]])  # on (x, y)
        expected = (a.T @ a)[::-1, ::-1]
        np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), atol=0.05)
        power = np.maximum(1, np.linalg.norm(np.einsum("ij,jyx->iyx", np.linalg.inv(a).T, f), axis=0)) ** -6.0
        lattice = np.einsum("yx,iyx,jyx->ij", power, f, f)[::-1, ::-1]
        np.testing.assert_allclose(found / np.trace(found), lattice / np.trace(lattice), atol=0.015)


def test_fmix_needs_few_harmonics():
    assert fmix.cutoff(32, 32, 3.0) <= 12
    assert fmix.cutoff(224, 224, 3.0) <= 12
    assert fmix.harmonics_of(224, 224, 1.0, 0.5) == (-1, -1)
    for height, width, decay in ((224, 224, 3.0), (64, 16, 2.0), (32, 32, 3.0)):
        power = np.abs(np.fft.fft2(full_fields(height, width, 400, np.random.default_rng(0), decay))) ** 2
        frequency = np.maximum(*(np.abs(f) for f in np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height))))
        above = frequency * max(height, width) > fmix.cutoff(height, width, decay) + 1e-9
        share = power.mean(axis=0)[above].sum() / power.mean(axis=0).sum()
        assert share < 1.3e-4, (height, width, decay)


@pytest.mark.parametrize("augmented", [0.0, 1.0])
def test_fmix_of_slow_decay_uses_the_full_spectrum(augmented, rng):
    config = alone("fmix", fmix=FMixOptions(decay=1.0), p_aug=augmented)
    plan = MiAMix(2, config).plan(40, 96, 96, rng=rng)
    assert plan.layers["is_field"].all()
    fields = plan.coefficients.reshape(40, 96, 96)
    if not augmented:
        expected = np.mean(np.diff(full_fields(96, 96, 40, rng, decay=1.0), axis=1) ** 2)
        assert np.mean(np.diff(fields / fields.std(), axis=1) ** 2) == pytest.approx(expected, rel=0.15)
    batch = MiAMix(2, config, return_masks=True).render(plan, np.zeros((40, 96, 96), np.uint8), np.zeros(40, int))
    np.testing.assert_allclose(1 - batch.masks.mean(axis=(1, 2)), plan.layers["ratio"], atol=1.1 / 96**2)


@pytest.mark.parametrize(("angle", "shear", "decay"), [(0.0, 0.0, 1.0), (0.7, 0.4, 1.0), (2.0, -0.3, 0.0)])
def test_fmix_by_a_full_fft(angle, shear, decay, rng):
    """Each frequency of the noise times its sheared amplitude; odd sizes, where none is its own mirror image."""
    noise = rng.standard_normal((9, 7)).astype(np.float32)
    inverse_transpose = np.linalg.inv(
        np.array([[1, shear], [0, 1]]) @ [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    ).T
    spectrum = np.fft.fft2(noise)
    for y, fy in enumerate(np.fft.fftfreq(9)):
        for x, fx in enumerate(np.fft.fftfreq(7)):
            spectrum[y, x] *= max(9 * np.linalg.norm(inverse_transpose @ (fx, fy)), 1) ** -decay
    spectrum[0, 0] = 0
    np.testing.assert_allclose(fmix.filter_noise(noise, decay, angle, shear), np.fft.ifft2(spectrum).real, atol=1e-6)


# Edges ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (32, 32), (31, 57)])
@pytest.mark.parametrize("augmentation", [{}, {"p_aug": 1.0, "p_smooth": 1.0}], ids=["plain", "augmented"])
@pytest.mark.parametrize("scale", ["paper", "area"])
@pytest.mark.parametrize("method", METHODS)
def test_no_ratio_no_hole(method, scale, augmentation, size, rng):
    assert with_ratio(method, 0.0, *size, 20, rng, gauss_scale=scale, **augmentation).max() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (32, 32), (31, 57)])
@pytest.mark.parametrize("augmentation", [{}, {"p_aug": 1.0, "p_smooth": 1.0}], ids=["plain", "augmented"])
@pytest.mark.parametrize("method", ["mixup", "fmix", "gridmix"])
def test_full_ratio_full_hole(method, augmentation, size, rng):
    assert with_ratio(method, 1.0, *size, 20, rng, **augmentation).min() == 1
    if method == "gridmix":
        random = GridMixOptions(pattern="random")
        assert with_ratio(method, 1.0, *size, 20, rng, gridmix=random, **augmentation).min() == 1


def test_a_full_grid_has_no_gap_where_a_coordinate_rounds_to_one():
    """u - floor(u) is 1.0 for the tiniest negative u, as turns by multiples of 45 degrees make it."""
    for quarter in range(-8, 9):
        hole = blank((9, 9))
        fill_gridmix(hole, 3, 1.0, 0.0, 0.0, quarter * math.pi / 4, 0.0, np.zeros(0, np.float32), 0)
        assert hole.min() == 1


def test_holes_do_not_repeat(rng):
    for method in METHODS:
        holes, ratios = holes_of(alone(method), 16, 16, 40, rng)
        assert len(np.unique(holes.reshape(40, -1), axis=0)) > 20 or method == "mixup"
        assert len(np.unique(ratios)) == 40


def test_tables_of_a_narrow_image_hold_whole_tiles():
    """The product reads a tile's rows and columns, used or not; beyond the array that would be anybody's memory."""
    table_y, table_x = make_tables(2, 3, 1)
    assert table_y.shape[0] >= 2 + ROWS
    assert table_x.shape[1] >= LANES
