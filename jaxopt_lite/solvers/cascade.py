"""A solver's methods, one after the other, on a batch: each takes on the lanes the one before could not solve.

Where a call can look at what the first has left, that is tried alone: most batches need no more, and it compiles in
half the time.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from jaxopt_lite.jaxprs import largest_array
from jaxopt_lite.lanes import engine, kernel, tiles
from jaxopt_lite.lanes.derivatives import value_and_grad
from jaxopt_lite.lanes.engine import Limits, Outcome, Queue
from jaxopt_lite.lanes.graph import NotInAKernel
from jaxopt_lite.lanes.problem import Function, LaneProblem, mapped_leaves, with_mapped
from jaxopt_lite.lanes.rounding import is_rounding
from jaxopt_lite.lanes.rows import chosen, in_tiles
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.lanes.status import Status
from jaxopt_lite.lanes.tiles import Lanes
from jaxopt_lite.solvers.paths import kernel_for

__all__ = ["Plan", "at_precision", "condition", "evaluate", "gave_up", "lanes_of", "solve", "without_numbers"]


class Plan(NamedTuple):
    """What does not change from batch to batch: the function, the solver, and what to keep.

    A problem is `alone` when it is in no batch. Then it need not round as in one, and has a tile to itself. `path` is
    one of `paths.PATHS`. With `only_first` no method takes on what the first has given up,
    and nothing looks at what rounding does.
    """

    function: Function
    solver: Any
    keep_state: bool = False
    record: int = 0
    alone: bool = False
    path: str = "auto"
    only_first: bool = False

    def lanes(self, n: int, dtype) -> Lanes:
        """What tiles are made of."""
        return lanes_of(jax.tree.structure(self.solver), n, dtype)

    def width(self, batch: int, n: int, dtype, platform: str | None = None) -> int:
        """The number of lanes of a tile, on the platform that JAX uses or on this one."""
        size = None if self.alone else batch
        array_bytes = largest_array(self.function.closed)
        platform = jax.default_backend() if platform is None else platform
        return tiles.tile_width(self.lanes(n, dtype), platform, size, array_bytes)


def without_numbers(solver: Any) -> Any:
    """A solver without what is traced, such as tolerances, which no method holds."""
    return jax.tree.map(lambda _: None, solver)


@lru_cache(1024)
def lanes_of(settings: Any, n: int, dtype) -> Lanes:
    """The lanes on which a solver of these settings, its tree's structure, works for problems of n unknowns."""
    solver = jax.tree.unflatten(settings, [None] * settings.num_leaves)
    state = jax.eval_shape(solver.methods()[0].init, jax.ShapeDtypeStruct((n, 1), dtype))
    return Lanes(solver.work, dtype, sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)))


def solve(plan: Plan, is_mapped: tuple[bool, ...], leaves, x0, limits: Limits, states) -> Outcome:
    """Solve a batch. Under an outer `vmap` the batches become one batch, so that no loop waits for another."""

    @custom_vmap
    def solved(leaves, x0, limits, states):
        return _run_methods(plan, is_mapped, x0, leaves, limits, states)

    @solved.def_vmap
    @in_own_settings
    def rule(axis_size, in_batched, leaves, x0, limits, states):
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
        outcome = solve(
            plan._replace(alone=False), flags, merged, merge(x0, x_batched),
            jax.tree.map(merge, limits, limits_batched), jax.tree.map(merge, states, states_batched),
        )  # fmt: skip
        split = jax.tree.map(lambda leaf: leaf.reshape(axis_size, size, *leaf.shape[1:]), outcome)
        return split, jax.tree.map(lambda _: True, split)

    return solved(leaves, x0, limits, states)


def gave_up(status: Int[Array, " B"]) -> Bool[Array, " B"]:
    """Which problems the next method takes on."""
    return (status == Status.STALLED) | (status == Status.NO_ROOT)


def _run_methods(plan: Plan, is_mapped, x0, leaves, limits: Limits, states) -> Outcome:
    if x0.shape[0] == 0:
        return _nothing(x0, plan.record)
    if x0.shape[0] == 1 and not plan.alone:  # XLA would see that all lanes hold the same, and round them otherwise
        x0, limits, states = _twice((x0, limits, states))
        leaves = with_mapped(leaves, is_mapped, _twice(mapped_leaves(leaves, is_mapped)))
        outcome = _run_methods(plan, is_mapped, x0, leaves, limits, states)
        return jax.tree.map(lambda leaf: leaf[:1], outcome)
    first, *others = plan.solver.methods()
    states = None if states is None else engine.resumed(states)
    run = _runner(plan, is_mapped, x0, leaves)
    queue = Queue(x0, (), limits, states)
    in_loop = partial(run, first, keep_state=plan.keep_state, record=plan.record)
    by_kernel = _kernel(plan, is_mapped, x0, leaves, resumes=states is not None)
    if by_kernel is None:
        outcome = in_loop(queue)
    elif plan.path == "emulate":
        outcome = by_kernel(queue)
    else:
        outcome = jax.lax.platform_dependent(queue, cuda=by_kernel, default=in_loop)
    for method in () if plan.only_first else others:
        exact = at_precision(plan, is_mapped, outcome.x, leaves, gave_up(outcome.status))
        outcome = outcome._replace(status=jnp.where(exact, Status.AT_PRECISION, outcome.status))
        todo = gave_up(outcome.status)

        def redo(outcome, method=method, todo=todo):
            order, length = chosen(todo)
            # From here on the tolerance is absolute, and the steps are what is left.
            atol, steps = limits.atol + limits.rtol * outcome.first_error, limits.max_steps - outcome.steps
            left = Limits(atol, jnp.zeros_like(limits.rtol), steps)
            return _merge(outcome, run(method, Queue((outcome.x, x0), (), left, order=order, length=length)), todo)

        outcome = jax.lax.cond(jnp.any(todo), redo, lambda outcome: outcome, outcome)
    return outcome


