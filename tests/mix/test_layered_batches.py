"""Whole batches whose layers bring partners of their own: labels match pixels, and who shows where."""

import dataclasses
import itertools

import numpy as np
import pytest

from miamix_cpu import GridMixOptions, MiAMix, MiAMixConfig
from miamix_cpu.methods import METHODS
from miamix_cpu.mix import render
from miamix_cpu.mix.render import mix_views
from miamix_cpu.plan.sampling import draw_plan
from tests import naive, naive_layers
from tests.kernels import python
from tests.masks.common import GUIDED, aimed

pytestmark = pytest.mark.filterwarnings("ignore:.*come out unmixed", "ignore:float images have")

EVERYTHING = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), k_max=4, p_aug=0.5, partners="layer")
BINARY = ("cutmix", "fmix", "gridmix", "saliencymix", "attentivecutmix")
DTYPES = [("uint8", "uint8"), ("uint8", "float32"), ("float32", "float32")]
EACH = pytest.mark.parametrize("method", [*METHODS, "all"])


def of_method(method, **changes):
    methods = METHODS if method == "all" else (method,)
    return EVERYTHING.replace(methods=methods, weights=(1,) * len(methods), **changes)


def views(n, height, width, channels, dtype, rng):
    shape = (2, n, height, width, channels) if channels else (2, n, height, width)
    values = rng.integers(0, 256, shape, dtype=np.uint8)
    return values if dtype == "uint8" else (values / np.float32(255)).astype(np.float32)


def counts_of(plan):
    return np.diff(plan.first_layer)


def by_source(plan, weights):
    """The weight of each first view, and of each second view: (N, 2, N)."""
    found = np.zeros((len(plan), 2, len(plan)))
    for i in range(len(plan)):
        found[i, 0, i] = weights[i, 0]
        for j in range(counts_of(plan)[i]):
            found[i, 1, plan.partner[i, j]] += weights[i, 1 + j]
    return found


# The naive twin ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [
    EVERYTHING, EVERYTHING.replace(merge="sum"), EVERYTHING.replace(lam_from="orig"),
    EVERYTHING.replace(merge="sum", lam_from="orig", k_min=3, p_self=0.0),
], ids=["everything", "sum", "orig", "sum and orig"])  # fmt: skip
@pytest.mark.parametrize(("height", "width", "channels", "source", "target"), [
    (12, 12, 3, "uint8", "uint8"), (9, 14, 1, "uint8", "float32"), (1, 17, 4, "float32", "float32"),
    (16, 5, 0, "uint8", "uint8"), (60, 41, 3, "uint8", "uint8"), (2, 1601, 2, "uint8", "float32"),
])  # fmt: skip
def test_a_batch_equals_its_naive_twin(config, height, width, channels, source, target, rng):
    first, second = views(10, height, width, channels, source, rng)
    labels = rng.integers(0, 7, 10)
    mix = MiAMix(7, config, dtype=target, return_masks=True)
    batch = mix(first, labels, rng=rng, second=second)
    images, targets, lam, masks = naive_layers.mix(batch.plan, first, second, labels, 7)
    assert (batch.masks.shape, batch.lam.shape) == ((10, 5, height, width), (10, 5))
    # Pixels on the very edge of a hole may fall on either side in float32.
    off = (np.abs(batch.masks - masks) > 1e-5).any(axis=1)
    assert off.mean() < 0.004
    may_differ = off.mean(axis=(1, 2)) + 2e-6
    assert (np.abs(batch.lam - lam) <= may_differ[:, None]).all()
    assert (np.abs(batch.targets - targets) <= may_differ[:, None]).all()
    # Half a grey level a layer, and what 16 bits do to its share; another half where a partner is resized.
    layers = counts_of(batch.plan)
    resized = np.array([len(naive.resized_layers(batch.plan, i)) > 0 for i in range(10)])
    tolerance = layers * (0.5 + 255 / 2**16) if target == "uint8" else np.full(10, 3e-6)
    if source == "uint8":
        tolerance = tolerance + 0.5 * resized / (1 if target == "uint8" else 255)
    images = images / 255 if source == "uint8" and target == "float32" else images
    error = np.abs(batch.images - images).reshape(*off.shape, -1).max(axis=-1)
    assert (error <= tolerance[:, None, None])[~off].all()


