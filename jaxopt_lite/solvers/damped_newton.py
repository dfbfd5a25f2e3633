"""Levenberg-Marquardt on lanes, the last resort of root finding: slow, and hard to defeat.

    p = −(JᵀJ + λ D²)⁻¹ JᵀF,   x⁺ = x + p if ‖F‖² falls, λ by how well the linear model predicted it

J comes from autodiff at every step. D holds the column norms of J, so that the step does not depend on the units of
the unknowns. Sources: Moré, "The Levenberg-Marquardt algorithm", Lecture Notes in Mathematics 630 (1978); Nielsen,
report IMM-REP-1999-05, for the change of λ.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxopt_lite.lanes.arithmetic import at, dot, eye, fold, inverse, matvec, max_abs, outer, rematvec, take_where
from jaxopt_lite.lanes.status import Status

__all__ = ["DampedNewton", "State", "dense_direction"]

_FIRST_DAMPING, _LEAST_DAMPING = 1e-3, 1e-15
_ENOUGH = 1e-4  # of the predicted reduction


class State(NamedTuple):
    """What a lane carries; `f` and φ = ‖F‖² belong to `x`, the best point seen, and `p` leads to the next trial."""

    x: Float[Array, "n *L"]
    f: Float[Array, "n *L"]
    phi: Float[Array, "*L"]
    predicted: Float[Array, "*L"]
    p: Float[Array, "n *L"]
    d: Float[Array, "n *L"]
    damping: Float[Array, "*L"]
    growth: Float[Array, "*L"]
    steps: Int[Array, "*L"]
    evaluations: Int[Array, "*L"]
    first_error: Float[Array, "*L"]
    status: Int[Array, "*L"]


class DampedNewton(NamedTuple):
    """The method on lanes, for the engine. `direction(problem, x, f, d, damping)` gives p, the new D and J p."""

    direction: Callable

    def init(self, x) -> State:
        """Before the first evaluation: the first trial is `x` itself."""
        row, zero = jnp.zeros(x.shape[1:], x.dtype), jnp.zeros_like(x)
        count = jnp.zeros(x.shape[1:], jnp.int32)
        return State(
            x=x, f=zero, phi=row + jnp.inf, predicted=row, p=zero, d=zero, damping=row + _FIRST_DAMPING,
            growth=row + 2, steps=count, evaluations=count, first_error=row, status=count + Status.RUNNING,
        )  # fmt: skip

    def step(self, problem, limits, state: State) -> State:
        """Evaluate the trial point, accept it if φ falls enough, and choose the next one."""
        running, starting = state.status == Status.RUNNING, jnp.isposinf(state.phi)
        x = state.x + state.p
        f = problem.value(x)
        phi, error = dot(f, f), max_abs(f)
        first_error = jnp.where(starting, error, state.first_error)
        finite = jnp.isfinite(phi)
        ratio = (state.phi - phi) / jnp.where(state.predicted > 0, state.predicted, 1)
        accepted = finite & (starting | (ratio > _ENOUGH))
        converged = accepted & (error <= limits.atol + limits.rtol * first_error)

        x, f = jnp.where(accepted, x, state.x), jnp.where(accepted, f, state.f)
        less = jnp.clip(1 - (2 * ratio - 1) ** 3, 1 / 3, 2)
        damping = state.damping * jnp.where(starting, 1, jnp.where(accepted, less, state.growth))
        damping = jnp.maximum(damping, _LEAST_DAMPING)
        p, d, jp = self.direction(problem, x, f, state.d, damping)
        steps = state.steps + (accepted & ~starting)
        # No direction promises a visible reduction: a local minimum of ‖F‖, or one at this precision.
        phi = jnp.where(accepted, phi, state.phi)
        predicted = phi - dot(f + jp, f + jp)
        hopeless = ~(predicted > 0.01 * jnp.finfo(phi.dtype).eps * phi) | (damping > 1 / jnp.finfo(phi.dtype).eps)
        status = jnp.where(hopeless, Status.NO_ROOT, state.status)
        status = jnp.where(accepted & (steps >= limits.max_steps), Status.MAX_STEPS, status)
        status = jnp.where(starting & ~finite, Status.NONFINITE_START, status)
        status = jnp.where(converged, Status.CONVERGED, status).astype(jnp.int32)
        new = State(
            x, f, phi, predicted, p, d, damping, jnp.where(accepted, 2, 2 * state.growth).astype(phi.dtype),
            steps, state.evaluations + 1, first_error, status,
        )  # fmt: skip
        return take_where(running, new, state)

    def service(self, problem, limits, state: State) -> State:
        """No lane of this method ever waits."""
        return state

    def progress(self, state: State):
        """½‖F‖² and ‖F‖∞ at the current point."""
        return state.phi / 2, max_abs(state.f)


def dense_direction(problem, x, f, d, damping):
    """p by the damped normal equations, D grown to the column norms of J, and J p."""
    j = problem.jacobian(x)
    d = jnp.maximum(d, jnp.sqrt(fold(lambda k, total: total + at(j, k) ** 2, x.shape[0], jnp.zeros_like(x))))
    gram = fold(lambda k, total: total + outer(at(j, k), at(j, k)), x.shape[0], jnp.zeros_like(j))
    weights = damping * jnp.where(d > 0, d, 1) ** 2
    p = -matvec(inverse(gram + eye(x) * weights[:, None]), rematvec(j, f))
    return p, d, matvec(j, p)
