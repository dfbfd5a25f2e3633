"""Arrays that nobody changes afterwards, and what was computed of them and stays true. Used by all that keeps arrays.

A NumPy array that a user hands over may be changed in place later: its owner would then give other answers than its
fingerprint says. JAX too reads such an array after the call that it was given to has returned. So what could be
changed is copied, and only that; arrays of JAX never are.
"""

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import PyTree

from jaxopt_lite.specialists.checks import check_kept

__all__ = ["freeze_fields", "frozen", "inputs", "own", "remembered"]

Value = TypeVar("Value")


def frozen(tree: PyTree) -> PyTree:
    """A pytree with containers of its own, in which NumPy arrays that could be changed are copies that cannot."""
    return tree if isinstance(tree, jax.Array) else jax.tree.map(_frozen, tree)


def own(value: Any) -> Any:
    """One array; a copy of whatever is none of JAX."""
    return value if isinstance(value, jax.Array) else np.array(value)


def freeze_fields(owner: Any) -> None:
    """`frozen` for the arrays that are fields of a frozen dataclass."""
    for name, value in vars(owner).items():
        if isinstance(value, np.ndarray):
            object.__setattr__(owner, name, frozen(value))


def inputs(x: PyTree) -> PyTree:
    """Inputs of a model, which JAX may read only after the call has returned.

    Raises:
        TypeError: arrays of NumPy that hold no numbers.
        ValueError: numbers in them that are too large for the dtypes that JAX has enabled.
    """
    return x if isinstance(x, jax.Array) else _input(x) if isinstance(x, np.ndarray) else jax.tree.map(_input, x)


def _input(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        check_kept("x", leaf)
    return _frozen(leaf)


def _frozen(leaf: Any) -> Any:
    if _is_lasting(leaf):
        return leaf
    copy = leaf.copy()
    copy.flags.writeable = False
    return copy


def _is_lasting(leaf: Any) -> bool:
    """Whether it is no array of NumPy, or one that nobody can write to, nor to what it is a view of."""
    while isinstance(leaf, np.ndarray):
        if leaf.flags.writeable:
            return False
        leaf = leaf.base
    return True


def remembered(owner: Any, name: str, leaves: Sequence[Any], compute: Callable[[], Value]) -> Value:
    """`compute()`, kept in an object for as long as these are the arrays that it was computed of.

    There is no lock, which a process that is forked meanwhile would inherit, held for ever: two threads that ask at
    once compute the same twice.
    """
    known = vars(owner).get(name)
    if known is not None and len(known[0]) == len(leaves) and all(map(is_, known[0], leaves)):
        return known[1]
    value = compute()
    if all(map(_is_lasting, leaves)):
        vars(owner)[name] = tuple(leaves), value
    return value