# Labels match pixels, and partners their labels -----------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (32, 30)])
@pytest.mark.parametrize(("source", "target"), DTYPES)
def test_labels_match_the_pixels(method, merge, size, source, target, rng):
    """First views white, second views black: an image's mean is its own label's weight."""
    n, white = 12, 255 if source == "uint8" else 1.0
    config = of_method(method, merge=merge, p_self=0.2)
    first, second = np.full((n, *size, 3), white, source), np.zeros((n, *size, 3), source)
    batch = MiAMix(n, config, dtype=target)(first, np.arange(n), rng=rng, second=second)
    means = batch.images.astype(np.float64).mean(axis=(1, 2, 3)) * (1 if target == "uint8" else 255)
    tolerance = 0.5 * counts_of(batch.plan) + 0.02 if target == "uint8" else np.full(n, 1e-3)
    assert (np.abs(means - 255 * batch.lam[:, 0]) <= tolerance).all()
    np.testing.assert_allclose(batch.lam.sum(axis=1), 1, atol=1e-6)


@EACH
@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize("p_self", [0.0, 0.4])
def test_the_weight_of_each_view_is_read_back_from_the_pixels(method, merge, p_self, rng):
    """Each view is white in a channel of its own, so a channel's mean is the weight of its view."""
    n = 7
    first, second = np.zeros((2, n, 20, 18, 2 * n), np.float32)
    first[np.arange(n), ..., np.arange(n)] = 1
    second[np.arange(n), ..., n + np.arange(n)] = 1
    config = of_method(method, merge=merge, p_self=p_self, k_min=2)
    batch = MiAMix(n, config, return_masks=True)(first, np.arange(n), rng=rng, second=second)
    means = batch.images.mean(axis=(1, 2), dtype=np.float64).reshape(n, 2, n)
    np.testing.assert_allclose(means, by_source(batch.plan, batch.lam), atol=2e-6)
    np.testing.assert_allclose(batch.targets, means.sum(axis=1), atol=2e-6)
    np.testing.assert_array_equal(batch.partner[:, 0], np.arange(n))
    for i, k in enumerate(counts_of(batch.plan)):
        np.testing.assert_array_equal(batch.partner[i, 1 : 1 + k], batch.plan.partner[i, :k])
        assert (batch.partner[i, 1 + k :] == i).all()
        assert (batch.lam[i, 1 + k :] == 0).all()
    by_pixel = batch.images.reshape(n, 20, 18, 2, n)
    expected = np.moveaxis([by_source(batch.plan, batch.masks[..., y, x]) for y in (0, 9) for x in (3, 17)], 0, 1)
    np.testing.assert_allclose(by_pixel[:, [0, 0, 9, 9], [3, 17, 3, 17]], expected, atol=2e-6)


