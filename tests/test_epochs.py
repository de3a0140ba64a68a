import copy
import os
import pickle
import warnings

import pytest
import torch
from torch.utils.data._utils.fetch import _MapDatasetFetcher

from miamix_cpu import EpochSampler, Indexed, MixSchedule
from miamix_cpu.epochs import IndexedSample
from miamix_cpu.shared import EpochState


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
    monkeypatch.setattr("miamix_cpu.shared.get_worker_info", lambda: object())
    state = EpochState()
    for epoch in range(4):
        loop = iter(Loader(state))
        assert next(loop) == epoch
        state.set(epoch + 1)
        assert [next(loop), next(loop), next(loop)] == [epoch + 1] * 3
    with pytest.warns(UserWarning, match="the epoch changed from 3 to 4 in the middle of a loop"):
        next(loop)


def test_state_is_shared_with_other_processes():
    state = EpochState()
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=read_epoch, args=(state, queue))
    state.set(41)
    process.start()
    assert queue.get(timeout=60) == 41
    process.join()
    assert state.epoch == 42


def read_epoch(state, queue):
    queue.put(state.epoch)
    state.set(42)


@pytest.mark.parametrize("copied", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_copy_of_the_state_is_shared_too(copied):
    original = EpochState()
    original.set(3)
    state = copied(original)
    assert state.epoch == 3
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=read_epoch, args=(state, queue))
    process.start()
    assert queue.get(timeout=60) == 3
    process.join()
    assert (state.epoch, original.epoch) == (42, 3)


class Sampler(list):
    def set_epoch(self, epoch):
        self.epoch = epoch


def test_the_epoch_travels_with_the_index():
    inner = Sampler([4, 2])
    sampler = EpochSampler(inner)
    assert len(sampler) == 2
    assert list(sampler) == [(0, 4), (0, 2)]
    assert list(sampler) == [(1, 4), (1, 2)]
    assert inner.epoch == 1  # a DistributedSampler shuffles anew
    sampler.set_epoch(9)
    assert list(sampler) == [(9, 4), (9, 2)]
    dataset = Indexed(["a", "b", "c", "d", "e"])
    assert len(dataset) == 5
    assert dataset[(9, 4)] == IndexedSample(9, 4, "e")
    with pytest.raises(TypeError, match=r"Indexed must be asked by an EpochSampler for \(epoch, index\), got 4"):
        dataset[4]
