"""The range of every integer in a jaxpr, through calls, guards, branches and loops: interval analysis.

A jaxpr is evaluated with a `Value` in place of each array. That is an interval, and the equation that computed it: an
index is guarded in front of an access, as in `where(i < n, i, 0)`, `cond(i < n, ...)`, `while i < n` or JAX's own
`where(i < 0, i + n, i)`, and `refine` works out what such a guard says of the operands behind it. What a loop carries
is in an interval that no round of the loop leaves. It is grown until it holds, by widening, and then made smaller again
as long as it holds, by narrowing. Used by `unchecked`.

Source: P. Cousot and R. Cousot, Abstract interpretation, POPL 1977.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxopt_lite.bounds.accesses import Computed, body_of, expanded
from jaxopt_lite.bounds.intervals import BOOLEAN, UNKNOWN, Interval, after, fit, hull, meet, of_constant, whole
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

__all__ = ["Value", "Visit", "ranges_of"]


@dataclass(frozen=True, eq=False)
class Value(Computed):
    """A variable's range and, where known, the equation that computed it and that equation's operands.

    Compared by identity: two values with equal ranges are still different values.
    """

    interval: Interval
    equation: Equation | None = None
    args: "tuple[Value, ...]" = ()

    @property
    def is_boolean(self) -> bool:
        """Whether it is known to be of dtype bool: on integers, `and` and its relatives work bit by bit."""
        return self.equation is not None and whole(self.equation.outvars[0].aval) == BOOLEAN


Facts = Mapping[Value, Interval]

# Primitives whose element j depends on the elements j of the operands only. A guard that holds for element j
# of a mask says something about element j of its operands, so it may be carried through these and through no
# others.
ELEMENTWISE = frozenset("add sub mul neg abs sign div rem max min clamp convert_element_type pvary and or not".split())

# How far back a refinement follows the equations, and how many alternatives a condition may split into.
DEPTH = 6
ALTERNATIVES = 8

OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


def alternatives(condition: Value, holds: bool, depth: int = DEPTH) -> list[Facts]:
    """What is known where `condition` is `holds`: at least one of the returned sets of facts is true.

    Args:
        condition: a value that is 0 or 1, such as a boolean.
        holds: whether it is True or False.
        depth: how far to follow the equations behind the condition.

    Returns:
        The alternatives; `[{}]` when the condition says nothing, `[]` when it cannot be.
    """
    name, args = condition.name, condition.args
    truth = Interval(int(holds), int(holds))
    if meet(condition.interval, truth) is None:
        return []
    if depth and name in ("eq", "ne") and all(arg.interval in BOOLEAN for arg in args):
        for one, other in (args, args[::-1]):
            if other.interval.lo == other.interval.hi:
                return alternatives(one, holds == ((name == "eq") == bool(other.interval.lo)), depth - 1)
    if name in OPPOSITE:
        return _comparison(name if holds else OPPOSITE[name], *args)
    # A cast of a 0 or 1 keeps it. "All of a mask" and "none of it" speak of every element, so they say the
    # same of each.
    if depth and (
        (name == "convert_element_type" and args[0].interval in BOOLEAN)
        or (name, holds) in (("reduce_and", True), ("reduce_or", False))
    ):
        return alternatives(args[0], holds, depth - 1)
    if depth and name in ("not", "and", "or") and condition.is_boolean:
        parts = [alternatives(arg, holds != (name == "not"), depth - 1) for arg in args]
        if (name, holds) in (("and", True), ("or", False)):
            both = [_merge(a, b) for a in parts[0] for b in parts[1]]
            return _few([facts for facts in both if facts is not None])
        return _few([facts for part in parts for facts in part])
    return [{condition: truth}]


def refine(value: Value, facts: Facts, depth: int = DEPTH) -> Interval | None:
    """The range of `value` under `facts`; None if they contradict each other."""
    interval: Interval | None = value.interval
    if depth and value.name == "select_n" and len(value.args) == 3:
        interval = any_of(_cases(value, facts, depth - 1))
    elif facts and depth and value.equation is not None and value.name in ELEMENTWISE:
        args = [refine(arg, facts, depth - 1) for arg in value.args]
        known = [arg for arg in args if arg is not None]
        interval = after(value.equation, known)[0] if len(known) == len(args) else None
    for bound in (value.interval, facts.get(value, UNKNOWN)):
        interval = None if interval is None else meet(interval, bound)
    return interval


def _cases(value: Value, facts: Facts, depth: int) -> list[Interval | None]:
    """The ranges of the two cases of a `select_n`, each under the condition that selects it."""
    which, *cases = value.args
    choices = [(case, _merge(facts, more)) for k, case in enumerate(cases) for more in alternatives(which, bool(k))]
    return [refine(case, merged, depth) for case, merged in choices if merged is not None]


def any_of(ranges: Sequence[Interval | None]) -> Interval | None:
    """The hull of the ranges that are possible; None if none is."""
    possible = [interval for interval in ranges if interval is not None]
    return hull(possible) if possible else None


def under(value: Value, choices: Sequence[Facts]) -> Interval | None:
    """The range of `value` if one of the `choices` is true; None if none can be."""
    return any_of([refine(value, facts) for facts in choices])


def _comparison(name: str, a: Value, b: Value) -> list[Facts]:
    """The facts of `a < b` and its relatives, about both sides."""
    x, y = a.interval, b.interval
    if UNKNOWN in (x, y):
        return [{}]
    if name in ("gt", "ge"):
        return _comparison({"gt": "lt", "ge": "le"}[name], b, a)
    if name == "eq":
        return [{a: y, b: x}]
    if name == "ne":
        return [{a: _without(x, y), b: _without(y, x)}]
    gap = 1 if name == "lt" else 0
    return [{a: Interval(x.lo, y.hi - gap), b: Interval(x.lo + gap, y.hi)}]


def _without(x: Interval, y: Interval) -> Interval:
    """`x` without the single number `y`, which only an end of `x` can lose."""
    if y.lo != y.hi or x.lo == x.hi:
        return x
    return Interval(x.lo + (x.lo == y.lo), x.hi - (x.hi == y.lo))


def _merge(a: Facts, b: Facts) -> Facts | None:
    """Both sets of facts at once; None if they contradict each other."""
    merged = dict(a)
    for value, interval in b.items():
        both = meet(merged.get(value, UNKNOWN), interval)
        if both is None:
            return None
        merged[value] = both
    return merged


def _few(choices: list[Facts]) -> list[Facts]:
    """The alternatives, or no knowledge at all when there are too many to follow."""
    return choices if len(choices) <= ALTERNATIVES else [{}]


# --- Loops ---

# How often the intervals of a loop are made smaller again.
NARROWINGS = 3


def invariant(
    starts: Sequence[Interval], avals: Sequence[Any], step: Callable[[list[Interval], bool], list[Interval]]
) -> list[Interval]:
    """Intervals that hold for the carried values before every round of the loop.

    Args:
        starts: the intervals before the first round.
        avals: the carried values' abstract values.
        step: maps intervals, and whether to be exact, to intervals that hold before every later round, given
            that the first hold before every round.
    """

    def later(entries, exact):
        return [hull([start, out]) for start, out in zip(starts, step(entries, exact), strict=True)]

    def covers(outer, inner):
        return all(b in a for a, b in zip(outer, inner, strict=True))

    entries, count = list(starts), 0
    while not covers(entries, needed := later(entries, False)):
        entries = [_widen(*three, count) for three in zip(entries, needed, avals, strict=True)]
        count += 1
    # Only intervals that were seen to hold are kept, so that narrowing needs no proof that it is monotone.
    for _ in range(NARROWINGS):
        again = later(needed, True)
        if not covers(needed, again):
            break
        entries, needed, done = needed, again, needed == again
        if done:
            break
    return entries


def _widen(entry: Interval, need: Interval, aval: Any, count: int) -> Interval:
    """An interval that holds both; the second time a generous one, later all, so that the search ends.

    Half the dtype's range comes before all of it, because there `i + 1` does not wrap round: a later
    `min(i + 1, n)` or `(i + 1) % n` then brings the range back.
    """
    if need in entry or count == 0:
        return hull([entry, need])
    limit = whole(aval)
    lo, hi = (limit.lo, limit.hi) if count > 1 else (-(-limit.lo // 2), limit.hi // 2)
    return hull([need, Interval(entry.lo if entry.lo <= need.lo else lo, entry.hi if need.hi <= entry.hi else hi)])


def after_rounds(start: Interval, value: Value, out: Value, aval: Any, rounds: int, exact: bool) -> Interval:
    """The range of a carried value after 1 up to `rounds` rounds, each of which takes `value` to `out`.

    Two things are known where all that a round does is add: the sum, and what the last round gave. The sum
    alone settles most loops at once; both together are exact.
    """
    new = replaced(out, value) or start
    step = _increment(out, value)
    if step is None:
        return new
    total = fit(Interval(start.lo + rounds * min(step.lo, 0), start.hi + rounds * max(step.hi, 0)), aval)
    return meet(total, new) or total if exact else total


def _increment(out: Value, value: Value, depth: int = DEPTH) -> Interval | None:
    """What a round adds to a carried value, if adding is all it does: `i + 1`, `where(done, i, i + k)`."""
    if out is value:
        return Interval(0, 0)
    if not depth:
        return None
    if out.name == "convert_element_type" and out.interval == out.args[0].interval:
        return _increment(out.args[0], value, depth - 1)
    if out.name == "select_n":
        steps = [_increment(case, value, depth - 1) for case in out.args[1:]]
        found = [step for step in steps if step is not None]
        return hull(found) if len(found) == len(steps) else None
    if out.name not in ("add", "sub"):
        return None
    for kept, other in [out.args, out.args[::-1]][: 2 if out.name == "add" else 1]:
        step = _increment(kept, value, depth - 1)
        if step is not None:
            lo, hi = other.interval if out.name == "add" else (-other.interval.hi, -other.interval.lo)
            return Interval(step.lo + lo, step.hi + hi)
    return None


def replaced(out: Value, value: Value) -> Interval | None:
    """The range of `out` where it is not `value` again, as in `where(done, value, new)`; None if nowhere."""
    if out is value:
        return None
    if out.name == "select_n" and len(out.args) == 3 and value in out.args[1:]:
        which, *cases = out.args
        others = [(case, bool(k)) for k, case in enumerate(cases) if case is not value]
        return any_of([under(case, alternatives(which, holds)) for case, holds in others])
    return out.interval


# --- The walk through a jaxpr ---

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
    """Evaluates jaxprs on ranges. Without a visit it is a trial run of a loop: there, what is no integer says nothing,
    however it is computed.
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
        if inner is not None:  # a function of JAX's own, whose accesses are its own as well
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


# Functions of JAX of two operands whose meaning says more than their equations, which interval arithmetic cannot
# see through.
_SUMMARIES = {"floor_divide": _floor_division, "remainder": _modulo, "searchsorted": _search}


def _call(ranges: _Ranges, equation: Equation, inner: Any, values: list[Value]) -> list[Value]:
    summary = _SUMMARIES.get(equation.params.get("name", "")) if is_jaxs_own(inner) else None
    # A derivative may have split the function into parts, of other operands and results.
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
    """The value under a guard; itself where the guard adds nothing, so that it can be recognised inside."""
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
    # Under vmap the condition is one for each lane, and the body also runs on the lanes that have ended
    # (their results are thrown away): what the condition says then holds for the results that count, not for
    # the body's accesses.
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
