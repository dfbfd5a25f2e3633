"""Linear algebra on rows of lanes: the same textbook code for one problem and for a tile of `L` problems.

A scalar of one problem is a row of lanes, `[L]`; a vector is `[n, L]`, a matrix `[m, n, L]`. The lane axis is always
last, so every operation is elementwise over lanes and no lane can touch another. Dropping the axis everywhere gives
the same code for one problem: `[]`, `[n]`, `[m, n]`.

On the CPU, sums over the unknowns add whole rows of lanes, one after the other (`fold`), because XLA compiles a plain
reduction without vector instructions there. On a GPU or TPU every row would be a launch; a reduction is only one.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

__all__ = [
    "at", "at_least_float32", "barrier", "cholesky", "diagonal", "dot", "eigh", "eye", "fold", "inverse", "matvec",
    "max_abs", "norm", "normal_equations", "on_cpu", "outer", "positive", "rematvec", "take_where", "traced_once",
    "triangle", "triangle_solve",
]  # fmt: skip

_DEPENDENT = 8  # a column depends on those before it if its part orthogonal to them is within so many eps of its length
_STRAIGHT = 10  # most rounds of `fold` that are unrolled; measured, `docs/performance.md`
_SWEEPS = 15  # most sweeps of Jacobi's method, which converges quadratically: about eight are enough

_Function = TypeVar("_Function", bound=Callable)


def traced_once(fun: _Function) -> _Function:
    """`fun`, traced by JAX once for all arrays of the same shapes and dtypes, and inlined wherever it is called.

    Keyword arguments are static, and so is the backend.
    """

    @partial(jax.jit, static_argnames=("backend", "options"), inline=True)
    def traced(*operands, backend, options):
        return fun(*operands, **dict(options))

    @wraps(fun)
    def call(*operands, **options):
        return traced(*operands, backend=jax.default_backend(), options=tuple(options.items()))

    return call  # pyright: ignore[reportReturnType]


@traced_once
def dot(u: Float[Array, "n *L"], v: Float[Array, "n *L"]) -> Float[Array, "*L"]:
    """uᵀv in every lane."""
    if not _in_turn(u):
        return jnp.sum(u * v, axis=0)
    return fold(lambda k, total, u, v: total + at(u, k) * at(v, k), u.shape[0], jnp.zeros_like(u[0]), u, v)


@traced_once
def norm(v: Float[Array, "n *L"]) -> Float[Array, "*L"]:
    """‖v‖ in every lane."""
    return jnp.sqrt(dot(v, v))


def positive(value: Array) -> Array:
    """The value where it is positive, and 1 elsewhere: safe to divide by."""
    return jnp.where(value > 0, value, 1)


def at_least_float32(dtype: Any) -> Any:
    """The dtype, or float32 for integers and half precision.

    Half precision loses the terms of sums, cannot hold squares above 256², and has no decompositions or solves in JAX.
    """
    return jnp.promote_types(dtype, jnp.float32)


@traced_once
def max_abs(v: Float[Array, "n *L"]) -> Float[Array, "*L"]:
    """The largest absolute entry in every lane; NaN if any entry is."""
    if not _in_turn(v):
        return jnp.max(jnp.abs(v), axis=0, initial=0)
    return fold(lambda k, largest, v: jnp.maximum(largest, jnp.abs(at(v, k))), v.shape[0], jnp.zeros_like(v[0]), v)


def on_cpu() -> bool:
    """Whether what is traced now will run on the CPU, unless it is exported for another platform."""
    return jax.default_backend() == "cpu"


def _in_turn(v: Float[Array, "n *L"]) -> bool:
    """Whether sums over n run as loops over rows: on the CPU, if there is more than one lane."""
    return on_cpu() and v[0].size > 1


def outer(u: Float[Array, "m *L"], v: Float[Array, "n *L"]) -> Float[Array, "m n *L"]:
    """u vᵀ in every lane."""
    return u[:, None] * v[None, :]


def eye(like: Float[Array, "n *L"]) -> Float[Array, "n n *L"]:
    """The identity in every lane, of the size, dtype and lanes of a vector."""
    n = like.shape[0]
    identity = jnp.eye(n, dtype=like.dtype).reshape((n, n) + (1,) * (like.ndim - 1))
    return jnp.broadcast_to(identity, (n, *like.shape))


def diagonal(a: Float[Array, "n n *L"]) -> Float[Array, "n *L"]:
    """The diagonal of A in every lane."""
    return jnp.stack([a[k, k] for k in range(a.shape[0])])


@traced_once
def matvec(a: Float[Array, "m n *L"], v: Float[Array, "n *L"]) -> Float[Array, "m *L"]:
    """A v in every lane: the columns of A, each times one entry of v, added up."""
    return _combine(a, v, axis=1)


@traced_once
def rematvec(a: Float[Array, "m n *L"], u: Float[Array, "m *L"]) -> Float[Array, "n *L"]:
    """Aᵀ u in every lane: the rows of A, each times one entry of u, added up."""
    return _combine(a, u, axis=0)


def _combine(a: Array, weights: Array, axis: int) -> Array:
    """Σₖ weightsₖ · (slice k of `a` along `axis`), a few slices a round."""
    if not _in_turn(a[0]):
        return jnp.sum(a * jnp.expand_dims(weights, 1 - axis), axis=axis)
    start = jnp.zeros((*a.shape[:axis], *a.shape[axis + 1 :]), a.dtype)
    return fold(lambda k, total, a, w: total + at(a, k, axis) * at(w, k)[None], a.shape[axis], start, a, weights)


def fold(body: Callable[..., Any], count: int, start: Any, *operands: Array) -> Any:
    """`start`, updated by `body(k, ..., *operands)` for every k below `count`: unrolled if few, in a loop if many.

    Unrolled code is faster, and faster to compile. But XLA would fuse it with what computes the operands, and into
    every consumer, which would then recompute all of it for each entry of a matrix. XLA does not fuse across a barrier,
    nor across a loop.
    """
    if 0 < count <= _STRAIGHT:
        operands = barrier(operands)
        for k in range(count):
            start = body(k, start, *operands)
        return barrier(start)
    together = next(k for k in (5, 4, 3, 2, 1) if count % k == 0)

    def few(round_, carry):
        for k in range(together):
            carry = body(round_ * together + k, carry, *operands)
        return carry

    return jax.lax.fori_loop(0, count // together, few, start)


@jax.custom_jvp
def barrier(operands: Any) -> Any:
    """The operands, behind a barrier across which XLA fuses nothing.

    Tangents bypass it: JAX cannot transpose a barrier around a tangent and a constant, which the Jacobian of linear
    residuals would need.
    """
    return jax.lax.optimization_barrier(operands)


@barrier.defjvp
def _past_it(primals, tangents):
    return barrier(*primals), tangents[0]


def at(a: Array, index, axis: int = 0) -> Array:
    """Slice `index` of `a` along `axis`; the loop that `index` comes from keeps it in bounds."""
    indexed = jax.lax.index_in_dim if isinstance(index, int) else jax.lax.dynamic_index_in_dim
    return indexed(a, index, axis, keepdims=False)


@traced_once
def inverse(a: Float[Array, "n n *L"]) -> Float[Array, "n n *L"]:
    """A⁻¹ in every lane.

    On the CPU by Gauss-Jordan elimination in place with threshold pivoting, which can be part of a native function.
    Rows are exchanged only where the diagonal entry is less than a tenth of the largest below it, so that most tiles
    never exchange any. A singular lane becomes non-finite and leaves its neighbors alone. Source: Golub and Van Loan,
    Matrix Computations, 4th ed., section 3.4; Duff, Erisman and Reid, Direct Methods for Sparse Matrices, 2nd ed.,
    section 5.2, for the threshold.

    A single matrix, without lanes, is inverted by unrolled elimination, which can be part of a GPU kernel.
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


