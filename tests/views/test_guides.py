"""Guides: where holes are by them, of which views they are, and how often they are made."""

import dataclasses

import numpy as np
import pytest

from miamix_cpu import AttentiveCutMixOptions, GuidedMixupOptions, MiAMix, MiAMixConfig, SaliencyMixOptions
from miamix_cpu.methods import METHODS
from miamix_cpu.plan.mix_plan import MixPlan
from miamix_cpu.views import guides

GUIDED = ("saliencymix", "attentivecutmix", "guidedmixup")
RATIOS = (0.3, 0.8)  # of boxes that are not empty
AIMED = MiAMixConfig.plain("saliencymix", ratio_range=RATIOS)
ONE_CELL = AttentiveCutMixOptions(grid=8, cells=1)


def rng_of(seed):
    return np.random.default_rng(seed)


def dots(n, height=16, width=16, seed=0):
    """Maps with one place that is 1: float32 (n, h, w); no two in one row or column if there are enough."""
    rng, maps = rng_of(seed), np.zeros((n, height, width), np.float32)
    ys, xs = (np.resize(rng.permutation(side), n) for side in (height, width))
    maps[np.arange(n), ys, xs] = 1
    return maps


def places(maps):
    """Centres of the largest pixels, as shares of the sides: (n, 2)."""
    n, height, width = maps.shape
    y, x = np.divmod(maps.reshape(n, -1).argmax(1), width)
    return np.stack([(y + 0.5) / height, (x + 0.5) / width], 1)


def centres(plan):
    return np.stack([plan.layers["cy"], plan.layers["cx"]], 1)


def pictures_of(maps):
    return np.repeat((maps * 255).astype(np.uint8)[..., None], 3, 3)


# ---- where the holes are


def noise_with_objects(n, side, channels, rng, left):
    """Noise with a disc whose halves differ from it by `left` and 100: uint8 (n, side, side, channels), and the discs."""
    cy, cx = (rng.uniform(0.15, 0.85, (n, 1, 1)) * side for _ in range(2))
    y, x = np.mgrid[:side, :side] + 0.5
    objects = (y - cy) ** 2 + (x - cx) ** 2 <= (0.1 * side) ** 2
    noise = rng.normal(90, 20, (n, side, side, channels)) + (objects * np.where(x < cx, left, 100))[..., None]
    return np.clip(noise, 0, 255).astype(np.uint8), objects


def shares_inside(side, kind, guide, left):
    """How often boxes are centred in the partner's object, in one's own, and a random place is in the partner's."""
    rng, mix = rng_of(side), MiAMix(2, MiAMixConfig.plain("saliencymix", saliencymix=SaliencyMixOptions(guide=guide)))
    batches, n = (5, 100) if side == 224 else (1, 500)
    inside = np.zeros(3)
    for _ in range(batches):
        images, objects = noise_with_objects(n, side, 1 if side == 224 else 3, rng, left)
        if kind != "uint8":
            images = images.astype(np.float32) / np.float32(255)
        if kind == "normalised":
            images = (images - np.float32(0.45)) / np.float32(0.22)
        batch = mix(images, np.zeros(n, int), rng=rng)
        assert (batch.partner != np.arange(n)).all()
        everyone, aimed = np.arange(n), centres(batch.plan)
        inside += [
            objects[samples, *(side * where).astype(int).T].sum()
            for samples, where in ((batch.partner, aimed), (everyone, aimed), (everyone, rng.random((n, 2))))
        ]
    return inside / 500


@pytest.mark.parametrize("side", [32, 64, 224])
@pytest.mark.parametrize("kind", ["uint8", "float32", "normalised"])
@pytest.mark.parametrize(("guide", "left"), [("fine_grained", -80), ("spectral", 100)])
def test_boxes_are_centred_in_the_partners_object(side, kind, guide, left):
    """500 images of noise. A random centre, or one by the sample's own guide, hardly ever is in the object."""
    aimed, own, chance = shares_inside(side, kind, guide, left)
    assert aimed >= 0.95
    assert max(own, chance) < 0.15


def test_fine_grained_takes_the_darkest_place_for_as_salient_as_the_brightest():
    """As OpenCV does: both contrasts are stretched to the same largest value, and the first of the two is the peak."""
    aimed, _, _ = shares_inside(64, "uint8", "fine_grained", 100)
    assert 0.35 < aimed < 0.65


