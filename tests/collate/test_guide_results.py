"""Guides that are functions of a view, what comes out of the collator, and that wrong guides are named."""

import copy

import albumentations as A
import numpy as np
import pytest
import torch

from miamix_cpu import MiAMix, MiAMixCollator, MiAMixConfig, MixPlan, MixSchedule, TwoViews
from tests.collate.common import UNMIXED, same
from tests.collate.dots import (
    CROP,
    INDEPENDENT,
    INNER,
    Dots,
    N,
    Sample,
    as_dict,
    assert_aimed,
    by_dict,
    collator,
    picture,
)
from tests.views.test_guides import AIMED, GUIDED, RATIOS, centres, looked_at, places

pytestmark = UNMIXED


class Numbered:
    """The first view of a picture of i shows i, the second 100 + i."""

    def __init__(self):
        self.made = set()

    def __call__(self, x):
        value = int(x.flat[0])
        self.made ^= {value}
        return x if value in self.made else x + np.uint8(100)


@pytest.mark.parametrize("views", ["none", "transform", "pairs", "shared"])
@pytest.mark.parametrize("methods", [("mixup", "saliencymix"), ("cutmix", "guidedmixup"), ("fmix", *GUIDED)])
@pytest.mark.filterwarnings("ignore:.*have no second view")
def test_a_guide_is_made_once_of_each_view_that_a_guided_layer_looks_at(views, methods):
    calls = []

    def guide(view):
        assert view.shape == (4, 5, 3)
        calls.append(int(view[0, 0, 0]))
        return view[..., 0]

    pictures = np.broadcast_to(np.arange(30, dtype=np.uint8)[:, None, None, None], (30, 4, 5, 3)).copy()
    samples = [((image, image + np.uint8(100)) if views in ("pairs", "shared") else image, 0) for image in pictures]
    config = MiAMixConfig(
        methods=methods, weights=(1,) * len(methods), k_max=3, p_self=0.3,
        second_view="shared" if views == "shared" else "independent",
    )  # fmt: skip
    schedule, transform = MixSchedule(probability=0.5), Numbered() if views == "transform" else None
    collate = collator(config, map_key=None, guide=guide, schedule=schedule, transform=transform)
    plan = collate(samples).plan
    assert not plan.mixed.all()
    assert sorted(calls) == looked_at(plan, views in ("transform", "pairs"))
    assert len(calls) > 0
    calls.clear()
    collate.plain()([(image, 0) for image in pictures])
    assert not calls


def test_a_guide_gets_views_in_their_own_layout():
    shapes = []

    def guide(view):
        shapes.append((view.shape, view.dtype))
        return view[0]

    samples = [(torch.rand(3, 6, 9), 0), (torch.rand(3, 6, 9), 1)]
    collator(map_key=None, guide=guide, dtype="float32", config=AIMED)(samples)
    assert shapes == [((3, 6, 9), np.float32)] * 2


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_computed_guides_of_tensors_are_those_of_arrays(dtype, channels, rng):
    """At sizes below and above that of the grey copies."""
    for height, width in ((30, 21), (40, 90)):
        arrays = rng.integers(0, 256, (6, height, width, channels)).astype(dtype) / dtype(
            1 if dtype == np.uint8 else 255
        )
        arrays = arrays.astype(dtype)
        plans = [
            collator(AIMED, map_key=None, dtype="float32")([(image, 0) for image in images]).plan
            for images in (list(arrays), list(torch.from_numpy(arrays).permute(0, 3, 1, 2)))
        ]
        expected, second = (centres(plan)[np.argsort(plan.partner)] for plan in plans)  # by partner
        np.testing.assert_array_equal(expected, second)
        assert len(np.unique(expected)) > 6


# ---- what comes out


def with_extras(kind):
    """Samples with a map in the middle of other entries."""
    dots = [Dots()[i] for i in range(8)]
    if kind is dict:
        return [{"id": i, **as_dict(sample), "name": str(i)} for i, sample in enumerate(dots)], "map"
    if kind is Sample:
        return [Sample(*sample) for sample in dots], 2
    return [kind((*sample, i, str(i))) for i, sample in enumerate(dots)], 2


@pytest.mark.parametrize("kind", [tuple, list, dict, Sample])
def test_the_map_is_not_in_the_result(kind):
    samples, key = with_extras(kind)
    before = copy.deepcopy(samples)
    result = collator(AIMED, map_key=key, return_batch=False, transform=CROP)(samples)
    if kind is dict:
        assert list(result) == ["image", "label", "id", "name"]
        assert result["id"].tolist() == list(range(8))
        assert result["name"] == list("01234567")
    else:
        assert type(result) is tuple
        assert [part.tolist() if torch.is_tensor(part) else list(part) for part in result[2:]] == (
            [] if kind is Sample else [list(range(8)), list("01234567")]
        )
    for sample, kept in zip(samples, before, strict=True):
        parts = zip(sample.values(), kept.values(), strict=True) if kind is dict else zip(sample, kept, strict=True)
        assert all(np.array_equal(one, other) for one, other in parts)


