"""The examples run as they stand."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments):
    """An example's output, from a folder that is not the repository."""
    command = [sys.executable, EXAMPLES / name, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=Path.home())
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
    return result.stdout


def test_numpy_loop():
    lines = run("numpy_loop.py").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["epoch 0", "epoch 1"]
    assert lines[0].partition(":")[2] != lines[1].partition(":")[2]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_plain_pytorch(workers):
    lines = run("plain_pytorch.py", "--epochs", "6", "--workers", workers, "--device", "cpu").splitlines()
    assert len(lines) == 6
    training, test = (float(lines[-1].split(word)[1].split()[0]) for word in ("training", "test"))
    assert test > 0.9
    assert training > 0.9  # the last epochs are not mixed
    assert float(lines[2].split("training")[1].split()[0]) < 0.8  # and the others are
