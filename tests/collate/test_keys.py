"""What a batch's key is made of."""

import numpy as np
import pytest
import torch

from miamix_cpu import MiAMixCollator
from tests.collate.common import NO_SELF, UNMIXED, same, samples_of

pytestmark = UNMIXED


def test_seed_epoch_and_samples_matter():
    def first(seed=0, epoch=0, **options):
        collate = MiAMixCollator(10, NO_SELF, seed=seed)
        collate.set_epoch(epoch)
        return collate(samples_of(6, **options))[0]

    base = first()
    assert same(first(), base)
    for changed in (first(seed=1), first(epoch=1)):
        assert not same(changed, base)
    swapped = samples_of(6)[::-1]
    plans = [
        MiAMixCollator(10, NO_SELF, seed=0, return_batch=True)(samples).plan for samples in (samples_of(6), swapped)
    ]
    assert plans[0].key != plans[1].key


def test_labels_shapes_and_dtypes_are_part_of_the_key():
    def key(samples):
        return MiAMixCollator(10, NO_SELF, seed=0, return_batch=True, transform=lambda x: np.zeros((4, 4), np.uint8))(
            samples
        ).plan.key

    image = np.zeros((4, 6), np.uint8)
    base = key([(image, 1), (image, 2)])
    assert key([(image, np.int64(1)), (image, torch.tensor(2))]) == base
    different = [
        [(image, 1), (image, 3)], [(image.reshape(6, 4), 1), (image, 2)], [(image.astype(np.float32), 1), (image, 2)],
        [(image.reshape(6, 4), 1), (image.reshape(6, 4), 2)], [(image, 1), (image, 2), (image, 3)],
    ]  # fmt: skip
    assert len({base, *map(key, different)}) == 1 + len(different)


def test_an_index_is_hashed_instead_of_the_image():
    def key(images, index_key=2, as_dict=False):
        collate = MiAMixCollator(10, NO_SELF, seed=0, index_key=index_key, return_batch=True)
        samples = [(image, 0, i) for i, image in enumerate(images)]
        return collate(
            [dict(zip(("image", "label", "id"), s, strict=True)) for s in samples] if as_dict else samples
        ).plan.key

    one, two = ([image for image, _ in samples_of(3, seed=seed)] for seed in (0, 1))
    assert key(one) == key(two)
    assert key(one, "id", as_dict=True) == key(one)
    assert key(one, None) != key(two, None)
    with pytest.raises(ValueError, match="index_key must be a position in samples of 3 entries, got 7"):
        key(one, 7)
    with pytest.raises(ValueError, match="samples have no 'key'"):
        key(one, "key", as_dict=True)


def test_seed_is_taken_from_torch_without_disturbing_it():
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    assert MiAMixCollator(10).seed == 77
    assert torch.equal(torch.rand(3), expected)


def test_a_repeated_batch_warns_once():
    collate = MiAMixCollator(10, NO_SELF, seed=0)
    collate(samples_of(4))
    with pytest.warns(UserWarning, match="the same batch came twice in epoch 0") as found:
        collate(samples_of(4))
    assert found[0].filename == __file__
    collate(samples_of(4))
    plain = collate.plain()
    plain(samples_of(4))
    plain(samples_of(4))
