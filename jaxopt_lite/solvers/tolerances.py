"""Default tolerances, and a solver's settings spread over a batch."""

import math
from dataclasses import fields, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxopt_lite.lanes.engine import Limits

__all__ = ["check_setting", "checked", "equal_settings", "finite_numbers", "limits", "per_problem"]

# (atol, rtol): what each dtype's arithmetic reaches on nearly all of the standard problem sets, as measured.
_ROOT = {"float64": (1e-9, 0.0), "float32": (1e-5, 1e-6)}
_MINIMUM = {"float64": (1e-6, 0.0), "float32": (1e-3, 0.0)}
_LEAST_SQUARES = {"float64": (1e-11, 0.0), "float32": (1e-4, 0.0)}
_TABLES = {"root": _ROOT, "minimum": _MINIMUM, "least squares": _LEAST_SQUARES}
_STEPS = {"root": 2000, "minimum": 1000, "least squares": 1000}
_STEPS_PER_UNKNOWN = 20  # at least: along Rosenbrock's valley BFGS takes seven, L-BFGS five
_MOST_STEPS = 2**31 - 1  # the most that an int32 counts


def checked(solver):
    """The solver, with `max_steps` reduced to what an int32 can count.

    Invalid settings are rejected, except those traced by an outer `jit`, whose numbers cannot be seen.

    Raises:
        ValueError: a tolerance that is negative or not finite, or a number of steps that is negative or not whole.
    """
    for name in ("atol", "rtol", "max_steps"):
        value = check_setting(name, given := getattr(solver, name))
        solver = solver if value is given else replace(solver, **{name: value})
    steps = solver.max_steps
    if steps is None:
        return solver
    if type(steps) is int:
        return solver if steps <= _MOST_STEPS else replace(solver, max_steps=_MOST_STEPS)
    traced = isinstance(steps, Tracer)
    if not np.issubdtype(steps.dtype if traced else np.asarray(steps).dtype, np.integer):
        raise ValueError(f"max_steps={steps}: expected whole numbers.")
    if traced:
        return solver
    return replace(solver, max_steps=np.minimum(steps, _MOST_STEPS).astype(np.int32))


def check_setting(name: str, value) -> Any:
    """The setting; a list with one number per problem as an array, since a list would be a pytree.

    Rejects one that is negative, infinite, or no number at all, unless it is traced.

    Raises:
        ValueError: anything but finite numbers of at least 0.
    """
    if value is None or isinstance(value, Tracer):
        return value
    if type(value) in (int, float):
        fits = 0 <= value < math.inf
    else:
        values = finite_numbers(value)
        fits = values is not None and np.all(values >= 0)
    if not fits:
        raise ValueError(f"{name}={value!s:.200}: expected finite numbers that are not negative.")
    return np.asarray(value) if isinstance(value, list | tuple) else value


def finite_numbers(value: Any) -> np.ndarray | None:
    """The numbers that a setting holds; None if it holds anything else, such as NaN, a bool or a complex number."""
    try:
        values = np.asarray(value)
    except (TypeError, ValueError):  # rows of different lengths, or traced numbers in a list
        return None
    is_real = jnp.issubdtype(values.dtype, jnp.floating) or jnp.issubdtype(values.dtype, jnp.integer)
    return values if is_real and np.all(np.isfinite(values)) else None


def equal_settings(one: Any, other: Any) -> bool:
    """`==` of solvers: of the same kind, with the same settings. Arrays are equal if their shapes and numbers are."""
    if type(one) is not type(other):
        return NotImplemented
    pairs = ((getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    # Not np.array_equal, which calls a traced number unequal instead of raising.
    return all(
        a is b or (np.shape(a) == np.shape(b) and bool(np.all(np.asarray(a) == np.asarray(b)))) for a, b in pairs
    )


def limits(solver, x: Float[Array, "B n"]) -> Limits:
    """The solver's `atol`, `rtol` and `max_steps`, one entry per problem; `x` are the starts.

    Raises:
        ValueError: a setting that is neither one number nor one per problem.
    """
    (size, n), dtype = x.shape, x.dtype
    half_precision = (float(jnp.finfo(dtype).eps),) * 2
    atol, rtol = _TABLES[solver.kind].get(jnp.dtype(dtype).name, half_precision)
    max_steps = max(_STEPS[solver.kind], _STEPS_PER_UNKNOWN * n)
    return Limits(
        per_problem("atol", atol if solver.atol is None else solver.atol, size, dtype),
        per_problem("rtol", rtol if solver.rtol is None else solver.rtol, size, dtype),
        per_problem("max_steps", max_steps if solver.max_steps is None else solver.max_steps, size, jnp.int32),
    )


def per_problem(name: str, value, size: int, dtype) -> Array:
    """A setting with one entry per problem.

    Raises:
        ValueError: it is neither one number nor one per problem.
    """
    if np.shape(value) not in ((), (size,)):
        raise ValueError(f"{name} has shape {np.shape(value)}; expected one number, or one per problem: ({size},).")
    value = jnp.asarray(value)
    if jnp.issubdtype(dtype, jnp.integer) and not np.can_cast(value.dtype, dtype):
        value = jnp.minimum(value, np.array(_MOST_STEPS, value.dtype))
    return jnp.broadcast_to(value.astype(dtype), (size,))
