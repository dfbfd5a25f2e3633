"""A user's pytrees as a batch of arrays, and the way back.

The user's `x0` and `args` are any pytrees, with or without a batch axis in each leaf. Here the unknowns of a problem
become a vector, `[n]`, and those of a batch an array, `[B, n]`; the leaves of `args` have the batch axis first.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from jaxopt_lite.lanes.calls import Hint, call
from jaxopt_lite.lanes.capture import Signature
from jaxopt_lite.lanes.settings import in_own_settings

__all__ = [
    "Batch", "Layout", "axis_per_leaf", "batch_of", "check_sizes_known", "is_key", "mapped_leaves", "named_leaves",
    "numeric", "off_host", "on_host", "one_of_each", "one_size", "signature_of", "with_mapped",
]  # fmt: skip


class Batch(NamedTuple):
    """A batch of problems as arrays: `x` [B, n] and the leaves of `args`, those with a batch axis [B, ...]."""

    x: Float[Array, "B n"]
    leaves: tuple[Array, ...]
    is_mapped: tuple[bool, ...]


class Layout(NamedTuple):
    """How the arrays of a `Batch` turn back into the user's pytrees."""

    unravel: Callable[[Array], PyTree]
    args_tree: Any


def batch_of(
    x0: PyTree, args: PyTree, axes: tuple[int | None, ...], batched: bool, called: str = "x0"
) -> tuple[Batch, Layout]:
    """Check the shapes of a batch and lay it out as arrays.

    Args:
        x0: the starts; every leaf `[B, ...]`, or `[...]` when not `batched`.
        args: the arguments of `fun`.
        axes: the batch axis of each leaf of `args`, or `None`, as `axis_per_leaf` gives them.
        batched: whether there is a batch axis at all.
        called: what errors call `x0`.

    Raises:
        ValueError: a leaf without a batch axis, axes that disagree, an empty problem, sizes that are not known.
        TypeError: a leaf that is complex or not numeric.
    """
    _check_sizes(**{called: x0}, args=args)
    leaves = [numeric(leaf, f"{called}{name}") for name, leaf in named_leaves(x0)]
    if not leaves:
        raise ValueError(f"{called} has no leaves: expected a pytree with at least one array, got {x0!r}")
    dtype = jnp.result_type(float if not _any_float(leaves) else jnp.result_type(*leaves))
    leaves = [jnp.asarray(leaf, _float_dtype(leaf, dtype)) for leaf in leaves]
    x0 = jax.tree.unflatten(jax.tree.structure(x0), leaves)
    if not batched:
        x0 = jax.tree.map(lambda leaf: leaf[None], x0)
    size = _common_size([(f"{called}{name}", leaf, 0) for name, leaf in named_leaves(x0)])
    flat, unravel = _ravel_batch(x0, dtype)
    if flat.shape[1] == 0:
        raise ValueError(f"{called} has no unknowns: every leaf of a problem has size zero; give at least one number.")
    axes = axes if batched else (None,) * len(axes)
    leaves, is_mapped = _batch_axes_first(args, axes, size, called)
    return Batch(flat, leaves, is_mapped), Layout(unravel, jax.tree.structure(args))


def signature_of(
    x0: PyTree,
    args: PyTree,
    axes: tuple[int | None, ...],
    batched: bool,
    call: Callable = call,
    called: str = "x0",
) -> Signature:
    """The arguments of `fun` for one problem of this batch. Arguments and errors are those of `batch_of`.

    `call(fun, x, args, hint)` calls `fun`, as `calls.call` does.
    """
    x_leaves, x_tree = jax.tree.flatten(x0)
    leaves, tree = jax.tree.flatten(args)
    x_types, types = tuple(map(_type_of, x_leaves)), tuple(map(_type_of, leaves))
    return _signature(x_tree, x_types, tree, types, axes, batched, call, called, _promotion())


