import re

import pytest

from tests.examples import run


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
