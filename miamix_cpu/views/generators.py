"""Find the random generators that a transform owns, seed them from our stream, and restore them afterwards.

Without this, a transform that draws from `self.rng = np.random.default_rng(0)` would make the same views in every
worker and in every epoch. Each batch searches the transform again, because its owner may change it at any time. No
object is copied.
"""

from __future__ import annotations

import inspect
import itertools
import random
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

_LARGEST = 1000  # larger containers hold data and are not searched
_MOST = 3000  # objects that are searched at most

#: Types whose values cannot hold a generator.
_PLAIN = frozenset((
    type(None), bool, int, float, complex, str, bytes, bytearray, np.ndarray, range, slice, property,
    types.GetSetDescriptorType, types.MemberDescriptorType,
))  # fmt: skip
_CONTAINERS = (list, tuple, set, frozenset, deque)
_MAPPINGS = (dict, types.MappingProxyType)
#: Types that yield random or successive values and cannot be seeded.
_UNSEEDABLE = (random.SystemRandom, types.GeneratorType, itertools.cycle)
_DRAWS = ("random", "rand", "randint", "integers", "uniform", "normal", "choice", "sample")
#: Common names of attributes that hold a generator.
_NAMES = frozenset(("rng", "_rng", "generator", "_generator", "random_state", "_random_state", "random_generator"))


@dataclass
class Found:
    """The sources of randomness found in a transform.

    Attributes
    ----------
    generators : list
        NumPy's `Generator`, `RandomState` and bit generators, Python's `random.Random`, torch's `Generator`.
    seeders : list
        Objects with `set_random_state(seed=)` in which no generator was found.
    unreachable : list of (str, str)
        Name of a class or function that holds something that cannot be seeded, and a description of it.
    """

    generators: list[Any] = field(default_factory=list)
    seeders: list[Any] = field(default_factory=list)
    unreachable: list[tuple[str, str]] = field(default_factory=list)


def find_generators(transforms: Iterable[Any], ignored: Iterable[Any] = ()) -> Found:
    """Search transforms, the contents of their attributes, and the objects that the caller's functions refer to.

    Parameters
    ----------
    transforms : callables
    ignored : objects that are not searched
    """
    found = Found()
    found.generators = _generators_in(transforms, found, set(map(id, ignored)))
    return found


def _generators_in(values: Iterable[Any], found: Found | None, seen: set[int]) -> list[Any]:
    """Return the generators reachable from `values`; record seeders and unseedable objects in `found`."""
    generators, waiting, most = [], deque(values), len(seen) + _MOST
    while waiting and len(seen) <= most:
        value = waiting.popleft()  # breadth first
        if type(value) in _PLAIN or id(value) in seen:
            continue
        seen.add(id(value))
        try:
            if _is_generator(value):
                generators.append(value)
            else:
                waiting += [part for part in _parts_of(value, found) if type(part) not in _PLAIN]
        except Exception:  # an object that cannot be inspected, such as a dead weak reference
            continue
    if waiting and found is not None:
        found.unreachable.append(("the transform", f"more than {_MOST} objects and perhaps a generator among them"))
    return generators


@contextmanager
def reseeded(found: Found, rng: np.random.Generator) -> Iterator[None]:
    """Seed everything in `found` from `rng`, and restore the generators' states afterwards."""
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


def _parts_of(value: Any, found: Found | None) -> Iterable[Any]:
    """Return the objects that a value holds or refers to and that may contain generators."""
    if isinstance(value, (*_CONTAINERS, *_MAPPINGS)):
        if len(value) > _LARGEST:
            return ()
        return list(value.values() if isinstance(value, _MAPPINGS) else value)
    if isinstance(value, types.FunctionType):
        parts = _referred_to(value)
        if found is not None:
            odd = [part for part in parts if isinstance(part, _UNSEEDABLE)]
            found.unreachable += [(value.__qualname__, f"a {type(part).__qualname__}") for part in odd]
        return parts
    if isinstance(value, types.BuiltinFunctionType):  # perhaps a method of a generator
        return (value.__self__,) if _is_generator(value.__self__) else ()
    if isinstance(value, types.MethodType):
        return value.__self__, value.__func__
    if isinstance(value, partial):
        return value.func, *value.args, *value.keywords.values()
    if isinstance(value, type):
        return () if _is_installed(value.__module__) else _of_class(value)
    if isinstance(value, types.ModuleType) or hasattr(type(value), "__array__"):
        return ()
    if hasattr(value, "__wrapped__"):  # functools.lru_cache and other decorators
        return (value.__wrapped__,)
    return _of_object(value, found)


