"""Kernels of layers that bring partners of their own, as plain Python and compiled, against their naive twins."""

import dataclasses
import itertools

import numpy as np
import pytest

from miamix_cpu import MiAMixConfig
from miamix_cpu.mix.layered import compose, compose_maps, leave, mix_layers, room_for, take, take_evenly
from miamix_cpu.mix.merge import CONSTANT
from miamix_cpu.plan.layers import LAYER
from tests import naive, naive_layers
from tests.kernels import compiled, python

BOTH = pytest.mark.parametrize("run", [python, compiled], ids=["python", "compiled"])
BOTH_OF_ENTRIES = pytest.mark.parametrize("run", [python, lambda entry: entry], ids=["python", "compiled"])
DTYPES = [(np.uint8, np.uint8), (np.uint8, np.float32), (np.float32, np.float32)]
SIZE = HEIGHT, WIDTH = 5, 9
P = HEIGHT * WIDTH


def fixed(shares, dtype):
    """Shares as the weights of `blend`."""
    return (shares * np.float32(-(1 << 15)) - np.float32(0.5)).astype(dtype) if dtype == np.int16 else shares


def as_shares(found):
    return found / -(1 << 15) if found.dtype == np.int16 else found


def shares_with_ends(rng, *shape):
    """In [0, 1], a quarter of them 0, and a quarter 1."""
    return np.clip(rng.uniform(-0.5, 1.5, shape), 0, 1).astype(np.float32)


def kinds_of(source, target):
    """The dtype of weights, and the error of a value that k layers mixed: half a level each, where bytes stay bytes."""
    if target == np.float32:
        return np.float32, lambda layers: 1e-3
    if source == np.float32:
        raise AssertionError("floats never become bytes")
    return np.int16 if target == np.uint8 else np.float32, lambda layers: layers * (0.5 + 255 / 2**16)


# Shares --------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("how", ["mul", "sum"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_a_layer_takes_its_part_of_what_is_left(run, layers, how, dtype, rng):
    holes = shares_with_ends(rng, layers, 400)
    before, left, shares = holes.copy(), np.ones(400, np.float32), np.full((layers, 400), 77, dtype)
    for j in range(layers):
        run(take)(left, shares[j], holes[j], how == "mul")
        expected = naive.merge(holes[: j + 1].astype(float).reshape(-1, 20, 20), 20, 20, how).ravel()
        np.testing.assert_allclose(left, expected, atol=1e-6)
        assert left.min() >= 0
    np.testing.assert_array_equal(holes, before)
    found = naive_layers.from_shares(as_shares(shares).astype(float))
    expected = naive_layers.weights(holes.astype(float).reshape(-1, 20, 20), 20, 20, how).reshape(-1, 400)
    np.testing.assert_allclose(found, expected, atol=layers / 2**15 if dtype == np.int16 else 1e-5)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-12)


@BOTH
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("how", ["mul", "sum"])
def test_a_layer_that_takes_nothing_or_all_is_exact(run, how, dtype):
    left, shares = np.array([1, 1, 0.3, 0.3, 0, 0], np.float32), np.full(6, 77, dtype)
    run(take)(left, shares, np.array([0, 1, 0, 1, 0, 1], np.float32), how == "mul")
    np.testing.assert_array_equal(left, np.array([1, 0, 0.3, 0, 0, 0], np.float32))
    ends = as_shares(shares)
    assert ends[:4].tolist() == [1, 0, 1, 0]
    assert set(ends[4:].tolist()) <= {0, 1}  # nothing was left to take


@BOTH
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("how", ["mul", "sum"])
@pytest.mark.parametrize("ratio", [0.0, 1 / 3, 0.7, 1.0])
def test_a_layer_takes_evenly(run, ratio, how, dtype, rng):
    left, shares = np.append(shares_with_ends(rng, 200), np.float32(1)), np.full(201, 77, dtype)
    before = left.astype(float)
    run(take_evenly)(left, shares, ratio, how == "mul")
    expected = before * (1 - ratio) if how == "mul" else np.maximum(0, before - ratio)
    np.testing.assert_allclose(left, expected, atol=1e-7)
    assert left[-1] == np.float32(1 - ratio)
    tolerance = 1.001 / 2**16 if dtype == np.int16 else 1e-6
    np.testing.assert_allclose(as_shares(shares) * before, expected, atol=tolerance)
    assert as_shares(shares)[-1] == pytest.approx(1 - ratio, abs=tolerance)


@BOTH
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_what_a_layer_leaves_is_a_share(run, dtype, rng):
    before = rng.random(300).astype(np.float32)
    after = before * shares_with_ends(rng, 300)
    before[:20] = after[:20] = 0
    given, shares = (before.copy(), after.copy()), np.full(300, 77, dtype)
    run(leave)(shares, before, after)
    np.testing.assert_allclose(as_shares(shares) * before, after, atol=1.001 / 2**16 if dtype == np.int16 else 1e-6)
    np.testing.assert_array_equal(as_shares(shares)[after == before][20:], 1)
    assert (as_shares(shares)[after == 0] == 0).all()
    np.testing.assert_array_equal((before, after), given)


