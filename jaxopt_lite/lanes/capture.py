"""A user's function as data: what it computes, apart from the numbers that it captured.

A function that is compiled only once forever uses what it read the first time: a global, an array that has been edited
since, an attribute of its object. Here it is traced again whenever anything it may read has changed (`content.py`).
The arrays it captured become inputs, so that new numbers in them compile nothing; and functions that compute the same,
such as a lambda that is created anew in every round of a loop, share one `Program`.
"""

import threading
import types
import weakref
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext, suppress
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import PartitionSpec
from jax.tree_util import keystr, treedef_tuple
from jaxtyping import PyTree

from jaxopt_lite.jaxprs import (
    as_function,
    equations_in,
    largest_array,
    named_axes,
    opened,
    operations,
    without_consts,
)
from jaxopt_lite.lanes.content import Content, content
from jaxopt_lite.lanes.devices import check_together
from jaxopt_lite.lanes.fan_out import Part, Rows, computes_now, fan_out, part_size
from jaxopt_lite.lanes.jaxpr_content import content_of_jaxpr
from jaxopt_lite.lanes.settings import exact_products, in_own_settings
from jaxopt_lite.lanes.widths import BY_LIBRARY, Lanes, compiler_options

__all__ = ["Captured", "Program", "Signature", "capture", "run"]

_PROGRAMS = 64  # most programs kept, with their compiled forms of 5 to 15 megabytes each
_FUNCTIONS = 1024  # most functions remembered, with their signatures, so as not to trace them again


class Signature:
    """The arguments of a function. It equals only itself, so keep it and reuse it.

    Args:
        arguments: pytrees of `jax.ShapeDtypeStruct`s, or of whatever else `jax.make_jaxpr` takes for shapes.
        exact: whether the function's matrix products have the full precision of the dtype, unless the user has chosen
            otherwise. If not, JAX's settings decide.
        call: `call(fun, *arguments)` calls the function; by default that is `fun(*arguments)`.
    """

    def __init__(self, *arguments: PyTree, exact: bool = True, call: Callable | None = None):
        self.flat, self.tree = jax.tree.flatten(arguments)
        self.exact, self.call = exact, _as_it_is if call is None else call
        self.latest: dict[int, _Latest] = {}  # what `run` found for a function, by its id

    @staticmethod
    def of(*arguments: PyTree, mapped: tuple[int, ...], exact: bool = False) -> "Signature":
        """The signature of a function of one entry, for arguments mapped along their first `mapped` axes.

        Types are as JAX sees them when it traces: weak types stay weak, and sharded axes sharded.
        """
        flat = [jax.tree.flatten(part) for part in arguments]
        types = (_of_entry(leaf, axes) for (leaves, _), axes in zip(flat, mapped, strict=True) for leaf in leaves)
        return _signature(tuple(tree for _, tree in flat), tuple(types), exact)


def _as_it_is(fun: Callable, *arguments: PyTree) -> Any:
    return fun(*arguments)


def _of_entry(leaf: Any, axes: int) -> Any:
    whole = jax.typeof(leaf)
    sharding = whole.sharding.update(spec=PartitionSpec(*whole.sharding.spec[axes:]))
    return whole.update(shape=whole.shape[axes:], sharding=sharding)


@lru_cache(_FUNCTIONS)
def _signature(trees: tuple, types: tuple, exact: bool) -> Signature:
    return Signature(*jax.tree.unflatten(treedef_tuple(trees), types), exact=exact)


class Program:
    """What a function computes, of its arguments and of the arrays it captured: `program(arrays, *arguments)`."""

    def __init__(self, jaxpr: Any, in_tree: Any, out_tree: Any):
        self._jaxpr, self._in_tree, self._out_tree = jaxpr, in_tree, out_tree
        self._compiled: dict[Hashable, Callable] = {}
        self.settings: set[Hashable] = set()  # of JAX, under which it has been used
        self.outgrown: set[Hashable] = set()  # shorter cores of `run` that were not enough, and are not tried again
        self.operations, self.largest_array = operations(jaxpr), largest_array(jaxpr)
        self.by_library = operations(jaxpr, BY_LIBRARY)
        self.calls_back = any(equation.primitive.name.endswith("_callback") for equation, *_ in equations_in(jaxpr))

    def __call__(self, arrays: tuple, *arguments: PyTree) -> PyTree:
        flat = self._in_tree.flatten_up_to(arguments)
        return jax.tree.unflatten(self._out_tree, as_function(self._jaxpr, arrays)(*flat))

    def jitted(
        self,
        core: Callable,
        options: tuple[Hashable, ...],
        others: tuple["Program", ...],
        compiler: tuple | None = None,
    ) -> Callable:
        """`core` for `run`, jitted: a function of the programs' arrays and of arguments. It lives as long as this one.

        With compiler options it cannot be part of another program.
        """
        key = core, options, others, compiler
        compiled = self._compiled.get(key)
        if compiled is None:
            if compiler is None:
                compiled = jax.jit(partial(_traced_now, (self, *others), core, options))
            else:  # wraps the one without options, so that both share one trace
                compiled = jax.jit(self.jitted(core, options, others), compiler_options=dict(compiler))
            self._compiled[key] = compiled
        return compiled


