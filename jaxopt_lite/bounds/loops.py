"""What a loop carries: intervals that no round of the loop leaves.

They are grown until they hold, by widening, and then shrunk again as long as they hold, by narrowing.

Source: P. Cousot and R. Cousot, Abstract interpretation, POPL 1977.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jaxopt_lite.bounds.guards import DEPTH, Value, alternatives, any_of, under
from jaxopt_lite.bounds.intervals import Interval, fit, hull, meet, whole

__all__ = ["after_rounds", "invariant", "replaced"]

# How often the intervals of a loop are shrunk again.
_NARROWINGS = 3


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
    for _ in range(_NARROWINGS):
        again = later(needed, True)
        if not covers(needed, again):
            break
        entries, needed, done = needed, again, needed == again
        if done:
            break
    return entries


def _widen(entry: Interval, need: Interval, aval: Any, count: int) -> Interval:
    """An interval that holds both: a generous one the second time, then the whole range, so that the search ends.

    Half the dtype's range comes before all of it, because there `i + 1` does not wrap round: a later
    `min(i + 1, n)` or `(i + 1) % n` then brings the range back.
    """
    if need in entry or count == 0:
        return hull([entry, need])
    limit = whole(aval)
    lo, hi = (limit.lo, limit.hi) if count > 1 else (-(-limit.lo // 2), limit.hi // 2)
    return hull([need, Interval(entry.lo if entry.lo <= need.lo else lo, entry.hi if need.hi <= entry.hi else hi)])


def after_rounds(start: Interval, value: Value, out: Value, aval: Any, rounds: int, exact: bool) -> Interval:
    """The range of a carried value after 1 to `rounds` rounds, each of which takes `value` to `out`.

    Two things are known where a round only adds: the sum, and what the last round gave. The sum alone settles
    most loops at once; both together are exact.
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
