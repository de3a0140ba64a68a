"""Batches of whole loaders in lent memory are those made without workers."""

import gc

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from miamix_cpu import MiAMixCollator, MiAMixConfig
from tests.shared_memory import lies_in_shared_memory
from tests.transforms import Numbers
from tests.workers.common import LINUX

pytestmark = LINUX


class Spy:
    """Tells where each batch lies."""

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, samples):
        images, targets, masks = self.collate(samples)
        return images, targets, masks, (get_worker_info().id, images.data_ptr(), lies_in_shared_memory(images))


@pytest.mark.parametrize("options", [
    {"multiprocessing_context": "fork"}, {"multiprocessing_context": "spawn"},
    {"multiprocessing_context": "forkserver", "prefetch_factor": 5},
], ids=str)  # fmt: skip
def test_batches_in_lent_memory_are_those_made_without_workers(options):
    """All of them, kept or dropped, of several epochs, with smaller ones at the end."""

    def batches(workers, **options):
        collate = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0, dtype="uint8", return_masks=True)
        loader = DataLoader(Numbers(104, 64), 16, num_workers=workers, collate_fn=Spy(collate) if workers else collate,
                            persistent_workers=workers > 0, **options)  # fmt: skip
        for epoch in range(3):
            collate.set_epoch(epoch)
            yield from loader

    expected = list(batches(0))
    kept, places = [], []
    for number, (images, targets, masks, place) in enumerate(batches(2, **options)):
        assert place[2]
        places.append(place[:2])
        if number % 5 == 0:
            kept.append((number, images, masks[1:3], targets.numpy()))
        for found, wanted in zip((images, targets, masks), expected[number], strict=True):
            assert type(found) is torch.Tensor
            assert torch.equal(found, wanted)
    assert len(expected) == number + 1 == 21
    assert len(set(places)) < len(places) - 4  # used again
    for number, images, masks, targets in kept:
        assert torch.equal(images, expected[number][0])
        assert torch.equal(masks, expected[number][2][1:3])
        assert np.array_equal(targets, expected[number][1].numpy())


def test_a_loader_in_a_list():
    """Nothing comes back, and nothing is overwritten."""
    loaders = [
        DataLoader(Numbers(160, 64), 8, num_workers=workers, collate_fn=MiAMixCollator(10, seed=0, transform=np.flipud))
        for workers in (0, 1)
    ]
    for (here, _), (arrived, _) in zip(*map(list, loaders), strict=True):
        assert torch.equal(here, arrived)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loop_that_is_left_early_spoils_no_other(persistent):
    """What was prefetched for it is thrown away; what it kept stays as it was."""
    collate = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0, dtype="uint8")
    expected = {}
    for epoch in range(4):
        collate.set_epoch(epoch)
        expected[epoch] = list(DataLoader(Numbers(104, 64), 8, collate_fn=collate))
    loader = DataLoader(Numbers(104, 64), 8, num_workers=2, persistent_workers=persistent, collate_fn=collate)
    kept = []
    for epoch in range(4):
        collate.set_epoch(epoch)
        for number, (images, _) in enumerate(loader):
            assert torch.equal(images, expected[epoch][number][0])
            if number % 3 == 0:
                kept.append((epoch, number, images[1:]))
            if number == 7 and epoch % 2 == 0:
                break
    for epoch, number, images in kept:
        assert torch.equal(images, expected[epoch][number][0][1:])


class Stream(IterableDataset):
    def __iter__(self):
        return iter([Numbers(64, 64)[i] for i in (range(16), range(16, 64))[get_worker_info().id]])


def test_workers_that_have_ended():
    """A stream's workers end one by one; what they lent stays, and is fetched in time."""
    collate = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0, dtype="uint8")
    batches = [(images, images.clone()) for images, _ in DataLoader(Stream(), 8, num_workers=2, collate_fn=collate)]
    gc.collect()
    assert len(batches) == 8
    assert all(torch.equal(images, copied) for images, copied in batches)
