"""The methods of the tables, their augmentation, and the networks."""

import itertools
import json

import numpy as np
import pytest
import torch

from benchmarks import train
from benchmarks.training.augment import augmentation
from benchmarks.training.methods import TABLES, method, spelling_of
from benchmarks.training.networks import NETWORKS
from miamix_cpu import MiAMixCollator, MiAMixConfig
from miamix_cpu.methods import METHODS
from tests.benchmarks.common import command, pictures


def test_every_row_of_every_table_is_a_method_and_spellings_are_one():
    for row in itertools.chain(*TABLES.values()):
        found = method(row)
        assert method(found.spelling) == found
    assert method("miamix:k_min=1+weights=2/1/1/1/1").spelling == "miamix"
    assert method("miamix:k_min=4+k_max=4").config == MiAMixConfig(k_min=4, k_max=4)
    assert method("gridmix:gridmix.pattern=random").config.gridmix.pattern == "random"
    assert method("cutmix").config == MiAMixConfig.plain("cutmix")
    lacking = method("miamix:methods=mixup/cutmix+weights=1/3").config
    assert (lacking.methods, lacking.weights) == (("mixup", "cutmix"), (1, 3))


def test_recipes_are_methods_too():
    for name in MiAMixConfig.recipes():
        if name == "manifold-mixup":
            continue
        found = method(name)
        assert found.config == (MiAMixConfig.plain(name) if name in METHODS else MiAMixConfig.recipe(name))
        assert found.probability == 1
        assert method(found.spelling) == found
        assert spelling_of(json.loads(json.dumps(found.describe()))) == found.spelling
    assert method("deit:p_self=0.1").config == MiAMixConfig.recipe("deit", p_self=0.1)
    spelled = {"deit": "deit", "rsb-a1": "torchvision", "deit:alpha=0.1/1": "rsb-a2", "randommix:k_max=2": None,
               "gridmix-cells": "gridmix:gridmix.pattern=random", "gridmix:gridmix.pattern=random": None}  # fmt: skip
    for spelling, shortest in spelled.items():
        assert method(spelling).spelling == (shortest or spelling)


@pytest.mark.parametrize("spelling", ["manifold-mixup", "mixup:mixes=features", "miamix:mixes=features+p_self=0"])
def test_hidden_layers_are_not_mixed_here(tmp_path, capsys, spelling):
    assert train.main(command(tmp_path, tmp_path, "--methods", spelling)) == 2
    assert "mixes a hidden layer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spelling",
    ["mixmup", "miamix:foo=1", "miamix:merge=other", "vanilla:k_max=1", "gridmix:gridmix.side=1", "miamix:k_max"],
)
def test_a_bad_method_is_one_line_and_status_2(tmp_path, capsys, spelling):
    assert train.main(command(tmp_path, tmp_path, "--methods", spelling)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_vanilla_is_one_augmented_view_unmixed(rng):
    vanilla, calls = method("vanilla"), []

    def transform(image):
        calls.append(image[0, 0, 0])
        return image[:, ::-1]

    labels = np.arange(8)
    images = pictures(rng, labels)
    collate = MiAMixCollator(10, vanilla.config, transform=transform, seed=0, dtype="uint8", schedule=vanilla.schedule)
    mixed, targets = collate(list(zip(images, labels.tolist(), strict=True)))
    np.testing.assert_array_equal(mixed.numpy(), images[:, :, ::-1].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(targets.numpy(), np.eye(10, dtype=np.float32)[labels])
    assert len(calls) == 8


def test_augmentation_keeps_the_size(rng):
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("crop", "resized"):
        views = [augmentation(name, 64)(image=image)["image"] for _ in range(4)]
        assert {view.shape for view in views} == {(64, 64, 3)}
        assert any((view != image).any() for view in views)
    assert augmentation("none", 64) is None


def test_networks_have_their_published_sizes():
    """ResNet-18's CIFAR form by He et al.'s layers; ResNeXt-50's from torchvision's 25,028,904 less stem and classes."""
    parameters = {name: sum(p.numel() for p in make(10).parameters()) for name, make in NETWORKS.items()}
    stem, classes = 64 * 3 * (3 * 3 - 7 * 7), 2049 * (10 - 1000)
    assert parameters["resnext50"] == 25_028_904 + stem + classes
    assert parameters["resnet18"] == 11_689_512 + stem + 513 * (10 - 1000)
    with torch.inference_mode():
        for make_network in NETWORKS.values():
            network = make_network(7).eval()
            assert network[:-3](torch.zeros(1, 3, 32, 32)).shape[2:] in ((4, 4), (8, 8))
            assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
