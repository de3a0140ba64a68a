"""The README's examples run as they stand, one after the other."""

import re
from pathlib import Path

import numpy as np
import torch

README = Path(__file__).parents[1] / "README.md"


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert names["targets"].shape == (128, 10)
    assert names["again"].images.equal(
        torch.as_tensor(names["collate"].replay(names["samples"], names["again"].plan).images)
    )
    assert isinstance(names["batch"].images, np.ndarray)


def test_what_it_names_exists():
    """Every test that is named as the proof of a promise; `::name` is in the file named before it."""
    named, path = [], None
    for own, name in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", README.read_text()):
        path = own or path
        assert f"def {name}(" in (README.parent / path).read_text(), (path, name)
        named.append(name)
    assert len(named) > 30
