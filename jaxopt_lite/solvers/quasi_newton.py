"""The quasi-Newton iteration that BFGS and L-BFGS share, as a method on lanes.

    p = −H ∇f(x),   x⁺ = x + α p,   s = α p,   y = ∇f(x⁺) − ∇f(x),   H⁺ = update(H, s, y)

α comes from the flattened line search, so one step is one evaluation. The two solvers differ only in how they keep H,
the inverse Hessian: in a `Memory`. Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 6.1.

With bounds, the unknowns A that one holds are left out of the model of f, and the others, F, take Newton's step in what
is left, while H stays that of all unknowns: p_A = 0, and p_F = −(H⁻¹)_FF⁻¹ ∇f_F. Unknowns that it takes across a bound
go as far as their bound. α is at most the step at which the next unknown reaches its bound; that one need not be long
enough for the line search.

Sources for bounds: Bertsekas, SIAM J. Control Optim. 20 (1982) 221; Byrd, Lu, Nocedal and Zhu, SIAM J. Sci. Comput. 16
(1995) 1190, for a model of all unknowns that is minimized among some; Nocedal and Wright, section 16.7.
"""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jax.lax import optimization_barrier
from jaxtyping import Array, Bool, Float, Int

from jaxopt_lite.lanes.arithmetic import dot, max_abs, norm, take_where
from jaxopt_lite.lanes.problem import Box
from jaxopt_lite.lanes.status import Status
from jaxopt_lite.solvers import line_search
from jaxopt_lite.solvers.line_search import Search

__all__ = ["Memory", "Move", "QuasiNewton", "State", "is_unbounded"]


_PATIENCE = 60  # after this many evaluations without a visible fall of f, rounding hides what there is to gain
_ENDLESS = -1  # marks a lane whose search met no upper end; `begin` then tests whether x has diverged


class Move(NamedTuple):
    """A step s = α p and the slopes pᵀ∇f before and after it; `first` where H is still the identity.

    Where the move is not `usable` (a rejected trial, no curvature) it must leave H as it is.
    """

    alpha: Float[Array, "*L"]
    p: Float[Array, "n *L"]
    g: Float[Array, "n *L"]
    slope: Float[Array, "*L"]
    slope_after: Float[Array, "*L"]
    usable: Bool[Array, "*L"]
    first: Bool[Array, "*L"]


class Memory(Protocol):
    """An inverse Hessian approximation on lanes."""

    @property
    def is_symmetric(self) -> bool:
        """Whether it is held as a symmetric matrix."""
        ...

    def identity(self, x: Float[Array, "n *L"]) -> Any:
        """H = I."""
        ...

    def update(self, h: Any, move: Move, g: Float[Array, "n *L"]) -> tuple[Any, Array]:
        """H⁺ where the move is usable and H elsewhere, and the direction −H⁺ g, with g the gradient after it."""
        ...

    def learn(self, h: Any, move: Move, g: Float[Array, "n *L"]) -> Any:
        """H⁺ where the move is usable, and H elsewhere; the direction of the move need not be −H times the gradient."""
        ...

    def newton(self, h: Any, g: Float[Array, "n *L"], held: Bool[Array, "n *L"], moved: Float[Array, "n *L"]) -> Array:
        """The p that minimizes gᵀp + ½ pᵀ H⁻¹ p, in which the unknowns that are `held` move by `moved`."""
        ...


class State(NamedTuple):
    """What a lane carries. `f`, `g` and the direction `p` belong to the current point `x`.

    `f` and `g` are in the lane's own `unit`, which is 1 unless the squares of g would overflow. A search is `settling`
    when its next trial is accepted whatever it shows. `lowest` is the least f since H was last restarted, and `idle`
    counts the evaluations since f last fell visibly below it.
    """

    x: Float[Array, "n *L"]
    unit: Float[Array, "*L"]
    f: Float[Array, "*L"]
    g: Float[Array, "n *L"]
    p: Float[Array, "n *L"]
    slope: Float[Array, "*L"]
    search: Search
    h: Any
    settling: Bool[Array, "*L"]
    is_steepest: Bool[Array, "*L"]
    lowest: Float[Array, "*L"]
    idle: Int[Array, "*L"]
    steps: Int[Array, "*L"]
    evaluations: Int[Array, "*L"]
    first_error: Float[Array, "*L"]
    status: Int[Array, "*L"]


