"""What the benchmarks say of themselves: that they time what they name, and print what they have."""

import numpy as np
import pytest
import torch

from benchmarks import parts, update_readme
from benchmarks.consumer import Training
from benchmarks.datasets import Arrays
from benchmarks.loader import written_once
from benchmarks.throughput import RATIOS, report
from miamix_cpu import MiAMixCollator, collate, keyed

NAMES = list(dict.fromkeys(name for row in RATIOS for name in row[:2]))


def result_without(*missing):
    times = {"times": [1.0, 2.0], "median": 1.5, "least": 1.0, "greatest": 2.0, "images_per_second": 85.0}
    return {
        "environment": {"cpu": "c", "cores": 1, "python": "3", "versions": {"numpy": "2"}, "date": "d", "commit": "abc"},
        "batch": 128, "skipped": ["timm: No module named 'timm'"],
        "sizes": {"32": {name: times for name in NAMES if name not in missing}},
    }  # fmt: skip


def test_a_peer_that_was_skipped_is_an_empty_cell():
    found = result_without("timm FastCollateMixup elem")
    text = update_readme.markdown(found)
    assert "| ours, Table 1, uint8 / timm FastCollateMixup elem |  |" in text
    assert "| ours, Table 1, float32 / torchvision v2 after default_collate | 1.00 [1.00, 1.00] (0.5) |" in text
    assert "Skipped: timm: No module named 'timm'." in text
    assert "torchvision v2" in report(found["sizes"])


def stacked(samples):
    return torch.from_numpy(np.stack([image for image, _ in samples])), None


@pytest.mark.parametrize(
    ("make", "expected"), [(lambda: MiAMixCollator(10, seed=0, dtype="uint8"), True), (lambda: stacked, False)]
)
@pytest.mark.filterwarnings("ignore:.*come out unmixed")
def test_what_is_copied_when_it_is_sent_is_told_from_what_is_not(make, expected):
    dataset = Arrays(512, [np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)])
    assert written_once(dataset, make(), 64) is expected


@pytest.mark.filterwarnings("ignore:.*come out unmixed")
def test_parts_are_a_batch_and_leave_everything_as_it_was():
    before = collate.read_samples, keyed.KeyedMixer._fingerprint
    found = parts.measured(8, 10)
    assert (collate.read_samples, keyed.KeyedMixer._fingerprint) == before
    assert all(milliseconds > 0 for milliseconds in found.values())


def test_a_real_consumer_learns():
    """Soft targets and labels, bytes in; what it does on a GPU, on a CPU."""
    training = Training("cpu", 32, "resnet8")
    images = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 3, 32, 32) * 30
    before = [weights.clone() for weights in training.model.parameters()]
    training(images, torch.eye(10)[:8])
    training(images, torch.arange(8))
    assert training.seconds(images, torch.arange(8), steps=1, rounds=1) > 0
    assert all((old != new).any() for old, new in zip(before, training.model.parameters(), strict=True))
