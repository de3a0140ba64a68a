import re
from collections import OrderedDict

import numpy as np
import pytest
from torch import nn
from torch.utils.data import DataLoader

import miamix_cpu
from tests.examples import ROOT, run


@pytest.mark.parametrize(("method", "workers"), [("mixup", "2"), ("cutmix", "0")])
def test_manifold_mixup(method, workers):
    *lines, last = run(
        "manifold_mixup.py", "--epochs", "6", "--workers", workers, "--method", method, "--device", "cpu"
    ).splitlines()
    assert len(lines) == 6
    training, test = (float(lines[-1].split(word)[1].split()[0]) for word in ("training", "test"))
    assert test > 0.9
    assert training < 0.85  # mixed to the end
    layers = {name: int(count) for name, count in re.findall(r"(\w+): (\d+)", last)}
    assert list(layers) == ["input", "block1", "block2"]
    assert sum(layers.values()) == 6 * (1257 // 64)
    assert all(count > 0.2 * sum(layers.values()) for count in layers.values())


def test_the_lines_in_the_docs():
    text = (ROOT / "docs" / "integrations.md").read_text().split("## Manifold Mixup")[1]
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1].replace("num_workers=4", "num_workers=0")
    model = nn.Sequential(OrderedDict(layer1=nn.Conv2d(3, 4, 3), layer2=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1)))
    model.append(nn.Flatten()).append(nn.Linear(4, 10))
    names = {
        **{name: getattr(miamix_cpu, name) for name in miamix_cpu.__all__}, "DataLoader": DataLoader,
        "model": model, "dataset": [(np.full((8, 8, 3), i, np.uint8), i % 10) for i in range(160)], "device": "cpu",
        "transform": None, "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2),
    }  # fmt: skip
    exec(code, names)
    names["loss"].backward()
    assert names["logits"].shape == (32, 10)
