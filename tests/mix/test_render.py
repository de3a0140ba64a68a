"""A batch rendered in chunks: which layer gets which hole, and that neither chunks nor layouts change a byte."""

import itertools

import numpy as np
import pytest

from miamix_cpu import MiAMix, MiAMixConfig
from miamix_cpu.masks import methods_that
from miamix_cpu.methods import METHODS
from miamix_cpu.mix import render
from miamix_cpu.mix.merge import BOX, CONSTANT
from miamix_cpu.mix.render import assign_holes, mix_views
from miamix_cpu.plan.layers import LAYER
from miamix_cpu.plan.sampling import draw_plan
from tests import naive
from tests.kernels import python
from tests.masks import twins
from tests.masks.common import aimed

EVERYTHING = MiAMixConfig(methods=METHODS, weights=(1,) * len(METHODS), k_max=4, p_aug=0.5, p_self=0.1)
BOXES = MiAMixConfig(methods=("mixup", "cutmix", "hmix"), weights=(1, 1, 1), k_max=3, p_aug=0.1, p_smooth=0.1)
UPRIGHT = ("cutmix", "hmix", "resizemix", "saliencymix")
SIZES = [(1, 1), (7, 1), (1, 17), (32, 32), (31, 57), (150, 70), (3, 1601)]
DTYPES = [("uint8", "uint8"), ("uint8", "float32"), ("float32", "float32")]


# Holes ---------------------------------------------------------------------------------------------------------------


def naive_holes(samples, capacity, boxes):
    """Chunks of samples, each of which is a list of layers; a layer's hole, and how many there are of each kind.

    A layer is (method, augmented, window).
    """
    chunks, begins = [[]], [0]
    for i, layers in enumerate(samples):
        with_holes = [layer for layer in layers if METHODS[layer[0]] != "mixup"]
        held = [layer for layer in itertools.chain(*chunks[-1]) if isinstance(layer, tuple)]
        if len(held) + sum(map(resizes, samples[begins[-1] : i])) >= capacity:
            chunks.append([])
            begins.append(i)
        alone = boxes and len(with_holes) == 1
        chunks[-1].append([
            CONSTANT if METHODS[method] == "mixup" else
            BOX if alone and METHODS[method] in UPRIGHT and (augmented, window) == (False, 0) else
            (method, augmented, window)
            for method, augmented, window in layers
        ])  # fmt: skip
    slots, used = [], np.zeros((len(samples), len(METHODS) + 2), int)
    for c, (chunk, (begin, end)) in enumerate(
        zip(chunks, itertools.pairwise([*begins, len(samples)]), strict=True)
    ):  # fmt: skip
        slot = 0
        for layer in itertools.chain(*chunk):
            slots.append(slot if isinstance(layer, tuple) else layer)
            if isinstance(layer, tuple):
                slot += 1
                used[c, layer[0]] += 1
                used[c, -2] += layer[2] > 0
        used[c, -1] = sum(map(resizes, samples[begin:end]))
    return slots, [*begins, len(samples)], used, len(chunks), max([*slots, -1]) + 1


def resizes(layers):
    return any(METHODS[layer[0]] == "resizemix" for layer in layers)


@pytest.mark.parametrize("run", [python(assign_holes), assign_holes], ids=["python", "compiled"])
@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 1 << 40])
def test_holes_are_assigned_as_their_naive_twin_does(capacity, boxes, run, rng):
    for _ in range(60):
        n = int(rng.integers(1, 20))
        names = METHODS if rng.random() < 0.5 else ("mixup", "cutmix", "resizemix")
        methods = [METHODS.index(name) for name in names]
        samples = [
            [(int(rng.choice(methods)), bool(rng.random() < 0.2), int(rng.choice([0, 0, 3]))) for _ in range(k)]
            for k in rng.integers(0, 4, n)
        ]
        flat = list(itertools.chain(*samples))
        layers = np.zeros(len(flat), LAYER)
        for layer, (method, augmented, window) in zip(layers, flat, strict=True):
            layer["method"], layer["augmented"], layer["window"] = method, augmented, window
        first_layer = np.cumsum([0, *map(len, samples)])
        slots, begins = np.full(len(flat), 77), np.full(n + 1, 77)
        used = np.zeros((n, len(METHODS) + 2), np.int64)
        before = layers.copy()
        kinds = methods_that("fill"), methods_that("BOX"), methods_that("RESIZES")
        found = run(layers, first_layer, *kinds, capacity, boxes, slots, begins, used)
        expected_slots, expected_begins, expected_used, chunks, most = naive_holes(samples, capacity, boxes)
        assert found == (chunks, most)
        assert slots.tolist() == expected_slots
        assert begins[: chunks + 1].tolist() == expected_begins
        np.testing.assert_array_equal(used, expected_used)
        assert (layers == before).all()


# Chunks --------------------------------------------------------------------------------------------------------------


