"""Use private API of other packages, with a public fallback if it is gone.

A new release of Numba, NumPy or torch may rename or remove private API. Therefore each use is in one function that
goes through `attempt`. The fallback gives the same batches, but making or sending them takes longer.
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
    """Return `use()`; if it raises any exception, warn once and return `instead()`.

    Parameters
    ----------
    what : str
        Text of the warning: what does not work, and the consequence.
    use : callable
        Uses private API.
    instead : callable
        Uses public API only.
    """
    try:
        return use()
    except Exception as error:
        warn_of(what, error)
        return instead()


def warn_of(what: str, error: Exception) -> None:
    """Warn once that private API has changed, in the main process only; all workers would repeat the warning."""
    if what in _warned or is_child():
        return
    _warned.add(what)
    warnings.warn(
        f"miamix_cpu: {what} ({type(error).__name__}: {error}). Results do not change. A newer miamix_cpu may "
        "support this version of the package",
        RuntimeWarning,
        stacklevel=callers_level(),
    )


def is_child() -> bool:
    """Whether multiprocessing started this process; a spawned one only learns of its parent after its imports."""
    return parent_process() is not None or bool(getattr(_process(), "_inheriting", False))


def _process() -> Any:
    return current_process()
