import re

from tests.examples import needs, run


def test_torchvision_folder():
    """Any number of workers shows the same, each epoch something else, and it learns."""
    needs("torchvision")
    outs = [
        run("torchvision_folder.py", "--epochs", "4", "--workers", workers, torchvision=True) for workers in ("0", "2")
    ]
    assert outs[0] == outs[1]
    assert len(set(re.findall(r"shown (\w+)", outs[0]))) == 4
    assert float(re.findall(r"test ([\d.]+)", outs[0])[-1]) > 0.7
