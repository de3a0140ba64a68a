"""Generators that a transform owns: seeded for each batch, and restored."""

import numpy as np
import pytest
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator
from tests.transforms import Numbers
from tests.views.common import PLAIN, grey, make
from tests.views.owners import OWNERS, OwnsNumPy, OwnsPython, OwnsState, OwnsTorch, Slots


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_workers_and_runs_agree_where_a_transform_owns_its_generator(owner):
    found = []
    for workers in (0, 2, 2):
        collate = MiAMixCollator(10, PLAIN, transform=owner(), seed=0, dtype="uint8")
        loader = DataLoader(Numbers(16), 8, collate_fn=collate, num_workers=workers)
        found.append([[images.numpy().tobytes() for images, _ in loader] for _ in range(2)])
    assert found[0] == found[1] == found[2]
    assert len({batch for epoch in found[0] for batch in epoch}) == 4


@pytest.mark.parametrize(
    "owner", [OwnsNumPy, OwnsState, OwnsPython, OwnsTorch, Slots], ids=lambda owner: owner.__name__
)
def test_an_owned_generator_is_restored(owner):
    used, untouched = owner(), owner()
    make(used, [image for image, _ in grey(6)])
    picture = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    for _ in range(20):
        np.testing.assert_array_equal(used(picture), untouched(picture))


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_views_of_one_batch_differ_and_batches_do_too(owner):
    """The same transform, whose own generator is as it was, on other streams."""
    picture = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    transform = owner()
    one, two, again = (np.array(make(transform, [picture] * 64, seed)) for seed in (0, 1, 0))
    assert 5 < (one == one[0]).all(axis=(1, 2, 3)).sum() < 56  # two outcomes, or four with the flip of a Compose
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one, again)
