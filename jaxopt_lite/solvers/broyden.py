"""Broyden's method with a dense inverse Jacobian in every lane.

    J⁺ = J + (y − J s) sᵀ / sᵀs,   kept as B = J⁻¹ by Sherman-Morrison:   B⁺ = B + (s − B y) sᵀB / sᵀB y

with s = α p the step taken; since p = −B F(x), B y = B F(x⁺) + p is known from the product that the next direction
needs anyway. Broyden, Math. Comp. 19 (1965) 577; Dennis and Schnabel, Numerical Methods for Unconstrained Optimization
and Nonlinear Equations, section 8.1. The update is damped where it would make J nearly singular: Moré and Trangenstein,
Math. Comp. 30 (1976) 523, equation (3.4).
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Float

from jaxopt_lite.arguments import assign, flag
from jaxopt_lite.lanes.arithmetic import dot, eye, inverse, matvec, outer, positive, rematvec
from jaxopt_lite.lanes.widths import Work
from jaxopt_lite.solvers.broyden_family import Move, Secant
from jaxopt_lite.solvers.damped_newton import DampedNewton, dense_direction
from jaxopt_lite.solvers.keywords import says_what_instead
from jaxopt_lite.solvers.tolerances import equal_settings

__all__ = ["Broyden", "damping"]

_LEAST_RATIO = 0.1  # |det J⁺ / det J| stays above this


def damping(s, by):
    """θ and the denominator of the damped update J⁺ = J + θ (y − J s) sᵀ / sᵀs. θ = 1 is Broyden's own update."""
    ss = dot(s, s)
    ratio = dot(s, by) / positive(ss)
    sign = jnp.where(ratio < 0, -1, 1)
    theta = jnp.where(jnp.abs(ratio) >= _LEAST_RATIO, 1, (1 - sign * _LEAST_RATIO) / (1 - ratio))
    return theta, ss * ((1 - theta) + theta * ratio)


class _DenseInverse:
    """B as a matrix: one pass for B f, one for sᵀB, one to change B."""

    def multiple(self, scale, x):
        return scale * eye(x)

    def update(self, b, move: Move, f):
        alpha, p, _, usable = move
        bf, pb = jax.lax.optimization_barrier((matvec(b, f), rematvec(b, p)))
        s, by = alpha * p, bf + p
        theta, denominator = damping(s, by)
        usable &= denominator != 0
        weight = jnp.where(usable, theta * alpha / jnp.where(usable, denominator, 1), 0)
        u = jnp.where(usable, weight * (s - by), 0)
        pb = jnp.where(usable, pb, 0)
        u, pb = jax.lax.optimization_barrier((u, pb))
        return b + outer(u, pb), -(bf + u * dot(pb, f))

    def refresh(self, problem, x, b):
        f, j = jax.lax.optimization_barrier(problem.value_and_jacobian(x))
        b = inverse(j)
        return f, b, -matvec(b, f)


@says_what_instead
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Broyden:
    """Settings of Broyden's method. Each problem holds n² numbers; beyond a few hundred unknowns use `LimitedBroyden`.

    Args:
        atol: a problem has converged when ‖F(x)‖∞ ≤ atol + rtol ‖F(x0)‖∞. A number or one per problem, `[B]`; traced,
            so changing it compiles nothing. Default 1e-9 in float64, 1e-5 in float32.
        rtol: the relative part. Default 0 in float64, 1e-6 in float32.
        max_steps: the most iterations (accepted steps), a number or one per problem. Default 2,000, or 20 for each
            unknown if that is more.
        jacobian: the first Jacobian: `"autodiff"`, the true one, or `"identity"`, which is I as in Broyden's paper, but
            −I where the derivative of F along F points against F.
        rescue: whether problems that make no progress have the true Jacobian recomputed, and those that still fail go
            on with a damped Newton method. With `rescue=False` and `jacobian="identity"`, this is the plain method.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> a = jnp.array([[4.0], [9.0], [16.0]])
        >>> sol = jol.root(lambda x, a: x**2 - a, jnp.ones((3, 1)), a)
        >>> [round(float(x), 3) for x in sol.x[:, 0]]
        [2.0, 3.0, 4.0]
    """

    kind: ClassVar[Literal["root"]] = "root"
    work: ClassVar[Work] = Work.RANK_ONE

    atol: Float[ArrayLike, "*B"] | None = None
    rtol: Float[ArrayLike, "*B"] | None = None
    max_steps: ArrayLike | None = None
    jacobian: str = field(default="autodiff", metadata={"static": True})
    rescue: bool = field(default=True, metadata={"static": True})

    __eq__ = equal_settings

    def __post_init__(self):
        if self.jacobian not in ("autodiff", "identity"):
            raise ValueError(f'jacobian={self.jacobian!r}: expected "autodiff" or "identity".')
        assign(self, rescue=flag("rescue", self.rescue))

    def methods(self):
        """The iterations, for the engine: each takes on the lanes that the one before it could not solve."""
        secant = Secant(_DenseInverse(), self.jacobian == "autodiff", self.rescue)
        damped = DampedNewton(dense_direction, keeps_jacobian=True)
        return (secant, damped) if self.rescue else (secant,)
