"""Tensors that travel from a worker: what arrives is ordinary, and equal to what is made without workers."""

from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from miamix_cpu import MiAMixCollator, MiAMixConfig
from miamix_cpu.workers import shared_buffers as lending
from miamix_cpu.workers import transport
from tests.shared_memory import as_a_worker, lies_in_shared_memory
from tests.transforms import Numbers

NO_SELF = MiAMixConfig(p_self=0.0)


@pytest.fixture
def worker(monkeypatch):
    with as_a_worker(monkeypatch, lending.Lender()):
        yield


@pytest.mark.parametrize("options", [
    {}, {"targets": "pair"}, {"return_batch": True, "return_masks": True}, {"dtype": "bfloat16"}, {"dtype": "float16"},
    {"memory_format": "channels_last"}, {"memory_format": "channels_last", "dtype": "uint8", "return_masks": True},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("side", [4, 64])
def test_arrives_as_it_is_made(options, side):
    """Batches below and above what goes in the message."""
    loaders = [
        DataLoader(Numbers(16, side), 8, num_workers=workers, collate_fn=MiAMixCollator(10, NO_SELF, seed=0, **options))
        for workers in (0, 1)
    ]
    for here, arrived in zip(*map(tensors_of, loaders), strict=True):
        assert type(arrived) is torch.Tensor
        assert arrived.dtype == here.dtype
        assert arrived.stride() == here.stride()
        assert torch.equal(arrived, here)
        arrived += 1  # writable


def tensors_of(loader):
    for batch in loader:
        parts = [batch] if not isinstance(batch, (tuple, list)) else list(batch)
        if hasattr(parts[0], "plan"):
            parts = [parts[0].images, parts[0].targets, parts[0].lam, parts[0].partner, parts[0].masks]
        for part in parts:
            yield from part if isinstance(part, (tuple, list)) else [part]


@pytest.mark.usefixtures("worker")
def test_channels_last_goes_in_the_message_too():
    images = transport.channels_first_view(transport.empty((2, 4, 5, 3), torch.uint8))
    images[:] = torch.arange(120, dtype=torch.uint8).view(2, 3, 4, 5)
    message = ForkingPickler.dumps(images)
    assert b"rebuild_storage" not in bytes(message)
    arrived = ForkingPickler.loads(message)
    assert arrived.stride() == images.stride() == (60, 1, 15, 3)
    assert torch.equal(arrived, images)


@pytest.mark.usefixtures("worker")
def test_small_tensors_go_in_the_message_and_large_ones_in_shared_memory():
    small, large = transport.empty((128, 10), torch.float32), transport.empty((128, 3, 32, 32), torch.uint8)
    assert lies_in_shared_memory(large)
    assert not lies_in_shared_memory(small)
    small.fill_(0.5)
    message = ForkingPickler.dumps(small)
    assert b"rebuild_storage" not in bytes(message)  # torch's way, with a file descriptor
    arrived = ForkingPickler.loads(message)
    assert type(arrived) is torch.Tensor
    assert (arrived == 0.5).all()
    assert type(small * 2) is torch.Tensor  # whoever computes with it in the worker has an ordinary one too


@pytest.mark.usefixtures("worker")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")  # torch's own, of any loader
@pytest.mark.parametrize("tensor", [
    torch.zeros(0, 4), torch.zeros(3, 0), torch.zeros(()), torch.zeros(200_000)[:0], torch.zeros(8)[::2],
    torch.tensor(3 + 1j).conj(), torch.zeros(2, requires_grad=True), torch.zeros(2, dtype=torch.bool).to_sparse(),
], ids=["rows", "columns", "number", "empty view", "strided", "conjugate", "gradient", "sparse"])  # fmt: skip
def test_tensors_that_others_make_arrive(tensor):
    """A worker sends all of its tensors so, the samples' other entries among them."""
    transport.send_from_here()
    arrived = ForkingPickler.loads(ForkingPickler.dumps(tensor))
    assert (arrived.shape, arrived.dtype, arrived.requires_grad) == (tensor.shape, tensor.dtype, tensor.requires_grad)
    assert torch.equal(arrived.to_dense(), tensor.to_dense())


@pytest.mark.usefixtures("worker")
def test_arrays_are_copied_into_what_travels():
    array = np.arange(6).reshape(2, 3)
    tensor = transport.from_array(array)
    assert type(tensor) is torch.Tensor
    assert tensor.tolist() == array.tolist()
    assert lies_in_shared_memory(transport.from_array(np.zeros(1 << 16, np.uint8)))


def test_large_tensors_are_aligned_outside_workers():
    tensor = transport.empty((5, 1 << 20), torch.float32)
    assert tensor.data_ptr() % 64 == 0
    assert tensor.shape == (5, 1 << 20)
    array = np.zeros(3)
    transport.from_array(array)[1] = 7
    assert array.tolist() == [0, 7, 0]
