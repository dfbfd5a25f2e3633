"""A user's function and pytrees, turned into arrays and functions on lanes.

The user writes `fun(x, args)` for one problem with any pytrees. Here `x` becomes a vector `[n]`, the batch an array
`[B, n]`, and `fun` a jaxpr evaluated on a tile of lanes, `[n, L]`. Everything the function closes over, tracers
included, becomes an explicit input, so that derivatives with respect to it are never lost.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from jaxopt_lite.jaxprs import as_function, without_consts
from jaxopt_lite.lanes import derivatives
from jaxopt_lite.lanes.arithmetic import at, fold
from jaxopt_lite.lanes.calls import Hint, call
from jaxopt_lite.lanes.capture import Signature
from jaxopt_lite.lanes.lanes_last import lanes_last
from jaxopt_lite.lanes.losses import twice_cost
from jaxopt_lite.lanes.settings import exact_products, in_own_settings

__all__ = [
    "Batch",
    "Box",
    "Function",
    "LaneProblem",
    "Layout",
    "axis_per_leaf",
    "batch_of",
    "mapped_leaves",
    "one_size",
    "signature_of",
    "trace",
    "with_mapped",
]


class Batch(NamedTuple):
    """A batch of problems as arrays: `x` [B, n] and the leaves of `args`, those with a batch axis [B, ...]."""

    x: Float[Array, "B n"]
    leaves: tuple[Array, ...]
    is_mapped: tuple[bool, ...]


class Layout(NamedTuple):
    """How the arrays of a `Batch` turn back into the user's pytrees."""

    unravel: Callable[[Array], PyTree]
    args_tree: Any


class Box(NamedTuple):
    """Where the unknowns may be: lower ≤ x ≤ upper, of one problem or on lanes."""

    lower: Float[Array, "n *L"]
    upper: Float[Array, "n *L"]

    def nearest(self, x):
        """The point of the box nearest to x."""
        return jnp.clip(x, self.lower, self.upper)

    def holds(self, x, gradient):
        """Which unknowns are at an active bound: one that keeps them from descending further."""
        return ((x <= self.lower) & (gradient >= 0)) | ((x >= self.upper) & (gradient <= 0))

    def slope(self, x, gradient):
        """The gradient, with zeros for unknowns that a bound holds: zero at a minimum in the box."""
        return jnp.where(self.holds(x, gradient), 0, gradient)

    def reach(self, x, p):
        """The α at which each unknown of x + α p reaches its bound; infinite if no bound is on its way."""
        bound = jnp.where(p < 0, self.lower, self.upper)
        return jnp.where(p == 0, jnp.inf, (bound - x) / jnp.where(p == 0, 1, p))

    def most(self, x, p):
        """The largest α with x + α p in the box."""
        reach = self.reach(x, p)
        start = jnp.full_like(reach[0], jnp.inf)
        return fold(lambda k, least, reach: jnp.minimum(least, at(reach, k)), reach.shape[0], start, reach)

    def along(self, x, p, alpha):
        """x + α p, for an α that leaves the box at most by rounding; unknowns that reach a bound are exactly at it."""
        there = alpha >= (1 - 4 * jnp.finfo(x.dtype).eps) * self.reach(x, p)
        return self.nearest(jnp.where(there, jnp.where(p < 0, self.lower, self.upper), x + alpha * p))


