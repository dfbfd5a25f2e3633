"""Newton's method in a trust region, with the true Hessian: the fallback for minimization, for lanes still failing.

    p = argmin gᵀp + ½ pᵀH p   over   ‖D p‖ ≤ Δ,   D = diag(1 / u)

A lane makes attempts, one after the other: from the best point so far, then from `x0`. In each, an unknown is measured
in units u of its size where the attempt starts, so that the region has the shape of the problem, whatever units its
author chose. H comes from autodiff, and the step from the eigenvalues of D⁻¹HD⁻¹, which also handles negative
eigenvalues and the hard case (no gradient along the lowest). Where f is predicted to fall by less than rounding shows,
a step has to reduce the gradient instead. No answer is higher than the lane's first point by more than rounding
error.

Sources: Moré and Sorensen, SIAM J. Sci. Stat. Comput. 4 (1983) 553; Conn, Gould and Toint, Trust-Region Methods (2000),
algorithm 7.3.1 and section 17.4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import optimization_barrier
from jaxtyping import Array, Float, Int

from jaxopt_lite.lanes.arithmetic import dot, eigh, matvec, max_abs, norm, outer, positive, rematvec, take_where
from jaxopt_lite.lanes.status import Status
from jaxopt_lite.solvers.quasi_newton import is_unbounded

__all__ = ["LARGEST", "State", "TrustRegion", "has_strayed", "is_far", "step_within", "units"]

LARGEST = 32
"""The most unknowns. With twice as many the eigenvalues take fifteen times as long: a few lanes that stall would take
longer than the rest of a batch."""

_FIRST_RADIUS = 0.1  # of the size of the start, in its own units
_ENOUGH, _POOR, _GOOD = 1e-4, 0.25, 0.75  # of the predicted reduction: to accept a trial, to shrink and to grow Δ
_SHRINK, _GROW = 0.25, 2.0
_HIDDEN = 2 / 3  # eps to this power, relative to f: changes that rounding may hide, since terms of f are rounded too
_LAST_STEPS = 20  # the most steps once no reduction is visible and the gradient decides
_FAR = 10  # in units of the start
_ATTEMPTS = 2
_MOST = (200, 2000)  # evaluations of each attempt
_SECULAR_STEPS = 12  # of Newton's method for λ, which converges quadratically


class State(NamedTuple):
    """What a lane carries. `f`, `g` and `h` belong to the attempt's point `at_x`, and `p` leads to the next trial.

    `length` is ‖D p‖. `lowest` is the least f seen, and `x`, with the largest entry `error` of its gradient, the best
    of the points that are as low up to rounding. `ending` counts the steps whose reduction rounding hides.
    """

    x: Float[Array, "n *L"]
    lowest: Float[Array, "*L"]
    error: Float[Array, "*L"]
    x0: Float[Array, "n *L"]
    at_x: Float[Array, "n *L"]
    f: Float[Array, "*L"]
    g: Float[Array, "n *L"]
    h: Float[Array, "n n *L"]
    unit: Float[Array, "n *L"]
    p: Float[Array, "n *L"]
    length: Float[Array, "*L"]
    predicted: Float[Array, "*L"]
    radius: Float[Array, "*L"]
    ending: Int[Array, "*L"]
    attempt: Int[Array, "*L"]
    tried: Int[Array, "*L"]
    steps: Int[Array, "*L"]
    evaluations: Int[Array, "*L"]
    first_error: Float[Array, "*L"]
    status: Int[Array, "*L"]


class TrustRegion(NamedTuple):
    """The method on lanes, for the engine."""

    loose = ()
    symmetric = ("h",)
    prepares = False

    def init(self, start) -> State:
        """Before the first evaluation. `start` is the best point so far and the user's own start."""
        x, x0 = start
        row, zero = jnp.zeros(x.shape[1:], x.dtype), jnp.zeros_like(x)
        count = jnp.zeros(x.shape[1:], jnp.int32)
        return State(
            x=x, lowest=row + jnp.inf, error=row + jnp.inf, x0=x0, at_x=x, f=row + jnp.inf, g=zero,
            h=jnp.zeros((x.shape[0], *x.shape), x.dtype), unit=units(x), p=zero, length=row, predicted=row,
            radius=row + _FIRST_RADIUS, ending=count, attempt=count, tried=count, steps=count, evaluations=count,
            first_error=row, status=count + Status.WAITING,
        )  # fmt: skip

    def begin(self, problem, limits, state: State) -> State:
        """Nothing to prepare: the first step evaluates at x."""
        return state._replace(status=jnp.full_like(state.status, Status.RUNNING))

    def step(self, problem, limits, state: State) -> State:
        """Evaluate the trial point, accept it or not, and choose the next one."""
        starting = jnp.isposinf(state.f)
        x = state.at_x + state.p
        f, g, h = optimization_barrier(problem.value_grad_and_hessian(x))
        error = max_abs(g)
        finite = jnp.isfinite(f) & jnp.isfinite(error) & jnp.all(jnp.isfinite(h), axis=(0, 1))
        ratio = (state.f - f) / positive(state.predicted)
        hidden = _is_hidden(state)
        flatter = (f <= state.f + _rounding(state.f)) & (max_abs(state.unit * g) < max_abs(state.unit * state.g))
        accepted = finite & (starting | jnp.where(hidden, flatter, ratio > _ENOUGH))
        tolerance = limits.atol + limits.rtol * jnp.where(state.evaluations == 0, error, state.first_error)
        accepted, finite, ratio = optimization_barrier((accepted, finite, ratio))

        fitted = take_where(starting, state, _fit_radius(state, accepted, ratio))
        moved = self._aim(take_where(accepted, fitted._replace(at_x=x, f=f, g=g, h=h), fitted))
        # As low as any, up to rounding. But the point that the lane came with is never left for one above it.
        as_low = finite & (f <= state.lowest + jnp.where(starting, 0, _rounding(state.lowest)))
        better = as_low & ((f < state.lowest - _rounding(state.lowest)) | (error < state.error))
        new = moved._replace(
            x=jnp.where(better, x, state.x), error=jnp.where(better, error, state.error),
            lowest=jnp.where(as_low, jnp.minimum(f, state.lowest), state.lowest),
            first_error=jnp.where(state.evaluations == 0, error, state.first_error),
            ending=jnp.where(hidden & ~starting, jnp.where(accepted, state.ending + 1, _LAST_STEPS), 0),
            steps=state.steps + (accepted & ~starting), evaluations=state.evaluations + 1, tried=state.tried + 1,
        )  # fmt: skip
        # A lane that came with a small gradient has left the slopes of its start: it goes back to `x0` at once.
        converged = better & (error <= tolerance)
        over = _is_over(new) | ((state.evaluations == 0) & converged)
        new = take_where(optimization_barrier(over), _next_attempt(new), new)
        spent = (new.attempt >= _ATTEMPTS) | (new.evaluations >= sum(_MOST))
        status = jnp.where(spent, Status.STALLED, state.status)
        status = jnp.where(converged & (state.evaluations > 0), Status.CONVERGED, status)
        status = jnp.where(finite & is_unbounded(f), Status.UNBOUNDED, status).astype(jnp.int32)
        return take_where(state.status == Status.RUNNING, new._replace(status=status), state)

    def _aim(self, state: State) -> State:
        """The next trial's step, its length, and by how much it should reduce f."""
        h = state.h * outer(state.unit, state.unit)
        y, predicted = step_within(state.radius, state.unit * state.g, h)
        return state._replace(p=state.unit * y, length=norm(y), predicted=predicted)

    def progress(self, problem, state: State):
        """f and ‖∇f‖∞ at the current point."""
        return state.f, max_abs(state.g)


