"""Bounds on the unknowns, lower ≤ x ≤ upper, as callers give them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from jaxopt_lite.lanes.batch import numeric

__all__ = ["active", "axes_of", "checked_bounds", "in_rows"]


def checked_bounds(bounds: Any, x0: PyTree) -> dict[str, PyTree]:
    """The bounds as `lower` and `upper`, pytrees like `x0` of arrays that broadcast against its leaves.

    Args:
        bounds: None for no bounds, or the pair (lower, upper): each one number for all unknowns, or a pytree like `x0`
            of arrays that broadcast against its leaves, with None where there is no such bound.
        x0: the starts.

    Raises:
        TypeError: `bounds` is not a pair, or a bound is complex or not numeric.
        ValueError: bounds that do not fit `x0`, are NaN, or exclude each other.
    """
    if bounds is None:
        return {}
    if not (isinstance(bounds, tuple | list) and len(bounds) == 2):
        raise TypeError(
            f"bounds is {_kind(bounds)}; expected the pair (lower, upper), each one number for all unknowns, None, or "
            "a pytree like x0 of arrays that broadcast against its leaves."
        )
    lower, upper = (_like(bound, x0, name, none) for bound, name, none in zip(bounds, _NAMES, _NONE, strict=True))
    for (path, low), high in zip(jax.tree_util.tree_leaves_with_path(lower), jax.tree.leaves(upper), strict=True):
        _check_order(low, high, jax.tree_util.keystr(path))
    return {"lower": lower, "upper": upper}


_NAMES, _NONE = ("lower", "upper"), (-np.inf, np.inf)
_NUMBER = int | float | complex | np.generic  # complex ones too, so that `numeric` says what is wrong with them


def _kind(bounds: Any) -> str:
    length = f" of {len(bounds)}" if isinstance(bounds, tuple | list) else ""
    return f"a {type(bounds).__name__}{length}"


def _like(bound: Any, x0: PyTree, name: str, none: float) -> PyTree:
    """A bound as a pytree like `x0`."""
    leaves, tree = jax.tree.flatten(x0)
    if bound is None or _is_number(bound):
        value = numeric(none if bound is None else bound, f"the {name} bound")
        return jax.tree.unflatten(tree, [value] * len(leaves))
    given = []
    for (path, like), end in zip(jax.tree_util.tree_leaves_with_path(x0), _ends(bound, tree, name), strict=True):
        end = end if hasattr(end, "dtype") else _numbers(end, none)
        numeric(end, f"the {name} bound{jax.tree_util.keystr(path)}")
        if not _fits(np.shape(end), np.shape(like)):
            raise ValueError(
                f"the {name} bounds{jax.tree_util.keystr(path)} have shape {np.shape(end)}; expected one that "
                f"broadcasts against the shape of x0, {np.shape(like)}."
            )
        given.append(end)
    return jax.tree.unflatten(tree, given)


def _ends(bound: Any, tree: Any, name: str) -> list[Any]:
    """What a bound has for each leaf of the unknowns; a None of theirs is no leaf.

    Raises:
        ValueError: it has another structure.
    """
    try:
        ends = tree.flatten_up_to(bound)
    except ValueError:
        ends = [bound] if tree.num_leaves == 1 else [{}]  # an array, or a list of numbers, for the only one
    if all(end is None or isinstance(end, list | tuple | _NUMBER) or hasattr(end, "dtype") for end in ends):
        return ends
    raise ValueError(
        f"the {name} bounds have the structure {jax.tree.structure(bound)}; expected one number, or a pytree like "
        f"x0: {tree}."
    )


def _numbers(end: Any, none: float) -> np.ndarray:
    return np.asarray(jax.tree.map(lambda each: none if each is None else each, end, is_leaf=lambda each: each is None))


def _is_number(bound: Any) -> bool:
    return isinstance(bound, _NUMBER) or (hasattr(bound, "dtype") and np.ndim(bound) == 0)


def _fits(shape: tuple[int, ...], onto: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, onto) == onto
    except ValueError:
        return False


def _check_order(low: Any, high: Any, where: str) -> None:
    """Reject bounds that exclude each other, unless they are traced."""
    if isinstance(low, Tracer) or isinstance(high, Tracer):
        return
    between = np.asarray(low) <= np.asarray(high)
    if not np.all(between):
        index = tuple(map(int, np.argwhere(~between)[0]))
        pair = [float(np.broadcast_to(bound, between.shape)[index]) for bound in (low, high)]
        raise ValueError(
            f"bounds{where} at index {index} are {pair[0]:g} and {pair[1]:g}; expected lower ≤ upper and no NaN."
        )


def axes_of(given: dict[str, PyTree], x0: PyTree, batched: bool) -> tuple[int | None, ...]:
    """The batch axis of each leaf of the bounds and loss scale: 0, or None if all problems share it."""
    if not given:
        return ()
    size = np.shape(jax.tree.leaves(x0)[0])[:1]
    like = {"lower": x0, "upper": x0}
    return tuple(
        0 if batched and np.shape(leaf)[:1] == size and np.ndim(leaf) == np.ndim(start) else None
        for name in sorted(given)
        for leaf, start in _pairs(given[name], like.get(name))
    )


def _pairs(tree: PyTree, like: PyTree) -> list[tuple[Any, Any]]:
    leaves = jax.tree.leaves(tree)
    starts = jax.tree.leaves(like) if like is not None else [np.zeros(1)] * len(leaves)
    return list(zip(leaves, starts, strict=True))


def in_rows(bound: PyTree, x0: PyTree, batched: bool, dtype) -> Float[Array, "B n"]:
    """A bound in the layout of the unknowns, `[B, n]`."""
    rows = []
    for leaf, like in zip(jax.tree.leaves(bound), jax.tree.leaves(x0), strict=True):
        row = jnp.broadcast_to(jnp.asarray(leaf, dtype), jnp.shape(like))
        row = row if batched else row[None]
        rows.append(row.reshape(row.shape[0], math.prod(row.shape[1:])))
    return jnp.concatenate(rows, axis=1)


def active(x, lower, upper):
    """-1 for an unknown at its lower bound, 1 at its upper one, 0 between them."""
    return jnp.where(x <= lower, -1, jnp.where(x >= upper, 1, 0)).astype(jnp.int32)
