"""One line on stderr if compiling takes long, so that the first run does not look as if it hangs."""

from __future__ import annotations

import os
import sys
import threading
import time

from miamix_cpu.private_api import is_child

_SILENT = 2.0  # seconds of compiling before the line
QUIET = "MIAMIX_CPU_QUIET"  # environment variable: any value but "" and "0" leaves the line out


class Progress:
    """Counts the time that this process spends compiling, or waiting for another one that compiles."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: float | None = None
        self._spent, self._active = 0.0, 0
        self._timer: threading.Timer | None = None
        self._told = False

    def begin(self, folder: str) -> None:
        """An entry is compiled from here on; its code goes to `folder`."""
        with self._lock:
            self._active += 1
            if self._active > 1 or self._told or is_child() or os.environ.get(QUIET, "0") not in ("", "0"):
                return
            self._began = time.monotonic()
            self._timer = threading.Timer(max(0.0, _SILENT - self._spent), self._tell, (folder,))
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        """It is compiled, or has failed."""
        with self._lock:
            self._active = max(0, self._active - 1)
            if self._active == 0 and self._timer is not None and self._began is not None:
                self._timer.cancel()
                self._spent += time.monotonic() - self._began
                self._timer = self._began = None

    def _tell(self, folder: str) -> None:
        with self._lock:
            if self._told or self._timer is None:
                return
            self._told = True
        print(
            "miamix_cpu: compiling its kernels, once per machine; this takes 10 to 30 seconds. "
            f"The compiled code is cached in {folder}",
            file=sys.stderr,
            flush=True,
        )


progress = Progress()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=progress.__init__)  # type: ignore[misc]  # a lock may be held by another thread
