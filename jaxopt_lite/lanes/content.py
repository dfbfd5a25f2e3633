"""What a function may read, as a key: functions with equal keys compute the same, whatever has changed in between.

A function reads more than its arguments: globals, what it closed over, defaults, and what the functions that it calls
read in turn. `content` goes through all of it, following the names in its code. Numbers, strings and small NumPy arrays
count by value; JAX arrays, which never change, by identity; an object by all its attributes and its whole class.
Anything that is not known in every detail, such as an object whose class is not written in Python, has no key: the
function then has to be traced to see what it computes now.
"""

import builtins
import dis
import functools
import sys
import types
import weakref
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from itertools import groupby, takewhile
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.core import Tracer

__all__ = ["VALUES", "Content", "Itself", "Same", "Unknown", "content", "held", "is_trusted"]

# Libraries whose functions depend only on their arguments and JAX's settings, except for one part that has a state.
_TRUSTED = {"jax", "jaxlib", "numpy", "math", "cmath", "operator", "functools", "itertools", "collections", "typing"}
_CALLS_MODULE = "jaxopt_lite.lanes.calls"  # it calls the user's function, which is among its arguments
_FILE_READERS = {"fromfile", "fromregex", "genfromtxt", "load", "loadtxt", "memmap", "open_memmap"}  # of arrays
_WITH_STATE = "numpy.random"
# Attributes that lead to what the walk leaves out: globals that a function does not name, texts, classes below a class.
_LEADING_ELSEWHERE = {
    "__annotations__", "__builtins__", "__closure__", "__dataclass_fields__", "__doc__", "__globals__",
    "__replace__", "__subclasses__",
}  # fmt: skip
_UNCERTAIN = {
    "__import__", "compile", "delattr", "dir", "eval", "exec", "getattr", "globals", "hasattr", "id", "input", "locals",
    "next", "open", "setattr", "vars",
}  # fmt: skip
_GLOBAL_READS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_CELL_READS = {"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
_ATTRIBUTE_READS = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"}
_SIDE_EFFECTS = {"STORE_GLOBAL", "DELETE_GLOBAL", "IMPORT_NAME"}
_SMALL = 4096  # bytes; NumPy arrays up to this size are compared at every call
_MANY = 2000  # objects that a function may read; with more, tracing it takes less time
VALUES = {
    int, bool, str, bytes, object, type(None), type(...), type(NotImplemented), type(jax.tree.structure(0)),
}  # fmt: skip
_JITTED, _OF_JITTED = type(jax.jit(lambda: None)), frozenset(vars(jax.jit(lambda: None)))
_MISSING = object()
# Attributes of a class that only say how it was written, how it is shown, or how `copy.replace` changes it.
_BOOKKEEPING = {
    "__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__", "__dataclass_fields__",
    "__dataclass_params__", "__dict__", "__doc__", "__firstlineno__", "__match_args__", "__module__", "__replace__",
    "__repr__", "__static_attributes__", "__weakref__",
}  # fmt: skip


class Unknown(Exception):
    """A function may use something in ways that are not known."""


class Content(NamedTuple):
    """The key of a function.

    Attributes:
        key: the key itself. It does not keep JAX arrays alive.
        arrays: the JAX arrays that the function may read, by `id`.
        unchanged: tells whether the function still has this key; None if that would take more than a few comparisons.
    """

    key: Hashable
    arrays: dict[int, jax.Array]
    unchanged: Callable[[], bool] | None


def content(fun: Any) -> Content | None:
    """The key of a function, or None if something that it may read has none.

    Example:
        >>> from jaxopt_lite.lanes.content import content
        >>> def power(k):
        ...     return lambda x: x**k
        >>> content(power(2)).key == content(power(2)).key != content(power(3)).key
        True
        >>> content(power(iter([2]))) is None
        True
    """
    reader = _Reader()
    try:
        return Content(reader.of(fun), reader.arrays, reader.unchanged())
    except (Unknown, RecursionError):
        return None


class Same:
    """An object by identity, as a key that does not keep it alive; equal to nothing once it is gone."""

    __slots__ = ("_id", "_ref")

    def __init__(self, thing: Any):
        try:
            self._id, self._ref = id(thing), weakref.ref(thing)
        except TypeError:
            raise Unknown(thing) from None

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Same):
            return False
        mine = self._ref()
        return mine is not None and mine is other._ref()