class Function(NamedTuple):
    """The user's function as data: a jaxpr for one problem. Called with `x` [n] and leaves, it returns `(value, aux)`.

    The value is a vector of `size` numbers: one, if the function is scalar. The leaves are those of `args`, then all
    that the function closed over, then those named in `beside`: what else the solver is told about each problem, such
    as bounds. `loss` is the name of the loss in least squares.
    """

    closed: Any
    size: int
    output_tree: Any
    unravel_value: Callable[[Array], PyTree]
    is_scalar: bool
    beside: tuple[str, ...] = ()
    loss: str | None = None

    def __call__(self, x, leaves):
        count, own = len(self.closed.in_avals) - 1, len(leaves) - len(self.beside)
        flat = as_function(self.closed, leaves[count:own])(x, *leaves[:count])
        return jax.tree.unflatten(self.output_tree, flat)

    def named(self, name: str, leaves) -> Any:
        """The leaf of this name among those of `beside`; None if there is none."""
        return leaves[len(leaves) - len(self.beside) + self.beside.index(name)] if name in self.beside else None

    def weighing(self, leaves) -> tuple[str | None, Any]:
        """How residuals count: the name of the loss, and the size of an outlier."""
        return self.loss, self.named("f_scale", leaves)

    def objective(self, x, leaves):
        """The scalar to minimize: the value, or the cost of the residuals."""
        value = self.value(x, leaves)
        return value[0] if self.loss is None else jnp.sum(twice_cost(*self.weighing(leaves), value)) / 2

    def box(self, leaves) -> Box | None:
        """The bounds on x, if there are any."""
        lower = self.named("lower", leaves)
        return None if lower is None else Box(lower, self.named("upper", leaves))

    def value(self, x, leaves):
        """The value alone, without `aux`, in the dtype of `x`."""
        return self(x, leaves)[0].astype(x.dtype)


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
        args = jax.tree.unflatten(layout.args_tree, _one_of_each(batch))
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


