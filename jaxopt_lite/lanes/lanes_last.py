"""A function of one problem on a tile of lanes: `jax.vmap`, but with the lane axis always last.

Where the lane axes of two operands differ, `jax.vmap` moves the axis to the front, and back again at the end. On the
CPU each such transposition costs a copy, and it leaves loops over rows with gaps between the lanes. XLA computes most
lanes of such a row in vectors and the last few one by one. These round differently, so that an answer would depend on
the index of its problem. Here every operation is applied to whole rows of lanes, with no gap and no remainder. What has
no such form (a factorization, an index that differs from lane to lane) is computed by `jax.vmap`, operation by
operation.

On the CPU XLA fuses a value into each of its consumers, which then recompute it and everything it depends on.
For a few operations this gives one fast loop. For a long calculation, such as Runge-Kutta steps with their derivatives,
it gives many times the code and the work that was written. So a value that took some work and is used more than once is
kept, by a barrier.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from jaxopt_lite.jaxprs import (
    Equation,
    Interpreter,
    Scan,
    While,
    bind,
    branches,
    called,
    equations_in,
    is_literal,
    opened,
)
from jaxopt_lite.lanes.arithmetic import at, at_least_float32, barrier, fold, on_cpu

__all__ = ["ELEMENTWISE", "SHAPING", "is_own_product", "lanes_last"]

ELEMENTWISE = {
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil",
    "clamp", "convert_element_type", "copy", "cos", "cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp",
    "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "log2",
    "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "polynomial", "pow", "rem", "round",
    "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor",
}  # fmt: skip
SHAPING = {
    "broadcast_in_dim", "concatenate", "dynamic_slice", "iota", "pad", "reshape", "rev", "slice", "split", "squeeze",
    "stack", "tile", "transpose", "unstack",
}  # fmt: skip
_COSTLY = {  # their results are always kept
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "digamma", "div", "erf",
    "erf_inv", "erfc", "exp", "exp2", "expm1", "lgamma", "log", "log1p", "log2", "logistic", "pow", "rsqrt", "sin",
    "sinh", "sqrt", "tan", "tanh",
}  # fmt: skip
_MORE_ELEMENTWISE = {  # these are loops, or XLA may give them to a library
    "bessel_i0e", "bessel_i1e", "clz", "complex", "conj", "eq_to", "igamma", "igamma_grad_a", "igammac", "imag",
    "le_to", "lt_to", "mulhi", "one_minus_square", "polygamma", "population_count", "real", "reduce_precision",
    "regularized_incomplete_beta", "shift_left", "shift_right_arithmetic", "shift_right_logical", "zeta",
}  # fmt: skip
_ALONG_AXES = {  # their axes count from the front, so a lane axis at the end changes nothing
    "argmax", "argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "reduce_and", "reduce_max",
    "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "reduce_xor", "rev", "split", "squeeze", "unstack",
}  # fmt: skip
_FUSED = (ELEMENTWISE - _COSTLY) | SHAPING
_KEPT_FROM = 16  # operations; measured with Runge-Kutta steps: 8 and 32 are as good, 4 and 64 slower
_LARGEST_PRODUCT = 4096  # multiplications in a lane; beyond that a library is faster


class _Row(NamedTuple):
    """A value, and whether its last axis is the lane axis. What all lanes share has no lane axis.

    `work` counts the operations that each consumer would repeat.
    """

    value: Any
    on: bool
    work: int = 0


def lanes_last(fun: Callable, on: PyTree, *, keeps_rules: bool = False) -> Callable:
    """`jax.vmap(fun, in_axes, out_axes=-1)` with an axis of −1 for what is `on` lanes, and None for what is not.

    Args:
        fun: a function of pytrees of arrays.
        on: which arguments have the lane axis, last: a tuple of bools for them, or for parts of them. At least one has.
        keeps_rules: whether the user's derivative rules are kept. If the result is not differentiated, they need not
            be, and a function with such a rule is computed like any other.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.lanes.lanes_last import lanes_last
        >>> lanes_last(lambda a, x: a @ x, (False, True))(jnp.ones((2, 3)), jnp.ones((3, 8))).shape
        (2, 8)
    """

    def on_tile(*arguments: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten(arguments)
        rows = list(map(_Row, leaves, jax.tree.leaves(jax.tree.broadcast(on, arguments))))
        one = [jax.ShapeDtypeStruct(jnp.shape(x)[: jnp.ndim(x) - flag], jnp.result_type(x)) for x, flag, _ in rows]
        closed, out = jax.make_jaxpr(lambda *leaves: fun(*jax.tree.unflatten(tree, leaves)), return_shape=True)(*one)
        tile = _Tile(next(row.value.shape[-1] for row in rows if row.on), keeps_rules)
        return jax.tree.unflatten(jax.tree.structure(out), map(tile.full, tile.run(closed, rows)))

    return on_tile


class _Tile(Interpreter):
    """Evaluates jaxprs on rows of `width` lanes."""

    def __init__(self, width: int, keeps_rules: bool):
        self.width, self.keeps_rules = width, keeps_rules
        self._uses: Counter[Any] = Counter()  # of each variable of the jaxpr that is evaluated

    def run(self, jaxpr: Any, values: Iterable[_Row]) -> list[_Row]:
        before, self._uses = self._uses, _uses(jaxpr)
        try:
            return super().run(jaxpr, values)
        finally:
            self._uses = before

    def constant(self, value: Any) -> _Row:
        return _Row(value, False)

    def results(self, equation: Equation, values: list[_Row]) -> Sequence[_Row]:
        widens = equation.primitive.name == "broadcast_in_dim"  # each number of the result would recompute it
        rows = self._applied(equation, list(map(self._kept, values)) if widens else values)
        uses = [self._uses[variable] for variable in equation.outvars]
        return [self._kept(row) if count > 1 else row for row, count in zip(rows, uses, strict=True)]

    def _kept(self, row: _Row) -> _Row:
        """The value, computed only once if that is worth its memory."""
        if row.work < _KEPT_FROM or not on_cpu():
            return row
        return _Row(self.barrier(row.value), row.on)

    def barrier(self, value: Any) -> Any:
        """The value, behind a barrier across which XLA fuses nothing; it has a derivative if rules are kept."""
        return barrier(value) if self.keeps_rules else lax.optimization_barrier(value)

    def _applied(self, equation: Equation, rows: list[_Row]) -> Sequence[_Row]:
        name = equation.primitive.name
        inner = called(equation, despite_rules=not self.keeps_rules)
        if inner is not None:
            return self.call(inner, rows)
        shares = not all(row.on for row in rows)
        if is_own_product(equation) and not (shares and (self.keeps_rules or not on_cpu())):
            return [_own_product(self, equation, rows)]
        if not any(row.on for row in rows):
            return [_Row(result, False) for result in bind(equation, [row.value for row in rows])]
        if name in _CONTROL:
            return _CONTROL[name](self, equation, rows)
        results = _OPERATIONS[name](self, equation, rows) if name in _OPERATIONS else None
        if results is None:
            axes = [-1 if row.on else None for row in rows]
            mapped = jax.vmap(lambda *values: bind(equation, values), in_axes=axes, out_axes=-1)
            results = mapped(*(row.value for row in rows))
        work = sum(row.work for row in rows) + (name in ELEMENTWISE) if name in _FUSED else 0
        return [_Row(result, True, work) for result in (results if isinstance(results, list | tuple) else [results])]

    def full(self, row: _Row) -> Any:
        """A value with the lane axis, whether it had one or not."""
        return row.value if row.on else self.spread(row, jnp.shape(row.value))

    def as_marked(self, rows: Iterable[_Row], on: Iterable[bool]) -> list[Any]:
        """Values, with the lane axis where it is marked."""
        return [self.full(row) if flag else row.value for row, flag in zip(rows, on, strict=True)]

    def spread(self, row: _Row, shape: tuple[int, ...]) -> Any:
        """A value of this shape in one lane, or a scalar to fill it with, with the lane axis."""
        value, rank = jnp.asarray(row.value), len(shape)
        if row.on and value.ndim == rank + 1:
            return value
        axes = (rank,) if row.on else tuple(range(value.ndim))
        return lax.broadcast_in_dim(value, (*shape, self.width), axes)


def _uses(jaxpr: Any) -> Counter[Any]:
    """How many equations of a jaxpr read each variable, plus one for each time that it is a result."""
    inner, _ = opened(jaxpr)
    uses: Counter[Any] = Counter()
    for atoms in (*(equation.invars for equation in inner.eqns), inner.outvars):
        uses.update({atom for atom in atoms if not is_literal(atom)})
    return uses


# --- Operations: a result with the lane axis, or None where only `jax.vmap` has one ----------------------------


def _elementwise(tile: _Tile, equation: Equation, rows: list[_Row]):
    shape = equation.outvars[0].aval.shape
    result = equation.primitive.bind(*(tile.spread(row, shape) for row in rows), **equation.params)
    return tile.barrier(result) if equation.primitive.name in _COSTLY and on_cpu() else result


def _along_axes(tile: _Tile, equation: Equation, rows: list[_Row]):
    return equation.primitive.bind(*(row.value for row in rows), **equation.params)


def _each_in_full(tile: _Tile, equation: Equation, rows: list[_Row]):
    return equation.primitive.bind(*(tile.full(row) for row in rows), **equation.params)


def _broadcast(tile: _Tile, equation: Equation, rows: list[_Row]):
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    return lax.broadcast_in_dim(rows[0].value, (*shape, tile.width), (*axes, len(shape))) if len(rows) == 1 else None


def _reshape(tile: _Tile, equation: Equation, rows: list[_Row]):
    if equation.params["dimensions"] is not None or len(rows) > 1:
        return None
    return lax.reshape(rows[0].value, (*equation.params["new_sizes"], tile.width))


def _transpose(tile: _Tile, equation: Equation, rows: list[_Row]):
    axes = equation.params["permutation"]
    return lax.transpose(rows[0].value, (*axes, len(axes)))


def _slice(tile: _Tile, equation: Equation, rows: list[_Row]):
    start, limit, strides = (equation.params[name] for name in ("start_indices", "limit_indices", "strides"))
    return lax.slice(rows[0].value, (*start, 0), (*limit, tile.width), None if strides is None else (*strides, 1))


def _pad(tile: _Tile, equation: Equation, rows: list[_Row]):
    value, filler = rows
    return (
        None if filler.on else lax.pad(tile.full(value), filler.value, (*equation.params["padding_config"], (0, 0, 0)))
    )


def _dynamic_slice(tile: _Tile, equation: Equation, rows: list[_Row]):
    value, *starts = rows
    if any(start.on for start in starts):
        return None
    sizes = (*equation.params["slice_sizes"], tile.width)
    return lax.dynamic_slice(value.value, _with_zero(starts), sizes)


def _dynamic_update_slice(tile: _Tile, equation: Equation, rows: list[_Row]):
    value, update, *starts = rows
    if any(start.on for start in starts):
        return None
    return lax.dynamic_update_slice(tile.full(value), tile.full(update), _with_zero(starts))


def _with_zero(starts: list[_Row]) -> list[Any]:
    """Where a window starts, along the lane axis too."""
    return [*(start.value for start in starts), *(jnp.zeros_like(start.value) for start in starts[:1])]


def _tile(tile: _Tile, equation: Equation, rows: list[_Row]):
    return equation.primitive.bind(rows[0].value, **equation.params | {"reps": (*equation.params["reps"], 1)})


def _gather(tile: _Tile, equation: Equation, rows: list[_Row]):
    value, indices = rows
    if indices.on:
        return None
    numbers, params = equation.params["dimension_numbers"], dict(equation.params)
    params["dimension_numbers"] = numbers._replace(offset_dims=(*numbers.offset_dims, equation.outvars[0].aval.ndim))
    params["slice_sizes"] = (*params["slice_sizes"], tile.width)
    return equation.primitive.bind(value.value, indices.value, **params)


def _scatter(tile: _Tile, equation: Equation, rows: list[_Row]):
    value, indices, updates = rows
    if indices.on:
        return None
    numbers, last = equation.params["dimension_numbers"], equation.invars[2].aval.ndim
    numbers = numbers._replace(update_window_dims=(*numbers.update_window_dims, last))
    params = equation.params | {"dimension_numbers": numbers}
    return equation.primitive.bind(tile.full(value), indices.value, tile.full(updates), **params)


def _dot_general(tile: _Tile, equation: Equation, rows: list[_Row]):
    """A large product with a matrix that the lanes share, as one product for all lanes."""
    a, b = rows
    (contract_a, contract_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    if a.on and b.on:
        return None
    if b.on:
        return _shared_product(equation.primitive, a.value, b.value, equation.params)
    # A B = (Bᵀ Aᵀ)ᵀ
    swapped = equation.params | {"dimension_numbers": ((contract_b, contract_a), (batch_b, batch_a))}
    result = _shared_product(equation.primitive, b.value, a.value, swapped)
    rank, batch = equation.outvars[0].aval.ndim, len(batch_a)
    free_b = equation.invars[1].aval.ndim - batch - len(contract_b)
    return lax.transpose(result, (*range(batch), *range(batch + free_b, rank), *range(batch, batch + free_b), rank))


def _shared_product(primitive: Any, shared: Any, lanes: Any, params: dict[str, Any]):
    """The product of an operand that all lanes share and one that each lane has, `[..., L]`.

    A sum over the rows of a shared matrix takes XLA's library several times as long as one over its columns. So the
    lanes are transposed and multiplied by it as rows, which moves fewer numbers than transposing the matrix.
    """
    (contract, _), (batch, _) = params["dimension_numbers"]
    if not on_cpu() or batch or (shared.ndim, lanes.ndim, *contract) != (2, 2, 0):
        return primitive.bind(shared, lanes, **params)
    turned = params | {"dimension_numbers": (((1,), (0,)), ((), ()))}
    result = primitive.bind(lax.optimization_barrier(lanes.T), shared, **turned)
    return lax.optimization_barrier(result).T


def is_own_product(equation: Equation, copies: int = 1) -> bool:
    """Whether an equation is a matrix product that is computed here, not by a library, even with so many `copies`."""
    return equation.primitive.name == "dot_general" and copies * _multiplications(equation) <= _LARGEST_PRODUCT


def _multiplications(equation: Equation) -> int:
    """How many multiplications a matrix product takes."""
    (contract, _), _ = equation.params["dimension_numbers"]
    return math.prod(equation.invars[0].aval.shape[axis] for axis in contract) * equation.outvars[0].aval.size


def _own_product(tile: _Tile, equation: Equation, rows: list[_Row]) -> _Row:
    """The sum over the contracted axes, term by term."""
    out, numbers, on = equation.outvars[0].aval, equation.params["dimension_numbers"], any(row.on for row in rows)
    is_inexact, parts = jnp.issubdtype(out.dtype, jnp.inexact), []
    dtype = at_least_float32(out.dtype) if is_inexact else out.dtype  # in which libraries add up
    for row, operand, contract, batch in zip(rows, equation.invars, *numbers, strict=True):
        rank = operand.aval.ndim
        free = [axis for axis in range(rank) if axis not in (*contract, *batch)]
        sizes = [[operand.aval.shape[axis] for axis in axes] for axes in (contract, batch, free)]
        value = row.value if row.on or not on else jnp.expand_dims(row.value, -1)
        lanes = range(rank, value.ndim)
        parts.append((lax.transpose(value, (*contract, *batch, *free, *lanes)).astype(dtype), *sizes))
    (a, contract, batch, free_a), (b, _, _, free_b) = parts
    count = math.prod(contract)
    lanes_a, lanes_b = ((part.shape[-1:] if on else ()) for part in (a, b))
    a = a.reshape(count, *batch, *free_a, *(1 for _ in free_b), *lanes_a)
    b = b.reshape(count, *batch, *(1 for _ in free_a), *free_b, *lanes_b)
    if not on_cpu():
        return _Row(jnp.sum(a * b, axis=0).astype(out.dtype), on)
    start = jnp.zeros((*out.shape, tile.width) if on else out.shape, dtype)
    total = fold(lambda k, total, a, b: total + at(a, k) * at(b, k), count, start, a, b)
    return _Row(total.astype(out.dtype), on)


_OPERATIONS: dict[str, Callable[[_Tile, Equation, list[_Row]], Any]] = {
    "broadcast_in_dim": _broadcast, "concatenate": _each_in_full, "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice, "dynamic_update_slice": _dynamic_update_slice, "gather": _gather, "pad": _pad,
    "reshape": _reshape, "slice": _slice, "sort": _each_in_full, "stack": _each_in_full, "tile": _tile,
    "transpose": _transpose,
}  # fmt: skip
_OPERATIONS |= dict.fromkeys(ELEMENTWISE | _MORE_ELEMENTWISE, _elementwise) | dict.fromkeys(_ALONG_AXES, _along_axes)
_OPERATIONS |= dict.fromkeys(
    ("scatter", "scatter-add", "scatter-max", "scatter-min", "scatter-mul", "scatter-sub"), _scatter
)


# --- Control flow: rows, with and without the lane axis -------------------------------------------------------


class _Reach(Interpreter):
    """Finds out what may have the lane axis: what is computed from anything that has it."""

    def constant(self, value: Any) -> bool:
        return False

    def results(self, equation: Equation, values: list[bool]) -> list[bool]:
        return [any(values)] * len(equation.outvars)


def _reached(jaxpr: Any, on: Sequence[bool]) -> list[bool]:
    """Which results of a jaxpr may have the lane axis when these operands have it."""
    return _Reach().run(jaxpr, on)


def _carried(body: Any, fixed: Sequence[bool], start: Sequence[bool], scanned: Sequence[bool] = ()) -> list[bool]:
    """Which of the values that a loop carries may have the lane axis in some round."""
    on = list(start)
    while True:
        after = _reached(body, [*fixed, *on, *scanned])[: len(on)]
        if all(was or not now for was, now in zip(on, after, strict=True)):
            return on
        on = [was or now for was, now in zip(on, after, strict=True)]


def _flags(rows: Iterable[_Row]) -> list[bool]:
    return [row.on for row in rows]


def _scan(tile: _Tile, equation: Equation, rows: list[_Row]) -> list[_Row]:
    loop = Scan.of(equation, rows)
    fixed, each_on, count = _flags(loop.fixed), _flags(loop.scanned), len(loop.carried)
    on = _carried(loop.body, fixed, _flags(loop.carried), each_on)
    stacked_on = _reached(loop.body, [*fixed, *on, *each_on])[count:]

    def step(carry, each):
        inside = [_Row(x, flag) for x, flag in zip((*carry, *each), (*on, *each_on), strict=True)]
        results = tile.as_marked(tile.run(loop.body, [*loop.fixed, *inside]), [*on, *stacked_on])
        return results[:count], results[count:]

    start, scanned = tile.as_marked(loop.carried, on), [row.value for row in loop.scanned]
    carry, outputs = lax.scan(step, start, scanned, **loop.options)
    return [_Row(x, flag) for x, flag in zip((*carry, *outputs), (*on, *stacked_on), strict=True)]


def _while(tile: _Tile, equation: Equation, rows: list[_Row]) -> list[_Row]:
    loop = While.of(equation, rows)
    on = _carried(loop.body, _flags(loop.for_body), _flags(loop.carried))
    (differs,) = _reached(loop.condition, [*_flags(loop.for_condition), *on])
    on = [True] * len(on) if differs else on

    def more(carry):
        (row,) = tile.run(loop.condition, [*loop.for_condition, *map(_Row, carry, on)])
        return row

    def step(carry):
        results = tile.as_marked(tile.run(loop.body, [*loop.for_body, *map(_Row, carry, on)]), on)
        goes_on = tile.full(more(carry)) if differs else more(carry).value
        if not jnp.ndim(goes_on):
            return results
        axes = tuple(range(jnp.ndim(goes_on) - differs))  # along which the user has mapped the loop with `vmap`

        def chosen(new, old):
            which = (*axes, new.ndim - 1) if differs else axes
            return jnp.where(lax.broadcast_in_dim(goes_on, new.shape, which), new, old)

        return list(map(chosen, results, carry))

    result = lax.while_loop(lambda carry: jnp.any(more(carry).value), step, tile.as_marked(loop.carried, on))
    return list(map(_Row, result, on))


def _cond(tile: _Tile, equation: Equation, rows: list[_Row]) -> list[_Row]:
    which, *operands = rows
    flags, jaxprs = _flags(operands), branches(equation)
    on = [which.on or any(each) for each in zip(*(_reached(branch, flags) for branch in jaxprs), strict=True)]

    def result_of(branch: Any, *values: Any) -> list[Any]:
        return tile.as_marked(tile.run(branch, map(_Row, values, flags)), on)

    results = [partial(result_of, branch) for branch in jaxprs]
    if not which.on:
        return list(map(_Row, lax.switch(which.value, results, *(row.value for row in operands)), on))
    # All branches are computed and one is selected; a costly branch is skipped if no lane takes it.
    cases = []
    for k, (branch, result) in enumerate(zip(jaxprs, results, strict=True)):
        taken = which.value == k
        values = [_lent(row, taken) if tile.keeps_rules else row.value for row in operands]
        skips = on_cpu() and _is_costly(branch)
        cases.append(_where_chosen(jnp.any(taken), result, *values) if skips else result(*values))
    return [
        _Row(lax.select_n(tile.spread(which, case[0].shape[:-1]), *case), True) for case in zip(*cases, strict=True)
    ]


def _lent(row: _Row, taken: Any) -> Any:
    """An operand of a branch, for its derivative: lanes that do not take the branch borrow it from one that does.

    Its slope may be infinite at their own, and 0 · ∞ would be NaN. If no lane takes the branch, it is a constant.
    """
    if row.on:
        lent = lax.dynamic_index_in_dim(row.value, jnp.argmax(taken), -1)
        return jnp.where(taken, row.value, lax.stop_gradient(lent))
    is_real = jnp.issubdtype(row.value.dtype, jnp.inexact)
    return jnp.where(jnp.any(taken), row.value, lax.stop_gradient(row.value)) if is_real else row.value


def _is_costly(jaxpr: Any) -> bool:
    return any(
        called(equation) is None and equation.primitive.name not in _FUSED for equation, *_ in equations_in(jaxpr)
    )


def _where_chosen(chosen: Any, result: Callable, *values: Any) -> list[Any]:
    """The result, or zeros if it is not chosen."""
    shapes = jax.eval_shape(result, *values)
    return lax.cond(chosen, result, lambda *_: [jnp.zeros(each.shape, each.dtype) for each in shapes], *values)


_CONTROL: dict[str, Callable[[_Tile, Equation, list[_Row]], list[_Row]]] = {
    "cond": _cond, "scan": _scan, "while": _while,
}  # fmt: skip
