"""How JAX writes down calls, loops, accesses by index and places in the source; versions of JAX differ here
alone.

Imports JAX and NumPy only; used by `guards`, `ranges`, `unchecked` and `checked`.
"""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import Jaxpr, JaxprEqn, Literal

JAX_FILES = os.path.dirname(jax.__file__) + os.sep

# Primitives that run one jaxpr on their own operands, no more and no less.
CALLS = frozenset(
    "jit closed_call core_call remat2 checkpoint custom_jvp_call custom_vjp_call call_hi_primitive".split()
)


def shape_of(atom: Any) -> tuple[int, ...]:
    """The shape of a variable or literal of a jaxpr."""
    return atom.aval.shape


class Made:
    """A value met on a walk through a jaxpr: the equation that computed it, where known, and its operands."""

    eqn: JaxprEqn | None
    args: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The primitive that computed it, or nothing."""
        return self.eqn.primitive.name if self.eqn else ""


class Place(NamedTuple):
    """Where in the source an equation was written."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"


def place_of(eqn: JaxprEqn) -> Place:
    """The innermost frame outside JAX and the standard library that wrote the equation."""
    summary = source_info_util.summarize(eqn.source_info)
    match = re.fullmatch(r"(.+?):(\d+)(?::\d+)? \((.*)\)", summary, re.DOTALL)
    return Place(match[1], int(match[2]), match[3]) if match else Place("unknown", 0, "unknown")


def writers_of(eqn: JaxprEqn) -> set[str]:
    """Which functions of JAX wrote the equation, from the user's call of JAX inwards."""
    traceback = eqn.source_info.traceback
    frames = takewhile(lambda frame: frame.file_name.startswith(JAX_FILES), traceback.frames if traceback else ())
    return {frame.function_name for frame in frames}


def opened(jaxpr: Any) -> tuple[Jaxpr, list[Any]]:
    """A jaxpr and its constants, whether it came closed or not (JAX 0.12 has one class for both)."""
    return getattr(jaxpr, "jaxpr", jaxpr), list(getattr(jaxpr, "consts", ()))


def is_jaxs_own(jaxpr: Jaxpr) -> bool:
    """Whether the traced function is one of JAX's."""
    return (jaxpr.debug_info.func_filename or "").startswith(JAX_FILES)


def caller_inside(jaxpr: Jaxpr, call: JaxprEqn, caller: JaxprEqn | None) -> JaxprEqn | None:
    """Which call to blame for the equations of `jaxpr`; None where their own place is right.

    JAX's own functions (`jnp.take`, ...) are traced once and reused, so their equations still name the line
    of the first caller ever. The line of this call is the right one.
    """
    return (caller or call) if is_jaxs_own(jaxpr) else None


def called(eqn: JaxprEqn) -> Any | None:
    """The jaxpr that a plain call runs, closed or not; None if the equation is no plain call."""
    if eqn.primitive.name not in CALLS:
        return None
    found = list(inner_jaxprs(eqn))
    return found[0] if len(found) == 1 and len(opened(found[0])[0].invars) == len(eqn.invars) else None


def inner_jaxprs(eqn: JaxprEqn) -> Iterator[Any]:
    """Every jaxpr in the parameters of an equation, whatever its primitive."""
    for param in eqn.params.values():
        for part in param if isinstance(param, tuple) else (param,):
            # JAX 0.12 has primitives that keep their jaxpr on an object instead of in a parameter.
            part = getattr(part, "traced", part)
            part = getattr(part, "jaxpr", part) if not hasattr(part, "consts") else part
            if hasattr(part, "eqns"):
                yield part


