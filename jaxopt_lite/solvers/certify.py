"""Autodiff's verdict on an answer, whoever found it: residual, error estimate, conditioning, curvature.

Everything is recomputed at the point with derivatives by autodiff, in float64 where JAX has it enabled. For a root the
estimate of the forward error is the Newton step, ‖J⁻¹F‖, and the smallest singular value of J says how near it is to
having no unique answer. For a minimum the smallest eigenvalue of the Hessian tells a minimum from a saddle.

Sources: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., chapter 25, for the error estimate; Nocedal
and Wright, Numerical Optimization, 2nd ed., theorems 2.3 and 2.4, for the second-order conditions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from jaxopt_lite.lanes.arithmetic import max_abs, positive
from jaxopt_lite.lanes.batch import axis_per_leaf, batch_of, mapped_leaves, signature_of, with_mapped
from jaxopt_lite.lanes.calls import split
from jaxopt_lite.lanes.capture import run
from jaxopt_lite.lanes.derivatives import hessian, jacobian, value_and_grad
from jaxopt_lite.lanes.problem import trace
from jaxopt_lite.lanes.settings import unchecked_numbers
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.tolerances import check_setting, per_problem

__all__ = [
    "Curvature", "DerivativeCheck", "MinimumCertificate", "RootCertificate", "certify_minimum", "certify_root",
    "check_derivatives",
]  # fmt: skip

_TOGETHER = 256  # problems whose matrices are held at once
_BENDING = 4  # in eps of the values around a point, per step: less of a bend there means nothing


class Curvature(IntEnum):
    """What kind of point a stationary point is, by the eigenvalues of its Hessian."""

    MINIMUM = 0
    SADDLE = 1
    FLAT = 2
    MAXIMUM = 3
    NOT_STATIONARY = 4
    NOT_FINITE = 5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RootCertificate:
    """The verdict on a root, one entry per problem.

    Attributes:
        residual: ‖F(x)‖∞.
        error: ‖J⁻¹F‖∞, the estimated distance to the root; infinite where J is singular and F is outside its range.
        singular_value: the smallest singular value of J.
        condition: the condition number of J in the 2-norm.
        valid: residual ≤ atol, and all finite.
    """

    residual: Float[Array, "*B"]
    error: Float[Array, "*B"]
    singular_value: Float[Array, "*B"]
    condition: Float[Array, "*B"]
    valid: Bool[Array, "*B"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MinimumCertificate:
    """The verdict on a minimum, one entry per problem.

    Attributes:
        gradient: ‖∇f(x)‖∞.
        error: ‖H⁻¹∇f‖∞, the estimated distance to the stationary point; infinite where H is singular and ∇f has a
            component in its null space.
        eigenvalue: the smallest eigenvalue of the Hessian H.
        condition: the largest absolute eigenvalue over the smallest absolute one.
        kind: a `Curvature`: minimum, saddle, flat, maximum, not stationary or not finite.
        valid: stationary and a minimum, strict or flat.
    """

    gradient: Float[Array, "*B"]
    error: Float[Array, "*B"]
    eigenvalue: Float[Array, "*B"]
    condition: Float[Array, "*B"]
    kind: Int[Array, "*B"]
    valid: Bool[Array, "*B"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DerivativeCheck:
    """Autodiff against finite differences, one entry per problem.

    Attributes:
        difference: the largest difference of any entry to the slope on either side of the point, relative to the
            problem's largest derivative, or to 1 if that is less.
        worst: the unknown (index in the raveled `x`) where it occurs.
        agree: difference ≤ tolerance, and all finite.
    """

    difference: Float[Array, "*B"]
    worst: Int[Array, "*B"]
    agree: Bool[Array, "*B"]


@says_what_instead
def certify_root(
    fun: Callable,
    x: PyTree,
    args: PyTree = None,
    *,
    args_axes: PyTree = 0,
    batched: bool = True,
    atol: ArrayLike | None = None,
) -> RootCertificate:
    """Judge roots by autodiff, independently of any solver.

    Args:
        fun: `fun(x, args) -> residual` for one problem, as for `root`.
        x: the points to judge; leaves `[B, ...]`.
        args: as for `root`.
        args_axes: as for `root`.
        batched: as for `root`.
        atol: the largest residual of a valid root, a number or one per problem. Default 1e-8 in float64, 1e-4 in
            float32.

    Raises:
        ValueError: shapes that do not fit; a tolerance that is negative or not finite.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> x, a = jnp.array([[2.0], [3.0]]), jnp.array([[4.0], [4.0]])
        >>> verdict = jol.certify_root(lambda x, a: x**2 - a, x, a)
        >>> verdict.valid.tolist()
        [True, False]
    """
    return _certify(fun, x, args, atol, args_axes, batched, _judge_root)


@says_what_instead
def certify_minimum(
    fun: Callable,
    x: PyTree,
    args: PyTree = None,
    *,
    args_axes: PyTree = 0,
    batched: bool = True,
    atol: ArrayLike | None = None,
) -> MinimumCertificate:
    """Judge minima by autodiff, independently of any solver: a saddle is called a saddle.

    Bounds are left out: where one holds a point, it is called not stationary.

    Args:
        fun: `fun(x, args) -> scalar` for one problem, as for `minimize`.
        x: the points to judge; leaves `[B, ...]`.
        args: as for `minimize`.
        args_axes: as for `minimize`.
        batched: as for `minimize`.
        atol: the largest ‖∇f‖∞ of a stationary point, a number or one per problem. Default 1e-5 in float64, 1e-2 in
            float32.

    Raises:
        ValueError: shapes that do not fit; a tolerance that is negative or not finite.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> saddle = jol.certify_minimum(lambda x, a: x[0] ** 2 - x[1] ** 2, jnp.zeros((1, 2)))
        >>> jol.Curvature(int(saddle.kind[0])).name
        'SADDLE'
    """
    return _certify(fun, x, args, atol, args_axes, batched, _judge_minimum)


@says_what_instead
def check_derivatives(
    fun: Callable,
    x: PyTree,
    args: PyTree = None,
    *,
    args_axes: PyTree = 0,
    batched: bool = True,
    tolerance: ArrayLike | None = None,
) -> DerivativeCheck:
    """Compare autodiff's derivatives of `fun` with finite differences, problem by problem.

    Finds wrong `custom_jvp` rules, `stop_gradient`s and kinks before a solver stumbles over them.

    Args:
        fun: `fun(x, args)` for one problem; a scalar or any pytree of residuals.
        x: the points to check at; leaves `[B, ...]`.
        args: as for `root`.
        args_axes: as for `root`.
        batched: as for `root`.
        tolerance: the largest relative difference, a number or one per problem. Default 1e-5 in float64, 1e-2 in
            float32.

    Raises:
        ValueError: shapes that do not fit; a tolerance that is negative or not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxopt_lite as jol
        >>> hidden = lambda x, a: x[0] ** 2 + jax.lax.stop_gradient(x[1]) ** 2
        >>> bool(jol.check_derivatives(hidden, jnp.ones((1, 2))).agree[0])
        False
    """
    return _certify(fun, x, args, tolerance, args_axes, batched, _compare)


def _certify(fun, x, args, tolerance, args_axes, batched, judge):
    """Run a judge, written for one problem, on the batch, in the highest precision available."""
    tolerance = check_setting("tolerance" if judge is _compare else "atol", tolerance)
    fun, args = split(fun, args)
    axes = axis_per_leaf(args, args_axes)
    best = jax.dtypes.canonicalize_dtype(jnp.float64)
    with unchecked_numbers():  # infinity and NaN in a verdict are intended
        x, args = (jax.tree.map(partial(_widen, best), tree) for tree in (x, args))
        functions = [(fun, signature_of(x, args, axes, batched, called="x"))]
        return run(_judged, (axes, batched, judge), functions, x, args, tolerance)


def _judged(fun, axes, batched, judge, x, args, tolerance):
    batch, layout = batch_of(x, args, axes, batched)
    function, batch = trace(fun, batch, layout, has_aux=False)

    def one(problem):
        x, mapped, tolerance = problem
        leaves = with_mapped(batch.leaves, batch.is_mapped, mapped)
        return judge(lambda x: function.value(x, leaves), x, tolerance)

    if tolerance is not None:
        name = "tolerance" if judge is _compare else "atol"
        tolerance = per_problem(name, tolerance, batch.x.shape[0], batch.x.dtype)
    mapped = mapped_leaves(batch.leaves, batch.is_mapped)
    together = max(1, min(batch.x.shape[0], _TOGETHER))
    verdict = jax.lax.map(one, (batch.x, mapped, tolerance), batch_size=together)
    return verdict if batched else jax.tree.map(lambda leaf: leaf[0], verdict)


def _widen(best, leaf):
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return jnp.asarray(leaf, best) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _default(tolerance, x, in_double: float, in_single: float):
    if tolerance is not None:
        return tolerance
    return jnp.asarray(in_double if x.dtype == jnp.float64 else in_single, x.dtype)


def _judge_root(f, x, atol) -> RootCertificate:
    residual, matrix = f(x), jacobian(f, x)
    _check_square(matrix)
    u, singular_values, vt = jnp.linalg.svd(matrix)
    error = _longest(vt.T, u.T @ residual, singular_values)
    norm = max_abs(residual)
    finite = _all_finite(x, residual, matrix)
    smallest = jnp.where(finite, singular_values[-1], jnp.nan)
    return RootCertificate(
        residual=norm,
        error=jnp.where(finite, error, jnp.nan),
        singular_value=smallest,
        condition=jnp.where(finite, _ratio(singular_values[0], smallest), jnp.nan),
        valid=finite & (norm <= _default(atol, x, 1e-8, 1e-4)),
    )


def _all_finite(*arrays):
    """Whether all numbers are finite. Callers pass the point too: a flat function is finite at infinity."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(array)) for array in arrays]))


