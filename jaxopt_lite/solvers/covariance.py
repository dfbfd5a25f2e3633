"""How well the data determine the unknowns of a least-squares fit: covariance, standard errors, intervals.

With J the Jacobian of the residuals at the answer, as the loss weighs them, the covariance is s² (JᵀJ)⁻¹, where
s² = 2 cost / (m − n), which for the linear loss is ‖F‖² / (m − n). J may not have full rank: then some combinations of
the unknowns change no residual, and no unknown with a part in one is determined. The singular values of J with columns
scaled to length one tell which, whatever the units: J D⁻¹ = U Σ Vᵀ.

Sources: Bates and Watts, Nonlinear Regression Analysis and Its Applications (1988), sections 2.1 and 2.3; Golub and
Van Loan, Matrix Computations, 4th ed., section 5.5, for the rank.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from jaxopt_lite.lanes.arithmetic import at_least_float32, positive
from jaxopt_lite.lanes.calls import call
from jaxopt_lite.lanes.settings import in_own_settings, unchecked_numbers

__all__ = ["Covariance", "covariance_of"]

# Singular values below `_ROUNDING` · eps · √m of the largest may be pure rounding (m · eps where that is less, as in
# NumPy). Measured in float32 up to m = 400,000: a singular value of eps √m has two correct digits, one of three times
# that has three.
_ROUNDING = 10


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Covariance:
    """The covariance of the unknowns of every fit, `Solution.covariance`. Every leaf has the batch axis first.

    Attributes:
        matrix: `[B, n, n]`, with the unknowns in the order of the leaves of `x`. Where the data do not determine an
            unknown, infinite on the diagonal and zero in the rest of its row and column.
        standard_errors: the square roots of its diagonal, a pytree like `x`.
        determined: whether the data determine each unknown at all, a pytree like `x`.
        x: the answers.
        axes: `[B, n, n]`, principal axes as columns, each one standard deviation long.
        free: `[B, n]`, which of the axes the data do not determine at all; their length means nothing.
        degrees_of_freedom: m − n if the size of the errors is estimated from the residuals, else None.
    """

    matrix: Float[Array, "*B n n"]
    standard_errors: PyTree
    determined: PyTree
    x: PyTree
    axes: Float[Array, "*B n n"]
    free: Bool[Array, "*B n"]
    degrees_of_freedom: int | None = field(metadata={"static": True})

    def propagate(self, fun: Callable, args: PyTree = None) -> tuple[PyTree, PyTree]:
        """The value and the standard error of a function of the unknowns, to first order in them.

        Args:
            fun: `fun(x)` of one fit's unknowns, or `fun(x, args)`; any pytree of numbers.
            args: with a batch axis where the fits have one.

        Returns:
            Two pytrees like what `fun` returns. An error is infinite where the data do not determine the value; they
            may determine a sum, say, but neither of its terms.

        Raises:
            ValueError: `args` lack the batch axis of the fits.
            TypeError: `fun` takes other arguments, or returns integers, which have no derivative.

        Example:
            >>> import jax.numpy as jnp, jaxopt_lite as jol
            >>> t = jnp.linspace(0.0, 4.0, 20)
            >>> y = 3 * jnp.exp(-0.7 * t) + 0.1 * jnp.cos(9 * t)
            >>> misfit = lambda b: b[0] * jnp.exp(-b[1] * t) - y
            >>> fit = jol.least_squares(misfit, jnp.ones(2), batched=False)
            >>> half_life, error = fit.covariance().propagate(lambda b: jnp.log(2) / b[1])
            >>> f"{half_life:.2f} ± {error:.2f}"
            '0.98 ± 0.03'
        """
        batch, one = self.matrix.shape[:-2], partial(_propagated, fun)
        for path, leaf in jax.tree_util.tree_leaves_with_path(args):
            if np.shape(leaf)[: len(batch)] != batch:
                raise ValueError(
                    f"args{jax.tree_util.keystr(path)} has shape {np.shape(leaf)}; expected the batch axis of the fits "
                    f"first, {batch}. Let fun close over what all fits share."
                )
        for _ in batch:
            one = jax.vmap(one)
        return one(self.x, args, self.axes, self.free)

    def interval(self, fun: Callable, args: PyTree = None, *, level: float = 0.95) -> tuple[PyTree, PyTree]:
        """The ends of a confidence interval of a function of the unknowns, to first order in them.

        Args:
            fun: as for `propagate`.
            args: as for `propagate`.
            level: the probability that the interval holds the true value, by Student's t distribution where the size
                of the errors is estimated, by the normal one with `absolute_sigma`.

        Returns:
            Two pytrees like what `fun` returns: the lower and the upper ends.

        Raises:
            ValueError: a level that is not between 0 and 1.
        """
        if not _is_probability(level):
            raise ValueError(f"level={level!r:.80}: expected a probability between 0 and 1, such as 0.95.")
        freedom = math.inf if self.degrees_of_freedom is None else self.degrees_of_freedom
        times = float(scipy.stats.t.ppf((1 + float(level)) / 2, freedom))
        value, error = self.propagate(fun, args)
        with unchecked_numbers():
            lower = jax.tree.map(lambda value, error: value - times * error, value, error)
            return lower, jax.tree.map(lambda value, error: value + times * error, value, error)


def _is_probability(level: Any) -> bool:
    is_number = isinstance(level, Real) or (isinstance(level, np.ndarray | jax.Array) and level.ndim == 0)
    return is_number and not isinstance(level, Tracer) and 0 < float(level) < 1


def covariance_of(
    x: PyTree, triangle: Float[Array, "*B n n"], squares: Float[Array, "*B"], residuals: int, absolute_sigma: bool
) -> Covariance:
    """The covariance of fits.

    Args:
        x: the unknowns.
        triangle: R of J = QR.
        squares: the sums of the squares of the residuals.
        residuals: m, how many each fit has.
        absolute_sigma: whether the residuals are in units of their own standard deviations.

    Raises:
        ValueError: no more residuals than unknowns, which leaves nothing to estimate the size of the errors from.
    """
    n = triangle.shape[-1]
    freedom = None if absolute_sigma else residuals - n
    if freedom is not None and freedom <= 0:
        raise ValueError(
            f"{residuals} residual{'s' * (residuals > 1)} and {n} unknown{'s' * (n > 1)} leave no degree of freedom to "
            "estimate the size of the errors from. Divide the residuals by the standard deviations of the data and "
            "pass absolute_sigma=True."
        )
    size = max(residuals, n)
    with unchecked_numbers():  # infinity is intended
        return _covariance(x, triangle, squares, freedom, min(size, _ROUNDING * math.sqrt(size)))


@in_own_settings
@partial(jax.jit, static_argnames=("freedom", "rounding"))
def _covariance(x: PyTree, triangle: Array, squares: Array, freedom: int | None, rounding: float) -> Covariance:
    eps = float(jnp.finfo(triangle.dtype).eps)
    precise = at_least_float32(triangle.dtype)
    triangle, squares = triangle.astype(precise), squares.astype(precise)
    lengths = jax.lax.stop_gradient(positive(jnp.linalg.norm(triangle, axis=-2)))  # its derivative would cancel
    axes, free = _principal_axes(triangle / lengths[..., None, :], rounding * eps)
    # How much of an unknown lies along the free axes. Rounding alone makes this a little more than zero.
    part = jnp.sum(jnp.where(free[..., None, :], axes, 0) ** 2, axis=-1)
    determined = part <= eps
    scale = jnp.sqrt(squares / freedom)[..., None, None] if freedom else 1
    axes = axes / lengths[..., :, None] * jnp.where(free[..., None, :], 1, scale)
    known = jnp.where(free[..., None, :], 0, axes)
    both = determined[..., :, None] & determined[..., None, :]
    covariance = jnp.where(both, known @ jnp.swapaxes(known, -1, -2), 0)
    diagonal = jnp.where(determined, jnp.diagonal(covariance, axis1=-2, axis2=-1), jnp.inf)
    covariance = jnp.where(jnp.eye(diagonal.shape[-1], dtype=bool), diagonal[..., None], covariance)
    like = partial(_like, x, triangle.ndim - 2)
    return Covariance(covariance, like(jnp.sqrt(diagonal)), like(determined), x, axes, free, freedom)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _principal_axes(m: Float[Array, "*B n n"], least: float) -> tuple[Float[Array, "*B n n"], Bool[Array, "*B n"]]:
    """A = V Σ⁻¹ of M = U Σ Vᵀ, and which σ count as zero, at most `least` of the largest: their columns are those of V.

    Where singular values are equal, A has no derivative. But A Aᵀ has one, and only A Aᵀ has a meaning; so the
    derivative used is that of M⁺U with U held fixed.

    Source: Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973) 413, for the derivative of M⁺ = A Uᵀ.
    """
    _, sigma, vt = jnp.linalg.svd(m)
    free = ~(sigma > least * sigma[..., :1])
    return jnp.swapaxes(vt, -1, -2) / jnp.where(free, 1, sigma)[..., None, :], free


@_principal_axes.defjvp
def _change_of_axes(least: float, primals, tangents):
    (m,), (dm,) = primals, tangents
    axes, free = _principal_axes(m, least)
    a = jnp.where(free[..., None, :], 0, axes)
    u, transposed = m @ a, partial(jnp.swapaxes, axis1=-1, axis2=-2)
    turned = transposed(dm) @ u @ (transposed(a) @ a)
    change = turned - a @ (transposed(u) @ (m @ turned + dm @ a))
    return (axes, free), (change, np.zeros(free.shape, jax.dtypes.float0))


def _like(x: PyTree, axes: int, rows: Array) -> PyTree:
    """Rows `[*B, n]` as a pytree like x, whose leaves have this number of batch axes."""
    leaves, tree = jax.tree.flatten(x)
    ends = np.cumsum([math.prod(leaf.shape[axes:]) for leaf in leaves])
    parts = jnp.split(rows, ends[:-1].tolist(), axis=-1)
    return jax.tree.unflatten(tree, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])


def _propagated(fun: Callable, x: PyTree, args: PyTree, axes: Float[Array, "n n"], free: Bool[Array, " n"]):
    """The value of a function of one fit's unknowns, and its standard error."""
    flat, unravel = ravel_pytree(x)
    value = call(fun, x, args)
    for leaf in map(jnp.asarray, jax.tree.leaves(value)):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"fun returned numbers of {leaf.dtype}, which have no derivative; expected floating point.")
    at = lambda v: call(fun, unravel(v.astype(flat.dtype)), args)  # noqa: E731
    there = flat.astype(axes.dtype)  # which is that of a fit in float64 only where JAX has it enabled still
    change = jax.vmap(lambda axis: jax.jvp(at, (there,), (axis,))[1], in_axes=1)(axes.astype(there.dtype))
    lengths = jnp.linalg.norm(axes, axis=0)

    @in_own_settings
    def error(change, value):
        precise = change.astype(jnp.promote_types(change.dtype, axes.dtype))
        each = jnp.reshape(precise, (len(free), -1)) ** 2
        scale = jnp.sum(each, axis=0) / jnp.maximum(jnp.sum(lengths**2), jnp.finfo(flat.dtype).tiny)
        lost = jnp.any(free[:, None] & (each > jnp.finfo(flat.dtype).eps * scale * (lengths**2)[:, None]), axis=0)
        total = jnp.sqrt(jnp.sum(jnp.where(free[:, None], 0, each), axis=0))
        return jnp.reshape(jnp.where(lost, jnp.inf, total), jnp.shape(value))

    with unchecked_numbers():
        return value, jax.tree.map(error, change, value)