def _twice(batches):
    """A batch of one problem, twice."""
    return jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batches)


def _nothing(x0, record: int) -> Outcome:
    """The outcome of an empty batch."""
    count = jnp.zeros((0,), jnp.int32)
    records = tuple(jnp.zeros((0, record), x0.dtype) for _ in range(2)) if record else ()
    return Outcome(x0, count, count, count, jnp.zeros((0,), x0.dtype), records, None)


def _merge(before: Outcome, after: Outcome, redone) -> Outcome:
    """The later outcome for the lanes that were taken on again.

    One that is out of steps is RUNNING still: having failed before, it may be at the limit of its dtype.
    """
    status = jnp.where(after.status == Status.MAX_STEPS, Status.RUNNING, after.status)
    return before._replace(
        x=jnp.where(redone[:, None], after.x, before.x),
        status=jnp.where(redone, status, before.status).astype(jnp.int32),
        steps=before.steps + jnp.where(redone, after.steps, 0),
        evaluations=before.evaluations + jnp.where(redone, after.evaluations, 0),
    )


def _runner(plan: Plan, is_mapped, x0, leaves) -> Callable[..., Outcome]:
    """The engine, set up for this function and its arguments."""
    size, n = x0.shape
    width = plan.width(size, n, x0.dtype)
    mapped, bind = _split(plan.function, is_mapped, leaves)
    at_once = tiles.steps_at_once(jax.default_backend())
    lane_bytes, columns = plan.lanes(n, x0.dtype).bytes, 1 if plan.function.is_scalar else n

    def run(method, queue: Queue, **options) -> Outcome:
        solve = partial(engine.run, method, bind, width=width, steps_at_once=at_once, **options)
        native = tiles.as_one_native_call(solve, plan.function.closed.jaxpr, width, lane_bytes, columns)
        return native(queue._replace(mapped=mapped))

    return run


def _kernel(plan: Plan, is_mapped, x0, leaves, resumes: bool) -> Callable[[Queue], Outcome] | None:
    """The first method as a kernel, where one is wanted and possible."""
    if plan.path == "loop" or (plan.path == "auto" and jax.default_backend() != "gpu"):
        return None
    try:
        if resumes:
            raise NotInAKernel("`resume` goes on from states that a kernel does not take into its registers")
        program = kernel_for(plan, is_mapped, leaves, x0.shape[1], x0.dtype)
    except NotInAKernel as reason:
        if plan.path == "auto":
            return None
        raise ValueError(f'path="{plan.path}", but this solve cannot be a kernel: {reason}. Try path="auto".') from None

    def run(queue: Queue) -> Outcome:
        queue = queue._replace(mapped=mapped_leaves(leaves, is_mapped))
        shared = tuple(leaf for leaf, flag in zip(leaves, is_mapped, strict=True) if not flag)
        return kernel.run(program, queue, shared, tiles.kernel_tiles(queue.size), interpret=plan.path == "emulate")

    return run


def _split(function: Function, is_mapped, leaves):
    """The mapped leaves, and how to bind a tile of them: mapped leaves, lane axis last -> the problem on that tile."""

    def bind(tile: tuple[Array, ...]) -> LaneProblem:
        return LaneProblem(function, with_mapped(leaves, is_mapped, tile), is_mapped)

    return mapped_leaves(leaves, is_mapped), bind


def at_precision(plan: Plan, is_mapped, x, leaves, doubtful: Bool[Array, " B"]) -> Bool[Array, " B"]:
    """Which of the doubtful problems are solved but for the rounding errors of their own function."""

    def one(x, leaves):
        return is_rounding(lambda x: condition(plan, x, leaves), x)

    def look():
        return doubtful & evaluate(plan, is_mapped, *jax.lax.stop_gradient((x, leaves)), one)

    return jax.lax.cond(jnp.any(doubtful), look, lambda: jnp.zeros_like(doubtful))


@in_own_settings
def condition(plan: Plan, x: Float[Array, "n"], leaves) -> Float[Array, "n"]:
    """What is zero at a solution of one problem: F(x) for a root, ∇f(x) for a minimum."""
    value = partial(plan.function.value, leaves=leaves)
    return value(x) if plan.solver.kind == "root" else value_and_grad(lambda x: (value(x)[0], None), x)[1]


def evaluate(plan: Plan, is_mapped, x, leaves, one: Callable):
    """`one(x, leaves)`, written for one problem, at every point of a batch; differentiable, a few tiles at a time."""
    size, n = x.shape
    if size == 0 or plan.alone:
        return jax.vmap(one, in_axes=(0, tuple(0 if flag else None for flag in is_mapped)))(x, leaves)
    return in_tiles(one, (True, is_mapped), 2 * plan.width(size, n, x.dtype))(x, leaves)
