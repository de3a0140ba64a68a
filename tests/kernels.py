"""Kernels as a test calls them: compiled, by an entry around them, and as the plain Python that they are written in."""

import ctypes
import types
from functools import cache

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

from miamix_cpu.jit import intrinsics


@cache
def compiled(kernel):
    """`kernel` as compiled code, for it has no wrapper of its own that Python could call."""
    return numba.njit(lambda *arguments: kernel(*arguments))


@cache
def python(kernel):
    """`kernel` in plain Python, and all kernels that it calls, with what `jit.intrinsics` has in Python too."""
    function = kernel.py_func if isinstance(kernel, Dispatcher) else kernel
    inner = {name: value for name, value in function.__globals__.items() if isinstance(value, Dispatcher)}
    twins = {name: _TWINS[value] for name, value in function.__globals__.items() if _is_known(value)}
    twins.update({name: _later(value) for name, value in inner.items()})
    return types.FunctionType(
        function.__code__,
        {**function.__globals__, **twins},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def _later(kernel):
    """`python(kernel)`, made when it is called: kernels may call each other."""
    return lambda *arguments: python(kernel)(*arguments)


def _is_known(value):
    return callable(value) and any(value is known for known in _TWINS)


def _array_at(address, shape, dtype):
    count = int(np.prod(shape))
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(int(address)), dtype, count).reshape(shape)


def _reinterpret(value, dtype):
    return value.view(dtype)


def _mix_byte(weight, first, second):
    """In as many bits as it takes."""
    return np.uint8(int(second) + ((((int(second) - int(first)) << 7) * int(weight) >> 16) + 32 >> 6))


_TWINS = {
    intrinsics.array_at: _array_at,
    intrinsics.reinterpret: _reinterpret,
    intrinsics.mix_byte: _mix_byte,
}
