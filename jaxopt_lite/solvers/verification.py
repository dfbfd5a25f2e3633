"""Verification: what autodiff finds at the answers of a batch, whatever the iterations thought of them.

The status of a problem is decided by the criterion at its answer. A problem that does not meet it may still be solved
as exactly as its dtype allows, and one that does may have run off to where f is flat: both can be asked here too.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxopt_lite.lanes.arithmetic import max_abs, rematvec
from jaxopt_lite.lanes.batch import mapped_leaves, with_mapped
from jaxopt_lite.lanes.derivatives import pullback, value_and_grad
from jaxopt_lite.lanes.engine import Limits, Outcome
from jaxopt_lite.lanes.lanes_last import lanes_last
from jaxopt_lite.lanes.losses import twice_cost
from jaxopt_lite.lanes.native import as_one_native_call
from jaxopt_lite.lanes.problem import LaneProblem
from jaxopt_lite.lanes.rounding import is_rounding
from jaxopt_lite.lanes.rows import chosen, in_tiles, tile_by_tile
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.lanes.status import Status
from jaxopt_lite.lanes.widths import evaluated_width
from jaxopt_lite.solvers.box import active
from jaxopt_lite.solvers.choice import Choice, Kind, Plan
from jaxopt_lite.solvers.levenberg_marquardt import model, underflows
from jaxopt_lite.solvers.trust_region import has_strayed, is_far

__all__ = [
    "Values", "at_precision", "condition", "is_doubtful", "ran_off", "verdict", "verified", "verified_at_once",
    "verified_without_slopes",
]  # fmt: skip

_FURTHER = 1 / 8  # of the way from the start: how far beyond a flat point f is tested again


class Values(NamedTuple):
    """What autodiff finds at a point, independent of any solver. Fields that do not apply are None.

    Attributes:
        value: F(x), or f(x) as a vector of one number.
        grad: the gradient of f, or of the cost of the residuals.
        aux: the second output of the function.
        error: the criterion, as `Solution.error` has it.
        cost: ½‖F(x)‖², or the cost by another loss.
        triangle: R of QR, the factorized Jacobian of the residuals as the loss weighs them.
        active: which unknowns are at a bound.
    """

    value: Float[Array, "*B m"]
    grad: Float[Array, "*B n"] | None
    aux: PyTree
    error: Float[Array, "*B"]
    cost: Float[Array, "*B"] | None = None
    triangle: Float[Array, "*B n n"] | None = None
    active: Int[Array, "*B n"] | None = None


def verified(plan: Plan, is_mapped: tuple[bool, ...], x, leaves) -> Values:
    """What autodiff finds at every point of a batch; differentiable."""

    def one(x, leaves):
        return _found(plan.solver.kind, LaneProblem(plan.function, leaves, is_mapped), x)

    return _evaluate(plan, is_mapped, x, leaves, one)


def verified_without_slopes(plan: Plan, is_mapped: tuple[bool, ...], x, leaves) -> Values:
    """What has a derivative in least squares where the Jacobian has none; None for the rest."""

    def one(x, leaves):
        problem = LaneProblem(plan.function, leaves, is_mapped)
        value, aux = problem.value_and_aux(x)
        value = value.astype(x.dtype)
        at_bound = None if problem.box is None else active(x, *problem.box)
        cost = jnp.sum(twice_cost(*problem.loss, value)) / 2
        return Values(value, None, aux, None, cost, active=at_bound)  # pyright: ignore[reportArgumentType]

    return _evaluate(plan, is_mapped, x, leaves, one)


def verified_at_once(plan: Plan, choice: Choice, is_mapped: tuple[bool, ...], x, leaves) -> Values:
    """The same, without derivatives.

    A fit is evaluated as a tile even if that is no native function: a tile tests whether any of its Jacobians has to be
    factorized itself, where one problem alone always does it.
    """
    native = _is_native(plan, choice, x)
    if not (native or (plan.solver.kind == "least squares" and _is_tiled(plan, x))):
        return verified(plan, is_mapped, x, leaves)

    def on_tile(x, leaves):
        return _found(plan.solver.kind, LaneProblem(plan.function, leaves, is_mapped), x)

    return _evaluate_at_once(choice.width, is_mapped, x, leaves, on_tile, native=native)


def _found(kind: Kind, problem: LaneProblem, x) -> Values:
    """What autodiff finds at one point, or at those of a tile."""
    box = problem.box
    at_bound = None if box is None else active(x, *box)
    if kind == "minimum":
        value, grad, aux = problem.value_grad_and_aux(x)
        slope = grad if box is None else box.slope(x, grad)
        return Values(value[None], grad, aux, max_abs(slope), active=at_bound)
    if kind == "root":
        value, aux = problem.value_and_aux(x)
        value = value.astype(x.dtype)
        return Values(value, None, aux, max_abs(value))
    value, j, aux = problem.value_jacobian_and_aux(x)
    jt = jnp.swapaxes(j, 0, 1)
    at = model(problem.loss, box, x, value, jt)
    error = jnp.where(underflows(x, value, jt), jnp.nan, at.error)
    return Values(value, rematvec(at.r, at.c), aux, error, at.cost / 2, at.r, at_bound)


def verdict(outcome: Outcome, limits: Limits, value, error):
    """The status by what was recomputed at the answer: the loop's own opinion does not count.

    An infinite answer is never a solution, though a function may be flat there.
    """
    first_error = jnp.where(jnp.isfinite(outcome.first_error), outcome.first_error, 0)
    holds = jnp.isfinite(error) & (error <= limits.atol + limits.rtol * first_error)
    holds &= jnp.all(jnp.isfinite(value), axis=1) & jnp.all(jnp.isfinite(outcome.x), axis=1)
    claimed = outcome.status == Status.CONVERGED
    status = jnp.where(claimed, Status.UNVERIFIED, outcome.status)
    return jnp.where(holds, Status.CONVERGED, status).astype(jnp.int32)


def is_doubtful(status, error):
    """Which problems failed at a point that may be as good as the dtype allows."""
    doubtful = (status == Status.STALLED) | (status == Status.NO_ROOT) | (status == Status.UNVERIFIED)
    return (doubtful | (status == Status.RUNNING)) & jnp.isfinite(error)


def at_precision(plan: Plan, choice: Choice, is_mapped, x, leaves, doubtful: Bool[Array, " B"]) -> Bool[Array, " B"]:
    """Which of the doubtful problems are solved up to the rounding errors of their own function."""

    def one(x, leaves):
        return is_rounding(lambda x: condition(plan, x, leaves), x)

    # The gradient of a sum of squares is a sum over residuals, which a native function may not contain.
    if _is_native(plan, choice, x) and plan.solver.kind != "least squares":
        on_tile = lanes_last(one, (True, is_mapped))
        return doubtful & _evaluate_at_once(choice.width, is_mapped, x, leaves, on_tile, doubtful)
    return doubtful & _evaluate(plan, is_mapped, x, leaves, one, doubtful)


@in_own_settings
def condition(plan: Plan, x: Float[Array, "n"], leaves) -> Float[Array, "n"]:
    """What is zero at a solution of one problem: F(x) for a root, ∇f(x) for a minimum.

    For an unknown that a bound holds, its distance from the bound. Gauss-Newton derivatives leave out those of J.
    """
    value, box = partial(plan.function.value, leaves=leaves), plan.function.box(leaves)
    if plan.solver.kind == "root":
        return value(x)
    if plan.solver.kind == "minimum":
        slope = value_and_grad(lambda x: (value(x)[0], None), x)[1]
    else:
        f, back = jax.vjp(partial(twice_cost, *plan.function.weighing(leaves)), value(x))
        at = jax.lax.stop_gradient(x) if plan.options.derivatives == "gauss-newton" else x
        slope = pullback(value, at, back(jnp.full_like(f, 0.5))[0])
    if box is None:
        return slope
    nearest = jnp.where(x <= box.lower, box.lower, box.upper)
    return jnp.where(box.holds(x, slope), x - nearest, slope)


def ran_off(plan: Plan, is_mapped, x0, x, leaves, converged, values=None) -> Bool[Array, " B"]:
    """Which problems have left the slopes that they started on, for a place so flat that it looks like a minimum.

    `values` are f(x) and ∇f(x), if they are known. A point further on is tested too, because f may be flat at x alone,
    such as at a minimum that was hit exactly.
    """

    def strayed(x, which, values=None):
        values = _evaluate(plan, is_mapped, x, leaves, one, which) if values is None else values
        return which & jax.vmap(has_strayed)(x, x0, *values)

    def one(x, leaves):
        (value, _), grad = value_and_grad(lambda x: (plan.function.value(x, leaves)[0], None), x)
        return value, grad

    seems = strayed(x, converged & jax.vmap(is_far)(x, x0), values)
    return strayed(x + _FURTHER * (x - x0), seems)


def _evaluate(plan: Plan, is_mapped, x, leaves, one: Callable, which: Bool[Array, " B"] | None = None):
    """`one(x, leaves)`, written for one problem, at every point of a batch, a tile at a time.

    It is differentiable, unless only some points are chosen; then the others get zeros.
    """

    if which is not None:
        x, leaves = jax.lax.stop_gradient((x, leaves))
    if not _is_tiled(plan, x):
        look = jax.vmap(one, in_axes=(0, tuple(0 if flag else None for flag in is_mapped)))
        if which is None:
            return look(x, leaves)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(look, x, leaves))
        return jax.lax.cond(jnp.any(which), look, lambda *_: zeros, x, leaves)
    (size, n), platform = x.shape, jax.default_backend()
    width = evaluated_width(plan.width(size, n, x.dtype, platform), platform, n)
    return in_tiles(one, (True, is_mapped), width, None if which is None else chosen(which))(x, leaves)


def _is_tiled(plan: Plan, x) -> bool:
    """Whether the function is evaluated at these points a tile at a time."""
    return not (plan.alone or len(x) == 0)


def _is_native(plan: Plan, choice: Choice, x) -> bool:
    """Whether that is one native call."""
    return _is_tiled(plan, x) and not choice.why_not_native


def _evaluate_at_once(
    width: int, is_mapped, x, leaves, on_tile: Callable, which: Bool[Array, " B"] | None = None, *, native: bool = True
):
    """`on_tile(x, leaves)`, written for a tile, at every point of a batch, or only at some, as one `native` function.

    It has no derivatives.
    """

    def at_all(some, x, leaves):
        def tile(x, mapped):
            return on_tile(x, with_mapped(leaves, is_mapped, mapped))

        return tile_by_tile(tile, width, some)(x, mapped_leaves(leaves, is_mapped))

    at_all = as_one_native_call(at_all) if native else at_all
    return at_all(None if which is None else chosen(which), x, leaves)
