"""CIFAR-10, in small."""

import numpy as np
import pytest

from tests.benchmarks.common import pictures, write_records


@pytest.fixture
def cifar(tmp_path, rng):
    """A folder of CIFAR-10's binary form: 5 files of 20 images, 40 to test on."""
    folder = tmp_path / "cifar" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, n in [*((f"data_batch_{i}.bin", 20) for i in range(1, 6)), ("test_batch.bin", 40)]:
        labels = rng.permutation(np.arange(n) % 10)
        write_records(folder / name, pictures(rng, labels), labels)
    return folder.parent
