"""Arithmetic on any number of rows that gives each of them the same bits, whatever the others are.

The rounding of a matrix product depends on its shape, for XLA blocks and vectorizes it accordingly. So a product with T
rows is computed in tiles of a fixed number of rows, and always at least two, because XLA unrolls a loop of one step.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxopt_lite.lanes.arithmetic import positive

__all__ = ["by_tiles", "filled", "in_range", "product", "squared_distances", "tiled"]

_TILE = 256  # rows; larger ones are hardly faster, and cost more for few rows
_UNROLLED = 16  # coordinates that are summed in one pass over the distances


@partial(jax.jit, static_argnames="value")
def filled(rows: PyTree, value: float = 0.0) -> PyTree:
    """Leaves `[T, ...]` padded with a value to whole tiles, at least two of them.

    Outside `jit` the programs that follow are the same for all T up to the next whole tile.
    """

    def fill(leaf):
        size = max(2, -(-leaf.shape[0] // _TILE)) * _TILE
        return jnp.concatenate([leaf, jnp.full((size - leaf.shape[0], *leaf.shape[1:]), value, leaf.dtype)])

    return jax.tree.map(fill, rows)


def tiled(rows: PyTree) -> PyTree:
    """Leaves `[T, ...]` of whole tiles, as `[tiles, rows, ...]`."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, _TILE, *leaf.shape[1:]), rows)


def by_tiles(f: Callable[[PyTree], PyTree], rows: PyTree) -> PyTree:
    """`f(rows)` tile by tile, for an `f` that treats all rows alike and leaves of whole tiles."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.lax.map(f, tiled(rows)))


def product(a: Array, b: Array) -> Array:
    """`a @ b` at the full precision of their dtype, on every device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def in_range(x: Array) -> Array:
    """The rows, scaled to a largest entry of size 1, for functions of their direction; a row of zeros stays one."""
    return x / positive(jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=1, keepdims=True, initial=0)))


@jax.checkpoint  # a derivative computes the differences again, rather than keep them for all tiles
def squared_distances(a: Array, b: Array) -> Array:
    """`‖a_i − b_j‖²`, `[B, rows]`, for rows `[B, d]` and `[rows, d]`.

    From differences, for ‖a‖² − 2 a · b + ‖b‖² cancels where rows are close to each other and far from zero. They are
    summed coordinate by coordinate, at about the cost of the product a bᵀ and without `[B, rows, d]` numbers.
    """
    d = a.shape[1]
    steps = -(-d // _UNROLLED)

    def coordinates(x):
        return jnp.pad(x.T, ((0, steps * _UNROLLED - d), (0, 0))).reshape(steps, _UNROLLED, x.shape[0])

    def step(total, pair):
        for one, other in zip(*pair, strict=True):
            total = total + (one[:, None] - other) ** 2
        return total, None

    none = jnp.zeros((a.shape[0], b.shape[0]), jnp.result_type(a, b))
    return jax.lax.scan(step, none, (coordinates(a), coordinates(b)))[0]