class QuasiNewton(NamedTuple):
    """The method: `init`, `begin` and `step` on lanes, for the engine."""

    memory: Memory

    prepares = True

    @property
    def loose(self) -> tuple[str, ...]:
        """Only a running lane needs its search: any other has ended, or waits to restart."""
        return "search", "settling"

    @property
    def symmetric(self) -> tuple[str, ...]:
        """H, where it is a symmetric matrix."""
        return ("h",) if self.memory.is_symmetric else ()

    def init(self, x) -> State:
        """Before the first evaluation."""
        row, zero = jnp.zeros(x.shape[1:], x.dtype), jnp.zeros_like(x)
        count = jnp.zeros(x.shape[1:], jnp.int32)
        return State(
            x=x, unit=row, f=row, g=zero, p=zero, slope=row, search=line_search.start(row, row, row),
            h=self.memory.identity(x), settling=count != 0, is_steepest=count == 0, lowest=row, idle=count,
            steps=count, evaluations=count, first_error=row, status=count + Status.WAITING,
        )  # fmt: skip

    def begin(self, problem, limits, state: State) -> State:
        """Start along the gradient with H = I: at first, and where H has broken down."""
        box = problem.box
        f, g = problem.value_and_grad(state.x)
        free = g if box is None else box.slope(state.x, g)
        error = max_abs(free)
        first, unit = state.evaluations == 0, _unit(error)
        first_error = jnp.where(first, error, state.first_error)
        f, g = optimization_barrier((unit * f, unit * g))
        p = None if box is None else _first_direction(box, state.x, g)
        slope = -dot(g, g) if p is None else dot(p, g)
        # Along the gradient itself the scale is unknown.
        trial = 1 / jnp.maximum(1, jnp.sqrt(-slope)) if p is None else jnp.ones_like(f)
        size = max_abs(state.x)
        finite = jnp.isfinite(f) & jnp.isfinite(error) & jnp.isfinite(size)
        far = (state.idle == _ENDLESS) & (size > 1 / jnp.finfo(f.dtype).eps)
        status = jnp.where(error <= limits.atol + limits.rtol * first_error, Status.CONVERGED, Status.RUNNING)
        status = jnp.where(is_unbounded(f) | far, Status.UNBOUNDED, status)
        return state._replace(
            unit=unit, f=f, g=g, p=-g if p is None else p, slope=slope, search=line_search.start(trial, f, slope),
            h=self.memory.identity(state.x), settling=jnp.zeros_like(state.settling),
            is_steepest=jnp.ones_like(state.is_steepest), lowest=f, idle=jnp.maximum(state.idle, 0),
            evaluations=state.evaluations + 1, first_error=first_error,
            status=jnp.where(finite, status, Status.NONFINITE_START).astype(jnp.int32),
        )  # fmt: skip

    def step(self, problem, limits, state: State) -> State:
        """Evaluate the trial point; accept it and turn, or narrow the search."""
        running = state.status == Status.RUNNING
        box, alpha = problem.box, state.search.trial
        x = optimization_barrier(state.x + alpha * state.p if box is None else box.along(state.x, state.p, alpha))
        f, g = problem.value_and_grad(x)
        f, g = optimization_barrier((state.unit * f, state.unit * g))
        free = g if box is None else box.slope(x, g)
        slope, error = optimization_barrier((dot(g, state.p), max_abs(free)))
        finite = jnp.isfinite(f) & jnp.isfinite(error)
        low, long = line_search.accepts(alpha, state.f, state.slope, f, slope)
        most = None if box is None else box.most(state.x, state.p)
        long = long if most is None else long | (alpha >= most)
        bottomless, endless = is_unbounded(f), low & line_search.is_endless(state.search)
        accepted = running & finite & (state.settling | (low & long) | bottomless | endless)
        rejected = running & ~accepted
        accepted, rejected, low, endless = optimization_barrier((accepted, rejected, finite & low, endless))

        usable = accepted & (slope - state.slope > jnp.finfo(f.dtype).eps * -state.slope)
        move = Move(alpha, state.p, state.g, state.slope, slope, usable, state.is_steepest)
        h, p = self.memory.update(state.h, move, g) if box is None else self._update_within(box, state.h, move, x, g)
        p, slope_ahead = optimization_barrier((p, dot(p, g)))
        searching = self._narrow(state, rejected, low, f, slope, most)
        lost = ~((slope_ahead < 0) & jnp.isfinite(slope_ahead))  # not a direction of descent: H has broken down
        is_steepest = state.is_steepest & ~usable
        lower = f < state.lowest - jnp.finfo(f.dtype).eps * jnp.abs(f)
        status = jnp.where(lost, _restart_or(is_steepest, Status.STALLED), Status.RUNNING)
        # H no longer fits: the first gradient was huge, or the search went very far.
        outgrown = (state.unit < 1) & (error < jnp.finfo(f.dtype).eps)
        status = jnp.where(outgrown | endless, Status.WAITING, status)
        status = jnp.where(bottomless, Status.UNBOUNDED, status)
        tolerance = state.unit * (limits.atol + limits.rtol * state.first_error)
        status = jnp.where(error <= tolerance, Status.CONVERGED, status).astype(jnp.int32)
        turned = searching._replace(
            x=x, f=f, g=g, p=p, slope=slope_ahead, search=line_search.start(jnp.ones_like(f), f, slope_ahead),
            settling=jnp.zeros_like(state.settling), is_steepest=is_steepest,
            lowest=jnp.where(lower, f, state.lowest), steps=state.steps + accepted, status=status, h=(),
        )  # fmt: skip
        new = take_where(accepted, turned, searching._replace(h=()))
        idle = jnp.where(accepted & lower, jnp.where(endless, _ENDLESS, 0), state.idle + running)
        at_rest = (new.status == Status.RUNNING) & (idle >= _PATIENCE)
        status = jnp.where(at_rest, Status.STALLED, new.status).astype(jnp.int32)
        return new._replace(evaluations=state.evaluations + running, idle=idle, status=status, h=h)

    def _update_within(self, box: Box, h: Any, move: Move, x, g):
        """H⁺, and a direction from x whose full step stays in the box.

        Unknowns that Newton's step takes across a bound go as far as their bound, and the others take the best step
        given that. If this does not descend, all move along Newton's step until the first reaches its bound.
        """
        h = self.memory.learn(h, move, g)
        free, held = box.slope(x, g), box.holds(x, g)
        p = self.memory.newton(h, free, held, jnp.zeros_like(x))
        reached = box.nearest(x + p) - x
        crosses = ~held & (reached != p)
        bent = self.memory.newton(h, free, held | crosses, jnp.where(crosses, reached, 0))
        bent = box.nearest(x + bent) - x
        inward = jnp.where(crosses & (reached == 0), 0, p)  # what leads out of a bound at once stays
        together = jnp.minimum(box.most(x, inward), 1) * inward
        p = jnp.where(dot(bent, g) < 0, bent, together)
        return h, jnp.where(move.first & ~move.usable, _first_direction(box, x, g), p)

    def _narrow(self, state: State, rejected, low, f, slope, most) -> State:
        """Where the trial was rejected, choose the next, or settle for the best of the bracket if it cannot shrink."""
        search = line_search.tighten(state.search, low, f, slope)
        search = search if most is None else search._replace(trial=jnp.minimum(search.trial, most))
        exhausted = line_search.is_exhausted(search, state.f, state.slope)
        settle = exhausted & (search.low.step > 0)
        lost = exhausted & ~settle
        trial = jnp.where(settle, search.low.step, search.trial)
        # Idle lanes are still evaluated, at the same point: elsewhere a loop in the user's function might never end.
        search = search._replace(trial=jnp.where(rejected, trial, state.search.trial))
        status = jnp.where(lost, _restart_or(state.is_steepest, Status.STALLED), state.status)
        status = jnp.where(rejected, status, state.status).astype(jnp.int32)
        return state._replace(search=search, settling=settle, status=status)

    def progress(self, problem, state: State):
        """f and ‖∇f‖∞ at the current point."""
        box = problem.box
        slope = state.g if box is None else box.slope(state.x, state.g)
        return state.f / state.unit, max_abs(slope) / state.unit


def _first_direction(box: Box, x, g):
    """A step against the gradient into the box. Its scale is unknown: at most one unit."""
    slope = box.slope(x, g)
    return box.nearest(x - slope / jnp.maximum(1, norm(slope))) - x


def _unit(error):
    """1, or 1 / error for a first gradient so large that its squares might overflow."""
    huge = jnp.isfinite(error) & (error * jnp.finfo(error.dtype).eps ** 2 > 1)  # float16 has no 1 / eps²
    return jnp.where(huge, 1 / jnp.where(huge, error, 1), 1)


def is_unbounded(f):
    """Whether f is so low, below −1 / eps², that it counts as unbounded."""
    return f * jnp.finfo(f.dtype).eps ** 2 < -1


def _restart_or(is_steepest, failure: Status):
    """A lane that cannot go on asks for H to be restarted; if it already went along the gradient, it has failed."""
    return jnp.where(is_steepest, failure, Status.WAITING)
