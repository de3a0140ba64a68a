"""What is mixed along with images against naive twins: each kernel as plain Python and compiled, then whole batches."""

import numpy as np
import pytest

from miamix_cpu import MiAMix, MiAMixConfig, ResizeMixOptions
from miamix_cpu.config import METHODS
from miamix_cpu.masks import methods_that
from miamix_cpu.mix.companions import add_classes, average_masks, blend_maps, choose_pixels, fix_weights
from miamix_cpu.mix.resize import paste_resized
from miamix_cpu.plan.layers import LAYER
from tests import naive
from tests.kernels import python
from tests.masks import twins

pytestmark = pytest.mark.filterwarnings("ignore:float images have", "ignore:.*have no second view")

BOTH = pytest.mark.parametrize("run", [python, lambda entry: entry], ids=["python", "compiled"])
LAYOUTS = pytest.mark.parametrize(("planar_in", "planar_out"), [(False, False), (False, True), (True, False), (True, True)])  # fmt: skip
BLENDED = {"uint8": (0, 255), "int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1), "float32": (-3, 3)}
CHOSEN = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]  # fmt: skip
N, SIZE = 3, (4, 5)


def some(rng, dtype, *shape):
    """Numbers of all of a dtype's range, its ends among them."""
    if dtype == "bool":
        return rng.random(shape) < 0.5
    low, high = BLENDED.get(dtype) or ((-9, 9) if "float" in dtype else (np.iinfo(dtype).min, np.iinfo(dtype).max))
    if "float" in dtype:
        return rng.uniform(low, high, shape).astype(dtype)
    values = rng.integers(low, high, shape, np.dtype(dtype), endpoint=True)
    values.flat[:2] = low, high
    return values


def some_weights(rng):
    """Of all kinds of pixels: those of one view only, those of both, and those of both alike."""
    weights = rng.random((N, *SIZE)).astype(np.float32)
    weights[:, 0], weights[:, 1, 0], weights[:, 1, 1:3] = 0, 1, 0.5
    return weights


def held(values, planar):
    """Views (N, T, H, W, C) as they lie in memory, and their addresses."""
    flat = np.ascontiguousarray(np.moveaxis(values, -1, 2) if planar else values)
    return flat, np.array([view.ctypes.data for view in flat], np.uint64)


def laid_out(out, shape, planar):
    """Flat results as (N, T, H, W, C)."""
    n, frames, height, width, channels = shape
    if planar:
        return np.moveaxis(out.reshape(n, channels, frames, height, width), 1, -1)
    return out.reshape(shape)


def mixed_by(run, kernel, weights, first, second, planar_in, planar_out):
    """What a kernel writes; it changes nothing that it is given."""
    (f, addresses), (s, others) = held(first, planar_in), held(second, planar_in)
    before = f.copy(), s.copy(), weights.copy()
    out = np.full((len(first), first[0].size), 77, first.dtype)
    run(kernel)(out, weights.reshape(len(first), -1), addresses, others, first.shape[-1], planar_in, planar_out)
    for now, then in zip((f, s, weights), before, strict=True):
        np.testing.assert_array_equal(now, then)
    return laid_out(out, first.shape, planar_out)


@BOTH
@LAYOUTS
@pytest.mark.parametrize("dtype", BLENDED)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("frames", [1, 3])
def test_blend(run, frames, channels, dtype, planar_in, planar_out, rng):
    first, second = (some(rng, dtype, N, frames, *SIZE, channels) for _ in range(2))
    weights = some_weights(rng)
    given = weights
    if dtype == "uint8":
        given = np.full(weights.shape, 77, np.int16)
        run(fix_weights)(given.reshape(N, -1), weights.reshape(N, -1))
    found = mixed_by(run, blend_maps, given, first, second, planar_in, planar_out)
    # Half a step for rounding, and what 16 bits do to the weight of a byte, or float32 to a number of 16 bits.
    allowed = {"uint8": 0.5 + 255 / 2**16, "float32": 1e-6}.get(dtype, 0.5 + 0.02)
    for i in range(N):
        for t in range(frames):
            expected = naive.blend(weights[i], first[i, t], second[i, t])
            np.testing.assert_allclose(found[i, t].astype(float), expected, rtol=0, atol=allowed)
    np.testing.assert_array_equal(found[:, :, 0], second[:, :, 0])
    np.testing.assert_array_equal(found[:, :, 1, 0], first[:, :, 1, 0])