# Composing -----------------------------------------------------------------------------------------------------------


def laid_out(images, planar):
    """Frames (T, P, C), or (T, C, P)."""
    return np.ascontiguousarray(np.swapaxes(images, -1, -2) if planar else images)


def read_back(flat, frames, pixels, channels, planar):
    """From (T, P, C), or (C, T, P), to (T, P, C)."""
    shape = (channels, frames, pixels) if planar else (frames, pixels, channels)
    return np.moveaxis(flat.reshape(shape), 0, -1) if planar else flat.reshape(shape)


def addresses(views):
    return np.array([view.ctypes.data for view in views], np.uint64)


LAYOUTS = pytest.mark.parametrize(
    ("channels", "planar_in", "planar_out"),
    [(1, True, True), (1, True, False), (2, False, True), (2, True, False), (3, False, False), (3, False, True),
     (3, True, True), (3, True, False), (4, False, False), (4, True, False)],
)  # fmt: skip


@BOTH
@LAYOUTS
@pytest.mark.parametrize(("source", "target"), [*DTYPES, (np.int16, np.int16), (np.uint16, np.uint16)])
def test_views_are_composed(run, channels, planar_in, planar_out, source, target, rng):
    """Some pixels at a time, and nothing before or after them is touched."""
    kind, error = kinds_of(source, target)
    for layers, frames in itertools.product((1, 2, 4), (1, 3)):
        views = rng.integers(0, 256, (layers + 1, frames, P, channels)).astype(source)
        held = laid_out(views, planar_in)
        before, shares = held.copy(), shares_with_ends(rng, layers, P)
        scale, bias = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        if target == np.float32:
            scale, bias = rng.random((2, channels)).astype(np.float32)
        flat, untouched = np.full(frames * P * channels, 77, target), np.ones(P, bool)
        for start, stop in (9, 17), (0, 9), (44, P), (17, 44):
            weights = np.full((4, 30), 99, kind)
            weights[:layers, : stop - start] = fixed(shares[:, start:stop], kind)
            rooms, like = np.empty((2, 30 * channels), target), np.empty(0, source)
            run(compose)(
                flat, rooms, addresses(held), weights, start, stop, frames, planar_in, planar_out, scale, bias, like
            )
            untouched[start:stop] = False
            assert (read_back(flat, frames, P, channels, planar_out)[:, untouched] == 77).all()
        found = read_back(flat, frames, P, channels, planar_out)
        of_views = naive_layers.from_shares(shares.astype(float))[:, None, :, None]
        expected = (of_views * views).sum(axis=0) * scale + bias
        np.testing.assert_allclose(found, expected, atol=error(layers))
        np.testing.assert_array_equal(held, before)


@dataclasses.dataclass
class Batch:
    """Samples of 0 to 4 layers whose holes lie among those of others, or that are constant."""

    layers: np.ndarray
    first_layer: np.ndarray
    slots: np.ndarray
    holes: np.ndarray

    def weights(self, i, how):
        mine = range(self.first_layer[i], self.first_layer[i + 1])
        holes = [
            np.full(SIZE, self.layers["ratio"][j]) if self.slots[j] < 0 else
            self.holes[self.slots[j]].reshape(SIZE).astype(float) for j in mine
        ]  # fmt: skip
        return naive_layers.weights(holes, *SIZE, how)

    def nominal(self, i):
        return naive_layers.nominal_weights(self.layers["ratio"][self.first_layer[i] : self.first_layer[i + 1]])


def drawn(rng, counts=(0, 1, 2, 3, 4, 4, 0, 1)):
    first_layer = np.cumsum([0, *counts])
    layers = np.zeros(first_layer[-1], LAYER)
    layers["ratio"] = rng.uniform(0, 0.6, len(layers))
    slots = rng.permutation(len(layers) + 3)[: len(layers)]
    holes = shares_with_ends(rng, len(layers) + 3, P)
    slots[rng.random(len(layers)) < 0.3] = CONSTANT
    return Batch(layers, first_layer, slots, holes)


