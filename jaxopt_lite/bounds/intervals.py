"""Interval arithmetic on the primitives of a jaxpr: the range of a result from the ranges of its operands.

An integer or boolean array is described by one `Interval` that holds all its elements; any other value by `UNKNOWN`. A
primitive without a rule here gives the whole range of its dtype, and so does a result that could leave that range,
because integers wrap round.

Source: R. E. Moore, R. B. Kearfott and M. J. Cloud, Introduction to Interval Analysis, SIAM 2009, chapter 2.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxopt_lite.jaxprs import Equation

__all__ = ["BOOLEAN", "UNKNOWN", "Interval", "after", "fit", "hull", "meet", "of_constant", "whole"]


class Interval(NamedTuple):
    """All integers from `lo` to `hi`; the ends are infinite for values that are not integers."""

    lo: float
    hi: float

    def __contains__(self, other: object) -> bool:
        return isinstance(other, Interval) and self.lo <= other.lo and other.hi <= self.hi


UNKNOWN = Interval(-math.inf, math.inf)
BOOLEAN = Interval(0, 1)


def hull(intervals: Sequence[Interval]) -> Interval:
    """The smallest interval that holds all of `intervals`."""
    return Interval(min(i.lo for i in intervals), max(i.hi for i in intervals))


def meet(a: Interval, b: Interval) -> Interval | None:
    """The integers in both intervals, or None if there are none."""
    lo, hi = max(a.lo, b.lo), min(a.hi, b.hi)
    return Interval(lo, hi) if lo <= hi else None


def whole(aval: Any) -> Interval:
    """The whole range of an abstract value's dtype."""
    return _of_dtype(getattr(aval, "dtype", None))


@lru_cache
def _of_dtype(dtype: Any) -> Interval:
    if dtype is not None and jnp.issubdtype(dtype, np.bool_):
        return BOOLEAN
    if dtype is not None and jnp.issubdtype(dtype, jnp.integer):
        return Interval(int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max))
    return UNKNOWN


def fit(interval: Interval, aval: Any) -> Interval:
    """`interval`, unless the dtype cannot hold it: then the result may have wrapped round to anything."""
    return interval if interval in whole(aval) else whole(aval)


def of_constant(value: Any) -> Interval:
    """The range of the elements of a constant."""
    if isinstance(value, Tracer) or whole(jax.typeof(value)) == UNKNOWN:
        return UNKNOWN
    elements = np.asarray(value)
    return Interval(int(elements.min()), int(elements.max())) if elements.size else Interval(0, 0)


def after(equation: Equation, ins: Sequence[Interval]) -> list[Interval]:
    """The ranges of the results of one equation."""
    rule = _RULES.get(equation.primitive.name)
    everything = [whole(var.aval) for var in equation.outvars]
    if rule is None or all(interval == UNKNOWN for interval in everything):
        return everything
    outs = rule(equation, list(ins))
    outs = [outs] * len(equation.outvars) if isinstance(outs, Interval) else outs
    return [fit(out, var.aval) for out, var in zip(outs, equation.outvars, strict=True)]


# --- The rules. Each takes the equation and the operands' intervals. ---

Rule = Callable[[Equation, list[Interval]], Interval | list[Interval]]


def _is_bool(equation):
    return jnp.issubdtype(equation.outvars[0].aval.dtype, np.bool_)


def _corners(function, a, b):
    """The range of a function that is monotone in each argument: its extremes lie at the corners."""
    values = [function(x, y) for x in a for y in b]
    return Interval(min(values), max(values))


def _truncating_division(x, y):
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def _divide(equation, ins):
    x, y = ins
    return UNKNOWN if y.lo <= 0 <= y.hi else _corners(_truncating_division, x, y)


def _remainder(equation, ins):
    """The sign is the dividend's; the size is below the divisor's and at most the dividend's."""
    x, y = ins
    if y.lo <= 0 <= y.hi:
        return UNKNOWN
    largest = max(abs(y.lo), abs(y.hi)) - 1
    return Interval(max(min(x.lo, 0), -largest), min(max(x.hi, 0), largest))


