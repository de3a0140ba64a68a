"""What frameworks do to a batch: a MixedBatch goes through it."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator, MiAMixConfig, MixedBatch
from tests.transforms import Numbers

NO_SELF = MiAMixConfig(p_self=0.0)


def batch_of(**options):
    collate = MiAMixCollator(1000, NO_SELF, seed=0, return_batch=True, return_masks=True, **options)
    pictures = [np.full((8, 8, 3), i, np.uint8) for i in range(4)]
    return collate([(picture, label, label) for picture, label in zip(pictures, (257, 999, 511, 3), strict=True)])


def same(one, two):
    assert type(one) is MixedBatch
    tensors = [(one.images, two.images), (one.lam, two.lam), (one.partner, two.partner), (one.masks, two.masks)]
    assert all(torch.equal(*pair) for pair in tensors)
    assert one.plan.layers.tobytes() == two.plan.layers.tobytes()
    assert one.plan.key == two.plan.key
    assert one.describe(0) == two.describe(0)
    assert one.extras[2].tolist() == two.extras[2].tolist()


@pytest.mark.parametrize("arguments", [
    ((torch.bfloat16,), {}), (("cpu", torch.bfloat16), {}), ((), {"dtype": torch.bfloat16}),
    ((torch.zeros(1, dtype=torch.bfloat16),), {}), ((), {"other": torch.zeros(1, dtype=torch.bfloat16)}),
    (("cpu", torch.bfloat16, True, True), {}), ((torch.bfloat16,), {"non_blocking": True, "copy": True}),
], ids=str)  # fmt: skip
def test_moving_casts_floating_images_and_nothing_else(arguments):
    batch = batch_of(targets="pair")
    moved = batch.to(*arguments[0], **arguments[1])
    assert moved.images.dtype == torch.bfloat16
    assert moved.targets[0].tolist() == [257, 999, 511, 3]  # bfloat16 has no 257
    assert moved.extras[2].tolist() == [257, 999, 511, 3]
    for name in ("lam", "masks", "partner"):
        assert getattr(moved, name).dtype == getattr(batch, name).dtype
        assert torch.equal(getattr(moved, name), getattr(batch, name))
    assert batch.images.dtype == torch.float32  # the batch itself stays as it is


def test_bytes_stay_bytes():
    batch = batch_of(dtype="uint8")
    assert batch.to(torch.float16).images.dtype == torch.uint8
    assert batch.to(torch.float16).targets.dtype == torch.float32
    moved = batch.to("cpu", memory_format=torch.channels_last)
    assert moved.images.is_contiguous(memory_format=torch.channels_last)


def test_everything_moves_to_the_device():
    moved = batch_of().to("meta", torch.float16)
    assert {part.device.type for part in (moved.images, moved.targets, moved.lam, moved.partner, moved.masks)} == {
        "meta"
    }
    assert moved.extras[2].device.type == "meta"
    assert moved.images.dtype == torch.float16


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda batch: pickle.loads(pickle.dumps(batch))])
def test_copies(copied):
    batch = batch_of()
    same(copied(batch), batch)


def test_pytrees_see_its_tensors():
    batch = batch_of()
    doubled = pytree.tree_map_only(torch.Tensor, lambda tensor: tensor * 2, batch)
    assert type(doubled) is MixedBatch
    assert torch.equal(doubled.images, batch.images * 2)
    assert torch.equal(doubled.extras[2], batch.extras[2] * 2)
    assert doubled.plan is batch.plan
    leaves, structure = pytree.tree_flatten(batch)
    assert len(leaves) == 6
    same(pytree.tree_unflatten(leaves, structure), batch)
    other = batch_of(targets="soft")
    summed = pytree.tree_map(torch.add, batch, other)
    assert torch.equal(summed.images, batch.images + other.images)


@pytest.mark.parametrize("workers", [0, 1])
def test_it_comes_out_of_a_loader(workers):
    collate = MiAMixCollator(10, NO_SELF, seed=0, return_batch=True, return_masks=True)
    (batch,) = DataLoader(Numbers(8), 8, collate_fn=collate, num_workers=workers)
    assert type(batch) is MixedBatch
    assert {type(part) for part in (batch.images, batch.targets, batch.lam, batch.partner, batch.masks)} == {
        torch.Tensor
    }


def test_torchs_scatter_hands_it_on():
    from torch.distributed.utils import _recursive_to

    batch = batch_of()
    (handed,) = _recursive_to(batch, torch.device("cpu"), False)
    same(handed, batch)


def test_lightnings_conversion():
    apply = pytest.importorskip("lightning_utilities.core.apply_func").apply_to_collection
    batch = batch_of()
    halved = apply(batch, torch.Tensor, lambda part: part.to(torch.bfloat16) if part.is_floating_point() else part)
    assert type(halved) is MixedBatch
    assert halved.images.dtype == halved.targets.dtype == torch.bfloat16
    assert halved.partner.dtype == torch.int64
    assert halved.plan.layers.tobytes() == batch.plan.layers.tobytes()
    assert halved.plan.key == batch.plan.key
    assert batch.images.dtype == torch.float32


def test_accelerates_move():
    send = pytest.importorskip("accelerate.utils").send_to_device
    moved = send(batch_of(), torch.device("meta"), non_blocking=True)
    assert type(moved) is MixedBatch
    assert moved.images.device.type == "meta"


def test_hugging_face_asks_for_its_labels():
    batch = batch_of()
    assert "labels" not in batch
    assert "images" in batch
