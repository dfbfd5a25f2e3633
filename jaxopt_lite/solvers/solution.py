"""What a solve returns: arrays, one entry per problem, with readable views on the host."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxopt_lite.lanes.status import MESSAGES, Status, is_solved
from jaxopt_lite.solvers.covariance import Covariance, covariance_of

__all__ = ["History", "Solution", "SolveError"]

_SHOWN = 5


class SolveError(RuntimeError):
    """Some problems of a batch were not solved."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class History:
    """Progress over the first steps; NaN after the last one.

    Attributes:
        value: f(x), or ½‖F(x)‖² for a root, `[B, record]`. Entry 0 is the start.
        error: ‖∇f(x)‖∞, or ‖F(x)‖∞.
    """

    value: Float[Array, "*B record"]
    error: Float[Array, "*B record"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Solution:
    """The answers to a batch of problems. Every leaf has the batch axis first, or none where `batched=False`.

    Attributes:
        x: the best points seen, even where a solve failed; a pytree like `x0`.
        fun: for a minimum f(x), `[B]`; for a root or least squares the residual F(x), a pytree like that of `fun`,
            with the batch axis.
        grad: for a minimum ∇f(x), a pytree like `x`; for least squares that of the cost; for a root `None`.
        error: the verified criterion, recomputed at `x`: ‖∇f(x)‖∞ for a minimum, ‖F(x)‖∞ for a root; for least
            squares the largest cosine of an angle between F(x) and a column of its Jacobian. With bounds a slope that
            leads out of them does not count.
        status: the outcome of each problem, a `Status`.
        success: `status` is CONVERGED or AT_PRECISION. NaN is never success.
        steps: accepted steps.
        evaluations: evaluations of `fun` (with a derivative) in the iterations.
        aux: the second output of `fun` at `x`, with `has_aux=True`.
        cost: of least squares, half the sum of the squares of the residuals, or of what the loss makes of them.
        active: with bounds, a pytree like `x`: -1 of an unknown at its lower bound, 1 at its upper one, else 0.
        triangle: of least squares, R of the QR factorization of the Jacobian at `x`, as the loss weighs it.
        history: with `record=K`, progress over the first K steps.
        state: with `keep_state=True`, what `resume` needs.
    """

    x: PyTree
    fun: PyTree
    grad: PyTree
    error: Float[Array, "*B"]
    status: Int[Array, "*B"]
    success: Bool[Array, "*B"]
    steps: Int[Array, "*B"]
    evaluations: Int[Array, "*B"]
    aux: PyTree = None
    cost: Float[Array, "*B"] | None = None
    active: PyTree = None
    triangle: Float[Array, "*B n n"] | None = None
    history: History | None = None
    state: Any = None

    def summary(self) -> str:
        """A table for people: how many ended how, and what to try for those that failed. Host only."""
        status, error = np.atleast_1d(self.status), np.atleast_1d(self.error)
        evaluations = np.atleast_1d(self.evaluations)
        lines = [f"{status.size} problems, {int(is_solved(status).sum())} solved"]
        for code in sorted(set(status.tolist())):
            lanes = np.flatnonzero(status == code)
            lines.append(f"  {lanes.size:>8}  {Status(code).name:<16} {MESSAGES[Status(code)]}")
            if not is_solved(code):
                lines.append(f"            problems {_listed(lanes)}; largest error {_largest(error[lanes]):.3g}")
        if status.size:
            median, most = np.median(evaluations), evaluations.max()
            lines.append(f"  evaluations: median {median:.0f}, most {most}; largest error {_largest(error):.3g}")
        return "\n".join(lines)

    def covariance(self, *, absolute_sigma: bool = False) -> Covariance:
        """How well the data determine the unknowns of least squares: covariance, standard errors, intervals.

        By the Jacobian at `x`, as `scipy.optimize.curve_fit` has it: bounds, active or not, play no part. Of a fit that
        was not solved it says little.

        Args:
            absolute_sigma: whether the residuals are in units of their own standard deviations. If not, the size of the
                errors is estimated from the residuals, by `2 cost / (m − n)`.

        Raises:
            ValueError: no solution of `least_squares`, or no more residuals than unknowns and not `absolute_sigma`.

        Example:
            >>> import jax.numpy as jnp, jaxopt_lite as jol
            >>> t, y = jnp.arange(5.0), jnp.array([1.1, 2.9, 5.2, 6.8, 9.1])
            >>> line = jol.least_squares(lambda b: b[0] + b[1] * t - y, jnp.zeros(2), batched=False)
            >>> [f"{error:.3f}" for error in line.covariance().standard_errors]
            ['0.146', '0.060']
        """
        if self.triangle is None or self.cost is None:
            raise ValueError("there is no covariance of a solution that is not of `least_squares`.")
        axes = self.triangle.ndim - 2
        residuals = sum(math.prod(np.shape(leaf)[axes:]) for leaf in jax.tree.leaves(self.fun))
        return covariance_of(self.x, self.triangle, 2 * self.cost, residuals, absolute_sigma)

    def raise_if_failed(self) -> "Solution":
        """The solution itself when every problem is solved. Host only.

        Raises:
            SolveError: naming the problems that failed, why, and what to try.
        """
        if not bool(np.all(self.success)):
            raise SolveError(self.summary())
        return self


def _listed(lanes: np.ndarray) -> str:
    shown = ", ".join(str(lane) for lane in lanes[:_SHOWN])
    return shown + (f", … ({lanes.size} in all)" if lanes.size > _SHOWN else "")


def _largest(values: np.ndarray) -> float:
    return float("nan") if np.isnan(values).any() else float(values.max())
