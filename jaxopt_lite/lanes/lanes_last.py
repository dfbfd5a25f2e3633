"""A function of one problem on a tile of lanes: `jax.vmap`, but with the lane axis last all the way.

Where two operands differ, `jax.vmap` moves the lane axis to the front, and in the end back again. On the CPU each such
turn costs a copy, and it leaves loops over rows with gaps between the lanes. XLA finishes those one by one after it has
done the others in vectors; the last lanes of a tile then round otherwise, and an answer depends on the place of its
problem. Here every operation is applied to whole rows of lanes, with no gap and no rest. What has no such form (a
factorisation, an index that differs from lane to lane) goes by `jax.vmap`, operation by operation.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import PyTree

from jaxopt_lite.lanes.arithmetic import at, fold, on_cpu

__all__ = ["CALLS", "ELEMENTWISE", "RULES", "Closed", "bound", "called", "is_literal", "lanes_last", "scan_split"]

ELEMENTWISE = {
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil",
    "clamp", "convert_element_type", "copy", "cos", "cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp",
    "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "log2",
    "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "polynomial", "pow", "rem", "round",
    "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor",
}  # fmt: skip
_COSTLY = {  # XLA would fuse them into each of their consumers, which computed them again
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "digamma", "div", "erf",
    "erf_inv", "erfc", "exp", "exp2", "expm1", "lgamma", "log", "log1p", "log2", "logistic", "pow", "rsqrt", "sin",
    "sinh", "sqrt", "tan", "tanh",
}  # fmt: skip
_MORE_ELEMENTWISE = {  # which are loops, or which XLA may give to a library
    "bessel_i0e", "bessel_i1e", "clz", "complex", "conj", "eq_to", "igamma", "igamma_grad_a", "igammac", "imag",
    "le_to", "lt_to", "mulhi", "one_minus_square", "polygamma", "population_count", "real", "reduce_precision",
    "regularized_incomplete_beta", "shift_left", "shift_right_arithmetic", "shift_right_logical", "zeta",
}  # fmt: skip
_ALONG_AXES = {  # which count from the front, so that nothing changes
    "argmax", "argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "reduce_and", "reduce_max",
    "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "reduce_xor", "rev", "split", "squeeze", "unstack",
}  # fmt: skip
CALLS = {"jit", "pjit", "closed_call", "core_call", "eval_jaxpr", "remat2", "checkpoint"}
RULES = {"custom_jvp_call", "custom_vjp_call"}
_LARGEST_PRODUCT = 4096  # multiplications in a lane, beyond which a library multiplies matrices in less time


def is_literal(atom: Any) -> bool:
    """Whether an operand of an equation is a number and no variable."""
    return hasattr(atom, "val")


class _Row(NamedTuple):
    """A value, and whether its last axis is that of the lanes. What all lanes share has none."""

    value: Any
    on: bool


def lanes_last(fun: Callable, on: PyTree, *, keeps_rules: bool = False) -> Callable:
    """`jax.vmap(fun, in_axes, out_axes=-1)` with an axis of −1 for what is `on` lanes, and None for what is not.

    Args:
        fun: a function of pytrees of arrays.
        on: which arguments have the lane axis, last: a tuple of bools for them, or for parts of them. One at least has.
        keeps_rules: whether differentiation rules of the user's are kept. Where the result is not differentiated, what
            they belong to is computed like the rest.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.lanes.lanes_last import lanes_last
        >>> lanes_last(lambda a, x: a @ x, (False, True))(jnp.ones((2, 3)), jnp.ones((3, 8))).shape
        (2, 8)
    """

    def on_tile(*arguments: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten(arguments)
        rows = list(map(_Row, leaves, jax.tree.leaves(jax.tree.broadcast(on, arguments))))
        one = [jax.ShapeDtypeStruct(jnp.shape(x)[: jnp.ndim(x) - flag], jnp.result_type(x)) for x, flag in rows]
        closed, out = jax.make_jaxpr(lambda *leaves: fun(*jax.tree.unflatten(tree, leaves)), return_shape=True)(*one)
        tile = _Tile(next(row.value.shape[-1] for row in rows if row.on), keeps_rules)
        return jax.tree.unflatten(jax.tree.structure(out), map(tile.full, tile.run(closed, rows)))

    return on_tile


class _Tile:
    """Interprets jaxprs on rows of so many lanes."""

    def __init__(self, width: int, keeps_rules: bool):
        self.width, self._keeps_rules = width, keeps_rules

    def run(self, closed: Any, rows: Iterable[_Row]) -> list[_Row]:
        """The results of a closed jaxpr."""
        jaxpr = closed.jaxpr
        values = dict(zip(jaxpr.constvars, (_Row(const, False) for const in closed.consts), strict=True))
        values |= zip(jaxpr.invars, rows, strict=True)

        def read(atom) -> _Row:
            return _Row(np.asarray(atom.val, atom.aval.dtype), False) if is_literal(atom) else values[atom]

        for equation in jaxpr.eqns:
            values |= zip(equation.outvars, self._results(equation, list(map(read, equation.invars))), strict=True)
        return list(map(read, jaxpr.outvars))

    def full(self, row: _Row) -> Any:
        """A value with the lane axis, whether it had one or not."""
        return row.value if row.on else self.spread(row, jnp.shape(row.value))

    def as_marked(self, rows: Iterable[_Row], on: Iterable[bool]) -> list[Any]:
        """Values, with the lane axis where it is marked."""
        return [self.full(row) if flag else row.value for row, flag in zip(rows, on, strict=True)]

    def spread(self, row: _Row, shape: tuple[int, ...]) -> Any:
        """A value or a scalar, for which this is the shape in one lane, with the lane axis."""
        value, rank = jnp.asarray(row.value), len(shape)
        if row.on and value.ndim == rank + 1:
            return value
        axes = (rank,) if row.on else tuple(range(value.ndim))
        return lax.broadcast_in_dim(value, (*shape, self.width), axes)

    def _results(self, equation: Any, rows: list[_Row]) -> list[_Row]:
        name = equation.primitive.name
        if not any(row.on for row in rows):
            return [_Row(result, False) for result in bound(equation)(*(row.value for row in rows))]
        if name in CALLS or (name in RULES and not self._keeps_rules):
            return self.run(called(equation), rows)
        if name in _CONTROL:
            return _CONTROL[name](self, equation.params, rows)
        results = _OPERATIONS[name](self, equation, rows) if name in _OPERATIONS else None
        if results is None:
            axes = [-1 if row.on else None for row in rows]
            results = jax.vmap(bound(equation), in_axes=axes, out_axes=-1)(*(row.value for row in rows))
        return [_Row(result, True) for result in (results if isinstance(results, list | tuple) else [results])]


def bound(equation: Any) -> Callable[..., list[Any]]:
    """The operation of an equation as a function of arrays."""
    found = equation.primitive.get_bind_params(equation.params)
    functions, params = found if isinstance(found, tuple) else ((), found)  # as JAX 0.10 and 0.12 have it

    def bind(*values):
        results = equation.primitive.bind(*functions, *values, **params)
        return list(results) if equation.primitive.multiple_results else [results]

    return bind


class Closed(NamedTuple):
    """A jaxpr and its constants. In JAX 0.10 some are open, and in 0.12 all are one kind."""

    jaxpr: Any
    consts: Sequence[Any]

    @classmethod
    def of(cls, jaxpr: Any) -> "Closed":
        return cls(getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ()))


def called(equation: Any) -> Closed:
    """What a call evaluates."""
    return Closed.of(next(equation.params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in equation.params))


# --- Operations: a result with the lane axis, or None where only `jax.vmap` has one ----------------------------


def _elementwise(tile: _Tile, equation: Any, rows: list[_Row]):
    shape = equation.outvars[0].aval.shape
    result = equation.primitive.bind(*(tile.spread(row, shape) for row in rows), **equation.params)
    return lax.optimization_barrier(result) if equation.primitive.name in _COSTLY and on_cpu() else result


def _along_axes(tile: _Tile, equation: Any, rows: list[_Row]):
    return equation.primitive.bind(*(row.value for row in rows), **equation.params)


def _each_in_full(tile: _Tile, equation: Any, rows: list[_Row]):
    return equation.primitive.bind(*(tile.full(row) for row in rows), **equation.params)


def _broadcast(tile: _Tile, equation: Any, rows: list[_Row]):
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    return lax.broadcast_in_dim(rows[0].value, (*shape, tile.width), (*axes, len(shape))) if len(rows) == 1 else None


def _reshape(tile: _Tile, equation: Any, rows: list[_Row]):
    if equation.params["dimensions"] is not None or len(rows) > 1:
        return None
    return lax.reshape(rows[0].value, (*equation.params["new_sizes"], tile.width))


def _transpose(tile: _Tile, equation: Any, rows: list[_Row]):
    axes = equation.params["permutation"]
    return lax.transpose(rows[0].value, (*axes, len(axes)))


def _slice(tile: _Tile, equation: Any, rows: list[_Row]):
    start, limit, strides = (equation.params[name] for name in ("start_indices", "limit_indices", "strides"))
    return lax.slice(rows[0].value, (*start, 0), (*limit, tile.width), None if strides is None else (*strides, 1))


def _pad(tile: _Tile, equation: Any, rows: list[_Row]):
    value, filler = rows
    return (
        None if filler.on else lax.pad(tile.full(value), filler.value, (*equation.params["padding_config"], (0, 0, 0)))
    )


def _dynamic_slice(tile: _Tile, equation: Any, rows: list[_Row]):
    value, *starts = rows
    if any(start.on for start in starts):
        return None
    sizes = (*equation.params["slice_sizes"], tile.width)
    return lax.dynamic_slice(value.value, _with_zero(starts), sizes)


def _dynamic_update_slice(tile: _Tile, equation: Any, rows: list[_Row]):
    value, update, *starts = rows
    if any(start.on for start in starts):
        return None
    return lax.dynamic_update_slice(tile.full(value), tile.full(update), _with_zero(starts))


def _with_zero(starts: list[_Row]) -> list[Any]:
    """Where a window starts, along the lane axis too."""
    return [*(start.value for start in starts), *(jnp.zeros_like(start.value) for start in starts[:1])]


def _tile(tile: _Tile, equation: Any, rows: list[_Row]):
    return equation.primitive.bind(rows[0].value, **equation.params | {"reps": (*equation.params["reps"], 1)})


def _gather(tile: _Tile, equation: Any, rows: list[_Row]):
    value, indices = rows
    if indices.on:
        return None
    numbers, params = equation.params["dimension_numbers"], dict(equation.params)
    params["dimension_numbers"] = numbers._replace(offset_dims=(*numbers.offset_dims, equation.outvars[0].aval.ndim))
    params["slice_sizes"] = (*params["slice_sizes"], tile.width)
    return equation.primitive.bind(value.value, indices.value, **params)


def _scatter(tile: _Tile, equation: Any, rows: list[_Row]):
    value, indices, updates = rows
    if indices.on:
        return None
    numbers, last = equation.params["dimension_numbers"], equation.invars[2].aval.ndim
    numbers = numbers._replace(update_window_dims=(*numbers.update_window_dims, last))
    params = equation.params | {"dimension_numbers": numbers}
    return equation.primitive.bind(tile.full(value), indices.value, tile.full(updates), **params)


def _dot_general(tile: _Tile, equation: Any, rows: list[_Row]):
    """Of matrices that the lanes share one product for all lanes; of their own sums of products, lane by lane."""
    a, b = rows
    (contract_a, contract_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    if a.on and b.on:
        return _own_product(tile, equation, rows)
    if b.on:
        return equation.primitive.bind(a.value, b.value, **equation.params)
    swapped = equation.params | {"dimension_numbers": ((contract_b, contract_a), (batch_b, batch_a))}
    result = equation.primitive.bind(b.value, a.value, **swapped)
    rank, batch = equation.outvars[0].aval.ndim, len(batch_a)
    free_b = equation.invars[1].aval.ndim - batch - len(contract_b)
    return lax.transpose(result, (*range(batch), *range(batch + free_b, rank), *range(batch, batch + free_b), rank))


def _own_product(tile: _Tile, equation: Any, rows: list[_Row]):
    out, numbers = equation.outvars[0].aval, equation.params["dimension_numbers"]
    parts = []
    for row, operand, contract, batch in zip(rows, equation.invars, *numbers, strict=True):
        rank = operand.aval.ndim
        free = [axis for axis in range(rank) if axis not in (*contract, *batch)]
        sizes = [[operand.aval.shape[axis] for axis in axes] for axes in (contract, batch, free)]
        value = lax.transpose(row.value, (*contract, *batch, *free, rank)).astype(out.dtype)
        parts.append((value, *sizes))
    (a, contract, batch, free_a), (b, _, _, free_b) = parts
    count = math.prod(contract)
    if count * out.size > _LARGEST_PRODUCT:
        return None
    a = a.reshape(count, *batch, *free_a, *(1 for _ in free_b), tile.width)
    b = b.reshape(count, *batch, *(1 for _ in free_a), *free_b, tile.width)
    if not on_cpu():
        return jnp.sum(a * b, axis=0)
    start = jnp.zeros((*out.shape, tile.width), out.dtype)
    return fold(lambda k, total, a, b: total + at(a, k) * at(b, k), count, start, a, b)


_OPERATIONS: dict[str, Callable[[_Tile, Any, list[_Row]], Any]] = {
    "broadcast_in_dim": _broadcast, "concatenate": _each_in_full, "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice, "dynamic_update_slice": _dynamic_update_slice, "gather": _gather, "pad": _pad,
    "reshape": _reshape, "slice": _slice, "sort": _each_in_full, "stack": _each_in_full, "tile": _tile,
    "transpose": _transpose,
}  # fmt: skip
_OPERATIONS |= dict.fromkeys(ELEMENTWISE | _MORE_ELEMENTWISE, _elementwise) | dict.fromkeys(_ALONG_AXES, _along_axes)
_OPERATIONS |= dict.fromkeys(
    ("scatter", "scatter-add", "scatter_add", "scatter_mul", "scatter_min", "scatter_max"), _scatter
)


# --- Control flow: rows, with and without the lane axis -------------------------------------------------------


def _reached(closed: Any, on: Sequence[bool]) -> list[bool]:
    """Which results of a closed jaxpr may have the lane axis when these operands have it."""
    known = {v for v, flag in zip(closed.jaxpr.invars, on, strict=True) if flag}
    for equation in closed.jaxpr.eqns:
        if any(not is_literal(atom) and atom in known for atom in equation.invars):
            known.update(equation.outvars)
    return [not is_literal(atom) and atom in known for atom in closed.jaxpr.outvars]


def _carried(closed: Any, fixed: Sequence[bool], start: Sequence[bool], rest: Sequence[bool] = ()) -> list[bool]:
    """Which of the values that a loop carries may have the lane axis in some round."""
    on = list(start)
    while True:
        after = _reached(closed, [*fixed, *on, *rest])[: len(on)]
        if all(was or not now for was, now in zip(on, after, strict=True)):
            return on
        on = [was or now for was, now in zip(on, after, strict=True)]


def scan_split(params) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # JAX 0.12
    return len(consts), len(carry)


def _scan(tile: _Tile, params, rows: list[_Row]) -> list[_Row]:
    consts, count = scan_split(params)
    fixed, start, inputs = rows[:consts], rows[consts : consts + count], rows[consts + count :]
    closed = Closed.of(params["jaxpr"])
    flags = [row.on for row in fixed], [row.on for row in start], [row.on for row in inputs]
    on = _carried(closed, *flags)
    on_each = _reached(closed, [*flags[0], *on, *flags[2]])[count:]

    def step(carry, each):
        inside = [_Row(x, flag) for x, flag in zip((*carry, *each), (*on, *flags[2]), strict=True)]
        results = tile.as_marked(tile.run(closed, [*fixed, *inside]), [*on, *on_each])
        return results[:count], results[count:]

    options = {name: params[name] for name in ("length", "reverse", "unroll")}
    carry, outputs = lax.scan(step, tile.as_marked(start, on), [row.value for row in inputs], **options)
    return [_Row(x, flag) for x, flag in zip((*carry, *outputs), (*on, *on_each), strict=True)]


def _while(tile: _Tile, params, rows: list[_Row]) -> list[_Row]:
    of_condition, of_body = params["cond_nconsts"], params["body_nconsts"]
    known, fixed, start = (
        rows[:of_condition],
        rows[of_condition : of_condition + of_body],
        rows[of_condition + of_body :],
    )
    condition, body = Closed.of(params["cond_jaxpr"]), Closed.of(params["body_jaxpr"])
    on = _carried(body, [row.on for row in fixed], [row.on for row in start])
    (differs,) = _reached(condition, [*(row.on for row in known), *on])
    on = [True] * len(on) if differs else on

    def more(carry):
        (row,) = tile.run(condition, [*known, *map(_Row, carry, on)])
        return row

    def step(carry):
        results = tile.as_marked(tile.run(body, [*fixed, *map(_Row, carry, on)]), on)
        goes_on = tile.full(more(carry)) if differs else more(carry).value
        if not jnp.ndim(goes_on):
            return results
        axes = tuple(range(jnp.ndim(goes_on) - differs))  # along which the user has mapped the loop

        def chosen(new, old):
            places = (*axes, new.ndim - 1) if differs else axes
            return jnp.where(lax.broadcast_in_dim(goes_on, new.shape, places), new, old)

        return list(map(chosen, results, carry))

    result = lax.while_loop(lambda carry: jnp.any(more(carry).value), step, tile.as_marked(start, on))
    return list(map(_Row, result, on))


def _cond(tile: _Tile, params, rows: list[_Row]) -> list[_Row]:
    which, *operands = rows
    branches, flags = list(map(Closed.of, params["branches"])), [row.on for row in operands]
    on = [which.on or any(each) for each in zip(*(_reached(branch, flags) for branch in branches), strict=True)]

    def result_of(branch: Closed) -> Callable[..., list]:
        return lambda *values: tile.as_marked(tile.run(branch, list(map(_Row, values, flags))), on)

    values = [row.value for row in operands]
    if not which.on:
        return list(map(_Row, lax.switch(which.value, list(map(result_of, branches)), *values), on))
    # All are computed and one is chosen, as under `jax.vmap`.
    cases = zip(*(result_of(branch)(*values) for branch in branches), strict=True)
    return [_Row(lax.select_n(tile.spread(which, case[0].shape[:-1]), *case), True) for case in cases]


_CONTROL: dict[str, Callable[[_Tile, Any, list[_Row]], list[_Row]]] = {"cond": _cond, "scan": _scan, "while": _while}
