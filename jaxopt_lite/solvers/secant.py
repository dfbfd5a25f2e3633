"""The root-finding iteration that both Broyden solvers share, as a method on lanes.

    p = −B F(x),   α ≈ argmin ‖F(x + α p)‖²,   s = α p,   y = F(x + s) − F(x),   B⁺ = update(B, s, y)

B approximates J⁻¹, and the update uses the step actually taken. One step is one evaluation of F together with its
derivative along p, which gives the slope of φ(α) = ‖F(x + α p)‖². A lane that makes little progress waits for B to be
computed anew by autodiff; one that fails with the true Jacobian ends here, and the next method may take it on.

Sources: Broyden, Math. Comp. 19 (1965) 577; Nocedal and Wright, Numerical Optimization, 2nd ed., section 11.1.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_lite.lanes.arithmetic import dot, max_abs, take_where
from jaxopt_lite.lanes.status import Status
from jaxopt_lite.solvers import line_search
from jaxopt_lite.solvers.line_search import Search

__all__ = ["Inverse", "Secant", "State", "Step"]

_ENOUGH = 1e-4  # a trial must reduce φ by this fraction of what a linear F promises
_STEEP = 0.5  # a trial at which φ still falls this steeply, relative to φ, is too short
_GOOD = 0.1  # unless it has already reduced φ to this fraction
_SLOW = 0.5  # a step that leaves more of φ than this makes little progress
_PATIENCE = 3  # so many of them in a row, and B is computed anew
_LONG = 10  # so many steps with a fresh B should have brought φ down to _GOOD
_TRIALS, _TRIALS_FRESH = 6, 25  # before a search is given up, with an updated B and with a fresh one


class Step(NamedTuple):
    """A step taken, `s`, the change of F, `y`, the direction before it, `p`, and where they may update B."""

    s: Float[Array, "n *L"]
    y: Float[Array, "n *L"]
    p: Float[Array, "n *L"]
    usable: Bool[Array, "*L"]


class Inverse(Protocol):
    """An approximation B of J⁻¹ on lanes."""

    def identity(self, x: Float[Array, "n *L"]) -> Any:
        """B = I."""
        ...

    def update(self, b: Any, step: "Step", f: Float[Array, "n *L"]) -> tuple[Any, Array]:
        """B⁺ where the step is usable, B elsewhere, and the direction −B⁺ f."""
        ...

    def refresh(self, problem, state: "State") -> tuple[Any, Array]:
        """B anew at the state's point, and the direction −B f."""
        ...


class State(NamedTuple):
    """What a lane carries; `f`, φ and the direction `p` belong to the current point `x`, the best one seen."""

    x: Float[Array, "n *L"]
    f: Float[Array, "n *L"]
    phi: Float[Array, "*L"]
    unit: Float[Array, "*L"]
    p: Float[Array, "n *L"]
    search: Search
    b: Any
    starting: Bool[Array, "*L"]
    slow: Int[Array, "*L"]
    age: Int[Array, "*L"]
    fresh_phi: Float[Array, "*L"]
    steps: Int[Array, "*L"]
    evaluations: Int[Array, "*L"]
    first_error: Float[Array, "*L"]
    status: Int[Array, "*L"]


