"""One batch from its starts to its solution: run a solver's methods, verify every answer, and report.

The methods follow one another: each takes on the lanes that the one before could not solve. A plain call first runs the
first method alone, which compiles in half the time and is enough for most batches. Minima and fits that remain are then
tested for rounding, before the fallback is compiled. Whatever a method claims, the status is decided by what autodiff
finds at the answer.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Int, PyTree

from jaxopt_lite.lanes import engine
from jaxopt_lite.lanes.batch import Batch, Layout, batch_of, check_sizes_known, mapped_leaves, with_mapped
from jaxopt_lite.lanes.engine import Limits, Method, Outcome, Queue
from jaxopt_lite.lanes.gpu import kernel
from jaxopt_lite.lanes.native import as_one_native_call
from jaxopt_lite.lanes.problem import Function, LaneProblem, trace
from jaxopt_lite.lanes.rows import chosen, twice
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.lanes.status import Status, is_solved
from jaxopt_lite.lanes.widths import pause_cost, steps_at_once
from jaxopt_lite.solvers.box import in_rows
from jaxopt_lite.solvers.choice import Choice, Kind, Options, Plan, Reach, choose, without_numbers
from jaxopt_lite.solvers.implicit import factored_up_to, known, with_implicit_derivatives
from jaxopt_lite.solvers.solution import History, Solution
from jaxopt_lite.solvers.tolerances import limits as limits_of
from jaxopt_lite.solvers.tolerances import per_problem
from jaxopt_lite.solvers.verification import (
    Values,
    at_precision,
    condition,
    is_doubtful,
    ran_off,
    verdict,
    verified,
    verified_at_once,
    verified_without_slopes,
)

__all__ = ["SHORTER", "check_size", "gave_up", "run_methods", "solved", "solved_in_a_program", "solved_so_far"]


_NEVER = int(np.iinfo(np.int32).max)
# Steps after which the fallback takes over. A fit usually needs a tenth of them, unless it creeps to infinity, or along
# a valley whose curvature JᵀJ does not show.
_BEFORE_FALLBACK = {"minimum": _NEVER, "root": _NEVER, "least squares": 200}


def solved(*operands: Any) -> Solution:
    """What `root`, `minimize` and `least_squares` compile; for `lanes.capture.run`."""
    return _answered(Reach.FALLBACK, *operands)[0]


def solved_in_a_program(fun: Callable, options: Options, x0: PyTree, args: PyTree, solver, *others: Any) -> Solution:
    """The same inside a larger program, which would have to compile the fallback whether it is needed or not."""
    reach = Reach.ROUNDING if getattr(solver, "rescue", True) is None else Reach.FALLBACK
    return _answered(reach, fun, options, x0, args, solver, *others)[0]


def solved_so_far(reach: Reach, *operands: Any) -> tuple[Solution, Bool[Array, "*B"]]:
    """`solved` up to this reach, and which problems need more."""
    solution, wanting = _answered(reach, *operands)
    return solution, wanting()


def _answered(
    reach: Reach, fun: Callable, options: Options, x0: PyTree, args: PyTree, solver, resume,
    beside: dict[str, PyTree] | None = None,
) -> tuple[Solution, Callable[[], Bool[Array, "*B"]]]:  # fmt: skip
    """The solution, and a function that says which problems need more."""
    kind: Kind = solver.kind
    batch, layout = batch_of(x0, args, options.axes, options.batched)
    function, batch = trace(fun, batch, layout, options.has_aux)
    check_size(kind, function, batch)
    function, batch = _with_side_inputs(kind, function, batch, options, x0, beside or {})
    plan = Plan(function, without_numbers(solver), options, not options.batched, reach)
    _check_resume(resume, solver, batch)
    limits = limits_of(solver, batch.x)
    is_mapped = batch.is_mapped

    @in_own_settings
    def run(leaves, others):
        outcome, values = run_methods(plan, is_mapped, leaves, *others)
        return outcome.x, is_solved(outcome.status), (values, outcome)

    others = jax.lax.stop_gradient((batch.x, limits, resume))
    factored = factored_up_to(kind, solver.work)
    solve = with_implicit_derivatives(run, partial(condition, plan), is_mapped, factored)
    x, success, (values, outcome) = solve(batch.leaves, others)
    less = partial(verified_without_slopes, plan, is_mapped) if kind == "least squares" else None
    values = known(partial(verified, plan, is_mapped), values, success, is_mapped, less)(x, batch.leaves)
    solution = _solution(plan, layout, x, values, outcome, success)
    wanting = partial(_wanting, plan, batch, x, values, outcome)
    return (solution if options.batched else _without_batch_axis(solution)), wanting


def _solution(plan: Plan, layout: Layout, x, values: Values, outcome: Outcome, success) -> Solution:
    """What the caller gets, in the user's pytrees."""
    function, unravel = plan.function, jax.vmap(layout.unravel)
    is_value = plan.solver.kind == "minimum"
    return Solution(
        x=unravel(x),
        fun=values.value[:, 0] if is_value else jax.vmap(function.unravel_value)(values.value),
        grad=None if values.grad is None else unravel(values.grad),
        error=values.error,
        status=outcome.status,
        success=success,
        steps=outcome.steps,
        evaluations=outcome.evaluations,
        aux=values.aux,
        cost=values.cost,
        active=None if values.active is None else _whole_numbers(unravel(values.active)),
        triangle=values.triangle,
        history=History(*outcome.record) if plan.options.record else None,
        state=outcome.states,
    )


