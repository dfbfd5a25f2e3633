"""The root-finding iteration that both Broyden solvers share, as a method on lanes.

    p = −B F(x),   α ≈ argmin ‖F(x + α p)‖²,   s = α p,   y = F(x + s) − F(x),   B⁺ = update(B, s, y)

B approximates J⁻¹, and the update uses the step actually taken. One step is one evaluation of F, by default together
with its derivative along p, which gives the slope of φ(α) = ‖F(x + α p)‖². A lane that makes little progress waits for
B to be recomputed by autodiff; one that fails with the true Jacobian ends here, and the next method may take it on.

Sources: Broyden, Math. Comp. 19 (1965) 577; Nocedal and Wright, Numerical Optimization, 2nd ed., section 11.1.
"""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jax.lax import cond, optimization_barrier
from jaxtyping import Array, Bool, Float, Int

from jaxopt_lite.lanes.arithmetic import dot, max_abs, take_where
from jaxopt_lite.lanes.status import Status
from jaxopt_lite.solvers import line_search
from jaxopt_lite.solvers.line_search import Search

__all__ = ["Inverse", "Move", "Secant", "State"]

_ENOUGH = 1e-4  # a trial must reduce φ by this fraction of what a linear F promises
_STEEP = 0.5  # a trial at which φ still falls this steeply, relative to φ, is too short
_GOOD = 0.1  # unless it has already reduced φ to this fraction
_SLOW = 0.5  # a step that leaves more of φ than this makes little progress
_PATIENCE = 3  # after this many of them in a row, B is recomputed
_LONG = 10  # this many steps after B was recomputed, φ should have fallen to _GOOD of what it was then
_TRIALS, _TRIALS_FRESH = 6, 25  # before a search is given up, with an updated B and with a fresh one


class Move(NamedTuple):
    """A step s = α p from where the residual was `f`. Where it is not `usable` it must leave B as it is."""

    alpha: Float[Array, "*L"]
    p: Float[Array, "n *L"]
    f: Float[Array, "n *L"]
    usable: Bool[Array, "*L"]


class Inverse(Protocol):
    """An approximation B of J⁻¹ on lanes."""

    def multiple(self, scale: Float[Array, "*L"], x: Float[Array, "n *L"]) -> Any:
        """B = β I with β the scale, for vectors like x."""
        ...

    def update(self, b: Any, move: Move, f: Float[Array, "n *L"]) -> tuple[Any, Array]:
        """B⁺ where the move is usable and B elsewhere, and the direction −B⁺ f, with f the residual after it."""
        ...

    def refresh(self, problem, x: Float[Array, "n *L"], b: Any) -> tuple[Array, Any, Array]:
        """The residual f at x, B recomputed there, and the direction −B f."""
        ...


class State(NamedTuple):
    """What a lane carries; `f`, φ and the direction `p` belong to the current point `x`, the best one seen.

    φ is in the lane's own `unit`, that of the first residual, so that squares neither overflow nor underflow. `slow`
    counts steps of little progress in a row, `age` the steps since B was set, and `fresh_phi` is what φ was when B was
    last the true inverse.
    """

    x: Float[Array, "n *L"]
    unit: Float[Array, "*L"]
    f: Float[Array, "n *L"]
    phi: Float[Array, "*L"]
    p: Float[Array, "n *L"]
    search: Search
    b: Any
    slow: Int[Array, "*L"]
    age: Int[Array, "*L"]
    fresh_phi: Float[Array, "*L"]
    steps: Int[Array, "*L"]
    evaluations: Int[Array, "*L"]
    first_error: Float[Array, "*L"]
    status: Int[Array, "*L"]


