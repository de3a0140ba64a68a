import re

from tests.examples import run


def test_centres_are_learnt():
    """Four times as near as the mean of all centres."""
    out = run("regression.py", "--epochs", "8")
    untrained = float(re.search(r"the mean is wrong by ([\d.]+) pixels", out)[1])
    wrong = [float(value) for value in re.findall(r": wrong by ([\d.]+) pixels", out)]
    assert len(wrong) == 8
    assert min(wrong[-3:]) < untrained / 4