@traced_once
def normal_equations(
    jt: Float[Array, "n m *L"], f: Float[Array, "m *L"]
) -> tuple[Float[Array, "n n *L"], Float[Array, "n *L"]]:
    """JᵀJ and Jᵀf in every lane, from Jᵀ and f."""
    if not _in_turn(f):
        return jnp.sum(jt[:, None] * jt[None], axis=2), matvec(jt, f)

    def add_row(k, total, jt, f):
        gram, product = total
        row = at(jt, k, 1)
        return gram + outer(row, row), product + row * at(f, k)[None]

    zero = jnp.zeros_like(jt[:, 0])
    return fold(add_row, f.shape[0], (outer(zero, zero), zero), jt, f)


@traced_once
def cholesky(
    g: Float[Array, "n n *L"], h: Float[Array, "n *L"], *, least: float
) -> tuple[Float[Array, "n n *L"], Float[Array, "n *L"], Bool[Array, "*L"]]:
    """R and R⁻ᵀh in every lane, where G = RᵀR with R upper triangular, and whether every pivot kept its size.

    A pivot that elimination reduces to less than `least` times its diagonal entry is raised to that; a column of zeros
    stays zero. For G = AᵀA, the relative error of R is about eps over the smallest fraction of its diagonal entry that
    a pivot keeps. Source: Golub and Van Loan, Matrix Computations, 4th ed., algorithm 4.2.2.
    """
    n = h.shape[0]
    index = jnp.arange(n + 1, dtype=jnp.int32).reshape((n + 1,) + (1,) * (h.ndim - 1))

    def eliminate(k, carry):
        rows, sure, entries = carry  # above row k they are those of R and R⁻ᵀh
        pivot, lowest = at(at(rows, k), k), least * at(entries, k)
        root = jnp.sqrt(positive(jnp.maximum(pivot, lowest)))
        row = jnp.where(index > k, at(rows, k) / root, jnp.where((index == k) & (lowest > 0), root, 0))
        row = jax.lax.optimization_barrier(row)
        rows = rows - outer(jnp.where(index > k, row, 0)[:n], row)
        return jax.lax.dynamic_update_index_in_dim(rows, row, k, 0), sure & (pivot >= lowest), entries

    start = jnp.concatenate([g, h[:, None]], axis=1), jnp.ones(h.shape[1:], bool), diagonal(g)
    rows, sure, _ = jax.lax.fori_loop(0, n, eliminate, start)
    return rows[:, :n], rows[:, n], sure