@BOTH
def test_what_is_not_seen_does_not_count_be_it_infinite(run, rng):
    first = np.full((1, 1, *SIZE, 2), np.nan, np.float32)
    second = rng.random(first.shape).astype(np.float32)
    weights = np.zeros((1, *SIZE), np.float32)
    np.testing.assert_array_equal(mixed_by(run, blend_maps, weights, first, second, False, True), second)
    np.testing.assert_array_equal(mixed_by(run, blend_maps, 1 - weights, second, first * np.inf, True, False), second)


@BOTH
@LAYOUTS
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("frames", [1, 3])
def test_choose(run, frames, channels, dtype, planar_in, planar_out, rng):
    """The view whose weight is larger, and the first where both are alike."""
    first, second = (some(rng, dtype, N, frames, *SIZE, channels) for _ in range(2))
    weights = some_weights(rng)
    weights[:, 3, 0], weights[:, 3, 1] = np.nextafter(np.float32(0.5), 0), np.nextafter(np.float32(0.5), 1)
    found = mixed_by(run, choose_pixels, weights, first, second, planar_in, planar_out)
    for i in range(N):
        for y, x in naive.pixels(*SIZE):
            view = first if weights[i, y, x] >= 0.5 else second
            np.testing.assert_array_equal(found[i, :, y, x], view[i, :, y, x])


@BOTH
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_classes_get_weights_that_sum_to_one(run, dtype, rng):
    maps = rng.integers(0, 5, (2, N, *SIZE)).astype(dtype)
    maps[1, :, 1] = maps[0, :, 1]  # both views alike
    weights = some_weights(rng)
    out = np.zeros((N, 5, SIZE[0] * SIZE[1]), np.float32)
    first, second = (held(views[:, None, ..., None], False)[1] for views in maps)
    run(add_classes)(out, weights.reshape(N, -1), first, second, np.empty(0, dtype))
    out = out.reshape(N, 5, *SIZE)
    expected = np.zeros(out.shape)
    for i in range(N):
        for y, x in naive.pixels(*SIZE):
            expected[i, int(maps[0, i, y, x]), y, x] += weights[i, y, x]
            expected[i, int(maps[1, i, y, x]), y, x] += 1 - float(weights[i, y, x])
    np.testing.assert_allclose(out, expected, atol=1e-7)
    np.testing.assert_array_equal(out.sum(1), np.ones((N, *SIZE)))


@BOTH
@pytest.mark.parametrize(("size", "to"), [
    ((8, 12), (2, 3)), ((9, 13), (4, 5)), ((7, 7), (7, 1)), ((5, 6), (1, 1)), ((11, 4), (10, 3)),
], ids=str)  # fmt: skip
def test_masks_of_smaller_maps_are_averages(run, size, to, rng):
    masks, out = rng.random((N, *size)).astype(np.float32), np.full((N, *to), np.nan, np.float32)
    run(average_masks)(out, masks)
    for i in range(N):
        np.testing.assert_allclose(out[i], twins.average_area(masks[i], *to), atol=1e-6)


@BOTH
@pytest.mark.parametrize(("size", "to"), [((24, 20), (7, 9)), ((23, 31), (22, 30)), ((64, 50), (3, 7))], ids=str)
@pytest.mark.parametrize("value", [0, 1])
def test_averages_of_masks_that_are_0_or_1_are_exact(run, size, to, value):
    masks, out = np.full((2, *size), value, np.float32), np.full((2, *to), np.nan, np.float32)
    masks[1, -1, -1] = 0.5
    run(average_masks)(out, masks)
    np.testing.assert_array_equal(out[0], value)
    np.testing.assert_array_equal(out[1].ravel()[:-1], value)