def scan_split(eqn: JaxprEqn) -> tuple[int, int]:
    """How many of a scan's operands are constants, and how many are carried.

    JAX 0.10 and 0.12 write this in different parameters, but both stack the scanned operands and results
    along one axis that the body does not see, so their ranks tell.
    """
    body, _ = opened(eqn.params["jaxpr"])
    stacked_in = sum(len(shape_of(a)) != len(shape_of(b)) for a, b in zip(eqn.invars, body.invars, strict=True))
    stacked_out = sum(len(shape_of(a)) != len(shape_of(b)) for a, b in zip(eqn.outvars, body.outvars, strict=True))
    carried = len(eqn.outvars) - stacked_out
    return len(eqn.invars) - stacked_in - carried, carried


class Access(NamedTuple):
    """An access by index that nothing checks.

    Attributes:
        by: The primitive that makes it, or the function of JAX that changes its index first.
        outcome: What happens out of range: "clamped", "filled", "dropped", "clamped or dropped" or "undefined".
        shape: The shape of the array that is read or written.
        axes: Which of its axes are indexed.
        limits: For each of them the largest index in range, where the window still fits.
        first: Which operand holds the indices: one scalar for each axis from here on, or, if `packed`, one
            array `[..., len(axes)]`.
        packed: Whether the indices are one array.
    """

    by: str
    outcome: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    limits: tuple[int, ...]
    first: int
    packed: bool


def access_of(eqn: JaxprEqn) -> Access | None:
    """The access by index that an equation makes; None if it makes none or touches no element."""
    name = eqn.primitive.name
    if name == "select_n":
        return _select(eqn)
    if name == "clamp" or (name == "jit" and eqn.params["name"] == "clip"):
        return _clip(eqn)
    if name == "gather":
        return _gather(eqn)
    if name.startswith("scatter"):
        return _scatter(eqn)
    if name == "dynamic_slice":
        return _slice(eqn, eqn.params["slice_sizes"], first=1)
    if name == "dynamic_update_slice":
        return _slice(eqn, shape_of(eqn.invars[1]), first=2)
    return None


def _outcome(mode, out_of_range):
    if "CLIP" in str(mode):
        return "clamped"
    return "undefined" if "PROMISE" in str(mode) else out_of_range


def _gather(eqn):
    shape = eqn.invars[0].aval.shape
    axes = tuple(int(axis) for axis in eqn.params["dimension_numbers"].start_index_map)
    limits = tuple(shape[axis] - eqn.params["slice_sizes"][axis] for axis in axes)
    outcome = _outcome(eqn.params["mode"], "filled")
    access = Access("gather", outcome, shape, axes, limits, first=1, packed=True)
    return access if eqn.outvars[0].aval.size else None


def _scatter(eqn):
    shape, updates = eqn.invars[0].aval.shape, eqn.invars[2].aval
    numbers = eqn.params["dimension_numbers"]
    single = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    window = dict.fromkeys(range(len(shape)), 1)
    spanned = [axis for axis in window if axis not in single]
    window |= {axis: updates.shape[dim] for axis, dim in zip(spanned, numbers.update_window_dims, strict=True)}
    axes = tuple(int(axis) for axis in numbers.scatter_dims_to_operand_dims)
    limits = tuple(shape[axis] - window[axis] for axis in axes)
    writers = writers_of(eqn)
    if not updates.size or writers & DROPPING:
        return None
    if "bincount" in writers:
        return Access("bincount", "clamped or dropped", shape, axes, limits, first=1, packed=True)
    outcome = _outcome(eqn.params["mode"], "dropped")
    return Access(eqn.primitive.name, outcome, shape, axes, limits, first=1, packed=True)


def _slice(eqn, sizes, first):
    shape = eqn.invars[0].aval.shape
    limits = tuple(length - size for length, size in zip(shape, sizes, strict=True))
    if 0 in sizes:
        return None
    axes = tuple(range(len(shape)))
    return Access(eqn.primitive.name, "clamped", shape, axes, limits, first, packed=False)