def _wanting(plan: Plan, batch: Batch, x, values: Values, outcome: Outcome) -> Bool[Array, " B"]:
    """Which problems need what lies beyond the plan's reach."""
    status, first = outcome.status, plan.reach == Reach.FIRST
    wanting = is_doubtful(status, values.error) if first else jnp.zeros_like(status, bool)
    if plan.reach < Reach.FALLBACK and plan.later_methods():
        wanting |= gave_up(status) | (outcome.steps > _BEFORE_FALLBACK[plan.solver.kind])
        if plan.solver.kind == "minimum":
            found = values.value[:, 0], values.grad
            wanting |= ran_off(plan, batch.is_mapped, batch.x, x, batch.leaves, status == Status.CONVERGED, found)
    return wanting


def _whole_numbers(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.int32), tree)


def _without_batch_axis(solution: Solution) -> Solution:
    """The same for one problem. The state keeps its axis: it goes back in as it came out."""
    without = jax.tree.map(lambda leaf: leaf[0], Solution(**{**vars(solution), "state": None}))
    return Solution(**{**vars(without), "state": solution.state})


SHORTER = {
    "root": (partial(solved_so_far, Reach.FIRST),),
    "minimum": (partial(solved_so_far, Reach.FIRST), partial(solved_so_far, Reach.ROUNDING)),
    "least squares": (partial(solved_so_far, Reach.FIRST), partial(solved_so_far, Reach.ROUNDING)),
}
"""What to try before `solved`, without the parts that few batches need; for `lanes.capture.run`."""


def check_size(kind: Kind, function: Function, batch: Batch) -> None:
    """Reject a function whose number of outputs does not fit this kind of problem."""
    n = batch.x.shape[1]
    if kind == "minimum" and not function.is_scalar:
        raise ValueError(
            f"fun(x, args) returned {function.size} numbers; expected one scalar, of shape (). For the "
            "sum of their squares use `least_squares`; if it returns (value, aux), pass has_aux=True."
        )
    if kind == "root" and function.size != n:
        raise ValueError(
            f"fun(x, args) returned {function.size} numbers for {n} unknowns; a root needs as many equations as "
            "unknowns. For another number of equations use `least_squares`; if it returns (residual, aux), pass "
            "has_aux=True."
        )
    if function.size == 0:
        raise ValueError("fun(x, args) returned no numbers; expected at least one residual.")


