"""Memory that is lent and taken in one process."""

import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest

from miamix_cpu.workers.shared_buffers import take

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is lent where processes have files in /proc")

SIZE = 1 << 17
ROOT = Path(__file__).parents[2]


def sent(tensor):
    """What arrives of a tensor that a worker's queue pickles; here the parent is the same process."""
    return ForkingPickler.loads(ForkingPickler.dumps(tensor))


def lent(lender, size=SIZE):
    """Memory of the lender that has been taken; only the parent looks at it."""
    return take(lender.lend(lender.tensor(size).data_ptr()))