def _one_of_each(batch: Batch) -> list[jax.ShapeDtypeStruct]:
    """The share of one problem in the leaves of `args`, as shapes and dtypes."""
    return [
        jax.ShapeDtypeStruct(leaf.shape[1:] if is_mapped else leaf.shape, leaf.dtype)
        for leaf, is_mapped in zip(batch.leaves, batch.is_mapped, strict=True)
    ]


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
    """Refuse the symbolic sizes of `jax.export`: tiles and loops are laid out for known ones."""
    for argument, tree in arguments.items():
        for name, leaf in named_leaves(tree):
            if not all(isinstance(size, int) for size in np.shape(leaf)):
                raise ValueError(
                    f"{argument}{name} has shape {np.shape(leaf)}; expected sizes that are known when it is traced. "
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
            raise ValueError(
                f"{name} has shape {np.shape(leaf)} and no batch axis {axis}. For a single problem pass batched=False; "
                "for an argument shared by all problems pass args_axes=None."
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


def trace(fun: Callable, batch: Batch, layout: Layout, has_aux: bool) -> tuple[Function, Batch]:
    """Trace `fun` once for one problem. Returns it as data, and the batch with what it closed over as shared leaves.

    The value becomes one array (a pytree of residuals, one vector); `aux` stays a pytree. Matrix products have the full
    precision of the dtype, unless the user has chosen otherwise.
    """
    output: dict[str, Any] = {}

    def flat_fun(x, *leaves):
        result = fun(layout.unravel(x), jax.tree.unflatten(layout.args_tree, leaves))
        value, aux = _value_and_aux(result) if has_aux else (result, None)
        for leaf in jax.tree.leaves(value):
            _check_value(leaf)
        vector, output["unravel"] = ravel_pytree(value)
        output["size"] = vector.size
        output["is_scalar"] = jax.tree.structure(value).num_leaves == 1 and np.ndim(jax.tree.leaves(value)[0]) == 0
        flat, output["tree"] = jax.tree.flatten((vector, aux))
        return [jnp.asarray(leaf) for leaf in flat]

    with exact_products():
        closed = jax.make_jaxpr(flat_fun)(jax.ShapeDtypeStruct(batch.x.shape[1:], batch.x.dtype), *_one_of_each(batch))
    consts = tuple(jnp.asarray(const) for const in closed.consts)
    batch = Batch(batch.x, batch.leaves + consts, batch.is_mapped + (False,) * len(consts))
    closed = without_consts(closed)
    return Function(closed, output["size"], output["tree"], output["unravel"], output["is_scalar"]), batch


def _check_value(leaf):
    """Complex and non-numeric leaves raise, and so do integers, unless they are the same for all x."""
    leaf = numeric(leaf, "the value of fun(x, args)")
    if isinstance(leaf, Tracer) and not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise TypeError(f"fun(x, args) returned {leaf.dtype}, which has no derivative; expected floating point.")


def _value_and_aux(result):
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ValueError(f"with has_aux=True fun must return a pair (value, aux); got {type(result).__name__}.")
    return result


def _value_grad_and_aux(f: Callable, x):
    """For a function whose value is a vector of one number."""

    def scalar(x):
        value, aux = f(x)
        return value[0].astype(x.dtype), aux

    (value, aux), gradient = derivatives.value_and_grad(scalar, x)
    return value, gradient, aux


class LaneProblem:
    """The function and its derivatives on one tile: `x` is `[n, L]`, and so is every vector it returns.

    `leaves` are those of the batch, where a mapped leaf has its lane axis last. Without that axis everywhere, in `x`
    too, it is a single problem.
    """

    def __init__(self, function: Function, leaves: tuple[Array, ...], is_mapped: tuple[bool, ...]):
        self._function, self._leaves, self._is_mapped = function, leaves, is_mapped

    def _lanes(self, one: Callable, *vectors, of: Callable | None = None):
        """Run `one(f, *vectors)`, written for one problem and its function f, on the row of lanes.

        f is `of(x, leaves)`; by default the value of the function.
        """

        def for_one(leaves, *vectors):
            return one(lambda x: (of or self._function.value)(x, leaves), *vectors)

        if vectors[0].ndim == 1:
            return for_one(self._leaves, *vectors)
        return lanes_last(for_one, (self._is_mapped, *(True for _ in vectors)))(self._leaves, *vectors)

    def value(self, x):
        """F(x)."""
        return self._lanes(lambda f, x: f(x), x)

    def value_and_aux(self, x):
        """F(x), and the second output of the function."""
        return self._lanes(lambda f, x: f(x), x, of=self._function)

    def value_grad_and_aux(self, x):
        """f(x), ∇f(x) and the second output, for a scalar function."""
        return self._lanes(_value_grad_and_aux, x, of=self._function)

    def value_and_grad(self, x):
        """f(x) and ∇f(x), for a scalar function."""
        return self._lanes(_value_grad_and_aux, x, of=lambda x, leaves: (self._function.value(x, leaves), None))[:2]

    def value_grad_and_hessian(self, x):
        """f(x), ∇f(x) and ∇²f(x), `[n, n, L]`, for a scalar function."""
        return self._lanes(derivatives.value_grad_and_hessian, x, of=self._function.objective)

    def value_and_slope(self, x, p, needed: bool = False):
        """F(x) and J p, its derivative along p; if F has no derivative, J p is NaN, or an error if it is `needed`."""
        asks_first = derivatives.has_custom_vjp(self._function.closed)
        return self._lanes(lambda f, x, p: derivatives.value_and_slope(f, x, p, needed, asks_first), x, p)

    def pullback(self, x, u):
        """Jᵀ u at x."""
        return self._lanes(derivatives.pullback, x, u)

    @property
    def box(self) -> Box | None:
        """The bounds on x, if there are any."""
        return self._function.box(self._leaves)

    @property
    def loss(self) -> tuple[str | None, Any]:
        """How residuals count: the name of the loss, and the size of an outlier."""
        return self._function.weighing(self._leaves)

    def value_and_jacobian(self, x):
        """F(x) and J(x), `[m, n, L]`."""
        return self._lanes(derivatives.value_and_jacobian, x)

    def value_jacobian_and_aux(self, x):
        """F(x), J(x) and the second output of the function."""
        return self._lanes(derivatives.value_jacobian_and_aux, x, of=self._in_dtype_of_x)

    def _in_dtype_of_x(self, x, leaves):
        value, aux = self._function(x, leaves)
        return value.astype(x.dtype), aux
