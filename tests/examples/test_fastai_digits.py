import importlib.util
import re

import pytest

from tests.examples import run


@pytest.mark.skipif(importlib.util.find_spec("fastai") is None, reason="fastai brings along too much to be in an extra")
def test_fastai_digits():
    """Any number of workers shows the same; validation is fastai's own."""
    outs = [
        run("fastai_digits.py", "--epochs", "3", "--workers", workers, torchvision=True, quiet=False)
        for workers in ("0", "2")
    ]
    assert outs[0] == outs[1]
    assert len(set(re.findall(r"shown (\w+)", outs[0]))) == 3
    assert float(re.findall(r"accuracy ([\d.]+)", outs[0])[-1]) > 0.8
