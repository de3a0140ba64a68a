import random
import threading

import numpy as np
import pytest
import torch
from scipy import stats

from miamix_cpu.plan.streams import PLAN, VIEWS, batch_key, fingerprint_of, index_bytes, seeded_globals, stream


def test_keys_depend_on_everything():
    keys = [
        batch_key(*arguments[:2], fingerprint_of(arguments[2]))
        for arguments in [
            (0, 0, [b"ab", b"c"]), (1, 0, [b"ab", b"c"]), (0, 1, [b"ab", b"c"]), (0, 0, [b"a", b"bc"]),
            (0, 0, [b"abc"]), (0, 0, []), (0, 0, [b""]), (-1, 0, []), (2**80, 0, []), (0, 10, []), (1, 0, []), (10, 0, []),
        ]
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {16}
    assert batch_key(0, 0, fingerprint_of([b"ab", b"c"])) == keys[0]


def test_streams_are_independent_and_uniform():
    keys = [batch_key(0, 0, fingerprint_of([b"%d" % i])) for i in range(20_000)]
    firsts = np.array([[stream(key, which).random() for which in (PLAN, VIEWS)] for key in keys])
    for column in firsts.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 4 / np.sqrt(20_000)
    assert abs(np.corrcoef(firsts.T)[0, 1]) < 4 / np.sqrt(20_000)


def test_indices_alike_and_not_alike():
    assert len({index_bytes(i, 0) for i in (3, np.int64(3), torch.tensor(3), np.array(3, np.uint8))}) == 1
    different = [3, "3", b"3", "\udcff", (3,), ("a", 3), ("a3",), (1, 23), (12, 3), ((1,), 23)]
    assert len({index_bytes(i, 0) for i in different}) == len(different)
    with pytest.raises(TypeError, match="the index of sample 4 must be an integer, a string or bytes, got float"):
        index_bytes(1.5, 4)


def states():
    return (
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        np.random.get_state()[2],
        torch.get_rng_state().tolist(),
    )


def test_global_generators_are_seeded_and_restored():
    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    draw()
    before = states()
    with seeded_globals(np.random.default_rng(5)):
        first = draw()
    assert states() == before
    random.seed(99)
    with seeded_globals(np.random.default_rng(5)):
        assert draw() == first
    with pytest.raises(ZeroDivisionError), seeded_globals(np.random.default_rng(6)):
        assert draw() != first
        raise ZeroDivisionError
    assert random.random() == random.Random(99).random()


def test_a_forked_process_does_not_wait_for_a_thread_that_it_lacks():
    """The thread holds the generators while the process forks; the child must get at them all the same."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with seeded_globals(np.random.default_rng(0)):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = torch.multiprocessing.get_context("fork").Process(target=draw_once)
    child.start()
    child.join(30)
    done.set()
    thread.join()
    try:
        assert child.exitcode == 0
    finally:
        child.kill()


def draw_once():
    with seeded_globals(np.random.default_rng(0)):
        random.random()
