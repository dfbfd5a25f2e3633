"""Many starts for each problem, solved as one batch; the best answer of each problem is kept."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.solution import Solution
from jaxopt_lite.solvers.solve import Minimizer, RootSolver, minimize, root

__all__ = ["multistart"]


def multistart(
    fun: Callable,
    starts: PyTree,
    args: PyTree = None,
    *,
    solver: Minimizer | RootSolver | None = None,
    args_axes: PyTree = 0,
    batched: bool = True,
    has_aux: bool = False,
) -> Solution:
    """Solve every problem from each of its starts and keep its best answer.

    The best is a solved one if there is any, and among those the one with the lowest value: f(x) for a minimum,
    ‖F(x)‖∞ for a root.

    Args:
        fun: as for `minimize`, or for `root` with one of its solvers.
        starts: like `x0`, with an axis of starts after the batch axis: leaves `[B, K, ...]`, or `[K, ...]` when not
            `batched`.
        args: as for `minimize`; shared by all starts of a problem.
        solver: a minimiser (`BFGS()`, the default, or `LBFGS()`) looks for minima, a root solver for roots.
        args_axes: as for `minimize`.
        batched: as for `minimize`.
        has_aux: as for `minimize`.

    Returns:
        A `Solution`, the best start's for each problem.

    Raises:
        ValueError: starts without an axis of starts.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> two_wells = lambda x, a: jnp.sum((x**2 - 1) ** 2 + 0.3 * x)
        >>> best = jol.multistart(two_wells, jnp.array([[-1.5], [1.5]]), batched=False)
        >>> bool(best.x[0] < 0)
        True
    """
    solver = BFGS() if solver is None else solver
    axis = 1 if batched else 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(starts):
        if jnp.ndim(leaf) <= axis or jnp.shape(leaf)[axis] == 0:
            raise ValueError(
                f"starts{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}; expected at least one start along "
                f"axis {axis}, behind the batch axis if there is one."
            )

    def from_one_start(x0):
        options = {"args_axes": args_axes, "batched": batched, "has_aux": has_aux}
        if isinstance(solver, RootSolver):
            return root(fun, x0, args, solver=solver, **options)
        return minimize(fun, x0, args, solver=solver, **options)

    every = jax.vmap(from_one_start, in_axes=axis)(starts)  # leaves [K, B, ...] or [K, ...]
    value = every.error if isinstance(solver, RootSolver) else every.fun
    value = jnp.where(jnp.isnan(value), jnp.inf, value)
    rank = jnp.lexsort((value, ~every.success), axis=0)
    return jax.tree.map(lambda leaf: _pick(leaf, rank[0]), every)


def _pick(leaf, best):
    """Entry `best` along the axis of starts: `[K, B, ...]` and `[B]`, or `[K, ...]` and `[]`."""
    index = best.reshape((1, *best.shape) + (1,) * (leaf.ndim - 1 - best.ndim))
    return jnp.take_along_axis(leaf, index, axis=0, mode="promise_in_bounds")[0]
