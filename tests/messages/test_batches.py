"""What a batch is made of, and what comes out unmixed."""

import collections
import warnings

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from miamix_cpu import MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig, TwoViews
from miamix_cpu.checks import short
from tests.messages.common import IMAGE, PLAIN, told


@pytest.mark.parametrize("samples", [
    (np.zeros((4, 8, 8), np.uint8), np.arange(4)), [torch.zeros(4, 8, 8), torch.arange(4)],
    {"image": np.zeros((4, 8, 8, 3), np.uint8), "label": np.arange(4)},
    (np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)), [torch.zeros(4, 3, 8, 8), torch.arange(4)],
    torch.zeros(4, 3, 8, 8),
], ids=["grey", "grey tensors", "columns", "arrays", "tensors", "one tensor"])  # fmt: skip
def test_a_whole_batch_belongs_elsewhere(samples):
    kind, words = told(MiAMixCollator(10, PLAIN, seed=0), samples)
    assert kind is TypeError
    assert words.startswith("samples must be a list of samples, got ")
    assert "to MiAMixBatch" in words


def test_a_loader_without_a_batch_size_is_told():
    batches = [{"image": np.zeros((4, 8, 8, 3), np.uint8), "label": np.arange(4)}]
    loader = DataLoader(batches, batch_size=None, collate_fn=MiAMixCollator(10, PLAIN, seed=0))
    with pytest.raises(TypeError, match=r"DataLoader\(batch_size=None\).*MiAMixBatch"):
        next(iter(loader))


def test_columns_by_position_for_a_function_of_columns():
    with pytest.raises(TypeError, match=r"pass columns, {'image': ..., 'label': ...}, to MiAMixBatch"):
        MiAMixBatch(10, PLAIN)((np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)))


@pytest.mark.parametrize("samples", [
    [[{"image": np.zeros((3, 64, 64)), "label": 1}] * 4] * 2, [[np.zeros((64, 64))] * 4] * 2,
    [(IMAGE, [np.zeros(500)] * 3)] * 2, [(IMAGE, np.zeros(5000))] * 2, [(IMAGE, "x" * 5000)] * 2,
    [({"a": np.zeros(5000)}, 1)] * 2,
])  # fmt: skip
def test_no_message_prints_an_array(samples):
    told(MiAMixCollator(10, PLAIN, seed=0), samples)


@pytest.mark.parametrize(("value", "words"), [
    (np.zeros((3, 4)), "ndarray of float64 (3, 4)"), (torch.zeros(2), "Tensor of torch.float32 (2,)"), (7, "7"),
    ([np.zeros(3)] * 2, "a list of 2 (ndarray)"), ({"a": [1]}, "a dict of 1 (list)"), ("x" * 500, None), ([1, 2], "[1, 2]"),
    (list(range(1000)), "[0, 1, 2, 3, 4, 5, ...]"),
])  # fmt: skip
def test_values_are_cut_short(value, words):
    assert len(short(value)) <= 200
    assert words is None or short(value) == words


Pair = collections.namedtuple("Pair", "picture target name")


def test_named_tuples_come_back_as_they_went_in():
    samples = [Pair(IMAGE, i, i) for i in range(4)]
    batch = MiAMixCollator(10, PLAIN, seed=0)(samples)
    assert type(batch) is Pair
    assert batch.picture.shape == (4, 3, 8, 8)
    assert batch.name.tolist() == [0, 1, 2, 3]
    assert (
        type(MiAMixCollator(10, PLAIN, seed=0, return_masks=True)(samples)) is tuple
    )  # there is a part without a name
    assert type(TwoViews(samples, lambda image: image)[0]) is Pair
    assert type(MiAMixBatch(10, PLAIN)(samples)) is Pair


def test_a_batch_of_one_that_comes_out_unmixed_is_warned_of_once():
    collate = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0)
    with pytest.warns(UserWarning, match=r"a batch of one sample came out unmixed.*drop_last=True"):
        collate([(IMAGE, 0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collate([(IMAGE, 1)])
        twice = MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0, transform=A.Compose([A.HorizontalFlip()]))
        twice([(IMAGE, 0)])  # mixed with another view of itself


def test_self_pairs_without_a_second_view_are_warned_of_once():
    images = np.zeros((64, 8, 8, 3), np.uint8)
    mix, rng = MiAMix(10), np.random.default_rng(0)
    with pytest.warns(
        UserWarning,
        match=r"\d of 64 samples are paired with themselves but have no second view, so they come out unmixed.*second=",
    ):
        mix(images, [0] * 64, rng=rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mix(images, [0] * 64, rng=rng)
        MiAMix(10)(images, [0] * 64, second=images, rng=rng)
        MiAMix(10, MiAMixConfig(p_self=0.0))(images, [0] * 64, rng=rng)


def test_extras_may_be_collated_otherwise():
    samples = [(IMAGE, i, torch.full((2,), i)) for i in range(3)]
    _, _, extras = MiAMixCollator(10, PLAIN, seed=0, collate_extras=torch.cat)(samples)
    assert extras.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(TypeError, match="collate_extras must be callable, got 3"):
        MiAMixCollator(10, collate_extras=3)

    def fails(values):
        raise KeyError("no")

    with pytest.raises(KeyError) as caught:
        MiAMixCollator(10, PLAIN, seed=0, collate_extras=fails)(samples)
    assert caught.value.__notes__ == ["raised by fails, for the samples' 2"]
