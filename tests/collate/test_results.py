"""What MiAMixCollator returns: images and targets, their dtypes and layouts, whole batches."""

import collections
import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from miamix_cpu import MiAMix, MiAMixCollator, MiAMixConfig, MixedBatch
from miamix_cpu.plan.streams import PLAN, stream
from tests.collate.common import EVERYTHING, NO_SELF, UNMIXED, crop, samples_of
from tests.shared_memory import lies_in_shared_memory

pytestmark = UNMIXED


def test_images_and_targets():
    images, targets = MiAMixCollator(10, seed=0, transform=crop())(samples_of(12))
    assert (images.shape, images.dtype) == ((12, 3, 6, 6), torch.float32)
    assert (targets.shape, targets.dtype) == ((12, 10), torch.float32)
    assert images.is_contiguous()
    assert 0 <= images.min() < images.max() <= 1
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(12))
    F.cross_entropy(torch.zeros(12, 10), targets)


@pytest.mark.parametrize("n", [1, 2, 3, 33])
def test_any_batch_size(n):
    images, targets = MiAMixCollator(10, seed=0, transform=crop())(samples_of(n))
    assert len(images) == len(targets) == n


def test_equals_miamix_called_by_hand():
    samples = samples_of(20)
    batch = MiAMixCollator(10, NO_SELF, seed=3, dtype="uint8", return_batch=True)(samples)
    images, labels = (np.array(column) for column in zip(*samples, strict=True))
    expected = MiAMix(10, NO_SELF)(images, labels, rng=stream(batch.plan.key, PLAN))
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected.images)
    np.testing.assert_array_equal(batch.targets.numpy(), expected.targets)