def views(n, height, width, channels, dtype, rng):
    values = rng.integers(0, 256, (2, n, height, width, channels), dtype=np.uint8)
    return values if dtype == "uint8" else (values / np.float32(255)).astype(np.float32)


def same_bytes(one, two):
    for name in "images", "lam", "targets", "masks":
        a, b = getattr(one, name), getattr(two, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert a.tobytes() == b.tobytes(), name


@pytest.mark.parametrize("lam_from", ["merged", "orig"])
@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("source", "dtype"), DTYPES)
def test_chunks_change_no_byte(source, dtype, size, merge, lam_from, monkeypatch, rng):
    """A sample at a time, a few at a time, or all at once; with masks and without."""
    first, second = views(12, *size, 3, source, rng)
    for config, masks in itertools.product((EVERYTHING, BOXES), (False, True)):
        mix = MiAMix(12, config.replace(merge=merge, lam_from=lam_from), dtype=dtype, return_masks=masks)
        plan = mix.plan(12, *size, rng=rng)
        batches = []
        for chunk in 1, 3 * 4 * size[0] * size[1], 1 << 60:
            monkeypatch.setattr(render, "_CHUNK", chunk)
            batches.append(mix.render(plan, first, range(12), second=second))
        same_bytes(batches[0], batches[2])
        same_bytes(batches[1], batches[2])


def test_chunks_are_all_samples_in_order(monkeypatch, rng):
    rendered = []
    monkeypatch.setattr(render, "mix_bytes", lambda *given: rendered.append(given[9:11]))
    first, _ = views(40, 8, 8, 3, "uint8", rng)
    for chunk in 1, 5 * 4 * 64, 1 << 60:
        monkeypatch.setattr(render, "_CHUNK", chunk)
        rendered.clear()
        MiAMix(40, EVERYTHING.replace(p_self=0))(first, range(40), rng=rng)
        ends = [0, *(int(end) for _, end in rendered)]
        assert [int(begin) for begin, _ in rendered] == ends[:-1]
        assert ends[-1] == 40
        assert len(rendered) == 1 if chunk == 1 << 60 else len(rendered) > 8


# Layouts -------------------------------------------------------------------------------------------------------------


def drawn(config, n, size, rng):
    """A plan, aimed at random."""
    return aimed(draw_plan(config, n, *size, rng), rng.random((n, *size)))


def rendered(plan, first, second, dtype, scale, bias, *, planar_in=False, planar_out=False, masks=False):
    """Mixed images (N, H, W, C), lam and masks, by whatever layout."""
    if planar_in:
        first, second = (np.ascontiguousarray(images.transpose(0, 3, 1, 2)) for images in (first, second))
    n, height, width, channels = len(plan), plan.height, plan.width, scale.size
    out = np.zeros((n, channels, height, width) if planar_out else (n, height, width, channels), dtype)
    made = np.empty((n, height, width), np.float32) if masks else None
    addresses = [np.array([image.ctypes.data for image in images], np.uint64) for images in (first, second)]
    lam = mix_views(plan, *addresses, first.dtype, out, made, scale, bias, planar_in=planar_in, planar_out=planar_out)
    return out.transpose(0, 2, 3, 1) if planar_out else out, lam, made


