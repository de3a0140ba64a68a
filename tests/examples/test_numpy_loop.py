from tests.examples import run


def test_numpy_loop():
    lines = run("numpy_loop.py").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["epoch 0", "epoch 1"]
    assert lines[0].partition(":")[2] != lines[1].partition(":")[2]
