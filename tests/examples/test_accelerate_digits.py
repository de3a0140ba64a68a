import re

import pytest

from tests.examples import needs, run


@pytest.mark.parametrize("how", [[], ["--processes", "2", "--dispatch"]], ids=["one process", "dispatched to two"])
def test_a_run_stopped_in_mid_epoch_goes_on_with_the_same_bytes(how, tmp_path):
    needs("accelerate")
    whole = run("accelerate_digits.py", "--epochs", "3", *how, folder=tmp_path, quiet=False)
    run("accelerate_digits.py", "--epochs", "3", *how, "--stop", "1", "5", folder=tmp_path, quiet=False)
    resumed = run("accelerate_digits.py", "--epochs", "3", *how, "--resume", folder=tmp_path, quiet=False)
    lines = [re.findall(r"^epoch .*", out, flags=re.M) for out in (whole, resumed)]
    rest = lines[0][lines[0].index(next(line for line in lines[0] if line.startswith("epoch 1, batch 5"))) :]
    assert lines[1] == rest
    assert len({re.search(r"shown (.*)", line)[1] for line in lines[0] if "shown" in line}) > 20
    assert float(re.findall(r"test ([\d.]+)", whole)[-1]) > 0.7
