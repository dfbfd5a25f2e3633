"""Small jobs to try a machine with: batches of the solvers' standard problems, each in one plain call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

import jaxopt_lite as jol

__all__ = ["Work", "works"]

_UNKNOWNS = (2, 10)
_TIMES = np.linspace(0.0, 4.0, 30)
_NOISE = 0.05


class Work(NamedTuple):
    """A batch of problems.

    Attributes:
        name: the method and the problem.
        front: what solves it, such as `minimize`.
        solver: its settings.
        fun: the function of one problem.
        x0: `[B, n]` starts.
        args: `[B, ...]` the function's other arguments, or None.
    """

    name: str
    front: Callable[..., jol.Solution]
    solver: Any
    fun: Callable
    x0: Float[np.ndarray, "B n"]
    args: PyTree = None

    def solve(self) -> jol.Solution:
        """Solve it in one call, on all cores."""
        return self.front(self.fun, self.x0, self.args, solver=self.solver)

    def explain(self) -> jol.Explanation:
        """How that is done on this machine."""
        return jol.explain(self.fun, self.x0, self.args, solver=self.solver)


def works(dtype: str, size: int) -> list[Work]:
    """BFGS, Broyden's method and Levenberg-Marquardt, each with its default tolerances.

    Args:
        dtype: of the starts, "float64" or "float32".
        size: B, problems of each batch.
    """
    random = np.random.default_rng(0)

    def uniform(low: float, high: float, n: int) -> np.ndarray:
        return random.uniform(low, high, (size, n)).astype(dtype)

    minima = [
        Work(f"BFGS, Rosenbrock n = {n}", jol.minimize, jol.BFGS(), rosenbrock, uniform(-2, 2, n)) for n in _UNKNOWNS
    ]
    roots = [
        Work(f"Broyden, tridiagonal n = {n}", jol.root, jol.Broyden(), tridiagonal, uniform(-1.5, -0.5, n))
        for n in _UNKNOWNS
    ]
    rates = uniform(0.5, 2.0, 1)
    measured = (3 * np.exp(-rates * _TIMES) + _NOISE * random.standard_normal((size, _TIMES.size))).astype(dtype)
    fits = Work(
        "Curve fits, 2 from 30", jol.least_squares, jol.LevenbergMarquardt(), decay, np.ones((size, 2), dtype), measured
    )
    return [*minima, *roots, fits]


def rosenbrock(x, _):
    """Rosenbrock's chained function; beyond three unknowns it has a second, local minimum."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def tridiagonal(x, _):
    """Broyden's tridiagonal system, MINPACK's number 30."""
    zero = jnp.zeros_like(x[:1])
    left, right = jnp.concatenate([zero, x[:-1]]), jnp.concatenate([x[1:], zero])
    return (3 - 2 * x) * x - left - 2 * right + 1


def decay(b, measured):
    """The residuals of an exponential decay at 30 times."""
    return b[0] * jnp.exp(-b[1] * jnp.asarray(_TIMES, b.dtype)) - measured
