"""The part of a function that does not depend on an adapter is computed once, before the solve.

A solve evaluates the model at many adapter parameters `a` on the same examples. Everything before the first changed
layer is the same each time: it depends on the model alone (`shared`), or on the example too (`example`). What is left
depends on `a` (`rest`); for an adapter near the output that is little.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxopt_lite.jaxprs import Interpreter, is_literal, opened

__all__ = ["Hoisted", "hoist"]


class Hoisted(NamedTuple):
    """A function `f(params, a, x)` in three steps: `rest(a, shared(params), example(params, x))`."""

    shared: Callable[[PyTree], list]
    example: Callable[[PyTree, PyTree], list]
    rest: Callable[[PyTree, list, list], PyTree]


def hoist(f: Callable, params: PyTree, a: PyTree, x: PyTree) -> Hoisted:
    """Split `f(params, a, x)` by what each of its operations depends on.

    Args:
        f: the function, for one example.
        params: what is shared, given like `a` and `x` as arrays or their shapes.
        a: what changes from evaluation to evaluation.
        x: one example.
    """
    closed, shape = jax.make_jaxpr(f, return_shape=True)(*map(_specs, (params, a, x)))
    jaxpr, consts = opened(closed)
    k, m = jax.tree.structure(params).num_leaves, jax.tree.structure(a).num_leaves
    inputs = jaxpr.invars[:k], jaxpr.invars[k : k + m], jaxpr.invars[k + m :]
    level = _levels(jaxpr, *inputs)
    used = _used(jaxpr)
    stages = [[eqn for eqn in used if _level(level, eqn.invars) == number] for number in range(3)]
    shared_for_rest, example_for_rest = (_needed(stages[2], jaxpr.outvars, level, number) for number in range(2))
    shared_for_all = list(dict.fromkeys(shared_for_rest + _needed(stages[1], (), level, 0)))
    start = dict(zip(jaxpr.constvars, consts, strict=True))

    def shared(params):
        env = start | dict(zip(inputs[0], jax.tree.leaves(params), strict=True))
        return Interpreter().evaluate(stages[0], env, shared_for_all)

    def example(params, x):
        env = dict(zip(shared_for_all, shared(params), strict=True))
        env |= dict(zip(inputs[2], jax.tree.leaves(x), strict=True))
        return Interpreter().evaluate(stages[1], env, example_for_rest)

    def rest(a, from_shared, from_example):
        env = dict(zip(shared_for_all, from_shared, strict=True))
        env |= dict(zip(inputs[1], jax.tree.leaves(a), strict=True))
        env |= dict(zip(example_for_rest, from_example, strict=True))
        return jax.tree.unflatten(jax.tree.structure(shape), Interpreter().evaluate(stages[2], env, jaxpr.outvars))

    return Hoisted(shared, example, rest)


def _specs(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), tree)


def _used(jaxpr) -> list:
    """The equations that outputs depend on. A leaf that is changed but not used would be an argument of the solve."""
    needed, used = {atom for atom in jaxpr.outvars if not is_literal(atom)}, []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or not needed.isdisjoint(eqn.outvars):
            needed.update(atom for atom in eqn.invars if not is_literal(atom))
            used.append(eqn)
    return used[::-1]


def _levels(jaxpr, params, a, x) -> dict[Any, int]:
    """For each variable: 0 where it depends on the model alone, 1 on the example too, 2 on the adapter."""
    level = dict.fromkeys([*jaxpr.constvars, *params], 0) | dict.fromkeys(x, 1) | dict.fromkeys(a, 2)
    for eqn in jaxpr.eqns:
        level |= dict.fromkeys(eqn.outvars, _level(level, eqn.invars))
    return level


def _level(level: dict[Any, int], atoms: Sequence) -> int:
    return max((level[atom] for atom in atoms if not is_literal(atom)), default=0)


def _needed(eqns, outputs, level: dict[Any, int], number: int) -> list:
    """The variables of a level that these equations, or the outputs, take from outside."""
    atoms = [atom for eqn in eqns for atom in eqn.invars] + list(outputs)
    return list(dict.fromkeys(atom for atom in atoms if not is_literal(atom) and level[atom] == number))
