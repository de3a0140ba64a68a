"""Lent memory that a forked process has inherited is not used again."""

import logging
import multiprocessing
import os
import threading
import time

from miamix_cpu.workers import shared_buffers as lending
from miamix_cpu.workers import transport
from tests.workers.common import LINUX, SIZE, lent

pytestmark = LINUX


def _says_what_it_sees(memory, here, there):
    here.recv()
    here.send(memory[0])


def test_memory_that_another_process_has_inherited_is_not_used_again(lender):
    memory = lent(lender)
    memory[0] = 1
    (piece,) = lender._pieces
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_says_what_it_sees, args=(memory, here, there), daemon=True)
    child.start()
    del memory
    assert not piece.idle
    lender.tensor(SIZE).fill_(2)
    there.send("go")
    assert there.recv() == 1
    child.join()
    assert not piece.idle
    lent(lender)  # what is taken later comes back
    assert lender._pieces[-1].idle


def test_memory_that_is_taken_while_another_thread_forks_is_not_used_again(lender):
    """A fork has begun when logging's hook waits for its lock; other threads run meanwhile."""
    kept, holds = [], threading.Event()

    def logs():
        with logging._lock:
            holds.set()
            while not lending._forks.under_way:
                time.sleep(0.001)
            kept.append(lent(lender))

    thread = threading.Thread(target=logs)
    thread.start()
    holds.wait()
    pid = os.fork()
    if pid == 0:
        kept.clear()  # the child drops what it has inherited
        os._exit(0)
    os.waitpid(pid, 0)
    thread.join()
    (piece,) = lender._pieces
    assert not piece.on_its_way
    assert not piece.idle
    kept.clear()
    assert not piece.idle
    assert not lending._forks.under_way
    lent(lender)
    assert lender._pieces[-1].idle


def test_a_process_that_a_worker_forks_has_pieces_of_its_own():
    lender = transport._lender()
    here, there = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            there.send(transport._lender() is not lender)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert here.recv()
