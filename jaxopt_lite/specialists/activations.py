"""A model with changed parameters, computed on its activations, so that each input of a batch can have its own change.

If every input had its own changed matrices, they would fill the memory: B inputs, B matrices. But scaling a matrix's
outputs is scaling the product, and a product with D U is a product with D and then one with U:

    x (W ⊙ s) = (x W) ⊙ s          x (W + D U) = x W + (x D) U

`on_activations` rewrites any JAX function by these two identities. It follows the changed matrices through the
function's jaxpr to where they are multiplied. The matrix W itself is then the same for all inputs, and their products
are one product. What no rule covers is computed from the changed matrix: right, but slower.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from jaxopt_lite.jaxprs import Equation, Interpreter, bind, called

__all__ = ["LowRank", "Scaled", "dense", "is_changed", "on_activations"]


class Scaled(NamedTuple):
    """`leaf ⊙ scale`, the scale along one axis."""

    leaf: Float[Array, "..."]
    scale: Float[Array, " d"]
    axis: int

    def dense(self) -> Array:
        return _times(self.leaf, self.scale, self.axis)

    def transposed(self, order: tuple[int, ...]) -> "Scaled | None":
        return Scaled(lax.transpose(self.leaf, order), self.scale, order.index(self.axis))

    def product(self, eqn, x, side: int) -> Array | None:
        """The product `eqn` with `x`, in which the changed matrix is the factor number `side`."""
        own, others = eqn.params["dimension_numbers"][0][side], eqn.params["dimension_numbers"][0][1 - side]
        if self.axis in own:
            if jnp.promote_types(x.dtype, self.scale.dtype) != x.dtype:  # an integer x would truncate the scale
                return None
            return _product(eqn, _times(x, self.scale, others[own.index(self.axis)]), self.leaf, side)
        y = _product(eqn, x, self.leaf, side)
        return _times(y, self.scale, _axis_in_product(eqn, self.axis, side, x.ndim))

    def rows(self, eqn, indices) -> Array | None:
        """Rows of a table whose columns are scaled: look up, then scale."""
        numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
        if eqn.params["fill_value"] is not None:  # the scale must not reach the fill value
            return None
        if numbers.operand_batching_dims or sizes[self.axis] != self.leaf.shape[self.axis]:
            return None
        kept = [k for k in range(self.leaf.ndim) if k not in numbers.collapsed_slice_dims]
        if self.axis not in kept:
            return None
        rows = bind(eqn, [self.leaf, indices])[0]
        return _times(rows, self.scale, numbers.offset_dims[kept.index(self.axis)])


class LowRank(NamedTuple):
    """`leaf + down @ up`."""

    leaf: Float[Array, "*stack m n"]
    down: Float[Array, "*stack m r"]
    up: Float[Array, "*stack r n"]

    def dense(self) -> Array:
        return self.leaf + self.down @ self.up

    def transposed(self, order: tuple[int, ...]) -> "LowRank | None":
        return LowRank(self.leaf.T, self.up.T, self.down.T) if order == (1, 0) else None

    def product(self, eqn, x, side: int) -> Array | None:
        """The product `eqn` with `x`, in which the changed matrix is the factor number `side`."""
        contracted, batched = eqn.params["dimension_numbers"]
        own, others = contracted[side], contracted[1 - side]
        if batched[0] or len(own) != 1 or self.leaf.ndim != 2:
            return None
        first, second = (self.down, self.up) if own[0] == 0 else (self.up, self.down)
        inner = _contract(eqn, x, first, others[0], own[0])
        change = _contract(eqn, inner, second, inner.ndim - 1, own[0])
        product = _product(eqn, x, self.leaf, side)
        return (product + (change if side else jnp.moveaxis(change, -1, 0))).astype(product.dtype)

    def rows(self, eqn, indices) -> Array | None:
        """No rule: the table is computed."""
        return None


_FORMS = (Scaled, LowRank)  # forms of a changed array; a new one has the same methods, and is listed here


def dense(value: Any) -> Any:
    """The array that a changed one stands for; anything else as it is."""
    return value.dense() if is_changed(value) else value


def _times(x, scale, axis: int):
    """`x` scaled along an axis, in its own dtype."""
    return (x * lax.broadcast_in_dim(scale, x.shape, (axis,))).astype(x.dtype)


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
        leaves = jax.tree.leaves(changed, is_leaf=is_changed)
        specs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), (params, x))
        closed, shape = jax.make_jaxpr(apply, return_shape=True)(*specs)
        outputs = _OnActivations().run(closed, [*leaves, *jax.tree.leaves(x)])
        return jax.tree.unflatten(jax.tree.structure(shape), [dense(value) for value in outputs])

    return changed_apply


def is_changed(value: Any) -> bool:
    """Whether a value stands for a changed array."""
    return isinstance(value, _FORMS)


class _OnActivations(Interpreter):
    """Evaluates jaxprs on values that may be changed matrices. Jitted functions are inlined."""

    def results(self, equation: Equation, values: list[Any]) -> Sequence[Any]:
        name = equation.primitive.name
        inner = called(equation) if name in ("jit", "pjit") else None
        if inner is not None:
            return self.call(inner, values)
        if any(map(is_changed, values)):
            result = _RULES[name](equation, *values) if name in _RULES else None
            if result is not None:
                return [result]
        return bind(equation, [dense(value) for value in values])


def _convert(eqn, value):
    """A cast of the leaf and of its change; to integers, of the changed leaf."""
    if not jnp.issubdtype(eqn.params["new_dtype"], jnp.inexact):
        return None
    cast = lambda part: lax.convert_element_type(part, eqn.params["new_dtype"])  # noqa: E731
    return type(value)(*(cast(part) if isinstance(part, jax.Array) else part for part in value))


def _transpose(eqn, value):
    return value.transposed(tuple(eqn.params["permutation"]))


def _dot(eqn, left, right):
    """A product with one changed matrix; if both are, the right one is followed."""
    if is_changed(right):
        return right.product(eqn, dense(left), 1)
    return left.product(eqn, dense(right), 0)


def _gather(eqn, value, indices):
    return value.rows(eqn, indices) if is_changed(value) else None


def _product(eqn, x, leaf, side: int):
    return bind(eqn, [x, leaf] if side else [leaf, x])[0]


def _contract(eqn, x, matrix, x_axis: int, matrix_axis: int):
    precision = eqn.params["precision"]
    return lax.dot_general(x, matrix, (((x_axis,), (matrix_axis,)), ((), ())), precision=precision)


def _axis_in_product(eqn, axis: int, side: int, other_rank: int) -> int:
    """The axis of a product that an axis of a factor becomes: shared axes come first, then the left and right ones."""
    contracted, batched = eqn.params["dimension_numbers"]
    if axis in batched[side]:
        return list(batched[side]).index(axis)
    gone = {*contracted[side], *batched[side]}
    before = sum(k not in gone for k in range(axis))
    lefts = other_rank - len(contracted[0]) - len(batched[0]) if side else 0
    return len(batched[0]) + lefts + before


_RULES = {"convert_element_type": _convert, "dot_general": _dot, "gather": _gather, "transpose": _transpose}
