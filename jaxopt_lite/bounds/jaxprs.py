"""How JAX writes down calls, loops, accesses by index and places in the source; versions of JAX differ here
alone.

Imports JAX only; used by `ranges`, `unchecked` and `checked`.
"""

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import source_info_util
from jax.extend.core import Jaxpr, JaxprEqn

JAX_FILES = os.path.dirname(jax.__file__) + os.sep

# Primitives that run one jaxpr on their own operands, no more and no less.
CALLS = frozenset(
    "jit closed_call core_call remat2 checkpoint custom_jvp_call custom_vjp_call call_hi_primitive".split()
)


def shape_of(atom: Any) -> tuple[int, ...]:
    """The shape of a variable or literal of a jaxpr."""
    return atom.aval.shape


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
        outcome: What happens out of range: "clamped", "filled", "dropped" or "undefined".
        shape: The shape of the array that is read or written.
        axes: Which of its axes are indexed.
        limits: For each of them the largest index in range, where the window still fits.
        first: Which operand holds the indices: one scalar for each axis from here on, or, if `packed`, one
            array `[..., len(axes)]`.
        packed: Whether the indices are one array.
    """

    outcome: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    limits: tuple[int, ...]
    first: int
    packed: bool


def access_of(eqn: JaxprEqn) -> Access | None:
    """The access by index that an equation makes; None if it makes none or touches no element."""
    name = eqn.primitive.name
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
    return Access(outcome, shape, axes, limits, first=1, packed=True) if eqn.outvars[0].aval.size else None


def _scatter(eqn):
    shape, updates = eqn.invars[0].aval.shape, eqn.invars[2].aval
    numbers = eqn.params["dimension_numbers"]
    single = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    window = dict.fromkeys(range(len(shape)), 1)
    spanned = [axis for axis in window if axis not in single]
    window |= {axis: updates.shape[dim] for axis, dim in zip(spanned, numbers.update_window_dims, strict=True)}
    axes = tuple(int(axis) for axis in numbers.scatter_dims_to_operand_dims)
    limits = tuple(shape[axis] - window[axis] for axis in axes)
    outcome = _outcome(eqn.params["mode"], "dropped")
    return Access(outcome, shape, axes, limits, first=1, packed=True) if updates.size else None


def _slice(eqn, sizes, first):
    shape = eqn.invars[0].aval.shape
    limits = tuple(length - size for length, size in zip(shape, sizes, strict=True))
    empty = any(size == 0 for size in sizes)
    return None if empty else Access("clamped", shape, tuple(range(len(shape))), limits, first, packed=False)
