"""What a worker process does once, before its first batch."""

from __future__ import annotations

import gc
import sys
import threading
from multiprocessing import parent_process

from torch.utils.data import get_worker_info


def settle_in_worker(local: threading.local, opencv_threads: int | None) -> None:
    """Freeze what a worker inherited, and set OpenCV's number of threads; nothing outside of a worker.

    Parameters
    ----------
    local : threading.local, remembers what has been done
    opencv_threads : int or None
        None leaves OpenCV's setting unchanged.
    """
    if get_worker_info() is None:
        return
    if parent_process() is not None and not getattr(local, "frozen", False):
        local.frozen = True
        # Do not collect objects that a forked worker inherited: iterators of its parent's loaders would complain that
        # they "can only test a child process".
        gc.freeze()
    if opencv_threads is None or getattr(local, "limited", False):
        return
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        local.limited = True
        cv2.setNumThreads(opencv_threads)