def _of_object(value: Any, found: Found | None) -> Iterable[Any]:
    """Return an object's attributes, and what its class holds."""
    kind: Any = type(value)
    package = kind.__module__.partition(".")[0]
    if package == "torch" and hasattr(value, "_modules"):  # a network, which holds very many objects
        return list(value._modules.values())
    if package in sys.stdlib_module_names and kind is not types.SimpleNamespace:
        return ()
    attributes = [(name, part) for name, part in _attributes_of(value) if type(part) not in _PLAIN]
    parts = [*(part for _, part in attributes), *_of_class(kind)]
    if found is not None:
        for name, part in attributes:
            if _looks_random(name, part):
                found.unreachable.append((kind.__qualname__, f"{name} of type {type(part).__qualname__}"))
        if _takes_seed(kind) and not _generators_in(parts, None, set()):
            found.seeders.append(value)
    return parts


def _attributes_of(value: Any) -> list[tuple[str, Any]]:
    pairs = list(getattr(value, "__dict__", {}).items())
    kind: Any = type(value)
    return pairs + [(name, getattr(value, name)) for name in _slots_of(kind) if hasattr(value, name)]


@cache
def _slots_of(kind: type) -> tuple[str, ...]:
    slots: list[str] = []
    for base in kind.__mro__:
        own = base.__dict__.get("__slots__", ())
        for name in (own,) if isinstance(own, str) else own:
            is_private = name.startswith("__") and not name.endswith("__")
            slots.append(f"_{base.__name__.lstrip('_')}{name}" if is_private else name)
    return tuple(name for name in slots if name not in ("__dict__", "__weakref__"))


def _of_class(kind: Any) -> list[Any]:
    """Return the generators that are class attributes, and the methods if the class is the caller's."""
    return [vars(base)[name] for base, name in _names_of_class(kind) if name in vars(base)]


@cache
def _names_of_class(kind: type) -> tuple[tuple[type, str], ...]:
    """Return (class, attribute) pairs that may hold or refer to a generator, for a class and its bases."""
    names = []
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in ("builtins", "torch"):
            continue
        for name, part in vars(base).items():
            is_code = isinstance(part, (types.FunctionType, staticmethod, classmethod))
            wanted = not _is_installed(base.__module__) if is_code else _is_generator(part)
            if wanted or (part is None and not name.startswith("__")):  # may be set to a generator later
                names.append((base, name))
    return tuple(names)


def _referred_to(function: types.FunctionType) -> list[Any]:
    """Return what the caller's function refers to: closure, defaults, attributes, and globals that it names."""
    if _is_installed(function.__module__ or ""):
        return []
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values()]
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # an empty cell
            continue
    names, known = _names_in(function.__code__), function.__globals__
    values += [known[name] for name in names if name in known]
    for module in [value for value in values if isinstance(value, types.ModuleType)]:
        if not _is_installed(module.__name__):
            values += [vars(module)[name] for name in names if name in vars(module)]
    return values


@cache
def _names_in(code: types.CodeType) -> tuple[str, ...]:
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names_in(part)]
    return tuple(dict.fromkeys((*code.co_names, *inner)))


@cache
def _is_installed(module: str) -> bool:
    """Whether a module is part of Python or a library, whose functions draw from what is passed to them."""
    root = module.partition(".")[0]
    path = getattr(sys.modules.get(root), "__file__", None) or ""
    return root in sys.stdlib_module_names or "site-packages" in path or "dist-packages" in path


def _is_generator(value: Any) -> bool:
    if isinstance(value, random.SystemRandom):
        return False
    if isinstance(value, (np.random.Generator, np.random.RandomState, np.random.BitGenerator, random.Random)):
        return True
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Generator)


def _looks_random(name: str, value: Any) -> bool:
    """Whether an attribute yields random or successive values and cannot be seeded."""
    try:
        if isinstance(value, _UNSEEDABLE):
            return True
    except ReferenceError:  # a dead weak reference
        return False
    if name not in _NAMES or _is_generator(value) or not any(callable(getattr(value, draw, None)) for draw in _DRAWS):
        return False
    kind: Any = type(value)
    return not _takes_seed(kind) and not _generators_in([value], None, set())


@cache
def _takes_seed(kind: type) -> bool:
    method = getattr(kind, "set_random_state", None)
    try:
        return method is not None and "seed" in inspect.signature(method).parameters
    except (TypeError, ValueError):
        return False


def _bits(generator: Any) -> Any:
    """Return NumPy's bit generator, which holds the state."""
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
