"""Linear algebra on a row of lanes: the same textbook lines for one problem and for a tile of `L` problems.

A scalar of one problem is a row of lanes, `[L]`; a vector is `[n, L]`, a matrix `[m, n, L]`. The lane axis is always
last, so every operation is elementwise over lanes and no lane can touch another. Dropping the axis everywhere gives
the same code for one problem: `[]`, `[n]`, `[m, n]`.

On the CPU, sums over the unknowns run as loops over whole rows of lanes. XLA emits a plain reduction without vector
instructions there, and fuses an unrolled one into every consumer, which then recomputes it for each matrix entry; a
loop is neither scalar nor fused, and inside a solver's native loop it costs nothing extra. On a GPU or TPU it would be
a launch for every round, and a reduction is one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

__all__ = ["at", "dot", "eye", "fold", "inverse", "matvec", "max_abs", "on_cpu", "outer", "rematvec", "take_where"]


def dot(u: Float[Array, "n *L"], v: Float[Array, "n *L"]) -> Float[Array, "*L"]:
    """uᵀv in every lane."""
    if not _in_turn(u):
        return jnp.sum(u * v, axis=0)
    return fold(lambda k, total: total + at(u, k, 0) * at(v, k, 0), u.shape[0], jnp.zeros_like(u[0]))


def max_abs(v: Float[Array, "n *L"]) -> Float[Array, "*L"]:
    """The largest absolute entry in every lane; NaN if any entry is."""
    if not _in_turn(v):
        return jnp.max(jnp.abs(v), axis=0, initial=0)
    return fold(lambda k, largest: jnp.maximum(largest, jnp.abs(at(v, k, 0))), v.shape[0], jnp.zeros_like(v[0]))


def on_cpu() -> bool:
    """Whether what is traced now will run on the CPU, unless it is exported for another platform."""
    return jax.default_backend() == "cpu"


def _in_turn(v: Float[Array, "n *L"]) -> bool:
    """Whether sums over n run as loops over rows: on the CPU, where there are rows."""
    return on_cpu() and v[0].size > 1


def outer(u: Float[Array, "m *L"], v: Float[Array, "n *L"]) -> Float[Array, "m n *L"]:
    """u vᵀ in every lane."""
    return u[:, None] * v[None, :]


def eye(like: Float[Array, "n *L"]) -> Float[Array, "n n *L"]:
    """The identity in every lane, of the size, dtype and lanes of a vector."""
    n = like.shape[0]
    identity = jnp.eye(n, dtype=like.dtype).reshape((n, n) + (1,) * (like.ndim - 1))
    return jnp.broadcast_to(identity, (n, *like.shape))


def matvec(a: Float[Array, "m n *L"], v: Float[Array, "n *L"]) -> Float[Array, "m *L"]:
    """A v in every lane: the columns of A, each times one entry of v, added up."""
    return _combine(a, v, axis=1)


def rematvec(a: Float[Array, "m n *L"], u: Float[Array, "m *L"]) -> Float[Array, "n *L"]:
    """Aᵀ u in every lane: the rows of A, each times one entry of u, added up."""
    return _combine(a, u, axis=0)


def _combine(a: Array, weights: Array, axis: int) -> Array:
    """Σₖ weightsₖ · (slice k of `a` along `axis`), a few slices a round."""
    if not _in_turn(a[0]):
        return jnp.sum(a * jnp.expand_dims(weights, 1 - axis), axis=axis)
    start = jnp.zeros((*a.shape[:axis], *a.shape[axis + 1 :]), a.dtype)
    return fold(lambda k, total: total + at(a, k, axis) * at(weights, k, 0)[None], a.shape[axis], start)


def fold(body: Callable[[Any, Any], Any], count: int, start: Any) -> Any:
    """`start`, then `body(k, ...)` for every k below `count`: a loop of a few at a time."""
    together = next(k for k in (5, 4, 3, 2, 1) if count % k == 0)

    def few(round_, carry):
        for k in range(together):
            carry = body(round_ * together + k, carry)
        return carry

    return jax.lax.fori_loop(0, count // together, few, start)


def at(a: Array, index, axis: int = 0) -> Array:
    """Slice `index` of `a` along `axis`; `index` is in bounds by the loop it comes from."""
    return jax.lax.dynamic_index_in_dim(a, index, axis, keepdims=False)


def inverse(a: Float[Array, "n n *L"]) -> Float[Array, "n n *L"]:
    """A⁻¹ in every lane.

    On the CPU by Gauss-Jordan elimination in place with threshold pivoting, which can be part of a native function.
    Rows are exchanged only where the diagonal entry is less than a tenth of the largest below it, so that most tiles
    never exchange any. A singular lane becomes non-finite and leaves its neighbours alone. Source: Golub and Van Loan,
    Matrix Computations, 4th ed., section 3.4; Duff, Erisman and Reid, Direct Methods for Sparse Matrices, 2nd ed.,
    section 5.2, for the threshold.

    Of one matrix without lanes by the same elimination, in straight lines of code that a kernel can be made of.
    """
    if a.ndim == 2:
        return _straight_inverse(list(jnp.asarray(a)))
    if not on_cpu():  # batched LU of the platform's library
        return jnp.moveaxis(jnp.linalg.inv(jnp.moveaxis(a, (0, 1), (-2, -1))), (-2, -1), (0, 1))
    n = a.shape[0]
    rows = jnp.arange(n, dtype=jnp.int32).reshape((n,) + (1,) * (a.ndim - 2))

    def eliminate(k, carry):
        m, order = carry
        pivot = _pivot(at(m, k, 1), rows, k)
        m, order = jax.lax.cond(jnp.any(pivot != k), partial(_exchange, rows, k), lambda p, *c: c, pivot, m, order)
        row, column = at(m, k, 0), at(m, k, 1)
        row = jnp.where(rows == k, 1, row) / at(row, k)
        column = jnp.where(rows == k, -1, column)
        row, column = jax.lax.optimization_barrier((row, column))
        elsewhere = (rows != k)[:, None] & (rows != k)[None]
        return jnp.where(elsewhere, m, 0) - outer(column, row), order

    order = jnp.broadcast_to(rows, a.shape[1:])
    m, order = jax.lax.fori_loop(0, n, eliminate, (a, order))
    # Exchanged rows of A are exchanged columns of the inverse.
    return jax.lax.cond(jnp.any(order != rows), _put_columns, lambda m, _: m, m, order)


def _straight_inverse(rows: list[Array]) -> Array:
    """Gauss-Jordan elimination with partial pivoting, every exchange of rows a selection."""
    n, exchanges = len(rows), []
    for k in range(n):
        for i in range(k + 1, n):
            larger = jnp.abs(rows[i][k]) > jnp.abs(rows[k][k])
            rows[k], rows[i] = jnp.where(larger, rows[i], rows[k]), jnp.where(larger, rows[k], rows[i])
            exchanges.append((k, i, larger))
        is_k = np.arange(n) == k
        pivot = jnp.where(is_k, 1, rows[k]) / rows[k][k]
        rows = [pivot if i == k else jnp.where(is_k, 0, row) - row[k] * pivot for i, row in enumerate(rows)]
    # Exchanged rows of A are exchanged columns of the inverse.
    columns = list(jnp.stack(rows, axis=1))
    for k, i, larger in reversed(exchanges):
        columns[k], columns[i] = jnp.where(larger, columns[i], columns[k]), jnp.where(larger, columns[k], columns[i])
    return jnp.stack(columns, axis=1)


def _pivot(column, rows, k):
    """The row of the k-th pivot in every lane: k itself unless a row below has a far larger entry."""
    size = jnp.where(rows >= k, jnp.abs(column), -1)

    def larger(i, best):
        entry = at(size, i)
        return jnp.maximum(best[0], entry), jnp.where(entry > best[0], i, best[1]).astype(jnp.int32)

    largest, row = fold(larger, size.shape[0], (size[0], jnp.zeros(size.shape[1:], jnp.int32)))
    return jnp.where(at(size, k) >= 0.1 * largest, k, row).astype(jnp.int32)


def _exchange(rows, k, pivot, m, order):
    """Rows k and `pivot`, another one in each lane, change places."""
    is_k, is_pivot = rows == k, rows == pivot
    row, number = _entry(m, pivot), _entry(order, pivot)
    m = jnp.where(is_k[:, None], row[None], jnp.where(is_pivot[:, None], at(m, k)[None], m))
    return m, jnp.where(is_k, number, jnp.where(is_pivot, at(order, k)[None], order))


def _put_columns(m, order):
    """Column k goes to place `order[k]`."""
    rows = jnp.arange(order.shape[0], dtype=jnp.int32).reshape((-1,) + (1,) * (order.ndim - 1))
    source = jnp.argmax(order[:, None] == jnp.broadcast_to(rows, order.shape)[None], axis=0)
    return jnp.take_along_axis(m, source[None], axis=1, mode="promise_in_bounds")


def _entry(a: Array, index: Array) -> Array:
    """Entry `index` of the first axis, another one in each lane."""
    index = index.reshape((1,) * (a.ndim - index.ndim) + index.shape)
    return jnp.take_along_axis(a, index, axis=0, mode="promise_in_bounds")[0]


def take_where(mask: Bool[Array, "*L"], new, old):
    """For pytrees of lane arrays: `new` in the lanes of `mask`, `old` in the others."""
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), new, old)
