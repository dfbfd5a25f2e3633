"""A user's function and pytrees, turned into arrays and functions on lanes.

The user writes `fun(x, args)` for one problem with any pytrees. Here `x` becomes a vector `[n]`, the batch an array
`[B, n]`, and `fun` a jaxpr evaluated on a tile of lanes, `[n, L]`. Everything the function closes over, tracers
included, becomes an explicit input, so that derivatives with respect to it are never lost.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

__all__ = ["Batch", "Function", "LaneProblem", "batch_of", "trace"]


class Batch(NamedTuple):
    """A batch of problems as arrays: `x` [B, n]; argument leaves with a batch axis, and shared ones."""

    x: Float[Array, "B n"]
    mapped: tuple[Array, ...]
    shared: tuple[Array, ...]


class Layout(NamedTuple):
    """How the arrays of a `Batch` go back to the user's pytrees. Static and hashable but for `unravel`."""

    unravel: Callable[[Array], PyTree]
    args_tree: Any
    is_mapped: tuple[bool, ...]

    def args(self, mapped, shared) -> PyTree:
        """The user's `args` for one problem, from its mapped and the shared leaves."""
        mapped, shared = iter(mapped), iter(shared)
        leaves = [next(mapped) if is_mapped else next(shared) for is_mapped in self.is_mapped]
        return jax.tree.unflatten(self.args_tree, leaves)


class Function(NamedTuple):
    """The user's function as data: a jaxpr for one problem, what it closed over, and how to call it.

    Calling it with `x` [n], mapped leaves, shared leaves and constants returns `(value, aux)` as arrays and a pytree.
    """

    closed: ClosedJaxpr
    output_tree: Any

    def __call__(self, x, mapped, shared, consts):
        flat = jaxpr_as_fun(ClosedJaxpr(self.closed.jaxpr, list(consts)))(x, *mapped, *shared)
        return jax.tree.unflatten(self.output_tree, flat)

    def value(self, x, mapped, shared, consts):
        """The value alone, without `aux`."""
        return self(x, mapped, shared, consts)[0]


def batch_of(x0: PyTree, args: PyTree, args_axes: PyTree, batched: bool) -> tuple[Batch, Layout]:
    """Check the shapes of a batch and lay it out as arrays.

    Args:
        x0: the starts; every leaf `[B, ...]`, or `[...]` when not `batched`.
        args: the arguments of `fun`.
        args_axes: like `jax.vmap`'s `in_axes` for `args`: 0, `None`, another axis, or a pytree prefix of those.
        batched: whether there is a batch axis at all.

    Raises:
        ValueError: a leaf without a batch axis, axes that disagree, an empty problem.
        TypeError: a leaf that is complex or not numeric.
    """
    leaves = [_numeric(leaf, f"x0{name}") for name, leaf in _named_leaves(x0)]
    if not leaves:
        raise ValueError("x0 has no leaves: expected a pytree with at least one array, got " + repr(x0))
    dtype = jnp.result_type(float if not _any_float(leaves) else jnp.result_type(*leaves))
    leaves = [jnp.asarray(leaf, _float_dtype(leaf, dtype)) for leaf in leaves]
    x0 = jax.tree.unflatten(jax.tree.structure(x0), leaves)
    if not batched:
        x0 = jax.tree.map(lambda leaf: leaf[None], x0)
    size = _common_size([(f"x0{name}", leaf, 0) for name, leaf in _named_leaves(x0)])
    flat, unravel = _ravel_batch(x0, dtype)
    if flat.shape[1] == 0:
        raise ValueError("x0 has no unknowns: every leaf has size zero for one problem; give at least one number.")
    mapped, shared, is_mapped = _split_args(args, args_axes if batched else None, size)
    return Batch(flat, mapped, shared), Layout(unravel, jax.tree.structure(args), is_mapped)


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _numeric(leaf, name: str):
    """A leaf as an array-like with a dtype; complex and non-numeric leaves raise."""
    leaf = leaf if hasattr(leaf, "dtype") and hasattr(leaf, "shape") else np.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        raise TypeError(f"{name} is complex ({leaf.dtype}); expected real numbers. Split it into real and imaginary parts.")
    if not (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool):
        raise TypeError(f"{name} has dtype {leaf.dtype}; expected numbers that can be unknowns.")
    return leaf


def _any_float(leaves) -> bool:
    return any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)


def _float_dtype(leaf, fallback):
    return leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else fallback


def _common_size(named_axes) -> int:
    """The one size that all batch axes share."""
    sizes = {}
    for name, leaf, axis in named_axes:
        if np.ndim(leaf) <= axis or np.ndim(leaf) < -axis:
            raise ValueError(
                f"{name} has shape {np.shape(leaf)} and no batch axis {axis}. For a single problem pass batched=False; "
                "for an argument shared by all problems pass args_axes=None."
            )
        sizes[name] = np.shape(leaf)[axis]
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise ValueError(f"the batch axes disagree: {listed}. All must be the number of problems.")
    return next(iter(sizes.values()))


def _ravel_batch(x0: PyTree, dtype) -> tuple[Array, Callable]:
    """All leaves of each problem in one vector, `[B, n]`, and the way back for one problem."""
    one = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), x0)
    n = ravel_pytree(one)[0].size
    unravel_one = ravel_pytree(one)[1]
    leaves = jax.tree.leaves(x0)
    flat = jnp.concatenate([leaf.reshape(leaf.shape[0], -1).astype(dtype) for leaf in leaves], axis=1)
    vector_dtype = ravel_pytree(one)[0].dtype
    return flat.reshape(flat.shape[0], n), lambda vector: unravel_one(vector.astype(vector_dtype))


