"""JAX's elementwise primitives as operations of a `Graph`: those a kernel has, and others written in terms of them.

A GPU kernel's `max` and `min` drop NaN where XLA's keep it, and some primitives have no instruction at all. They are
written here as comparisons and selections, so that a lane gets what XLA would compute. Used by `scalar`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxopt_lite.lanes.gpu.graph import DTYPES, Graph, NotInAKernel, Scalar, number

__all__ = ["ELEMENTWISE"]

_AS_IS = """
    abs acos acosh add and asin asinh atan atan2 atanh cbrt ceil cos cosh eq exp exp2 expm1 floor ge gt le log log1p
    lt div mul ne neg not or rsqrt shift_left shift_right_arithmetic shift_right_logical sin sinh sqrt sub tan tanh xor
""".split()

_LARGEST_POWER = 64


def _as_is(name: str) -> Callable:
    return lambda graph, params, *operands: graph(name, *operands)


def _number(like: Scalar, value) -> Any:
    """A known number of the same dtype."""
    return number(value, like.dtype)


def _max(graph: Graph, params, a, b):
    """NaN if either is."""
    if a.dtype == bool:
        return graph("or", a, b)
    return graph("select", graph("or", graph("gt", a, b), graph("ne", a, a)), a, b)


def _min(graph: Graph, params, a, b):
    if a.dtype == bool:
        return graph("and", a, b)
    return graph("select", graph("or", graph("lt", a, b), graph("ne", a, a)), a, b)


def _clamp(graph: Graph, params, low, x, high):
    return _min(graph, params, _max(graph, params, x, low), high)


def _select_n(graph: Graph, params, which, *cases):
    if which.dtype == bool:
        return graph("select", which, *reversed(cases)) if len(cases) == 2 else cases[0]
    chosen = cases[-1]
    for case in reversed(range(len(cases) - 1)):
        chosen = graph("select", graph("le", which, _number(which, case)), cases[case], chosen)
    return chosen


def _integer_pow(graph: Graph, params, x):
    """By repeated squaring."""
    y = params["y"]
    if abs(y) > _LARGEST_POWER:
        raise NotInAKernel(f"it takes a number to the power {y}, which is more than {_LARGEST_POWER}")
    power, square, left = _number(x, 1), x, abs(y)
    while left:
        power = graph("mul", power, square) if left & 1 else power
        left >>= 1
        square = graph("mul", square, square) if left else square
    return graph("div", _number(x, 1), power) if y < 0 else power


def _pow(graph: Graph, params, x, y):
    if np.issubdtype(y.dtype, np.integer):
        if isinstance(y, np.generic):
            return _integer_pow(graph, {"y": int(y)}, x)
        y = graph.convert(y, x.dtype)
    return graph("pow", x, y)


def _rem(graph: Graph, params, a, b):
    if np.issubdtype(a.dtype, np.floating):
        raise NotInAKernel("the remainder of a division of floats has no accurate instruction in a kernel")
    return graph("rem", a, b)


def _is_finite(graph: Graph, params, x):
    return graph("lt", graph("abs", x), _number(x, np.inf))


def _sign(graph: Graph, params, x):
    """-1, 0 or 1; NaN and the sign of zero are kept."""
    one, zero = _number(x, 1), _number(x, 0)
    below = graph("select", graph("lt", x, zero), graph("neg", one), x) if x.dtype.kind != "u" else x
    return graph("select", graph("gt", x, zero), one, below)


def _round(graph: Graph, params, x):
    """To the nearest whole number; ties go to the even one or away from zero, as the primitive says."""
    size = graph("abs", x)
    whole = graph("floor", size)
    rest, half = graph("sub", size, whole), _number(x, 0.5)
    if int(params["rounding_method"]) == 0:
        up = graph("ge", rest, half)
    else:
        halved = graph("mul", whole, half)
        odd = graph("ne", graph("floor", halved), halved)
        up = graph("or", graph("gt", rest, half), graph("and", graph("eq", rest, half), odd))
    rounded = graph("select", up, graph("add", whole, _number(x, 1)), whole)
    return graph("select", graph("lt", x, _number(x, 0)), graph("neg", rounded), rounded)


def _logistic(graph: Graph, params, x):
    one = _number(x, 1)
    return graph("div", one, graph("add", one, graph("exp", graph("neg", x))))


def _convert(graph: Graph, params, x):
    """As XLA does: to bool by comparison with zero."""
    dtype, to_bool = jnp.dtype(params["new_dtype"]), jnp.issubdtype(params["new_dtype"], jnp.bool_)
    if dtype.name not in DTYPES:
        raise NotInAKernel(f"it computes in {dtype.name}, and a kernel in {', '.join(DTYPES)}")
    return graph("ne", x, _number(x, 0)) if to_bool and x.dtype != bool else graph.convert(x, dtype)


def _same(graph: Graph, params, x):
    return x


def _square(graph: Graph, params, x):
    return graph("mul", x, x)


def _one_minus_square(graph: Graph, params, x):
    return graph("mul", graph("sub", _number(x, 1), x), graph("add", _number(x, 1), x))


def _polynomial(graph: Graph, params, x, *coefficients):
    """Σ cₖ xᵏ by Horner's rule."""
    total = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = graph("add", graph("mul", total, x), coefficient)
    return total


def _log2(graph: Graph, params, x):
    return graph("mul", graph("log", x), _number(x, 1 / np.log(2)))


def _reduce_precision(graph: Graph, params, x):
    information = jnp.finfo(x.dtype)
    if (params["exponent_bits"], params["mantissa_bits"]) != (information.nexp, information.nmant):
        raise NotInAKernel("it rounds to a shorter format (reduce_precision)")
    return x


ELEMENTWISE: dict[str, Callable[..., Scalar]] = {name: _as_is(name) for name in _AS_IS} | {
    "add_any": _as_is("add"), "clamp": _clamp, "convert_element_type": _convert, "copy": _same,
    "integer_pow": _integer_pow, "is_finite": _is_finite, "log2": _log2, "logistic": _logistic, "max": _max,
    "min": _min, "one_minus_square": _one_minus_square, "polynomial": _polynomial, "pow": _pow,
    "reduce_precision": _reduce_precision, "rem": _rem, "round": _round, "select_n": _select_n,
    "sign": _sign, "square": _square, "stop_gradient": _same,
}  # fmt: skip
"""Every primitive that maps numbers to a number, as `rule(graph, params, *operands)`."""
