"""Numba's compiler, changed in three places: wide vectors, arrays that do not overlap, and parts of entries.

All of it rests on what Numba does not promise to keep; `tests/jit/test_cache.py` says when something is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NativeLowering

from miamix_cpu.jit.cache import EntryCache


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


class _PartLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The code of a part, as entries take it in: neither optimised nor made machine code of, since they do both."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        return _NoEnvironments


class _NoEnvironments:
    """Numba writes a function's environment, of which ours have no need, into its machine code."""

    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        pass


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(_WideLowering):
    _name = "miamix_cpu_part_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return super().run_pass(state)  # type: ignore[no-any-return]


class EntryCompiler(Compiler):  # type: ignore[misc]
    """Numba's compiler with wide vectors."""

    lowering: Any = _WideLowering

    def define_pipelines(self) -> Any:
        """Numba's own, with another lowering."""
        pipelines = super().define_pipelines()
        for pipeline in pipelines:
            pipeline.passes = [
                (self.lowering if found is NativeLowering else found, words) for found, words in pipeline.passes
            ]
            pipeline.finalize()
        return pipelines


class PartCompiler(EntryCompiler):
    """The same for a part, told to promise LLVM that array arguments do not overlap.

    Otherwise each loop begins by comparing their ends, as dear as the 32 pixels of a row that follow (32 x 32: a third
    of the compiled call), and loops over more than a few arrays are not vectorised at all.
    """

    lowering = _PartLowering

    def define_pipelines(self) -> Any:
        """The same ones."""
        self.state.flags.noalias = True
        return super().define_pipelines()


class Entry(CPUDispatcher):  # type: ignore[misc]
    """A function that Python calls, or others by its address.

    Parameters
    ----------
    function : callable
    flags : Numba's options
    """

    def __init__(self, function: Callable[..., Any], flags: dict[str, Any]) -> None:
        super().__init__(function, targetoptions={**flags, "nopython": True}, pipeline_class=EntryCompiler)

    def compile(self, signature: Any) -> Any:
        """Compile it, or load it; whatever happens, other processes are not kept waiting after it."""
        try:
            return super().compile(signature)
        finally:
            if isinstance(self._cache, EntryCache):
                self._cache.release()


class Part(CPUDispatcher):  # type: ignore[misc]
    """A function that only compiled code calls; where Python does, as in tests, an entry is made around it.

    Numba by itself optimises each function, and makes machine code of it, alone and again in each that calls it: a
    third of the time to compile.

    Parameters
    ----------
    function : callable
    flags : Numba's options
    """

    def __init__(self, function: Callable[..., Any], flags: dict[str, Any]) -> None:
        options = {**flags, "nopython": True, "no_cpython_wrapper": True}
        super().__init__(function, targetoptions=options, pipeline_class=PartCompiler)

    @cached_property
    def entry(self) -> Any:
        """A function around it, compiled in this process."""
        return Entry(lambda *arguments: self(*arguments), {})

    def __call__(self, *arguments: Any) -> Any:
        """Call it from Python."""
        return self.entry(*arguments)
