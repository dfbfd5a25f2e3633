"""The only solver loop: a pool of lanes that is refilled from a queue of problems.

One problem needs 20 steps and its neighbor 300. A loop over the whole batch would run all of them for 300. Here only a
tile of `L` lanes is at work. As soon as it pays, the answers of lanes that have ended are written out, and the next
problems of the queue take their place. So nearly every lane does useful work at nearly every step, and only the lanes
at work hold matrices. A lane's arithmetic depends neither on its index nor on its neighbors.

A method is an object with `init`, `begin`, `step` and `progress`, and says which fields of its state are special. A
step is one evaluation of the user's function in every lane. A lane whose status is WAITING needs something rarer: its
first evaluation, or a new Jacobian. It is served by `begin` between runs of the inner loop, so that the inner loop
stays small enough to be compiled as one native function.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxopt_lite.lanes.arithmetic import take_where
from jaxopt_lite.lanes.rows import blank_lanes, count_up_to, load, load_some, store
from jaxopt_lite.lanes.status import Status

__all__ = ["Limits", "Method", "Outcome", "Problem", "Queue", "State", "begun", "resumed", "run", "stopped", "verdict"]

_PAUSED = 16  # subtracted from the status of a lane out of steps; `resumed` adds it back


class Limits(NamedTuple):
    """When a lane ends; one entry per problem, or per lane."""

    atol: Float[Array, "*L"]
    rtol: Float[Array, "*L"]
    max_steps: Int[Array, "*L"]


class Problem(Protocol):
    """What a method may ask of the user's function on a tile; `problem.LaneProblem` implements it."""

    @property
    def box(self) -> Any:
        """A `problem.Box` outside of which nothing may be evaluated, or None."""
        ...

    @property
    def loss(self) -> tuple[str | None, Any]:
        """What is made of residuals: the name of the loss, and the size of an outlier."""
        ...

    def value(self, x: Array, /) -> Array:
        """F(x)."""
        ...

    def value_and_grad(self, x: Array, /) -> tuple[Array, Array]:
        """f(x) and ∇f(x), of a scalar function."""
        ...

    def value_grad_and_hessian(self, x: Array, /) -> tuple[Array, Array, Array]:
        """f(x), ∇f(x) and ∇²f(x), of a scalar function."""
        ...

    def value_and_slope(self, x: Array, p: Array, /, needed: bool = False) -> tuple[Array, Array]:
        """F(x) and J p; if F has no derivative, J p is NaN, or an error if it is `needed`."""
        ...

    def pullback(self, x: Array, u: Array, /) -> Array:
        """Jᵀ u at x."""
        ...

    def value_and_jacobian(self, x: Array, /) -> tuple[Array, Array]:
        """F(x) and J(x), `[m, n, L]`."""
        ...


class State(Protocol):
    """What a lane carries: a NamedTuple with at least these fields. The engine itself ends lanes out of steps."""

    @property
    def x(self) -> Array: ...
    @property
    def status(self) -> Array: ...
    @property
    def steps(self) -> Array: ...
    @property
    def evaluations(self) -> Array: ...
    @property
    def first_error(self) -> Array: ...

    def _replace(self, **fields: Any) -> Any: ...


class Method(Protocol):
    """A solver on lanes: all that the engine and a kernel use of it."""

    @property
    def loose(self) -> tuple[str, ...]:
        """The fields of a state that matter only while a lane is running.

        In other lanes a step may leave anything in them; the engine restores them if states are kept.
        """
        ...

    @property
    def prepares(self) -> bool:
        """Whether `begin` evaluates the function. If not, the first step does."""
        ...

    @property
    def symmetric(self) -> tuple[str, ...]:
        """The fields of a state that are symmetric matrices, of which a kernel keeps one half."""
        ...

    def init(self, start: Any, /) -> State:
        """The state before the first evaluation, WAITING, from the queue's `start`. Below, `problem` is a `Problem`,
        and `state` is what `init` returns.
        """
        ...

    def begin(self, problem: Any, limits: Limits, state: Any, /) -> State:
        """Start every lane from its current point, as WAITING lanes need. Afterwards it is RUNNING, or has ended."""
        ...

    def step(self, problem: Any, limits: Limits, state: Any, /) -> State:
        """One evaluation in every lane that is RUNNING; others stay the same, to the bit, except in `loose` fields."""
        ...

    def progress(self, problem: Any, state: Any, /) -> tuple[Array, Array]:
        """The value and the error of the current point, for the record."""
        ...


