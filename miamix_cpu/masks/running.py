"""Running sums along rows, four rows side by side in one vector.

Each value waits for the one before it, so LLVM's vectoriser leaves such a loop alone. Written as its vector
instructions: eight values of a row are added up in three steps, then the row's sum so far is added to all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from miamix_cpu.jit.compile import kernel

#: Rows that are added up together, and values of each of them at a time.
ROWS, LANES = 4, 8


@kernel
def add_up(out: np.ndarray, at: int, values: np.ndarray, top: int) -> None:
    """out[r, at + x] = values[top + r, 0] + .. + values[top + r, x], r below ROWS; what exceeds 16 bits wraps.

    Parameters
    ----------
    out : int16 (ROWS, at least at + n), C-contiguous; changed
    at : int
    values : int16 (at least top + ROWS, n), C-contiguous, n a multiple of LANES
    top : int
    """
    _add_up(out, at, values, top)


@intrinsic  # type: ignore[untyped-decorator]
def _add_up(typing_context: Any, out: Any, at: Any, values: Any, top: Any) -> Any:
    if any(array.dtype != types.int16 or array.layout != "C" for array in (out, values)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        short, number, index = ir.IntType(16), ir.IntType(32), ir.IntType(64)
        row, all_rows = ir.VectorType(short, LANES), ir.VectorType(short, ROWS * LANES)
        zero = ir.Constant(all_rows, [0] * (ROWS * LANES))

        def lanes_of(i: int) -> tuple[Any, Any]:
            array = context.make_array(signature.args[i])(context, builder, value=arguments[i])
            return array.data, cgutils.unpack_tuple(builder, array.shape)[1]

        def chosen(one: Any, other: Any, lanes: list[int]) -> Any:
            return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(number, len(lanes)), lanes))

        def within_rows(values: Any, lane_of: Any) -> Any:
            """Lane i of each row becomes lane `lane_of(i)` of it, or 0 where that is negative."""
            lanes = [(r, lane_of(i)) for r in range(ROWS) for i in range(LANES)]
            return chosen(values, zero, [ROWS * LANES if i < 0 else r * LANES + i for r, i in lanes])

        def joined(parts: list[Any]) -> Any:
            while len(parts) > 1:
                size = 2 * parts[0].type.count
                parts = [chosen(a, b, list(range(size))) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            return parts[0]

        (target, target_step), (source, step) = lanes_of(0), lanes_of(2)
        froms = [builder.mul(builder.add(arguments[3], index(r)), step) for r in range(ROWS)]
        intos = [builder.add(builder.mul(index(r), target_step), arguments[1]) for r in range(ROWS)]

        def pointer(data: Any, start: Any, offset: Any) -> Any:
            return builder.bitcast(builder.gep(data, [builder.add(start, offset)]), row.as_pointer())

        so_far = cgutils.alloca_once_value(builder, zero)
        builder.store(zero, so_far)
        with cgutils.for_range(builder, builder.sdiv(step, index(LANES))) as loop:
            offset = builder.mul(loop.index, index(LANES))
            sums = joined([builder.load(pointer(source, start, offset), align=2) for start in froms])
            for shift in (1, 2, 4):
                sums = builder.add(sums, within_rows(sums, lambda i, shift=shift: i - shift))
            sums = builder.add(sums, builder.load(so_far))
            for r, start in enumerate(intos):
                lanes = list(range(r * LANES, (r + 1) * LANES))
                builder.store(chosen(sums, zero, lanes), pointer(target, start, offset), align=2)
            builder.store(within_rows(sums, lambda i: LANES - 1), so_far)
        return context.get_dummy_value()

    return types.none(out, types.int64, values, types.int64), codegen