@traced_once
def triangle(
    columns: Float[Array, "n m *L"], b: Float[Array, "m *L"]
) -> tuple[Float[Array, "n n *L"], Float[Array, "n *L"]]:
    """R and Qᵀb in every lane, where A = QR with R upper triangular, from the columns of A and b; m may be less than n.

    By modified Gram-Schmidt elimination of A and b together, which is as stable as Householder's method for least
    squares and consists of operations on rows of lanes. A column that depends on those before it, up to rounding, is
    left out: its row of R is zero. Source: Björck, Numerical Methods for Least Squares Problems, section 2.4.
    """
    n, m = columns.shape[:2]
    index = jnp.arange(n + 1, dtype=jnp.int32).reshape((n + 1,) + (1,) * (b.ndim - 1))
    squares = fold(lambda k, total, a: total + at(a, k, 1) ** 2, m, jnp.zeros_like(columns[:, 0]), columns)
    least = (_DEPENDENT * jnp.finfo(b.dtype).eps) ** 2 * squares

    def eliminate(k, carry):
        columns, rc = carry
        column = at(columns, k)
        square = dot(column, column)
        independent = square > at(least, k)
        q = jnp.where(independent, column / jnp.sqrt(jnp.where(independent, square, 1)), 0)
        q = jax.lax.optimization_barrier(q)
        row = jax.lax.optimization_barrier(jnp.where(index >= k, matvec(columns, q), 0))
        return columns - outer(row, q), jnp.where((index[:n] == k)[:, None], row[None], rc)

    start = jnp.concatenate([columns, b[None]]), jnp.zeros((n, n + 1, *b.shape[1:]), b.dtype)
    _, rc = jax.lax.fori_loop(0, n, eliminate, start)
    return rc[:, :n], rc[:, n]


@traced_once
def triangle_solve(
    r: Float[Array, "n n *L"], v: Float[Array, "n *L"], *, transposed: bool = False
) -> Float[Array, "n *L"]:
    """R⁻¹ v, or R⁻ᵀ v, in every lane, for an upper triangular R; where R's diagonal is zero, so is the result."""
    n = v.shape[0]

    def substitute(k, v):
        k = k if transposed else n - 1 - k
        pivot = at(at(r, k), k)
        entry = jnp.where(pivot == 0, 0, at(v, k) / jnp.where(pivot == 0, 1, pivot))
        # Where the result is known already, R has zeros.
        return jax.lax.dynamic_update_index_in_dim(v - at(r, k, 0 if transposed else 1) * entry, entry, k, 0)

    return jax.lax.fori_loop(0, n, substitute, v)


def _straight_inverse(rows: list[Array]) -> Array:
    """Gauss-Jordan elimination with partial pivoting, with every exchange of rows written as a selection."""
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

    def larger(i, best, size):
        entry = at(size, i)
        return jnp.maximum(best[0], entry), jnp.where(entry > best[0], i, best[1]).astype(jnp.int32)

    largest, row = fold(larger, size.shape[0], (size[0], jnp.zeros(size.shape[1:], jnp.int32)), size)
    return jnp.where(at(size, k) >= 0.1 * largest, k, row).astype(jnp.int32)


def _exchange(rows, k, pivot, m, order):
    """Exchange rows k and `pivot`, which differs from lane to lane."""
    is_k, is_pivot = rows == k, rows == pivot
    row, number = _entry(m, pivot), _entry(order, pivot)
    m = jnp.where(is_k[:, None], row[None], jnp.where(is_pivot[:, None], at(m, k)[None], m))
    return m, jnp.where(is_k, number, jnp.where(is_pivot, at(order, k)[None], order))


def _put_columns(m, order):
    """Column k becomes column `order[k]`."""
    rows = jnp.arange(order.shape[0], dtype=jnp.int32).reshape((-1,) + (1,) * (order.ndim - 1))
    source = jnp.argmax(order[:, None] == jnp.broadcast_to(rows, order.shape)[None], axis=0)
    return jnp.take_along_axis(m, source[None], axis=1, mode="promise_in_bounds")


