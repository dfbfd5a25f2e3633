"""Weighted sums and means of a function over many examples, some at a time: all its values may not fit in memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxopt_lite.jaxprs import largest_array
from jaxopt_lite.lanes.arithmetic import at_least_float32

__all__ = ["mean_about_first", "weighted_mean", "weighted_sum"]

_MEMORY = 1 << 26  # bytes of the largest array of a function, over the examples that are run together


def weighted_mean(f: Callable[..., PyTree], examples: PyTree, weight: Float[Array, " N"]) -> PyTree:
    """Σ_n weight_n f(example_n) / Σ_n weight_n, for `examples` with leaves `[N, ...]`."""
    total, like = _weighted_sum(f, examples, weight)
    return jax.tree.map(lambda t, leaf: (t / jnp.sum(weight.astype(t.dtype))).astype(leaf.dtype), total, like)


def mean_about_first(f: Callable[..., PyTree], examples: PyTree, weight: Float[Array, " N"]) -> PyTree:
    """`weighted_mean`, computed as the first value plus the mean difference from it.

    This loses no digits where values are close to each other and far from zero.
    """

    def wide(example):
        return jax.tree.map(lambda leaf: leaf.astype(at_least_float32(leaf.dtype)), f(example))

    like = jax.eval_shape(f, jax.tree.map(lambda leaf: leaf[0], examples))
    first = wide(jax.tree.map(lambda leaf: leaf[0], examples))
    apart = weighted_mean(lambda example: jax.tree.map(jnp.subtract, wide(example), first), examples, weight)
    return jax.tree.map(lambda one, rest, leaf: (one + rest).astype(leaf.dtype), first, apart, like)


def weighted_sum(f: Callable[..., PyTree], examples: PyTree, weight: Float[Array, " N"]) -> PyTree:
    """Σ_n weight_n f(example_n), for `examples` with leaves `[N, ...]`."""
    return jax.tree.map(lambda t, leaf: t.astype(leaf.dtype), *_weighted_sum(f, examples, weight))


def _weighted_sum(f: Callable[..., PyTree], examples: PyTree, weight: Float[Array, " N"]) -> tuple[PyTree, PyTree]:
    """The sum, in float32 if `f` gives half precision, which would lose terms; and the shapes that `f` gives."""
    closed, shape = jax.make_jaxpr(f, return_shape=True)(jax.tree.map(lambda leaf: leaf[0], examples))
    together = max(1, min(weight.shape[0], _MEMORY // max(largest_array(closed), 1)))
    chunks = -(-weight.shape[0] // together)
    together = -(-weight.shape[0] // chunks)  # all of one size, with little padding

    def split(leaf, fill):
        filling = jnp.broadcast_to(fill, (chunks * together - leaf.shape[0], *leaf.shape[1:])).astype(leaf.dtype)
        return jnp.concatenate([leaf, filling]).reshape(chunks, together, *leaf.shape[1:])

    @jax.checkpoint  # for a derivative the values are computed again, rather than kept for all examples
    def add(total, chunk):
        examples, weight = chunk
        values = jax.vmap(f)(examples)

        def added(t, v):
            return t + jnp.tensordot(weight.astype(t.dtype), v.astype(t.dtype), 1, precision="highest")

        return jax.tree.map(added, total, values), None

    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, at_least_float32(leaf.dtype)), shape)
    filled = jax.tree.map(lambda leaf: split(leaf, leaf[:1]), examples), split(weight, 0)
    total, _ = jax.lax.scan(add, zero, filled)
    return total, shape
