"""Which views are made, of what transforms, and that they leave the mix alone."""

import random
import warnings

import albumentations as A
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image

from miamix_cpu import MiAMix, MiAMixCollator, MiAMixConfig, TwoViews
from miamix_cpu.plan.streams import VIEWS, stream
from tests.collate.common import NO_SELF, UNMIXED, crop, numbered, recording, same, samples_of
from tests.transforms import Numbers, draws_from_everything

pytestmark = UNMIXED


def test_first_views_in_order_then_second_ones_of_partners_only():
    calls = []
    batch = MiAMixCollator(9, MiAMixConfig(p_self=0.5), seed=2, transform=recording(calls), return_batch=True)(
        numbered(9)
    )
    assert calls == [*range(9), *np.unique(batch.partner).tolist()]


def test_a_published_baseline_calls_the_transform_once_a_sample():
    calls = []
    MiAMixCollator(9, MiAMixConfig.plain("cutmix"), seed=2, transform=recording(calls))(numbered(9))
    assert calls == [*range(9)]


def test_cutmix_baseline_pastes_the_partners_first_view():
    """Published CutMix: a binary, axis-aligned hole that shows the partner's one view."""
    collate = MiAMixCollator(
        10,
        MiAMixConfig.plain("cutmix"),
        seed=0,
        transform=crop(),
        dtype="uint8",
        compiled_views=False,
        return_masks=True,
        return_batch=True,
    )
    samples = samples_of(12)
    batch = collate(samples)
    first = collate.plain(crop())
    views = Transformed(batch.plan.key, samples)
    masks = batch.masks.numpy()
    assert set(np.unique(masks)) <= {0, 1}
    expected = np.where(masks[..., None] == 1, views, views[batch.partner.numpy()])
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected)
    assert first.schedule.probability == 0
    for hole in 1 - masks:
        rows, columns = hole.any(axis=1), hole.any(axis=0)
        np.testing.assert_array_equal(hole, np.outer(rows, columns))


def Transformed(key, samples):
    from miamix_cpu.views.transform import Transform

    return np.array(
        Transform(crop()).make([image for image, _ in samples], False, range(len(samples)), stream(key, VIEWS), str)
    )


def test_pairs_from_the_dataset():
    dataset = TwoViews(Numbers(12), crop(), seed=0)
    samples = [dataset[i] for i in range(12)]
    batch = MiAMixCollator(10, seed=0, dtype="uint8", return_batch=True)(samples)
    first, second = (np.array([pair[j] for pair, _ in samples]) for j in (0, 1))
    expected = MiAMix(10).render(batch.plan, first, [label for _, label in samples], second=second)
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected.images)


@pytest.mark.parametrize("transform", [
    crop(), A.Compose([A.RandomCrop(6, 6), A.Normalize()]), A.Compose([A.RandomCrop(6, 6), ToTensorV2()]), A.RandomCrop(6, 6),
    draws_from_everything, lambda image: torch.from_numpy(image).permute(2, 0, 1), lambda image: Image.fromarray(image).resize((6, 6)),
], ids=["crop", "normalize", "tensor", "single", "globals", "to tensor", "pil"])  # fmt: skip
def test_transforms_of_all_kinds(transform):
    samples = samples_of(8)
    images, _ = MiAMixCollator(10, seed=0, transform=transform)(samples)
    assert images.dtype == torch.float32
    assert images.shape[:2] == (8, 3)
    assert same(MiAMixCollator(10, seed=0, transform=transform)(samples)[0], images)


def test_the_transform_never_changes_the_mix():
    samples = samples_of(16)
    plans = [
        MiAMixCollator(10, seed=0, transform=transform, return_batch=True)(samples).plan
        for transform in (crop(8), lambda image: image[::-1], A.Compose([A.VerticalFlip()]))
    ]
    for plan in plans[1:]:
        assert plan.layers.tobytes() == plans[0].layers.tobytes()
        assert plan.partner.tobytes() == plans[0].partner.tobytes()


def test_warning_without_a_second_view():
    collate = MiAMixCollator(10, MiAMixConfig(), seed=0)
    with pytest.warns(
        UserWarning,
        match=r"p_self=0.1, but the samples have no second view .* about 10% of the images come out unmixed",
    ):
        collate(samples_of(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collate(samples_of(4, seed=1))
        MiAMixCollator(10, NO_SELF, seed=0)(samples_of(4))


@pytest.mark.parametrize("transform", [None, crop(), draws_from_everything], ids=["none", "albumentations", "globals"])
def test_global_generators_are_not_drawn_from(transform):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    MiAMixCollator(10, NO_SELF, seed=0, transform=transform)(samples_of(6))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
