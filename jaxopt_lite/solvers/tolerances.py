"""Default tolerances, and a solver's settings spread over a batch."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from jaxopt_lite.lanes.engine import Limits

__all__ = ["check", "limits"]

# (atol, rtol). Measured on the standard problem sets: what the arithmetic of each dtype reaches on nearly all of them.
_ROOT = {"float64": (1e-9, 0.0), "float32": (1e-5, 1e-6)}
_MINIMUM = {"float64": (1e-6, 0.0), "float32": (1e-3, 0.0)}


def check(solver) -> None:
    """Refuse settings that cannot be meant, where their numbers can be seen: not those traced by an outer `jit`.

    Raises:
        ValueError: a negative or NaN tolerance, or a number of steps that is not whole and not negative.
    """
    for name in ("atol", "rtol", "max_steps"):
        value = getattr(solver, name)
        if value is None or isinstance(value, Tracer):
            continue
        if not np.all(np.asarray(value) >= 0):
            raise ValueError(f"{name}={value}: expected numbers that are not negative and not NaN.")
        if name == "max_steps" and not np.issubdtype(np.asarray(value).dtype, np.integer):
            raise ValueError(f"max_steps={value}: expected whole numbers.")


def limits(solver, kind: str, size: int, dtype) -> Limits:
    """The solver's `atol`, `rtol` and `max_steps`, one entry a problem.

    Raises:
        ValueError: a setting that is neither one number nor one per problem.
    """
    table = _ROOT if kind == "root" else _MINIMUM
    half_precision = (float(jnp.finfo(dtype).eps),) * 2
    atol, rtol = table.get(jnp.dtype(dtype).name, half_precision)
    return Limits(
        _per_problem("atol", atol if solver.atol is None else solver.atol, size, dtype),
        _per_problem("rtol", rtol if solver.rtol is None else solver.rtol, size, dtype),
        _per_problem("max_steps", solver.max_steps, size, jnp.int32),
    )


def _per_problem(name: str, value, size: int, dtype) -> Array:
    if np.shape(value) not in ((), (size,)):
        raise ValueError(f"{name} has shape {np.shape(value)}; expected one number, or one per problem: ({size},).")
    return jnp.broadcast_to(jnp.asarray(value).astype(dtype), (size,))