class Queue(NamedTuple):
    """The problems to solve, batch axis first: what a method starts from, the mapped leaves of `args`, and limits.

    `states` continues earlier solves: states as an `Outcome` holds them, instead of starts. `order` and `length`,
    as `rows.chosen` gives them, pick the problems to solve; the outcome of the others is blank.
    """

    start: Any
    mapped: tuple[Array, ...]
    limits: Limits
    states: Any = None
    order: Int[Array, " B"] | None = None
    length: Int[Array, ""] | None = None

    @property
    def size(self) -> int:
        """The number of problems."""
        return self.limits.atol.shape[0]


class Outcome(NamedTuple):
    """The outcome of each problem, batch axis first."""

    x: Float[Array, "B n"]
    status: Int[Array, " B"]
    steps: Int[Array, " B"]
    evaluations: Int[Array, " B"]
    first_error: Float[Array, " B"]
    record: Any
    states: Any


class _Pool(NamedTuple):
    """The lanes at work: which problem each one holds, its data, its limits and its state; lane axis last."""

    problem: Int[Array, " L"]
    mapped: tuple[Array, ...]
    limits: Limits
    state: Any
    record: Any


def run(
    method: Method,
    bind: Callable[[tuple[Array, ...]], Any],
    queue: Queue,
    width: int,
    *,
    pause_cost: float = 2,
    steps_at_once: int = 1,
    keep_state: bool = False,
    record: int = 0,
) -> Outcome:
    """Solve every problem of the queue.

    Args:
        method: the solver.
        bind: a tile's mapped leaves, lane axis last -> the problem on that tile.
        queue: the problems.
        width: the number of lanes at work.
        pause_cost: about what it costs to write out, refill and start lanes, in steps of the whole tile. Idle lanes
            wait for that until together they have missed as many steps. No answer depends on it.
        steps_at_once: how many steps to make before asking whether more are worthwhile. No answer depends on it.
        keep_state: also return the states, so that unfinished solves can go on.
        record: how many steps of progress to record for each problem.
    """
    size, loose = queue.size, method.loose if keep_state else ()
    count = jnp.int32(size) if queue.length is None else queue.length

    def round_(carry):
        pool, taken, outcome = carry
        pool, taken = _refill(method, queue, count, pool, taken, record)
        pool = _begin(method, bind, pool)
        pool = _advance(method, bind, pool, taken < count, pause_cost, steps_at_once, loose)
        return pool, taken, _flush(outcome, pool, size)

    def unfinished(carry):
        pool, taken, _ = carry
        return (taken < count) | jnp.any(_in_work(pool.state.status))

    pool = _empty_pool(method, queue, width, record)
    outcome = _blank_outcome(pool, size, keep_state)
    _, _, outcome = jax.lax.while_loop(unfinished, round_, (pool, jnp.int32(0), outcome))
    return jax.tree.map(lambda leaf: leaf[:size], outcome)


def begun(method: Method, problem: Any, limits: Limits, state: Any) -> Any:
    """The state after `begin`. A lane that may make no step ends, but not before it has been evaluated at its start."""
    state = method.begin(problem, limits, state)
    return stopped(limits, state) if method.prepares else state


def stopped(limits: Limits, state: Any) -> Any:
    """The state with lanes that are out of steps ended; they keep what they would have done next."""
    over = _in_work(state.status) & (state.steps >= limits.max_steps)
    return state._replace(status=jnp.where(over, state.status - _PAUSED, state.status).astype(jnp.int32))


def verdict(status: Int[Array, "*L"]) -> Int[Array, "*L"]:
    """The final status of each lane: MAX_STEPS if it was stopped."""
    return jnp.where(status < Status.EMPTY, Status.MAX_STEPS, status).astype(jnp.int32)


def resumed(states: Any) -> Any:
    """The states of an `Outcome`, in which lanes that were stopped go on with what they would have done next."""
    status = jnp.where(states.status < Status.EMPTY, states.status + _PAUSED, states.status)
    return states._replace(status=status.astype(jnp.int32))


def _in_work(status):
    return (status == Status.RUNNING) | (status == Status.WAITING)


def _begin(method: Method, bind, pool: _Pool) -> _Pool:
    """Start the waiting lanes."""
    waiting = pool.state.status == Status.WAITING
    problem = bind(pool.mapped)
    state = take_where(waiting, begun(method, problem, pool.limits, pool.state), pool.state)
    return pool._replace(state=state, record=_note(method, problem, state, pool.record, waiting))