def test_read_only_samples():
    samples = [Dots()[i] for i in range(8)]
    for image, _, map_ in samples:
        image.flags.writeable = map_.flags.writeable = False
    for transform in (None, CROP, by_dict):
        assert_aimed(collator(INDEPENDENT if transform else AIMED, transform=transform)(samples))


@pytest.mark.parametrize("key", [2, "map"])
def test_evaluation_needs_no_maps(key):
    """Neither in the samples nor in the transform."""
    samples = [Dots()[i] for i in range(6)]
    with_maps = [as_dict(sample) for sample in samples] if key == "map" else samples
    without = [{"image": x, "label": y} if key == "map" else (x, y) for x, y, _ in samples]
    collate = collator(map_key=key, transform=CROP, return_batch=False)
    for transform in (None, lambda x: x[:4], A.CenterCrop(4, 4)):
        plain = collate.plain(transform)
        assert same(plain(with_maps), plain(without))
    with pytest.raises(ValueError, match="map_key"):
        collate(without)


@pytest.mark.parametrize("method", GUIDED)
@pytest.mark.parametrize(
    "options", [{}, {"map_key": 2}, {"guide": lambda view: view[..., 0]}], ids=["computed", "maps", "made"]
)
def test_replay(method, options, tmp_path):
    """With the same source of guides, the same bytes; rendered on other images, it is aimed at those."""
    samples = [(image, label, map_ + image[..., 0]) for image, label, map_ in (Dots()[i] for i in range(N))]
    config = MiAMixConfig.plain(method, ratio_range=RATIOS, second_view="independent")
    collate = collator(config, transform=CROP, **{"map_key": None, **options})
    batch = collate(samples)
    batch.plan.save(tmp_path / "plan.npz")
    plan = MixPlan.load(tmp_path / "plan.npz")
    again = collate.replay(samples, plan)
    assert torch.equal(again.images, batch.images)
    assert torch.equal(again.targets, batch.targets)
    if method == "saliencymix":
        y, x = centres(batch.plan)[4]
        assert f"(peak at {y:.2f}, {x:.2f})" in plan.describe(4) == batch.describe(4).partition(", lam")[0]
        others = np.stack([picture(map_)[: INNER[0], : INNER[1]] for map_ in Dots(seed=5).maps])
        aimed = MiAMix(10, config).render(plan, others, [0] * N, maps=others[..., 0]).plan
        np.testing.assert_allclose(centres(aimed), places(others[..., 0][plan.partner]))


@pytest.mark.parametrize("transform", [CROP, by_dict], ids=["albumentations", "callable"])
def test_two_views_make_pairs_of_maps_if_they_are_told_to(transform):
    dataset = TwoViews(Dots(), transform, seed=0, also=(2,))
    assert_aimed(collator()([dataset[i] for i in range(N)]))
    dataset = TwoViews(Dots(), A.Compose([A.RandomCrop(*INNER)]), seed=0)
    with pytest.raises(ValueError, match=r"^entry 2 of sample 0 must be a pair, as its image is, got ndarray"):
        collator()([dataset[i] for i in range(4)])


# ---- what is wrong


def bad_maps(bad):
    """Samples with a wrong map of sample 2."""
    samples = [Dots()[i] for i in range(6)]
    samples[2] = (*samples[2][:2], bad)
    return samples


@pytest.mark.parametrize(("bad", "error", "words"), [
    (np.ones((4, 4, 3)), ValueError, r"must have the shape \(h, w\), got \(4, 4, 3\)"),
    (np.full((4, 4), np.nan), ValueError, "must be finite, got nan"),
    (np.full((4, 4), -1), ValueError, "must be at least 0, got -1"),
    (None, TypeError, "must be an array, a PIL image or a tensor, got None"),
    ("map.png", TypeError, "must be an array, a PIL image or a tensor, got 'map.png'"),
    ((np.ones((4, 4)), np.ones((4, 4))), TypeError, "must be an array, a PIL image or a tensor, got "),
])  # fmt: skip
def test_a_wrong_map_is_named(bad, error, words):
    """The transform is not blamed for it."""
    with pytest.raises(error, match=f"^the guide of the first view of sample 2 {words}"):
        collator(AIMED)(bad_maps(bad))
    for transform in (CROP, by_dict):
        with pytest.raises(error, match=f"^the guide of sample 2 {words}") as caught:
            collator(transform=transform)(bad_maps(bad))
        assert not getattr(caught.value, "__notes__", [])