class Captured(NamedTuple):
    """A program, and the arrays that a function captured, tracers included."""

    program: Program
    arrays: tuple[Any, ...]

    def weakly(self, alive: dict[int, Any]) -> "_Weakly":
        """The same, without keeping alive the arrays that the function itself holds, which may be large."""
        arrays = tuple(weakref.ref(array) if id(array) in alive else array for array in self.arrays)
        return _Weakly(weakref.ref(self.program), arrays)


class _Weakly(NamedTuple):
    program: weakref.ref[Program]
    arrays: tuple[Any, ...]

    def captured(self) -> Captured | None:
        """What it was made from, if that still exists. Its arrays live as long as the function that holds them."""
        program = self.program()
        if program is None:
            return None
        return Captured(program, tuple(a() if type(a) is weakref.ref else a for a in self.arrays))


def run(
    core: Callable,
    options: tuple[Hashable, ...],
    funs: Sequence[tuple[Callable, Signature]],
    *arguments: PyTree,
    rows: Rows | None = None,
    lanes: Lanes | None = None,
    shorter: tuple[Callable, ...] = (),
    in_a_program: Callable | None = None,
) -> PyTree:
    """`core(*funs, *options, *arguments)`, compiled, with whatever the functions compute now.

    Args:
        core: a function for `jax.jit`; in place of each of `funs` it gets a function that computes the same.
        options: static arguments.
        funs: functions, at least one, each with its signature.
        arguments: pytrees of arrays.
        rows: the batch in the arguments and results, which may be divided over cores.
        lanes: what the tiles are made of, if most of the work is done on tiles.
        shorter: cores that leave out what few calls need; a plain call tries them first, one after the other. Each
            returns what `core` does, and for each problem whether it needs the next core. Once one does, later calls
            with these functions skip that core.
        in_a_program: the core for a call that is part of a larger program, or that does not run on the CPU; by default
            `core`.
    """
    latest = [signature.latest.get(id(fun)) for fun, signature in funs]
    found = [None if one is None else one.captured(fun) for one, (fun, _) in zip(latest, funs, strict=True)]
    if None not in found:
        with suppress(_OtherSettings):
            return _call(core, options, found, arguments, rows, lanes, shorter, in_a_program)
    found = [capture(fun, signature) for fun, signature in funs]
    before, _thread.programs = _thread.programs, [program for program, _ in found]
    try:
        return _call(core, options, found, arguments, rows, lanes, shorter, in_a_program)
    finally:
        _thread.programs = before


@in_own_settings
def _call(
    core: Callable,
    options: tuple,
    found: Sequence[Any],
    arguments: tuple,
    rows: Rows | None,
    lanes: Lanes | None,
    shorter: tuple[Callable, ...],
    in_a_program: Callable | None,
) -> PyTree:
    (first, _), *others = found
    programs, arrays = tuple(program for program, _ in others), [arrays for _, arrays in found]
    if (rows is None and lanes is None and not shorter) or not computes_now((arrays, arguments)):
        return first.jitted(in_a_program or core, options, programs)(arrays, *arguments)
    check_together(**{"what fun reads": arrays})
    compiler = None if lanes is None else compiler_options(lanes, first.largest_array, first.by_library)
    size = None if rows is None else part_size(rows, first.operations, arguments)

    def compute(core: Callable) -> PyTree:
        if rows is None or size is None:
            return first.jitted(core, options, programs, compiler)(arrays, *arguments)
        part = first.jitted(Part(core, rows, size), options, programs, compiler)
        return fan_out(part, (arrays, *arguments), rows, size, _settings)

    for part_of_core in shorter:
        if (part_of_core, options) not in first.outgrown:
            result, wanting = compute(part_of_core)
            if not np.any(wanting):
                return result
            first.outgrown.add((part_of_core, options))
    return compute(core)


class _Latest(NamedTuple):
    """A function as it was when it last ran."""

    fun: weakref.ref[Callable]
    unchanged: Callable[[], bool]
    found: _Weakly

    def captured(self, fun: Callable) -> Captured | None:
        return self.found.captured() if self.fun() is fun and self.unchanged() else None


class _OtherSettings(Exception):
    """JAX's settings are not those under which a function was traced."""


class _Thread(threading.local):
    """The programs that have just been found under the settings of this thread."""

    programs: Sequence[Program] = ()


