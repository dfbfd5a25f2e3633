"""The range of every integer in a jaxpr, through calls, guards, branches and loops: interval analysis.

A jaxpr is evaluated with a `Value` in place of each array: an interval, and the equation that computed it, so that
guards (`guards`) and loops (`loops`) can be seen through. Used by `unchecked`.

Source: P. Cousot and R. Cousot, Abstract interpretation, POPL 1977.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jaxopt_lite.bounds.accesses import body_of, expanded
from jaxopt_lite.bounds.guards import Facts, Value, alternatives, refine, under
from jaxopt_lite.bounds.intervals import UNKNOWN, Interval, after, fit, hull, of_constant, whole
from jaxopt_lite.bounds.loops import after_rounds, invariant, replaced
from jaxopt_lite.jaxprs import (
    Equation,
    Interpreter,
    Scan,
    While,
    branches,
    inner_jaxprs,
    is_jaxs_own,
    opened,
    shape_of,
)

__all__ = ["ranges_of"]

# Called on each equation, with its operands. Meanwhile `jaxprs.current_line` is the line of the equation.
Visit = Callable[[Equation, list[Value]], None]


def ranges_of(jaxpr: Any, visit: Visit) -> list[Interval]:
    """The ranges of the results of a jaxpr, for inputs that may be anything their dtypes can hold.

    Args:
        jaxpr: the jaxpr, closed or not.
        visit: called on each equation, in nested jaxprs too, once with operands that cover all that can occur.
    """
    return [value.interval for value in _Ranges(visit).run(jaxpr, _unknowns(jaxpr))]


def _unknowns(jaxpr: Any) -> list[Value]:
    return [Value(whole(var.aval)) for var in opened(jaxpr)[0].invars]


class _Ranges(Interpreter):
    """Evaluates jaxprs on ranges. Without a visit it is a trial run of a loop, which skips equations that compute no
    integers.
    """

    def __init__(self, visit: Visit | None = None):
        self._visit = visit

    def constant(self, value: Any) -> Value:
        return Value(of_constant(value))

    def results(self, equation: Equation, values: list[Value]) -> list[Value]:
        if self._visit is not None:
            self._visit(equation, values)
        elif all(whole(var.aval) == UNKNOWN for var in equation.outvars):
            return [Value(UNKNOWN) for _ in equation.outvars]
        control = _CONTROL.get(equation.primitive.name)
        if control is not None:
            return control(self, equation, values)
        inner = body_of(equation)
        if inner is not None:
            return _call(self, equation, inner, values)
        inner = expanded(equation)
        if inner is not None:  # a function of JAX's own, and so are its accesses
            return [Value(value.interval) for value in _Ranges().call(inner, values)]
        for inner in inner_jaxprs(equation):
            self.run(inner, _unknowns(inner))
        outs = [Value(out, equation, tuple(values)) for out in after(equation, [value.interval for value in values])]
        if equation.primitive.name == "select_n" and outs[0].interval != UNKNOWN:
            return [Value(refine(outs[0], {}) or outs[0].interval, equation, tuple(values))]
        return outs


def _floor_division(equation: Equation, x: Interval, y: Interval) -> Interval | None:
    return Interval(min(x.lo // y.lo, x.lo // y.hi), max(x.hi // y.lo, x.hi // y.hi)) if y.lo > 0 else None


def _modulo(equation: Equation, x: Interval, y: Interval) -> Interval | None:
    """`x mod y` with the sign of `y`, and `x` itself where that is already below every `y`."""
    if y.lo <= 0:
        return None
    return x if 0 <= x.lo and x.hi < y.lo else Interval(0, y.hi - 1)


def _search(equation: Equation, table: Interval, value: Interval) -> Interval | None:
    """An index of the table, or the one behind its end; not for a batch, whose axis may be any."""
    shape = shape_of(equation.invars[0])
    return Interval(0, shape[0]) if len(shape) == 1 else None


# JAX functions of two operands whose meaning says more than interval arithmetic can read from their equations.
_SUMMARIES = {"floor_divide": _floor_division, "remainder": _modulo, "searchsorted": _search}


def _call(ranges: _Ranges, equation: Equation, inner: Any, values: list[Value]) -> list[Value]:
    summary = _SUMMARIES.get(equation.params.get("name", "")) if is_jaxs_own(inner) else None
    # A derivative may have split the function into parts with other operands and results.
    is_whole = (len(values), len(equation.outvars)) == (2, 1)
    if summary is not None and is_whole and whole(equation.outvars[0].aval) != UNKNOWN:
        interval = summary(equation, *(value.interval for value in values))
        if interval is not None:
            return [Value(fit(interval, equation.outvars[0].aval))]
    return ranges.call(inner, values)


def _sharded(ranges: _Ranges, equation: Equation, values: list[Value]) -> list[Value]:
    """A shard holds some of the elements, so the whole array's range is the shard's too."""
    (body,) = inner_jaxprs(equation)
    return [Value(out.interval) for out in ranges.run(body, [Value(value.interval) for value in values])]


def _linear_solve(ranges: _Ranges, equation: Equation, values: list[Value]) -> list[Value]:
    """`custom_linear_solve`: up to four functions of the right-hand side, each with its own constants."""
    lengths, jaxprs = equation.params["const_lengths"], equation.params["jaxprs"]
    right_hand_side = values[sum(lengths) :]
    start = 0
    for length, jaxpr in zip(lengths, jaxprs, strict=True):
        if jaxpr is not None:
            ranges.run(jaxpr, values[start : start + length] + right_hand_side)
        start += length
    return [Value(whole(var.aval)) for var in equation.outvars]


def _branch(ranges: _Ranges, equation: Equation, values: list[Value]) -> list[Value]:
    (index, *operands), jaxprs = values, branches(equation)
    guards = [alternatives(index, bool(k)) if len(jaxprs) == 2 else [{}] for k in range(len(jaxprs))]
    taken = [k for k, guard in enumerate(guards) if guard and Interval(k, k) in index.interval]
    if index.interval not in Interval(0, len(jaxprs) - 1) or not taken:
        guards, taken = [[{}]] * len(jaxprs), range(len(jaxprs))
    results = [ranges.run(jaxprs[k], [_refined(value, guards[k]) for value in operands]) for k in taken]
    return [Value(hull([value.interval for value in outs])) for outs in zip(*results, strict=True)]


def _refined(value: Value, choices: Sequence[Facts]) -> Value:
    """The value under a guard; itself where the guard adds nothing, so that it can be recognized inside."""
    interval = under(value, choices)
    return value if interval is None or interval == value.interval else Value(interval)


def _scan(ranges: _Ranges, equation: Equation, values: list[Value]) -> list[Value]:
    loop = Scan.of(equation, values)
    count, length = len(loop.carried), loop.options["length"]
    avals = [var.aval for var in equation.outvars[:count]]
    starts = [value.interval for value in loop.carried]

    def round_of(entries, ranges):
        carried = [Value(entry) for entry in entries]
        elements = [Value(value.interval) for value in loop.scanned]
        return carried, ranges.run(loop.body, loop.fixed + carried + elements)

    def reached(carried, outs, rounds, exact):
        return [after_rounds(*four, rounds, exact) for four in zip(starts, carried, outs, avals, strict=False)]

    def step(entries, exact):
        return reached(*round_of(entries, _Ranges()), max(length - 1, 0), exact)

    carried, outs = round_of(invariant(starts, avals, step), ranges)
    ends = reached(carried, outs, length, exact=True)
    finals = [Value(hull([start, end])) for start, end in zip(starts, ends, strict=True)]
    return finals + [Value(out.interval) for out in outs[count:]]


def _while(ranges: _Ranges, equation: Equation, values: list[Value]) -> list[Value]:
    loop = While.of(equation, values)
    avals = [var.aval for var in equation.outvars]
    # Under vmap each lane has its condition, and the body also runs on the lanes that have ended (their results are
    # thrown away): what the condition says then holds for the results that count, not for the body's accesses.
    in_lanes = shape_of(opened(loop.condition)[0].outvars[0]) != ()

    def round_of(entries, ranges, guarded):
        carried = [Value(entry) for entry in entries]
        (goes_on,) = ranges.run(loop.condition, loop.for_condition + carried)
        choices = alternatives(goes_on, True) if guarded else [{}]
        carried = [_refined(value, choices) for value in carried]
        outs = ranges.run(loop.body, loop.for_body + carried)
        return [replaced(out, value) or value.interval for value, out in zip(carried, outs, strict=True)]

    starts = [value.interval for value in loop.carried]
    entries = invariant(starts, avals, lambda entries, exact: round_of(entries, _Ranges(), True))
    round_of(entries, ranges, not in_lanes)
    return [Value(entry) for entry in entries]


_CONTROL = {
    "cond": _branch,
    "scan": _scan,
    "while": _while,
    "shard_map": _sharded,
    "custom_linear_solve": _linear_solve,
}
