"""A model with changed parameters, computed on its activations, so that a batch of inputs can have a change each.

With a change of its own for every input, changed matrices would fill the memory: B inputs, B matrices. But a scale of
a matrix's outputs is a scale of the product, and a product with D U is a product with D and then one with U:

    x (W ⊙ s) = (x W) ⊙ s          x (W + D U) = x W + (x D) U

`on_activations` rewrites any JAX function by these two identities. It follows the changed matrices through the
function's jaxpr, to where they are multiplied. The matrix W itself is then the same for all inputs, and their products
are one product. What the rules do not know is computed from the changed matrix: right, and slower.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from jaxopt_lite.jaxprs import Equation, Interpreter, bind, called

__all__ = ["LowRank", "Scaled", "dense", "on_activations"]


class Scaled(NamedTuple):
    """`leaf ⊙ scale`, the scale along one axis."""

    leaf: Float[Array, "..."]
    scale: Float[Array, " d"]
    axis: int


class LowRank(NamedTuple):
    """`leaf + down @ up`."""

    leaf: Float[Array, "*stack m n"]
    down: Float[Array, "*stack m r"]
    up: Float[Array, "*stack r n"]


def dense(value: Any) -> Any:
    """What a `Scaled` or `LowRank` stands for, as an array; anything else as it is."""
    if isinstance(value, Scaled):
        return _times(value.leaf, value.scale, value.axis)
    if isinstance(value, LowRank):
        return value.leaf + value.down @ value.up
    return value


def _times(x, scale, axis: int):
    """`x` scaled along an axis."""
    return x * lax.broadcast_in_dim(scale, x.shape, (axis,))


def on_activations(apply: Callable, params: PyTree) -> Callable:
    """`apply(params, x)`, for params with leaves that may be `Scaled` or `LowRank`, with the identities above.

    Args:
        apply: a function of a pytree of arrays and an input.
        params: the unchanged parameters, for shapes and dtypes.

    Returns:
        A function `f(changed, x)`; `changed` is like `params`. Under `vmap` over the changes, products with the
        unchanged leaves are shared.
    """

    def changed_apply(changed: PyTree, x: PyTree) -> PyTree:
        leaves = jax.tree.leaves(changed, is_leaf=_is_changed)
        specs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), (params, x))
        closed, shape = jax.make_jaxpr(apply, return_shape=True)(*specs)
        outputs = _OnActivations().run(closed, [*leaves, *jax.tree.leaves(x)])
        return jax.tree.unflatten(jax.tree.structure(shape), [dense(value) for value in outputs])

    return changed_apply


def _is_changed(value: Any) -> bool:
    return isinstance(value, Scaled | LowRank)


class _OnActivations(Interpreter):
    """Evaluates jaxprs on values that may be changed matrices. Jitted functions are inlined."""

    def results(self, equation: Equation, values: list[Any]) -> Sequence[Any]:
        name = equation.primitive.name
        inner = called(equation) if name in ("jit", "pjit") else None
        if inner is not None:
            return self.call(inner, values)
        if any(map(_is_changed, values)):
            result = _RULES[name](equation, *values) if name in _RULES else None
            if result is not None:
                return [result]
        return bind(equation, [dense(value) for value in values])


def _convert(eqn, value):
    """A cast of the leaf and of its change."""
    cast = lambda part: lax.convert_element_type(part, eqn.params["new_dtype"])  # noqa: E731
    return type(value)(*(cast(part) if isinstance(part, jax.Array) else part for part in value))


def _transpose(eqn, value):
    order = tuple(eqn.params["permutation"])
    if isinstance(value, Scaled):
        return Scaled(lax.transpose(value.leaf, order), value.scale, order.index(value.axis))
    if order != (1, 0):
        return None
    return LowRank(value.leaf.T, value.up.T, value.down.T)


def _dot(eqn, left, right):
    """A product with one changed matrix; with two, the right one is followed."""
    if _is_changed(right):
        return _dot_with(eqn, dense(left), right, changed_side=1)
    return _dot_with(eqn, dense(right), left, changed_side=0)


def _dot_with(eqn, x, matrix, changed_side: int):
    contracted, batched = eqn.params["dimension_numbers"]
    own, others = contracted[changed_side], contracted[1 - changed_side]

    def product(x, leaf):
        return bind(eqn, [x, leaf] if changed_side else [leaf, x])[0]

    if isinstance(matrix, LowRank):
        if batched[0] or len(own) != 1 or matrix.leaf.ndim != 2:
            return None
        first, second = (matrix.down, matrix.up) if own[0] == 0 else (matrix.up, matrix.down)
        inner = _contract(eqn, x, first, others[0], own[0])
        change = _contract(eqn, inner, second, inner.ndim - 1, own[0])
        return product(x, matrix.leaf) + (change if changed_side else jnp.moveaxis(change, -1, 0))
    if matrix.axis in own:
        return product(_times(x, matrix.scale, others[own.index(matrix.axis)]), matrix.leaf)
    y = product(x, matrix.leaf)
    return _times(y, matrix.scale, _axis_of_product(eqn, matrix.axis, changed_side, x.ndim))


def _contract(eqn, x, matrix, x_axis: int, matrix_axis: int):
    precision = eqn.params["precision"]
    return lax.dot_general(x, matrix, (((x_axis,), (matrix_axis,)), ((), ())), precision=precision)


def _axis_of_product(eqn, axis: int, side: int, other_rank: int) -> int:
    """Which axis of a product that of a factor becomes, if it is not summed over: shared, left, then right axes."""
    contracted, batched = eqn.params["dimension_numbers"]
    if axis in batched[side]:
        return list(batched[side]).index(axis)
    gone = {*contracted[side], *batched[side]}
    before = sum(k not in gone for k in range(axis))
    lefts = other_rank - len(contracted[0]) - len(batched[0]) if side else 0
    return len(batched[0]) + lefts + before


def _gather(eqn, value, indices):
    """Rows looked up in a table whose columns are scaled: the rows, scaled."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    if (
        not isinstance(value, Scaled)
        or numbers.operand_batching_dims
        or sizes[value.axis] != value.leaf.shape[value.axis]
    ):
        return None
    kept = [k for k in range(value.leaf.ndim) if k not in numbers.collapsed_slice_dims]
    if value.axis not in kept:
        return None
    rows = bind(eqn, [value.leaf, indices])[0]
    return _times(rows, value.scale, numbers.offset_dims[kept.index(value.axis)])


_RULES = {"convert_element_type": _convert, "dot_general": _dot, "gather": _gather, "transpose": _transpose}
