"""Newton's method with the true Jacobian at every step: the fallback for root finding, for lanes still failing.

A lane makes attempts, one after the other, until one finds a root:

1. damped (Levenberg-Marquardt), from the best point so far: p = −(JᵀJ + λ D²)⁻¹ JᵀF, accepted if ‖F‖² falls;
2. free, from `x0`: p = −J⁻¹F even if ‖F‖ grows, to escape its local minima, with steps of at most the size of x;
3. free twice more, with steps of at most 10 times, then 0.3 times, the size of x;
4. damped, from points scattered around `x0`, ever further away.

J comes from autodiff. D holds the column norms of J, so that a step does not depend on the units of the unknowns.
Sources: Moré, "The Levenberg-Marquardt algorithm", Lecture Notes in Mathematics 630 (1978); Nielsen, report
IMM-REP-1999-05, for the change of λ.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.lax import optimization_barrier
from jaxtyping import Array, Float, Int

from jaxopt_lite.lanes.arithmetic import (
    diagonal,
    dot,
    eye,
    inverse,
    matvec,
    max_abs,
    norm,
    normal_equations,
    positive,
    take_where,
)
from jaxopt_lite.lanes.status import Status

__all__ = ["DampedNewton", "State", "dense_direction"]

_FIRST_DAMPING, _LEAST_DAMPING = 1e-3, 1e-15
_ENOUGH = 1e-4  # of the predicted reduction
_FREE_STEP = (0.0, 1.0, 10.0, 0.3)  # longest step of each attempt, relative to the size of x; 0 means damped
_SCATTERED = 30
_ATTEMPTS = len(_FREE_STEP) + _SCATTERED
_STEPS_PER_ATTEMPT = 100


class State(NamedTuple):
    """What a lane carries; `f`, φ = ‖F‖² and J belong to the attempt's point `at_x`, and `p` leads to the next trial.

    J is () where directions are found without a matrix.
    """

    x: Float[Array, "n *L"]
    best_phi: Float[Array, "*L"]
    x0: Float[Array, "n *L"]
    at_x: Float[Array, "n *L"]
    f: Float[Array, "n *L"]
    phi: Float[Array, "*L"]
    j: Any
    predicted: Float[Array, "*L"]
    p: Float[Array, "n *L"]
    d: Float[Array, "n *L"]
    damping: Float[Array, "*L"]
    growth: Float[Array, "*L"]
    attempt: Int[Array, "*L"]
    tried: Int[Array, "*L"]
    steps: Int[Array, "*L"]
    evaluations: Int[Array, "*L"]
    first_error: Float[Array, "*L"]
    status: Int[Array, "*L"]


class DampedNewton(NamedTuple):
    """The method on lanes, for the engine. `direction(problem, x, f, j, d, damping)` gives p, the new D and J p;
    without damping p is the Newton step. J is evaluated together with F if it `keeps_jacobian`; it is () if not.
    """

    direction: Callable
    keeps_jacobian: bool

    loose = symmetric = ()
    prepares = False

    def init(self, start) -> State:
        """Before the first evaluation. `start` is the best point so far and the user's own start."""
        x, x0 = start
        row, zero = jnp.zeros(x.shape[1:], x.dtype), jnp.zeros_like(x)
        count = jnp.zeros(x.shape[1:], jnp.int32)
        return State(
            x=x, best_phi=row + jnp.inf, x0=x0, at_x=x, f=zero, phi=row + jnp.inf,
            j=jnp.zeros((x.shape[0], *x.shape), x.dtype) if self.keeps_jacobian else (), predicted=row, p=zero, d=zero,
            damping=row + _FIRST_DAMPING, growth=row + 2, attempt=count, tried=count, steps=count,
            evaluations=count, first_error=row, status=count + Status.WAITING,
        )  # fmt: skip

    def begin(self, problem, limits, state: State) -> State:
        """Nothing to prepare: the first step evaluates at x."""
        return state._replace(status=jnp.full_like(state.status, Status.RUNNING))

    def step(self, problem, limits, state: State) -> State:
        """Evaluate the trial point, accept it or not, and choose the next one."""
        starting = jnp.isposinf(state.phi)
        x = state.at_x + state.p
        f, j = optimization_barrier(problem.value_and_jacobian(x)) if self.keeps_jacobian else (problem.value(x), ())
        phi, error = dot(f, f), max_abs(f)
        finite = jnp.isfinite(phi)
        free = _longest_step(state) > 0
        ratio = (state.phi - phi) / positive(state.predicted)
        accepted = finite & (starting | free | (ratio > _ENOUGH))
        first_error = jnp.where(state.evaluations == 0, error, state.first_error)

        moved = take_where(accepted, state._replace(at_x=x, f=f, phi=phi, j=j), state)
        moved = self._aim(problem, _damp(moved, accepted, starting, ratio))
        better = finite & (phi < state.best_phi)
        new = moved._replace(
            x=jnp.where(better, x, state.x), best_phi=jnp.where(better, phi, state.best_phi),
            steps=state.steps + (accepted & ~starting), evaluations=state.evaluations + 1,
            first_error=first_error, tried=state.tried + 1,
        )  # fmt: skip
        new = take_where(optimization_barrier(_is_over(new, finite)), _next_attempt(new), new)
        spent = (new.attempt >= _ATTEMPTS) | (new.evaluations >= _ATTEMPTS * _STEPS_PER_ATTEMPT)
        status = jnp.where(spent, Status.NO_ROOT, state.status)
        converged = finite & (error <= limits.atol + limits.rtol * first_error)
        new = new._replace(status=jnp.where(converged, Status.CONVERGED, status).astype(jnp.int32))
        return take_where(state.status == Status.RUNNING, new, state)

    def _aim(self, problem, state: State) -> State:
        """The next trial's step, and by how much it should reduce φ."""
        longest = _longest_step(state)
        damping = jnp.where(longest > 0, 0, state.damping)
        p, d, jp = self.direction(problem, state.at_x, state.f, state.j, state.d, damping)
        size = jnp.maximum(_unit(state.x0), norm(state.at_x))
        length = norm(p)
        shrink = jnp.where(longest > 0, jnp.minimum(1, longest * size / positive(length)), 1)
        predicted = state.phi - dot(state.f + jp, state.f + jp)
        return state._replace(p=shrink * p, d=d, predicted=predicted)

    def progress(self, problem, state: State):
        """½‖F‖² and ‖F‖∞ at the current point."""
        return state.phi / 2, max_abs(state.f)