def _hint(x: PyTree, x0: PyTree, batched: bool, called: str) -> Hint | None:
    """What may be wrong with `x0` if a function fails on `x`, the share of one problem."""
    leaves = jax.tree.leaves(x)
    if any(leaf.shape for leaf in leaves):
        return None
    if isinstance(x, list | tuple):
        size = len(leaves)
        text = (
            f"Like {called}, the x that fun gets is a {type(x).__name__}, a pytree of {size} scalars. To get an array, "
            f"pass one: jnp.asarray({called})."
        )
    elif batched:
        size = np.shape(jax.tree.leaves(x0)[0])[0]
        text = (
            f"The first axis of {called} is the batch, so {called} of shape ({size},) is {size} problems with one "
            "unknown each, and x is a scalar. For one problem pass batched=False, for several "
            f"{called} of shape [B, n]."
        )
    else:
        return None
    return Hint(jax.ShapeDtypeStruct((size,), jnp.result_type(*leaves)), text)


def _promotion() -> tuple:
    """The settings of JAX that decide how dtypes are promoted."""
    config: Any = jax.config
    return config.jax_enable_x64, config.jax_numpy_dtype_promotion, config.jax_numpy_rank_promotion


def _type_of(leaf) -> tuple[tuple[int, ...], Any]:
    try:
        return leaf.shape, leaf.dtype
    except AttributeError:
        array = np.asarray(leaf)
        return array.shape, array.dtype


@lru_cache(1024)
@in_own_settings
def _signature(
    x_tree, x_types, args_tree, types, axes, batched: bool, call: Callable, called: str, promotion: tuple
) -> Signature:
    """`signature_of`, remembered; `promotion` only tells calls apart."""
    found = []

    def look(x0, args):
        batch, layout = batch_of(x0, args, axes, batched, called)
        x = jax.eval_shape(layout.unravel, jax.ShapeDtypeStruct(batch.x.shape[1:], batch.x.dtype))
        x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), x)  # without the current mesh
        args = jax.tree.unflatten(layout.args_tree, one_of_each(batch))
        found.append(Signature(x, args, call=partial(call, hint=_hint(x, x0, batched, called))))
        return ()

    x0, args = (
        jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(shape, _canonical(dtype)) for shape, dtype in kinds])
        for tree, kinds in ((x_tree, x_types), (args_tree, types))
    )
    jax.eval_shape(look, x0, args)
    return found[0]


def _canonical(dtype):
    return jax.dtypes.canonicalize_dtype(dtype) if isinstance(dtype, np.dtype) and dtype.kind in "biufc" else dtype


def one_of_each(batch: Batch) -> list[jax.ShapeDtypeStruct]:
    """The share of one problem in the leaves of `args`, as shapes and dtypes."""
    return [
        jax.ShapeDtypeStruct(leaf.shape[1:] if is_mapped else leaf.shape, leaf.dtype)
        for leaf, is_mapped in zip(batch.leaves, batch.is_mapped, strict=True)
    ]


def on_host(leaf: Any) -> np.ndarray:
    """A leaf as NumPy can hold it: random keys, as of `nnx.Dropout`, as their data."""
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def off_host(array: Any, like: Any) -> Any:
    """What `on_host` made of a leaf, as the leaf that it was: random keys as those of `like`, or what describes it."""
    if not is_key(like):
        return array
    one = jnp.empty((), like.dtype)  # key_impl takes no ShapeDtypeStruct
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(one))