def _absolute(equation, ins):
    (x,) = ins
    return Interval(max(x.lo, -x.hi, 0), max(-x.lo, x.hi))


def _power(x, exponent):
    if exponent < 0:
        return UNKNOWN
    ends = [x.lo**exponent, x.hi**exponent] + ([0] if exponent and x.lo <= 0 <= x.hi else [])
    return Interval(min(ends), max(ends))


def _shift(function):
    def rule(equation, ins):
        x, amount = ins
        bits = jnp.iinfo(equation.outvars[0].aval.dtype).bits
        return _corners(function, x, amount) if amount in Interval(0, bits - 1) else UNKNOWN

    return rule


def _shift_right(equation, ins):
    """A division by a power of two, unless the shift takes a sign for data, or data for a sign."""
    dtype = equation.outvars[0].aval.dtype
    has_sign = jnp.issubdtype(dtype, jnp.signedinteger)
    highest_bit_is_zero = ins[0] in Interval(0, 2 ** (jnp.iinfo(dtype).bits - 1) - 1)
    if highest_bit_is_zero or has_sign == (equation.primitive.name == "shift_right_arithmetic"):
        return _shift(lambda x, n: x >> n)(equation, ins)
    return UNKNOWN


def _and(equation, ins):
    a, b = ins
    if _is_bool(equation):
        return Interval(min(a.lo, b.lo), min(a.hi, b.hi))
    not_negative = [i.hi for i in ins if i.lo >= 0]
    return Interval(0, min(not_negative)) if not_negative else UNKNOWN


def _or(equation, ins):
    a, b = ins
    if a.lo < 0 or b.lo < 0:
        return UNKNOWN
    return Interval(max(a.lo, b.lo), 2 ** int(max(a.hi, b.hi)).bit_length() - 1)


def _xor(equation, ins):
    return Interval(0, _or(equation, ins).hi) if min(i.lo for i in ins) >= 0 else UNKNOWN


def _not(equation, ins):
    (x,) = ins
    return Interval(1 - x.hi, 1 - x.lo) if _is_bool(equation) else Interval(-1 - x.hi, -1 - x.lo)


def _less(a, b, or_equal):
    """The range of the truth value of `a < b`, or of `a <= b`."""
    surely = a.hi <= b.lo if or_equal else a.hi < b.lo
    possibly = a.lo <= b.hi if or_equal else a.lo < b.hi
    return Interval(int(surely), int(possibly))


def _equal(a, b):
    return Interval(int(a == b and a.lo == a.hi), int(meet(a, b) is not None))


def _select(equation, ins):
    which, *cases = ins
    return hull(cases[int(which.lo) : int(which.hi) + 1] if which in Interval(0, len(cases) - 1) else cases)


def _sum(equation, ins):
    count = math.prod(equation.invars[0].aval.shape[axis] for axis in equation.params["axes"])
    return Interval(count * ins[0].lo, count * ins[0].hi)


def _cumulative_sum(equation, ins):
    (x,) = ins
    count = equation.invars[0].aval.shape[equation.params["axis"]]
    return Interval(min(x.lo, count * x.lo), max(x.hi, count * x.hi))


def _arg_extreme(equation, ins):
    return Interval(0, math.prod(equation.invars[0].aval.shape[axis] for axis in equation.params["axes"]) - 1)


def _population_count(equation, ins):
    return Interval(0, jnp.iinfo(equation.outvars[0].aval.dtype).bits)


def _top_k(equation, ins):
    return [ins[0], Interval(0, equation.invars[0].aval.shape[equation.params.get("axis", -1)] - 1)]


def _lu(equation, ins):
    rows = Interval(0, equation.invars[0].aval.shape[-2] - 1)
    return [UNKNOWN, rows, rows]


