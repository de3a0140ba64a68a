import importlib.util
import re

import numpy as np
import pytest
from torch.utils.data import get_worker_info

from miamix_cpu import MiAMixCollator
from tests.examples import ROOT, needs, run
from tests.shared_memory import lies_in_shared_memory

N = 40


def test_webdataset_shards():
    """Every sample comes once an epoch, epochs differ, and the same seed makes the same bytes."""
    needs("webdataset")
    line = r"epoch (\d): (\d+) samples, (\d+) different, sums within (\S+) of 1, shown (\w+), test (\S+)"
    out = run("webdataset_shards.py", "--workers", "2", "--epochs", "3")
    epochs, samples, different, off, shown, accuracy = zip(*re.findall(line, out), strict=True)
    assert epochs == ("0", "1", "2")
    assert set(samples) == set(different) == {"1297"}
    assert max(map(float, off)) < 1e-5
    assert len(set(shown)) == 3
    assert float(accuracy[-1]) > 0.6
    assert run("webdataset_shards.py", "--workers", "2", "--epochs", "3") == out
    other = run("webdataset_shards.py", "--workers", "2", "--epochs", "1", "--seed", "1")
    assert re.findall(line, other)[0][4] not in shown


@pytest.fixture
def example():
    needs("webdataset")
    spec = importlib.util.spec_from_file_location("webdataset_shards", ROOT / "examples" / "webdataset_shards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Spy:
    """A collator that tells where it ran and whether it wrote into shared memory."""

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, samples):
        images, _, keys = self.collate(samples)
        return images, keys, get_worker_info() is not None, lies_in_shared_memory(images)


def test_an_order_that_repeats_is_mixed_otherwise_in_each_epoch(example, tmp_path):
    """A new loader, and so workers that are not persistent, begins with the same order; the epoch is another one."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (N, 64, 64), dtype=np.uint8)  # small images would travel otherwise
    urls = example.write_shards(f"{tmp_path}/shard-%d.tar", pictures, np.arange(N) % 10, size=10)
    assert len(urls) == 4
    collate = MiAMixCollator(10, transform=lambda image: image[::-1], seed=0, index_key=2)

    def epoch():
        batches = list(example.batches_of(urls, Spy(collate), 8, workers=2))
        assert all(in_worker and shared for _, _, in_worker, shared in batches)
        return [keys for _, keys, _, _ in batches], [images.numpy().tobytes() for images, _, _, _ in batches]

    order, zero = epoch()
    collate.set_epoch(1)
    again, one = epoch()
    assert order == again
    assert not set(zero) & set(one)
    collate.set_epoch(0)
    assert epoch() == (order, zero)
