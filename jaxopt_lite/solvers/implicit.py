"""Derivatives of a solution by the implicit function theorem.

A solution x(θ) satisfies G(x, θ) = 0, with G = F for a root and G = ∇f for a minimum. Hence dx = −(∂G/∂x)⁻¹ (∂G/∂θ) dθ,
whatever iterations found x. The rule is linear in dθ, so JAX transposes it for reverse mode.

Source: Blondel et al., "Efficient and modular implicit differentiation", NeurIPS 2022, equation (2).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["known", "with_implicit_derivatives"]

_MATRIX_NUMBERS = 1 << 22  # the most numbers of Jacobians held at once


def with_implicit_derivatives(solve: Callable, condition: Callable, is_mapped: tuple[bool, ...]) -> Callable:
    """`solve(leaves, others) -> (x, solved, rest)` with the derivative of `x` with respect to the leaves.

    Args:
        solve: the batch solve; x is `[B, n]`, `solved` is `[B]`.
        condition: `condition(x, leaves) -> [n]` for one problem, zero at a solution.
        is_mapped: which leaves have a batch axis, first.

    The derivative of a problem that was not solved is NaN: there is no solution to differentiate, and a zero would be
    a silent lie. The others (the start, the tolerances) have no influence on a solution, and no derivative.
    """

    @jax.custom_jvp
    def solution(leaves, others):
        return solve(leaves, others)

    @solution.defjvp
    def rule(primals, tangents):
        leaves, others = primals
        x, solved, rest = solution(leaves, others)
        dx = _tangent(condition, is_mapped, x, solved, leaves, tangents[0])
        return (x, solved, rest), (dx, *jax.tree.map(_no_tangent, (solved, rest)))

    return solution


def known(fun: Callable, values) -> Callable:
    """`fun`, of arguments at which its values are known: it is evaluated for its derivatives only."""

    @jax.custom_jvp
    def given(values, *arguments):
        return values

    @given.defjvp
    def rule(primals, tangents):
        return primals[0], jax.jvp(fun, primals[1:], tangents[1:])[1]

    return partial(given, values)


def _tangent(condition, is_mapped, x, solved, leaves, d_leaves):
    """dx for every problem, as many matrices at a time as memory allows."""
    varying = [k for k, d in enumerate(d_leaves) if d.dtype != jax.dtypes.float0]
    if not varying:
        return jnp.zeros_like(x)

    def for_one(problem):
        x, solved, mapped, d_mapped = problem
        all_leaves = _fill(leaves, mapped)
        d = _fill(tuple(d_leaves[k] for k in varying), d_mapped, varying)

        def moved(values):
            return condition(x, _fill(all_leaves, dict(zip(varying, values, strict=True))))

        _, change = jax.jvp(moved, (tuple(all_leaves[k] for k in varying),), (d,))
        matrix = jax.jacfwd(condition)(x, all_leaves)
        dx = -jnp.linalg.solve(matrix, change)
        return dx * jnp.where(solved, 1, jnp.nan).astype(dx.dtype)

    mapped = {k: leaf for k, leaf in enumerate(leaves) if is_mapped[k]}
    d_mapped = {k: d_leaves[k] for k in varying if is_mapped[k]}
    size, n = x.shape
    together = max(1, min(size, _MATRIX_NUMBERS // (n * n)))
    return jax.lax.map(for_one, (x, solved, mapped, d_mapped), batch_size=together)


def _fill(leaves: tuple, replaced: dict, positions=None) -> tuple:
    """The leaves with some replaced; `positions` are the places the leaves stand for."""
    positions = range(len(leaves)) if positions is None else positions
    return tuple(replaced.get(k, leaf) for k, leaf in zip(positions, leaves, strict=True))


def _no_tangent(leaf):
    """The zero tangent of an output that does not vary smoothly."""
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
