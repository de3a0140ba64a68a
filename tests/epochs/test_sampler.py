"""EpochSampler and Indexed: epoch and draw travel with each index."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, WeightedRandomSampler

from miamix_cpu import EpochIndex, EpochSampler, Indexed, MiAMixCollator, MiAMixConfig, TwoViews
from miamix_cpu.epochs import IndexedSample
from tests.epochs.common import CROP
from tests.transforms import Numbers


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
    with pytest.raises(
        TypeError, match=r"an Indexed dataset needs the indices of an EpochSampler, .* got 4: .*overfit_batches"
    ):
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
    with pytest.raises(TypeError, match=r"only an Indexed dataset accepts it. Wrap the dataset.*Indexed\(Subset"):
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
    with pytest.raises(TypeError, match="only an Indexed dataset accepts it"):
        use(EpochIndex(0, 1))
    assert f"{EpochIndex(0, 1)}" == "EpochIndex(epoch=0, index=1, draw=0)"


def test_samplers_of_batches_go_outside():
    words = r"needs a sampler of single indices, got {}, .* BatchSampler\(EpochSampler\(sampler\)"
    with pytest.raises(TypeError, match=words.format("BatchSampler")):
        EpochSampler(BatchSampler(range(8), 4, False))
    for batches in ([[1, 2], [3, 4]], [np.arange(2)], [torch.arange(2)]):
        with pytest.raises(TypeError, match=words.format("list")):
            list(EpochSampler(batches))