def _select(eqn):
    """One of several arrays by number; by a boolean it cannot be out of range."""
    cases = len(eqn.invars) - 1
    by_number = jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.integer)
    return Access("select_n", "undefined", (cases,), (0,), (cases - 1,), first=0, packed=False) if by_number else None


# The functions of JAX that clip the index they are given, and by how much the upper end is more than the largest
# index in range: one can insert behind the last element, but not delete there.
CLIPPING = {"switch": 0, "insert": 0, "delete": 1}


def _clip(eqn):
    """The access that a function of JAX clips its index for, with a constant upper end."""
    by = next(iter(writers_of(eqn) & CLIPPING.keys()), None)
    first, last = (1, 2) if eqn.primitive.name == "clamp" else (0, 2)
    if by is None or len(eqn.invars) != 3 or not isinstance(eqn.invars[last], Literal):
        return None
    # In an index type that cannot hold the upper end, it wraps round.
    limit = int(np.asarray(eqn.invars[last].val).astype(eqn.invars[first].aval.dtype)) - CLIPPING[by]
    return Access(by, "clamped", (limit + 1,), (0,), (limit,), first, packed=False)


# The functions of JAX that mean to drop what is out of range: a histogram counts what lies in its bins, and
# `nonzero` puts its surplus behind the last place.
DROPPING = {"nonzero", "histogram"}

# Primitives whose result has the elements of the operand and no others.
RESHAPING = frozenset("broadcast_in_dim reshape squeeze expand_dims transpose copy pvary".split())


def indices_of(access: Access, ins: Sequence[Any]) -> list[Any]:
    """The index of each axis, of the operands of an access; where it is not known apart, the one of all axes."""
    indices = list(ins[access.first :][: len(access.axes)])
    return _columns(indices[0], len(access.axes)) if access.packed else indices


def _columns(index, count):
    """Each column of an index array `[..., count]`, where it was put together from columns."""
    eqn = index.eqn
    if eqn is None or index.name != "concatenate" or eqn.params["dimension"] != len(shape_of(eqn.invars[0])) - 1:
        return [index] * count
    parts = zip(index.args, eqn.invars, strict=True)
    return [column for part, var in parts for column in _columns(part, shape_of(var)[-1])]


def asked_for(access: Access, axis: int, index: Any) -> tuple[Any, str]:
    """The index to judge, where JAX does more to it than to add the length to a negative one.

    - A type of few bits cannot hold a length of more: JAX adds what is left of the length in that type, so a
      negative index ends at another element. The index that the program gave counts.
    - `bincount` counts what is negative as 0. Here too what the program gave counts.
    - An index of 64 bits is cut off to 32 once the length is added. What it was before counts.

    Args:
        access: The access.
        axis: The axis of the array.
        index: Its index, a `Made`.

    Returns:
        The index to judge, a `Made`, and what happens to it out of range.
    """
    select = _unshaped(index, _among_integers)
    if [select.name, *(arg.name for arg in select.args[:3:2])] != ["select_n", "lt", "add"]:
        return index, access.outcome
    given, (_, added) = _unshaped(select.args[1], _widens), select.args[2].eqn.invars
    if access.by == "bincount" and given.name == "max":
        return given.args[1], access.outcome
    length, numbers = access.shape[axis], 2 ** jnp.iinfo(added.aval.dtype).bits
    wraps = length >= numbers and isinstance(added, Literal) and (length - int(added.val)) % numbers == 0
    return (given, "wrapped") if wraps else (select, access.outcome)


def _unshaped(value, converts):
    """The value that was only given another shape, or a type that it `converts` to."""
    while value.name in RESHAPING or (value.name == "convert_element_type" and converts(*_dtypes(value.eqn))):
        value = value.args[0]
    return value


def _dtypes(eqn):
    return eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype


def _widens(before, after):
    return _among_integers(before, after) and np.can_cast(before, after)


def _among_integers(before, after):
    return jnp.issubdtype(before, jnp.integer) and jnp.issubdtype(after, jnp.integer)