def _check_square(matrix) -> None:
    m, n = matrix.shape
    if m != n:
        raise ValueError(f"fun(x, args) returned {m} numbers for {n} unknowns; a root needs as many of each.")


def _longest(directions, residual, scales):
    """‖V (r / s)‖∞; infinite where a scale is zero, unless there is no residual along that direction."""
    singular = jnp.any((scales == 0) & (jnp.abs(residual) > 0))
    return jnp.where(singular, jnp.inf, max_abs(directions @ (residual / jnp.where(scales == 0, 1, scales))))


def _ratio(largest, smallest):
    """A condition number: infinite for a singular matrix, the zero matrix included."""
    return jnp.where(smallest > 0, largest / positive(smallest), jnp.inf)


def _judge_minimum(f, x, atol) -> MinimumCertificate:
    scalar = partial(_scalar, f)
    (_, gradient), matrix = value_and_grad(lambda x: (scalar(x), None), x), hessian(scalar, x)
    finite = _all_finite(x, gradient, matrix, scalar(x))
    eigenvalues, vectors = jnp.linalg.eigh(jnp.where(finite, (matrix + matrix.T) / 2, jnp.eye(x.size)))
    error = _longest(vectors, vectors.T @ gradient, eigenvalues)
    low, high = eigenvalues[0], eigenvalues[-1]
    largest = max_abs(eigenvalues)
    # An eigenvalue below the rounding errors of the largest one cannot be told from zero.
    zero = 100 * x.size * jnp.finfo(x.dtype).eps * largest
    kind = jnp.where(low > zero, Curvature.MINIMUM, Curvature.FLAT)
    kind = jnp.where(low < -zero, jnp.where(high < -zero, Curvature.MAXIMUM, Curvature.SADDLE), kind)
    norm = max_abs(gradient)
    kind = jnp.where(norm <= _default(atol, x, 1e-5, 1e-2), kind, Curvature.NOT_STATIONARY)
    kind = jnp.where(finite, kind, Curvature.NOT_FINITE).astype(jnp.int32)
    return MinimumCertificate(
        gradient=norm,
        error=jnp.where(finite, error, jnp.nan),
        eigenvalue=jnp.where(finite, low, jnp.nan),
        condition=jnp.where(finite, _ratio(largest, jnp.min(jnp.abs(eigenvalues))), jnp.nan),
        kind=kind,
        valid=(kind == Curvature.MINIMUM) | (kind == Curvature.FLAT),
    )