def _longest_step(state: State):
    """The longest step of a free attempt, relative to the size of x; zero where the attempt is damped."""
    longest = jnp.zeros_like(state.phi)
    for attempt, length in enumerate(_FREE_STEP):
        longest = jnp.where(state.attempt == attempt, length, longest)
    return longest


def _damp(state: State, accepted, starting, ratio) -> State:
    """λ falls when the model predicted well, and grows ever faster while trials are rejected."""
    less = jnp.clip(1 - (2 * ratio - 1) ** 3, 1 / 3, 2)
    change = jnp.where(starting, 1, jnp.where(accepted, less, state.growth))
    damping = jnp.maximum(state.damping * change, _LEAST_DAMPING)
    return state._replace(damping=damping, growth=jnp.where(accepted, 2, 2 * state.growth))


def _is_over(state: State, finite):
    """Whether the attempt has failed: no visible reduction expected, no finite direction, or too many steps."""
    eps = jnp.finfo(state.phi.dtype).eps
    free = _longest_step(state) > 0
    hopeless = ~(state.predicted > 0.01 * eps * state.phi) | (state.damping > 1 / eps)
    lost = ~jnp.isfinite(max_abs(state.p)) | jnp.isposinf(state.phi) | (free & ~finite)
    return lost | (~free & hopeless) | (state.tried >= _STEPS_PER_ATTEMPT)


def _next_attempt(state: State) -> State:
    """Start over: from `x0`, or from a point scattered around it."""
    attempt = state.attempt + 1
    row = jnp.clip(attempt - len(_FREE_STEP), 0, _SCATTERED - 1)
    offsets = jnp.asarray(_scatter(state.x.shape[0]), state.x.dtype)[row]
    offsets = jnp.moveaxis(offsets, -1, 0)
    offset = jnp.where(attempt >= len(_FREE_STEP), offsets * jnp.maximum(_unit(state.x0), jnp.abs(state.x0)), 0)
    infinite = jnp.full_like(state.phi, jnp.inf)
    return state._replace(
        at_x=state.x0 + offset, phi=infinite, p=jnp.zeros_like(state.p), d=jnp.zeros_like(state.d),
        damping=jnp.full_like(state.damping, _FIRST_DAMPING), growth=jnp.full_like(state.growth, 2),
        attempt=attempt, tried=jnp.zeros_like(state.tried),
    )  # fmt: skip


def _unit(x0):
    """The size of a start, the only clue to the units of x; 1 for a start at zero."""
    return positive(max_abs(x0))


def _scatter(n: int) -> np.ndarray:
    """Fixed offsets [attempts, n], the same for every lane: normal, from a tenth of the size of x0 up to its size."""
    sizes = np.linspace(0.1, 1.0, _SCATTERED)[:, None]
    return sizes * np.random.default_rng(0).standard_normal((_SCATTERED, n))


def dense_direction(problem, x, f, j, d, damping):
    """p, D grown to the column norms of J, and J p. Without damping p is Newton's step, from J itself, not JᵀJ."""
    gram, slope = normal_equations(jnp.swapaxes(j, 0, 1), f)
    d = jnp.maximum(d, jnp.sqrt(diagonal(gram)))
    damped = gram + eye(x) * (damping * positive(d) ** 2)[:, None]
    is_free = damping == 0
    p = -matvec(inverse(jnp.where(is_free, j, damped)), jnp.where(is_free, f, slope))
    return p, d, matvec(j, p)
