"""A whole solve as one native function of the CPU: how to ask XLA for it, and what stands in the way.

XLA dispatches the operations of a loop one by one unless the whole loop is small enough to compile as a single
function, which is 5 to 20 times faster for tiny problems. An attribute on a call around it asks for that (JAX 0.12 also
does so by itself for some loops).
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from jaxopt_lite.jaxprs import called, equations_in, line_of
from jaxopt_lite.lanes.lanes_last import ELEMENTWISE, SHAPING, is_own_product

__all__ = ["as_one_native_call", "why_not_native"]

# The operations that may be part of a native function. What XLA gives to libraries or to its thunk runtime (products of
# matrices, sorting, scattering, random numbers) may not: a call that contains one fails to compile.
_REDUCING = {"argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum"}
_CALLING = {
    "checkpoint", "closed_call", "cond", "core_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit", "scan",
    "while",
}  # fmt: skip
_NATIVE = ELEMENTWISE | SHAPING | _REDUCING | _CALLING
# With what derivatives and lanes make of these; but indices that differ from lane to lane transpose to a scatter.
_ON_A_TILE = _NATIVE | {
    "bitcast_convert_type", "dynamic_update_slice", "empty", "empty2", "gather", "one_minus_square",
    "optimization_barrier", "polygamma",
}  # fmt: skip
# Derivatives and lanes turn these only into each other, broadcasts, and sums of broadcasts.
_PLAIN = ELEMENTWISE | SHAPING - {"dynamic_slice"} | {"reduce_sum", "jit", "pjit"}
_LARGEST_NATIVE_REDUCTION = 4096  # beyond it XLA may give it to a library
_LARGEST_NATIVE_ARRAY = 16384  # beyond it XLA may split an operation over threads
_LARGEST_NATIVE_STATE = 1 << 20

_TO_A_LIBRARY = "XLA gives {} to a library or to its own runtime"
_LARGE_SUM = "the sum over a tile of {} is so large that XLA may give it to a library"


def as_one_native_call(solve: Callable) -> Callable:
    """Ask XLA to compile `solve` as one native CPU function. If that is impossible, `why_not_native` says why."""

    def call(*operands):
        # XLA moves small constants into a function. The argument is then unused, which is an error that ends the
        # process. So constants are hidden behind a barrier, and all arguments are used because they are returned.
        hidden = jax.lax.optimization_barrier(operands)
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            return jax.jit(unattributed)(*hidden)[0]

    def unattributed(*operands):
        # "false", not None: loops inside, which are traced again when they are lowered, would inherit the request.
        with set_xla_metadata(xla_cpu_small_call="false", inlineable=None):
            return solve(*operands), operands

    return call


def why_not_native(
    jaxpr: Any, width: int, lane_bytes: int, columns: int, on_tile: Callable[[], Any] | None = None, own_sum: int = 0
) -> str | None:
    """Why a solve cannot be one native CPU function; None if it can.

    Args:
        jaxpr: the user's function, whose operations decide.
        width: the lanes of a tile.
        lane_bytes: the bytes of a lane's state.
        columns: how many columns of a Jacobian the solve computes at once.
        on_tile: returns the jaxpr of the function with its derivatives on a tile. Only there can one see what
            derivative rules and lanes make of the function.
        own_sum: the most numbers of a lane that the solver itself adds up at once. With several lanes it adds rows of
            lanes instead.
    """
    if lane_bytes * width > _LARGEST_NATIVE_STATE:
        return f"a tile's state takes {lane_bytes * width:,} bytes; one function has at most {_LARGEST_NATIVE_STATE:,}"
    if width == 1 and own_sum >= _LARGEST_NATIVE_REDUCTION:
        return f"the solver's sums over {own_sum:,} numbers are so large that XLA may give them to a library"
    found = _obstacle(jaxpr, width, columns)
    if found or on_tile is None or _is_plain(jaxpr, width):
        return found
    return _obstacle_on_tile(on_tile())


def _obstacle(jaxpr, width: int, columns: int) -> str | None:
    """The first operation of a function that cannot be part of a native function on a tile."""
    for equation, *outer in equations_in(jaxpr):
        name = equation.primitive.name
        # A broadcast becomes a reduction of its output in the derivative.
        reduced = equation.invars[:1] if name in _REDUCING else []
        reduced = equation.outvars if name == "broadcast_in_dim" else reduced
        is_own = is_own_product(equation, columns) and all(called(each) is not None for each in outer)
        if name not in _NATIVE and not is_own:
            why = _TO_A_LIBRARY
        elif any(operand.aval.size * width * columns >= _LARGEST_NATIVE_REDUCTION for operand in reduced):
            why = _LARGE_SUM
        elif any(out.aval.size * width > _LARGEST_NATIVE_ARRAY for out in equation.outvars):
            why = "the result of {} is so large on a tile that XLA may split it over threads"
        elif any(out.aval.size == 0 for out in equation.outvars):
            # An argument used only for this would count as unused, which ends the process: see `as_one_native_call`.
            why = "the result of {} is empty, and its operands may have no other use"
        else:
            continue
        return why.format(f"`{name}` (at {line_of(equation, *outer)})")
    return None


def _is_plain(jaxpr, width: int) -> bool:
    """Whether the operations of a function say enough, so that its derivatives need not be traced to look at."""
    return all(
        equation.primitive.name in _PLAIN
        and all(out.aval.size * width < _LARGEST_NATIVE_REDUCTION for out in equation.outvars)
        for equation, *_ in equations_in(jaxpr)
    )


def _obstacle_on_tile(jaxpr) -> str | None:
    """The first operation on a tile, of a function or of its derivatives, that cannot be part of a native function."""
    for equation, *outer in equations_in(jaxpr):
        name = equation.primitive.name
        if name not in _ON_A_TILE:
            why = _TO_A_LIBRARY
        elif name in _REDUCING and equation.invars[0].aval.size >= _LARGEST_NATIVE_REDUCTION:
            why = _LARGE_SUM
        else:
            continue
        return why.format(f"`{name}` (at {line_of(equation, *outer)}, or in its derivative)")
    return None
