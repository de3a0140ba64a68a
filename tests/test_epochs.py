import copy
import itertools
import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, WeightedRandomSampler
from torch.utils.data._utils.fetch import _MapDatasetFetcher

from miamix_cpu import EpochIndex, EpochSampler, Indexed, MiAMixCollator, MiAMixConfig, MixSchedule, TwoViews
from miamix_cpu.epochs import IndexedSample
from miamix_cpu.workers.epoch_state import EpochState
from miamix_cpu.workers.passes import EpochCounter
from tests.transforms import Numbers


def test_a_schedule_starts_ramps_and_switches_off():
    schedule = MixSchedule(start=2, ramp=3, off=8, probability=0.8)
    found = [schedule.probability_at(epoch) for epoch in range(10)]
    assert found == pytest.approx([0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0, 0])
    assert [MixSchedule().probability_at(epoch) for epoch in (0, 100)] == [1, 1]
    assert MixSchedule(probability=0.5).probability_at(0) == 0.5


@pytest.mark.parametrize(("changes", "error", "words"), [
    ({"start": -1}, ValueError, "start must be at least 0, got -1"),
    ({"ramp": 1.5}, TypeError, "ramp must be an integer, got 1.5"),
    ({"off": -2}, ValueError, "off must be at least 0, got -2"),
    ({"probability": 2}, ValueError, r"probability must be in \[0, 1\], got 2"),
    ({"probability": "1"}, TypeError, "probability must be a number"),
])  # fmt: skip
def test_bad_schedules_are_named(changes, error, words):
    with pytest.raises(error, match=words):
        MixSchedule(**changes)


def test_a_repeated_key_warns_once():
    state = EpochState()
    keys = [os.urandom(16) for _ in range(500)]
    for key in keys:
        state.remember(key)
    with pytest.warns(UserWarning, match=r"the same batch came twice in epoch 0.*set_epoch"):
        state.remember(keys[77])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state.remember(keys[78])


def test_a_new_epoch_forgets_the_keys():
    state = EpochState()
    key = os.urandom(16)
    state.remember(key)
    state.set(1)
    state.remember(key)
    state.set(1)
    with pytest.warns(UserWarning, match="the same batch came twice in epoch 1"):
        state.remember(key)


def test_more_batches_than_are_remembered():
    state = EpochState()
    for _ in range(5000):
        state.remember(os.urandom(16))


class Loader:
    """What a DataLoader's fetcher does: it calls the collate function from a method `fetch`, one fetcher a loop."""

    def __init__(self, state):
        self.state = state

    def __iter__(self):
        fetcher = _MapDatasetFetcher(range(9), True, lambda samples: self.state.begin(), False)
        while True:
            yield fetcher.fetch([0])


def test_an_epoch_that_changes_during_a_loop_warns_once():
    state = EpochState()
    loop = iter(Loader(state))
    assert [next(loop), next(loop)] == [0, 0]
    state.set(1)
    with pytest.warns(UserWarning, match="the epoch changed from 0 to 1 in the middle of a loop"):
        assert next(loop) == 1
    state.set(2)
    assert next(loop) == 2


def test_loops_left_early_and_batches_by_hand_do_not_warn():
    state = EpochState()
    for epoch in range(5):
        state.set(epoch)
        loop = iter(Loader(state))
        assert [next(loop), next(loop)] == [epoch, epoch]
        assert state.begin() == epoch
    state.set(7)
    assert state.begin() == 7


def test_what_workers_make_for_loops_left_early_is_counted_loop_by_loop(monkeypatch):
    monkeypatch.setattr("miamix_cpu.workers.epoch_state.get_worker_info", lambda: object())
    state = EpochState()
    for epoch in range(4):
        loop = iter(Loader(state))
        assert next(loop) == epoch
        state.set(epoch + 1)
        assert [next(loop), next(loop), next(loop)] == [epoch + 1] * 3
    with pytest.warns(UserWarning, match="the epoch changed from 3 to 4 in the middle of a loop"):
        next(loop)


def in_another_process(function, *arguments):
    """What `function` puts into a queue in a spawned process."""
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=function, args=(*arguments, queue))
    process.start()
    found = queue.get(timeout=60)
    process.join()
    return found


