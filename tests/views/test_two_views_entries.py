"""Further entries of a dataset's items that TwoViews makes pairs of."""

import copy
from typing import Any, NamedTuple

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from miamix_cpu import EpochIndex, EpochSampler, Indexed, MiAMixCollator, MiAMixConfig, TwoViews
from tests.collate.common import UNMIXED

pytestmark = UNMIXED
CROP = A.Compose([A.RandomCrop(5, 5), A.D4()])


class Item(NamedTuple):
    image: Any
    label: int
    name: str
    map: Any
    more: Any


def item_of(i):
    """The map's numbers are those of the image's channel, the other map's are half of them."""
    values = np.random.default_rng(i).permutation(np.arange(0, 252, 2, dtype=np.uint8)[:72]).reshape(8, 9)
    return Item(np.repeat(values[..., None], 3, 2), i, f"item {i}", values.astype(np.int64), values // 2)


def by_dict(entries):
    y, x = np.random.randint(0, 4, 2)
    return {key: value[y : y + 5, x : x + 5] for key, value in entries.items()}


ITEMS = [item_of(i) for i in range(6)]


@pytest.mark.parametrize("transform", [CROP, by_dict], ids=["albumentations", "callable"])
@pytest.mark.parametrize("kind", [tuple, list, Item._make, Item._asdict], ids=["tuple", "list", "named", "dict"])
def test_entries_follow_the_geometry_of_both_views(kind, transform):
    items = [kind(item) for item in ITEMS]
    keys = ("map", "more") if isinstance(items[0], dict) else (3, 4)
    before = copy.deepcopy(items)
    dataset, differ = TwoViews(items, transform, seed=2, also=keys), 0
    for i, own in enumerate(items):
        item = dataset[i]
        images = item["image"] if isinstance(item, dict) else item[0]
        differ += not np.array_equal(*images)
        for image, map_, more in zip(images, item[keys[0]], item[keys[1]], strict=True):
            assert image.shape == (5, 5, 3)
            assert (map_.dtype, more.dtype) == (np.int64, np.uint8)
            np.testing.assert_array_equal(map_, image[..., 0])
            np.testing.assert_array_equal(more, image[..., 0] // 2)
        assert type(item) is (tuple if isinstance(own, list) else type(own))
        assert (item["name"] if isinstance(item, dict) else item[2]) == f"item {i}"
        assert not isinstance(item, dict) or list(item) == list(own)
    assert differ > 3
    for item, kept in zip(items, before, strict=True):
        parts = (
            zip(item.values(), kept.values(), strict=True) if isinstance(item, dict) else zip(item, kept, strict=True)
        )
        assert all(np.array_equal(one, other) for one, other in parts)


def test_entries_leave_the_views_as_they_are():
    without, with_entries = (TwoViews(ITEMS, CROP, seed=2, also=also) for also in ((), (3,)))
    for i in range(6):
        np.testing.assert_array_equal(without[i][0], with_entries[i][0])
        assert without[i][3] is ITEMS[i].map


@pytest.mark.parametrize("kind", [torch.from_numpy, Image.fromarray], ids=["tensors", "pictures"])
def test_tensors_and_pictures(kind):
    def moved(image):
        return torch.from_numpy(image).permute(2, 0, 1) if kind is torch.from_numpy else kind(image)

    items = [
        {"image": moved(item.image), "label": 0, "copy": moved(item.image), "map": kind(item.more)} for item in ITEMS
    ]
    dataset = TwoViews(items, A.Compose([*CROP.transforms], additional_targets={"copy": "image"}), also=["copy", "map"])
    for i in range(6):
        item = dataset[i]
        for image, other, map_ in zip(item["image"], item["copy"], item["map"], strict=True):
            np.testing.assert_array_equal(image, other)
            np.testing.assert_array_equal(map_, image[..., 0] // 2)


@pytest.mark.parametrize(
    "transform", [A.NoOp(), lambda x: x, lambda x: {k: v[:] for k, v in x.items()}], ids=["no-op", "same", "views"]
)
def test_pairs_do_not_share_the_datasets_memory(transform):
    items = [item_of(0)]
    before = copy.deepcopy(items)
    item = TwoViews(items, transform, also=(3, 4))[0]
    for view in (*item[0], *item[3], *item[4]):
        view[:] = 0
    np.testing.assert_array_equal(items[0].map, before[0].map)
    np.testing.assert_array_equal(items[0].more, before[0].more)


class Reuses:
    def __init__(self):
        self.map = np.empty((8, 9), np.int64)

    def __call__(self, entries):
        self.map[:] = entries[3] + np.random.randint(1, 100)
        return {"image": entries["image"] + 1, 3: self.map}


def test_maps_in_reused_memory_are_not_written_over():
    dataset = TwoViews(ITEMS, Reuses(), also=(3,))
    made = [dataset[i][3] for i in range(6)]
    added = [[np.unique(map_ - item.map).tolist() for map_ in pair] for item, pair in zip(ITEMS, made, strict=True)]
    assert all(len(part) == 1 for pair in added for part in pair)
    assert len({part[0] for pair in added for part in pair}) > 6


def test_the_epoch_that_travels_draws_other_maps():
    """And the same for any number of workers, in the label's place too."""
    items = [(item.image, item.map) for item in ITEMS]
    batches = []
    for workers in (0, 2):
        dataset = TwoViews(Indexed(items), CROP, seed=4, also=(1,))
        collate = MiAMixCollator(2, MiAMixConfig.plain("cutmix", p_self=0.0), dtype="uint8", also={1: "choose"})
        loader = DataLoader(dataset, 6, sampler=EpochSampler(range(6)), collate_fn=collate, num_workers=workers)
        batches.append([batch for _ in range(2) for batch in loader])
    for (images, maps), (others, other_maps) in zip(*batches, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(maps, other_maps)
        assert torch.equal(images[:, 0], maps.to(torch.uint8))
    assert not torch.equal(batches[0][0][1], batches[0][1][1])
    assert dataset[EpochIndex(0, 1)].sample[1][0].shape == (5, 5)


def test_a_mapping_gives_its_keys():
    assert TwoViews(ITEMS, CROP, also={3: "choose", 4: ("soft", 3)}).also == (3, 4)
    assert TwoViews(ITEMS, CROP).also == ()
