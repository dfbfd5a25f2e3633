"""Which equations of a jaxpr access an array by index, where, and what JAX does out of range.

JAX itself changes an index before an access: it adds the length to a negative one, and some of its functions clip. So
an access is judged by the index that the program gave, found by following the equations back from the access. Used by
`unchecked`, which knows a range for each index, and by `checked`, which has its value.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lite.jaxprs import (
    Equation,
    called,
    current_line,
    inner_jaxprs,
    is_jaxpr,
    is_literal,
    opened,
    shape_of,
    writers_of,
)

__all__ = [
    "Access", "Computed", "Line", "access_of", "body_of", "expanded", "index_given", "indices_of", "line_of_access",
]  # fmt: skip


class Line(NamedTuple):
    """Where in the source something was written."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"


def line_of_access() -> Line:
    """The line of the equation that is being evaluated: the innermost frame outside JAX and the standard library."""
    match = re.fullmatch(r"(.+?):(\d+)(?::\d+)? \((.*)\)", current_line(), re.DOTALL)
    return Line(match[1], int(match[2]), match[3]) if match else Line("unknown", 0, "unknown")


def body_of(equation: Equation) -> Any | None:
    """The jaxpr that a call runs on its operands, whatever rules it has for transformations; None if it is no call.

    No transformation follows, so a function with its own rule for `vmap` or transposition is just its body.
    """
    inner = called(equation)
    if inner is not None:
        return inner
    if equation.primitive.name in ("custom_vmap_call", "linear_call"):
        return next((each for each in inner_jaxprs(equation) if _takes_all(each, equation)), None)
    # JAX 0.12 keeps the functions of `lax.custom_root` on an object; one without a jaxpr calls nothing of the user's.
    kept = equation.params.get("_prim")
    return expanded(equation) if any(map(is_jaxpr, getattr(kept, "params", {}).values())) else None


def expanded(equation: Equation) -> Any | None:
    """The jaxpr of what JAX 0.12 keeps as an object, such as `jnp.nonzero`; None for anything else."""
    if equation.primitive.name != "call_hi_primitive":
        return None
    kept = equation.params["_prim"]
    shapes = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in equation.invars]
    return jax.make_jaxpr(lambda *args: jax.tree.leaves(kept.expand(*kept.in_tree.unflatten(args))))(*shapes)


def _takes_all(jaxpr: Any, equation: Equation) -> bool:
    return len(opened(jaxpr)[0].invars) == len(equation.invars)