def _with_side_inputs(
    kind: Kind, function: Function, batch: Batch, options: Options, x0: PyTree, beside: dict[str, PyTree]
) -> tuple[Function, Batch]:
    """Adds bounds and loss scale as leaves, one row per problem, and moves the starts into the bounds."""
    size, dtype = batch.x.shape[0], batch.x.dtype
    rows = {name: in_rows(tree, x0, options.batched, dtype) for name, tree in beside.items() if name != "f_scale"}
    if "lower" in rows:  # bounds that exclude each other, and were traced, make the start NaN
        rows["lower"] = jnp.where(rows["lower"] <= rows["upper"], rows["lower"], jnp.nan)
    if "f_scale" in beside:
        rows["f_scale"] = per_problem("f_scale", beside["f_scale"], size, dtype)
    function = function._replace(beside=tuple(rows), loss=options.loss if kind == "least squares" else None)
    leaves = (*batch.leaves, *rows.values())
    box = function.box(leaves)
    x = batch.x if box is None else box.nearest(batch.x)
    return function, Batch(x, leaves, batch.is_mapped + (True,) * len(rows))


def _check_resume(resume, solver, batch: Batch) -> None:
    """A state fits only the same solver, the same number of problems and the same unknowns."""
    if resume is None:
        return
    size, n = batch.x.shape
    expected = jax.eval_shape(solver.methods()[0].init, jax.ShapeDtypeStruct((n, size), batch.x.dtype))
    shapes = [(leaf.shape[-1:] + leaf.shape[:-1], leaf.dtype) for leaf in jax.tree.leaves(expected)]
    arrived = [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(resume)]
    if jax.tree.structure(resume) != jax.tree.structure(expected) or arrived != shapes:
        raise ValueError(
            f"resume does not fit: expected the `state` of a solution by {type(solver).__name__} of {size} problems "
            f"with {n} unknowns of {batch.x.dtype}, from a solve with keep_state=True; got {type(resume).__name__} "
            f"with leaves of shapes {sorted({shape for shape, _ in arrived})[:4]}."
        )


def run_methods(plan: Plan, is_mapped: tuple[bool, ...], leaves, x0, limits: Limits, states) -> tuple[Outcome, Values]:
    """Run a solver's methods and verify their answers, which decides the status.

    Under an outer `vmap` the batches become one, so that no loop waits for another.
    """

    @custom_vmap
    def one_batch(leaves, x0, limits, states):
        choice = choose(plan, is_mapped, leaves, x0, resumes=states is not None)
        if len(x0) != 1 or plan.alone:
            return _in_turn(plan, choice, is_mapped, x0, leaves, limits, states)
        # With a single problem, XLA would see that all lanes hold the same numbers, and round them differently.
        x0, limits, states = twice((x0, limits, states))
        leaves = with_mapped(leaves, is_mapped, twice(mapped_leaves(leaves, is_mapped)))
        results = _in_turn(plan, choice, is_mapped, x0, leaves, limits, states)
        return jax.tree.map(lambda leaf: leaf[:1], results)

    @one_batch.def_vmap
    @in_own_settings
    def rule(axis_size, in_batched, leaves, x0, limits, states):
        check_sizes_known("the batch that `vmap` maps over a solve", (axis_size,))
        leaves_batched, x_batched, limits_batched, states_batched = in_batched
        size = x0.shape[1] if x_batched else x0.shape[0]

        def merge(leaf, batched):
            """[K, B, ...] or [B, ...] -> [K·B, ...]."""
            leaf = leaf if batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))
            return leaf.reshape(axis_size * size, *leaf.shape[2:])

        def merge_leaf(leaf, batched, mapped):
            if not mapped and batched:
                leaf = jnp.broadcast_to(leaf[:, None], (axis_size, size, *leaf.shape[1:]))
            return merge(leaf, batched) if mapped or batched else leaf

        flags = tuple(mapped or batched for mapped, batched in zip(is_mapped, leaves_batched, strict=True))
        merged = tuple(map(merge_leaf, leaves, leaves_batched, is_mapped))
        results = run_methods(
            plan._replace(alone=False), flags, merged, merge(x0, x_batched),
            jax.tree.map(merge, limits, limits_batched), jax.tree.map(merge, states, states_batched),
        )  # fmt: skip
        split = jax.tree.map(lambda leaf: leaf.reshape(axis_size, size, *leaf.shape[1:]), results)
        return split, jax.tree.map(lambda _: True, split)

    return one_batch(leaves, x0, limits, states)