@pytest.mark.parametrize("workers", [0, 2])
def test_identity(workers):
    """Who is mixed with whom, read back from the pixels, through the collator: a wrong partner's pixels would pass
    any test that uses one second view for all."""
    n = 40
    pairs = []
    for i in range(n):
        first, second = np.zeros((2, 16, 16, 3), np.uint8)
        first[..., 0], second[..., 1], second[..., 2] = 6 * i, 6 * i, 255
        pairs.append(((first, second), i))
    collate = MiAMixCollator(n, EVERYTHING, seed=1, return_batch=True)
    (batch,) = DataLoader(pairs, n, num_workers=workers, collate_fn=collate)
    means = batch.images.double().mean(dim=(2, 3)).numpy() * 255
    lam = 1 - means[:, 2] / 255
    np.testing.assert_allclose(lam, batch.lam, atol=1e-5)
    np.testing.assert_allclose(means[:, 0], 6 * lam * np.arange(n), atol=1e-2)
    np.testing.assert_allclose(means[:, 1], 6 * (1 - lam) * batch.partner.numpy(), atol=1e-2)
    for i in range(n):
        expected = np.zeros(n)
        expected[i] += batch.lam[i]
        expected[batch.partner[i]] += 1 - batch.lam[i]
        np.testing.assert_allclose(batch.targets[i], expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8", torch.float16, np.float32])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("workers", [0, 1])
def test_dtypes_and_memory_formats(dtype, memory_format, workers):
    samples = samples_of(6)
    reference, _ = MiAMixCollator(10, NO_SELF, seed=0)(samples)
    collate = MiAMixCollator(10, NO_SELF, seed=0, dtype=dtype, memory_format=memory_format)
    ((images, _),) = DataLoader(samples, 6, num_workers=workers, collate_fn=collate)
    name = str(dtype).removeprefix("torch.") if isinstance(dtype, (str, torch.dtype)) else "float32"
    assert images.dtype == getattr(torch, name)
    assert images.shape == (6, 3, 8, 8)
    kind = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    assert images.is_contiguous(memory_format=kind)
    values = images.float() / 255 if name == "uint8" else images.float()
    tolerance = {"float32": 0, "float16": 5e-4, "bfloat16": 4e-3, "uint8": 0.51 / 255}[name]
    assert (values - reference).abs().max() <= tolerance


@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_in_a_worker_the_batch_is_written_into_shared_memory(memory_format, monkeypatch):
    """What the kernel fills is the memory that travels: its tensor is shared, and nobody copies it."""
    from miamix_cpu import prepared as module
    from miamix_cpu.workers import transport

    monkeypatch.setattr(transport, "get_worker_info", lambda: object())
    monkeypatch.setattr("miamix_cpu.collate.settle_in_worker", lambda *_: None)
    written = []
    mix_views = module.mix_views
    monkeypatch.setattr(
        module, "mix_views", lambda plan, first, second, dtype, out, *rest, **options: written.append(out.ctypes.data)
        or mix_views(plan, first, second, dtype, out, *rest, **options),
    )  # fmt: skip
    images, targets = MiAMixCollator(2000, NO_SELF, seed=0, memory_format=memory_format)(samples_of(16, side=32))
    assert lies_in_shared_memory(images)
    assert lies_in_shared_memory(targets)
    assert images.data_ptr() == written[0]


def test_normalisation_is_fused():
    samples = samples_of(5)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    plain, _ = MiAMixCollator(10, NO_SELF, seed=0)(samples)
    found, _ = MiAMixCollator(10, NO_SELF, seed=0, mean=mean, std=std)(samples)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    torch.testing.assert_close(found, (plain - mean) / std, atol=2e-6, rtol=0)


@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("side", [1, 9])
def test_bytes_are_mixed_alike_whether_masks_are_made_or_not(side, channels, planar, memory_format):
    """Masks that are constant, or but for a box, are not made unless they are wanted."""
    samples = samples_of(32, side=side, channels=channels)
    if planar:
        samples = [(torch.from_numpy(image).permute(2, 0, 1).contiguous(), label) for image, label in samples]
    config = MiAMixConfig(methods=("mixup", "cutmix"), weights=(1, 1), p_self=0, p_aug=0, p_smooth=0)
    options = {"config": config, "seed": 0, "dtype": "uint8", "memory_format": memory_format}
    without, _ = MiAMixCollator(10, **options)(samples)
    wanted, _, masks = MiAMixCollator(10, **options, return_masks=True)(samples)
    assert masks.unique().numel() > 2
    assert torch.equal(without, wanted)


def test_pair_targets_smoothing_and_masks():
    samples = samples_of(9)
    images, (y_a, y_b, lam), masks = MiAMixCollator(10, NO_SELF, seed=0, targets="pair", return_masks=True)(samples)
    _, soft = MiAMixCollator(10, NO_SELF, seed=0)(samples)
    hot = F.one_hot(y_a, 10) * lam[:, None] + F.one_hot(y_b, 10) * (1 - lam[:, None])
    torch.testing.assert_close(soft, hot, atol=1e-6, rtol=0)
    assert y_a.dtype == y_b.dtype == torch.int64
    assert masks.shape == (9, 8, 8)
    torch.testing.assert_close(masks.mean(dim=(1, 2)), lam, atol=1e-6, rtol=0)
    _, smooth = MiAMixCollator(10, NO_SELF, seed=0, label_smoothing=0.1)(samples)
    torch.testing.assert_close(smooth, hot * 0.9 + 0.01, atol=1e-6, rtol=0)
    assert images.shape == (9, 3, 8, 8)


def test_return_batch():
    samples = [(image, label, f"name {label}", label * 2) for image, label in samples_of(5)]
    batch = MiAMixCollator(10, NO_SELF, seed=0, return_batch=True, return_masks=True)(samples)
    assert isinstance(batch, MixedBatch)
    assert all(
        isinstance(value, torch.Tensor)
        for value in (batch.images, batch.targets, batch.lam, batch.partner, batch.masks)
    )
    assert batch.extras[2] == [f"name {i}" for i in range(5)]
    assert batch.extras[3].tolist() == [0, 2, 4, 6, 8]
    assert batch.describe(2).startswith("sample 2 with sample ")
    assert batch.to(torch.float64).images.dtype == torch.float64
    assert batch.to("cpu").plan is batch.plan
    Pair = collections.namedtuple("Pair", "one two")
    nested = dataclasses.replace(batch, extras={"a": [torch.zeros(1)], "b": Pair(torch.zeros(1), "text")}).to("meta")
    assert nested.extras["a"][0].device == nested.extras["b"].one.device == nested.images.device == torch.device("meta")
    assert nested.extras["b"].two == "text"
    restored = pickle.loads(pickle.dumps(batch))
    assert torch.equal(restored.images, batch.images)


def test_plain_is_the_unmixed_twin():
    collate = MiAMixCollator(
        10, seed=0, transform=crop(), dtype="float16", label_smoothing=0.1, memory_format="channels_last"
    )
    plain = collate.plain()
    images, targets = plain(samples_of(5))
    assert (images.shape, images.dtype) == ((5, 3, 8, 8), torch.float16)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(targets, torch.eye(10)[:5])
    assert collate.plain(crop())(samples_of(5))[0].shape == (5, 3, 6, 6)
    assert collate.transform is not None
    assert collate.label_smoothing == 0.1
    plain.set_epoch(7)
    assert collate.epoch == 0
