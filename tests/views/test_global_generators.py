"""The process's global generators: seeded while views are made, restored afterwards."""

import random
import threading

import numpy as np
import pytest
import torch

from miamix_cpu.views.global_generators import seeded_globals


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