def _split_args(args: PyTree, args_axes: PyTree, size: int):
    """The leaves of `args` with a batch axis, moved to the front, and the shared ones."""
    axes = _axis_per_leaf(args, args_axes)
    named = [(f"args{name}", leaf) for name, leaf in _named_leaves(args)]
    for (name, leaf), axis in zip(named, axes, strict=True):
        if axis is not None and _common_size([(name, leaf, axis)]) != size:
            raise ValueError(
                f"{name} has {np.shape(leaf)[axis]} entries along axis {axis}; expected {size}, one per problem of x0. "
                "If all problems share it, pass args_axes=None for it."
            )
    leaves = [jnp.asarray(leaf) for _, leaf in named]
    mapped = tuple(jnp.moveaxis(leaf, axis, 0) for leaf, axis in zip(leaves, axes, strict=True) if axis is not None)
    shared = tuple(leaf for leaf, axis in zip(leaves, axes, strict=True) if axis is None)
    return mapped, shared, tuple(axis is not None for axis in axes)


def _axis_per_leaf(args: PyTree, args_axes: PyTree) -> list[int | None]:
    """`args_axes`, a prefix of the pytree `args`, spread over its leaves."""
    axes: list[int | None] = []
    try:
        jax.tree.map(
            lambda axis, subtree: axes.extend([axis] * len(jax.tree.leaves(subtree))),
            args_axes,
            args,
            is_leaf=lambda node: node is None or isinstance(node, int),
        )
    except ValueError as error:
        raise ValueError(
            f"args_axes={args_axes!r} is not a prefix of args, whose structure is {jax.tree.structure(args)}: {error}"
        ) from error
    return axes


def trace(fun: Callable, batch: Batch, layout: Layout, has_aux: bool) -> tuple[Function, tuple[Array, ...]]:
    """Trace `fun` once for one problem. Returns it as data, and the arrays it closed over.

    The value comes out as an array (a pytree of residuals is ravelled); `aux` stays a pytree.
    """
    output_tree = None

    def flat_fun(x, *leaves):
        nonlocal output_tree
        mapped, shared = leaves[: len(batch.mapped)], leaves[len(batch.mapped) :]
        result = fun(layout.unravel(x), layout.args(mapped, shared))
        value, aux = _value_and_aux(result, has_aux)
        leaves, output_tree = jax.tree.flatten((value, aux))
        return [jnp.asarray(leaf) for leaf in leaves]

    specs = [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in (batch.x, *batch.mapped)]
    specs += [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in batch.shared]
    closed = jax.make_jaxpr(flat_fun)(*specs)
    return Function(closed, output_tree), tuple(closed.consts)


def _value_and_aux(result, has_aux: bool):
    if not has_aux:
        return _ravel(result, "fun(x, args)"), None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ValueError(f"with has_aux=True fun must return a pair (value, aux); got {type(result).__name__}.")
    return _ravel(result[0], "the value of fun(x, args)"), result[1]


def _ravel(value, name: str):
    """A residual pytree as one vector; a scalar stays a scalar."""
    leaves = [_numeric(leaf, name) for leaf in jax.tree.leaves(value)]
    if len(leaves) == 1:
        return jnp.asarray(leaves[0]) if np.ndim(leaves[0]) <= 1 else jnp.ravel(leaves[0])
    return ravel_pytree(value)[0]


class LaneProblem:
    """The function and its derivatives on one tile: `x` is `[n, L]`, and so is every vector it returns."""

    def __init__(self, function: Function, mapped, shared, consts, dtype):
        self._function, self._dtype = function, dtype
        self._mapped, self._fixed = mapped, (shared, consts)

    def _lanes(self, one: Callable, *vectors):
        """Run `one(data, *vectors)`, written for one problem, on the row of lanes."""

        def for_one(mapped, *vectors):
            return one(lambda x: self._function.value(x, mapped, *self._fixed).astype(self._dtype), *vectors)

        axes = (jax.tree.map(lambda _: -1, self._mapped), *(-1 for _ in vectors))
        return jax.vmap(for_one, in_axes=axes, out_axes=-1)(self._mapped, *vectors)

    def value(self, x):
        """f(x) or F(x)."""
        return self._lanes(lambda f, x: f(x), x)

    def value_and_grad(self, x):
        """f(x) and ∇f(x)."""
        return self._lanes(lambda f, x: jax.value_and_grad(f)(x), x)

    def value_and_slope(self, x, p):
        """F(x) and its derivative along p, J p."""
        return self._lanes(lambda f, x, p: jax.jvp(f, (x,), (p,)), x, p)

    def jacobian(self, x):
        """J(x), `[m, n, L]`, by forward mode."""
        return self._lanes(lambda f, x: jax.jacfwd(f)(x), x)

    def value_and_aux(self, x):
        """The value and the user's `aux`, whose leaves get the lane axis last."""
        one = lambda mapped, x: self._function(x, mapped, *self._fixed)  # noqa: E731
        axes = (jax.tree.map(lambda _: -1, self._mapped), -1)
        return jax.vmap(one, in_axes=axes, out_axes=-1)(self._mapped, x)
