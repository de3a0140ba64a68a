"""The generators that a transform owns: found among its attributes, seeded from our stream, restored afterwards.

A transform that draws from `self.rng = np.random.default_rng(0)` would make the same views in every worker and in
every epoch. So what a transform holds is looked through at each batch, for its owner may change it at any time.
Nothing of it is copied.
"""

from __future__ import annotations

import inspect
import random
import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

_LARGEST = 1000  # containers of more values hold data, and are not looked through
_MOST = 3000  # objects that are looked at in one transform

#: Values that hold no generator.
_PLAIN = frozenset((
    type(None), bool, int, float, complex, str, bytes, bytearray, np.ndarray, types.ModuleType,
    types.BuiltinFunctionType, range, slice,
))  # fmt: skip
#: What attributes that hold a generator are commonly called.
_NAMES = frozenset(("rng", "_rng", "generator", "_generator", "random_state", "_random_state", "random_generator"))


@dataclass
class Found:
    """What a transform draws from by itself.

    Attributes
    ----------
    generators : list
        NumPy's `Generator`, `RandomState` and bit generators, Python's `random.Random`, torch's `Generator`.
    seeders : list
        Objects with `set_random_state(seed=)` that hold no generator which could be seen.
    unreachable : list of (str, str)
        A class that holds something random which cannot be seeded, and what that is.
    """

    generators: list[Any] = field(default_factory=list)
    seeders: list[Any] = field(default_factory=list)
    unreachable: list[tuple[str, str]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)


def find_generators(transforms: Iterable[Any], ignored: Iterable[Any] = ()) -> Found:
    """Look through transforms: their attributes, what those hold, and what the caller's functions refer to.

    Parameters
    ----------
    transforms : callables
    ignored : objects that are not looked at
    """
    found = Found(seen=set(map(id, ignored)))
    for transform in transforms:
        _look(transform, found)
    return found


@contextmanager
def reseeded(found: Found, rng: np.random.Generator) -> Iterator[None]:
    """Seed the generators that were found from `rng`, and restore their states afterwards."""
    states = [(generator, _state_of(generator)) for generator in found.generators]
    try:
        for generator in found.generators:
            _seed(generator, int(rng.integers(1 << 63)))
        for seeder in found.seeders:
            seeder.set_random_state(seed=int(rng.integers(1 << 32)))
        yield
    finally:
        for generator, state in states:
            _restore(generator, state)


def _look(value: Any, found: Found) -> None:
    if type(value) in _PLAIN or id(value) in found.seen or len(found.seen) > _MOST:
        return
    found.seen.add(id(value))
    if _is_generator(value):
        found.generators.append(value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        _look_at_all(value, found)
    elif isinstance(value, dict):
        _look_at_all(value.values(), found)
    elif isinstance(value, types.FunctionType):
        _look_at_all(_referred_to(value), found)
    elif isinstance(value, types.MethodType):
        _look_at_all((value.__self__, value.__func__), found)
    elif isinstance(value, partial):
        _look_at_all((value.func, *value.args, *value.keywords.values()), found)
    elif not isinstance(value, type) and not hasattr(type(value), "__array__"):
        _look_into(value, found)


def _look_at_all(values: Any, found: Found) -> None:
    if len(values) <= _LARGEST:
        for value in list(values):
            if type(value) not in _PLAIN:
                _look(value, found)


def _look_into(value: Any, found: Found) -> None:
    """Look through an object's attributes, its class's generators, and what methods of the caller's refer to."""
    kind: Any = type(value)
    before = len(found.generators)
    attributes = [(name, part) for name, part in _attributes_of(value) if type(part) not in _PLAIN]
    for name, part in attributes:
        held, known = len(found.generators), id(part) in found.seen
        _look(part, found)
        if held == len(found.generators) and not known and _looks_random(name, part):
            found.unreachable.append((kind.__qualname__, f"{name}, of type {type(part).__qualname__}"))
    shared = _of_class(kind)
    _look_at_all(shared, found)
    if before == len(found.generators) and _takes_seed(kind):
        own = (*shared, *(part for _, part in attributes))
        if not any(map(_is_generator, own)):  # else it shares one with an object that was looked at before
            found.seeders.append(value)


def _attributes_of(value: Any) -> list[tuple[str, Any]]:
    pairs = list(getattr(value, "__dict__", {}).items())
    kind: Any = type(value)
    return pairs + [(name, getattr(value, name)) for name in _slots_of(kind) if hasattr(value, name)]


@cache
def _slots_of(kind: type) -> tuple[str, ...]:
    slots: list[str] = []
    for base in kind.__mro__:
        own = base.__dict__.get("__slots__", ())
        slots += [own] if isinstance(own, str) else own
    return tuple(name for name in slots if name not in ("__dict__", "__weakref__"))


@cache
def _of_class(kind: type) -> tuple[Any, ...]:
    """The generators that a class holds for all its objects, and the methods of a class of the caller's."""
    values = []
    for base in kind.__mro__:
        for part in vars(base).values():
            function = part.__func__ if isinstance(part, (staticmethod, classmethod)) else part
            is_own = isinstance(function, types.FunctionType) and not _is_installed(base.__module__)
            if is_own or _is_generator(function):
                values.append(function)
    return tuple(values)


def _referred_to(function: types.FunctionType) -> list[Any]:
    """What a function of the caller's closes over, has as defaults, and names among its module's globals."""
    if _is_installed(function.__module__ or ""):
        return []
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    names = function.__globals__
    return values + [names[name] for name in _names_in(function.__code__) if name in names]


@cache
def _names_in(code: types.CodeType) -> tuple[str, ...]:
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names_in(part)]
    return tuple(dict.fromkeys((*code.co_names, *inner)))


@cache
def _is_installed(module: str) -> bool:
    """Whether a module is a library's or Python's rather than the caller's: those draw from what is passed to them."""
    root = module.partition(".")[0]
    path = getattr(sys.modules.get(root), "__file__", None) or ""
    return root in sys.stdlib_module_names or "-packages" in path


def _is_generator(value: Any) -> bool:
    if isinstance(value, random.SystemRandom):
        return False
    if isinstance(value, (np.random.Generator, np.random.RandomState, np.random.BitGenerator, random.Random)):
        return True
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Generator)


def _looks_random(name: str, value: Any) -> bool:
    """Whether an attribute draws, or says what comes next, in a way that cannot be seeded."""
    if isinstance(value, (random.SystemRandom, types.GeneratorType)) or type(value).__module__ == "itertools":
        return True
    return name in _NAMES and not callable(value)


@cache
def _takes_seed(kind: type) -> bool:
    method = getattr(kind, "set_random_state", None)
    try:
        return method is not None and "seed" in inspect.signature(method).parameters
    except (TypeError, ValueError):
        return False


def _bits(generator: Any) -> Any:
    """NumPy's bit generator, where its state is."""
    return generator.bit_generator if isinstance(generator, np.random.Generator) else generator


def _state_of(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    if isinstance(generator, (np.random.Generator, np.random.BitGenerator)):
        return _bits(generator).state
    return generator.get_state()


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, (np.random.Generator, np.random.BitGenerator)):
        _bits(generator).state = state
    else:
        generator.set_state(state)


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, random.Random):
        generator.seed(seed)
    elif isinstance(generator, np.random.RandomState):
        kind = generator.get_state(legacy=False)["bit_generator"]
        generator.set_state(getattr(np.random, kind)(seed).state)
    elif isinstance(generator, (np.random.Generator, np.random.BitGenerator)):
        bits = _bits(generator)
        bits.state = type(bits)(seed).state
    else:
        generator.manual_seed(seed)
