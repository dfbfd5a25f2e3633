"""BFGS with a dense inverse Hessian in every lane.

    H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ,   ρ = 1 / yᵀs

Nocedal and Wright, Numerical Optimization, 2nd ed., equation (6.17), expanded to a rank-two update; the first update
scales the identity by yᵀs / yᵀy, equation (6.20).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Float

from jaxopt_lite.lanes.arithmetic import dot, eye, matvec, outer
from jaxopt_lite.solvers.quasi_newton import QuasiNewton, Step

__all__ = ["BFGS"]


class _DenseInverse:
    """H as a matrix. An update and the next direction take one pass for H∇f and one to change H."""

    def identity(self, x):
        return eye(x)

    def update(self, h, step: Step, g, p):
        s, y, usable, first = step
        sy = dot(s, y)
        scale = jnp.where(usable & first, sy / jnp.where(usable, dot(y, y), 1), 1)
        hg = scale * jax.lax.optimization_barrier(matvec(h, g))
        hy = jnp.where(usable, hg + scale * p, 0)  # H y = H g⁺ − H g, and H g = −p is known
        rho = jnp.where(usable, 1 / jnp.where(usable, sy, 1), 0)
        a = rho * (1 + rho * dot(y, hy)) * s - rho * hy
        b = rho * hy
        a, b, hg = jax.lax.optimization_barrier((a, b, hg))
        h = scale * h + outer(s, a) - outer(b, s)
        return h, -(hg + s * dot(a, g) - b * dot(s, g))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BFGS:
    """Settings of the BFGS minimiser. A lane carries n² numbers; beyond a few hundred unknowns use `LBFGS`.

    Args:
        atol: a lane has converged when ‖∇f(x)‖∞ ≤ atol + rtol ‖∇f(x0)‖∞. A number or one per problem, `[B]`; traced,
            so that changing it compiles nothing. Default 1e-6 in float64, 1e-3 in float32.
        rtol: the relative part. Default 0.
        max_steps: the most iterations (accepted steps), a number or one per problem.

    Example:
        >>> import jax.numpy as jnp, jaxopt_lite as jol
        >>> sol = jol.minimize(lambda x, args: jnp.sum((x - 1.0) ** 2), jnp.zeros((1000, 2)), solver=jol.BFGS())
        >>> bool(sol.success.all())
        True
    """

    atol: Float[ArrayLike, "*B"] | None = None
    rtol: Float[ArrayLike, "*B"] | None = None
    max_steps: ArrayLike = 1000

    def methods(self) -> tuple[QuasiNewton]:
        """The iteration, for the engine."""
        return (QuasiNewton(_DenseInverse()),)

    def lane_numbers(self, n: int) -> int:
        """How many numbers a lane's state holds, about: it sets the width of a tile."""
        return n * n + 6 * n
