"""The front door to least squares: `least_squares` checks its arguments and passes them to `solve`."""

from collections.abc import Callable
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike, Float, PyTree

from jaxopt_lite.arguments import one_of
from jaxopt_lite.lanes.losses import LOSSES, LossName
from jaxopt_lite.solvers.box import checked_bounds
from jaxopt_lite.solvers.choice import Backend, Derivatives, LeastSquaresSolver
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.levenberg_marquardt import LevenbergMarquardt
from jaxopt_lite.solvers.solution import Solution
from jaxopt_lite.solvers.solve import expect, solve
from jaxopt_lite.solvers.tolerances import finite_numbers

__all__ = ["least_squares"]

DERIVATIVES: tuple[Derivatives, ...] = get_args(Derivatives)


@says_what_instead
def least_squares(
    fun: Callable,
    x0: PyTree,
    args: PyTree = None,
    *,
    bounds: tuple[Any, Any] | list[Any] | None = None,
    loss: LossName = "linear",
    f_scale: Float[ArrayLike, "*B"] = 1.0,
    solver: LeastSquaresSolver | None = None,
    args_axes: PyTree = 0,
    batched: bool = True,
    has_aux: bool = False,
    derivatives: Derivatives = "exact",
    record: int = 0,
    keep_state: bool = False,
    resume: Any = None,
    backend: Backend = "auto",
) -> Solution:
    """Minimize ½ Σ ρ(Fᵢ(x)²) for a batch of problems in one call: curve fits, for instance.

    Args:
        fun: `fun(x, args) -> residuals`, written for one problem: any number of them, even fewer than unknowns, in any
            pytree. Without args it may be `fun(x)`.
        x0: starts; a pytree whose leaves are `[B, ...]`. A start outside the bounds is moved onto them.
        args: a pytree passed to `fun`, one entry per problem along the leading axis. Strings, functions and bools among
            its leaves are passed as they are.
        bounds: `(lower, upper)`, each one number for all unknowns, or a pytree like `x0` of arrays that broadcast
            against its leaves: `[n]` for all problems, `[B, n]` for one set per problem. Infinite or None means no
            bound; equal bounds fix an unknown.
        loss: ρ, by SciPy's names: `"linear"`, the sum of squares; or one less sensitive to outliers, `"soft_l1"`,
            `"huber"`, `"cauchy"` or `"arctan"`.
        f_scale: C > 0, the size from which a residual counts as an outlier, a number or one per problem: ρ becomes
            C² ρ((F/C)²). Default 1. Not used with `"linear"`.
        solver: `LevenbergMarquardt()`, the default, with its tolerances.
        args_axes: like `jax.vmap`'s `in_axes` for `args`: `None` for what all problems share.
        batched: False to solve one problem, without a batch axis anywhere.
        has_aux: whether `fun` returns `(residuals, aux)`.
        derivatives: how the derivatives of the solution are computed: `"exact"`, by the Hessian of the cost;
            `"gauss-newton"`, with JᵀJ in its place, which needs no second derivative of `fun` in x; where `fun` has
            none, those of `grad`, `error` and `triangle` are NaN.
        record: how many steps of progress to record in `Solution.history`.
        keep_state: whether to keep, in `Solution.state`, what is needed to go on with problems that ran out of steps.
        resume: the `state` of an earlier solution of the same problems; pass a larger `max_steps` with it.
        backend: how to compute it, as for `minimize`.

    Returns:
        A `Solution`, with the residuals as `fun`, the `cost`, the unknowns that are `active` at a bound, and what
        `Solution.covariance` needs. Its derivatives with respect to `args`, the bounds, and anything `fun` closes over
        are those of the implicit function theorem, for the unknowns that no bound holds.

    Raises:
        ValueError: shapes that do not fit, bounds that exclude each other, an unknown loss, a scale that is not
            positive; the message names the argument. Traced values cannot be checked: problems whose bounds exclude
            each other, or with a scale of zero or infinity, then end as NONFINITE_START.
        TypeError: complex or non-numeric unknowns; a function that cannot be called as fun(x, args), or that JAX cannot
            differentiate; an unknown keyword.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> t = jnp.linspace(0.0, 4.0, 20)
        >>> decay = lambda b, y: b[0] * jnp.exp(-b[1] * t) - y
        >>> rates = jnp.array([[0.5], [1.0], [2.0]])
        >>> y = 3 * jnp.exp(-rates * t)
        >>> sol = jol.least_squares(decay, jnp.ones((3, 2)), y, bounds=(0, [10, 1.5]))
        >>> [round(float(rate), 2) for rate in sol.x[:, 1]], sol.active[:, 1].tolist()
        ([0.5, 1.0, 1.5], [0, 0, 1])
    """
    chosen = LevenbergMarquardt() if solver is None else solver
    chosen = expect(chosen, "least_squares", "LevenbergMarquardt()", "least squares")
    one_of("loss", loss, LOSSES)
    one_of("derivatives", derivatives, DERIVATIVES)
    f_scale = _positive_scale(f_scale)
    beside = checked_bounds(bounds, x0)
    if loss != "linear":
        beside["f_scale"] = f_scale
    return solve(
        fun, x0, args, chosen, args_axes, resume, beside, batched=batched, has_aux=has_aux, record=record,
        keep_state=keep_state, backend=backend, loss=loss, derivatives=derivatives,
    )  # fmt: skip


def _positive_scale(f_scale: Any) -> Any:
    """The scale of a robust loss, a list as one array. Invalid scales are rejected, unless they are traced."""
    scale = jnp.stack(list(map(jnp.asarray, f_scale))) if isinstance(f_scale, list | tuple) else f_scale
    if isinstance(scale, Tracer):
        return scale
    known = finite_numbers(scale)
    if known is None or not np.all(known > 0):
        raise ValueError(f"f_scale={f_scale!s:.200}: expected positive, finite numbers, the size of an outlier.")
    return scale
