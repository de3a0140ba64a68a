"""torch's default device is the caller's, for tensors of the caller's."""

import albumentations as A
import numpy as np
import pytest
import torch

from miamix_cpu import MiAMixCollator, TwoViews, normalize_on_device
from tests.messages.common import IMAGE, PLAIN


@pytest.fixture
def elsewhere():
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize("options", [
    {}, {"targets": "pair"}, {"dtype": "bfloat16", "return_masks": True}, {"return_batch": True},
    {"memory_format": "channels_last"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("in_a_worker", [False, True])
def test_the_default_device_is_not_ours(options, in_a_worker, elsewhere, monkeypatch):
    from miamix_cpu.workers.shared_buffers import Lender
    from tests.shared_memory import as_a_worker

    def check():
        batch = MiAMixCollator(10, PLAIN, seed=0, **options)(
            [(np.zeros((64, 64, 3), np.uint8), i, i) for i in range(8)]
        )
        parts = [batch.images, batch.targets, batch.lam, batch.extras[2]] if options.get("return_batch") else batch
        flat = [part for whole in parts for part in (whole if isinstance(whole, tuple) else (whole,))]
        assert {part.device.type for part in flat} == {"cpu"}

    if in_a_worker:
        with as_a_worker(monkeypatch, Lender()):
            check()
    else:
        check()


def test_two_views_and_losses_under_a_default_device(elsewhere):
    from miamix_cpu import mixed_accuracy

    TwoViews([(IMAGE, 0)], A.Compose([A.HorizontalFlip()]))[0]
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8, device="cpu")
    assert normalize_on_device(images, (0.5,) * 3, (0.2,) * 3).device.type == "cpu"
    logits, targets = torch.zeros(2, 3, device="cpu"), torch.eye(3, device="cpu")[:2]
    assert mixed_accuracy(logits, targets).device.type == "cpu"
