"""BFGS with a dense inverse Hessian in every lane.

    H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ,   ρ = 1 / yᵀs

Nocedal and Wright, Numerical Optimization, 2nd ed., equation (6.17); the first update scales the identity by
yᵀs / yᵀy, equation (6.20). It is evaluated without s and y. With p = −H ∇f(x), q = H ∇f(x⁺) and the slopes
φ' = pᵀ∇f before and after the step s = α p,

    yᵀs = α (φ'(α) − φ'(0)),   H y = q + p,   yᵀH y = qᵀ∇f(x⁺) + 2 φ'(α) − φ'(0),

so that all but one of the products are known from the line search, and

    H⁺ = H + p wᵀ + w pᵀ,   w = λ (½ (α + λ yᵀH y − 2) p − q),   λ = 1 / (φ'(α) − φ'(0)).

H stays symmetric, up to rounding.

Where bounds bend the direction, H y is computed as a separate product, and yᵀy counts only the unknowns that have
moved. An unknown k is taken out of the model by H ← H − h hᵀ / h_kk, with h column k of H: for the others, this is the
inverse of their block of H⁻¹. For each unit by which its own step then differs from Newton's, the others' change by
h / h_kk.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Float

from jaxopt_lite.arguments import assign, flag_or_none
from jaxopt_lite.lanes.arithmetic import at, dot, eye, matvec, outer, positive
from jaxopt_lite.lanes.widths import Work
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.quasi_newton import Move, QuasiNewton
from jaxopt_lite.solvers.tolerances import equal_settings
from jaxopt_lite.solvers.trust_region import TrustRegion

__all__ = ["BFGS"]

_IN_REGISTERS = 32  # the most lanes of a row for which LLVM keeps in registers what a pass over H needs


class _DenseInverse:
    """H as a matrix. A step takes one pass over it for H∇f and one to change it."""

    is_symmetric = True

    def identity(self, x):
        return eye(x)

    def update(self, h, move: Move, g):
        alpha, p, _, slope, slope_after, usable, first = move
        hg, usable = jax.lax.optimization_barrier(matvec(h, g)), _held(usable)
        qg = dot(hg, g)
        y_slope = jnp.where(usable, slope_after - slope, 1)  # yᵀp
        yhy = qg + 2 * slope_after - slope
        scale = jnp.where(first & usable, alpha * y_slope / positive(yhy), 1)
        lam = jnp.where(usable, 1 / y_slope, 0)
        half = lam / 2 * (alpha + scale * (lam * yhy - 2))
        lam, half, scale = jax.lax.optimization_barrier((lam, half, scale))
        q = scale * hg
        p = _held(jnp.where(usable, p, 0))
        w = jax.lax.optimization_barrier(jnp.where(usable, half * p - lam * q, 0))
        wg = _held(half * slope_after - lam * scale * qg)
        h = scale * h + outer(p, w) + outer(w, p)
        return h, -(q + p * wg + w * slope_after)

    def learn(self, h, move: Move, g):
        alpha, p, g_before, slope, slope_after, usable, first = move
        y, y_slope = g - g_before, jnp.where(usable, slope_after - slope, 1)
        y_moved = jnp.where(p == 0, 0, y)
        square = dot(y_moved, y_moved)
        scale = jnp.where(first & usable, alpha * y_slope / positive(square), 1)
        hy = scale * matvec(h, y)
        lam = jnp.where(usable, 1 / y_slope, 0)
        p = jnp.where(usable, p, 0)
        w = jnp.where(usable, lam / 2 * (alpha + lam * dot(hy, y)) * p - lam * hy, 0)
        p, w, scale = jax.lax.optimization_barrier((p, w, scale))
        return scale * h + outer(p, w) + outer(w, p)

    def newton(self, h, g, held, moved):
        def leave(k, h, p):
            column = at(h, k)
            pivot = at(column, k)
            weight = jnp.where(at(held, k) & (pivot > 0), 1 / positive(pivot), 0)
            column, weight = jax.lax.optimization_barrier((column, weight))
            return h - outer(column, weight * column), p + column * (weight * (at(moved, k) - at(p, k)))

        def each(k, carry):
            return jax.lax.cond(jnp.any(at(held, k)), partial(leave, k), lambda *same: same, *carry)

        _, p = jax.lax.fori_loop(0, g.shape[0], each, (h, -matvec(h, g)))
        return jnp.where(held, moved, p)


def _held(row):
    """The row. If it has many lanes, it is computed once, not again for each entry of H."""
    return jax.lax.optimization_barrier(row) if row.ndim and row.shape[-1] > _IN_REGISTERS else row


@says_what_instead
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BFGS:
    """Settings of the BFGS minimizer. Each problem holds n² numbers; beyond a few hundred unknowns use `LBFGS`.

    Args:
        atol: a problem has converged when ‖∇f(x)‖∞ ≤ atol + rtol ‖∇f(x0)‖∞; with bounds, only components that no bound
            holds count. A number or one per problem, `[B]`; traced, so changing it compiles nothing. Default 1e-6 in
            float64, 1e-3 in float32.
        rtol: the relative part. Default 0.
        max_steps: the most iterations (accepted steps), a number or one per problem. Default 1,000, or 20 for each
            unknown if that is more.
        rescue: whether problems that stall, or run off to where `fun` is flat, go on with Newton's method in a trust
            region, with the true Hessian. It needs a function that JAX can differentiate twice, at most 32 unknowns and
            no bounds. None, the default: in a plain call on a CPU, where that method is compiled only once some problem
            needs it. True: also in `jax.jit` and `multistart`, which then take three times as long to compile. False:
            never.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> bowl = lambda x, args: jnp.sum((x - 1.0) ** 2)
        >>> sol = jol.minimize(bowl, jnp.zeros((1000, 2)), solver=jol.BFGS())
        >>> bool(sol.success.all())
        True
    """

    kind: ClassVar[Literal["minimum"]] = "minimum"
    work: ClassVar[Work] = Work.RANK_TWO

    atol: Float[ArrayLike, "*B"] | None = None
    rtol: Float[ArrayLike, "*B"] | None = None
    max_steps: ArrayLike | None = None
    rescue: bool | None = field(default=None, metadata={"static": True})

    __eq__ = equal_settings

    def __post_init__(self):
        assign(self, rescue=flag_or_none("rescue", self.rescue))

    def methods(self):
        """The iterations, for the engine: each takes on the lanes that the one before it could not solve."""
        first = QuasiNewton(_DenseInverse())
        return (first,) if self.rescue is False else (first, TrustRegion())
