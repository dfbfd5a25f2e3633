"""A user's function, called for one problem as it was written: `fun(x, args)`, or `fun(x)` if there are no args.

Whatever in `args` is not a number, such as a name, an activation function or an option, becomes part of the function.
"""

import inspect
from collections.abc import Callable
from enum import Enum
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

__all__ = ["Hint", "call", "split"]

_EXPLAINED = (IndexError, AttributeError, ValueError, TypeError)


def split(fun: Callable, args: PyTree) -> tuple[Callable, PyTree]:
    """A function of only the numbers in `args`, and `args` with None in place of everything else."""
    leaves, tree = jax.tree.flatten(args)
    if all(map(_is_number, map(type, leaves))):
        return fun, args
    is_static = list(map(_is_static, leaves))
    static = tuple(leaf if flag else None for leaf, flag in zip(leaves, is_static, strict=True))
    numbers = [None if flag else leaf for leaf, flag in zip(leaves, is_static, strict=True)]
    return partial(_joined, fun, tree, tuple(is_static), static), jax.tree.unflatten(tree, numbers)


@lru_cache(1024)
def _is_number(kind: type) -> bool:
    """Whether a leaf of this type is certainly a number or an array of numbers."""
    if issubclass(kind, (bool, Enum, str, bytes, type)):  # Python's bools are for `if`
        return False
    return issubclass(kind, (int, float, complex, jax.Array, Tracer)) or hasattr(kind, "dtype")


def _is_static(leaf: Any) -> bool:
    if _is_number(type(leaf)):
        return False
    return isinstance(leaf, (bool, Enum, str, bytes)) or callable(leaf) or np.asarray(leaf).dtype == object


def _joined(fun: Callable, tree: Any, is_static: tuple[bool, ...], static: tuple, x: PyTree, numbers: PyTree) -> Any:
    """`fun(x, args)`, with the numbers back in their places."""
    left = iter(jax.tree.leaves(numbers))
    leaves = [other if flag else next(left) for flag, other in zip(is_static, static, strict=True)]
    return call(fun, x, jax.tree.unflatten(tree, leaves))


class Hint(NamedTuple):
    """What `x` may have been meant to be, and what to tell the user in that case."""

    instead: jax.ShapeDtypeStruct
    text: str


def call(fun: Callable, x: PyTree, args: PyTree, hint: Hint | None = None) -> Any:
    """`fun(x, args)`; `fun(x)` where there are no args and it takes one argument.

    Raises:
        TypeError: `fun` cannot be called like that.
        Exception: whatever `fun` raises; with the text of `hint`, if `fun` would accept `hint.instead` as x.
    """
    arguments = (x,) if _takes(fun, x) and not jax.tree.leaves(args) else (x, args)
    if not _takes(fun, *arguments):
        name = getattr(fun, "__name__", type(fun).__name__)
        raise TypeError(
            f"fun is called as fun(x, args), but {name} takes {inspect.signature(fun)}. Pass several arguments as "
            "one pytree, as in lambda x, args: f(x, *args). Without args, fun(x) is enough."
        )
    try:
        return fun(*arguments)
    except _EXPLAINED as error:
        if hint is None or not _would_take(fun, hint.instead, *arguments[1:]):
            raise
        kind = next(each for each in _EXPLAINED if isinstance(error, each))
        first_line = f"{error}".partition("\n")[0].rstrip(".")
        raise kind(f"fun(x, args) failed for one problem: {first_line}. {hint.text}") from error


def _would_take(fun: Callable, x: jax.ShapeDtypeStruct, *args: PyTree) -> bool:
    try:
        jax.eval_shape(lambda x: fun(x, *args), x)
    except Exception:
        return False
    return True


def _takes(fun: Callable, *arguments: Any) -> bool:
    """Whether a function can be called with these arguments; True if unknown, as for functions written in C."""
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True
