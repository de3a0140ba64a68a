"""The README's examples run as they stand, one after the other."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

README = Path(__file__).parents[1] / "README.md"


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert names["targets"].shape == (128, 10)
    assert names["again"].images.equal(
        torch.as_tensor(names["collate"].replay(names["samples"], names["again"].plan).images)
    )
    assert isinstance(names["batch"].images, np.ndarray)


@pytest.mark.parametrize("start", ["fork", "forkserver", "spawn"])
def test_the_first_example_is_a_script(tmp_path, start):
    """With any way to start workers; it prints something."""
    script, guard = (
        re.search(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)[1],
        'if __name__ == "__main__":\n',
    )
    assert script.count(guard) == 1
    chosen = f"    import multiprocessing\n    multiprocessing.set_start_method({start!r})\n"
    (tmp_path / "train.py").write_text(script.replace(guard, guard + chosen))
    result = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                            env={**os.environ, "PYTHONPATH": str(README.parent)})  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"epoch \d: \(128, 3, 32, 32\), loss \d", result.stdout)) == 2


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 200


def test_what_it_names_exists():
    """Every test that is named as the proof of a promise; `::name` is in the file named before it."""
    named, path = [], None
    for own, name in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", (README.parent / "docs" / "promises.md").read_text()):
        path = own or path
        assert f"def {name}(" in (README.parent / path).read_text(), (path, name)
        named.append(name)
    assert len(named) > 30
