import importlib.util
import re

import numpy as np
import pytest
import torch
from skimage.io import imread
from torch.utils.data import DataLoader

from miamix_cpu import EpochIndex
from tests.examples import ROOT, run


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("segmentation", ROOT / "examples" / "segmentation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_mixed_map_is_the_mixed_images(example, epoch):
    """Colours tell the class, so the mixed image says what the map must be, pixel by pixel."""
    maps = np.random.default_rng(0).integers(3, size=(24, 96, 96)).astype(np.uint8)
    dataset = example.MappedViews([example.PALETTE[classes] for classes in maps], list(maps))
    assert not np.array_equal(
        dataset[EpochIndex(epoch, 0)][2], dataset[EpochIndex(epoch, 0)][3]
    )  # the two views differ
    samples = [dataset[EpochIndex(epoch, i)] for i in range(24)]
    images, targets = example.SegmentationCollator(3)(samples)
    expected = torch.einsum("nkhw,kc->nchw", targets, torch.from_numpy(example.PALETTE / 255).float())
    assert torch.allclose(images, expected, atol=1e-5)
    assert torch.allclose(targets.sum(1), torch.ones(24, 64, 64))
    assert ((targets > 0.1).sum(1) == 2).any(dim=(1, 2)).sum() > 12  # most are mixed


def test_views_travel_with_the_epoch(example):
    maps = np.random.default_rng(1).integers(3, size=(8, 96, 96)).astype(np.uint8)
    dataset = example.MappedViews([example.PALETTE[classes] for classes in maps], list(maps))

    def loaded(workers):
        sampler = example.EpochSampler(range(8))
        loader = DataLoader(
            dataset, 4, sampler=sampler, collate_fn=example.SegmentationCollator(3), num_workers=workers
        )
        return [targets.numpy().tobytes() for _ in range(2) for _, targets in loader]

    assert loaded(0) == loaded(2)
    assert len(set(loaded(0))) == 4


def test_it_learns_and_draws(tmp_path):
    out = run("segmentation.py", "--epochs", "5", "--picture", str(tmp_path / "mixed.png"))
    majority = float(re.search(r"majority ([\d.]+)", out)[1])
    accuracies = [float(value) for value in re.findall(r"test ([\d.]+)", out)]
    assert accuracies[-1] > majority + 0.1
    assert imread(tmp_path / "mixed.png").shape == (128, 384, 3)