@pytest.mark.parametrize("method", GUIDED)
def test_an_image_that_is_its_map_shows_the_partners_dot(method):
    """And guidedmixup one's own dot as well."""
    maps = dots(16)
    config = MiAMixConfig.plain(method, ratio_range=RATIOS, attentivecutmix=ONE_CELL)
    batch = MiAMix(2, config)(pictures_of(maps), np.zeros(16, int), rng=rng_of(0), maps=maps)
    y, x = (places(maps[batch.partner]) * 16).astype(int).T
    assert (batch.images[np.arange(16), y, x] >= 254).all()
    if method == "saliencymix":
        np.testing.assert_allclose(centres(batch.plan), places(maps[batch.partner]))
    if method == "guidedmixup":
        y, x = (places(maps) * 16).astype(int).T
        assert (batch.images[np.arange(16), y, x] >= 254).all()


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (9, 1)], ids=str)
@pytest.mark.parametrize("map_size", [(8, 8), (3, 5), (40, 30), (1, 1)], ids=str)
def test_maps_may_have_another_resolution(size, map_size):
    maps, images = dots(6, *map_size), rng_of(0).integers(0, 256, (6, *size, 3), dtype=np.uint8)
    for method in GUIDED:
        config = MiAMixConfig.plain(method, attentivecutmix=AttentiveCutMixOptions(grid=1, cells=1))
        batch = MiAMix(2, config)(images, np.zeros(6, int), rng=rng_of(0), maps=maps)
        assert np.isfinite(batch.images).all()
        if method == "saliencymix":
            np.testing.assert_allclose(centres(batch.plan), places(maps[batch.partner]))


@pytest.mark.parametrize("images", [
    np.zeros((4, 9, 13), np.uint8), *(np.zeros((4, 9, 13, c), np.float32) for c in (1, 2, 4, 5)),
    np.full((4, 9, 13, 3), np.nan, np.float32), np.zeros((8, 9, 26, 3), np.uint8)[::2, :, ::-2],
    np.broadcast_to(np.uint8(7), (4, 9, 13, 3)), np.zeros((1, 9, 13, 3), np.uint8),
], ids=lambda images: f"{images.dtype}{images.shape}")  # fmt: skip
@pytest.mark.parametrize("kind", ["fine_grained", "spectral"])
@pytest.mark.filterwarnings("ignore:.*paired with themselves")
def test_any_images_have_guides(images, kind):
    """Constant ones have the first pixel as the peak, and holes of a half."""
    options = {"saliencymix": SaliencyMixOptions(guide=kind), "guidedmixup": GuidedMixupOptions(guide=kind)}
    for method in GUIDED:
        config = MiAMixConfig.plain(method, **options, attentivecutmix=AttentiveCutMixOptions(guide=kind))
        batch = MiAMix(4, config, return_masks=True)(images, [0] * len(images), rng=rng_of(0))
        assert np.isfinite(batch.masks).all()
        if method == "saliencymix":
            np.testing.assert_allclose(centres(batch.plan), [[0.5 / 9, 0.5 / 13]] * len(images))
        if method == "guidedmixup":
            np.testing.assert_allclose(batch.masks, 0.5)
        if method == "attentivecutmix":
            np.testing.assert_allclose(batch.masks.mean((1, 2)), 1 - 6 / 49, atol=0.03)


# ---- of which views


@pytest.mark.parametrize("second", [None, "other", "same"])
@pytest.mark.parametrize("p_self", [0.0, 0.5])
@pytest.mark.filterwarnings("ignore:.*paired with themselves")
def test_the_partners_second_view_is_looked_at(second, p_self):
    """Its own map, also if both views are one array."""
    maps, seconds = dots(12), dots(12, seed=1)
    images = pictures_of(maps)
    given = {} if second is None else {"second": images if second == "same" else pictures_of(seconds)}
    if second is not None:
        given["second_maps"] = seconds
    config = AIMED.replace(p_self=p_self, second_view="independent")
    batch = MiAMix(2, config)(images, np.zeros(12, int), rng=rng_of(2), maps=maps, **given)
    expected = places((maps if second is None else seconds)[batch.partner])
    np.testing.assert_allclose(centres(batch.plan), expected)
    assert ((batch.partner == np.arange(12)).sum() > 2) == (p_self > 0)


def views_numbered(n, first):
    return np.broadcast_to(np.arange(first, first + n, dtype=np.uint8)[:, None, None], (n, 6, 7)).copy()


def looked_at(plan, both_views):
    """Numbers of the views that guided layers depend on: 0 to 99 first views, from 100 second views."""
    needed = set()
    for layer in plan.layers:
        name, sample = METHODS[layer["method"]], int(layer["sample"])
        if name in GUIDED:
            needed.add(int(plan.partner[sample]) + 100 * both_views)
        if name == "guidedmixup":
            needed.add(sample)
    return sorted(needed)


