import re

from tests.examples import needs, run


def lines(*arguments):
    out = run("keras_pydataset.py", *arguments)
    return re.findall(r"^epoch \d+: batches (\w+), weights (\w+), accuracy ([\d.]+)$", out, re.MULTILINE)


def test_threads_train_on_the_same_bytes_in_the_same_order(monkeypatch):
    needs("keras", "jax")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    threads = lines("--epochs", "5", "--workers", "4")
    assert threads[:2] == lines("--epochs", "2", "--workers", "1")
    assert len({batches for batches, _, _ in threads}) == 5
    assert float(threads[-1][2]) > 0.7
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert [line[0] for line in lines("--epochs", "2")] == [line[0] for line in threads[:2]]