def gave_up(status: Int[Array, " B"]) -> Bool[Array, " B"]:
    """Which problems the next method takes on."""
    return (status == Status.STALLED) | (status == Status.NO_ROOT)


def _in_turn(plan: Plan, choice: Choice, is_mapped, x0, leaves, limits: Limits, states) -> tuple[Outcome, Values]:
    """Run one method after the other, and verify their answers."""
    later = next(iter(plan.later_methods()), None) if plan.reach == Reach.FALLBACK and len(x0) else None
    run = _runner(plan, choice, is_mapped, leaves)
    outcome = _first(plan, choice, is_mapped, x0, leaves, limits, states, run, goes_on=later is not None)

    def judged(outcome: Outcome):
        """The outcome with its verified status, what was found, and which problems may be at their dtype's limit."""
        values = verified_at_once(plan, choice, is_mapped, outcome.x, leaves)
        status = verdict(outcome, limits, values.value, values.error)
        return outcome._replace(status=status), values, is_doubtful(status, values.error)

    def looked_at(outcome: Outcome, doubtful) -> Outcome:
        exact = at_precision(plan, choice, is_mapped, outcome.x, leaves, doubtful)
        return outcome._replace(status=jnp.where(exact, Status.AT_PRECISION, outcome.status))

    if later is None:
        outcome, values, doubtful = judged(outcome)
        outcome = looked_at(outcome, doubtful) if plan.reach > Reach.FIRST else outcome
        return outcome, values

    def go_on(outcome: Outcome):
        return judged(_rescued(plan, later, run, is_mapped, x0, leaves, limits, outcome))

    def round_(k, carry):
        outcome, *found = carry
        outcome = looked_at(outcome, found[-1])
        return jax.lax.cond(k == 0, go_on, lambda outcome: (outcome, *found), outcome)

    # Rounding is tested before the fallback and after it; the loop puts the test into the program only once.
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(judged, outcome)[1])
    outcome, values, _ = jax.lax.fori_loop(0, 2, round_, (outcome, blank, gave_up(outcome.status)))
    status = jnp.where(outcome.status == Status.RUNNING, Status.MAX_STEPS, outcome.status)
    return outcome._replace(status=status), values


def _rescued(
    plan: Plan, method: Method, run: Callable, is_mapped, x0, leaves, limits: Limits, outcome: Outcome
) -> Outcome:
    """The outcome after a later method has taken on the problems that the one before gave up."""
    todo = gave_up(outcome.status)
    if plan.solver.kind == "minimum":
        todo |= ran_off(plan, is_mapped, x0, outcome.x, leaves, outcome.status == Status.CONVERGED)

    def redo(outcome):
        order, length = chosen(todo)
        # From here on the tolerance is absolute, and the limit on steps is what is left of it.
        atol, steps = limits.atol + limits.rtol * outcome.first_error, limits.max_steps - outcome.steps
        if plan.solver.kind == "least squares":  # the tolerance is for a cosine, the fallback tests a gradient
            atol = jnp.zeros_like(atol)
        left = Limits(atol, jnp.zeros_like(limits.rtol), steps)
        queue = Queue((outcome.x, x0), (), left, order=order, length=length)
        # Where a native function can hold the gradient, it may still be unable to hold the Hessian.
        return _merge(outcome, run(method, queue, native=plan.solver.kind == "root"), todo)

    return jax.lax.cond(jnp.any(todo), redo, lambda outcome: outcome, outcome)