def units(x: Float[Array, "n *L"]) -> Float[Array, "n *L"]:
    """The unit of each unknown: its size at a start, for one at zero that of the largest, or 1 if all are zero."""
    return jnp.where(x != 0, jnp.abs(x), positive(max_abs(x)))


def step_within(
    radius: Float[Array, "*L"], g: Float[Array, "n *L"], h: Float[Array, "n n *L"]
) -> tuple[Float[Array, "n *L"], Float[Array, "*L"]]:
    """The minimizer of gᵀp + ½ pᵀH p over ‖p‖ ≤ radius, and by how much it is below zero.

    With H = V W Vᵀ it is p = −V (W + λ)⁻¹ Vᵀg for the least λ ≥ 0 that makes W + λ positive and p short enough. If that
    p ends inside the region although H is not positive definite, it goes on along the lowest eigenvector to the border.
    """
    w, v = eigh(h)
    c = rematvec(v, g)
    lowest = jnp.min(w, axis=0)
    above = w - lowest  # μ = λ + lowest keeps its digits where λ would lose them

    def at(mu):
        positive = above + mu > 0
        inverse = jnp.where(positive, 1 / jnp.where(positive, above + mu, 1), 0)
        z = -c * inverse
        return z, dot(z, z), dot(z, z * inverse)

    def newton(_, mu):
        """Newton's step for 1 / radius = 1 / ‖z(μ)‖, which from below never overshoots the solution."""
        _, square, slope = at(mu)
        length = jnp.sqrt(square)
        change = square / positive(slope) * (length - radius) / radius
        return mu + jnp.where((slope > 0) & (length > radius), change, 0)

    # With a smaller μ one entry of z alone would be longer than the radius, or λ negative.
    least = jnp.maximum(jnp.max(jnp.abs(c) / radius - above, axis=0), jnp.maximum(lowest, 0))
    z, square, _ = at(jax.lax.fori_loop(0, _SECULAR_STEPS, newton, least))
    is_lowest = jnp.arange(len(w)).reshape((-1,) + (1,) * (w.ndim - 1)) == jnp.argmin(w, axis=0)
    rest = jnp.sqrt(jnp.maximum(radius**2 - square, 0))
    z = z + jnp.where(is_lowest & (w < 0), jnp.where(z < 0, -rest, rest), 0)
    return matvec(v, z), -dot(c + w * z / 2, z)