class Computed:
    """A value met on a walk through a jaxpr: the equation that computed it, where known, and its operands."""

    equation: Equation | None
    args: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The primitive that computed it; empty where that is unknown."""
        return self.equation.primitive.name if self.equation else ""


class Access(NamedTuple):
    """An access by index that nothing checks.

    Attributes:
        by: the primitive that makes it, or the function of JAX that changes its index first.
        outcome: what happens out of range: "clamped", "filled", "dropped", "clamped or dropped" or "undefined".
        shape: the shape of the array that is read or written.
        axes: which of its axes are indexed.
        limits: for each of them, the largest index at which the window still fits.
        first: which operand holds the indices: one scalar for each axis from here on, or, if `packed`, one
            array `[..., len(axes)]`.
        packed: whether the indices are one array.
    """

    by: str
    outcome: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    limits: tuple[int, ...]
    first: int
    packed: bool


def access_of(equation: Equation) -> Access | None:
    """The access by index that an equation makes; None if it makes none or touches no element."""
    name = equation.primitive.name
    if name == "select_n":
        return _select(equation)
    if name == "clamp" or (name == "jit" and equation.params["name"] == "clip"):
        return _clip(equation)
    if name == "gather":
        return _gather(equation)
    if name.startswith("scatter"):
        return _scatter(equation)
    if name == "dynamic_slice":
        return _slice(equation, equation.params["slice_sizes"], first=1)
    if name == "dynamic_update_slice":
        return _slice(equation, shape_of(equation.invars[1]), first=2)
    return None


def _outcome(mode, out_of_range):
    if "CLIP" in str(mode):
        return "clamped"
    return "undefined" if "PROMISE" in str(mode) else out_of_range


def _gather(equation):
    shape = equation.invars[0].aval.shape
    axes = tuple(int(axis) for axis in equation.params["dimension_numbers"].start_index_map)
    limits = tuple(shape[axis] - equation.params["slice_sizes"][axis] for axis in axes)
    if not equation.outvars[0].aval.size or writers_of(equation) & _ON_PURPOSE:
        return None
    outcome = _outcome(equation.params["mode"], "filled")
    return Access("gather", outcome, shape, axes, limits, first=1, packed=True)


def _scatter(equation):
    shape, updates = equation.invars[0].aval.shape, equation.invars[2].aval
    numbers = equation.params["dimension_numbers"]
    single = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    window = dict.fromkeys(range(len(shape)), 1)
    spanned = [axis for axis in window if axis not in single]
    window |= {axis: updates.shape[dim] for axis, dim in zip(spanned, numbers.update_window_dims, strict=True)}
    axes = tuple(int(axis) for axis in numbers.scatter_dims_to_operand_dims)
    limits = tuple(shape[axis] - window[axis] for axis in axes)
    writers = writers_of(equation)
    if not updates.size or writers & _ON_PURPOSE:
        return None
    if "bincount" in writers:
        return Access("bincount", "clamped or dropped", shape, axes, limits, first=1, packed=True)
    outcome = _outcome(equation.params["mode"], "dropped")
    return Access(equation.primitive.name, outcome, shape, axes, limits, first=1, packed=True)


def _slice(equation, sizes, first):
    shape = equation.invars[0].aval.shape
    limits = tuple(length - size for length, size in zip(shape, sizes, strict=True))
    if 0 in sizes:
        return None
    axes = tuple(range(len(shape)))
    return Access(equation.primitive.name, "clamped", shape, axes, limits, first, packed=False)


def _select(equation):
    """One of several arrays, chosen by an integer; a boolean cannot be out of range."""
    cases = len(equation.invars) - 1
    by_number = jnp.issubdtype(equation.invars[0].aval.dtype, jnp.integer)
    return Access("select_n", "undefined", (cases,), (0,), (cases - 1,), first=0, packed=False) if by_number else None


# JAX functions that clip their index, and by how much their upper limit exceeds the largest index in range: one can
# insert after the last element, but not delete there.
_CLIPPING = {"switch": 0, "insert": 0, "delete": 1}


def _clip(equation):
    """The access for which a JAX function clips its index to a constant upper limit."""
    by = next(iter(writers_of(equation) & _CLIPPING.keys()), None)
    first, last = (1, 2) if equation.primitive.name == "clamp" else (0, 2)
    if by is None or len(equation.invars) != 3 or not is_literal(equation.invars[last]):
        return None
    # In an index type that cannot hold the upper limit, the limit wraps round.
    limit = int(np.asarray(equation.invars[last].val).astype(equation.invars[first].aval.dtype)) - _CLIPPING[by]
    return Access(by, "clamped", (limit + 1,), (0,), (limit,), first, packed=False)


# JAX functions that go out of range on purpose, and whose results do not depend on what is there: a histogram counts
# only what lies in its bins, `nonzero` puts unused entries past the end, and the set functions, `place` and
# `map_coordinates` discard or mask what they read there.
_ON_PURPOSE = {"nonzero", "histogram", "place", "_intersect1d_size", "_setxor1d_size", "_map_coordinates"}

# Primitives whose result has the elements of the operand and no others.
_RESHAPING = frozenset("broadcast_in_dim reshape squeeze expand_dims transpose copy pvary".split())


def indices_of(access: Access, ins: Sequence[Any]) -> list[Any]:
    """The index of each axis, from the operands of an access; where they cannot be separated, the array of all axes."""
    if access.packed:
        return _columns(ins[access.first], len(access.axes))
    return list(ins[access.first :][: len(access.axes)])


def _columns(index, count):
    """Each column of an index array `[..., count]`, where it was put together from columns."""
    equation = index.equation
    if index.name != "concatenate" or equation.params["dimension"] != len(shape_of(equation.invars[0])) - 1:
        return [index] * count
    parts = zip(index.args, equation.invars, strict=True)
    return [column for part, var in parts for column in _columns(part, shape_of(var)[-1])]


def index_given(access: Access, axis: int, index: Any) -> tuple[Any, str]:
    """The index to judge, where JAX does more to it than add the length to a negative one.

    - A narrow type cannot hold a large length: JAX adds what is left of the length in that type, so a negative index
      reaches another element. The index that the program gave counts.
    - `bincount` counts what is negative as 0. Here too the index that the program gave counts.
    - An index of 64 bits is truncated to 32 once the length is added. Its value before that counts.

    Args:
        access: the access.
        axis: the axis of the array.
        index: its index, a `Computed`.

    Returns:
        The index to judge, a `Computed`, and what happens to it out of range.
    """
    select = _unshaped(index, _among_integers)
    if [select.name, *(arg.name for arg in select.args[:3:2])] != ["select_n", "lt", "add"]:
        return index, access.outcome
    given, (_, added) = _unshaped(select.args[1], _widens), select.args[2].equation.invars
    if access.by == "bincount" and given.name == "max":
        return given.args[1], access.outcome
    length, numbers = access.shape[axis], 2 ** jnp.iinfo(added.aval.dtype).bits
    wraps = length >= numbers and is_literal(added) and (length - int(added.val)) % numbers == 0
    return (given, "wrapped") if wraps else (select, access.outcome)


def _unshaped(value, converts):
    """The value before changes of shape, and of type where `converts` allows them."""
    while value.name in _RESHAPING or (value.name == "convert_element_type" and converts(*_dtypes(value.equation))):
        value = value.args[0]
    return value


def _dtypes(equation):
    return equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype


def _widens(before, after):
    return _among_integers(before, after) and np.can_cast(before, after)


def _among_integers(before, after):
    return jnp.issubdtype(before, jnp.integer) and jnp.issubdtype(after, jnp.integer)
