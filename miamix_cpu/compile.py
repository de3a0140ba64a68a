"""How kernels are compiled: every flag in one place, with its reason.

`kernel` and `exact` compile building blocks, called from other kernels. `entry` compiles one of the few functions
that Python calls; it carries all kernels it uses, so only entries are cached on disk.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering

FLAGS: dict[str, Any] = {
    # Threads that share a collator run side by side; but for one, kernels touch no Python object.
    "nogil": True,
    # Fused multiply-add and unsigned zeros only. Not `reassoc`: sums would depend on the vector width. Not
    # `arcp`: a full smoothing window would be w*w * (1/(w*w)), which is not always 1. Not `nnan`: images may hold NaN.
    "fastmath": {"contract", "nsz"},
    # Division by zero gives inf as in NumPy, without a branch in every loop.
    "error_model": "numpy",
    # For callers in C, of whom there are none: a tenth of the time to compile.
    "no_cfunc_wrapper": True,
}

#: Without fused multiply-add: rounded alike on every CPU, and in a loop's vectors as in its last odd values.
EXACT = {**FLAGS, "fastmath": False}

#: Files and folders whose text decides what the compiled code does.
KERNEL_SOURCES = (
    "compile.py", "fingerprint.py", "gather.py", "labels.py", "masks", "normals.py", "output.py", "pairing.py",
    "render.py", "sampling.py",
)  # fmt: skip


class _WideLower(Lower):  # type: ignore[misc]
    """Numba's lowering, which tells LLVM that vectors of 512 bits are welcome where the processor has them.

    LLVM avoids them on Intel's, which once ran slower for a while after any; loops as tight as ours gain all the same
    (Cascade Lake, Table 1: 15% at 32 x 32, 17% at 224 x 224). Elsewhere it changes nothing.
    """

    def post_lower(self) -> None:
        super().post_lower()
        set.add(self.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own `add` knows few


@register_pass(mutates_CFG=True, analysis_only=False)
class _WideLowering(NativeLowering):  # type: ignore[misc]
    _name = "miamix_cpu_lowering"

    @property
    def lowering_class(self) -> Any:
        return _WideLower


class _Wide(Compiler):  # type: ignore[misc]
    """Numba's compiler with wide vectors."""

    def define_pipelines(self) -> Any:
        pipelines = super().define_pipelines()
        for pipeline in pipelines:
            pipeline.passes = [
                (_WideLowering if found is NativeLowering else found, words) for found, words in pipeline.passes
            ]
            pipeline.finalize()
        return pipelines


class _Apart(_Wide):
    """The same, told to promise LLVM that array arguments do not overlap.

    Otherwise each loop begins by comparing their ends, as dear as the 32 pixels of a row that follow (32 x 32: a third
    of the compiled call), and loops over more than a few arrays are not vectorised at all.
    """

    def define_pipelines(self) -> Any:
        self.state.flags.noalias = True
        return super().define_pipelines()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` as a building block of an entry. What it writes to must not overlap another argument.

    It makes no arrays, so none of those that it is given has to be counted while it looks at parts of it. It must not
    return one either, not even in a tuple: memory would be freed that is still in use.
    """
    return numba.njit(**FLAGS, pipeline_class=_Apart, _nrt=False)(function)


def allocating(function: Callable[..., Any]) -> Any:
    """Compile `function` as a `kernel` that makes arrays for itself."""
    # Left unsaid, it would be as in the kernel that calls it first.
    return numba.njit(**FLAGS, pipeline_class=_Apart, _nrt=True)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile `function` into its only caller: it holds no loops over pixels, and each level of calls costs time."""
    return numba.njit(**FLAGS, inline="always")(function)


def exact(function: Callable[..., Any]) -> Any:
    """Compile `function` as a building block that is rounded alike on every CPU: the same plan everywhere."""
    return numba.njit(**EXACT)(function)


def entry(function: Callable[..., Any]) -> Any:
    """Compile `function` as a function that Python calls, cached on disk where a cache can be had."""
    return _entry(function, FLAGS)


def entry_with_gil(function: Callable[..., Any]) -> Any:
    """Compile an entry that reads Python objects, which other threads must not change meanwhile."""
    return _entry(function, {**FLAGS, "nogil": False})


def _entry(function: Callable[..., Any], flags: dict[str, Any]) -> Any:
    dispatcher = numba.njit(**flags, pipeline_class=_Wide)(function)
    try:
        dispatcher._cache = _entry_cache(function)
    except Exception as error:  # no writable place, or another Numba: slower to start, never broken
        _warn_uncached(error)
    return dispatcher


def _entry_cache(function: Callable[..., Any]) -> Any:
    """Numba's file cache with three repairs.

    Numba looks only at the file of the entry itself, so an edited mask generator would go on running its old
    code: the digest of all kernel sources is part of the key. A truncated cache file raises EOFError for
    ever: here it is emptied and written anew. And before Numba loads anything it fills its tables of all that it can
    compile, and imports scipy.linalg for them: most of the time to a process's first batch, for tables that are not
    looked at. Whoever compiles something later has them filled then.
    """
    from numba.core.caching import FunctionCache
    from numba.core.runtime import rtsys

    class EntryCache(FunctionCache):  # type: ignore[misc]
        def _index_key(self, sig: Any, codegen: Any) -> Any:
            return (*super()._index_key(sig, codegen), _SOURCES_DIGEST)

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                rtsys.initialize(target_context)  # what compiled code calls
                with self._guard_against_spurious_io_errors():
                    return self._load_overload(sig, target_context)
            except Exception as error:
                _warn_uncached(error)
                try:
                    self.flush()
                except Exception:
                    self.disable()
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except Exception as error:
                _warn_uncached(error)
                self.disable()

    return EntryCache(function)


def _digest_of_sources() -> str:
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for name in KERNEL_SOURCES:
        for path in sorted(folder.glob(f"{name}/*.py")) or [folder / name]:
            digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


_SOURCES_DIGEST = _digest_of_sources()
_warned = False


def _warn_uncached(error: Exception) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"miamix_cpu: Numba's cache could not be used ({type(error).__name__}: {error}); kernels are compiled "
            "in this process, which takes some seconds. Set NUMBA_CACHE_DIR to a writable folder.",
            RuntimeWarning,
            stacklevel=2,
        )
