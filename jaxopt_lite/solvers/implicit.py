"""Derivatives of a solution by the implicit function theorem.

A solution x(θ) satisfies G(x, θ) = 0, with G = F for a root and G = ∇f for a minimum. Hence dx = −(∂G/∂x)⁻¹ (∂G/∂θ) dθ,
whatever iterations found x. The rule is linear in dθ, so JAX transposes it for reverse mode.

A small system is solved by factorization. For a large one no matrix is formed: generalized conjugate residuals need
only products with ∂G/∂x, or in reverse mode with its transpose. Only the latest directions are kept, which loses
nothing where the matrix is symmetric, as it is for a minimum.

Sources: Blondel et al., "Efficient and modular implicit differentiation", NeurIPS 2022, equation (2); Eisenstat, Elman
and Schultz, SIAM J. Numer. Anal. 20 (1983) 345, algorithm Orthomin(k); Jiránek and Rozložník, Numer. Algorithms 53
(2010) 93, for the choice of the next direction.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float

from jaxopt_lite.lanes.arithmetic import at_least_float32, positive
from jaxopt_lite.lanes.settings import exact_products
from jaxopt_lite.lanes.widths import Work

__all__ = ["factored_up_to", "known", "with_implicit_derivatives"]

_MATRIX_NUMBERS = 1 << 22  # the most numbers of Jacobians held at once
# The most unknowns for which systems are factored. Measured on a CPU with 64 problems that share a matrix: for 128
# unknowns, factoring takes 3 to 7 times as long as products where systems are as easy as those of fixed points, and no
# longer where they are hard; for 256 it takes longer in both cases. Unlike products, a factorization cannot fail.
_FACTORED = 128
_FACTORED_IN_LIMITED_MEMORY = 16  # where the problems are likely fixed points: with 32 it takes twice as long
# The most unknowns for which products that fail are followed by factorization, one problem at a time.
_LARGEST_FACTORED = 8192
_MEMORY = 5  # directions that the next is made orthogonal to: more hardly save a step
_CYCLE = 20  # steps after which the residual is recomputed, and has to be smaller
_BASIS_NUMBERS = 1 << 20  # the most numbers of directions held at once: about what a cache holds
_REFUSALS = (TypeError, ValueError, NotImplementedError)  # what JAX raises where it has no derivative


def factored_up_to(kind: str, work: Work) -> int:
    """The most unknowns for which systems are factored: few where roots were found without a matrix."""
    return _FACTORED_IN_LIMITED_MEMORY if (kind, work) == ("root", Work.TERMS) else _FACTORED


def with_implicit_derivatives(
    solve: Callable, condition: Callable, is_mapped: tuple[bool, ...], factored: int = _FACTORED
) -> Callable:
    """`solve(leaves, others) -> (x, solved, rest)` with the derivative of `x` with respect to the leaves.

    Args:
        solve: the batch solve; x is `[B, n]`, `solved` is `[B]`.
        condition: `condition(x, leaves) -> [n]` for one problem, zero at a solution.
        is_mapped: which leaves have a leading batch axis.
        factored: the most unknowns for which systems are factored.

    The derivative of a problem that was not solved is NaN: there is no solution to differentiate, and a zero would be
    a silent lie. But a zero tangent, or a zero cotangent behind a mask, gives zero here, not 0 · NaN: a linear map
    takes zero to zero, and JAX itself leaves out what it knows to be zero. The same holds where ∂G/∂x is singular.

    With more unknowns than `factored`, ‖∂G/∂x dx + ∂G/∂θ dθ‖ ≤ eps^¾ ‖∂G/∂θ dθ‖, or as small as rounding in ∂G/∂x dx
    allows. A problem that does not get there is factored if it has at most 8192 unknowns; otherwise its derivative is
    NaN. In half precision, systems are solved in single precision and the derivative is rounded at the end.

    `others` (the start, the tolerances) do not influence a solution and have no derivative.
    """

    @jax.custom_jvp
    def solution(leaves, others):
        return solve(leaves, others)

    @solution.defjvp
    def rule(primals, tangents):
        leaves, others = primals
        x, solved, rest = solution(leaves, others)
        with exact_products():
            dx = _tangent(_Problems(condition, is_mapped, x, solved, leaves), tangents[0], factored)
        return (x, solved, rest), (dx, *jax.tree.map(_no_tangent, (solved, rest)))

    return solution


def known(
    fun: Callable, values: tuple, solved: Bool[Array, " B"], is_mapped: tuple[bool, ...], less: Callable | None = None
) -> Callable:
    """`fun(x, leaves)`, at arguments where its values are known: it is evaluated only for its derivatives.

    Those of a problem that was not solved are NaN, or zero where the tangent of x is.

    Where JAX cannot differentiate all of a tuple of values, `less` may return those that it can, and None for each of
    the others, whose derivative is NaN.
    """

    @jax.custom_jvp
    def given(values, solved, x, leaves):
        return values

    @given.defjvp
    def rule(primals, tangents):
        # Not the outer values, whose trace may have ended.
        (found, solved, *arguments), (_, _, *moved) = primals, tangents

        def lent(fun: Callable) -> Callable:
            return lambda x, leaves: fun(*_lent(x, leaves, solved, is_mapped))

        try:
            changes = jax.jvp(lent(fun), arguments, moved)[1]
        except _REFUSALS:
            changes = None if less is None else _changes_of_some(lent(less), found, arguments, moved)
            if changes is None:
                raise
        lost = jnp.where(solved, 0, jax.vmap(_nan_unless_zero)(moved[0]))
        return given(*primals), jax.tree.map(partial(_plus, lost), changes)

    return partial(given, values, solved)


def _lent(x, leaves: tuple, solved, is_mapped: tuple[bool, ...]):
    """The points and leaves, where a problem without a solution gets those of one that is solved, as constants.

    Its own slopes need not be finite, and 0 · NaN would spoil the derivatives of what all problems share. If none is
    solved, all are constants.
    """
    if not len(x):
        return x, leaves

    def lend(leaf):
        own = solved.reshape(-1, *(1 for _ in leaf.shape[1:]))
        return jnp.where(own, leaf, jax.lax.stop_gradient(leaf[jnp.argmax(solved)]))

    def kept(leaf):
        return jnp.where(jnp.any(solved), leaf, jax.lax.stop_gradient(leaf))

    return lend(x), tuple(lend(leaf) if flag else kept(leaf) for leaf, flag in zip(leaves, is_mapped, strict=True))


def _plus(lost, change):
    """The tangents of a batch plus a number for each problem; those of whole numbers as they are."""
    if change.dtype == jax.dtypes.float0:
        return change
    return change + lost.reshape(-1, *(1 for _ in change.shape[1:])).astype(change.dtype)


def _changes_of_some(less: Callable, values: tuple, arguments, moved):
    """The tangents of `values`, NaN where `less` returns None; None if JAX cannot differentiate `less` either."""
    try:
        changes = jax.jvp(less, arguments, moved)[1]
    except _REFUSALS:
        return None
    lost = sum(_nan_unless_zero(d) for d in jax.tree.leaves(moved) if d.dtype != jax.dtypes.float0)
    return type(values)(*(
        jax.tree.map(lambda leaf: jnp.zeros_like(leaf) + lost, value) if change is None else change
        for value, change in zip(values, changes, strict=True)
    ))  # fmt: skip


class _Problems(NamedTuple):
    """A batch of conditions, and the points at which they hold where `solved`."""

    condition: Callable
    is_mapped: tuple[bool, ...]
    x: Float[Array, "B n"]
    solved: Bool[Array, " B"]
    leaves: tuple[Array, ...]

    def each(self, one: Callable, together: int, *batches):
        """`one(x, leaves, solved, *batches)` for every problem, `together` at a time, at what it is `_lent`."""
        x, leaves = _lent(self.x, self.leaves, self.solved, self.is_mapped)
        mapped = {k: leaf for k, leaf in enumerate(leaves) if self.is_mapped[k]}

        def for_one(problem):
            x, mapped, solved, batches = problem
            return one(x, _fill(leaves, mapped), solved, *batches)

        together = max(1, min(len(self.x), together))
        return jax.lax.map(for_one, (x, mapped, self.solved, batches), batch_size=together)

    def can_be_traced(self, one: Callable) -> bool:
        """Whether JAX has the derivatives that `one(x, leaves, solved)` takes: a function may lack one mode."""
        try:
            jax.eval_shape(lambda: self.each(one, 1))
        except _REFUSALS:
            return False
        return True


def _tangent(problems: _Problems, d_leaves, most_factored: int):
    """dx for every problem, as many at a time as memory allows."""
    condition, x = problems.condition, problems.x
    varying = [k for k, d in enumerate(d_leaves) if d.dtype != jax.dtypes.float0]
    if not varying or not x.size:
        return jnp.zeros_like(x)
    n, precise = x.shape[1], at_least_float32(x.dtype)
    together = _MATRIX_NUMBERS // (n * n) if n <= most_factored else _BASIS_NUMBERS // (2 * _MEMORY * n)
    values, d_values = (tuple(leaves[k] for k in varying) for leaves in (problems.leaves, d_leaves))
    d_mapped = {k: d_leaves[k] for k in varying if problems.is_mapped[k]}

    def replaced(leaves, values):
        return _fill(leaves, dict(zip(varying, values, strict=True)))

    def pushed(x, leaves, _):
        at = x, tuple(leaves[k] for k in varying)
        return jax.jvp(lambda x, values: condition(x, replaced(leaves, values)), at, at)

    def conditions(*values):
        """G of every problem, as a function of the leaves that vary."""
        moved = problems._replace(leaves=replaced(problems.leaves, values))
        return moved.each(lambda x, leaves, _: condition(x, leaves), together)

    forward = problems.can_be_traced(pushed)
    # JAX can transpose the derivative of a mapped `cond`, but not the map of its derivative.
    change = jax.jvp(conditions, values, d_values)[1] if forward else _linear(conditions, values, False)(*d_values)

    def right_side(x, leaves, solved, change, d_mapped):
        """−(∂G/∂θ) dθ; NaN for a problem without a solution, unless dθ is zero."""
        d = _fill(d_values, d_mapped, varying)
        lost = sum(_nan_unless_zero(d_value).astype(x.dtype) for d_value in d)
        return (jnp.where(solved, 0, lost) - change).astype(precise)

    def factored(x, leaves, solved, change, d_mapped):
        matrix = (jax.jacfwd if forward else jax.jacrev)(condition)(x, leaves)
        return _by_factors(matrix.astype(precise), right_side(x, leaves, solved, change, d_mapped), solved)

    if n <= most_factored:
        dx = problems.each(factored, together, change, d_mapped)
    else:
        dx = _by_products(problems, forward, together, problems.each(right_side, together, change, d_mapped))
    return dx.astype(x.dtype)


def _nan_unless_zero(d):
    """Zero if d is zero, else NaN. Declared linear in d, so that JAX transposes it to the same function."""

    def solve(_, d):
        return jnp.where(jnp.any(d != 0), jnp.nan, jnp.zeros_like(d))

    return jnp.sum(jnp.real(jax.lax.custom_linear_solve(lambda d: d, d, solve, symmetric=True)))


def _linear(fun: Callable, at: tuple, forward: bool) -> Callable:
    """The derivative at a point, as a function of one tangent per argument; by reverse mode alone if not `forward`."""
    if forward:
        return jax.linearize(fun, *at)[1]
    value, pull = jax.vjp(fun, *at)
    push = jax.linear_transpose(pull, value)
    return lambda *tangents: push(tangents)[0]


def _by_factors(matrix, b, solved):
    """A⁻¹ b by the factors of A."""
    inverse = jax.linearize(partial(jnp.linalg.solve, jax.lax.stop_gradient(matrix)), b)[1]  # it keeps the factors
    transposed = jax.linear_transpose(inverse, b)

    def solve(_, b):
        return _zero_for_zero(b, inverse(b), solved)

    def solve_transposed(_, b):
        return _zero_for_zero(b, transposed(b)[0], solved)

    return jax.lax.custom_linear_solve(_where_solved(solved, lambda v: matrix @ v), b, solve, solve_transposed)


def _zero_for_zero(b, x, exists):
    """The solution x of a linear system for b: zero if b is zero; else NaN if no solution exists."""
    return jnp.where(jnp.all(b == 0), 0, jnp.where(exists, x, jnp.nan))


def _where_solved(solved, product: Callable) -> Callable:
    """The product with A. Without a solution, the identity, so that A has no part in second derivatives either."""
    return lambda v: jnp.where(solved, product(jnp.where(solved, v, 0)), v)


def _by_products(problems: _Problems, forward: bool, together: int, b):
    """A⁻¹ b for every problem by products with A, or in reverse mode with its transpose."""
    n, eps = problems.x.shape[1], float(jnp.finfo(problems.x.dtype).eps)

    def product(x, leaves, transposed: bool):
        at_x = lambda x: problems.condition(x, leaves)  # noqa: E731
        pull = jax.vjp(at_x, x)[1] if transposed else None
        times = _linear(at_x, (x,), forward) if pull is None else lambda v: pull(v)[0]
        return lambda v: times(v.astype(x.dtype)).astype(v.dtype)

    def solve(transposed: bool, _, b):
        def by_products(x, leaves, solved, b):
            b = jnp.where(solved, b, 0)
            return _conjugate_residuals(product(x, leaves, transposed), b, eps, impatient=n <= _LARGEST_FACTORED)

        def factored(x, leaves, solved, b):
            columns = jax.lax.map(product(x, leaves, transposed), jnp.eye(n, dtype=b.dtype), batch_size=_FACTORED)
            return jnp.linalg.solve(columns.T, b)

        def again(x, leaves, solved, b, before, exists):
            retry = lambda: jnp.where(exists, before, factored(x, leaves, solved, b))  # noqa: E731
            return jax.lax.cond(_any(~exists), retry, lambda: before)

        answer, exists = problems.each(by_products, together, b)
        if n <= _LARGEST_FACTORED:
            at_once = _MATRIX_NUMBERS // (n * n) if n <= _FACTORED else 1
            retry = lambda: problems.each(again, at_once, b, answer, exists)  # noqa: E731
            answer, exists = jax.lax.cond(_any(~exists), retry, lambda: answer), True
        return jax.vmap(_zero_for_zero)(b, answer, problems.solved & exists)

    def times(v):
        one = lambda x, leaves, solved, v: _where_solved(solved, product(x, leaves, False))(v)  # noqa: E731
        return problems.each(one, together, v)

    reverse = problems.can_be_traced(lambda x, leaves, _: product(x, leaves, True)(x))
    return jax.lax.custom_linear_solve(times, b, partial(solve, False), partial(solve, True) if reverse else None)


def _conjugate_residuals(product: Callable, b, eps: float, impatient: bool):
    """x with A x = b, for `product(v)` = A v, and whether it exists: ‖b − A x‖ ≤ eps^¾ ‖b‖, or 2 eps ‖A‖ ‖x‖.

    It gives up if `_CYCLE` steps do not reduce the residual by 1%, or, if `impatient`, do not halve it.
    """
    largest = jnp.max(jnp.abs(b))
    b = b / positive(largest)  # so that squares neither overflow nor underflow
    target = eps**1.5 * (b @ b)
    least = 0.5 if impatient else 0.99

    def step(j, x, r, p, ps, qs, norm):
        q = product(p)
        norm = jnp.maximum(norm, jnp.sqrt(q @ q / positive(p @ p)))
        c = qs @ q
        p, q = p - c @ ps, q - c @ qs
        scale = 1 / positive(jnp.sqrt(q @ q))
        p, q = p * scale, q * scale
        alpha = jnp.where(r @ r > target, q @ r, 0)  # a problem that is done stays as it is
        fell = alpha**2 > 0.01 * (r @ r)
        x, r = x + alpha * p, r - alpha * q
        ps, qs = (jax.lax.dynamic_update_index_in_dim(old, new, j % _MEMORY, 0) for old, new in ((ps, p), (qs, q)))
        p = jnp.where(fell, r, q)  # if r did not fall, r as the next direction would not move again
        return j + 1, x, r, p, ps, qs, norm

    def cycle(carry):
        x, r, p, ps, qs, norm, going, exists = carry
        before = r @ r
        more = lambda c: (c[0] < _CYCLE) & _any(going & (c[2] @ c[2] > target))  # noqa: E731
        _, x, r, p, ps, qs, norm = jax.lax.while_loop(more, lambda c: step(*c), (0, x, r, p, ps, qs, norm))
        seems = r @ r <= target
        r = b - product(x)
        exists |= going & seems & (r @ r <= jnp.maximum(target, (2 * eps * norm) ** 2 * (x @ x)))
        return x, r, p, ps, qs, norm, going & ~exists & (r @ r < least**2 * before), exists

    space = jnp.zeros((_MEMORY, *b.shape), b.dtype)
    # If b is not finite, the answer is NaN.
    start = jnp.zeros_like(b), b, b, space, space, jnp.zeros_like(target), jnp.isfinite(target), ~jnp.isfinite(target)
    x, *_, exists = jax.lax.while_loop(lambda carry: _any(carry[-2]), cycle, start)
    return x * largest, exists


@custom_vmap
def _any(flags):
    """Whether any flag is true in any of the mapped problems, so that a loop or branch on it is one for them all."""
    return jnp.any(flags)


@_any.def_vmap
def _any_of_all(axis_size, in_batched, flags):
    return _any(flags), False


def _fill(leaves: tuple, replaced: dict, positions=None) -> tuple:
    """The leaves with some replaced; `positions` are their indices among all leaves."""
    positions = range(len(leaves)) if positions is None else positions
    return tuple(replaced.get(k, leaf) for k, leaf in zip(positions, leaves, strict=True))


def _no_tangent(leaf):
    """The zero tangent of an output that does not vary smoothly."""
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
