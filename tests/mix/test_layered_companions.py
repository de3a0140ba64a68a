"""What is mixed along with images whose layers bring partners of their own: maps of classes, depth, further images."""

import numpy as np
import pytest

from miamix_cpu import MiAMix, MiAMixConfig
from miamix_cpu.methods import METHODS
from miamix_cpu.mix.companions import add_classes_of_layers, choose_of_layers
from tests import naive, naive_layers
from tests.kernels import python
from tests.masks import twins

pytestmark = pytest.mark.filterwarnings("ignore:.*come out unmixed")

BOTH_OF_ENTRIES = pytest.mark.parametrize("run", [python, lambda entry: entry], ids=["python", "compiled"])
COUNTS = (0, 1, 2, 3, 4, 4, 0, 1)
P = 45


def drawn(rng):
    """Weights of samples of 0 to 4 layers, a third of them the same for two views, and where the layers begin."""
    first_layer = np.cumsum([0, *COUNTS])
    weights = np.zeros((len(COUNTS), 5, P), np.float32)
    for i, k in enumerate(COUNTS):
        weights[i, : k + 1] = rng.dirichlet(np.ones(k + 1), P).T
        if k:
            weights[i, : k + 1, :15] = 0
            weights[i, rng.permutation(k + 1)[:2], :15] = 0.5
    return weights, first_layer


def addresses(views):
    return np.array([view.ctypes.data for view in views], np.uint64)


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize(
    ("channels", "planar_in", "planar_out"),
    [(1, True, False), (2, False, True), (3, True, True), (3, False, False), (3, True, False), (4, False, True)],
)
def test_each_pixel_is_taken_from_the_view_of_the_largest_weight(
    run, channels, planar_in, planar_out, dtype, rng
):  # fmt: skip
    """From the first of those that are alike, whatever the order of layers."""
    for frames in 1, 3:
        weights, first_layer = drawn(rng)
        n = len(COUNTS)
        first = rng.integers(0, 256, (n, frames, P, channels)).astype(dtype)
        second = rng.integers(0, 256, (first_layer[-1], frames, P, channels)).astype(dtype)
        held = [np.ascontiguousarray(np.swapaxes(v, -1, -2) if planar_in else v) for v in (first, second)]
        before = weights.copy(), *(views.copy() for views in held)
        out = np.full((n, frames * P * channels), 77, dtype)
        run(choose_of_layers)(out, weights, *map(addresses, held), first_layer, channels, planar_in, planar_out)
        for given, old in zip((weights, *held), before, strict=True):
            np.testing.assert_array_equal(given, old)
        for i, k in enumerate(COUNTS):
            views = [first[i], *second[first_layer[i] : first_layer[i + 1]]]
            shape = (channels, frames, P) if planar_out else (frames, P, channels)
            found = out[i].reshape(shape)
            found = np.moveaxis(found, 0, -1) if planar_out else found
            for p in range(P):
                largest = max(range(k + 1), key=lambda v: (weights[i, v, p], -v))
                np.testing.assert_array_equal(found[:, p], views[largest][:, p])


@BOTH_OF_ENTRIES
@pytest.mark.parametrize("dtype", [np.uint8, np.uint64])
def test_the_class_of_each_view_gets_the_views_weight(run, dtype, rng):
    weights, first_layer = drawn(rng)
    n, classes = len(COUNTS), 3
    first = rng.integers(0, classes, (n, P)).astype(dtype)
    second = rng.integers(0, classes, (first_layer[-1], P)).astype(dtype)
    before = weights.copy(), first.copy(), second.copy()
    out, expected = np.zeros((n, classes, P), np.float32), np.zeros((n, classes, P))
    run(add_classes_of_layers)(out, weights, *map(addresses, (first, second)), first_layer, np.empty(0, dtype))
    for i in range(n):
        for v, view in enumerate([first[i], *second[first_layer[i] : first_layer[i + 1]]]):
            for p in range(P):
                expected[i, int(view[p]), p] += weights[i, v, p]
    np.testing.assert_allclose(out, expected, atol=1e-6)
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-6)
    for given, old in zip((weights, first, second), before, strict=True):
        np.testing.assert_array_equal(given, old)


# Through `MiAMix` ------------------------------------------------------------------------------------------------------

N, SIZE, CLASSES = 14, (24, 18), 5
ALSO = {"depth": "blend", "picture": "blend", "classes": "choose", "names": "choose", "soft": ("soft", CLASSES)}


