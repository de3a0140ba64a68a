"""On a GPU: what arrives there is what was mixed, though memory is lent again as soon as the parent lets it go."""

import gc

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator, MiAMixConfig, mixed_accuracy, mixed_cross_entropy, normalize_on_device

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
BATCH, BATCHES = 32, 24


class Noise:
    """Images of noise, as many as there are batches for."""

    def __init__(self, side):
        self.side = side

    def __len__(self):
        return BATCH * BATCHES

    def __getitem__(self, i):
        return np.random.default_rng(i).integers(0, 256, (self.side, self.side, 3), dtype=np.uint8), i % 10


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize(("side", "dtype"), [(32, "uint8"), (96, "uint8"), (224, "float32")])
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_copies_that_are_under_way_keep_their_batch(pinned, side, dtype, start):
    """The device is busy when a copy is asked for, and the batch is let go at once: workers fill its memory anew."""
    collate, here = (MiAMixCollator(10, MiAMixConfig(p_self=0.0), seed=0, dtype=dtype) for _ in range(2))
    loader = DataLoader(
        Noise(side), BATCH, collate_fn=collate, num_workers=2, pin_memory=pinned, multiprocessing_context=start
    )
    busy = torch.rand(2048, 2048, device="cuda")
    arrived = []
    for images, targets in loader:
        for _ in range(20):
            busy = (busy @ busy).clamp_(0, 1)
        arrived.append((images.to("cuda", non_blocking=True), targets.to("cuda", non_blocking=True)))
        del images, targets
        gc.collect()
    mixed_here = DataLoader(Noise(side), BATCH, collate_fn=here)
    for (images, targets), (expected, soft) in zip(arrived, mixed_here, strict=True):
        assert torch.equal(images.cpu(), expected)
        assert torch.equal(targets.cpu(), soft)


def test_loss_accuracy_and_normalisation_are_those_of_the_cpu():
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    logits, soft = torch.randn(16, 10), torch.rand(16, 10).softmax(1)
    pair = torch.randint(0, 10, (16,)), torch.randint(0, 10, (16,)), torch.rand(16)
    statistics = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    on_device = normalize_on_device(images.cuda(), *statistics)
    assert on_device.is_cuda
    torch.testing.assert_close(on_device.cpu(), normalize_on_device(images, *statistics))
    for targets, moved in ((soft, soft.cuda()), (pair, tuple(part.cuda() for part in pair))):
        for function in (mixed_cross_entropy, mixed_accuracy):
            torch.testing.assert_close(function(logits.cuda(), moved).cpu(), function(logits, targets))
