"""Sums and means over examples of something large: some at a time, so that the memory does not grow with them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxopt_lite.jaxprs import largest_array
from jaxopt_lite.specialists.tasks import Task, buckets

__all__ = ["of_tasks", "weighted_mean", "weighted_sum"]

_MEMORY = 1 << 26  # bytes of the largest array of a function, for the examples that are run together


def weighted_mean(f: Callable[..., PyTree], examples: PyTree, weight: Float[Array, " N"]) -> PyTree:
    """Σ_n weight_n f(example_n) / Σ_n weight_n, for `examples` with leaves `[N, ...]`."""
    total = weighted_sum(f, examples, weight)
    return jax.tree.map(lambda leaf: leaf / jnp.sum(weight).astype(leaf.dtype), total)


def weighted_sum(f: Callable[..., PyTree], examples: PyTree, weight: Float[Array, " N"]) -> PyTree:
    """Σ_n weight_n f(example_n), for `examples` with leaves `[N, ...]`."""
    closed, shape = jax.make_jaxpr(f, return_shape=True)(jax.tree.map(lambda leaf: leaf[0], examples))
    together = max(1, min(weight.shape[0], _MEMORY // max(largest_array(closed), 1)))
    chunks = -(-weight.shape[0] // together)
    together = -(-weight.shape[0] // chunks)  # all of one size, with little filling

    def split(leaf, fill):
        filling = jnp.broadcast_to(fill, (chunks * together - leaf.shape[0], *leaf.shape[1:])).astype(leaf.dtype)
        return jnp.concatenate([leaf, filling]).reshape(chunks, together, *leaf.shape[1:])

    @jax.checkpoint  # for a derivative the values are computed again, rather than kept for all examples
    def add(total, chunk):
        examples, weight = chunk
        values = jax.vmap(f)(examples)

        def added(t, v):
            return t + jnp.tensordot(weight.astype(v.dtype), v, 1, precision="highest")

        return jax.tree.map(added, total, values), None

    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    filled = jax.tree.map(lambda leaf: split(leaf, leaf[:1]), examples), split(weight, 0)
    total, _ = jax.lax.scan(add, zero, filled)
    return total


def of_tasks(f: Callable[[np.ndarray, Task], PyTree], tasks: list[Task]) -> PyTree:
    """`f(places, task)` of each bucket of tasks, whose leaves are `[t, ...]`, in the order of the tasks: `[T, ...]`."""
    done = [(places, f(places, task)) for places, task in buckets(tasks)]
    rows = np.argsort(np.concatenate([places for places, _ in done]))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[rows], *(values for _, values in done))
