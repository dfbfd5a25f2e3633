"""The quasi-Newton iteration that BFGS and L-BFGS share, as a method on lanes.

    p = −H ∇f(x),   x⁺ = x + α p,   s = x⁺ − x,   y = ∇f(x⁺) − ∇f(x),   H⁺ = update(H, s, y)

α comes from the flattened line search, so one step is one evaluation. How H, the inverse Hessian, is kept is the one
thing in which the two solvers differ: a `Memory`. Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 6.1.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_lite.lanes.arithmetic import dot, max_abs, take_where
from jaxopt_lite.lanes.status import Status
from jaxopt_lite.solvers import line_search
from jaxopt_lite.solvers.line_search import Search

__all__ = ["Memory", "QuasiNewton", "State", "Step"]

_START, _SEARCH, _LAST = 0, 1, 2


class Step(NamedTuple):
    """A step taken, `s`, the change of the gradient, `y`, and where they may be used to update H."""

    s: Float[Array, "n *L"]
    y: Float[Array, "n *L"]
    usable: Bool[Array, "*L"]
    first: Bool[Array, "*L"]


class Memory(Protocol):
    """An inverse Hessian approximation on lanes."""

    def identity(self, x: Float[Array, "n *L"]) -> Any:
        """H = I."""
        ...

    def update(self, h: Any, step: Step, g: Float[Array, "n *L"], p: Float[Array, "n *L"]) -> tuple[Any, Array]:
        """H⁺ where the step is usable and H elsewhere, and the direction −H⁺ g. `p` is the last one, −H(g − y)."""
        ...


class State(NamedTuple):
    """What a lane carries. `f`, `g` and the direction `p` belong to the current point `x`.

    `f` and `g` are in the lane's own `unit`, which is not 1 only where the squares of g would overflow.
    """

    x: Float[Array, "n *L"]
    unit: Float[Array, "*L"]
    f: Float[Array, "*L"]
    g: Float[Array, "n *L"]
    p: Float[Array, "n *L"]
    slope: Float[Array, "*L"]
    search: Search
    h: Any
    phase: Int[Array, "*L"]
    is_steepest: Bool[Array, "*L"]
    steps: Int[Array, "*L"]
    evaluations: Int[Array, "*L"]
    first_error: Float[Array, "*L"]
    status: Int[Array, "*L"]


class QuasiNewton(NamedTuple):
    """The method: `init`, `step` and `service` on lanes, for the engine."""

    memory: Memory

    def init(self, x) -> State:
        """Before the first evaluation: the first trial is `x` itself."""
        row, zero = jnp.zeros(x.shape[1:], x.dtype), jnp.zeros_like(x)
        count = jnp.zeros(x.shape[1:], jnp.int32)
        return State(
            x, row + 1, row, zero, zero, row, line_search.start(row, row, row), self.memory.identity(x), count + _START,
            count == 0, count, count, row, count + Status.RUNNING,
        )  # fmt: skip

    def step(self, problem, limits, state: State) -> State:
        """Evaluate the trial point; accept it and turn, or narrow the search."""
        running = state.status == Status.RUNNING
        alpha = state.search.trial
        x = jax.lax.optimization_barrier(state.x + alpha * state.p)
        starting = state.phase == _START
        f, g = problem.value_and_grad(x)
        unit = jnp.where(starting, _unit(max_abs(g)), state.unit)
        f, g = unit * f, unit * g
        f, g, slope, error, noise = jax.lax.optimization_barrier((f, g, dot(g, state.p), max_abs(g), _noise(state)))
        finite = jnp.isfinite(f) & jnp.isfinite(error)
        low, long = line_search.accepts(alpha, state.f, state.slope, noise, f, slope)
        accepted = running & finite & (starting | (state.phase == _LAST) | (low & long))
        accepted, low = jax.lax.optimization_barrier((accepted, finite & low))

        turned = self._turn(state, accepted, x, f, g)
        searching = _narrow(state, low, f, slope, noise)
        new = take_where(accepted, turned, searching._replace(h=turned.h))._replace(h=())
        error = error / unit
        first_error = jnp.where(starting, error, state.first_error)
        new = new._replace(evaluations=state.evaluations + 1, first_error=first_error, unit=unit)
        converged = accepted & (error <= limits.atol + limits.rtol * first_error)
        new = new._replace(status=_verdict(new, limits, accepted, converged, starting & ~finite, f))
        # The best point of a lane that falls without end is the last one.
        fallen = (new.status == Status.UNBOUNDED) & finite
        new = new._replace(x=jnp.where(fallen, x, new.x), f=jnp.where(fallen, f, new.f), g=jnp.where(fallen, g, new.g))
        return take_where(running, new, state._replace(h=()))._replace(h=turned.h)

    def _turn(self, state: State, accepted, x, f, g) -> State:
        """Move to the trial point, update H and set out in the new direction."""
        starting = state.phase == _START
        g_safe = jnp.where(accepted, g, 0)
        moved = accepted & ~starting
        s, y = jnp.where(moved, x - state.x, 0), jnp.where(moved, g - state.g, 0)
        # Curvature relative to the sizes of s and y: an absolute gate would freeze H on small-scale problems.
        usable = moved & (dot(s, y) > jnp.finfo(x.dtype).eps * jnp.sqrt(dot(s, s) * dot(y, y)))
        s, y, usable = jax.lax.optimization_barrier((s, y, usable))
        step = Step(s, y, usable, first=state.is_steepest)
        h, p = self.memory.update(state.h, step, g_safe, state.p)
        is_steepest = state.is_steepest & ~usable
        p, slope = jax.lax.optimization_barrier((p, dot(p, g_safe)))
        trial = jnp.where(is_steepest, _first_trial(g_safe), 1)
        # A direction that is not one of descent: H has broken down, start it anew.
        lost = accepted & ~((slope < 0) & jnp.isfinite(slope))
        return state._replace(
            x=x, f=f, g=g, p=p, slope=slope, h=h, search=line_search.start(trial, f, slope),
            phase=jnp.full_like(state.phase, _SEARCH), is_steepest=is_steepest,
            steps=state.steps + moved, status=jnp.where(lost, _restart_or(state, Status.STALLED), state.status),
        )  # fmt: skip

    def service(self, problem, limits, state: State) -> State:
        """Start H anew: H = I, the direction of steepest descent."""
        slope = -dot(state.g, state.g)
        return state._replace(
            p=-state.g, slope=slope, h=self.memory.identity(state.x), is_steepest=jnp.ones_like(state.is_steepest),
            search=line_search.start(_first_trial(state.g), state.f, slope),
            phase=jnp.full_like(state.phase, _SEARCH), status=jnp.full_like(state.status, Status.RUNNING),
        )  # fmt: skip

    def progress(self, state: State):
        """f and ‖∇f‖∞ at the current point."""
        return state.f / state.unit, max_abs(state.g) / state.unit


def _unit(error):
    """1, or 1 / error for a first gradient so large that its squares might overflow."""
    huge = jnp.isfinite(error) & (error > 1 / jnp.finfo(error.dtype).eps ** 2)
    return jnp.where(huge, 1 / jnp.where(huge, error, 1), 1)


def _first_trial(g):
    """Along the gradient itself the scale is unknown: at most a unit step."""
    return 1 / jnp.maximum(1, jnp.sqrt(dot(g, g)))


def _noise(state: State):
    """The size of the rounding errors in f: of f itself, and of the rounding of x."""
    eps = jnp.finfo(state.f.dtype).eps
    return 4 * eps * (jnp.abs(state.f) + dot(jnp.abs(state.g), jnp.abs(state.x)))


def _restart_or(state: State, failure: Status):
    """A lane that cannot go on asks for H to be started anew, once: with the gradient itself it has failed."""
    return jnp.where(state.is_steepest, failure, Status.WAITING)


def _narrow(state: State, low, f, slope, noise) -> State:
    """The trial was rejected. Choose the next, or settle for the best of the bracket when it cannot shrink."""
    search = line_search.tighten(state.search, low, f, slope)
    invisible = (search.high.step - search.low.step) * -state.slope <= 1e-3 * noise
    exhausted = invisible | (search.trials >= line_search.MAX_TRIALS)
    endless = exhausted & ~jnp.isfinite(search.high.step)
    settle = exhausted & (search.low.step > 0) & ~endless
    lost = exhausted & ~settle & ~endless
    status = jnp.where(lost, _restart_or(state, Status.STALLED), state.status)
    return state._replace(
        search=search._replace(trial=jnp.where(settle, search.low.step, search.trial)),
        phase=jnp.where(settle, _LAST, state.phase),
        status=jnp.where(endless, Status.UNBOUNDED, status),
    )


def _verdict(new: State, limits, accepted, converged, dead, f):
    """The status of each lane after this step."""
    out = accepted & (new.steps >= limits.max_steps) & (new.status == Status.RUNNING)
    status = jnp.where(out, Status.MAX_STEPS, new.status)
    bottomless = f < -1 / jnp.finfo(f.dtype).eps ** 2  # far below anything this arithmetic can compare
    status = jnp.where(bottomless, Status.UNBOUNDED, status)
    status = jnp.where(dead, Status.NONFINITE_START, status)
    return jnp.where(converged, Status.CONVERGED, status).astype(jnp.int32)
