"""Numba's compiler, adjusted: arguments that do not overlap, no reference counts, wide vectors, no wrappers.

All of it is private API, or options that Numba does not document. They make kernels faster and change no result, so
where a release of Numba works otherwise inside, its own compiler is used.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from miamix_cpu.private_api import attempt, warn_of

_CHANGED = "Numba's compiler cannot be adjusted, so kernels run up to a fifth slower"


@cache
def compiler_options(*, called_by_python: bool, counts_references: bool) -> dict[str, Any]:
    """Options for `numba.njit` beside `FLAGS`."""
    # Left unsaid, reference counting would be as in the kernel that calls it first.
    wanted: dict[str, Any] = {"no_cfunc_wrapper": True, "_nrt": counts_references}
    if not called_by_python:
        wanted["no_cpython_wrapper"] = True

    def adjusted() -> dict[str, Any]:
        from numba.core.compiler import Flags
        from numba.core.cpu import CPUTargetOptions

        CPUTargetOptions.parse_as_flags(Flags(), dict(wanted))  # raises where it does not know one
        return {**wanted, "pipeline_class": compiler_class()}

    return attempt(_CHANGED, adjusted, dict)


def cpu() -> tuple[str, list[str]]:
    """The processor that code is compiled for, and its features, as LLVM calls them."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return binding.get_host_cpu_name(), [name for name, has in features.items() if has]


@cache
def compiler_class() -> Any:
    """Numba's compiler with both changes.

    noalias: otherwise each loop begins by comparing where its arrays end, as expensive as the 32 pixels of a row that
    follow, and loops over more than a few arrays are not vectorised at all.

    Vectors of 512 bits: LLVM avoids them on Intel's processors, where loops as tight as ours gain by them. Elsewhere
    the attribute changes nothing.
    """
    from numba.core.compiler import Compiler
    from numba.core.compiler_machinery import register_pass
    from numba.core.lowering import Lower
    from numba.core.typed_passes import NativeLowering

    class WideLower(Lower):  # type: ignore[misc]
        def post_lower(self) -> None:
            super().post_lower()
            try:
                set.add(self.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own `add` knows few
            except Exception as error:
                warn_of(_CHANGED, error)

    @register_pass(mutates_CFG=True, analysis_only=False)
    class WideLowering(NativeLowering):  # type: ignore[misc]
        _name = "miamix_cpu_lowering"

        @property
        def lowering_class(self) -> Any:
            return WideLower

    class AdjustedCompiler(Compiler):  # type: ignore[misc]
        def define_pipelines(self) -> Any:
            try:
                self.state.flags.noalias = True
                pipelines = super().define_pipelines()
                for pipeline in pipelines:
                    pipeline.passes = [
                        (WideLowering if found is NativeLowering else found, words) for found, words in pipeline.passes
                    ]
                    pipeline.finalize()
                return pipelines
            except Exception as error:
                warn_of(_CHANGED, error)
                return super().define_pipelines()

    return AdjustedCompiler