@pytest.mark.parametrize("methods", [("mixup", "saliencymix"), ("cutmix", "guidedmixup"), ("mixup", "fmix", *GUIDED)])
@pytest.mark.parametrize("both_views", [False, True])
@pytest.mark.filterwarnings("ignore:.*paired with themselves")
def test_a_guide_is_made_once_of_each_view_that_a_guided_layer_looks_at(methods, both_views):
    calls = []

    def guide(view):
        calls.append(int(view[0, 0]))
        return np.ones((3, 3))

    config = MiAMixConfig(methods=methods, weights=(1,) * len(methods), k_max=3, p_self=0.3)
    mix = MiAMix(40, config, guide=guide)
    second = {"second": views_numbered(20, 100)} if both_views else {}
    batch = mix(views_numbered(20, 0), range(20), rng=rng_of(3), **second)
    assert sorted(calls) == looked_at(batch.plan, both_views)
    assert 0 < len(calls) < 40


def test_computed_guides_are_made_of_the_same_views(monkeypatch):
    """And each kind only for the layers that name it."""
    seen, make = [], guides.grey_copies

    def counting(addresses, *arguments):
        copies = make(addresses, *arguments)
        seen.append(sorted(copies[:, 0, 0].tolist()))
        return copies

    monkeypatch.setattr(guides, "grey_copies", counting)
    config = MiAMixConfig(methods=("mixup", "fmix", *GUIDED), weights=(1,) * 5, k_max=3, p_self=0)
    first, second = views_numbered(20, 0), views_numbered(20, 100)
    batch = MiAMix(40, config)(first, range(20), rng=rng_of(3), second=second)
    layers = batch.plan.layers
    spectral = layers["method"] == METHODS.index("guidedmixup")
    of_kinds = [looked_at(dataclasses.replace(batch.plan, layers=layers[of]), True) for of in (~spectral, spectral)]
    assert seen == of_kinds
    seen.clear()
    MiAMix(40)(first, range(20), rng=rng_of(3), second=second)
    MiAMix(40, config, guide=lambda view: view)(first, range(20), rng=rng_of(3), second=second)
    assert seen == []


def test_a_guide_gets_a_copy_of_the_view(rng):
    images = rng.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    before, views = images.copy(), []

    def guide(view):
        views.append(view.copy())
        view[:] = 0
        return view[..., 0]

    images.flags.writeable = False
    batch = MiAMix(4, AIMED, guide=guide)(images, range(4), rng=rng)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(views, before)
    assert batch.images.any()


# ---- plans


@pytest.mark.parametrize("method", GUIDED)
def test_a_saved_plan_is_aimed_by_the_images_that_it_is_rendered_on(method, tmp_path, rng):
    images, others = rng.integers(0, 256, (2, 8, 20, 24, 3), dtype=np.uint8)
    mix = MiAMix(8, MiAMixConfig.plain(method), return_masks=True)
    plan = mix.plan(8, 20, 24, rng=rng)
    empty = plan.layers.copy(), plan.coefficients.copy()
    batch = mix.render(plan, images, range(8))
    np.testing.assert_array_equal(plan.layers, empty[0])
    np.testing.assert_array_equal(plan.coefficients, empty[1])
    batch.plan.save(tmp_path / "plan.npz")
    loaded = MixPlan.load(tmp_path / "plan.npz")
    again, different = (mix.render(loaded, these, range(8)) for these in (images, others))
    np.testing.assert_array_equal(again.images, batch.images)
    np.testing.assert_array_equal(again.masks, batch.masks)
    np.testing.assert_array_equal(different.masks, mix.render(plan, others, range(8)).masks)
    assert not np.array_equal(different.masks, batch.masks)


def test_describe_names_the_peak_after_rendering():
    maps, mix = dots(5, 10, 20), MiAMix(2, AIMED)
    plan = mix.plan(5, 10, 20, rng=rng_of(0))
    assert "peak" not in plan.describe(2)
    batch = mix.render(plan, np.zeros((5, 10, 20), np.uint8), [0] * 5, maps=maps)
    for i in range(5):
        y, x = places(maps[batch.partner])[i]
        assert f"saliencymix {batch.plan.layers['ratio'][i]:.2f} (peak at {y:.2f}, {x:.2f})" in batch.plan.describe(i)


def test_a_plan_names_its_guides():
    plan = MiAMix(2, AIMED).plan(4, 8, 8, rng=rng_of(0))
    plan.layers["guide"][1] = 0
    with pytest.raises(ValueError, match="saliencymix must name a guide"):
        plan.checked()
    plan.layers["guide"][1] = 3
    with pytest.raises(ValueError, match="guide must be a known code"):
        plan.checked()
