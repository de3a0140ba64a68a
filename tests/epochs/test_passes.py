"""Epochs that nobody tells: passes over a loader are counted."""

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils.fetch import _MapDatasetFetcher

from miamix_cpu import EpochIndex, EpochSampler, Indexed, MiAMixCollator, MiAMixConfig, MixSchedule, TwoViews
from miamix_cpu.workers.passes import EpochCounter
from tests.epochs.common import CROP
from tests.transforms import Numbers


def mixed_shares(loader, passes):
    """The share of mixed samples in each pass."""
    return [float(torch.cat([targets.amax(dim=1) < 1 for _, targets in loader]).float().mean()) for _ in range(passes)]


def scheduled(workers, persistent, *, shuffle=True, method=None, **schedule):
    collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, schedule=MixSchedule(**schedule))
    distinct = [(np.full((4, 4, 3), i, np.uint8), i) for i in range(10)]
    loader = DataLoader(
        distinct, 5, shuffle=shuffle, num_workers=workers, persistent_workers=persistent, collate_fn=collate,
        multiprocessing_context=method,
    )  # fmt: skip
    return collate, loader


WORKERS = [(0, False, None), (2, False, "fork"), (2, True, "fork"), (1, True, "spawn"), (1, False, "forkserver")]


@pytest.mark.parametrize(("workers", "persistent", "method"), WORKERS)
def test_a_schedule_that_nobody_drives_counts_passes(workers, persistent, method):
    collate, loader = scheduled(workers, persistent, method=method, start=1, off=3)
    assert mixed_shares(loader, 4) == [0, 1, 1, 0]
    assert collate.epoch == 3


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_counted_passes_give_the_bytes_of_told_epochs(workers, persistent):
    def epochs(tell):
        collate, loader = scheduled(workers, persistent, shuffle=False)
        found = []
        for epoch in range(3):
            if tell:
                collate.set_epoch(epoch)
            found.append([images.numpy().tobytes() for images, _ in loader])
        return found

    assert epochs(tell=True) == epochs(tell=False)


def test_what_is_told_counts_from_then_on():
    collate, loader = scheduled(0, False, start=1)
    assert mixed_shares(loader, 2) == [0, 1]
    collate.set_epoch(0)
    assert mixed_shares(loader, 2) == [0, 1]


def test_an_epoch_that_a_sampler_begins_again_is_warned_of():
    """After a `break`, or where a framework resumes without telling the sampler its epoch."""
    collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0)
    sampler = EpochSampler(range(8))
    loader = DataLoader(Indexed(Numbers(8)), 4, sampler=sampler, collate_fn=collate)
    next(iter(loader))
    sampler.set_epoch(0)
    with pytest.warns(UserWarning, match=r"twice in epoch 0.* the EpochSampler has started this epoch again"):
        next(iter(loader))
    assert collate.epoch == 0


def test_workers_that_are_threads_are_of_one_pass():
    """As MONAI's ThreadDataLoader has them: torch's worker loop, in several threads of the process."""
    counter, info = EpochCounter(), SimpleNamespace(seed=0, id=0)

    def work(number, seed):
        info.seed, info.id = seed + number, number
        return counter.epoch_of(_MapDatasetFetcher(range(3), True, list, False))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("miamix_cpu.workers.passes._worker_info", lambda: info)
        for expected in range(3):
            for number in range(2):
                with ThreadPoolExecutor(1) as threads:
                    assert threads.submit(work, number, 1000 * expected).result()[0] == expected


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_passes_before_which_torch_is_seeded_alike(workers, persistent):
    """By a validation that fixes its seed, say; all of them have one base seed."""
    collate, loader = scheduled(workers, persistent, start=1, off=3)
    found = []
    for _ in range(4):
        torch.manual_seed(1234)
        found += mixed_shares(loader, 1)
    assert found == [0, 1, 1, 0]
    assert collate.epoch == 3


def test_a_pass_without_end_is_warned_of():
    class Endless(torch.utils.data.Sampler):
        def __iter__(self):
            while True:
                yield from torch.randperm(10).tolist()

    collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, schedule=MixSchedule(off=1))
    distinct = [(np.full((4, 4, 3), i, np.uint8), i) for i in range(10)]
    loop = iter(DataLoader(distinct, 3, sampler=Endless(), collate_fn=collate))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(13):
            next(loop)
    with pytest.warns(UserWarning, match=r"the pass over the loader does not end.*call collate.set_epoch"):
        next(loop)


def train_in_a_rank(collate, dataset, queue, epoch):
    """Workers that live on are there already when the epoch is told."""
    loader = DataLoader(
        [(np.full((4, 4, 3), i, np.uint8), i) for i in range(10)], 5, num_workers=1, persistent_workers=True,
        collate_fn=collate, multiprocessing_context="fork",
    )  # fmt: skip
    before = mixed_shares(loader, 1)
    collate.set_epoch(epoch)
    dataset.set_epoch(epoch)
    queue.put((before, mixed_shares(loader, 2), collate.epoch, dataset[0][0][0].tobytes()))


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_ranks_that_share_a_collator_have_epochs_of_their_own(method):
    collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, schedule=MixSchedule(start=5))
    dataset = TwoViews(Numbers(4), CROP)
    context = torch.multiprocessing.get_context(method)
    queue = context.Queue()
    for epoch in (5, 0):
        process = context.Process(target=train_in_a_rank, args=(collate, dataset, queue, epoch))
        process.start()
        before, after, current, view = queue.get(timeout=120)
        process.join()
        assert (before, after, current) == ([0], [float(epoch == 5)] * 2, epoch + 1)
        expected = TwoViews(Numbers(4), CROP)
        expected.set_epoch(epoch)
        assert view == expected[0][0][0].tobytes()
    assert collate.epoch == 0