@pytest.mark.parametrize("partners", ["sample", "layer"])
@pytest.mark.parametrize("to", [(24, 20), (7, 9)], ids=str)
@pytest.mark.parametrize("method", ["cutmix", "resizemix"])
def test_depth_that_is_missing_where_a_view_does_not_show_stays_out(method, to, partners, rng):
    """The same boxes with NaN in place of the depth that they hide."""
    config = MiAMixConfig(methods=(method,), weights=(1,), k_max=1, p_self=0, p_aug=0, p_smooth=0, partners=partners)
    first, second = rng.random((2, 8, *to)).astype(np.float32)
    whole = batch_of("blend", first, second=second, rng=np.random.default_rng(5), config=config, size=(24, 20))
    masks = whole.masks if partners == "sample" else whole.masks[:, 0]
    hidden = np.array([twins.average_area(mask.astype(float), *to) < 1e-9 for mask in masks])
    assert 0.02 < hidden.mean() < 0.98
    first[hidden] = np.nan
    second[:] = second if method == "resizemix" else np.where(shown_by_partners(whole, masks, to), second, np.nan)
    again = batch_of("blend", first, second=second, rng=np.random.default_rng(5), config=config, size=(24, 20))
    np.testing.assert_array_equal(again.extras["it"], whole.extras["it"])


def shown_by_partners(batch, masks, to):
    """Where a pixel of a second view is seen in any sample."""
    shown = np.zeros((len(masks), *to), bool)
    for mask, t in zip(masks, batch.plan.partner.ravel(), strict=True):
        shown[t] |= twins.average_area(mask.astype(float), *to) < 1 - 1e-9
    return shown


# ---- partners that are resized with their image


def boxes(rng, size, *counts):
    """Whole boxes of resizemix, as many for each sample as said; the first of all is the image, the second one pixel."""
    layers, first_layer = np.zeros(sum(counts), LAYER), np.cumsum([0, *counts])
    layers["sample"] = np.repeat(np.arange(len(counts)), counts)
    layers["method"] = METHODS.index("resizemix")
    for j, layer in enumerate(layers):
        for centre, side, pixels in (("cy", "height", size[0]), ("cx", "width", size[1])):
            n = (pixels, 1)[j] if j < 2 else int(rng.integers(2, pixels))
            start = int(rng.integers(0, pixels - n + 1))
            layer[centre], layer[side] = (start + n / 2) / pixels, n / pixels
    return layers, first_layer


@BOTH
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("to", [(8, 12), (4, 6), (3, 5), (1, 2)], ids=str)
@pytest.mark.parametrize(("frames", "channels"), [(1, 1), (1, 3), (3, 2)])
def test_partners_of_any_resolution_are_pasted_over_their_boxes(run, frames, channels, to, nearest, planar, rng):
    """Nearest pixels to the bit, averages to the step; over all that a box touches."""
    size, counts = (8, 12), (1, 1, 2, 3, 0)
    layers, first_layer = boxes(rng, size, *counts)
    dtype = np.uint64 if nearest else np.uint16
    views = some(rng, dtype.__name__, len(counts), frames, *to, channels)
    memory, second = held(views, planar)
    before, old = memory.copy(), second.copy()
    canvas = np.full((4, memory[0].size), 77, dtype)
    run(paste_resized)(
        canvas, canvas.ctypes.data, second, layers, first_layer, methods_that("RESIZES"), 0, len(counts),
        *size, *to, channels, planar, nearest,
    )  # fmt: skip
    np.testing.assert_array_equal(memory, before)
    assert (second != old).tolist() == [count > 0 for count in counts]
    for i in range(4):
        row = canvas[(int(second[i]) - canvas.ctypes.data) // canvas[0].nbytes]
        pasted = row.reshape(memory.shape[1:])
        pasted = np.moveaxis(pasted, 1, -1) if planar else pasted
        own = layers[first_layer[i] : first_layer[i + 1]]
        for t in range(frames):
            shrink = twins.nearest if nearest else twins.average_area
            expected = twins.with_shrunk(own, views[i, t], *size, shrink)
            if len(own) == 1:  # nothing outside of its box is seen, nor copied
                seen = twins.with_shrunk(own, np.zeros(to), *size, lambda _, height, width: np.ones((height, width)))
                expected, found = expected[seen == 1], pasted[t][seen == 1]
            else:
                found = pasted[t]
            np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=0 if nearest else 0.52)
            assert not nearest or np.array_equal(found, expected)


# ---- whole batches


