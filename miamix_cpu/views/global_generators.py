"""The process's global generators, from which a transform may draw: seeded while views are made, then restored."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# A process has one of each global generator, and threads may share a transform, so views are made one at a time.
_VIEWS_LOCK = threading.RLock()


def views_lock() -> Any:
    """Held by the thread of this process that makes views."""
    return _VIEWS_LOCK


def _renew_lock() -> None:
    """A forked worker has none of the threads that may have held it."""
    global _VIEWS_LOCK
    _VIEWS_LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def seeded_globals(rng: np.random.Generator) -> Iterator[None]:
    """Seed `random`, `numpy.random` and torch's CPU generator from `rng`, and restore them afterwards.

    OpenCV's is seeded too, which would else give the same in all workers; its state can't be read, so it stays so.

    So transforms that draw from them, torchvision's among them, are keyed by the batch, and their states are the same
    before and after. torch's CUDA generators are left alone. What a thread that is none of ours draws meanwhile changes
    the results, and is drawn again afterwards.
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
