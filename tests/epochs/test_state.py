"""A collator's epoch: keys that repeat, changes in the middle of a loop, other processes."""

import copy
import os
import pickle
import warnings

import pytest
import torch
from torch.utils.data._utils.fetch import _MapDatasetFetcher

from miamix_cpu.workers.epoch_state import EpochState


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