def batch_of(also, values, *, rng, stride=1, config=None, second=None, size=(12, 16)):
    """A mixed batch of 8 with masks, whose entry "it" is mixed along."""
    config = config or MiAMixConfig(p_self=0.2)
    images, others = rng.integers(0, 256, (2, 8, *size, 3), np.uint8)
    given = {} if second is None else {"second": others, "second_also": {"it": second}}
    mix = MiAMix(2, config, return_masks=True, also={"it": also})
    return mix(images, [0] * 8, rng=rng, also={"it": values}, **given)


@pytest.mark.parametrize("dtype", CHOSEN)
@pytest.mark.parametrize("shape", [(12, 16), (12, 16, 2)], ids=str)
def test_every_dtype_can_be_chosen_from(dtype, shape, rng):
    first, second = (some(rng, dtype, 8, *shape) for _ in range(2))
    batch = batch_of("choose", first, second=second, rng=rng)
    found = batch.extras["it"]
    assert found.dtype == dtype
    assert found.shape == first.shape
    takes = batch.masks.reshape(8, 12, 16, *[1] * (len(shape) - 2)) >= 0.5
    np.testing.assert_array_equal(found, np.where(takes, first, second[batch.partner]))
    assert 0.1 < takes.mean() < 0.9


@pytest.mark.parametrize("to", [(12, 16), (3, 4), (5, 7), (1, 1)], ids=str)
@pytest.mark.parametrize("also", ["blend", "choose", ("soft", 4)], ids=str)
def test_smaller_maps_are_mixed_by_averaged_masks(also, to, rng):
    first, second = rng.integers(0, 4, (2, 8, *to)).astype(np.float32 if also == "blend" else np.int32)
    batch = batch_of(also, first, second=second, rng=rng)
    for i, t in enumerate(batch.partner):
        mask, found = twins.average_area(batch.masks[i].astype(float), *to), batch.extras["it"][i]
        views = first[i], second[t]
        if also == "blend":
            np.testing.assert_allclose(found, naive.blend(mask, *views), atol=1e-5)
        elif also == "choose":
            clear = np.abs(mask - 0.5) > 1e-6
            np.testing.assert_array_equal(found[clear], np.where(mask >= 0.5, *views)[clear])
            assert clear.mean() > 0.5
        else:
            one, other = (np.eye(4)[view].transpose(2, 0, 1) for view in views)
            np.testing.assert_allclose(found, mask * one + (1 - mask) * other, atol=1e-6)
            np.testing.assert_allclose(found.sum(0), 1, atol=1e-6)


@pytest.mark.parametrize("to", [(24, 20), (6, 5), (7, 9)], ids=str)
@pytest.mark.parametrize("also", ["blend", "choose", ("soft", 9)], ids=str)
@pytest.mark.parametrize("methods", [("resizemix",), ("resizemix", "cutmix", "mixup")], ids=["alone", "stacked"])
def test_what_belongs_to_a_resized_partner_is_resized_with_it(methods, also, to, rng):
    config = MiAMixConfig(
        methods=methods, weights=(1,) * len(methods), k_max=3 if len(methods) > 1 else 1, p_smooth=0, p_aug=0, p_self=0.2,
        resizemix=ResizeMixOptions(tau=(0.2, 0.7)),
    )  # fmt: skip
    first, second = rng.integers(0, 9, (2, 8, *to)).astype(np.float32 if also == "blend" else np.uint8)
    batch = batch_of(also, first, second=second, rng=rng, config=config, size=(24, 20))
    seen = 0
    for i, t in enumerate(batch.partner):
        shrink = twins.average_area if also == "blend" else twins.nearest
        other = twins.with_shrunk(naive.resized_layers(batch.plan, i), second[t], 24, 20, shrink)
        mask, found = twins.average_area(batch.masks[i].astype(float), *to), batch.extras["it"][i]
        if also == "blend":
            np.testing.assert_allclose(found, naive.blend(mask, first[i], other), atol=1e-4)
        elif also == "choose":
            clear = np.abs(mask - 0.5) > 1e-6
            np.testing.assert_array_equal(found[clear], np.where(mask >= 0.5, first[i], other)[clear])
        else:
            one, theirs = (np.eye(9)[view].transpose(2, 0, 1) for view in (first[i], other))
            np.testing.assert_allclose(found, mask * one + (1 - mask) * theirs, atol=1e-6)
        seen += bool((mask < 0.4).any() and (other != second[t]).any())
    assert seen > 1
