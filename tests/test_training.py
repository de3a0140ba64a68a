"""Losses and metrics for mixed targets, and normalisation on the device."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from miamix_cpu import MiAMixCollator, MiAMixConfig, mixed_accuracy, mixed_cross_entropy, normalize_on_device

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def batch(**options):
    rng = np.random.default_rng(0)
    samples = [(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8), i % 7) for i in range(21)]
    return MiAMixCollator(7, MiAMixConfig(p_self=0), seed=0, **options)(samples)


@pytest.fixture
def logits():
    return torch.randn(21, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_both_formats_give_torchs_own_loss(logits, reduction):
    _, soft = batch()
    _, pair = batch(targets="pair")
    expected = F.cross_entropy(logits, soft, reduction=reduction)
    torch.testing.assert_close(mixed_cross_entropy(logits, soft, reduction=reduction), expected, rtol=0, atol=0)
    torch.testing.assert_close(mixed_cross_entropy(logits, pair, reduction=reduction), expected)
    gradients = [torch.autograd.grad(mixed_cross_entropy(logits, t), logits)[0] for t in (soft, pair)]
    torch.testing.assert_close(*gradients)


def test_both_formats_give_one_accuracy(logits):
    _, soft = batch()
    _, pair = batch(targets="pair")
    torch.testing.assert_close(mixed_accuracy(logits, soft), mixed_accuracy(logits, pair))
    assert mixed_accuracy(torch.eye(7) * 9, torch.arange(7)) == 1
    lam = pair[2]
    perfect = torch.where(lam[:, None] >= 0.5, F.one_hot(pair[0], 7), F.one_hot(pair[1], 7)).float()
    different = pair[0] != pair[1]
    best = torch.where(different, torch.maximum(lam, 1 - lam), 1.0).mean()
    torch.testing.assert_close(mixed_accuracy(perfect, pair), best)


def test_pairs_of_vectors(logits):
    rng = np.random.default_rng(0)
    samples = [(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.eye(7, dtype=np.float32)[i % 7]) for i in range(21)]
    config = MiAMixConfig(p_self=0)
    _, soft = MiAMixCollator(7, config, seed=0)(samples)
    _, pair = MiAMixCollator(7, config, seed=0, targets="pair")(samples)
    torch.testing.assert_close(mixed_cross_entropy(logits, pair), F.cross_entropy(logits, soft))
    torch.testing.assert_close(mixed_accuracy(logits, pair), mixed_accuracy(logits, soft))


@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_normalisation_on_the_device_equals_the_fused_one(memory_format):
    images, _ = batch(dtype="uint8", memory_format=memory_format)
    found = normalize_on_device(images, MEAN, STD)
    fused, _ = batch(mean=MEAN, std=STD, memory_format=memory_format)
    # Half a grey level of rounding to bytes, over 255 and the deviation.
    assert (found - fused).abs().max() <= 0.51 / 255 / min(STD)
    exact = (images.double() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-6)
    assert found.stride() == images.stride()
    assert normalize_on_device(images, MEAN, STD, torch.bfloat16).dtype == torch.bfloat16


def test_normalisation_reads_nothing_back_from_the_device():
    """A value of a GPU's would have to be waited for; a "meta" tensor has none."""
    images = torch.zeros((2, 3, 4, 5), dtype=torch.uint8, device="meta")
    assert normalize_on_device(images, MEAN, STD).shape == images.shape


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda x: normalize_on_device(x.float(), MEAN, STD), TypeError, r"images must be uint8 \(N, C, H, W\) .*, got torch.fl"),
    (lambda x: normalize_on_device(x[0], MEAN, STD), TypeError, "images must be uint8"),
    (lambda x: normalize_on_device(x, (0.5,), STD), ValueError, r"mean must have 3 values, one per channel, got 1"),
    (lambda x: normalize_on_device(x, MEAN, (0.1, 0, 1)), ValueError, "std must be above 0"),
    (lambda x: mixed_cross_entropy(torch.zeros(2, 2), (1, 2)), TypeError, r"targets must be a tensor \(N, C\), \(y_a"),
    (lambda x: mixed_cross_entropy(torch.zeros(2, 2), (1, 2, 3), reduction="no"), ValueError, "reduction must be"),
])  # fmt: skip
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