def is_key(leaf: Any) -> bool:
    """Whether a leaf, or what describes one, is random keys."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def numeric(leaf, name: str):
    """A leaf as an array-like with a dtype; complex and non-numeric leaves raise."""
    leaf = leaf if hasattr(leaf, "dtype") and hasattr(leaf, "shape") else np.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        raise TypeError(
            f"{name} is complex ({leaf.dtype}); expected real numbers. Split it into real and imaginary parts."
        )
    if not (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool):
        raise TypeError(f"{name} has dtype {leaf.dtype}; expected numbers.")
    return leaf


def _check_sizes(**arguments: PyTree) -> None:
    for argument, tree in arguments.items():
        for name, leaf in named_leaves(tree):
            check_sizes_known(f"{argument}{name}", np.shape(leaf))


def check_sizes_known(name: str, shape: tuple[Any, ...]) -> None:
    """Refuse the symbolic sizes of `jax.export`: tiles and loops are laid out for known ones.

    Raises:
        ValueError: a size that is not known.
    """
    if not all(isinstance(size, int) for size in shape):
        raise ValueError(
            f"{name} has shape {shape}; expected sizes that are known when it is traced. "
            "Export it for batches of one size, and fill up a smaller batch with copies of a problem."
        )


def _any_float(leaves) -> bool:
    return any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)


def _float_dtype(leaf, fallback):
    return leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else fallback


def _common_size(named_axes) -> int:
    """The one size that all batch axes share."""
    sizes = {}
    for name, leaf, axis in named_axes:
        if np.ndim(leaf) <= axis or np.ndim(leaf) < -axis:
            in_list = np.ndim(leaf) == 0 and name.endswith("]") and name[-2].isdigit()
            raise ValueError(
                f"{name} has shape {np.shape(leaf)} and no batch axis {axis}. For a single problem pass batched=False; "
                "for an argument shared by all problems pass args_axes=None"
                + ("; for an array pass one: a list of numbers is a pytree of scalars." if in_list else ".")
            )
        sizes[name] = np.shape(leaf)[axis]
    return one_size(sizes, "the batch axes", "problems")


def one_size(sizes: dict[str, int], axes: str, number_of: str) -> int:
    """The size that these axes share; `sizes` has at least one of them, by the names of their leaves.

    Raises:
        ValueError: they disagree; the message calls them `axes`, and says that each must be the number of `number_of`.
    """
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise ValueError(f"{axes} disagree: {listed}. All must be the number of {number_of}.")
    return next(iter(sizes.values()))


def _ravel_batch(x0: PyTree, dtype) -> tuple[Array, Callable]:
    """All leaves of each problem in one vector, `[B, n]`, and the way back for one problem."""
    one = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), x0)
    vector, unravel = ravel_pytree(one)
    columns = [leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(x0)]
    flat = jnp.concatenate([column.astype(dtype) for column in columns], axis=1)
    return flat, lambda x, own=vector.dtype: unravel(x.astype(own))


def _batch_axes_first(args: PyTree, axes, size: int, unknowns: str):
    """The leaves of `args`, batch axis first where they have one, and which of them have."""
    leaves = []
    for (name, leaf), axis in zip(named_leaves(args), axes, strict=True):
        if getattr(getattr(leaf, "dtype", None), "kind", "f") in "SUOMm":
            raise TypeError(f"args{name} has dtype {leaf.dtype}; expected numbers, or a single string or object.")
        if axis is not None and _common_size([(f"args{name}", leaf, axis)]) != size:
            raise ValueError(
                f"args{name} has {np.shape(leaf)[axis]} entries along axis {axis}; expected {size}, one per problem of "
                f"{unknowns}. If all problems share it, pass args_axes=None for it; if {unknowns} is one problem, pass "
                "batched=False."
            )
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        leaf = jnp.asarray(leaf, _canonical(leaf.dtype))  # of what was made where float64 was enabled, and no longer is
        leaves.append(leaf if axis is None else jnp.moveaxis(leaf, axis, 0))
    return tuple(leaves), tuple(axis is not None for axis in axes)


def mapped_leaves(leaves: tuple, is_mapped: tuple[bool, ...]) -> tuple:
    """The leaves with a batch axis."""
    return tuple(leaf for leaf, flag in zip(leaves, is_mapped, strict=True) if flag)


def with_mapped(leaves: tuple, is_mapped: tuple[bool, ...], mapped: tuple) -> tuple:
    """The leaves, with these in place of those with a batch axis."""
    new = iter(mapped)
    return tuple(next(new) if flag else leaf for leaf, flag in zip(leaves, is_mapped, strict=True))


def axis_per_leaf(args: PyTree, args_axes: PyTree) -> tuple[int | None, ...]:
    """The axis of each leaf of `args`, from `args_axes`, a prefix of that pytree like `in_axes` of `jax.vmap`.

    Raises:
        ValueError: `args_axes` is not a prefix of `args`.
    """
    axes: list[int | None] = []

    def is_axis(node):
        return node is None or (isinstance(node, int | np.integer) and not isinstance(node, bool))

    if is_axis(args_axes):
        return (args_axes,) * len(jax.tree.leaves(args))

    def spread(axis, subtree):
        if not is_axis(axis):
            raise ValueError(f"args_axes holds {axis!r}: expected whole numbers or None.")
        axes.extend([axis] * len(jax.tree.leaves(subtree)))

    try:
        jax.tree.map(spread, args_axes, args, is_leaf=is_axis)
    except ValueError as error:
        raise ValueError(
            f"args_axes={args_axes!r} is not a prefix of args, whose structure is {jax.tree.structure(args)}: {error}"
        ) from error
    return tuple(axes)