def is_far(x: Float[Array, "n"], x0: Float[Array, "n"]):
    """Whether an unknown has gone far from its start, in its own units."""
    return jnp.any(jnp.abs(x - x0) > _FAR * units(x0))


def has_strayed(x: Float[Array, "n"], x0: Float[Array, "n"], f, g: Float[Array, "n"]):
    """Whether a small gradient at x means that the slopes of the start have been left, and not that x is a minimum.

    Either x is out of all proportion to the start, or an unknown has gone so far that f no longer depends on it.
    """
    eps = jnp.finfo(x.dtype).eps
    out = max_abs(x) > max_abs(units(x0)) / jnp.sqrt(eps)
    flat = jnp.abs(g * (x - x0)) < eps**1.5 * jnp.abs(f)
    return out | jnp.any(flat & (jnp.abs(x - x0) > _FAR * units(x0)))


def _rounding(f):
    """By how much f may seem to change because of rounding."""
    return jnp.finfo(f.dtype).eps ** _HIDDEN * jnp.where(jnp.isfinite(f), jnp.abs(f), 0)


def _is_hidden(state: State):
    """Whether f is expected to fall by less than rounding shows."""
    return state.predicted <= _rounding(state.f)


def _fit_radius(state: State, accepted, ratio) -> State:
    """Δ shrinks where the model was poor, and grows where it was good and the step ended at the border.

    Where rounding hides the reduction, it is not known how good the model was.
    """
    hidden = _is_hidden(state)
    poor = ~accepted | (~hidden & (ratio < _POOR))
    good = accepted & (hidden | (ratio > _GOOD)) & (state.length > 0.99 * state.radius)
    radius = jnp.where(poor, _SHRINK * state.length, jnp.where(good, _GROW * state.radius, state.radius))
    return state._replace(radius=radius)


def _is_over(state: State):
    """Whether the attempt has ended: nothing visible to gain, no step that changes x, or too many steps."""
    eps = jnp.finfo(state.f.dtype).eps
    still = max_abs(state.p / jnp.maximum(state.unit, jnp.abs(state.at_x))) <= eps**2
    lost = jnp.isposinf(state.f) | ~jnp.isfinite(max_abs(state.p))
    most = jnp.where(state.attempt == 0, *_MOST)
    return lost | still | (state.ending >= _LAST_STEPS) | (state.tried >= most)


def _next_attempt(state: State) -> State:
    """Start over from `x0`."""
    count = jnp.zeros_like(state.tried)
    return state._replace(
        at_x=state.x0, unit=units(state.x0), f=jnp.full_like(state.f, jnp.inf), p=jnp.zeros_like(state.p),
        radius=jnp.full_like(state.radius, _FIRST_RADIUS), attempt=state.attempt + 1, tried=count, ending=count,
    )  # fmt: skip
