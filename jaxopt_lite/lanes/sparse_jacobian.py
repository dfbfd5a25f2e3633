"""The Jacobian of a function that uses its unknowns one by one, such as a curve of a few parameters.

Forward mode carries a tangent for every unknown through every operation, although much of a formula depends on few of
the unknowns: of h exp(−r t) + c, only one of three columns needs the derivative of the exponential. Here the function
is linearized once, and each column is what the linear map makes of one unknown, without the operations that have
nothing but zeros to work on. Where that does not halve the work, as in a long calculation that mixes the unknowns
early, forward mode for all columns at once is as fast and compiles faster. This was measured on CPUs, and is used only
there.

Source: Griewank and Walther, Evaluating Derivatives, 2nd ed., section 7.1 (sparse Jacobians by propagating index sets).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxopt_lite.jaxprs import Equation, Interpreter, bind, called, equations_in, opened, shape_of
from jaxopt_lite.lanes.arithmetic import on_cpu
from jaxopt_lite.lanes.lanes_last import ELEMENTWISE, SHAPING

__all__ = ["value_sparse_jacobian_and_aux"]

_MOST = 8  # unknowns; with more, the columns take longer to compile than they save
_CALLS = {"custom_jvp_call", "jit", "pjit"}
# Operations whose derivatives consist of such operations too. Each maps zero tangents to zero.
_KNOWN = ELEMENTWISE | SHAPING | {"cumsum", "dot_general", "mul", "reduce_max", "reduce_min", "reduce_sum"} | _CALLS


def value_sparse_jacobian_and_aux(f: Callable, x) -> tuple[Any, Any, Any] | None:
    """For `f(x) = (value, aux)`: the value `[m]`, its Jacobian `[m, n]`, and aux. None if forward mode is better."""
    if not (on_cpu() and 1 < x.size <= _MOST):
        return None
    closed, shapes = jax.make_jaxpr(f, return_shape=True)(x)
    if not _is_known(closed):
        return None

    def of_separate(*unknowns):
        results = _OfScalars().run(closed, [_Unknowns(np.arange(len(unknowns)), unknowns)])
        return jax.tree.unflatten(jax.tree.structure(shapes), map(_array, results))

    unknowns = [x[k] for k in range(x.size)]
    try:
        value, linear, aux = jax.linearize(of_separate, *unknowns, has_aux=True)
        columns = _columns(jax.make_jaxpr(linear)(*unknowns))
    except _NotWorthwhile:
        return None
    return value, jnp.stack([jnp.zeros_like(value) if each is None else each for each in columns]).T, aux


class _NotWorthwhile(Exception):
    """Raised where forward mode for all columns at once is better."""


def _is_known(jaxpr: Any) -> bool:
    return all(equation.primitive.name in _KNOWN for equation, *_ in equations_in(jaxpr))


# --- The function, of separate unknowns -------------------------------------------------------------------------


class _Unknowns(NamedTuple):
    """An array of unknowns: for each entry, which of `all` it is."""

    numbers: np.ndarray
    all: Sequence[Any]


def _array(value: Any) -> Any:
    """The value as a JAX array. Several unknowns in one array would make all columns depend on it, so that raises."""
    if not isinstance(value, _Unknowns):
        return value
    if value.numbers.size != 1:
        raise _NotWorthwhile
    return jnp.broadcast_to(value.all[value.numbers.item()], value.numbers.shape)


class _OfScalars(Interpreter):
    """Evaluates a function of a vector, given the entries of the vector as separate scalars."""

    def results(self, equation: Equation, values: list[Any]) -> Sequence[Any]:
        inner = called(equation, despite_rules=False)
        if inner is not None:
            return self.call(inner, values)
        selected = _selected(equation, values[0]) if values and isinstance(values[0], _Unknowns) else None
        if selected is not None:
            return selected
        arrays = list(map(_array, values))
        return [_power(*arrays)] if _is_power(equation) else bind(equation, arrays)


def _selected(equation: Equation, unknowns: _Unknowns) -> list[_Unknowns] | None:
    """The unknowns that an operation selects or rearranges; None for any other operation."""
    name, params, numbers = equation.primitive.name, equation.params, unknowns.numbers
    if name == "slice":
        limits = params["start_indices"], params["limit_indices"], params["strides"] or [1] * numbers.ndim
        parts = [numbers[tuple(slice(*each) for each in zip(*limits, strict=True))]]
    elif name == "split":
        parts = np.split(numbers, np.cumsum(params["sizes"])[:-1], params["axis"])
    elif name == "unstack":
        parts = np.moveaxis(numbers, params["axis"], 0)
    elif name in ("reshape", "squeeze"):
        parts = [numbers.reshape(shape_of(equation.outvars[0]))]
    else:
        return None
    return [_Unknowns(part, unknowns.all) for part in parts]


def _is_power(equation: Equation) -> bool:
    """Whether it is xʸ for numbers of the same floating point type."""
    if equation.primitive.name != "pow":
        return False
    x, y = (atom.aval.dtype for atom in equation.invars)
    return x == y and jnp.issubdtype(x, jnp.floating)


@jax.custom_jvp
def _power(x, y):
    """xʸ. Its slope y xʸ⁻¹ comes from xʸ, since a second power would take as long as all the rest of most formulas."""
    return lax.pow(x, y)


def _power_rule(primals, tangents):
    x, y = primals
    power = _power(x, y)
    slopes = partial(_slope, x, y, power), lambda: jnp.log(jnp.where(x == 0, 1, x)) * power
    moved = [each for each in zip(slopes, tangents, strict=True) if not isinstance(each[1], SymbolicZero)]
    first, *more = (slope() * tangent for slope, tangent in moved)
    return power, sum(more, start=first)


_power.defjvp(_power_rule, symbolic_zeros=True)


def _slope(x, y, power):
    """y xʸ⁻¹, by JAX's own formula if x is zero, or xʸ has overflowed or underflowed."""
    is_ordinary = (x != 0) & jnp.isfinite(power) & (jnp.abs(power) >= jnp.finfo(power.dtype).tiny)

    def by_division(x, y, power):
        return y * (power / x)

    def by_power(x, y, power):
        return y * lax.pow(x, y - 1)

    return lax.cond(jnp.sum(~is_ordinary) == 0, by_division, by_power, x, y, power)


