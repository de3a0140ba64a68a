import re

from tests.examples import needs, run


def test_monai_slices():
    """Any number of workers shows the same; affines of an extra entry are all kept."""
    needs("monai")
    outs = [run("monai_slices.py", "--epochs", "3", "--workers", workers, quiet=False) for workers in ("0", "2")]
    assert outs[0] == outs[1]
    shown = re.findall(r"shown (\w+)", outs[0])
    assert len(set(shown)) == 3
    assert float(re.findall(r"test ([\d.]+)", outs[0])[-1]) > 0.8
    assert "affines (16, 4, 4)" in outs[0]