@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize("method", [*BINARY, "stacked"])
def test_of_holes_that_are_whole_one_view_shows_at_each_pixel(method, merge, rng):
    """Each value says of which sample, which view and which pixel it is."""
    n, height, width = 9, 16, 14
    codes = np.arange(2 * n * height * width, dtype=np.float32).reshape(2, n, height, width)
    methods = BINARY if method == "stacked" else (method,)
    config = EVERYTHING.replace(
        methods=methods, weights=(1,) * len(methods), merge=merge, p_smooth=0.0, p_self=0.2, k_min=2
    )
    for changed in (config, config.replace(gridmix=GridMixOptions(pattern="random"))):
        maps = rng.random((2, n, 8, 7))
        batch = MiAMix(n, changed, return_masks=True)(
            codes[0], np.arange(n), rng=rng, second=codes[1], maps=maps[0], second_maps=maps[1]
        )
        assert set(np.unique(batch.masks)) == {0, 1}
        assert (batch.masks.sum(axis=1) == 1).all()
        found = batch.images.astype(np.int64)
        np.testing.assert_array_equal(
            found % (height * width), np.arange(height * width).reshape(height, width) + 0 * found
        )
        which, sample = np.divmod(found // (height * width), n)
        shown = batch.masks.argmax(axis=1)
        np.testing.assert_array_equal(which, shown > 0)
        np.testing.assert_array_equal(
            sample, np.take_along_axis(batch.partner[:, :, None, None], shown[:, None], 1)[:, 0]
        )
        assert len(np.unique(shown)) > 2


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_whole_partner_of_a_layer_shows_inside_its_box(stacked, dtype, rng):
    methods = ("resizemix", "cutmix") if stacked else ("resizemix",)
    config = EVERYTHING.replace(methods=methods, weights=(1,) * len(methods), p_aug=0, p_smooth=0, p_self=0.1, k_max=3)
    first, second = views(30, 21, 17, 3, dtype, rng)
    batch = MiAMix(30, config, return_masks=True)(first, np.arange(30), rng=rng, second=second)
    resized = 0
    for i in range(30):
        for j, view in enumerate(naive_layers.seen(batch.plan, i, second)):
            place = batch.masks[i, 1 + j] == 1
            error = np.abs(batch.images[i][place].astype(float) - view[place])
            assert error.max(initial=0) <= (0.51 if dtype == "uint8" else 1e-5)
            resized += view.dtype == np.float64 and bool(place.any())
    assert resized > 15


# What does not count ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize("masks", [False, True])
def test_a_view_without_weight_does_not_count(masks, merge, odd, rng):
    """Whatever it is, be it no number: the first one, or that of one of the samples."""
    n, size = 12, (12, 11)
    config = MiAMixConfig(
        methods=BINARY, weights=(1,) * len(BINARY), k_min=1, k_max=4, p_smooth=0, p_self=0.2, partners="layer",
        merge=merge, second_view="independent",
    )  # fmt: skip
    first, second = rng.random((2, n, *size, 3), dtype=np.float32) + np.float32(1)
    maps = rng.random((n, 6, 6))
    given = {"maps": maps, "second_maps": maps}
    mix = MiAMix(n, config, return_masks=masks)
    plan = mix.plan(n, *size, rng=rng)
    expected = mix.render(plan, first, np.arange(n), second=second, **given)
    weights = MiAMix(n, config, return_masks=True).render(plan, first, np.arange(n), second=second, **given).masks
    for broken in range(n):
        ours, theirs = first.copy(), second.copy()
        ours[broken] = theirs[broken] = odd
        batch = mix.render(plan, ours, np.arange(n), second=theirs, **given)
        shown = np.take_along_axis(expected.partner[:, :, None, None], weights.argmax(axis=1)[:, None], 1)[:, 0]
        np.testing.assert_array_equal(batch.images[shown != broken], expected.images[shown != broken])
        np.testing.assert_array_equal(batch.images[shown == broken], np.full_like(batch.images[shown == broken], odd))
        np.testing.assert_array_equal(batch.lam, expected.lam)


@pytest.mark.parametrize(("source", "dtype"), DTYPES)
def test_a_sample_without_layers_comes_out_as_it_is(source, dtype, rng):
    plan = aimed(draw_plan(EVERYTHING, 30, 12, 11, rng, probability=0.5), rng.random((30, 12, 11)))
    first, second = views(30, 12, 11, 3, source, rng)
    out, lam, made = rendered(plan, first, second, dtype, np.ones(3, np.float32), np.zeros(3, np.float32), masks=True)
    assert 0 < plan.mixed.sum() < 30
    np.testing.assert_array_equal(out[~plan.mixed], first[~plan.mixed])
    np.testing.assert_array_equal(lam[~plan.mixed], np.eye(5)[np.zeros((~plan.mixed).sum(), int)])
    assert (made[~plan.mixed, 0] == 1).all()
    assert (made[~plan.mixed, 1:] == 0).all()
    assert (out[plan.mixed] != first[plan.mixed]).any()
    others = np.setdiff1d(np.arange(30), plan.needs_second_view)
    second[others] = 77
    again = rendered(plan, first, second, dtype, np.ones(3, np.float32), np.zeros(3, np.float32))[0]
    np.testing.assert_array_equal(again, out)


# Bytes -----------------------------------------------------------------------------------------------------------------


def test_bytes_are_rounded_by_half_a_level_a_layer_and_without_bias(rng):
    """Of shares that are even over the image, as mixup's are, the error is one number for each pair of values."""
    n, shape = 60, (40, 40, 3)
    config = MiAMixConfig(methods=("mixup", "gmix"), weights=(1, 1), k_min=4, k_max=4, partners="layer", p_self=0)
    first, second = rng.integers(0, 256, (2, n, *shape), dtype=np.uint8)
    mix = MiAMix(n, config, dtype="uint8", return_masks=True)
    batch = mix(first, np.arange(n), rng=rng, second=second)
    seen = np.stack([first, *(second[batch.partner[:, j]] for j in range(1, 5))], axis=1)
    exact = (batch.masks[..., None].astype(np.float64) * seen).sum(axis=1)
    error = batch.images - exact
    assert np.abs(error).max() <= 4 * (0.5 + 255 / 2**16)
    assert abs(error.mean()) < 5 * error.std() / np.sqrt(error.size) + 0.002


@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize(("source", "dtype"), DTYPES)
@EACH
def test_one_layer_alone_gives_the_bytes_of_a_partner_a_sample(method, source, dtype, merge, rng):
    config = of_method(method, k_max=1, merge=merge, p_self=0.2)
    first, second = views(20, 24, 21, 3, source, rng)
    for masks in False, True:
        one, other = (
            MiAMix(20, config.replace(partners=partners), dtype=dtype, return_masks=masks)(
                first, np.arange(20), rng=np.random.default_rng(5), second=second
            )
            for partners in ("sample", "layer")
        )
        np.testing.assert_array_equal(other.plan.partner, one.partner[:, None])
        assert one.plan.layers.tobytes() == other.plan.layers.tobytes()
        assert one.images.tobytes() == other.images.tobytes()
        np.testing.assert_array_equal(other.lam[:, 0], one.lam)
        assert not masks or (other.masks[:, 0] == one.masks).all()
        np.testing.assert_allclose(other.targets, one.targets, atol=1e-7)


@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_partners_that_are_alike_mix_as_one_partner_does(dtype, merge, rng):
    """Where all layers show one view, the first view's weight is the mask of a partner a sample."""
    config = EVERYTHING.replace(merge=merge, partners="sample")
    first, second = views(20, 24, 21, 3, "uint8", rng)
    mix = MiAMix(20, config, dtype=dtype, return_masks=True)
    plan = aimed(mix.plan(20, 24, 21, rng=rng), rng.random((20, 24, 21)))
    plan = dataclasses.replace(plan, layers=plan.layers[~np.isin(plan.layers["method"], NOT_ALIKE)])
    plan.first_layer = np.searchsorted(plan.layers["sample"], np.arange(21))
    layered = dataclasses.replace(plan, partner=np.repeat(plan.partner[:, None], 4, axis=1))
    one, other = (mix.render(p, first, np.arange(20), second=second) for p in (plan, layered))
    np.testing.assert_allclose(other.masks[:, 0], one.masks, atol=1e-6)
    np.testing.assert_allclose(other.lam[:, 0], one.lam, atol=1e-6)
    np.testing.assert_allclose(other.targets, one.targets, atol=1e-6)
    tolerance = 2.5 if dtype == "uint8" else 1e-5
    np.testing.assert_allclose(other.images.astype(float), one.images, atol=tolerance)


#: Resized partners are pasted one over the other where all layers have one; guides are made again when rendered.
NOT_ALIKE = [METHODS.index(name) for name in ("resizemix", *GUIDED)]


# Layouts ---------------------------------------------------------------------------------------------------------------


def rendered(plan, first, second, dtype, scale, bias, *, planar_in=False, planar_out=False, masks=False):
    """Mixed images or clips with channels last, lam and masks, by whatever layout."""
    if planar_in:
        first, second = (np.ascontiguousarray(np.moveaxis(images, -1, -3)) for images in (first, second))
    n, frames = len(plan), first.shape[1:-3]
    size, channels = (plan.height, plan.width), scale.size
    out = np.zeros((n, channels, *frames, *size) if planar_out else (n, *frames, *size, channels), dtype)
    made = np.full(plan.masks_shape, 77, np.float32) if masks else None
    addresses = [np.array([image.ctypes.data for image in images], np.uint64) for images in (first, second)]
    lam = mix_views(plan, *addresses, first.dtype, out, made, scale, bias, planar_in=planar_in, planar_out=planar_out)
    return np.moveaxis(out, 1, -1) if planar_out else out, lam, made


@pytest.mark.parametrize(("source", "dtype"), DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("size", "frames"), [((9, 13), ()), ((60, 41), ()), ((3, 1601), ()), ((9, 13), (3,))], ids=str)
def test_layouts_and_chunks_change_no_byte(size, frames, channels, source, dtype, monkeypatch, rng):
    plan = aimed(draw_plan(EVERYTHING, 12, *size, rng), rng.random((12, *size)))
    first, second = rng.integers(0, 256, (2, 12, *frames, *size, channels)).astype(source)
    before = first.copy(), second.copy()
    scale, bias = (rng.random((2, channels)) / 255).astype(np.float32)
    expected, lam, masks = rendered(plan, first, second, dtype, scale, bias, masks=True)
    for planar_in, planar_out, with_masks in itertools.product((False, True), repeat=3):
        monkeypatch.setattr(render, "_CHUNK", 1 if with_masks else 1 << 60)
        options = {"planar_in": planar_in, "planar_out": planar_out, "masks": with_masks}
        found = rendered(plan, first, second, dtype, scale, bias, **options)
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], lam)
        assert not with_masks or (found[2] == masks).all()
    np.testing.assert_array_equal((first, second), before)


@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize(("source", "dtype"), DTYPES)
def test_compiled_and_python_agree(source, dtype, merge, monkeypatch, rng):
    plan = aimed(draw_plan(EVERYTHING.replace(merge=merge), 8, 7, 5, rng), rng.random((8, 7, 5)))
    first, second = rng.integers(0, 256, (2, 8, 7, 5, 3)).astype(source)
    given = (plan, first, second, dtype, np.full(3, 0.5, np.float32), np.full(3, -1, np.float32))
    one = rendered(*given, planar_out=True, masks=True)
    for name in "assign_holes", "mix_layers":
        monkeypatch.setattr(render, name, python(getattr(render, name)))
    other = rendered(*given, planar_out=True, masks=True)
    for found, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(found, expected)