@pytest.mark.parametrize(
    "copied",
    [lambda s: s, lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy],
    ids=["itself", "pickle", "deepcopy"],
)
def test_other_processes_see_the_epoch_change(copied):
    original = EpochState()
    original.set(3)
    state = copied(original)
    assert state.epoch == 3
    context = torch.multiprocessing.get_context("spawn")
    there, here = context.Pipe()
    process = context.Process(target=tell_epochs, args=(state, there))
    process.start()
    assert here.recv() == 3
    state.set(41)
    here.send("go on")
    assert here.recv() == 41
    process.join()


def tell_epochs(state, connection):
    connection.send(state.epoch)
    connection.recv()
    connection.send(state.epoch)


def test_a_deep_copy_is_in_the_same_epoch():
    """Of a loader, say, whose schedule would never end."""
    original = EpochState()
    copied = copy.deepcopy({"loader": original})["loader"]
    original.set(5)
    assert copied.epoch == 5


def test_each_of_several_processes_that_train_has_an_epoch_of_its_own():
    """`torch.multiprocessing.spawn` gives all of them one collator."""
    state = EpochState()
    state.set(1)
    assert in_another_process(set_and_tell, state) == (1, 7)
    assert state.epoch == 1


def set_and_tell(state, queue):
    before = state.epoch
    state.set(7)
    queue.put((before, state.epoch))


class Sampler(list):
    def set_epoch(self, epoch):
        self.epoch = epoch


def test_the_epoch_travels_with_the_index():
    inner = Sampler([4, 2])
    sampler = EpochSampler(inner)
    assert len(sampler) == 2
    assert list(sampler) == [EpochIndex(0, 4), EpochIndex(0, 2)]
    assert list(sampler) == [EpochIndex(1, 4), EpochIndex(1, 2)]
    assert inner.epoch == 1  # a DistributedSampler shuffles anew
    sampler.set_epoch(9)
    assert list(sampler) == [EpochIndex(9, 4), EpochIndex(9, 2)]
    dataset = Indexed(["a", "b", "c", "d", "e"])
    assert len(dataset) == 5
    assert dataset[EpochIndex(9, 4, 1)] == IndexedSample(9, 4, "e", 1)
    with pytest.raises(TypeError, match=r"Indexed must be asked by an EpochSampler, .* got 4: .*overfit_batches"):
        dataset[4]


# Samples that are drawn several times ------------------------------------------------------------------------------------


def test_draws_are_counted_epoch_by_epoch():
    sampler = EpochSampler([5, 5, np.int64(5), torch.tensor(5), 2, "a", "a"])
    for _ in range(2):
        assert [key.draw for key in sampler] == [0, 1, 2, 3, 0, 0, 1]


def test_ranks_that_draw_the_same_samples_number_their_draws_differently():
    keys = [key for rank in range(3) for key in EpochSampler([7, 7], rank=rank, num_replicas=3)]
    assert sorted(key.draw for key in keys) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="rank must be below num_replicas=2, got 2"):
        EpochSampler([1], rank=2, num_replicas=2)


CROP = A.Compose([A.RandomCrop(6, 6), A.HorizontalFlip(), A.RandomBrightnessContrast(p=1)])


def weighted():
    return WeightedRandomSampler([1, 0, 0, 0], 25, generator=torch.Generator().manual_seed(0))


def views_of(loader):
    return [first.tobytes() for batch in loader for sample in batch for first in sample.sample[0]]


@pytest.mark.parametrize("workers", [0, 2])
def test_each_draw_of_a_sample_has_views_of_its_own(workers):
    """Weighted sampling, repeated augmentation: 25 draws of one sample, 50 views."""
    found = []
    for count in (workers, 0):
        dataset = TwoViews(Indexed(Numbers(4)), CROP)
        loader = DataLoader(dataset, 5, sampler=EpochSampler(weighted()), num_workers=count, collate_fn=list)
        found.append(views_of(loader))
    assert found[0] == found[1]
    assert len(set(found[0])) == 50


def test_draws_count_on_where_a_run_is_resumed_in_mid_epoch():
    """Frameworks skip what the sampler yields."""

    def loader(skipped):
        class Resumed(torch.utils.data.Sampler):
            def __iter__(self):
                return itertools.islice(EpochSampler(weighted()), skipped, None)

        dataset = TwoViews(Indexed(Numbers(4)), CROP)
        return DataLoader(dataset, 5, sampler=Resumed(), collate_fn=list)

    assert views_of(loader(10)) == views_of(loader(0))[20:]


