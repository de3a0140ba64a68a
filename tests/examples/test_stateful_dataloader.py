import pytest

from tests.examples import needs, run


@pytest.mark.parametrize("workers", ["0", "2"])
def test_stops_and_resumes_in_mid_epoch(workers, tmp_path):
    """The same bytes as a run that was not stopped, and in the epochs after it."""
    needs("torchdata")

    def steps(*more):
        # torchdata uses a call that torch deprecates, and says so in a warning.
        arguments = ["--state", tmp_path / "state.pt", "--epochs", "3", "--workers", workers, *more]
        return run("stateful_dataloader.py", *arguments, quiet=False).splitlines()

    whole = steps()
    assert len(whole) == 3 * 18
    assert len({line.split("shown ")[1][:8] for line in whole}) == len(whole)
    half = steps("--stop", "25")
    assert len(half) == 25
    rest = steps()
    assert half + rest == whole
