"""The samples' own maps follow their images, whatever makes the views."""

import albumentations as A
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixConfig
from tests.collate.common import UNMIXED
from tests.collate.dots import (
    CROP,
    INDEPENDENT,
    INNER,
    Dots,
    N,
    Reuses,
    as_dict,
    as_floats,
    as_grey,
    as_pil,
    as_tensors,
    assert_aimed,
    by_dict,
    by_keyword,
    by_name,
    collator,
    cropped,
    first_dots,
    like_torchvision,
    picture,
)  # fmt: skip
from tests.examples import needs
from tests.views.test_guides import AIMED, GUIDED, ONE_CELL, RATIOS, centres, places

pytestmark = UNMIXED
TENSORS = A.Compose([A.RandomCrop(*INNER), A.HorizontalFlip(), A.VerticalFlip(), ToTensorV2()])


@pytest.mark.parametrize(("transform", "kind"), [
    (CROP, tuple), (CROP, as_tensors), (CROP, as_pil), (CROP, as_grey), (CROP, as_floats), (TENSORS, tuple),
    (A.HorizontalFlip(), tuple), (A.Compose([A.CenterCrop(20, 20), A.D4()]), tuple), (by_dict, tuple),
    (by_dict, as_floats), (by_dict, as_grey), (by_name, as_dict), (by_keyword, as_dict), (by_dict, as_dict), (like_torchvision, as_tensors),
    (lambda **data: by_dict(data), as_dict), (lambda image, **data: by_dict({"image": image, **data}), as_dict), (Reuses(), tuple),
], ids=[*["crop", "tensors", "pil", "grey", "floats", "to-tensor", "one", "d4", "dict", "dict-floats", "dict-grey", "named", "keyword", "dict-names", "torchvision", "data", "others", "reuses"]])  # fmt: skip
def test_maps_go_through_the_geometry_of_their_views(transform, kind):
    """Box centres lie on the dot of the partner's second view, not of its first."""
    samples = [Dots(kind=kind)[i] for i in range(N)]
    key = "map" if kind is as_dict else 2
    collate = collator(transform=transform, dtype="float32" if kind is as_floats else "uint8", map_key=key)
    batch = collate(samples)
    assert_aimed(batch)
    of_first = first_dots(collate, samples, batch.plan)[batch.partner]
    off = np.abs(centres(batch.plan) - of_first).max(1)
    assert (off > 0.03).mean() > 0.3
    shared = collator(AIMED, transform=transform, dtype=collate.dtype, map_key=key)
    batch = shared(samples)
    assert_aimed(batch)
    np.testing.assert_allclose(centres(batch.plan), first_dots(shared, samples, batch.plan)[batch.partner])


@pytest.mark.parametrize("kind", [tuple, as_tensors, as_pil])
def test_torchvisions_transforms_move_maps(kind):
    """As masks: v2 leaves arrays and plain tensors as they are beside an image."""
    needs("torchvision")
    from benchmarks.torchvision_wheel import import_torchvision

    import_torchvision()
    from torchvision.transforms import v2

    geometry = [v2.ToImage()] if kind is tuple else []
    geometry += [v2.RandomCrop(INNER), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
    photometry = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    samples = [Dots(kind=kind)[i] for i in range(N)]
    assert_aimed(collator(transform=v2.Compose([*geometry, *photometry]), dtype="float32")(samples))
    assert_aimed(collator(transform=v2.Compose([*geometry, v2.ToImage()]))(samples))
    if kind is not tuple:
        assert_aimed(collator(transform=v2.RandomHorizontalFlip(), dtype="uint8")(samples))


@pytest.mark.parametrize("transform", [None, CROP, by_dict], ids=["none", "albumentations", "callable"])
def test_workers_aim_alike(transform):
    batches = []
    for workers in (0, 2):
        config = AIMED if transform is None else INDEPENDENT
        loader = DataLoader(Dots(), 8, collate_fn=collator(config, transform=transform), num_workers=workers)
        batches.append(list(loader))
        for batch in batches[-1]:
            assert_aimed(batch)
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.plan.layers.tobytes() == other.plan.layers.tobytes()


@pytest.mark.parametrize("key", [2, 3, "map"])
def test_maps_without_a_transform(key):
    samples = [Dots()[i] for i in range(N)]
    if key == 3:
        samples = [(image, label, i, map_) for i, (image, label, map_) in enumerate(samples)]
    if key == "map":
        samples = [as_dict(sample) for sample in samples]
    batch = collator(AIMED, map_key=key)(samples)
    assert_aimed(batch)
    np.testing.assert_allclose(centres(batch.plan), places(Dots().maps[batch.partner]))


@pytest.mark.parametrize("second_view", ["independent", "shared"])
@pytest.mark.parametrize("made", [tuple, list])
def test_pairs_of_views_have_pairs_of_maps(second_view, made):
    first, second = Dots(), Dots(seed=1)
    samples = [(made(map(picture, maps)), 0, made(maps)) for maps in zip(first.maps, second.maps, strict=True)]
    batch = collator(INDEPENDENT.replace(second_view=second_view))(samples)
    assert_aimed(batch)
    mixed_in = first if second_view == "shared" else second
    np.testing.assert_allclose(centres(batch.plan), places(mixed_in.maps[batch.partner]))


@pytest.mark.parametrize("method", GUIDED)
def test_each_method_shows_the_partners_dot(method):
    """guidedmixup shows one's own dot too: it is where the first view's map is, and the partner's where the second's is."""
    config = MiAMixConfig.plain(
        method, ratio_range=RATIOS, attentivecutmix=ONE_CELL, second_view="independent", p_self=0.3
    )
    samples = [Dots()[i] for i in range(N)]
    collate = collator(config, transform=CROP, return_masks=True)
    images = collate(samples).images[:, 0].numpy()
    bright = (images >= 250).sum((1, 2))
    assert set(bright) <= {1, 2} if method == "guidedmixup" else (bright >= 1).all()
    assert method != "guidedmixup" or (bright == 2).mean() > 0.8


def test_maps_do_not_change_the_views():
    samples = [Dots()[i] for i in range(N)]
    for transform in (CROP, lambda x: by_dict(x) if isinstance(x, dict) else cropped(x)[0]):
        cutmix = MiAMixConfig.plain("cutmix")
        with_maps = collator(cutmix, transform=transform)(samples)
        without = collator(cutmix, transform=transform, map_key=None)([sample[:2] for sample in samples])
        assert torch.equal(with_maps.images, without.images)