def test_maps_of_a_batch_have_one_shape():
    words = r"^the guide of the first view of sample 2 has shape \(4, 5\), the guide of .* sample 0 has \(20, 24\)"
    with pytest.raises(ValueError, match=words):
        collator(AIMED)(bad_maps(np.ones((4, 5))))


@pytest.mark.parametrize(("key", "kind", "words"), [
    ("maps", as_dict, r"samples have no 'maps' \(map_key\), they have 'image', 'label', 'map'"),
    (2, as_dict, r"samples have no 2 \(map_key\), they have 'image', 'label', 'map'"),
    *((key, tuple, f"map_key must be a position in samples of 3 entries, after image and label, got {key!r}$")
      for key in (3, 1, 0, -1, "map", 2.5, True)),
])  # fmt: skip
def test_a_missing_map_is_named(key, kind, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        collator(AIMED, map_key=key)([Dots(kind=kind)[i] for i in range(4)])


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"guide": len, "map_key": 2}, ValueError, r"^guides are either made \(guide\) or come with the samples \(map_key\), got both"),
    ({"guide": "spectral"}, TypeError, "^guide must be callable, got 'spectral': how guides are computed is an option"),
    ({"guide": np.ones(3)}, TypeError, "^guide must be callable, got ndarray"),
    ({"map_key": "label"}, ValueError, "^map_key must be another key than those of image and label, got 'label'"),
    ({"map_key": "x", "keys": ("x", "y")}, ValueError, "^map_key must be another key .* got 'x'"),
])  # fmt: skip
def test_wrong_options_are_named(options, error, words):
    with pytest.raises(error, match=words):
        MiAMixCollator(10, **options)


@pytest.mark.parametrize("transform", [
    lambda x: x["image"], lambda x: None, lambda x: {**x, 2: None}, lambda x: {"image": x["image"]}, lambda x: {2: x[2]},
    lambda x: (x["image"], x[2]), lambda image: image["image"],
], ids=["image", "nothing", "none", "no map", "no image", "pair", "named"])  # fmt: skip
def test_a_transform_that_drops_the_map_is_named(transform):
    words = "^the transform must return a dict with 'image', 2 for the first view of sample 0, because these go through"
    with pytest.raises(TypeError, match=words) as caught:
        collator(transform=transform)([Dots()[i] for i in range(4)])
    assert not getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize(("transform", "key", "call"), [
    (lambda x, map_: x, 2, "transform({'image': .., 2: ..})"), (lambda *, image, map: image, 2, "transform({'image': .., 2: ..})"),
    (lambda image, map_: image, "map", "transform({'image': .., 'map': ..})"),
    (lambda image, *, map, more: image, "map", "transform(image=image, map=map)"),
], ids=["pair", "keywords", "other name", "more"])  # fmt: skip
def test_a_transform_that_takes_no_map_learns_how_it_is_called(transform, key, call):
    with pytest.raises(TypeError, match="argument") as caught:
        collator(transform=transform, map_key=key)([Dots(kind=as_dict if key == "map" else tuple)[i] for i in range(4)])
    assert caught.value.__notes__ == [
        "raised by the transform, for the first view of sample 0",
        f"it is called as {call}, because of map_key or also",
    ]


def test_maps_that_albumentations_refuses_are_named():
    with pytest.raises(ValueError, match="Height and Width") as caught:
        collator(transform=CROP)(bad_maps(np.ones((4, 5))))
    assert caught.value.__notes__ == [
        "raised by the transform, for the first view of sample 2",
        "it is called as transform(image=image, mask=..), because of map_key or also",
    ]


def test_what_a_transform_makes_of_a_map_is_checked():
    words = "^the guide of the second view of sample 0 must be at least 0, got -1"
    with pytest.raises(ValueError, match=words):
        collator(transform=lambda x: {**x, 2: -x[2]})([Dots()[i] for i in range(4)])
    shapes = iter(range(3, 99))
    with pytest.raises(ValueError, match=r"has shape .* all guides of a batch must have the same shape"):
        collator(transform=lambda x: {**x, 2: np.ones((3, next(shapes)))})([Dots()[i] for i in range(4)])


def test_a_guide_that_raises_keeps_its_error():
    def guide(view):
        raise OSError("no such layer")

    with pytest.raises(OSError, match="no such layer") as caught:
        collator(map_key=None, guide=guide, transform=A.RandomCrop(4, 4))([Dots()[i][:2] for i in range(4)])
    assert caught.value.__notes__[0] == "raised when the guide of the second view of sample 0 was made"
