"""What rests on another package's private API, and the public way that takes its place when it is gone.

The next release of Numba, NumPy or torch may rename what it never promised to keep. So each use stands in one
function that goes through `attempt`: the batch is the same either way, only slower to make or to send.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from multiprocessing import current_process, parent_process
from typing import Any, TypeVar

from miamix_cpu.checks import callers_level

Result = TypeVar("Result")

_warned: set[str] = set()


def attempt(what: str, use: Callable[[], Result], instead: Callable[[], Result]) -> Result:
    """`use()`; where it raises, whatever it is, warn once and give `instead()`.

    Parameters
    ----------
    what : str
        What does not work, and what it means, for the warning: "... cannot be used".
    use : callable
        The way that rests on private API.
    instead : callable
        The public way.
    """
    try:
        return use()
    except Exception as error:
        warn_of(what, error)
        return instead()


def warn_of(what: str, error: Exception) -> None:
    """Warn once in the main process that private API has changed; its workers would all say the same."""
    if what in _warned or is_child():
        return
    _warned.add(what)
    warnings.warn(
        f"miamix_cpu: {what} ({type(error).__name__}: {error}). Results are the same. A newer miamix_cpu may know this "
        "version of the package",
        RuntimeWarning,
        stacklevel=callers_level(),
    )


def is_child() -> bool:
    """Whether this process was started by multiprocessing; a spawned one knows its parent only after its imports."""
    return parent_process() is not None or bool(getattr(_process(), "_inheriting", False))


def _process() -> Any:
    return current_process()