class Itself:
    """An object by identity, as a key that keeps it alive."""

    __slots__ = ("_thing",)

    def __init__(self, thing: Any):
        self._thing = thing

    def __hash__(self) -> int:
        return id(self._thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self._thing is other._thing


class _Reads(NamedTuple):
    """What the code of a function, and of the functions defined inside it, reads.

    Attributes:
        names: the globals and builtins.
        paths: for each variable what is read of it: the names of attributes, one read of the other, as for modules in
            packages. The empty path is the variable itself, used other than by reading an attribute of it.
        is_pure: whether it has no side effects, and reads nothing in ways that are not followed.
    """

    names: tuple[str, ...]
    paths: dict[str, "_Paths"]
    is_pure: bool


_Paths: TypeAlias = frozenset[tuple[str, ...]]


@functools.lru_cache(4096)
def _reads(code: types.CodeType) -> _Reads:
    names, paths, is_pure = set(), defaultdict(set), True
    instructions = [each for each in dis.get_instructions(code) if each.opname != "EXTENDED_ARG"]
    for k, instruction in enumerate(instructions):
        kind, name = instruction.opname, instruction.argval
        if kind in _GLOBAL_READS | _CELL_READS:
            path = takewhile(lambda each: each.opname in _ATTRIBUTE_READS, instructions[k + 1 :])
            paths[name].add(tuple(each.argval for each in path))
        if kind in _GLOBAL_READS:
            names.add(name)
        is_pure &= kind not in _SIDE_EFFECTS and not (kind in _ATTRIBUTE_READS and name in _LEADING_ELSEWHERE)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more = _reads(inner)
            names.update(more.names)
            for name, others in more.paths.items():
                paths[name] |= others
            is_pure &= more.is_pure
    return _Reads(tuple(sorted(names)), {name: frozenset(own) for name, own in paths.items()}, is_pure)


@functools.lru_cache(4096)
def _grouped(paths: _Paths) -> list[tuple[str, _Paths]]:
    """The paths by their first names, each with what is read further on."""
    groups = groupby(sorted(paths), lambda path: path[0])
    return [(name, frozenset(path[1:] for path in group)) for name, group in groups]


def is_trusted(module: object) -> bool:
    return isinstance(module, str) and _is_name_trusted(module)


@functools.lru_cache(1024)
def _is_name_trusted(module: str) -> bool:
    if f"{module}.".startswith(f"{_WITH_STATE}."):
        return False
    return module.partition(".")[0] in _TRUSTED or module == _CALLS_MODULE


def _is_public(thing: Any) -> bool:
    """Whether it is what a trusted library has under its name: then it always stays the same."""
    module, name = _name_of(thing)
    if not isinstance(name, str) or name in _UNCERTAIN or not _is_library(module):
        return False
    return getattr(sys.modules.get(str(module)), name, None) is thing


def _is_library(module: object) -> bool:
    return is_trusted(module) or module == "builtins"


def _name_of(thing: Any) -> tuple[object, object]:
    """The module and name of a class, or of something in a library.

    Objects of the user's classes are not asked: their `__getattr__` may raise any error, or add an entry.
    """
    if not isinstance(thing, type) and not _is_library(type(thing).__module__):
        return None, None
    return getattr(thing, "__module__", None), getattr(thing, "__name__", None)


def held(cell: types.CellType) -> Any:
    """What a variable of an enclosing function is now; `_MISSING` while it has no value."""
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _attributes(thing: Any) -> Any:
    """The `__dict__` of an object, without asking its `__getattr__`."""
    try:
        return object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return None


class _Reader:
    """One walk through what a function may read."""

    def __init__(self):
        self.arrays: dict[int, jax.Array] = {}
        self._seen: dict[int, tuple[int, Any]] = {}  # with the objects, so that no id is reused
        self._read: set[tuple[int, str, _Paths]] = set()  # modules by id, and what is read of which part
        self._count = 0
        self._checks: list[Callable[[], bool]] | None = []

    def unchanged(self) -> Callable[[], bool] | None:
        """As in `Content`."""
        checks = self._checks
        return None if checks is None else lambda: all(check() for check in checks)

    def of(self, thing: Any) -> Hashable:
        """The key of anything. Raises `Unknown`."""
        self._count += 1
        if self._count > _MANY:
            raise Unknown(thing)
        kind = type(thing)
        if kind in VALUES:
            return kind, thing
        if kind is range:
            return kind, thing.start, thing.stop, thing.step  # ranges of equal numbers may end elsewhere
        if kind is float:
            return kind, thing.hex()  # here -0.0 differs from 0.0, and NaN equals NaN
        if kind is complex:
            return kind, thing.real.hex(), thing.imag.hex()
        if isinstance(thing, jax.Array) and not isinstance(thing, Tracer):
            self.arrays[id(thing)] = thing
            return Same(thing)
        if kind is _JITTED:
            return self._of_jitted(thing)
        if isinstance(thing, np.generic):
            if isinstance(thing, np.void):  # a view of one entry of an array
                self._checks = None
            if thing.dtype.hasobject:
                raise Unknown(thing)
            return kind, thing.dtype, thing.tobytes()
        if isinstance(thing, np.dtype):
            return np.dtype, thing
        if id(thing) in self._seen:
            self._checks = None  # a function that refers to itself would be kept alive by its own checks
            return "seen", self._seen[id(thing)][0]
        self._seen[id(thing)] = len(self._seen), thing
        module, name = _name_of(thing)
        if name in _FILE_READERS and is_trusted(module):
            raise Unknown(thing)
        if kind is types.FunctionType:
            return self._of_function(thing)  # pyright: ignore[reportArgumentType]  # its type was compared
        if kind is tuple or kind is frozenset:
            return kind, tuple(map(self.of, thing))
        if _is_public(thing):
            return kind, thing.__module__, thing.__name__
        self._checks = None  # what follows may change in place
        return self._of_changing(thing, kind)

    def _of_changing(self, thing: Any, kind: type) -> Hashable:
        if kind is np.ndarray and thing.nbytes <= _SMALL and not thing.dtype.hasobject:
            return kind, thing.dtype, thing.shape, thing.tobytes()
        if kind is list or kind is set:
            return kind, tuple(map(self.of, thing))
        if kind is dict:
            return kind, tuple((self.of(key), self.of(value)) for key, value in thing.items())
        if kind is slice:
            return kind, self.of((thing.start, thing.stop, thing.step))
        if kind is types.SimpleNamespace:
            return kind, self.of(vars(thing))
        if kind is functools.partial:
            return kind, *map(self.of, (thing.func, thing.args, thing.keywords, vars(thing)))
        if kind is types.MethodType:
            return kind, self.of(thing.__func__), self.of(thing.__self__)
        if kind in (jax.custom_jvp, jax.custom_vjp):
            return kind, self.of(vars(thing))
        if kind is staticmethod or kind is classmethod:
            return kind, self.of(thing.__func__)
        if kind is property:
            return kind, self.of((thing.fget, thing.fset, thing.fdel))
        if kind is type:
            return self._of_class(thing)
        if type(kind) is type and type(_attributes(thing)) is dict:
            if any(_is_public(base) for base in kind.__mro__[:-1]):
                raise Unknown(thing)  # it holds more than its attributes, as a subclass of list does
            return self.of(kind), self.of(_attributes(thing))
        raise Unknown(thing)

    def _of_jitted(self, jitted: Any) -> Hashable:
        """A jitted function, which computes what it did when JAX traced it, and attributes that a user has added."""
        added = [(name, value) for name, value in vars(jitted).items() if name not in _OF_JITTED]
        if not added:
            return Same(jitted)
        self._checks = None
        return Same(jitted), *((name, self.of(value)) for name, value in added)

    def _of_class(self, kind: type) -> Hashable:
        """Everything that a class and its bases hold, which is unknown for a class that is not written in Python."""
        written = [base for base in kind.__mro__ if not _is_public(base)]
        own = [(name, value) for base in written for name, value in vars(base).items() if name not in _BOOKKEEPING]
        return Same(kind), *((name, self.of(value)) for name, value in own)

    def _of_function(self, function: types.FunctionType) -> Hashable:
        code, known, reads = function.__code__, function.__globals__, _reads(function.__code__)
        self._watch_function(function)
        owned = function.__defaults__, function.__kwdefaults__, function.__dict__ or None
        inside = [function.__name__, function.__qualname__, *map(self.of, owned)]
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            value = held(cell)
            if value is _MISSING:
                raise Unknown(cell)
            self._watch(functools.partial(held, cell), value)
            inside.append(self._of_variable(value, reads.paths.get(name, frozenset())))
        if is_trusted(known.get("__name__")):
            return code, *inside
        if not reads.is_pure:
            raise Unknown(function)
        return code, *inside, *(self._of_global(name, known, reads.paths[name]) for name in reads.names)

    def _of_global(self, name: str, known: Mapping[str, Any], paths: _Paths) -> Hashable:
        """A global of a module, or a builtin of this name."""
        if name in known:
            return self._of_name(name, known, paths)
        self._watch(lambda: known.get(name, _MISSING), _MISSING)
        value = vars(builtins).get(name, _MISSING)
        return (name, value.__name__) if _is_public(value) else self._of_name(name, vars(builtins), paths)

    def _of_name(self, name: str, there: Mapping[str, Any], paths: _Paths) -> Hashable:
        value = there.get(name, _MISSING)
        self._watch(lambda: there.get(name, _MISSING), value)
        return name, self._of_variable(value, paths)

    def _of_variable(self, value: Any, paths: _Paths) -> Hashable:
        if type(value) is not types.ModuleType:
            return self.of(value)
        if () in paths:
            raise Unknown(value)  # any of its attributes may be read
        new = [(id(value), name, further) for name, further in _grouped(paths)]
        new = [each for each in new if each not in self._read]
        self._read.update(new)
        return value.__name__, *self._of_module(value, [(name, further) for _, name, further in new])

    def _of_module(self, module: types.ModuleType, read: list[tuple[str, _Paths]]) -> list[Hashable]:
        """What is read of a module, by name, unless that is already in the key."""
        there = vars(module)
        if is_trusted(module.__name__):
            if not _FILE_READERS.isdisjoint(name for name, _ in read):
                raise Unknown(module)
            return [self._of_part(name, there, paths) for name, paths in read]
        if "__getattr__" in there or any(name not in there and hasattr(module, name) for name, _ in read):
            raise Unknown(module)
        return [self._of_name(name, there, paths) for name, paths in read]

    def _of_part(self, name: str, there: Mapping[str, Any], paths: _Paths) -> Hashable:
        """A part of a trusted library, by identity unless the user has put something else there."""
        value = there.get(name, _MISSING)
        is_function = type(value) is types.FunctionType
        made_by = value.__globals__.get("__name__") if is_function else type(value).__module__
        if not (is_trusted(made_by) or _is_public(value)):
            return self._of_name(name, there, paths)
        self._watch(lambda: there.get(name, _MISSING), value)
        return name, Itself(value)

    def _watch(self, look: Callable[[], Any], value: Any) -> None:
        if self._checks is None:
            return
        if isinstance(value, jax.Array):
            alive = weakref.ref(value)
            # An array that is gone is None here, which is also what the user may have put in its place.
            self._checks.append(lambda: look() is alive() is not None)
        else:
            self._checks.append(lambda: look() is value)

    def _watch_function(self, function: types.FunctionType) -> None:
        code, defaults, more, named = (
            function.__code__,
            function.__defaults__,
            function.__kwdefaults__,
            weakref.ref(function),
        )

        def same() -> bool:
            now = named()
            return now is not None and now.__code__ is code and now.__defaults__ is defaults and not now.__dict__

        if more or function.__dict__:  # which may be changed in place
            self._checks = None
        elif self._checks is not None:
            self._checks.append(same)
