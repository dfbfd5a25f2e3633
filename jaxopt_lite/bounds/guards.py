"""What a condition says of the values behind it: a guard in front of an access bounds its index.

An index is guarded as in `where(i < n, i, 0)`, `cond(i < n, ...)`, `while i < n` or JAX's own `where(i < 0, i + n, i)`.
`alternatives` works out which facts a condition implies, and `refine` what these say of the values computed from them.

Source: P. Cousot and R. Cousot, Abstract interpretation, POPL 1977.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxopt_lite.bounds.accesses import Computed
from jaxopt_lite.bounds.intervals import BOOLEAN, UNKNOWN, Interval, after, hull, meet, whole
from jaxopt_lite.jaxprs import Equation

__all__ = ["DEPTH", "Facts", "Value", "alternatives", "any_of", "refine", "under"]


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

# Primitives whose element j depends only on the elements j of the operands. A guard that holds for element j of a mask
# says something about element j of its operands, so facts pass through these and through no others.
_ELEMENTWISE = frozenset("add sub mul neg abs sign div rem max min clamp convert_element_type pvary and or not".split())

# How far back a refinement follows the equations, and how many alternatives a condition may split into.
DEPTH = 6
_ALTERNATIVES = 8

_OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


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
    if name in _OPPOSITE:
        return _comparison(name if holds else _OPPOSITE[name], *args)
    # A cast keeps a 0 or 1. "All of a mask" and "none of it" speak of every element, so they say the same of each.
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
    elif facts and depth and value.equation is not None and value.name in _ELEMENTWISE:
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
    return choices if len(choices) <= _ALTERNATIVES else [{}]
