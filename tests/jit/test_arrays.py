"""What kernels do with arrays, against NumPy; alike in Python, where all of them run as well."""

import subprocess
import sys

import numba
import numpy as np
import pytest
from miamix_cpu.jit.arrays import address_of, array_at, empty, fill, run
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys

from miamix_cpu.jit.compile import FLAGS
from miamix_cpu.plan.mix_plan import LAYER

BOTH = pytest.mark.parametrize("compiled", [lambda f: f, numba.njit(**FLAGS)], ids=["python", "compiled"])


@BOTH
@pytest.mark.parametrize("shape", [5, 1, 0, (3, 4), (2, 3, 4), (4, 0, 2)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.uint64, np.float64])
def test_array_at_an_address(compiled, shape, dtype, rng):
    values = (rng.random(shape) * 200).astype(dtype)
    there = compiled(lambda address, shape: array_at(address, shape, dtype))(np.uint64(values.ctypes.data), shape)
    assert there.dtype == dtype
    assert there.shape == values.shape
    assert there.strides == values.strides or not values.size
    assert there.flags.c_contiguous
    np.testing.assert_array_equal(there, values)
    if values.size:
        there[...] += dtype(1)
        np.testing.assert_array_equal(there, values)  # no copy


@BOTH
def test_records_at_an_address(compiled):
    layers = np.zeros(3, LAYER)
    layers["ratio"], layers["cells"] = [0.25, 0.5, 0.75], [3, 4, 5]

    def second(address):
        layer = array_at(address, 3, LAYER)[1]
        layer["sample"] = 7
        return layer["ratio"], layer["cells"]

    assert tuple(compiled(second)(np.uint64(layers.ctypes.data))) == (0.5, 4)
    assert layers["sample"].tolist() == [0, 7, 0]


@BOTH
def test_address_of(compiled, rng):
    values = rng.random((4, 5))
    for part in values, values[1:], values[:, 2], values.T:
        assert compiled(lambda array: address_of(array))(part) == part.ctypes.data


@BOTH
@pytest.mark.parametrize("shape", [7, 0, (3, 5), (0, 5), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.uint64])
def test_empty(compiled, shape, dtype):
    new = compiled(lambda shape: empty(shape, dtype))(shape)
    expected = np.empty(shape, dtype)
    assert (new.shape, new.dtype, new.flags.c_contiguous) == (expected.shape, expected.dtype, True)
    assert new.strides == expected.strides or not new.size
    new[...] = 3
    assert (new == 3).all()


def test_new_arrays_are_freed_once_and_not_before():
    """Of kernels that allocate; each array is filled anew, so memory that came back too early would show."""

    @numba.njit(**FLAGS)
    def work(n):
        total = 0
        for i in range(n):
            one, other = empty(1000, np.int64), empty((10, 100), np.int64)
            fill(one, i)
            fill(other, -i)
            part = run(one, 990, 1000)
            one = empty(1, np.int64)  # the first lives on in its part
            again = empty(1000, np.int64)  # which would be where that was
            fill(again, -1)
            total += part[0] + part[9] + other[9, 99] + again[0] + 1
        return total

    work(3)
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    assert work(500) == 500 * 499 // 2
    after = rtsys.get_allocation_stats()
    _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc == 4 * 500
    assert after.alloc - after.free == before.alloc - before.free


def test_new_arrays_are_aligned_and_whole():
    """To cache lines, which vectors that long want; and what Numba knows of an array is told."""

    @numba.njit(**FLAGS)
    def told(n):
        one, other = empty(n, np.int16), empty((n, 3), np.float64)
        return address_of(one) % 64, address_of(other) % 64, one.itemsize, other.itemsize, one.size, other.size

    for n in range(50):
        assert told(n) == (0, 0, 2, 8, n, 3 * n)


def test_where_memory_runs_out():
    with pytest.raises(MemoryError):
        numba.njit(**FLAGS)(lambda: empty(2**50, np.float32).size)()


def test_parts_that_leave_a_kernel_keep_their_array():
    @numba.njit(**FLAGS)
    def tail(n):
        values = empty(n, np.int64)
        fill(values, n)
        return run(values, n - 5, n)

    parts = [tail(n) for n in range(1000, 1100)]
    assert all(part.tolist() == [n] * 5 for n, part in zip(range(1000, 1100), parts, strict=True))


@BOTH
@pytest.mark.parametrize(("start", "stop"), [(0, 9), (0, 0), (9, 9), (2, 7), (8, 9)])
def test_run(compiled, start, stop):
    values = np.arange(9, dtype=np.int16)
    part = compiled(lambda array, start, stop: run(array, start, stop))(values, start, stop)
    np.testing.assert_array_equal(part, values[start:stop])
    assert part.strides == values.strides
    part[...] = -1
    assert (values[start:stop] == -1).all()
    assert (values == -1).sum() == stop - start


def test_run_of_what_it_can_not_take():
    for array in np.zeros((3, 3)), np.zeros(9)[::2]:
        with pytest.raises(TypingError):
            numba.njit(lambda array: run(array, 0, 2))(array)


@pytest.mark.parametrize("start_stop", ["0, 10", "-1, 3", "5, 4", "10, 10"])
def test_run_is_looked_at_where_bounds_are(start_stop):
    """Silently wrong otherwise, as every index in a kernel; so tests run with bounds checked, too."""
    code = (
        "import numba, numpy as np\nfrom miamix_cpu.jit.arrays import run\n"
        f"print(numba.njit(lambda array: run(array, {start_stop}).size)(np.zeros(9)))"
    )
    environment = {"NUMBA_BOUNDSCHECK": "1", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert "IndexError" in result.stderr, result


@BOTH
@pytest.mark.parametrize("shape", [6, 0, (3, 5), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.bool_])
def test_fill(compiled, shape, dtype):
    around = np.zeros(100, dtype)
    values = around[20 : 20 + np.prod(shape)].reshape(shape)
    compiled(lambda array, value: fill(array, value))(values, dtype(1))
    assert (values == 1).all()
    assert (around == 1).sum() == values.size


def test_fill_of_what_it_can_not_take():
    for array in np.zeros((4, 4))[:, ::2], np.zeros(4, np.uint8):
        with pytest.raises(TypingError):
            numba.njit(lambda array: fill(array, 1.0))(array)
