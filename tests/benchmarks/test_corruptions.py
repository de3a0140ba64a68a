"""Corrupted images, made or read, and the networks of finished runs on them."""

import json

import cv2
import numpy as np
import pytest

from benchmarks import train
from benchmarks.training import tables
from benchmarks.training.corruptions import GROUPS, MADE, make
from benchmarks.training.data import DataError, corrupted, load
from tests.benchmarks.common import command


@pytest.mark.parametrize("name", [name for names in GROUPS.values() for name in names])
def test_corruptions_are_fixed_and_grow(name, rng):
    coarse = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    images = np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_CUBIC) for image in coarse])
    made = [make(images, name, severity) for severity in (1, 5)]
    np.testing.assert_array_equal(made[0], make(images, name, 1))
    assert all(array.dtype == np.uint8 and array.shape == images.shape for array in made)
    weak, strong = (np.abs(array.astype(int) - images).mean() for array in made)
    assert 0 < weak < strong


def test_robustness_goes_on_from_the_networks_of_finished_runs(cifar, tmp_path, rng, capsys):
    """Made corruptions, then a file in CIFAR-C's form whose severities 2 to 5 hold other images than its first."""
    asked = command(cifar, tmp_path / "runs", "--methods", "vanilla,miamix", "--epochs", "6")
    assert train.main([*asked, "--robust", "--robust-images", "4"]) == 0
    (path, _) = sorted((tmp_path / "runs").glob("*/run.json"))
    robust = json.loads(path.read_text())["robust"]
    assert (robust["source"], robust["images"]) == (MADE, 4)
    assert set(robust["accuracy"]) == {name for names in GROUPS.values() for name in names}
    assert all(len(values) == 5 for values in robust["accuracy"].values())

    test, folder = load(cifar).test, tmp_path / "CIFAR-10-C"
    folder.mkdir()
    noise = rng.integers(0, 256, test.images.shape, dtype=np.uint8)
    np.save(folder / "fog.npy", np.concatenate([test.images, *[noise] * 4]))
    np.save(folder / "labels.npy", np.tile(test.labels, 5).astype(np.uint8))
    assert train.main([*asked, "--corruptions", str(folder)]) == 0
    result = json.loads(path.read_text())
    assert result["robust"]["source"] == "CIFAR-10-C"
    fog = result["robust"]["accuracy"]["fog"]
    assert fog[0] == result["final"]["accuracy"] > fog[1] == fog[4]
    (title, *_) = [line for line in tables.robustness(tables.read([tmp_path / "runs"])) if line.startswith("Table 3")]
    assert "CIFAR-10-C" in title
    assert MADE not in title
    assert train.main([*asked, "--corruptions", str(folder), "--robust-images", str(len(test) + 3)]) == 0
    assert json.loads(path.read_text())["robust"]["accuracy"]["fog"] == fog

    np.save(folder / "labels.npy", np.arange(7))
    never = command(cifar, tmp_path / "never", "--methods", "vanilla")
    assert train.main([*never, "--corruptions", str(folder)]) == 2
    assert not (tmp_path / "never").exists()
    assert train.main([*asked, "--corruptions", str(folder)]) == 2
    assert "fog.npy: expected uint8 (5 n, H, W, 3) and as many labels" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"labels.npy: expected an array in a .npy file"):
        corrupted(tmp_path)