class Secant(NamedTuple):
    """The method: `init`, `begin` and `step` on lanes, for the engine."""

    inverse: Inverse
    from_autodiff: bool
    refresh: bool
    slopes: bool = True

    symmetric = ()
    prepares = True

    @property
    def loose(self) -> tuple[str, ...]:
        """Only a running lane needs its search: any other has ended, or waits for a new Jacobian."""
        return ("search",)

    def init(self, x) -> State:
        """Before the first evaluation."""
        row, zero = jnp.zeros(x.shape[1:], x.dtype), jnp.zeros_like(x)
        count = jnp.zeros(x.shape[1:], jnp.int32)
        return State(
            x=x, unit=row, f=zero, phi=row, p=zero, search=line_search.start(row, row, row),
            b=self.inverse.multiple(row, x), slow=count, age=count, fresh_phi=row, steps=count, evaluations=count,
            first_error=row, status=count + Status.WAITING,
        )  # fmt: skip

    def begin(self, problem, limits, state: State) -> State:
        """Start from x with a new B: at first, and where progress has been slow."""
        first = state.evaluations == 0
        f, b, p = self._directions(problem, state, first)
        error = max_abs(f)
        unit = jnp.where(first, _one_over(error), state.unit)
        first_error = jnp.where(first, error, state.first_error)
        phi = dot(unit * f, unit * f)
        f, phi, unit = optimization_barrier((f, phi, unit))
        finite = jnp.isfinite(phi) & jnp.isfinite(max_abs(state.x))
        is_fresh = ~first | self.from_autodiff
        status = jnp.where(jnp.isfinite(max_abs(p)), Status.RUNNING, Status.NO_ROOT)
        status = jnp.where(error <= limits.atol + limits.rtol * first_error, Status.CONVERGED, status)
        return state._replace(
            unit=unit, f=f, phi=phi, p=p, b=b, search=line_search.start(jnp.ones_like(phi), phi, -2 * phi),
            slow=jnp.zeros_like(state.slow), age=jnp.zeros_like(state.age),
            fresh_phi=jnp.where(is_fresh, phi, jnp.inf),
            evaluations=state.evaluations + 1, first_error=first_error,
            status=jnp.where(finite, status, Status.NONFINITE_START).astype(jnp.int32),
        )  # fmt: skip

    def _directions(self, problem, state: State, first):
        """F, B and p = −B F, with B from the true Jacobian, or at first ±I if that was asked for."""

        def refresh():
            return self.inverse.refresh(problem, state.x, state.b)

        if self.from_autodiff:
            return refresh()
        f = optimization_barrier(problem.value(state.x))
        # F and −F are the same equations, but from J = I only one of them is solved.
        _, jf = problem.value_and_slope(state.x, f)
        sign = optimization_barrier(jnp.where(dot(f, jf) < 0, -1, 1).astype(f.dtype))
        plain = self.inverse.multiple(sign, f), -sign * f
        if not self.refresh:
            return f, *plain
        wanted = (state.status == Status.WAITING) & ~first
        b, p = take_where(first, plain, cond(jnp.any(wanted), lambda: refresh()[1:], lambda: plain))
        return f, b, p

    def step(self, problem, limits, state: State) -> State:
        """Evaluate the trial point; accept it and turn, or narrow the search, or ask for a new Jacobian."""
        running = state.status == Status.RUNNING
        alpha, unit = state.search.trial, state.unit
        x = optimization_barrier(state.x + alpha * state.p)
        f, jp = problem.value_and_slope(x, state.p) if self.slopes else (problem.value(x), None)
        f, error = optimization_barrier((f, max_abs(f)))
        phi = dot(unit * f, unit * f)
        slope = jnp.full_like(phi, jnp.nan) if jp is None else 2 * dot(unit * f, unit * jp)
        phi, slope = optimization_barrier((phi, slope))
        finite = jnp.isfinite(phi)
        converged = finite & (error <= limits.atol + limits.rtol * state.first_error)
        # Strictly below φ: for a short step the factor rounds to 1, and a step of no effect would count as progress.
        low = finite & (phi < state.phi) & (phi <= state.phi * (1 - _ENOUGH * jnp.minimum(alpha, 1)))
        long = (slope >= -_STEEP * state.phi) | (phi <= _GOOD * state.phi) | ~jnp.isfinite(slope)
        accepted = running & ((low & long) | converged)
        rejected = running & ~accepted
        accepted, rejected, low, converged = optimization_barrier((accepted, rejected, low, converged))

        b, p = self.inverse.update(state.b, Move(alpha, state.p, state.f, accepted), f)
        p, size = optimization_barrier((p, max_abs(p)))
        searching = self._narrow(state, rejected, low, phi, slope)
        slow = jnp.where(phi > _SLOW * state.phi, state.slow + 1, 0)
        little = phi > _GOOD * state.fresh_phi
        lost = ~jnp.isfinite(size)
        stuck = lost | (((slow >= _PATIENCE) | (little & (state.age >= _LONG))) & self.refresh)
        # Fresh Jacobians that gain so little will not lead there: leave the lane to the next method.
        status = jnp.where(stuck, jnp.where(little | (not self.refresh), Status.NO_ROOT, Status.WAITING), state.status)
        status = jnp.where(converged, Status.CONVERGED, status).astype(jnp.int32)
        turned = searching._replace(
            x=x, f=f, phi=phi, p=p, search=line_search.start(jnp.ones_like(phi), phi, -2 * phi), slow=slow,
            age=state.age + 1, steps=state.steps + accepted, status=status, b=(),
        )  # fmt: skip
        new = take_where(accepted, turned, searching._replace(b=()))
        return new._replace(evaluations=state.evaluations + running, b=b)

    def _narrow(self, state: State, rejected, low, phi, slope) -> State:
        """Where the trial was rejected, choose the next; if that leads nowhere have B recomputed, or end here."""
        search = line_search.tighten(state.search, low, phi, slope)
        hopeless = (state.age <= 1) | (not self.refresh)
        exhausted = rejected & (search.trials >= jnp.where(hopeless, _TRIALS_FRESH, _TRIALS))
        failed = jnp.where(hopeless, Status.NO_ROOT, Status.WAITING)
        # Idle lanes are still evaluated, at the same point: elsewhere a loop in the user's function might never end.
        search = search._replace(trial=jnp.where(rejected, search.trial, state.search.trial))
        return state._replace(search=search, status=jnp.where(exhausted, failed, state.status).astype(jnp.int32))

    def progress(self, problem, state: State):
        """½‖F‖² and ‖F‖∞ at the current point."""
        return dot(state.f, state.f) / 2, max_abs(state.f)


def _one_over(error):
    """1 / error, or 1 if the error is zero or not finite."""
    usable = (error > 0) & jnp.isfinite(error)
    return jnp.where(usable, 1 / jnp.where(usable, error, 1), 1)
