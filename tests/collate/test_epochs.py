"""The epoch, told or travelling with the samples, and the schedule that hangs on it."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from miamix_cpu import EpochIndex, EpochSampler, Indexed, MiAMixCollator, MiAMixConfig, MixSchedule
from tests.collate.common import NO_SELF, UNMIXED, crop, numbered, recording, same
from tests.transforms import Numbers

pytestmark = UNMIXED


def test_the_epoch_that_travels_with_the_samples_is_used():
    def batches(epoch):
        collate = MiAMixCollator(10, seed=0, transform=crop())
        dataset = Numbers(16)
        loader = DataLoader(
            Indexed(dataset), 8, sampler=EpochSampler(range(16), epoch=epoch), collate_fn=collate, num_workers=1
        )
        return list(loader), list(loader)

    first, second = batches(0)
    assert not same(first, second)
    assert same(batches(1)[0], second)


def test_samples_of_two_epochs_are_refused():
    dataset = Indexed(Numbers(4))
    with pytest.raises(ValueError, match=r"samples of a batch must be from one epoch, got \[0, 1\]"):
        MiAMixCollator(10, NO_SELF, seed=0)([dataset[EpochIndex(0, 1)], dataset[EpochIndex(1, 2)]])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_set_epoch_of_a_copy_reaches_its_workers(method, copied):
    collate = copied(MiAMixCollator(10, seed=0, transform=crop()))
    loader = DataLoader(
        Numbers(8), 8, collate_fn=collate, num_workers=1, persistent_workers=True, multiprocessing_context=method
    )
    epochs = []
    for epoch in range(2):
        collate.set_epoch(epoch)
        epochs += list(loader)
    assert not same(*epochs)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_set_epoch_reaches_live_persistent_workers(method):
    def epochs(collate, **options):
        loader = DataLoader(Numbers(16), 8, collate_fn=collate, **options)
        for epoch in range(3):
            collate.set_epoch(epoch)
            yield list(loader)

    schedule = MixSchedule(off=2)
    options = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": method}
    found = list(epochs(MiAMixCollator(10, seed=0, transform=crop(), schedule=schedule), **options))
    expected = list(epochs(MiAMixCollator(10, seed=0, transform=crop(), schedule=schedule)))
    assert same(found, expected)
    assert not same(found[0], found[1])
    for _, targets in found[2]:
        assert torch.equal(targets.max(dim=1).values, torch.ones(8))


def test_outside_the_schedule_first_views_and_hard_targets():
    calls = []
    collate = MiAMixCollator(
        9, MiAMixConfig(p_self=0.3), seed=0, transform=recording(calls), schedule=MixSchedule(start=1), dtype="uint8"
    )
    collate.set_epoch(0)
    images, targets = collate(numbered(9))
    assert calls == [*range(9)]
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1), [image for image, _ in numbered(9)])
    assert torch.equal(targets, torch.eye(9))
    collate.set_epoch(1)
    assert not torch.equal(collate(numbered(9))[1], torch.eye(9))


def test_a_probability_mixes_some():
    collate = MiAMixCollator(400, NO_SELF, seed=0, schedule=MixSchedule(probability=0.25), return_batch=True)
    batch = collate([(np.zeros((2, 2), np.uint8), i) for i in range(400)])
    assert 60 < batch.plan.mixed.sum() < 140
    unmixed = ~batch.plan.mixed
    assert torch.equal(batch.targets[unmixed], torch.eye(400)[unmixed])
    assert batch.describe(int(np.argmax(unmixed))).endswith("not mixed")
