"""Many starts for each problem, solved as one batch; the best answer of each problem is kept."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_map_with_path
from jaxtyping import PyTree

from jaxopt_lite.arguments import flag
from jaxopt_lite.lanes.batch import axis_per_leaf, named_leaves, numeric, one_size, signature_of
from jaxopt_lite.lanes.calls import split
from jaxopt_lite.lanes.capture import run
from jaxopt_lite.lanes.devices import check_together
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.box import axes_of, checked_bounds
from jaxopt_lite.solvers.choice import Options, Solver, lanes_for, rows_of
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.pipeline import solved_in_a_program
from jaxopt_lite.solvers.solution import Solution
from jaxopt_lite.solvers.solve import check_function, expect, solve
from jaxopt_lite.solvers.tolerances import checked, per_problem

__all__ = ["multistart"]


@says_what_instead
def multistart(
    fun: Callable,
    starts: PyTree,
    args: PyTree = None,
    *,
    bounds: tuple[Any, Any] | list[Any] | None = None,
    solver: Solver | None = None,
    args_axes: PyTree = 0,
    batched: bool = True,
    has_aux: bool = False,
) -> Solution:
    """Solve every problem from each of its starts and keep its best answer.

    The best is a solved one if there is any, and among those the one with the lowest value: f(x) for a minimum, the
    cost for least squares, ‖F(x)‖∞ for a root.

    Args:
        fun: as for `minimize`; with a solver of `root` or `least_squares`, as for those.
        starts: like `x0`, with an axis of starts after the batch axis: leaves `[B, K, ...]`, or `[K, ...]` when not
            `batched`.
        args: as for `minimize`; shared by all starts of a problem.
        bounds: as for `minimize`, shared by all starts of a problem; not with a root solver.
        solver: a minimizer (`BFGS()`, the default, or `LBFGS()`) looks for minima, a root solver for roots,
            `LevenbergMarquardt()` for the best fit.
        args_axes: as for `minimize`.
        batched: as for `minimize`.
        has_aux: as for `minimize`.

    Returns:
        A `Solution`: for each problem, that of its best start.

    Raises:
        ValueError: starts without an axis of starts, or with axes that disagree; otherwise as for `minimize`.
        TypeError: `fun` is not a function, `solver` not a solver, or bounds with a root solver.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> two_wells = lambda x, a: jnp.sum((x**2 - 1) ** 2 + 0.3 * x)
        >>> best = jol.multistart(two_wells, jnp.array([[-1.5], [1.5]]), batched=False)
        >>> bool(best.x[0] < 0)
        True
    """
    check_function(fun)
    flag("batched", batched)
    flag("has_aux", has_aux)
    chosen = BFGS() if solver is None else solver
    chosen = checked(expect(chosen, "multistart", "a solver, such as BFGS()", "minimum", "root", "least squares"))
    if bounds is not None and chosen.kind == "root":
        raise TypeError(
            f"bounds= does not fit solver={chosen!r}: expected a solver of `minimize` or `least_squares`, or no bounds."
        )
    count = _number_of_starts(starts, 1 if batched else 0)
    if not batched:  # the starts are a batch, and share everything
        beside = checked_bounds(bounds, jax.tree.map(lambda leaf: leaf[0], starts))
        return _best(solve(fun, starts, args, chosen, None, beside=beside, has_aux=has_aux))
    fun, args = split(fun, args)
    options = Options(axis_per_leaf(args, args_axes), has_aux=has_aux)
    one = jax.tree.map(_one_start, starts)
    beside = checked_bounds(bounds, one)
    check_together(starts=starts, args=args, solver=chosen, **beside)
    signature = signature_of(one, args, options.axes, batched)
    aside, lanes = axes_of(beside, one, batched), lanes_for(chosen, signature)
    rows = rows_of(starts, options.axes, chosen, beside=aside, starts=count)
    return run(
        _from_every_start, (options,), [(fun, signature)], starts, args, chosen, None, beside or None,
        rows=rows, lanes=lanes,
    )  # fmt: skip


def _number_of_starts(starts: PyTree, axis: int) -> int:
    """The size of the axis of starts, which all leaves share."""
    counts: dict[str, int] = {}
    for place, leaf in named_leaves(starts):
        name = f"starts{place}"
        numeric(leaf, name)
        if jnp.ndim(leaf) <= axis or jnp.shape(leaf)[axis] == 0:
            raise ValueError(
                f"{name} has shape {jnp.shape(leaf)}; expected at least one start along axis {axis}, after the batch "
                "axis if there is one."
            )
        counts[name] = jnp.shape(leaf)[axis]
    if not counts:
        raise ValueError(f"starts={starts!r:.80} has no leaves: expected a pytree with at least one array.")
    return one_size(counts, "the axes of starts", "starts of a problem")


def _one_start(leaf) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((jnp.shape(leaf)[0], *jnp.shape(leaf)[2:]), jnp.result_type(leaf))


def _from_every_start(fun: Callable, options: Options, starts, args, solver, resume, beside) -> Solution:
    """The best answers of a batch; for `lanes.capture.run`. All starts of all problems are one batch."""
    size, count = jnp.shape(jax.tree.leaves(starts)[0])[:2]
    x0 = jax.tree.map(lambda leaf: jnp.reshape(leaf, (size * count, *leaf.shape[2:])), starts)
    leaves, tree = jax.tree.flatten(args)
    repeated = [
        leaf if axis is None else jnp.repeat(leaf, count, axis) for leaf, axis in zip(leaves, options.axes, strict=True)
    ]
    settings = tree_map_with_path(partial(_of_every_start, size, count), solver)
    args = jax.tree.unflatten(tree, repeated)
    if beside:  # a row for each problem, and then for each of its starts
        like = jax.tree.map(_one_start, starts)
        spread = lambda bound, like: jnp.repeat(jnp.broadcast_to(bound, like.shape), count, axis=0)  # noqa: E731
        beside = {name: jax.tree.map(spread, bound, like) for name, bound in beside.items()}
    every = solved_in_a_program(fun, options, x0, args, settings, resume, beside)
    every = jax.tree.map(lambda leaf: jnp.moveaxis(leaf.reshape(size, count, *leaf.shape[1:]), 1, 0), every)
    return _best(every)


def _of_every_start(size: int, count: int, path: tuple, setting):
    """A setting of the solver, repeated for all starts of each problem."""
    if jnp.ndim(setting) == 0:
        return setting
    return jnp.repeat(per_problem(keystr(path, simple=True), setting, size, jnp.result_type(setting)), count)


@in_own_settings
@jax.jit
def _best(every: Solution) -> Solution:
    """The best along the leading axis, that of the starts."""
    has_value = every.grad is not None  # a root has none
    value = (every.fun if every.cost is None else every.cost) if has_value else every.error
    value = jnp.where(jnp.isnan(value), jnp.inf, value)
    rank = jnp.lexsort((value, ~every.success), axis=0)
    return jax.tree.map(lambda leaf: _pick(leaf, rank[0]), every)


def _pick(leaf, best):
    """Entry `best` along the axis of starts: `[K, B, ...]` and `[B]`, or `[K, ...]` and `[]`."""
    index = best.reshape((1, *best.shape) + (1,) * (leaf.ndim - 1 - best.ndim))
    return jnp.take_along_axis(leaf, index, axis=0, mode="promise_in_bounds")[0]