_thread = _Thread()


def _traced_now(
    programs: tuple[Program, ...], core: Callable, options: tuple, arrays: list[tuple], *arguments: PyTree
) -> PyTree:
    """The function that is jitted. JAX traces it anew for other settings; the user's functions may need that too."""
    settings = _settings()
    for program in programs:
        if program in _thread.programs:
            program.settings.add(settings)
        elif settings not in program.settings:
            raise _OtherSettings
    funs = map(partial, programs, arrays)
    return core(*funs, *options, *arguments)


def capture(fun: Callable, signature: Signature) -> Captured:
    """Trace a function, unless nothing that it may read has changed since the last time.

    Args:
        fun: any function.
        signature: its arguments.

    Example:
        >>> import jax, numpy as np
        >>> from jaxopt_lite.lanes.capture import Signature, capture
        >>> one, data = Signature(jax.ShapeDtypeStruct((3,), np.float32)), np.zeros(3, np.float32)
        >>> first = capture(lambda x: x + data, one)
        >>> data[0] = 7
        >>> second = capture(lambda x: x + data, one)
        >>> first.program is second.program, float(second.arrays[0][0])
        (True, 7.0)
    """
    known = content(fun)
    if known is None:
        return _traced(fun, signature)
    key = known.key, signature, _settings()
    kept = _kept.get(key)
    captured = None if kept is None else kept.captured()
    if captured is None:
        captured = _traced(fun, signature)
        now = content(fun)
        if now is None or now.key != known.key:  # it changes what it reads, so that no two calls of it are the same
            return captured
        if not captured.program.calls_back:  # a callback reads this function's own objects whenever it runs
            if len(_kept) >= _FUNCTIONS:
                _kept.clear()
            _kept[key] = captured.weakly(known.arrays)
    _keep_latest(fun, signature, known, captured)
    return captured


_kept: dict[Hashable, _Weakly] = {}
_probe = jax.jit(lambda: None)


def _settings() -> Hashable:
    """A key for JAX's settings: JAX traces the probe anew whenever a setting changes that tracing depends on."""
    return _probe.trace().jaxpr


def _keep_latest(fun: Callable, signature: Signature, known: Content, captured: Captured) -> None:
    if known.unchanged is not None and type(fun) is types.FunctionType:
        latest, key = signature.latest, id(fun)
        gone = weakref.ref(fun, lambda _: latest.pop(key, None))
        latest[key] = _Latest(gone, known.unchanged, captured.weakly(known.arrays))


def _traced(fun: Callable, signature: Signature) -> Captured:
    out_tree = None

    def flat(*leaves):
        nonlocal out_tree
        results = signature.call(fun, *jax.tree.unflatten(signature.tree, leaves))
        _check_results(results)
        results, out_tree = jax.tree.flatten(results)
        return results

    with exact_products() if signature.exact else nullcontext():
        closed = jax.make_jaxpr(flat)(*signature.flat)
    _check_axes(closed)
    known = content_of_jaxpr(closed)
    known = object() if known is None else known  # equal to no other
    program = _program(_Key(known, _settings(), signature.tree, out_tree, _Aside(opened(without_consts(closed))[0])))
    return Captured(program, tuple(map(_copied, closed.consts)))


def _check_results(results: PyTree) -> None:
    """Raises TypeError for what cannot come out of a compiled function."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(results):
        try:
            jax.typeof(leaf)
        except TypeError as error:
            at = f" at {keystr(path)}" if path else ""
            raise TypeError(
                f"fun returned a {type(leaf).__name__}{at}, {leaf!r:.80}; expected numbers and arrays. No text or "
                "other object comes out of a compiled function: return a number for it."
            ) from error


def _check_axes(closed: Any) -> None:
    """Raises ValueError for what a function computes along a named axis of a `jax.vmap` around the call."""
    for name in named_axes(closed) - {*jax.sharding.get_abstract_mesh().axis_names}:
        raise ValueError(
            f"fun computes along the axis {name!r} of a jax.vmap around the call, where it is no more: one batch is "
            "made of all. Compute what travels along that axis before the call, and pass it in args."
        )


def _copied(const: Any) -> Any:
    """NumPy arrays are copied, because their owner may change them."""
    return const if isinstance(const, jax.Array) else np.array(const)


class _Aside:
    """A value that travels with a key without being part of it: all are equal."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Aside)

    def __hash__(self) -> int:
        return 0


class _Key(NamedTuple):
    """The key of a program: what it computes."""

    content: Hashable
    settings: Hashable
    in_tree: Any
    out_tree: Any
    jaxpr: _Aside


@lru_cache(_PROGRAMS)
def _program(key: _Key) -> Program:
    return Program(key.jaxpr.value, key.in_tree, key.out_tree)
