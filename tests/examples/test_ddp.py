import re

from tests.examples import run


def test_ddp():
    """Ranks are shown different mixes, hold the same weights, and a second run with other workers is the same."""
    out = run("ddp.py", "--epochs", "3", "--workers", "1")
    lines = re.findall(r"epoch (\d), rank (\d): shown (\w+), weights (\w+), test (\S+)", out)
    assert [(int(epoch), int(rank)) for epoch, rank, *_ in lines] == [(e, r) for e in range(3) for r in range(2)]
    assert len({shown for _, _, shown, _, _ in lines}) == 6
    for zero, one in zip(lines[::2], lines[1::2], strict=True):
        assert zero[3:] == one[3:]
    assert len({weights for *_, weights, _ in lines}) == 3
    assert float(lines[-1][-1]) > 0.65
    assert run("ddp.py", "--epochs", "3", "--workers", "0") == out
