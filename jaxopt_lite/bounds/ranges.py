"""Walks a jaxpr with intervals in place of numbers, through calls, branches and loops.

Imports `intervals`, `guards`, `loops` and `jaxprs`; used by `unchecked`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import JaxprEqn, Literal

from jaxopt_lite.bounds.guards import Value, alternatives, refine, under
from jaxopt_lite.bounds.intervals import UNKNOWN, Interval, after, fit, hull, of_constant, whole
from jaxopt_lite.bounds.jaxprs import (
    called,
    caller_inside,
    inner_jaxprs,
    is_jaxs_own,
    opened,
    scan_split,
    shape_of,
)
from jaxopt_lite.bounds.loops import after_turns, invariant, replaced

# Called on each equation, with its operands and the call to blame for it (None: the equation itself).
Visit = Callable[[JaxprEqn, list[Value], JaxprEqn | None], None]


def walk(jaxpr: Any, args: Sequence[Value], visit: Visit, caller: JaxprEqn | None = None) -> list[Value]:
    """The results of a jaxpr for operands in given ranges.

    Args:
        jaxpr: The jaxpr, closed or not.
        args: One value for each of its inputs.
        visit: Called on each equation, in nested jaxprs too, once with operands that cover all that can
            occur.
        caller: The call to blame for the equations; None if their own places are right.

    Returns:
        One value for each output.
    """
    inner, consts = opened(jaxpr)
    env = dict(zip(inner.constvars, map(_constant, consts), strict=True))
    env |= zip(inner.invars, args, strict=True)

    def read(atom):
        return _constant(atom.val) if isinstance(atom, Literal) else env[atom]

    for eqn in inner.eqns:
        ins = [read(atom) for atom in eqn.invars]
        visit(eqn, ins, caller)
        env |= zip(eqn.outvars, _evaluate(eqn, ins, visit, caller), strict=True)
    return [read(atom) for atom in inner.outvars]


def unknowns(jaxpr: Any) -> list[Value]:
    """Inputs of a jaxpr that may be anything their dtypes can hold."""
    return [Value(whole(var.aval)) for var in opened(jaxpr)[0].invars]


def _constant(value):
    return Value(of_constant(value))


def _ignore(eqn, ins, caller):
    """A `Visit` for the trial runs of a loop."""


def _evaluate(eqn, ins, visit, caller):
    """The results of one equation."""
    control = CONTROL.get(eqn.primitive.name)
    if control is not None:
        return control(eqn, ins, visit, caller)
    jaxpr = called(eqn)
    if jaxpr is not None:
        return _call(eqn, jaxpr, ins, visit, caller)
    for jaxpr in inner_jaxprs(eqn):
        walk(jaxpr, unknowns(jaxpr), visit, caller)
    outs = [Value(out, eqn, tuple(ins)) for out in after(eqn, [value.interval for value in ins])]
    if eqn.primitive.name == "select_n" and outs[0].interval != UNKNOWN:
        return [Value(refine(outs[0], {}) or outs[0].interval, eqn, tuple(ins))]
    return outs


# --- Calls ---


def _floor_division(eqn, x, y):
    return Interval(min(x.lo // y.lo, x.lo // y.hi), max(x.hi // y.lo, x.hi // y.hi)) if y.lo > 0 else None


def _modulo(eqn, x, y):
    """`x mod y` with the sign of `y`, and `x` itself where that is already below every `y`."""
    if y.lo <= 0:
        return None
    return x if 0 <= x.lo and x.hi < y.lo else Interval(0, y.hi - 1)


def _search(eqn, table, value):
    """A place in the table, or behind it; not for a batch, whose axis may be any."""
    shape = shape_of(eqn.invars[0])
    return Interval(0, shape[0]) if len(shape) == 1 else None


# Functions of JAX of two operands whose meaning says more than their equations, which interval arithmetic cannot
# see through.
SUMMARIES = {"floor_divide": _floor_division, "remainder": _modulo, "searchsorted": _search}


def _call(eqn, jaxpr, ins, visit, caller):
    inner, _ = opened(jaxpr)
    summary = SUMMARIES.get(eqn.params.get("name", "")) if is_jaxs_own(inner) else None
    # A derivative may have split the function into parts, of other operands and results.
    if summary is not None and (len(ins), len(eqn.outvars)) == (2, 1) and whole(eqn.outvars[0].aval) != UNKNOWN:
        interval = summary(eqn, *(value.interval for value in ins))
        if interval is not None:
            return [Value(fit(interval, eqn.outvars[0].aval))]
    return walk(jaxpr, ins, visit, caller_inside(inner, eqn, caller))


def _sharded(eqn, ins, visit, caller):
    """A shard holds some of the elements, so the whole array's range is the shard's too."""
    jaxpr = eqn.params["jaxpr"]
    return [Value(out.interval) for out in walk(jaxpr, [Value(value.interval) for value in ins], visit, caller)]


def _linear_solve(eqn, ins, visit, caller):
    """`custom_linear_solve`: up to four functions of the right-hand side, each with its own constants."""
    lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    right_hand_side = ins[sum(lengths) :]
    start = 0
    for length, jaxpr in zip(lengths, jaxprs, strict=True):
        if jaxpr is not None:
            walk(jaxpr, ins[start : start + length] + right_hand_side, visit, caller)
        start += length
    return [Value(whole(var.aval)) for var in eqn.outvars]


# --- Branches ---


def _branch(eqn, ins, visit, caller):
    index, *operands = ins
    branches = eqn.params["branches"]
    guards = [alternatives(index, bool(k)) if len(branches) == 2 else [{}] for k in range(len(branches))]
    taken = [k for k, guard in enumerate(guards) if guard and Interval(k, k) in index.interval]
    if index.interval not in Interval(0, len(branches) - 1) or not taken:
        guards, taken = [[{}]] * len(branches), range(len(branches))
    results = [walk(branches[k], [_refined(value, guards[k]) for value in operands], visit, caller) for k in taken]
    return [Value(hull([value.interval for value in outs])) for outs in zip(*results, strict=True)]


def _refined(value, choices):
    """The value under a guard; itself where the guard adds nothing, so that it can be recognised inside."""
    interval = under(value, choices)
    return value if interval is None or interval == value.interval else Value(interval)


# --- Loops ---


def _scan(eqn, ins, visit, caller):
    n_consts, n_carried = scan_split(eqn)
    consts, carried, scanned = (
        ins[:n_consts],
        ins[n_consts : n_consts + n_carried],
        ins[n_consts + n_carried :],
    )
    avals = [var.aval for var in eqn.outvars[:n_carried]]
    starts = [value.interval for value in carried]
    length = eqn.params["length"]

    def turn(entries, visit):
        values = [Value(entry) for entry in entries]
        elements = [Value(value.interval) for value in scanned]
        return values, walk(eqn.params["jaxpr"], consts + values + elements, visit, caller)

    def reached(values, outs, turns, exact):
        return [after_turns(*four, turns, exact) for four in zip(starts, values, outs, avals, strict=False)]

    def step(entries, exact):
        return reached(*turn(entries, _ignore), max(length - 1, 0), exact)

    values, outs = turn(invariant(starts, avals, step), visit)
    ends = reached(values, outs, length, exact=True)
    finals = [Value(hull([start, end])) for start, end in zip(starts, ends, strict=True)]
    return finals + [Value(out.interval) for out in outs[n_carried:]]


def _while(eqn, ins, visit, caller):
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    cond_consts, body_consts, carried = ins[:n_cond], ins[n_cond : n_cond + n_body], ins[n_cond + n_body :]
    avals = [var.aval for var in eqn.outvars]
    # Under vmap the condition is one for each lane, and the body also runs on the lanes that have ended
    # (their results are thrown away): what the condition says then holds for the results that count, not for
    # the body's accesses.
    in_lanes = shape_of(opened(eqn.params["cond_jaxpr"])[0].outvars[0]) != ()

    def turn(entries, visit, guarded):
        values = [Value(entry) for entry in entries]
        (goes_on,) = walk(eqn.params["cond_jaxpr"], cond_consts + values, visit, caller)
        choices = alternatives(goes_on, True) if guarded else [{}]
        values = [_refined(value, choices) for value in values]
        outs = walk(eqn.params["body_jaxpr"], body_consts + values, visit, caller)
        return [replaced(out, value) or value.interval for value, out in zip(values, outs, strict=True)]

    starts = [value.interval for value in carried]
    entries = invariant(starts, avals, lambda entries, exact: turn(entries, _ignore, True))
    turn(entries, visit, not in_lanes)
    return [Value(entry) for entry in entries]


CONTROL = {
    "cond": _branch,
    "scan": _scan,
    "while": _while,
    "shard_map": _sharded,
    "custom_linear_solve": _linear_solve,
}
