import re

from tests.examples import run


def test_directions_are_learnt():
    """Four directions are equally frequent."""
    out = run("clips.py", "--epochs", "2")
    assert "clips (1, 6, 20, 20)" in out
    assert float(re.findall(r"test ([\d.]+)", out)[-1]) > 0.9
