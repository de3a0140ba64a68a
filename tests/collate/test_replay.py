"""A batch that is made again from its plan."""

import pytest
import torch

from miamix_cpu import MiAMix, MiAMixCollator, MixPlan
from tests.collate.common import EVERYTHING, UNMIXED, crop, samples_of
from tests.transforms import draws_from_everything

pytestmark = UNMIXED


@pytest.mark.parametrize("transform", [crop(), draws_from_everything], ids=["albumentations", "globals"])
def test_replay_makes_the_views_too(transform, tmp_path):
    samples = samples_of(12)
    collate = MiAMixCollator(10, EVERYTHING, seed=5, transform=transform, return_batch=True)
    batch = collate(samples)
    batch.plan.save(tmp_path / "plan.npz")
    other = MiAMixCollator(10, seed=99, transform=transform, return_batch=True)
    again = other.replay(samples, MixPlan.load(tmp_path / "plan.npz"))
    assert torch.equal(again.images, batch.images)
    assert torch.equal(again.targets, batch.targets)


def test_replay_of_what_cannot_be(rng):
    collate = MiAMixCollator(10, seed=0, transform=crop())
    with pytest.raises(ValueError, match="the plan has no key"):
        collate.replay(samples_of(3), MiAMix(10).plan(3, 6, 6, rng=rng))
    plan = MiAMixCollator(10, seed=0, transform=crop(), return_batch=True)(samples_of(3)).plan
    with pytest.raises(ValueError, match="the plan is for 3 images of 6 x 6 pixels, got 4 of 6 x 6"):
        collate.replay(samples_of(4), plan)
