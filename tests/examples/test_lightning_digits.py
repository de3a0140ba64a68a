import importlib.util
import re

from tests.examples import needs, run


def test_resumes_in_the_right_epoch(tmp_path):
    """Four epochs at once show the network what two and two show it: the epoch travels with the samples."""
    needs("lightning")
    torchvision = importlib.util.find_spec("torchvision") is not None  # which Lightning's metrics import if it is there

    def shown(epochs, folder, *more):
        arguments = ["--epochs", epochs, "--folder", str(tmp_path / folder), *more]
        out = run("lightning_digits.py", *arguments, quiet=False, torchvision=torchvision)
        return re.findall(r"epoch \d+: shown \w+, accuracy [\d.]+", out)  # a progress bar shares the line

    whole = shown("4", "whole", "--workers", "0")
    assert len({line.split(",")[0].split("shown ")[1] for line in whole}) == 4
    half = shown("2", "half")
    for checkpoint in ("last", "final"):  # saved in the last epoch, and after it
        rest = shown("4", checkpoint, "--resume", str(tmp_path / "half" / f"{checkpoint}.ckpt"))
        assert half + rest == whole