class Secant(NamedTuple):
    """The method: `init`, `step` and `service` on lanes, for the engine."""

    inverse: Inverse
    from_autodiff: bool
    refresh: bool

    def init(self, x) -> State:
        """Before the first evaluation: the first trial is `x` itself."""
        row, zero = jnp.zeros(x.shape[1:], x.dtype), jnp.zeros_like(x)
        count = jnp.zeros(x.shape[1:], jnp.int32)
        return State(
            x=x, f=zero, phi=row, unit=row + 1, p=zero, search=line_search.start(row, row, row),
            b=self.inverse.identity(x), starting=count == 0, slow=count, age=count, fresh_phi=row + jnp.inf,
            steps=count, evaluations=count, first_error=row, status=count + Status.RUNNING,
        )  # fmt: skip

    def step(self, problem, limits, state: State) -> State:
        """Evaluate the trial point; accept it and turn, or narrow the search, or ask for a new Jacobian."""
        running, starting = state.status == Status.RUNNING, state.starting
        x = jax.lax.optimization_barrier(state.x + state.search.trial * state.p)
        f, jp = problem.value_and_slope(x, state.p)
        error = max_abs(f)
        first_error = jnp.where(starting, error, state.first_error)
        # φ is measured in units of the first residual, so that squares neither overflow nor underflow.
        unit = jnp.where(starting, _one_over(error), state.unit)
        phi, slope = dot(unit * f, unit * f), 2 * dot(unit * f, unit * jp)
        f, phi, slope, error, unit = jax.lax.optimization_barrier((f, phi, slope, error, unit))
        finite = jnp.isfinite(phi)
        converged = finite & (error <= limits.atol + limits.rtol * first_error)
        low = finite & (phi <= state.phi * (1 - _ENOUGH * jnp.minimum(state.search.trial, 1)))
        long = (slope >= -_STEEP * state.phi) | (phi <= _GOOD * state.phi) | ~jnp.isfinite(slope)
        accepted = running & finite & (starting | (low & long) | converged)
        accepted, low = jax.lax.optimization_barrier((accepted, low))

        turned = self._turn(state, accepted, x, f, phi)
        narrowed = self._narrow(state, low, phi, slope)
        new = take_where(accepted, turned, narrowed._replace(b=turned.b))._replace(b=())
        new = new._replace(evaluations=state.evaluations + 1, first_error=first_error, unit=unit)
        status = jnp.where(accepted & (new.steps >= limits.max_steps), Status.MAX_STEPS, new.status)
        status = jnp.where(starting & ~finite, Status.NONFINITE_START, status)
        new = new._replace(status=jnp.where(converged, Status.CONVERGED, status).astype(jnp.int32))
        return take_where(running, new, state._replace(b=()))._replace(b=turned.b)

    def _turn(self, state: State, accepted, x, f, phi) -> State:
        """Move to the trial point, update B and set out in the new direction."""
        moved = accepted & ~state.starting
        s, y = jnp.where(moved, x - state.x, 0), jnp.where(moved, f - state.f, 0)
        b, p = self.inverse.update(state.b, Step(s, y, state.p, moved), jnp.where(accepted, f, 0))
        slow = jnp.where(moved & (phi > _SLOW * state.phi), state.slow + 1, 0)
        little = phi > _GOOD * state.fresh_phi
        stuck = (slow >= _PATIENCE) | (little & (state.age >= _LONG)) | ~jnp.isfinite(max_abs(p))
        wants = jnp.where(state.starting, self.from_autodiff, stuck & self.refresh)
        # Fresh Jacobians that gain so little will not lead there: leave the lane to the next method.
        crawling = wants & little
        return state._replace(
            x=x, f=f, phi=phi, p=p, b=b, search=line_search.start(jnp.ones_like(phi), phi, -2 * phi),
            starting=jnp.zeros_like(state.starting), slow=jnp.where(wants, 0, slow), age=state.age + 1,
            steps=state.steps + moved,
            status=jnp.where(crawling, Status.NO_ROOT, jnp.where(wants, Status.WAITING, state.status)),
        )  # fmt: skip

    def _narrow(self, state: State, low, phi, slope) -> State:
        """The trial was rejected. Choose the next; when that leads nowhere compute B anew, or end here."""
        search = line_search.tighten(state.search, low, phi, slope)
        fresh = state.age <= 1
        exhausted = search.trials >= jnp.where(fresh | (not self.refresh), _TRIALS_FRESH, _TRIALS)
        failed = jnp.where(fresh | (not self.refresh), Status.NO_ROOT, Status.WAITING)
        return state._replace(search=search, status=jnp.where(exhausted, failed, state.status))

    def service(self, problem, limits, state: State) -> State:
        """Compute B anew by autodiff and set out along −B f."""
        b, p = self.inverse.refresh(problem, state)
        usable = jnp.isfinite(max_abs(p))
        return state._replace(
            b=b, p=p, search=line_search.start(jnp.ones_like(state.phi), state.phi, -2 * state.phi),
            age=jnp.zeros_like(state.age), fresh_phi=state.phi, slow=jnp.zeros_like(state.slow),
            status=jnp.where(usable, Status.RUNNING, Status.NO_ROOT).astype(jnp.int32),
        )  # fmt: skip

    def progress(self, state: State):
        """½‖F‖² and ‖F‖∞ at the current point."""
        return dot(state.f, state.f) / 2, max_abs(state.f)


def _one_over(error):
    """1 / error, or 1 where that is not a number to measure with."""
    usable = (error > 0) & jnp.isfinite(error)
    return jnp.where(usable, 1 / jnp.where(usable, error, 1), 1)