def _nothing(x0, record: int) -> Outcome:
    """The outcome of an empty batch."""
    count = jnp.zeros((0,), jnp.int32)
    records = tuple(jnp.zeros((0, record), x0.dtype) for _ in range(2)) if record else ()
    return Outcome(x0, count, count, count, jnp.zeros((0,), x0.dtype), records, None)


def _merge(before: Outcome, after: Outcome, redone) -> Outcome:
    """The later outcome for the lanes that were taken on again.

    One that is out of steps stays RUNNING: since it failed before, it may be at the limit of its dtype.
    """
    status = jnp.where(after.status == Status.MAX_STEPS, Status.RUNNING, after.status)
    return before._replace(
        x=jnp.where(redone[:, None], after.x, before.x),
        status=jnp.where(redone, status, before.status).astype(jnp.int32),
        steps=before.steps + jnp.where(redone, after.steps, 0),
        evaluations=before.evaluations + jnp.where(redone, after.evaluations, 0),
    )


def _first(
    plan: Plan, choice: Choice, is_mapped, x0, leaves, limits: Limits, states, run: Callable, goes_on: bool
) -> Outcome:
    """The outcome of the first method. If another one follows, lanes that creep are left to it."""
    if len(x0) == 0:
        return _nothing(x0, plan.options.record)
    first, *_ = plan.solver.methods()
    states = None if states is None else engine.resumed(states)
    most = jnp.minimum(limits.max_steps, _BEFORE_FALLBACK[plan.solver.kind]) if goes_on else limits.max_steps
    queue = Queue(x0, (), limits._replace(max_steps=most), states)
    outcome = _by_backend(plan, choice, is_mapped, leaves, queue, partial(run, first))
    creeps = (outcome.status == Status.MAX_STEPS) & (outcome.steps < limits.max_steps)
    return outcome._replace(status=jnp.where(creeps, Status.STALLED, outcome.status))


def _by_backend(plan: Plan, choice: Choice, is_mapped, leaves, queue: Queue, in_loop: Callable) -> Outcome:
    """The outcome of the first method, by the backend that was chosen."""
    options = plan.options
    if options.backend in ("kernel", "emulate") and choice.program is None:
        raise ValueError(
            f'backend="{options.backend}", but this solve cannot be a kernel: {choice.why_no_kernel}. '
            'Try backend="auto".'
        )
    in_loop = partial(in_loop, keep_state=options.keep_state, record=options.record)
    program = choice.program
    if program is None:
        return in_loop(queue)

    def by_kernel(queue: Queue) -> Outcome:
        queue = queue._replace(mapped=mapped_leaves(leaves, is_mapped))
        shared = tuple(leaf for leaf, flag in zip(leaves, is_mapped, strict=True) if not flag)
        return kernel.run(program, queue, shared, interpret=options.backend == "emulate")

    if options.backend == "emulate":
        return by_kernel(queue)
    return jax.lax.platform_dependent(queue, cuda=by_kernel, default=in_loop)


def _runner(plan: Plan, choice: Choice, is_mapped, leaves) -> Callable[..., Outcome]:
    """The engine, set up for this function and its arguments."""
    mapped, platform = mapped_leaves(leaves, is_mapped), jax.default_backend()
    shared = tuple(None if flag else leaf for leaf, flag in zip(leaves, is_mapped, strict=True))

    def run(method, queue: Queue, *, native: bool = True, **options) -> Outcome:
        options |= {"pause_cost": pause_cost(platform, method.prepares), "steps_at_once": steps_at_once(platform)}

        def solve(queue: Queue, shared: tuple) -> Outcome:
            def bind(tile: tuple[Array, ...]) -> LaneProblem:
                """The problem on a tile, whose mapped leaves have the lane axis last."""
                return LaneProblem(plan.function, with_mapped(shared, is_mapped, tile), is_mapped)

            return engine.run(method, bind, queue, width=choice.width, **options)

        # What all problems share is an operand too: as a constant that nothing uses, it would crash the process.
        solve = as_one_native_call(solve) if native and not choice.why_not_native else solve
        return solve(queue._replace(mapped=mapped), shared)

    return run
