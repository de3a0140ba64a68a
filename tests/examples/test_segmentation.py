import importlib.util
import re

import numpy as np
import pytest
import torch
from skimage.io import imread
from torch.utils.data import DataLoader

from tests.examples import ROOT, run


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("segmentation", ROOT / "examples" / "segmentation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def coloured(example, seed, n):
    """Images whose colours are those of their maps' classes."""
    maps = np.random.default_rng(seed).integers(3, size=(n, 96, 96)).astype(np.uint8)
    return [(example.PALETTE[classes], classes) for classes in maps]


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_mixed_map_is_the_mixed_images(example, epoch):
    """Colours tell the class, so the mixed image says what the map must be, pixel by pixel."""
    collate = example.collator()
    collate.set_epoch(epoch)
    images, targets = collate(coloured(example, 0, 24))
    expected = torch.einsum("nkhw,kc->nchw", targets, torch.from_numpy(example.PALETTE / 255).float())
    assert torch.allclose(images, expected, atol=1e-5)
    assert torch.allclose(targets.sum(1), torch.ones(24, 64, 64))
    assert ((targets > 0.1).sum(1) == 2).any(dim=(1, 2)).sum() > 12  # most are mixed


def test_any_number_of_workers_makes_the_same_maps(example):
    def loaded(workers):
        samples, collate = coloured(example, 1, 8), example.collator()
        loader = DataLoader(samples, 4, collate_fn=collate, num_workers=workers)
        return [targets.numpy().tobytes() for _ in range(2) for _, targets in loader]

    assert loaded(0) == loaded(2)
    assert len(set(loaded(0))) == 4


def test_it_learns_and_draws(tmp_path):
    out = run("segmentation.py", "--epochs", "5", "--picture", str(tmp_path / "mixed.png"))
    majority = float(re.search(r"majority ([\d.]+)", out)[1])
    accuracies = [float(value) for value in re.findall(r"test ([\d.]+)", out)]
    assert accuracies[-1] > majority + 0.1
    assert imread(tmp_path / "mixed.png").shape == (128, 384, 3)
