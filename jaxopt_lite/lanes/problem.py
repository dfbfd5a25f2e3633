"""A user's function, as a function on lanes.

The user writes `fun(x, args)` for one problem with any pytrees. Here `fun` becomes a jaxpr of a vector and of leaves,
evaluated on a tile of lanes, `[n, L]`. Everything the function closes over, tracers included, becomes an explicit
input, so that derivatives with respect to it are never lost.
"""

from collections.abc import Callable
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
from jaxopt_lite.lanes.batch import Batch, Layout, numeric, one_of_each
from jaxopt_lite.lanes.lanes_last import lanes_last
from jaxopt_lite.lanes.losses import twice_cost
from jaxopt_lite.lanes.settings import exact_products

__all__ = ["Box", "Function", "LaneProblem", "trace"]


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
        closed = jax.make_jaxpr(flat_fun)(jax.ShapeDtypeStruct(batch.x.shape[1:], batch.x.dtype), *one_of_each(batch))
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
