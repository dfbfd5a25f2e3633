"""Derivatives of a solution by the implicit function theorem.

A solution x(θ) satisfies G(x, θ) = 0, with G = F for a root and G = ∇f for a minimum. Hence dx = −(∂G/∂x)⁻¹ (∂G/∂θ) dθ,
whatever iterations found x. The rule is linear in dθ, so JAX transposes it for reverse mode.

Source: Krantz and Parks, The Implicit Function Theorem; Blondel et al., "Efficient and modular implicit
differentiation", NeurIPS 2022, equation (2).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["with_implicit_derivatives"]

_MATRIX_NUMBERS = 1 << 22  # the most numbers of Jacobians held at once


def with_implicit_derivatives(solve: Callable, condition: Callable) -> Callable:
    """`solve(x0, mapped, shared) -> (x, success, rest)` with the derivative of `x` with respect to mapped and shared.

    Args:
        solve: the batch solve; x is `[B, n]`.
        condition: `condition(x, mapped, shared) -> [n]` for one problem, zero at a solution.

    The derivative of a problem that was not solved is NaN: there is no solution to differentiate, and a zero would be
    a silent lie.
    """

    @jax.custom_jvp
    def solved(x0, mapped, shared):
        return solve(x0, mapped, shared)

    @solved.defjvp
    def rule(primals, tangents):
        x0, mapped, shared = primals
        x, success, rest = solved(x0, mapped, shared)
        _, d_mapped, d_shared = tangents

        def for_one(problem):
            x, success, mapped, d_mapped = problem
            at = lambda mapped, shared: condition(x, mapped, shared)  # noqa: E731
            _, change = jax.jvp(at, (mapped, shared), (d_mapped, d_shared))
            matrix = jax.lax.stop_gradient(jax.jacfwd(condition)(x, mapped, shared))
            dx = -jnp.linalg.solve(matrix, change)
            return dx * jnp.where(success, 1, jnp.nan).astype(dx.dtype)

        n = x.shape[1]
        together = max(1, min(x.shape[0], _MATRIX_NUMBERS // (n * n)))
        dx = jax.lax.map(for_one, (x, success, mapped, d_mapped), batch_size=together)
        return (x, success, rest), (dx, _no_tangent(success), jax.tree.map(_no_tangent, rest))

    return solved


def _no_tangent(leaf):
    """The zero tangent of an output that does not vary smoothly."""
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
