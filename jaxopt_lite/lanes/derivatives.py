"""Derivatives of a function of one vector, by whichever mode of differentiation it has.

A `jax.custom_vjp` has no forward mode, a loop of unknown length no reverse mode. Each derivative is taken in its usual
mode, and in the other one where JAX refuses the first while it traces; this costs other functions nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lite.jaxprs import Equation, equations_in, line_of
from jaxopt_lite.lanes.sparse_jacobian import value_sparse_jacobian_and_aux

__all__ = [
    "has_custom_vjp", "has_hessian", "hessian", "jacobian", "pullback", "value_and_grad", "value_and_jacobian",
    "value_and_slope", "value_grad_and_hessian", "value_jacobian_and_aux",
]  # fmt: skip

_REFUSALS = (TypeError, ValueError, NotImplementedError)
_ADVICE = (
    "A jax.custom_jvp rule works in both modes, and so does a loop of a fixed number of rounds (jax.lax.scan). "
    'For roots, Broyden(jacobian="identity", rescue=False) and LimitedBroyden(rescue=False) need no derivative.'
)


def value_and_grad(f: Callable, x):
    """`f(x) = (value, aux)` with a scalar value; returns `(value, aux), gradient`."""

    def forward():
        return f(x), _by_columns(lambda x: f(x)[0], x, jnp.ones((), x.dtype))

    return _first_possible("gradient", f, x, lambda: jax.value_and_grad(f, has_aux=True)(x), forward)


def value_and_slope(f: Callable, x, p, needed: bool, asks_first: bool):
    """f(x) and J p. If the function has no derivative, J p is NaN, or an error if it is `needed`.

    `asks_first` is for a function that `has_custom_vjp`.
    """

    def forward():
        if asks_first:
            _ask_for_forward_mode(f, x)
        return jax.jvp(f, (x,), (p,))

    def backward():  # Jᵀu is linear in u, and its transpose is J
        value, back = jax.vjp(f, x)
        (slope,) = jax.linear_transpose(lambda u: back(u)[0], value)(p)
        return value, slope

    def none():
        value = f(x)
        return value, jnp.full_like(value, jnp.nan)

    return _first_possible("slope", f, x, forward, backward, otherwise=None if needed else none)


def pullback(f: Callable, x, u):
    """Jᵀ u at x."""
    ways = lambda: jax.vjp(f, x)[1](u)[0], lambda: _by_columns(f, x, u)
    return _first_possible("derivative", f, x, *ways)


def value_and_jacobian(f: Callable, x):
    """f(x) and J(x), `[m, n]`."""
    value, j, _ = value_jacobian_and_aux(lambda x: (f(x), None), x)
    return value, j


def value_jacobian_and_aux(f: Callable, x):
    """For `f(x) = (value, aux)`: the value, its Jacobian `[m, n]`, and aux."""
    sparse = value_sparse_jacobian_and_aux(f, x)
    if sparse is not None:
        return sparse

    def twice(x):
        value, aux = f(x)
        return value, (value, aux)

    ways = (lambda mode=mode: mode(twice, has_aux=True)(x) for mode in (jax.jacfwd, jax.jacrev))
    j, (value, aux) = _first_possible("Jacobian", f, x, *ways)
    return value, j, aux


def jacobian(f: Callable, x):
    """J(x) alone."""
    return _first_possible("Jacobian", f, x, lambda: jax.jacfwd(f)(x), lambda: jax.jacrev(f)(x))


def hessian(f: Callable, x):
    """∇²f(x), for a scalar function."""
    return _first_possible("Hessian", f, x, lambda: jax.hessian(f)(x), lambda: jax.jacfwd(jax.jacfwd(f))(x))


def value_grad_and_hessian(f: Callable, x):
    """f(x), ∇f(x) and ∇²f(x), for a scalar function."""

    def with_hessian(gradient: Callable):
        def twice(x):
            value, slope = gradient(x)
            return slope, (value, slope)

        return lambda: jax.jacfwd(twice, has_aux=True)(x)

    def forward(x):
        return jax.jacfwd(lambda x: (f(x),) * 2, has_aux=True)(x)[::-1]

    ways = with_hessian(jax.value_and_grad(f)), with_hessian(forward)
    h, (value, slope) = _first_possible("Hessian", f, x, *ways)
    return value, slope, h


def has_hessian(f: Callable, x, *others) -> bool:
    """Whether JAX can take second derivatives of a scalar f(x, *others) in x; only shapes and dtypes matter."""
    try:
        jax.eval_shape(lambda x, *others: value_grad_and_hessian(lambda x: f(x, *others), x), x, *others)
    except _REFUSALS:
        return False
    return True


def _by_columns(f: Callable, x, u):
    """Jᵀ u by forward mode, one unknown at a time, so that no array is larger than those of f itself."""
    _ask_for_forward_mode(f, x)

    def entry(direction):
        _, column = jax.jvp(f, (x,), (direction,))
        return jnp.sum(column * u)

    return jax.lax.map(entry, jnp.eye(x.size, dtype=x.dtype))


def _ask_for_forward_mode(f: Callable, x) -> None:
    """Raise JAX's error if f has no forward mode. `jax.jvp` accepts a `jax.custom_vjp`; only its result fails."""
    jax.eval_shape(jax.jacfwd(f), x)


def _first_possible(name: str, f: Callable, x, *ways: Callable[[], Any], otherwise: Callable[[], Any] | None = None):
    """The result of the first way that works, or else of `otherwise`.

    Raises:
        TypeError: no way works; it says why. An error in the user's function, met by every way, is raised as it is.
    """
    errors: list[Exception] = []
    for way in ways:
        try:
            return way()
        except _REFUSALS as error:
            errors.append(error)
    found = _with_one_mode(jax.make_jaxpr(f)(x))
    operations = dict.fromkeys(f"`{equation.primitive.name}` at {line_of(equation)}" for equation in found)
    reasons = dict.fromkeys(f"{error}".partition("\n")[0] for error in errors)
    if not operations and len(reasons) == 1 and not isinstance(errors[0], NotImplementedError):
        raise errors[0]
    if otherwise is not None:
        return otherwise()
    because = f", because of {', '.join(operations)}" if operations else ""
    raise TypeError(
        f"fun(x, args) has no {name}: JAX can differentiate it neither forward nor backward{because}. {_ADVICE} "
        f"JAX said: {' / '.join(reasons)}"
    ) from errors[0]


def has_custom_vjp(jaxpr: Any) -> bool:
    """Whether a `jax.custom_vjp` is called in a jaxpr."""
    return any(equation.primitive.name == "custom_vjp_call" for equation in _with_one_mode(jaxpr))


_WITH_ONE_MODE = {"while", "custom_vjp_call", "pure_callback", "io_callback", "debug_callback"}


def _with_one_mode(jaxpr: Any) -> list[Equation]:
    """The equations of a jaxpr that have at most one mode of differentiation."""

    def enters(equation: Equation) -> bool:
        return equation.primitive.name not in _WITH_ONE_MODE | {"custom_jvp_call"}

    return [equation for equation, *_ in equations_in(jaxpr, enters) if equation.primitive.name in _WITH_ONE_MODE]