def _advance(
    method: Method, bind, pool: _Pool, more, pause_cost: float, steps_at_once: int, loose: tuple[str, ...]
) -> _Pool:
    """Step until it pays to stop: until idle lanes have missed as many steps as a pause costs.

    The `loose` fields are restored in lanes that are not running.
    """
    problem = bind(pool.mapped)
    width = pool.problem.size

    def worthwhile(carry):
        state, _, missed = carry
        return jnp.any(state.status == Status.RUNNING) & (missed < pause_cost * width)

    def step(_, carry):
        state, record, missed = carry
        running = state.status == Status.RUNNING
        new = method.step(problem, pool.limits, state)
        back = {name: take_where(running, getattr(new, name), getattr(state, name)) for name in loose}
        state = stopped(pool.limits, new._replace(**back))
        idle = (state.status == Status.WAITING) | (more & (state.status != Status.RUNNING))
        return state, _note(method, problem, state, record, running), missed + jnp.sum(idle, dtype=jnp.int32)

    def steps(carry):
        return step(0, carry) if steps_at_once == 1 else jax.lax.fori_loop(0, steps_at_once, step, carry)

    state, record, _ = jax.lax.while_loop(worthwhile, steps, (pool.state, pool.record, jnp.int32(0)))
    return pool._replace(state=state, record=record)


def _note(method: Method, problem, state, record, lanes):
    """Enter the progress of these lanes into their records, in the row of the current step."""
    if not record:
        return record
    here = (jnp.arange(record[0].shape[0])[:, None] == state.steps) & lanes
    return tuple(jnp.where(here, now, kept) for now, kept in zip(method.progress(problem, state), record, strict=True))


def _flush(outcome: Outcome, pool: _Pool, size: int) -> Outcome:
    """Write out the ended lanes. Those at work write to the spare slot at the end, so every index is in bounds."""
    working = _in_work(pool.state.status)
    slots = jnp.where(working, size, pool.problem)
    return store(outcome, slots, _report(pool, outcome.states is not None), ~working)


def _report(pool: _Pool, keep_state: bool) -> Outcome:
    state = pool.state
    return Outcome(
        x=state.x,
        status=verdict(state.status),
        steps=state.steps,
        evaluations=state.evaluations,
        first_error=state.first_error,
        record=pool.record,
        states=state if keep_state else None,
    )


def _blank_outcome(pool: _Pool, size: int, keep_state: bool) -> Outcome:
    """Room for every problem and one spare slot."""
    return jax.tree.map(lambda lanes: jnp.zeros((size + 1, *lanes.shape[:-1]), lanes.dtype), _report(pool, keep_state))


def _empty_pool(method: Method, queue: Queue, width: int, record: int) -> _Pool:
    """A pool whose lanes hold nothing yet."""
    spread = jnp.zeros((width,), jnp.int32)
    state = method.init(load(queue.start, spread))
    state = state._replace(status=jnp.full((width,), Status.EMPTY, jnp.int32))
    mapped, limits = load((queue.mapped, queue.limits), spread)
    return _Pool(spread + queue.size, mapped, limits, state, _blank_record(queue, width, record))


def _blank_record(queue: Queue, width: int, record: int):
    return tuple(jnp.full((record, width), jnp.nan, queue.limits.atol.dtype) for _ in range(2)) if record else ()


def _refill(method: Method, queue: Queue, count, pool: _Pool, taken, record: int) -> tuple[_Pool, Array]:
    """Give the next problems of the queue to the free lanes."""
    size = queue.size
    free = ~_in_work(pool.state.status)
    turn = taken + count_up_to(free) - 1
    filled = free & (turn < count)
    turn = jnp.clip(turn, 0, size - 1)
    next_problem = turn if queue.order is None else queue.order.at[turn].get(mode="promise_in_bounds")
    index = jnp.where(free, jnp.where(filled, next_problem, size), pool.problem)
    source = jnp.minimum(index, size - 1)

    first = queue.start if queue.states is None else queue.states
    tiles = pool.mapped, pool.limits, blank_lanes(first, free.size)
    mapped, limits, first = load_some((queue.mapped, queue.limits, first), source, tiles, filled)
    state = method.init(first) if queue.states is None else stopped(limits, first)
    state = take_where(filled, state, pool.state)
    state = state._replace(status=jnp.where(free & ~filled, Status.EMPTY, state.status).astype(jnp.int32))
    records = take_where(free, _blank_record(queue, free.size, record), pool.record)
    taken = jnp.minimum(taken + jnp.sum(free, dtype=jnp.int32), count)
    return _Pool(index, mapped, limits, state, records), taken
