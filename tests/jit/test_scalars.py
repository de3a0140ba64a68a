"""What kernels do with numbers, against Python and NumPy."""

import itertools
import math
import pickle
import subprocess
import sys

import numba
import numpy as np
import pytest
from miamix_cpu.jit.scalars import larger, reinterpret, smaller
from numba.core import event
from numba.core.errors import TypingError

from miamix_cpu.jit.compile import FLAGS

BOTH = pytest.mark.parametrize("compiled", [lambda f: f, numba.njit(**FLAGS)], ids=["python", "compiled"])
NUMBERS = {
    np.int32: [-(2**31), -1, 0, 1, 2**31 - 1],
    np.int64: [-(2**63), -1, 0, 1, 2**63 - 1],
    np.uint64: [0, 1, 2**63, 2**64 - 1],
    np.float32: [-math.inf, -1.5, -0.0, 0.0, 1e-40, 2.5, math.inf],
    np.float64: [-math.inf, -1.5, 0.0, 1e-310, 2.5, math.inf],
}


@BOTH
@pytest.mark.parametrize("dtype", NUMBERS)
def test_larger_and_smaller(compiled, dtype):
    high, low = compiled(lambda one, other: larger(one, other)), compiled(lambda one, other: smaller(one, other))
    for one, other in itertools.product(map(dtype, NUMBERS[dtype]), repeat=2):
        assert high(one, other) == max(one, other)
        assert low(one, other) == min(one, other)


@BOTH
def test_the_first_of_nan(compiled):
    for choose in compiled(lambda one, other: larger(one, other)), compiled(lambda one, other: smaller(one, other)):
        assert math.isnan(choose(math.nan, 1.0))
        assert choose(1.0, math.nan) == 1.0


@pytest.mark.parametrize("dtype", NUMBERS)
def test_the_type_stays(dtype):
    """In float64 a float32 would not be rounded otherwise, but loops would take twice as long."""
    compiled = numba.njit(lambda one, other: (larger(one, other), smaller(one, other)))
    compiled(dtype(1), dtype(2))
    number = numba.from_dtype(np.dtype(dtype))
    assert compiled.nopython_signatures[0].return_type == numba.types.UniTuple(number, 2)


@pytest.mark.parametrize("other", [np.uint64(1), (1, 2), "1"], ids=str)
def test_what_can_not_be_compared_is_refused(other):
    for choose in larger, smaller:
        with pytest.raises(TypingError, match="are not two floats or two integers"):
            numba.njit(lambda one, other: choose(one, other))(np.int64(1), other)  # noqa: B023


@BOTH
def test_a_literal_does_not_change_the_type(compiled):
    assert compiled(lambda value: larger(0, value))(-3) == 0
    assert compiled(lambda value: smaller(0.5, value))(0.25) == 0.25
    assert compiled(lambda value: larger(1, value))(2.5) == 2.5


@BOTH
@pytest.mark.parametrize(
    ("one", "other"), [(np.int32, np.float32), (np.float32, np.int32), (np.uint64, np.float64), (np.int64, np.uint64)]
)
def test_reinterpret(compiled, one, other, rng):
    for word in rng.integers(0, 2**31, 20).tolist():
        value = one(word)
        assert other(compiled(lambda value: reinterpret(value, other))(value)).tobytes() == value.tobytes()


def test_reinterpret_of_another_width():
    with pytest.raises(TypingError, match="different widths"):
        numba.njit(lambda value: reinterpret(value, np.float32))(np.int64(1))


def test_they_travel_by_name():
    """To another process, for in this one Numba remembers what it has pickled."""
    code = "import pickle, sys; print(*(there(1.5, 2.5) for there in pickle.load(sys.stdin.buffer)))"
    sent = pickle.dumps([larger, smaller])
    result = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, timeout=120)
    assert result.stdout.split() == [b"2.5", b"1.5"], result.stderr


def test_nothing_is_compiled_for_them():
    """That is what they are for: Numba's own `max` is a function for each pair of types."""
    compiled = event.RecordingListener()
    with event.install_listener("numba:compile", compiled):
        numba.njit(lambda a, b: larger(a, b) + smaller(a, 1.0) + reinterpret(b, np.uint64))(1.5, 2.5)
    assert len(compiled.buffer) == 2  # the function itself, its begin and its end
