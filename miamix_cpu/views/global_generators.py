"""Seed the process's global generators, from which a transform may draw, while views are made; then restore them."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# Threads share the global generators, and perhaps a transform, so only one thread makes views at a time.
_VIEWS_LOCK = threading.RLock()


def views_lock() -> Any:
    """Return the lock that a thread of this process holds while it makes views."""
    return _VIEWS_LOCK


def _renew_lock() -> None:
    """Make a new lock in a forked worker, because the thread that held the old one may not exist there."""
    global _VIEWS_LOCK
    _VIEWS_LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def seeded_globals(rng: np.random.Generator) -> Iterator[None]:
    """Seed `random`, `numpy.random` and torch's CPU generator from `rng`, and restore them afterwards.

    The batch's key thus determines the views of transforms that draw from them, such as torchvision's. OpenCV's
    generator is seeded too, because otherwise it would give the same numbers in all workers. Its state cannot be read,
    so it is not restored. torch's CUDA generators are not changed.

    If another thread draws from these generators in the meantime, the views change, and the restored states do not
    include its draws.
    """
    torch = sys.modules.get("torch")
    cv2 = sys.modules.get("cv2")
    seeds = rng.integers(0, 1 << 32, size=3)
    state, numpy_state = random.getstate(), np.random.get_state(legacy=False)
    torch_state = torch.default_generator.get_state() if torch else None
    try:
        random.seed(int(seeds[0]))
        np.random.seed(int(seeds[1]))
        if torch:
            torch.default_generator.manual_seed(int(seeds[2]))
        if cv2 is not None and hasattr(cv2, "setRNGSeed"):
            cv2.setRNGSeed(int(seeds[0]) >> 1)
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        if torch:
            torch.default_generator.set_state(torch_state)
