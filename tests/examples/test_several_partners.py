import re

import numpy as np

from tests.examples import run


def test_digits_are_learnt_from_three_labels():
    out = run("several_partners.py", "--epochs", "4")
    assert float(re.findall(r"test ([\d.]+)", out)[-1]) > 0.85
    shares = [[float(share) for share in line.split(", ")] for line in re.findall(r"weights (.*), test", out)]
    assert np.shape(shares) == (4, 3)
    assert np.allclose(np.sum(shares, axis=1), 1, atol=0.02)
    assert np.min(shares) > 0.05
    assert len(re.findall(r"with sample \d+", out)) == 2  # the last line describes two layers
