import importlib.util
import re

import numpy as np
import torch

from miamix_cpu import MiAMixCollator
from tests.examples import ROOT, run


def test_depth_and_label_are_learnt():
    out = run("depth.py", "--epochs", "6")
    untrained = float(re.search(r"the mean is wrong by ([\d.]+) m", out)[1])
    wrong = [float(value) for value in re.findall(r": depth is wrong by ([\d.]+) m", out)]
    accuracies = [float(value) for value in re.findall(r"test ([\d.]+)", out)]
    assert min(wrong[-3:]) < 0.6 * untrained
    assert max(accuracies[-3:]) > 0.8


def test_depth_is_mixed_as_the_image_is():
    """Images whose only channel is their depth come out as their mixed depth does."""
    spec = importlib.util.spec_from_file_location("depth", ROOT / "examples" / "depth.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    samples = [{**scene, "image": scene["depth"][..., None]} for scene in example.reliefs(slice(16), 0)]
    geometry = type(example.TRANSFORM)(example.TRANSFORM.transforms[:1], additional_targets={"depth": "mask"})
    mixed = MiAMixCollator(10, transform=geometry, seed=0, also={"depth": "blend"})(samples)
    assert mixed["depth"].shape == (16, 8, 8)
    assert torch.allclose(mixed["image"][:, 0], mixed["depth"], atol=1e-5)
    assert len(np.unique(mixed["depth"].numpy().round(3))) > 100