def entries(rng, scale=1):
    size = tuple(side // scale for side in SIZE)
    return {
        "depth": rng.random((N, *size), dtype=np.float32),
        "picture": rng.integers(0, 256, (N, *size, 3), dtype=np.uint8),
        "classes": rng.integers(-9, 300, (N, *size, 2), dtype=np.int16),
        "names": rng.random((N, *size)),
        "soft": rng.integers(0, CLASSES, (N, *size)),
    }


def config_of(*methods, **changes):
    return MiAMixConfig(methods=methods, weights=(1,) * len(methods), k_max=4, partners="layer", **changes)


def views_of(batch, first, second, i):
    """What the sample and the layers of sample i show: their own entry and those of the partners."""
    return [first[i], *(second[t] for t in batch.plan.partner[i, : len(batch.plan.layers_of(i))])]


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("merge", ["mul", "sum"])
def test_entries_are_mixed_by_the_weights_of_all_views(merge, scale, rng):
    """In all three ways, also at half the image's size, by the mean of the weights there."""
    methods = [name for name in METHODS if name != "resizemix"]
    config = config_of(*methods, merge=merge, p_self=0.2)
    images, others = rng.integers(0, 256, (2, N, *SIZE, 3), dtype=np.uint8)
    first, second = entries(rng, scale), entries(rng, scale)
    mix = MiAMix(N, config, also=ALSO, return_masks=True)
    batch = mix(images, np.arange(N), rng=rng, second=others, also=first, second_also=second)
    assert batch.extras["soft"].shape == (N, CLASSES, *first["soft"].shape[1:])
    for i in range(N):
        k = len(batch.plan.layers_of(i))
        weights = [twins.average_area(mask, *first["depth"].shape[1:]) for mask in batch.masks[i, : k + 1]]
        for name, half in (("depth", 0), ("picture", 0.5 + 255 / 2**16)):
            exact = naive_layers.blend(np.array(weights), views_of(batch, first[name], second[name], i))
            assert np.abs(batch.extras[name][i] - exact).max() <= k * half + 1e-5
        # Ties are decided by float32, so a pixel counts where the largest weight is larger than the others.
        largest, clear = np.argmax(weights, axis=0), np.sort([*weights, np.full_like(weights[0], -1)], axis=0)
        clear = clear[-1] - clear[-2] > 1e-5
        assert clear.mean() > 0.3
        for name in "classes", "names":
            views = views_of(batch, first[name], second[name], i)
            expected = np.choose(largest.reshape(*largest.shape, *(1,) * (views[0].ndim - 2)), views)
            np.testing.assert_array_equal(batch.extras[name][i][clear], expected[clear])
        of_classes = sum(
            weight * np.moveaxis(np.eye(CLASSES)[view], -1, 0)
            for weight, view in zip(weights, views_of(batch, first["soft"], second["soft"], i), strict=True)
        )
        np.testing.assert_allclose(batch.extras["soft"][i], of_classes, atol=2e-6)
        np.testing.assert_allclose(batch.extras["soft"][i].sum(axis=0), 1, atol=2e-6)
    assert {name: batch.extras[name].dtype for name in ("depth", "picture", "classes", "names")} == {
        name: first[name].dtype for name in ("depth", "picture", "classes", "names")
    }


def test_an_entry_that_is_the_image_comes_out_as_the_image_does(rng):
    """To the byte where holes are whole, in which no share is rounded, and to a level a layer elsewhere."""
    images, others = rng.integers(0, 256, (2, N, *SIZE, 3), dtype=np.uint8)
    for methods, levels in ((("cutmix", "gridmix", "resizemix"), 0), (METHODS, 4)):
        mix = MiAMix(N, config_of(*methods, p_smooth=0.5 * (levels > 0)), also={"again": "blend"})
        batch = mix(
            images, np.arange(N), rng=rng, second=others, also={"again": images}, second_also={"again": others}
        )  # fmt: skip
        assert np.abs(batch.extras["again"].astype(int) - batch.images).max() <= levels
        assert (batch.images != images).any()


def test_the_resized_partner_of_a_layer_is_resized_in_its_entries(rng):
    images, others = rng.integers(0, 256, (2, N, *SIZE, 3), dtype=np.uint8)
    first, second = ({"depth": e["depth"], "soft": e["soft"]} for e in (entries(rng), entries(rng)))
    mix = MiAMix(
        N, config_of("resizemix", p_self=0.0), also={"depth": "blend", "soft": ("soft", CLASSES)}, return_masks=True
    )  # fmt: skip
    batch = mix(images, np.arange(N), rng=rng, second=others, also=first, second_also=second)
    seen = 0
    for i in range(N):
        for j, view in enumerate(naive_layers.seen(batch.plan, i, second["depth"])):
            place = batch.masks[i, 1 + j] == 1
            np.testing.assert_allclose(batch.extras["depth"][i][place], view[place], atol=1e-5)
            seen += bool(place.any())
    assert seen > N
    np.testing.assert_array_equal(batch.extras["soft"].sum(axis=1), 1)
    assert len(naive.resized_layers(batch.plan, 0)) > 0


def test_clips_and_their_entries_share_one_mask_for_all_frames(rng):
    clips, others = rng.integers(0, 256, (2, 6, 4, *SIZE, 3), dtype=np.uint8)
    config = config_of("cutmix", "mixup", "fmix", p_self=0.1)
    mix = MiAMix(6, config, return_masks=True)
    batch = mix(clips, np.arange(6), rng=rng, second=others)
    assert batch.masks.shape == (6, 5, *SIZE)
    for t in range(4):
        frame = mix.render(batch.plan, clips[:, t], np.arange(6), second=others[:, t])
        np.testing.assert_array_equal(batch.images[:, t], frame.images)
        np.testing.assert_array_equal(batch.lam, frame.lam)