def _scalar(f, x):
    value = f(x)
    if value.size != 1:
        raise ValueError(f"fun(x, args) returned {value.size} numbers; expected one scalar.")
    return value[0]


def _compare(f, x, tolerance) -> DerivativeCheck:
    exact, here = jacobian(f, x), f(x)
    # The step that balances truncation against rounding for a central difference: eps^(1/3).
    eps = jnp.finfo(x.dtype).eps
    steps = eps ** (1 / 3) * jnp.maximum(1, jnp.abs(x))

    def column(k):
        h, shift = steps[k], jnp.zeros_like(x).at[k].set(steps[k], mode="promise_in_bounds")
        behind, ahead = f(x - shift), f(x + shift)
        slope = (ahead - behind) / (2 * h)
        # The slopes on the two sides of x differ by as much as a second difference does not fall with the step.
        bend = (ahead - 2 * here + behind) / h - (f(x + 2 * shift) - 2 * here + f(x - 2 * shift)) / (4 * h)
        rounding = _BENDING * eps * (jnp.abs(here) + jnp.abs(ahead) + jnp.abs(behind)) / h
        return slope, jnp.where(jnp.isfinite(bend), jnp.maximum(jnp.abs(bend) - rounding, 0), 0)

    slopes, bends = jax.vmap(column, out_axes=1)(jnp.arange(x.size))
    scale = jnp.maximum(1, jnp.max(jnp.abs(exact)))
    per_unknown = jnp.max(jnp.abs(exact - slopes) + bends, axis=0) / scale
    difference = jnp.max(per_unknown)
    return DerivativeCheck(
        difference=difference,
        worst=jnp.argmax(per_unknown).astype(jnp.int32),
        agree=_all_finite(x, exact) & (difference <= _default(tolerance, x, 1e-5, 1e-2)),
    )