# --- The linear map, column by column ---------------------------------------------------------------------------


class _Linear(NamedTuple):
    """A value in the linear map, None if it is zero, and whether it depends on what is mapped."""

    array: Any
    depends: bool


_ZERO = _Linear(None, True)


class _Column(Interpreter):
    """Evaluates a linear map, and leaves out what has only zeros to work on. It counts the operations that remain."""

    count = 0

    def constant(self, value: Any) -> _Linear:
        return _Linear(value, False)

    def results(self, equation: Equation, values: list[_Linear]) -> Sequence[_Linear]:
        mapped = [value for value in values if value.depends]
        present = [value for value in mapped if value.array is not None]
        if mapped and not present:
            return [_ZERO] * len(equation.outvars)
        inner = called(equation)
        if inner is not None:
            return self.call(inner, values)
        if equation.primitive.name in ("add", "add_any") and len(present) < len(mapped):
            return [_Linear(jnp.broadcast_to(present[0].array, shape_of(equation.outvars[0])), True)]
        self.count += bool(mapped)
        pairs = zip(values, equation.invars, strict=True)
        arrays = [jnp.zeros(v.aval.shape, v.aval.dtype) if value.array is None else value.array for value, v in pairs]
        return [_Linear(result, bool(mapped)) for result in bind(equation, arrays)]


def _columns(linear: Any) -> list[Any]:
    """What a linear map makes of the unit vectors; None for a column of zeros."""
    if not _is_known(linear):
        raise _NotWorthwhile
    units = [_Linear(jnp.ones((), atom.aval.dtype), True) for atom in opened(linear)[0].invars]
    at_once = sum(called(equation) is None for equation, *_ in equations_in(linear))
    evaluator, columns = _Column(), []
    for k, unit in enumerate(units):
        (column,) = evaluator.run(linear, [unit if i == k else _ZERO for i in range(len(units))])
        columns.append(column.array)
        if 2 * evaluator.count > len(units) * at_once:
            raise _NotWorthwhile
    return columns
