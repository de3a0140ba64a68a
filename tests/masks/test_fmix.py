"""fmix's field against its naive twin, as plain Python and compiled, and its law against the full spectrum."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miamix_cpu import FMixOptions, MiAMix
from miamix_cpu.masks import fmix
from miamix_cpu.masks.fmix import MOST_HARMONICS, add_rows, fold, make_waves, synthesise
from tests import naive
from tests.kernels import compiled, python
from tests.masks.common import BOTH, BOTH_OF_ENTRIES, alone, as_it_is, blank, check_draw, hole_of, layers_of


@pytest.mark.parametrize("n", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("transposed", [False, True])
def test_waves(n, transposed):
    """More periods than pixels among them, which a field of 1 x 40 asks for."""
    waves = make_waves(n, 19, transposed=transposed)
    assert waves.flags.c_contiguous
    assert waves.dtype == np.float32
    waves = waves.transpose(0, 2, 1) if transposed else waves
    angles = 2 * np.pi * np.arange(20)[:, None] * np.arange(n) / n
    np.testing.assert_allclose(waves, [np.cos(angles), np.sin(angles)], atol=1e-6)


def field_of(run, size, noise, decay, angle, shear, most=None):
    """The field of the harmonics `noise` (columns, rows, 2), by way of waves up to `most`."""
    columns, rows = noise.shape[:2]
    most = max(rows // 2, columns - 1) if most is None else most
    folded, field = blank((2, 2, rows // 2 + 1, columns)), blank(size[0] * size[1])
    run(fold)(folded, noise.ravel(), rows, columns, *size, decay, angle, shear)
    waves = make_waves(size[0], most, transposed=True), make_waves(size[1], most)
    run(synthesise)(field, folded, *waves)
    return field.reshape(size)


@BOTH
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (6, 8), (7, 5), (12, 9)])
@pytest.mark.parametrize(("angle", "shear", "decay"), [(0.0, 0.0, 3.0), (0.0, 0.0, 1.2), (0.9, 0.5, 3.0)])
def test_fmix_field(run, size, angle, shear, decay, rng):
    """All frequencies of small images, so that the doubled ones at half the sampling rate are among them."""
    height, width = size
    noise = rng.standard_normal((width // 2 + 1, 2 * (height // 2) + 1, 2)).astype(np.float32)
    expected = naive.fmix_field(height, width, noise, decay, angle, shear)
    for more in (0, 3):  # as many waves as harmonics, and more of them
        most = max(height // 2, width // 2) + more
        found = field_of(run, size, noise, decay, angle, shear, most)
        np.testing.assert_allclose(found, expected, atol=2e-6)


@given(*(st.integers(1, 40) for _ in range(2)), st.integers(0, 12), st.integers(0, 5), st.integers(0, 1000))
def test_sums_of_weighted_rows(columns, more, depth, spare, seed):
    """Equal to NumPy's product, whatever is left over of four rows; nothing is read of rows without a weight."""
    rng = np.random.default_rng(seed)
    weights, before = rng.random(depth + more).astype(np.float32), rng.random(columns).astype(np.float32)
    rows = blank((depth + more + spare, columns))
    rows[: depth + more] = rng.random((depth + more, columns))
    for run in (python, compiled):
        total = before.copy()
        run(add_rows)(total, weights, rows)
        np.testing.assert_allclose(total, before + weights @ rows[: depth + more], rtol=1e-5)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("is_field", [False, True])
@pytest.mark.parametrize(("angle", "shear"), [(0, 0), (0.9, 0.5)])
def test_fmix_hole(run, is_field, angle, shear, rng):
    """The block begins at 3, and what lies before and after it is no number."""
    size = (9, 14)
    layer = layers_of("fmix", start=3, dither=0.5, decay=3, is_field=is_field, angle=angle, shear=shear)
    layer["rows"], layer["columns"] = size if is_field else (7, 4)
    coefficients = np.full(200, np.nan, np.float32)
    count = 9 * 14 if is_field else 7 * 4 * 2
    coefficients[3 : 3 + count] = rng.standard_normal(count)
    for ratio in (0.37, 0.0, 1.0, 0.003):
        layer["ratio"] = ratio
        hole = hole_of(run, layer, size, coefficients)
        np.testing.assert_array_equal(hole, naive.hole_of(layer[0], coefficients, *size))


