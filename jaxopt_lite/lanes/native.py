"""A whole solve as one native function of the CPU: how to ask XLA for it, and what stands in the way.

XLA dispatches the operations of a loop one by one unless the whole loop is small enough to compile as a single
function, which is 5 to 20 times faster for tiny problems. An attribute on a call around it asks for that (JAX 0.12 also
does so by itself for some loops).
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from jaxopt_lite.jaxprs import Equation, called, equations_in, is_literal, line_of
from jaxopt_lite.lanes.lanes_last import ELEMENTWISE, is_own_product

__all__ = ["as_one_native_call", "why_not_native"]

# The operations that may be part of a native function. What XLA gives to libraries or to its thunk runtime (products of
# matrices, sorting, scattering, random numbers) may not: a call that holds one fails to compile.
_SHAPING = {
    "broadcast_in_dim", "concatenate", "dynamic_slice", "expand_dims", "iota", "pad", "reshape", "rev", "slice",
    "split", "squeeze", "stack", "tile", "transpose", "unstack",
}  # fmt: skip
_REDUCING = {"argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum"}
_CALLING = {
    "checkpoint", "closed_call", "cond", "core_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit", "scan",
    "while",
}  # fmt: skip
_NATIVE = ELEMENTWISE | _SHAPING | _REDUCING | _CALLING
_LARGEST_NATIVE_REDUCTION = 4096  # beyond it XLA may give it to a library
_LARGEST_NATIVE_ARRAY = 16384  # beyond it XLA may split an operation over threads
_LARGEST_NATIVE_STATE = 1 << 20


def as_one_native_call(solve: Callable) -> Callable:
    """Ask XLA to compile `solve` as one native CPU function. Where it cannot be, `why_not_native` has a reason."""

    def call(*operands):
        # XLA draws small constants into a function. The argument is then unused, and that is an error which ends the
        # process. So constants are hidden behind a barrier, and all arguments are in use because they are returned.
        hidden = jax.lax.optimization_barrier(operands)
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            return jax.jit(unattributed)(*hidden)[0]

    def unattributed(*operands):
        # "false" and not None: loops inside that are traced again when they are lowered would inherit the request.
        with set_xla_metadata(xla_cpu_small_call="false", inlineable=None):
            return solve(*operands), operands

    return call


def why_not_native(jaxpr: Any, width: int, lane_bytes: int, columns: int | None) -> str | None:
    """Why a solve cannot be one native CPU function, if so.

    Args:
        jaxpr: the user's function: operations inside it decide.
        width: the lanes of a tile.
        lane_bytes: the bytes of a lane's state.
        columns: how many columns of a Jacobian the solve computes at once, by forward mode; None where it goes by
            gradients, in reverse mode.
    """
    if lane_bytes * width > _LARGEST_NATIVE_STATE:
        return f"a tile's state takes {lane_bytes * width:,} bytes; at most {_LARGEST_NATIVE_STATE:,} are one function"
    return _obstacle(jaxpr, width, columns)


def _obstacle(jaxpr, width: int, columns: int | None) -> str | None:
    """The first operation of a jaxpr, or of its derivatives, that on a tile cannot be part of a native function."""
    backward, columns = columns is None, columns or 1
    for equation, *outer in equations_in(jaxpr):
        name = equation.primitive.name
        # A broadcast becomes a reduction of its output in the derivative.
        reduced = equation.invars[:1] if name in _REDUCING else []
        is_broadcast = name == "broadcast_in_dim" or (backward and _broadcasts(equation))
        reduced = equation.outvars if is_broadcast else reduced
        is_own = is_own_product(equation, columns) and all(called(each) is not None for each in outer)
        if name not in _NATIVE and not is_own:
            why = "XLA gives {} to a library or to its own runtime"
        elif any(operand.aval.size * width * columns >= _LARGEST_NATIVE_REDUCTION for operand in reduced):
            why = "the sum over a tile of {} is so large that XLA may give it to a library"
        elif any(out.aval.size * width > _LARGEST_NATIVE_ARRAY for out in equation.outvars):
            why = "the result of {} is so large on a tile that XLA may split it over threads"
        else:
            continue
        return why.format(f"`{name}` (at {line_of(equation, *outer)})")
    return None


def _broadcasts(equation: Equation) -> bool:
    """Whether an operation on numbers repeats those of one of its variables."""
    if equation.primitive.name not in ELEMENTWISE:
        return False
    size = equation.outvars[0].aval.size
    return any(not is_literal(operand) and operand.aval.size < size for operand in equation.invars)