def test_draws_are_part_of_a_batchs_key():
    collate = MiAMixCollator(10, MiAMixConfig.plain("mixup"), seed=0, return_batch=True)
    samples = [[Indexed(Numbers(4))[EpochIndex(0, index, draw)] for index in (1, 2)] for draw in (0, 1, 0)]
    keys = [collate(batch).plan.key for batch in samples[:2]]
    assert keys[0] != keys[1]


# An EpochSampler where nobody understands it -----------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", [
    Numbers(4), [(0, 1)] * 4, torch.utils.data.Subset(Indexed(Numbers(4)), [0, 1, 2]),
    torch.utils.data.ConcatDataset([Indexed(Numbers(4))]), torch.utils.data.random_split(Indexed(Numbers(4)), [2, 2])[0],
], ids=["dataset", "list", "subset", "concat", "split"])  # fmt: skip
def test_datasets_that_take_its_keys_for_numbers_are_told(dataset):
    loader = DataLoader(dataset, 2, sampler=EpochSampler(range(2)), collate_fn=list)
    with pytest.raises(TypeError, match=r"only an Indexed dataset understands: put it on the outside.*Indexed\(Subset"):
        next(iter(loader))


@pytest.mark.parametrize("dataset", [torch.zeros(4, 3, 8, 8), np.zeros((4, 3, 8, 8))], ids=["tensor", "array"])
def test_arrays_do_not_take_a_key_for_indices_of_several_axes(dataset):
    with pytest.raises((TypeError, IndexError), match=r"EpochIndex|only integers"):
        dataset[EpochIndex(0, 1)]


@pytest.mark.parametrize("use", [
    lambda key: 15 - key, lambda key: key // 2, lambda key: key * 2, lambda key: f"{key:05d}", lambda key: {1: 2}.get(key, 0),
    lambda key: {1: 2}[key], int, hash, lambda key: key < 3,
], ids=["minus", "half", "twice", "format", "get", "dict", "int", "hash", "compared"])  # fmt: skip
def test_whatever_a_dataset_does_with_a_key_is_told(use):
    with pytest.raises(TypeError, match="only an Indexed dataset understands"):
        use(EpochIndex(0, 1))
    assert f"{EpochIndex(0, 1)}" == "EpochIndex(epoch=0, index=1, draw=0)"


def test_samplers_of_batches_go_outside():
    words = r"needs a sampler of single indices, got {}, .* BatchSampler\(EpochSampler\(sampler\)"
    with pytest.raises(TypeError, match=words.format("BatchSampler")):
        EpochSampler(BatchSampler(range(8), 4, False))
    for batches in ([[1, 2], [3, 4]], [np.arange(2)], [torch.arange(2)]):
        with pytest.raises(TypeError, match=words.format("list")):
            list(EpochSampler(batches))


# Epochs that nobody tells ------------------------------------------------------------------------------------------------


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
    with pytest.warns(UserWarning, match=r"twice in epoch 0.* its EpochSampler has begun this epoch again"):
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
    with pytest.warns(UserWarning, match=r"goes on and on.*call collate.set_epoch"):
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
    with pytest.warns(UserWarning, match=r"depends on the epoch, but nobody has told it .*set_epoch.*EpochSampler"):
        collate(samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collate(samples[:3])
        told, _ = scheduled(0, False, start=1)
        told.set_epoch(0)
        told(samples)
        travels, _ = scheduled(0, False, start=1)
        travels([Indexed(samples)[EpochIndex(1, i)] for i in range(4)])


@pytest.mark.parametrize(("options", "words"), [
    ({"off": 0}, r"off=0\) never mixes.*0 means never in timm, off=args.mixup_off_epoch or None"),
    ({"start": 5, "off": 3}, r"start=5, off=3\) never mixes"),
    ({"start": 3, "off": 3}, r"start=3, off=3\) never mixes"),
])  # fmt: skip
def test_a_schedule_that_never_mixes_is_warned_of(options, words):
    with pytest.warns(UserWarning, match=words):
        MixSchedule(**options)


def test_equal_images_are_warned_of_though_nothing_is_mixed():
    """24 equal images have four augmentations, batch by batch the same."""
    collate = MiAMixCollator(10, seed=0).plain(CROP)
    loader = DataLoader([(np.zeros((8, 8, 3), np.uint8), 0)] * 24, 4, collate_fn=collate)
    with pytest.warns(UserWarning, match=r"the same batch came twice in epoch 0.*its samples are equal.*index_key"):
        list(loader)