def _gather(equation, ins):
    """An element of the operand, or the fill value, which by default is an end of the dtype's range."""
    if "FILL" not in str(equation.params["mode"]):
        return ins[0]
    fill = equation.params["fill_value"]
    return UNKNOWN if fill is None else hull([ins[0], of_constant(np.asarray(fill))])


def _scatter(equation, ins):
    """What was there or is written; but `at[...].apply` stores what a function returns, which may be anything."""
    applies = equation.primitive.name == "scatter" and equation.params["update_jaxpr"] is not None
    return UNKNOWN if applies else hull([ins[0], ins[2]])


def _reduce(equation, ins):
    """One of the elements, unless there are none, or `and` and `or` work bit by bit, on integers."""
    keeps = equation.primitive.name in ("reduce_max", "reduce_min") or _is_bool(equation)
    return ins[0] if keeps and equation.invars[0].aval.size else UNKNOWN


def _first(equation, ins):
    return ins[0]


def _each(equation, ins):
    return ins


_RULES: dict[str, Rule] = {
    **dict.fromkeys("broadcast_in_dim reshape squeeze transpose rev slice dynamic_slice".split(), _first),
    **dict.fromkeys("copy stop_gradient pvary split unstack tile cummax cummin".split(), _first),
    "convert_element_type": _first,
    **dict.fromkeys("sort optimization_barrier device_put".split(), _each),
    **dict.fromkeys("reduce_max reduce_min reduce_and reduce_or".split(), _reduce),
    "concatenate": lambda equation, ins: hull(ins),
    "pad": lambda equation, ins: hull(ins),
    **dict.fromkeys(["scatter", "scatter-min", "scatter-max"], _scatter),
    "dynamic_update_slice": lambda equation, ins: hull(ins[:2]),
    "gather": _gather,
    "select_n": _select,
    "iota": lambda equation, ins: Interval(0, max(equation.params["shape"][equation.params["dimension"]] - 1, 0)),
    "argmin": _arg_extreme,
    "argmax": _arg_extreme,
    "top_k": _top_k,
    "lu": _lu,
    "add": lambda equation, ins: Interval(ins[0].lo + ins[1].lo, ins[0].hi + ins[1].hi),
    "sub": lambda equation, ins: Interval(ins[0].lo - ins[1].hi, ins[0].hi - ins[1].lo),
    "mul": lambda equation, ins: _corners(lambda x, y: x * y, *ins),
    "neg": lambda equation, ins: Interval(-ins[0].hi, -ins[0].lo),
    "sign": lambda equation, ins: Interval(*((end > 0) - (end < 0) for end in ins[0])),
    "abs": _absolute,
    "div": _divide,
    "rem": _remainder,
    "square": lambda equation, ins: _power(ins[0], 2),
    "integer_pow": lambda equation, ins: _power(ins[0], equation.params["y"]),
    "max": lambda equation, ins: Interval(max(i.lo for i in ins), max(i.hi for i in ins)),
    "min": lambda equation, ins: Interval(min(i.lo for i in ins), min(i.hi for i in ins)),
    "clamp": lambda equation, ins: Interval(*(min(max(x, low), high) for low, x, high in zip(*ins, strict=True))),
    "and": _and,
    "or": _or,
    "xor": _xor,
    "not": _not,
    "shift_left": _shift(lambda x, n: x * 2**n),
    "shift_right_arithmetic": _shift_right,
    "shift_right_logical": _shift_right,
    "lt": lambda equation, ins: _less(ins[0], ins[1], or_equal=False),
    "le": lambda equation, ins: _less(ins[0], ins[1], or_equal=True),
    "gt": lambda equation, ins: _less(ins[1], ins[0], or_equal=False),
    "ge": lambda equation, ins: _less(ins[1], ins[0], or_equal=True),
    "eq": lambda equation, ins: _equal(*ins),
    "ne": lambda equation, ins: Interval(*(1 - end for end in reversed(_equal(*ins)))),
    "reduce_sum": _sum,
    "cumsum": _cumulative_sum,
    "population_count": _population_count,
}
