import pytest

from tests.examples import run


@pytest.mark.parametrize("workers", ["0", "2"])
def test_plain_pytorch(workers):
    lines = run("plain_pytorch.py", "--epochs", "6", "--workers", workers, "--device", "cpu").splitlines()
    assert len(lines) == 6
    training, test = (float(lines[-1].split(word)[1].split()[0]) for word in ("training", "test"))
    assert test > 0.9
    assert training > 0.9  # the last epochs are not mixed
    assert float(lines[2].split("training")[1].split()[0]) < 0.8  # and the others are