@pytest.mark.parametrize("size", [(1, 1), (9, 13), (60, 41), (3, 1601)], ids=str)
@pytest.mark.parametrize(("source", "dtype"), DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_layouts_change_no_byte(channels, source, dtype, size, rng):
    """Interleaved or in planes, there and here, with masks and without, and whether a box is copied or blended."""
    first, second = views(20, *size, channels, source, rng)
    before = first.copy(), second.copy()
    scale, bias = (rng.random((2, channels)) / 255).astype(np.float32)
    for config in EVERYTHING, BOXES:
        plan = drawn(config, 20, size, rng)
        expected, lam, masks = rendered(plan, first, second, dtype, scale, bias, masks=True)
        weights = masks[..., None].astype(np.float64)
        resized = [naive.resized_layers(plan, i) for i in range(20)]
        seen = [twins.with_resized(*pair) for pair in zip(resized, second[plan.partner], strict=True)]
        exact = weights * first + (1 - weights) * np.stack(seen)
        # Half a grey level for rounding, and what 16 bits do to a weight; another half where the partner is resized.
        again = np.array([0.5 * (len(layers) > 0 and source == "uint8") for layers in resized])[:, None, None, None]
        if dtype == "uint8":
            assert (np.abs(expected - exact) <= 0.5 + 255 / 2**16 + again).all()
        else:
            assert (np.abs(expected - exact * scale - bias) <= 1e-6 + (again + 1e-4) * scale).all()
        for planar_in, planar_out, with_masks in itertools.product((False, True), repeat=3):
            options = {"planar_in": planar_in, "planar_out": planar_out, "masks": with_masks}
            found = rendered(plan, first, second, dtype, scale, bias, **options)
            np.testing.assert_array_equal(found[0], expected)
            np.testing.assert_array_equal(found[1], lam)
    np.testing.assert_array_equal((first, second), before)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("lam_from", ["merged", "orig"])
@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize(("source", "dtype"), DTYPES)
def test_lam_is_measured_or_nominal(source, dtype, merge, lam_from, masks, rng):
    first, second = views(20, 12, 11, 3, source, rng)
    unit = np.ones(3, np.float32), np.zeros(3, np.float32)
    for config in EVERYTHING, BOXES:
        plan = drawn(config.replace(merge=merge, lam_from=lam_from), 20, (12, 11), rng)
        lam = rendered(plan, first, second, dtype, *unit, masks=masks)[1]
        made = rendered(plan, first, second, dtype, *unit, masks=True)[2]
        sums = np.array([plan.layers_of(i)["ratio"].sum() for i in range(20)])
        expected = made.mean(axis=(1, 2), dtype=np.float64) if lam_from == "merged" else np.maximum(0, 1 - sums)
        np.testing.assert_allclose(lam, expected, atol=1e-6)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("merge", ["mul", "sum"])
@pytest.mark.parametrize("planar_out", [False, True])
@pytest.mark.parametrize(("source", "dtype"), DTYPES)
def test_compiled_and_python_agree(source, dtype, planar_out, merge, masks, monkeypatch, rng):
    for config in EVERYTHING, BOXES:
        plan = drawn(config.replace(merge=merge), 8, (7, 5), rng)
        first, second = views(8, 7, 5, 3, source, rng)
        given = (plan, first, second, dtype, np.full(3, 0.5, np.float32), np.full(3, -1, np.float32))
        compiled = rendered(*given, planar_out=planar_out, masks=masks)
        with monkeypatch.context() as patch:
            for name in "assign_holes", "mix_bytes", "mix_floats":
                patch.setattr(render, name, python(getattr(render, name)))
            in_python = rendered(*given, planar_out=planar_out, masks=masks)
        # Nothing here multiplies and adds in one step but where the product is exact.
        np.testing.assert_array_equal(compiled[0], in_python[0])
        np.testing.assert_array_equal(compiled[1], in_python[1])
        assert not masks or (compiled[2] == in_python[2]).all()


# What does not count -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("method", ["cutmix", "fmix", "gridmix", "saliencymix", "attentivecutmix"])
def test_a_view_without_weight_does_not_count(method, masks, which, odd, rng):
    """Where a mask is 1 or 0, one of the views is copied: whatever the other is, be it no number."""
    config = MiAMixConfig.plain(method, p_aug=0.3, second_view="independent")
    plan = drawn(config, 30, (12, 11), rng)
    first, second = (rng.random((2, 30, 12, 11, 3)) + 1).astype(np.float32)
    unit = np.ones(3, np.float32), np.zeros(3, np.float32)
    _, lam, mask = rendered(plan, first, second, "float32", *unit, masks=True)
    assert set(np.unique(mask)) == {0, 1}
    expected = np.where(mask[..., None] == 1, first, second[plan.partner])
    (first if which == "first" else second)[:] = odd
    kept = mask == (0 if which == "first" else 1)
    with np.errstate(invalid="ignore"):
        out, again, _ = rendered(plan, first, second, "float32", *unit, masks=masks)
    np.testing.assert_array_equal(out[kept], expected[kept])
    np.testing.assert_array_equal(out[~kept], np.full_like(out[~kept], odd))
    np.testing.assert_array_equal(again, lam)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(("source", "dtype"), DTYPES)
def test_a_sample_without_layers_comes_out_as_it_is(source, dtype, masks, rng):
    plan = aimed(draw_plan(EVERYTHING, 30, 12, 11, rng, probability=0.5), rng.random((30, 12, 11)))
    first, second = views(30, 12, 11, 3, source, rng)
    unit = np.ones(3, np.float32), np.zeros(3, np.float32)
    out, lam, made = rendered(plan, first, second, dtype, *unit, masks=masks)
    assert 0 < plan.mixed.sum() < 30
    np.testing.assert_array_equal(out[~plan.mixed], first[~plan.mixed])
    assert (lam[~plan.mixed] == 1).all()
    assert not masks or (made[~plan.mixed] == 1).all()
    assert (out[plan.mixed] != first[plan.mixed]).any()


def test_a_second_view_is_read_only_where_it_is_said_to_be(rng):
    """Of a sample that nobody mixes in any image will do."""
    plan = aimed(draw_plan(EVERYTHING, 30, 12, 11, rng, probability=0.5), rng.random((30, 12, 11)))
    first, second = views(30, 12, 11, 3, "uint8", rng)
    unit = np.ones(3, np.float32), np.zeros(3, np.float32)
    expected = rendered(plan, first, second, "uint8", *unit)[0]
    others = np.setdiff1d(np.arange(30), plan.needs_second_view)
    assert len(others) > 5
    second[others] = 77
    np.testing.assert_array_equal(rendered(plan, first, second, "uint8", *unit)[0], expected)
