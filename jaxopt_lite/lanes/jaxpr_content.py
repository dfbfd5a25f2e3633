"""What a jaxpr computes, as a key: functions with equal jaxprs can share a compiled program."""

import dataclasses
import functools
import types
import weakref
from collections.abc import Hashable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lite.jaxprs import Equation, as_function, equations_in, is_jaxpr, is_literal, opened
from jaxopt_lite.lanes.content import VALUES, Itself, Same, Unknown, held, is_trusted

__all__ = ["content_of_jaxpr"]


def content_of_jaxpr(jaxpr: Any) -> Hashable | None:
    """The key of a jaxpr apart from its consts, or None if something in it has no key.

    A jaxpr holds the user's differentiation rules as Python functions, which do not tell what they compute. If there
    are any, the jaxprs of the derivatives, in which the rules have been applied, become part of the key.
    """
    try:
        return _with_derivatives(opened(jaxpr)[0], _ORDERS)
    except Unknown:
        return None


_ORDERS = 2  # of derivatives that are compared: a rule may call functions that have rules, mostly the function itself
_ONLY_BACKWARD = "custom_lin"  # what a forward derivative has in place of rules that it does not apply
_RULES = {"custom_jvp_call", "custom_vjp_call", _ONLY_BACKWARD}
_CALLS = {"jit", "pjit"}
_known_rows: weakref.WeakKeyDictionary[Any, tuple[Hashable, bool]] = weakref.WeakKeyDictionary()


def _with_derivatives(jaxpr: Any, orders: int) -> Hashable:
    rows, has_rules = _rows(jaxpr)
    return (rows, _derivatives(jaxpr, orders)) if has_rules else rows


def _rows(jaxpr: Any) -> tuple[Hashable, bool]:
    """An open jaxpr with its variables numbered, and whether there are rules in it.

    They are remembered, because JAX traces a jitted function once and then returns the same jaxpr again.
    """
    known = _known_rows.get(jaxpr)
    if known is None:
        reader = _JaxprReader()
        inputs = reader.atoms((*jaxpr.constvars, *jaxpr.invars))
        rows = inputs, len(jaxpr.constvars), *map(reader.equation, jaxpr.eqns), reader.atoms(jaxpr.outvars)
        known = _known_rows[jaxpr] = rows, reader.has_rules
    return known


class _JaxprReader:
    """One walk through a jaxpr."""

    def __init__(self):
        self.has_rules = False
        self._numbers: dict[Any, int] = {}

    def atoms(self, atoms: Iterable[Any]) -> Hashable:
        """Literals by value, variables by number."""
        return tuple(map(self._atom, atoms))

    def _atom(self, atom: Any) -> Hashable:
        if is_literal(atom):
            value = np.asarray(atom.val)
            return atom.aval, value.dtype, value.tobytes()
        return self._numbers.setdefault(atom, len(self._numbers)), atom.aval

    def equation(self, equation: Equation) -> Hashable:
        """All that decides what an equation computes."""
        is_rule, is_call = equation.primitive.name in _RULES, equation.primitive.name in _CALLS
        self.has_rules |= is_rule
        params = [
            self._called(value) if is_call and name == "jaxpr" else self._param(value)
            for name, value in equation.params.items()
            if not is_rule or is_jaxpr(value)  # the other params are the rules, and how many arguments they take
        ]
        context = equation.ctx
        around = context.compute_type, self._param(context.xla_metadata), context.cur_abstract_mesh
        inputs, outputs = self.atoms(equation.invars), self.atoms(equation.outvars)
        return equation.primitive, inputs, tuple(params), outputs, around

    def _called(self, jaxpr: Any) -> Hashable:
        """A jitted function. One with rules equals only itself, since JAX keeps its derivatives with that object."""
        inner, consts = opened(jaxpr)
        rows, has_rules = _rows(inner)
        return Same(jaxpr) if has_rules else (rows, *map(Same, consts))

    def _param(self, value: Any) -> Hashable:
        if is_jaxpr(value):
            jaxpr, consts = opened(value)
            rows, has_rules = _rows(jaxpr)
            self.has_rules |= has_rules
            return rows, *map(Same, consts)
        if isinstance(value, tuple | list):
            return type(value), *map(self._param, value)
        if isinstance(value, dict):
            return tuple((key, self._param(each)) for key, each in value.items())
        if isinstance(value, types.FunctionType | functools.partial) or dataclasses.is_dataclass(value):
            return _called_back(value)
        if isinstance(value, np.ndarray):
            return value.dtype, value.shape, value.tobytes()
        if not isinstance(value, Hashable):
            raise Unknown(value)
        return type(value), value


def _called_back(thing: Any) -> Hashable:
    """The key of a function that Python runs whenever the program runs, and of what it holds.

    What it reads is read then, so that equal content now is not enough: it must be the very same objects. Only the
    functions around them, which are made anew in every trace, are compared by what they hold.
    """
    kind = type(thing)
    if kind is types.FunctionType:
        cells = list(map(held, thing.__closure__ or ()))
        if is_trusted(thing.__globals__.get("__name__")):
            cells = [tuple(each.items()) if type(each) is dict else each for each in cells]
        own = *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).items()
        return thing.__code__, Itself(thing.__globals__), *map(_called_back, (*own, *cells))
    if kind is functools.partial:
        return kind, *map(_called_back, (thing.func, *thing.args, *thing.keywords.items()))
    if kind is tuple:
        return kind, *map(_called_back, thing)
    if dataclasses.is_dataclass(thing) and type(thing).__module__.partition(".")[0] == "jax":
        return kind, *(_called_back(getattr(thing, field.name)) for field in dataclasses.fields(thing))
    return (kind, thing) if kind in VALUES else Itself(thing)


def _derivatives(jaxpr: Any, orders: int) -> Hashable:
    """The keys of the first derivatives: forward, and backward where that has other rules, as far as there are any.

    To go backward JAX transposes what the rules of a `jax.custom_jvp` gave forward. Those of a `jax.custom_vjp` are
    applied only backward; forward, JAX leaves a mark in their place.
    """
    if not orders:
        return ()
    count = len(jaxpr.constvars)
    specs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in (*jaxpr.constvars, *jaxpr.invars)]
    inexact = [k for k, spec in enumerate(specs) if jnp.issubdtype(spec.dtype, jnp.inexact)]

    def moved(values, moving):
        values = [dict(zip(inexact, moving, strict=True)).get(k, value) for k, value in enumerate(values)]
        results = as_function(jaxpr, values[:count])(*values[count:])
        return [result for result in results if jnp.issubdtype(result.dtype, jnp.inexact)]

    def forward(values, tangents):
        return jax.jvp(lambda moving: moved(values, moving), ([values[k] for k in inexact],), (tangents,))

    def backward(values, cotangents):
        results, back = jax.vjp(lambda moving: moved(values, moving), [values[k] for k in inexact])
        return results, back(cotangents)

    moving, found = [specs[k] for k in inexact], []
    for derivative in (forward, backward):
        try:
            directions = moving if derivative is forward else jax.eval_shape(moved, specs, moving)
            traced = jax.make_jaxpr(derivative)(specs, directions)
        except (TypeError, ValueError, NotImplementedError):  # a rule for the other mode, or a loop of unknown length
            continue
        found.append(_with_derivatives(opened(traced)[0], orders - 1))
        if not any(equation.primitive.name == _ONLY_BACKWARD for equation, *_ in equations_in(traced)):
            break
    if not found and orders == _ORDERS:
        raise Unknown(jaxpr)
    return tuple(found)