def test_two_loaders_of_a_collator_are_counted_apart():
    collate, loader = scheduled(0, False, start=1)
    other = DataLoader([(np.full((4, 4, 3), i, np.uint8), i) for i in range(6)], 3, collate_fn=collate)
    assert mixed_shares(loader, 1) == mixed_shares(other, 1) == [0]
    assert mixed_shares(loader, 1) == mixed_shares(other, 1) == [1]


def test_passes_that_run_side_by_side_in_one_process():
    _, loader = scheduled(0, False, start=1)
    first, second = iter(loader), iter(loader)
    unmixed, mixed = zip(*[(next(first)[1], next(second)[1]) for _ in range(2)], strict=True)
    assert torch.cat(unmixed).amax(dim=1).min() == 1
    assert torch.cat(mixed).amax(dim=1).max() < 1


def test_views_of_a_dataset_differ_by_pass_too():
    for workers in (0, 2):
        loader = DataLoader(TwoViews(Numbers(6), CROP), 3, num_workers=workers, collate_fn=list)
        passes = [[pair[0].tobytes() for batch in loader for pair, _ in batch] for _ in range(3)]
        assert len({view for views in passes for view in views}) == 18


def test_more_passes_than_are_remembered():
    counter = EpochCounter()
    fetchers = [_MapDatasetFetcher(range(3), True, list, False) for _ in range(200)]
    assert [counter.epoch_of(fetcher) for fetcher in fetchers] == [(epoch, True) for epoch in range(200)]
    assert counter.epoch_of(fetchers[7]) == (7, False)


def test_passes_are_counted_on_from_what_was_told():
    """Who resumes in epoch 5 tells it once, as with EpochSampler."""
    collate, loader = scheduled(0, False, off=7)
    collate.set_epoch(5)
    assert mixed_shares(loader, 4) == [1, 1, 0, 0]
    assert collate.epoch == 8
    collate.set_epoch(6)
    assert mixed_shares(loader, 2) == [1, 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_that_grows_is_the_same(workers):
    collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, schedule=MixSchedule(start=2))
    samples, found = [(np.full((4, 4, 3), i, np.uint8), i % 10) for i in range(8)], []
    loader = DataLoader(samples, 4, num_workers=workers, collate_fn=collate)
    for _ in range(4):
        found += mixed_shares(loader, 1)
        samples += [(image + np.uint8(40), label) for image, label in samples[-4:]]
    assert found == [0, 0, 1, 1]


class NoLength(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([(np.full((4, 4, 3), i, np.uint8), i) for i in range(8)])

    def __len__(self):
        raise TypeError("doesn't have valid length")


def test_a_dataset_that_does_not_tell_its_length():
    collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, schedule=MixSchedule(start=1))
    assert mixed_shares(DataLoader(NoLength(), 4, collate_fn=collate), 2) == [0, 1]


def test_replay_leaves_the_epoch_alone():
    collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, schedule=MixSchedule(start=1), return_batch=True)
    samples = [Indexed(Numbers(4))[EpochIndex(1, i)] for i in range(4)]
    plan = collate(samples).plan
    collate.set_epoch(3)
    collate.replay(samples, plan)
    assert collate.epoch == 3
    plain = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, schedule=MixSchedule(start=1), return_batch=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            plain.replay(samples, plan)


def test_evaluating_again_and_again_warns_of_nothing():
    evaluate = MiAMixCollator(10, seed=0).plain(CROP)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            evaluate([Numbers(4)[i] for i in range(4)])
            list(DataLoader(Numbers(8), 4, collate_fn=evaluate))


def test_a_deep_copy_of_two_views_is_in_the_same_epoch():
    dataset = TwoViews(Numbers(4), CROP)
    copied = copy.deepcopy(dataset)
    dataset.set_epoch(3)
    np.testing.assert_array_equal(copied[0][0][0], dataset[0][0][0])
    assert copied.dataset is not dataset.dataset


def test_a_schedule_that_cannot_be_counted_is_warned_of_once():
    collate, _ = scheduled(0, False, start=1)
    samples = [(np.full((4, 4, 3), i, np.uint8), i) for i in range(4)]
    with pytest.warns(UserWarning, match=r"depends on the epoch, but no one has set it, .*set_epoch.*EpochSampler"):
        collate(samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collate(samples[:3])
        told, _ = scheduled(0, False, start=1)
        told.set_epoch(0)
        told(samples)
        travels, _ = scheduled(0, False, start=1)
        travels([Indexed(samples)[EpochIndex(1, i)] for i in range(4)])


def test_equal_images_are_warned_of_though_nothing_is_mixed():
    """24 equal images have four augmentations, batch by batch the same."""
    collate = MiAMixCollator(10, seed=0).plain(CROP)
    loader = DataLoader([(np.zeros((8, 8, 3), np.uint8), 0)] * 24, 4, collate_fn=collate)
    with pytest.warns(UserWarning, match=r"the same batch came twice in epoch 0.*if the samples are equal.*index_key"):
        list(loader)
