"""A lender, and a process that makes and sends tensors as a worker does."""

import pytest

from miamix_cpu.workers.shared_buffers import Lender
from tests.shared_memory import as_a_worker


@pytest.fixture
def lender():
    return Lender()


@pytest.fixture
def worker(monkeypatch, lender):
    with as_a_worker(monkeypatch, lender):
        yield
