"""Gradients through fixed points z = tanh(W z + U x + b), by this library and by its peers: the same weights for all.

Tolerances are equal: for z − f(z) and, relative to the right-hand side, for the linear system behind the derivative.
Where a peer can take the batch as one system, it does: its users would write such a layer that way.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import jaxopt
import lineax as lx
import numpy as np
import optimistix as optx

import jaxopt_lite as jol
from benchmarks import timing
from benchmarks.timing import Entry, Race

_TOLERANCE, _LINEAR = 1e-5, 6e-6
_MAX_STEPS = 200
_NAMES = ("W", "U", "b")  # the order of the slopes; JAX sorts dictionaries
_JUDGED = 1e-3  # the largest error, relative to the largest entry


def _weights(n: int) -> dict[str, np.ndarray]:
    """In float32, the same in every run; W has spectral radius 0.4."""
    draw = np.random.default_rng(0)
    square = lambda scale: (scale * draw.standard_normal((n, n)) / n**0.5).astype("f4")  # noqa: E731
    return {"W": square(0.4), "U": square(1.0), "b": draw.standard_normal(n).astype("f4")}


def _layer(z, x, weights):
    """For one state [n], or for all of them [B, n]."""
    return jnp.tanh(z @ weights["W"] + x @ weights["U"] + weights["b"])


# --- Fixed points: inputs [B, n] and weights -> states [B, n] ----------------------------------------------------


def _ours(solver) -> Callable:
    def solve(x, weights):
        layer = lambda z, args: _layer(z, *args)  # noqa: E731
        return jol.fixed_point(layer, jnp.zeros_like(x), (x, weights), args_axes=(0, None), solver=solver).x

    return solve


def _optimistix(linear: lx.AbstractLinearSolver) -> Callable:
    def solve(x, weights):
        solver = optx.FixedPointIteration(rtol=0.0, atol=_TOLERANCE)
        adjoint = optx.ImplicitAdjoint(linear)
        one = lambda z, args: _layer(z, *args)  # noqa: E731
        start = jnp.zeros_like(x)
        return optx.fixed_point(one, solver, start, (x, weights), adjoint=adjoint, max_steps=_MAX_STEPS).value

    return solve


def _jaxopt(kind, **options) -> Callable:
    linear = lambda matvec, b, **_: jaxopt.linear_solve.solve_bicgstab(matvec, b, tol=_LINEAR)  # noqa: E731
    solver = kind(_layer, maxiter=_MAX_STEPS, tol=_TOLERANCE, implicit_diff_solve=linear, **options)
    return lambda x, weights: solver.run(jnp.zeros_like(x), x, weights).params


def _entries(make: Callable) -> tuple[Entry, ...]:
    """`make(solve)` of every solver."""
    gmres = lx.GMRES(rtol=_LINEAR, atol=1e-8)  # without an absolute tolerance it breaks down
    limited = jol.LimitedBroyden(atol=_TOLERANCE, rtol=0.0, rescue=False, slopes=False)
    return (
        Entry("LimitedBroyden", make(_ours(limited)), is_ours=True),
        Entry(
            "Broyden",
            make(_ours(jol.Broyden(atol=_TOLERANCE, rtol=0.0, rescue=False, jacobian="identity"))),
            is_ours=True,
        ),
        Entry("optimistix fixed point, GMRES", make(_optimistix(gmres))),
        Entry("jaxopt fixed point, BiCGStab", make(_jaxopt(jaxopt.FixedPointIteration))),
        Entry("jaxopt Anderson, BiCGStab", make(_jaxopt(jaxopt.AndersonAcceleration))),
    )


# --- Races -----------------------------------------------------------------------------------------------------------


def solve(n: int, batch: int) -> Race:
    """The fixed points alone."""

    def make(solve, weights):
        jitted = jax.jit(solve)
        return lambda x: jitted(x, weights)

    return _race(n, batch, make, lambda z, _: z)


def gradient(n: int, batch: int) -> Race:
    """A training step's loss, the mean of z², and its gradient with respect to all weights, in a row."""

    def make(solve, weights):
        loss = lambda weights, x: jnp.mean(solve(x, weights) ** 2)  # noqa: E731
        jitted = jax.jit(jax.value_and_grad(loss))

        def step(x):
            value, slopes = jitted(weights, x)
            return jnp.concatenate([value[None], *(slopes[name].ravel() for name in _NAMES)])[None]

        return step

    return _race(n, batch, make, _value_and_slopes)


def _race(n: int, batch: int, make: Callable, expected: Callable) -> Race:
    """The race of `make(solve, weights)`; the judge's numbers come from NumPy, in float64."""
    jax.config.update("jax_enable_x64", False)  # with it optimistix cannot solve in float32
    inputs, weights = np.random.default_rng(1).standard_normal((batch, n)).astype("f4"), _weights(n)
    double = {name: value.astype("f8") for name, value in weights.items()}
    z = np.zeros_like(inputs, "f8")
    for _ in range(100):
        z = np.tanh(z @ double["W"] + inputs @ double["U"] + double["b"])
    exact = expected(z, (inputs, double))
    error = lambda answers: np.max(np.abs(answers - exact), axis=1) / np.max(np.abs(exact))  # noqa: E731
    return Race(inputs, error, _JUDGED, _entries(partial(make, weights=jax.device_put(weights))))


def _value_and_slopes(z, data):
    """One row: the loss and its slopes along W, U and b, by one dense system for each state."""
    x, weights = data
    bend = 1 - z**2
    systems = np.eye(z.shape[1]) - weights["W"] * bend[:, None, :]
    g = bend * np.stack([np.linalg.solve(a, c) for a, c in zip(systems, 2 * z / z.size, strict=True)])
    return np.concatenate([[np.mean(z**2)], (z.T @ g).ravel(), (x.T @ g).ravel(), g.sum(axis=0)])[None]


if __name__ == "__main__":
    timing.main({function.__name__: function for function in (solve, gradient)})
