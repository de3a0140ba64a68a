"""Tensors in lent memory: it is never used again while anybody looks at one."""

import copy
import gc
import io
import os
import pickle

import pytest
import torch

from miamix_cpu.workers import transport
from tests.workers.common import LINUX, SIZE, sent

pytestmark = LINUX


@pytest.mark.parametrize("keep", [
    lambda tensor: tensor, lambda tensor: tensor.numpy(), lambda tensor: tensor[3:5], lambda tensor: iter(tensor),
    lambda tensor: torch.utils.dlpack.to_dlpack(tensor), lambda tensor: memoryview(tensor.numpy())[7:],
], ids=["tensor", "array", "slice", "iterator", "capsule", "memoryview"])  # fmt: skip
@pytest.mark.parametrize("where", ["worker", "parent"])
@pytest.mark.usefixtures("worker")
def test_whoever_looks_at_it_keeps_it(lender, keep, where):
    tensor = transport.empty((SIZE,), torch.uint8)
    start = tensor.data_ptr()
    kept = keep(tensor if where == "worker" else sent(tensor))
    del tensor
    assert transport.empty((SIZE,), torch.uint8).data_ptr() != start
    (piece,) = (piece for piece in lender._pieces if piece.start == start)
    assert not piece.idle
    del kept
    gc.collect()
    assert piece.idle


@pytest.mark.usefixtures("worker")
def test_what_is_sent_twice_arrives_twice(lender):
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(1)
    first, second = sent(tensor), sent(tensor)
    (piece,) = lender._pieces
    del tensor, first
    assert not piece.idle
    assert (second == 1).all()
    del second
    assert piece.idle


@pytest.mark.usefixtures("worker")
def test_no_more_loans_than_are_counted(lender):
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(1)
    (piece,) = lender._pieces
    arrived = [sent(tensor) for _ in range(300)]
    assert not arrived[254].is_shared()  # lent
    assert arrived[255].is_shared()  # torch's way
    assert all((part == 1).all() for part in arrived)
    del arrived, tensor
    assert piece.idle


@pytest.mark.parametrize("view", [
    lambda x: x[:5], lambda x: x[3:], lambda x: x[::2], lambda x: x.view(-1), lambda x: x.transpose(1, 2),
    lambda x: x.view(torch.int32)[1], lambda x: x[2:4].requires_grad_(), lambda x: x[0, 0, 0],
])  # fmt: skip
@pytest.mark.usefixtures("worker")
def test_views_are_lent_too(lender, view):
    """By whatever a user's function in the worker makes of a batch."""
    tensor = transport.empty((8, 64, 128), torch.float32)
    tensor.copy_(torch.arange(8 * 64 * 128).view(8, 64, 128))
    here = view(tensor)
    arrived = sent(here)
    assert type(arrived) is torch.Tensor
    assert torch.equal(arrived, here)
    assert (arrived.stride(), arrived.requires_grad) == (here.stride(), here.requires_grad)
    assert not arrived.is_shared()
    (piece,) = lender._pieces
    assert piece.start == tensor.data_ptr()
    del tensor, here
    assert not piece.idle
    del arrived
    gc.collect()
    assert piece.idle


@pytest.mark.usefixtures("worker")
def test_an_array_that_a_worker_keeps_while_it_sends_a_view():
    kept = []
    for number in range(5):
        tensor = transport.empty((SIZE,), torch.uint8)
        tensor.fill_(number)
        kept.append(tensor.numpy())
        assert (sent(tensor[:100]) == number).all()
        del tensor
    assert [array[0] for array in kept] == list(range(5))


@pytest.mark.usefixtures("worker")
def test_what_is_computed_from_it_is_not_lent():
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(3)
    for result in (tensor * 2, tensor.float(), torch.stack([tensor, tensor])):
        arrived = sent(result)
        assert type(arrived) is torch.Tensor
        assert arrived.is_shared()  # torch's way
        assert torch.equal(arrived, result)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.float16, torch.int64], ids=str)
@pytest.mark.usefixtures("worker")
def test_arrives_as_it_is_sent(dtype):
    images = transport.channels_first_view(transport.empty((4, 80, 90, 3), dtype))
    images.copy_(torch.arange(4 * 80 * 90 * 3).view(4, 3, 80, 90) % 199)
    arrived = sent(images)
    assert type(arrived) is torch.Tensor
    assert arrived.dtype == dtype
    assert arrived.stride() == images.stride() == (21600, 1, 270, 3)
    assert torch.equal(arrived, images)
    assert arrived.data_ptr() != images.data_ptr()
    images += 1
    assert torch.equal(arrived, images)  # the same memory
    assert arrived.untyped_storage().nbytes() == images.numel() * dtype.itemsize


@pytest.mark.usefixtures("worker")
def test_elsewhere_than_on_linux_memory_is_torchs(lender, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    assert lender.tensor(SIZE) is None
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(4)
    assert tensor.is_shared()
    assert torch.equal(sent(tensor), tensor)


@pytest.mark.usefixtures("worker")
def test_torchs_other_strategy_is_respected(monkeypatch):
    assert not transport.empty((SIZE,), torch.uint8).is_shared()
    monkeypatch.setattr(transport, "get_sharing_strategy", lambda: "file_system")
    assert transport.empty((SIZE,), torch.uint8).is_shared()


@pytest.mark.usefixtures("worker")
def test_a_copy_is_an_ordinary_tensor():
    tensor = transport.empty((SIZE,), torch.uint8)
    tensor.fill_(3)
    saved = io.BytesIO()
    torch.save(tensor, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    for copied in (loaded, copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))):
        assert type(copied) is torch.Tensor
        assert torch.equal(copied, tensor)
        assert copied.data_ptr() != tensor.data_ptr()
    assert torch.equal(copy.copy(tensor), tensor)