@pytest.mark.parametrize("size", [(2, 80), (80, 2), (1, 64), (3, 33)])
def test_fmix_hole_of_as_many_harmonics_as_a_plan_holds(size, rng):
    rows, columns = 2 * min(MOST_HARMONICS, size[0] // 2) + 1, min(MOST_HARMONICS, size[1] // 2) + 1
    noise = rng.standard_normal(rows * columns * 2).astype(np.float32)
    layer = layers_of("fmix", rows=rows, columns=columns, decay=0.5, ratio=0.5)
    hole = hole_of(as_it_is, layer, size, noise)
    np.testing.assert_array_equal(hole, naive.hole_of(layer[0], noise, *size))


@pytest.mark.parametrize("decay", [3.0, 1.0])
def test_a_count_of_pixels_is_never_rounded_beyond_all(decay, rng):
    """36 + the number before 1 is 37 in float64; one more than there are would be read from behind the array."""
    config = alone("fmix", fmix=FMixOptions(decay=decay))
    plan = MiAMix(2, config).plan(20, 96, 96, rng=rng)
    assert plan.layers["is_field"].all() == (decay == 1.0)
    plan.layers["ratio"], plan.layers["dither"] = 1.0, np.nextafter(1.0, 0.0)
    batch = MiAMix(2, config, return_masks=True).render(plan, np.zeros((20, 96, 96), np.uint8), np.zeros(20, int))
    assert (batch.masks == 0).all()


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("size", [(32, 32), (5, 40), (64, 16), (96, 96), (1, 1)])
@pytest.mark.parametrize("decay", [3.0, 2.0, 1.0])
def test_blocks_hold_the_harmonics_that_are_needed(run, decay, size, rng):
    """Of K periods along the longer side, as many along the shorter one as have the same frequency, in pixels."""
    config = alone("fmix", fmix=FMixOptions(decay=decay))
    layers, uniforms = check_draw(run, "fmix", config, size, rng)
    assert set(layers["decay"]) == {decay}
    layers = layers_of("fmix", 2, augmented=[False, True])
    run(fmix.draw)(layers, layers["method"][0], uniforms[:2], config, *size)
    for layer, harmonics in zip(layers, fmix.harmonics_of(*size, decay, 0.5), strict=True):
        if harmonics < 0:
            assert (layer["rows"], layer["columns"], layer["is_field"]) == (*size, True)
        else:
            most = [min(harmonics * side // max(size), side // 2) for side in size]
            assert (layer["rows"], layer["columns"], layer["is_field"]) == (2 * most[0] + 1, most[1] + 1, False)


# Laws ----------------------------------------------------------------------------------------------------------------


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
    noise = rng.standard_normal((count, columns, rows, 2)).astype(np.float32)
    fields = np.stack([field_of(compiled, (height, width), part, decay, angle, shear) for part in noise])
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


def shares_above(height, width, decay, cutoffs):
    """The share of the variance above each of these numbers of periods, in fields of all frequencies."""
    power = np.abs(np.fft.fft2(full_fields(height, width, 400, np.random.default_rng(0), decay))) ** 2
    frequency = np.maximum(*(np.abs(f) for f in np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height))))
    mean = power.mean(axis=0)
    return [mean[frequency * max(height, width) > cutoff + 1e-9].sum() / mean.sum() for cutoff in cutoffs]


def test_fmix_needs_few_harmonics():
    """As few as leave less than a thousandth of the variance out; 30% are what 400 fields are unsure of."""
    assert fmix.cutoff(32, 32, 3.0) <= 4
    assert fmix.cutoff(224, 224, 3.0) <= 4
    assert fmix.harmonics_of(224, 224, 1.0, 0.5) == (-1, -1)
    for height, width, decay in ((224, 224, 3.0), (64, 16, 2.0), (32, 32, 3.0)):
        most = fmix.cutoff(height, width, decay)
        share, with_one_fewer = shares_above(height, width, decay, [most, most - 1])
        assert share < 1.3e-3, (height, width, decay)
        assert with_one_fewer > 0.7e-3, (height, width, decay)


def test_a_shear_needs_more_harmonics_by_its_larger_singular_value():
    for shear in (0.0, 0.3, 0.5):
        stretch = np.linalg.svd([[1, shear], [0, 1]])[1][0]
        plain, sheared = fmix.harmonics_of(64, 64, 2.0, shear)
        assert plain == fmix.cutoff(64, 64, 2.0)
        assert sheared == math.ceil(plain * stretch - 1e-9)


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


def sheared_spectrum(noise, decay, angle, shear):
    """Each frequency of the noise times its sheared amplitude, one at a time; no constant."""
    height, width = noise.shape
    inverse_transpose = np.linalg.inv(
        np.array([[1, shear], [0, 1]]) @ [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    ).T
    spectrum = np.fft.fft2(noise)
    for y, fy in enumerate(np.fft.fftfreq(height)):
        for x, fx in enumerate(np.fft.fftfreq(width)):
            spectrum[y, x] *= max(max(height, width) * np.linalg.norm(inverse_transpose @ (fx, fy)), 1) ** -decay
    spectrum[0, 0] = 0
    return np.fft.ifft2(spectrum).real


@pytest.mark.parametrize(("angle", "shear", "decay"), [(0.0, 0.0, 1.0), (0.7, 0.4, 1.0), (2.0, -0.3, 0.0)])
def test_fmix_by_a_full_fft(angle, shear, decay, rng):
    """Odd sizes, where no frequency is its own mirror image."""
    noise = rng.standard_normal((9, 7)).astype(np.float32)
    expected = sheared_spectrum(noise, decay, angle, shear)
    np.testing.assert_allclose(fmix.filter_noise(noise, decay, angle, shear), expected, atol=1e-6)


def test_normals_become_fields_in_their_own_blocks(rng):
    """What lies between the blocks is left alone."""
    layers = layers_of("fmix", 2, rows=9, columns=7, is_field=True, start=[2, 2 + 63 + 4])
    layers["decay"], layers["angle"], layers["shear"] = (1.0, 2.0), (0.0, 0.7), (0.0, 0.4)
    coefficients = rng.standard_normal(2 + 63 + 4 + 63 + 5).astype(np.float32)
    expected = coefficients.copy()
    for layer in layers:
        noise = coefficients[layer["start"] :][:63].reshape(9, 7)
        turned = (layer["decay"], layer["angle"], layer["shear"])
        expected[layer["start"] :][:63] = sheared_spectrum(noise, *turned).ravel()
    fmix.finish(layers, coefficients)
    np.testing.assert_allclose(coefficients, expected, atol=1e-6)
