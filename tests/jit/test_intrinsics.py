"""The few instructions that Numba lacks, against NumPy and exact arithmetic."""

import platform
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba import njit
from numba.core import event
from numba.core.errors import TypingError

from miamix_cpu.jit.flags import FLAGS
from miamix_cpu.jit.intrinsics import array_at, mix_byte, reinterpret
from miamix_cpu.mix.blend import mixed
from miamix_cpu.plan.layers import LAYER

SHAPES = [5, 1, 0, (3, 4), (2, 3, 4), (4, 0, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.uint64, np.float64])
def test_array_at_an_address(shape, dtype, rng):
    values = (rng.random(shape) * 200).astype(dtype)
    there = njit(**FLAGS)(lambda address, shape: array_at(address, shape, dtype))(np.uint64(values.ctypes.data), shape)
    assert there.dtype == dtype
    assert there.shape == values.shape
    assert there.strides == values.strides or not values.size
    assert there.flags.c_contiguous
    np.testing.assert_array_equal(there, values)
    if values.size:
        there[...] += dtype(1)
        np.testing.assert_array_equal(there, values)  # no copy


def test_records_at_an_address():
    layers = np.zeros(3, LAYER)
    layers["ratio"], layers["cells"] = [0.25, 0.5, 0.75], [3, 4, 5]

    def second(address):
        layer = array_at(address, 3, LAYER)[1]
        layer["sample"] = 7
        return layer["ratio"], layer["cells"]

    assert tuple(njit(**FLAGS)(second)(np.uint64(layers.ctypes.data))) == (0.5, 4)
    assert layers["sample"].tolist() == [0, 7, 0]


@njit(**FLAGS)
def total_of(address, n):
    values, total = array_at(address, n, np.int64), 0
    part = values[n // 2 :]
    for value in part:
        total += value
    return total


def test_an_array_at_an_address_keeps_no_memory_and_frees_none():
    """It belongs to whoever gave the address, and is as it was however often it was looked at."""
    values = np.arange(1000)
    references = sys.getrefcount(values)
    assert {total_of(np.uint64(values.ctypes.data), 1000) for _ in range(1000)} == {sum(range(500, 1000))}
    assert sys.getrefcount(values) == references
    np.testing.assert_array_equal(values, np.arange(1000))


@pytest.mark.parametrize(
    ("one", "other"), [(np.int32, np.float32), (np.float32, np.int32), (np.uint64, np.float64), (np.int64, np.uint64)]
)
def test_reinterpret(one, other, rng):
    compiled = njit(**FLAGS)(lambda value: reinterpret(value, other))
    for word in [0, 1, 2**31 - 1, *rng.integers(0, 2**31, 50).tolist()]:
        value = np.array([word], f"i{one(0).nbytes}").view(one)[0]
        found = compiled(value)
        if not np.isnan(found):  # of which Python's float keeps that it is one
            assert other(found).tobytes() == value.tobytes()
    assert numba.from_dtype(np.dtype(other)) == compiled.nopython_signatures[0].return_type


def test_reinterpret_of_another_width():
    with pytest.raises(TypingError, match="different widths"):
        njit(lambda value: reinterpret(value, np.float32))(np.int64(1))


@njit
def mixed_bytes(out, weight, first, second):
    for p in range(out.size):
        out[p] = mix_byte(weight, first[p], second[p])


@pytest.mark.parametrize("weight", [0, 1, 63, 64, 77, 128, 16383, 16384, 16385, 20000, 32704, 32767, 32768])
def test_every_pair_of_bytes(weight):
    """Compiled in 16 bits, in Python in as many as it takes: the same, rounded, between both, exact at the ends."""
    first, second = (values.ravel().astype(np.uint8) for values in np.meshgrid(np.arange(256), np.arange(256)))
    out = np.empty_like(first)
    mixed_bytes(out, np.int16(-weight), first, second)
    # In whole numbers: the floor of (second + (first - second) * weight / 2^15) + 1/2.
    difference = first.astype(np.int64) - second
    exact = ((second.astype(np.int64) << 15) + difference * weight + (1 << 14)) >> 15
    np.testing.assert_array_equal(out, exact)
    assert ((out >= np.minimum(first, second)) & (out <= np.maximum(first, second))).all()
    if weight in (0, 32768):
        np.testing.assert_array_equal(out, first if weight else second)
    some = np.arange(0, first.size, 97)
    python = [mixed(np.int16(-weight), first[p], second[p], 1, 0) for p in some]
    np.testing.assert_array_equal(out[some], python)


@njit
def mixed_by(out, weights, first, second):
    for p in range(out.size):
        out[p] = mix_byte(weights[p], first, second)


@pytest.mark.parametrize(("first", "second"), [(0, 255), (255, 0), (1, 0), (0, 1), (7, 200), (130, 129)])
def test_every_weight(first, second):
    weights = np.arange((1 << 15) + 1)
    out = np.empty(weights.size, np.uint8)
    mixed_by(out, (-weights).astype(np.int16), np.uint8(first), np.uint8(second))
    np.testing.assert_array_equal(out, ((second << 15) + (first - second) * weights + (1 << 14)) >> 15)


@pytest.mark.parametrize(
    ("weight", "first", "second"),
    [(np.int32, np.uint8, np.uint8), (np.int16, np.int16, np.uint8), (np.int16, np.uint8, np.float32)],
)
def test_other_kinds_than_bytes_are_refused(weight, first, second):
    with pytest.raises(TypingError, match="mix_byte takes int16, uint8, uint8"):
        njit(lambda weight, first, second: mix_byte(weight, first, second))(weight(1), first(1), second(1))


def test_bytes_are_mixed_in_vectors_of_16_bits():
    """That is what it is for; in Numba's own 64 bits LLVM does not find the upper half of a 16-bit product."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("looks for an instruction of x86")
    mixed_bytes(np.ones(9, np.uint8), np.int16(-9), np.ones(9, np.uint8), np.ones(9, np.uint8))
    (text,) = mixed_bytes.inspect_asm().values()
    assert "pmulhw" in text


def test_nothing_is_compiled_for_them():
    """They are a few instructions of whatever uses them, not functions that are compiled for each pair of types."""
    compiled = event.RecordingListener()
    with event.install_listener("numba:compile", compiled):
        njit(lambda a, b: reinterpret(a, np.uint64) + mix_byte(b, np.uint8(3), np.uint8(5)))(1.5, np.int16(2))
    assert len(compiled.buffer) == 2  # the function itself, its begin and its end


@pytest.mark.parametrize("index", [10, -11])
def test_indices_are_looked_at_where_bounds_are(index):
    """Silently wrong otherwise, as every index in a kernel; so tests run with bounds checked, too."""
    code = (
        "import numba, numpy as np\nfrom miamix_cpu.jit.intrinsics import array_at\nvalues = np.zeros(10)\n"
        f"print(numba.njit(lambda a: array_at(a, 10, np.float64)[{index}])(np.uint64(values.ctypes.data)))"
    )
    environment = {"NUMBA_BOUNDSCHECK": "1", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert "IndexError" in result.stderr, result