@BOTH_OF_ENTRIES
@LAYOUTS
@pytest.mark.parametrize(("source", "target"), DTYPES)
def test_samples_are_mixed_with_the_partners_of_their_layers(
    run, channels, planar_in, planar_out, source, target, rng
):  # fmt: skip
    """Rows at a time or all at once, with masks and without; lam measured or nominal; images and clips."""
    kind, error = kinds_of(source, target)
    scale, bias = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    if target == np.float32:
        scale, bias = rng.random((2, channels)).astype(np.float32)
    for tile, frames, how, measured, with_masks in [
        (P, 1, "mul", True, True), (WIDTH, 1, "sum", True, True), (2 * WIDTH, 3, "mul", False, False),
        (P + 7, 2, "sum", False, True),
    ]:  # fmt: skip
        batch = drawn(rng)
        n, k = len(batch.first_layer) - 1, 4
        first = rng.integers(0, 256, (n, frames, P, channels)).astype(source)
        second = rng.integers(0, 256, (len(batch.layers), frames, P, channels)).astype(source)
        held = [laid_out(views, planar_in) for views in (first, second)]
        before = [views.copy() for views in held]
        out, shares = np.full((n, frames * P * channels), 77, target), np.zeros((n, k + 1))
        masks = np.zeros((n, k + 1, P) if with_masks else (0, 1, 1), np.float32)
        for begin, end in (0, 3), (3, n):
            run(mix_layers)(
                out, shares, masks, np.empty((k, tile), kind), np.empty((2, tile * channels), target), batch.holes,
                batch.slots, *map(addresses, held), batch.layers, batch.first_layer, begin, end, *SIZE, how == "mul",
                measured, planar_in, planar_out, scale, bias, np.empty(0, source),
            )  # fmt: skip
        for i in range(n):
            a, b = batch.first_layer[i], batch.first_layer[i + 1]
            of_views = batch.weights(i, how)
            mixed = naive_layers.blend(
                of_views.reshape(b - a + 1, 1, P) * np.ones((1, frames, 1)), [first[i], *second[a:b]]
            )
            found = read_back(out[i], frames, P, channels, planar_out)
            np.testing.assert_allclose(found, mixed * scale + bias, atol=error(b - a) + 1e-3)
            expected = of_views.mean(axis=(1, 2)) if measured else batch.nominal(i)
            np.testing.assert_allclose(shares[i, : b - a + 1], expected, atol=1e-6)
            assert (shares[i, b - a + 1 :] == 0).all()
            if with_masks:
                np.testing.assert_allclose(masks[i, : b - a + 1], of_views.reshape(-1, P), atol=1e-6)
                assert (masks[i, b - a + 1 :] == 0).all()
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-12)
        for views, old in zip(held, before, strict=True):
            np.testing.assert_array_equal(views, old)


@BOTH_OF_ENTRIES
@LAYOUTS
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int16, np.uint16])
def test_maps_are_composed_by_the_weights_of_all_views(run, channels, planar_in, planar_out, dtype, rng):
    kind, error = kinds_of(dtype, dtype)
    for tile, frames, how in (P, 1, "mul"), (WIDTH, 3, "sum"), (P + 7, 2, "mul"):
        batch = drawn(rng)
        n, k = len(batch.first_layer) - 1, 4
        weights = np.zeros((n, k + 1, P), np.float32)
        first = rng.integers(0, 256, (n, frames, P, channels)).astype(dtype)
        second = rng.integers(0, 256, (len(batch.layers), frames, P, channels)).astype(dtype)
        held = [laid_out(views, planar_in) for views in (first, second)]
        out = np.full((n, frames * P * channels), 77, dtype)
        for i in range(n):
            a, b = batch.first_layer[i], batch.first_layer[i + 1]
            weights[i, : b - a + 1] = batch.weights(i, how).reshape(-1, P)
        before = weights.copy()
        run(compose_maps)(
            out, weights, *map(addresses, held), batch.first_layer, channels, planar_in, planar_out,
            np.empty((k, tile), kind), np.empty((2, tile * channels), dtype),
        )  # fmt: skip
        np.testing.assert_array_equal(weights, before)
        for i in range(n):
            a, b = batch.first_layer[i], batch.first_layer[i + 1]
            of_views = weights[i, : b - a + 1].reshape(-1, 1, P) * np.ones((1, frames, 1))
            expected = naive_layers.blend(of_views, [first[i], *second[a:b]])
            found = read_back(out[i], frames, P, channels, planar_out)
            np.testing.assert_allclose(found, expected, atol=error(b - a) + 1e-3)
            for v, view in enumerate([first[i], *second[a:b]]):
                alone = weights[i, v] == 1
                np.testing.assert_array_equal(found[:, alone], view[:, alone])


@pytest.mark.parametrize(("views", "size", "channels"), [(1, (7, 5), 3), (5, (200, 30), 1), (3, (2, 4000), 4)])
@pytest.mark.parametrize(("source", "target"), DTYPES)
def test_there_is_room_for_whole_rows(views, size, channels, source, target):
    weights, rooms = room_for(views, *size, channels, np.dtype(source), np.dtype(target))
    assert weights.shape[0] >= max(1, views - 1)
    assert weights.shape[1] % size[1] == 0
    assert size[1] <= weights.shape[1] <= max(1536, size[1])
    assert rooms.shape == (2, weights.shape[1] * channels)
    assert (weights.dtype, rooms.dtype) == (kinds_of(source, target)[0], target)


def test_a_configuration_names_whose_partners_there_are():
    with pytest.raises(ValueError, match="partners must be 'sample' or 'layer', got 'layers'"):
        MiAMixConfig(partners="layers")
    with pytest.raises(ValueError, match='one partner a sample: it can\'t be combined with partners="layer"'):
        MiAMixConfig(partners="layer", mixes="features")