def _entry(a: Array, index: Array) -> Array:
    """Entry `index` of the first axis, which may differ from lane to lane."""
    index = index.reshape((1,) * (a.ndim - index.ndim) + index.shape)
    return jnp.take_along_axis(a, index, axis=0, mode="promise_in_bounds")[0]


@traced_once
def eigh(a: Float[Array, "n n *L"]) -> tuple[Float[Array, "n *L"], Float[Array, "n n *L"]]:
    """The eigenvalues w of a symmetric matrix in every lane, in no order, and its eigenvectors, the columns of V.

    On the CPU by Jacobi's method, which finds small eigenvalues of a positive definite matrix to as many digits as its
    scaling allows. Each round rotates n/2 pairs of unknowns at once, and n − 1 rounds are a sweep over all pairs.
    A lane that is done no longer changes, to the bit, whatever its neighbors need; one that is not finite stays so.
    Source: Golub and Van Loan, Matrix Computations, 4th ed., section 8.5, with the pairs of algorithm 8.5.4.
    """
    if not on_cpu():  # the platform's library
        w, v = jnp.linalg.eigh(jnp.moveaxis(a, (0, 1), (-2, -1)))
        return jnp.moveaxis(w, -1, 0), jnp.moveaxis(v, (-2, -1), (0, 1))
    n, odd = a.shape[0], a.shape[0] % 2
    grown = ((0, odd),) * 2 + ((0, 0),) * (a.ndim - 2)
    own = jnp.eye(n + odd, dtype=bool).reshape((n + odd,) * 2 + (1,) * (a.ndim - 2))
    a = jnp.pad(a, grown)  # an odd n gets one more unknown, coupled to nothing
    w = jnp.sum(jnp.where(own, a, 0), axis=1)
    a = jnp.where(own, 0, a)

    def sweep(carry):
        count, *rest = carry
        return count + 1, *jax.lax.fori_loop(0, n + odd - 1, lambda _, c: _turn_pairs(*c), tuple(rest))

    def unfinished(carry):
        count, w, a, _ = carry
        return (count < _SWEEPS) & jnp.any(_is_coupled(a, w[:, None], w[None]))

    _, w, _, rows = jax.lax.while_loop(unfinished, sweep, (0, w, a, eye(w)))
    return w[:n], jnp.swapaxes(rows[:n, :n], 0, 1)


def _is_coupled(entry, w, other):
    """Whether an off-diagonal entry matters beside the two diagonal ones."""
    return jnp.abs(entry) > jnp.finfo(entry.dtype).eps * jnp.sqrt(jnp.abs(w)) * jnp.sqrt(jnp.abs(other))


def _turn_pairs(w, a, rows):
    """Zero the entries that couple unknowns k and n/2 + k; then pair the unknowns anew, as in a round robin.

    `w` is the diagonal, and `a` the matrix with zeros there.
    """
    half = w.shape[0] // 2
    pairs = jnp.eye(half, dtype=bool).reshape((half, half) + (1,) * (w.ndim - 1))
    entry = jnp.sum(jnp.where(pairs, a[:half, half:], 0), axis=1)
    coupled = _is_coupled(entry, w[:half], w[half:])
    tau = (w[half:] - w[:half]) / jnp.where(coupled, 2 * entry, 1)
    t = jnp.where(tau < 0, -1, 1) / (jnp.abs(tau) + jnp.sqrt(1 + tau**2))
    t = jnp.where(coupled, t, 0)
    c = 1 / jnp.sqrt(1 + t**2)
    w, c, s = jax.lax.optimization_barrier((w + jnp.concatenate([-t * entry, t * entry]), c, t * c))

    def turn(m):
        upper, lower = m[:half], m[half:]
        c_, s_ = (jnp.expand_dims(k, 1) if m.ndim > w.ndim else k for k in (c, s))
        return jnp.concatenate([c_ * upper - s_ * lower, s_ * upper + c_ * lower])

    def pair_anew(m):
        parts = (m[:1], m[half : half + 1], m[1 : half - 1], m[half + 1 :], m[half - 1 : half])
        return m if half == 1 else jnp.concatenate(parts)

    a = jnp.swapaxes(turn(jnp.swapaxes(turn(a), 0, 1)), 0, 1)
    both = jnp.concatenate([jnp.concatenate([pairs, pairs], 1)] * 2)
    a = jnp.where(both & jnp.concatenate([coupled, coupled])[:, None], 0, a)
    a = jnp.swapaxes(pair_anew(jnp.swapaxes(pair_anew(a), 0, 1)), 0, 1)
    return pair_anew(w), a, pair_anew(turn(rows))


def take_where(mask: Bool[Array, "*L"], new, old):
    """For pytrees of lane arrays: `new` in the lanes of `mask`, `old` in the others."""
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), new, old)
