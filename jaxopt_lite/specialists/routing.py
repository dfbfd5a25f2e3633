"""Routing by input: every input goes, whole, to the specialists with the best scores, or to the base.

A router turns the features of an input into a query and compares it with one row per specialist. The novelty of an
input is its best score, negated; above the router's threshold the input is unlike any task, and the base answers. A
score depends on the input and on one row. Where a router's rows do not depend on each other, as with `LDA`, a new
specialist changes no other's scores, and takes only the inputs for which it is the best.

This holds to the bit. The rounding of a matrix product depends on its shape, for XLA blocks and vectorizes it
accordingly. So a product with T rows is computed in tiles of a fixed number of rows, and always at least two, because
XLA unrolls a loop of one step. The best are kept as the tiles pass: B inputs and T specialists need memory for B + T,
not for B · T.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree
from numpy.typing import NDArray

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.lanes.arithmetic import positive
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.specialists.arguments import as_float, check_real, freeze_fields, inputs
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.tasks import named, of_examples

__all__ = [
    "Route", "Router", "by_tiles", "features_of", "filled", "in_range", "product", "route", "squared_distances",
    "tiled",
]  # fmt: skip


class Route(NamedTuple):
    """Where inputs go; `library.apply(x, *route)` sends them there.

    Attributes:
        index: the specialist of each input, `[B]`, or its k best, `[B, k]`; −1 is the base.
        weight: the weight of each of the k best, a softmax of the scores; None for one.
    """

    index: Int[Array, " B"] | Int[Array, "B k"]  # pyright: ignore[reportIncompatibleMethodOverride]
    weight: Float[Array, "B k"] | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Router:
    """What all routers share: scores `match(query, weight) + bias`, for T specialists. A pytree.

    Attributes:
        weight: the row of each specialist.
        bias: the term added to its score; −∞ for one that is never chosen.
        threshold: the largest novelty at which an input still goes to a specialist; ∞ if nothing falls back.
        temperature: the temperature of the softmax that weighs the k best.
    """

    weight: Float[Array, "T e"]
    bias: Float[Array, " T"]
    threshold: Float[Array, ""]
    temperature: Float[Array, ""]

    def __post_init__(self):
        freeze_fields(self)

    def __len__(self) -> int:
        return self.weight.shape[0]

    def __call__(self, features: Float[Array, "B d"]) -> Int[Array, " B"]:
        """The index of the best specialist for each input, −1 for the base: `route(router, features).index`."""
        return route(self, features).index

    @property
    def width(self) -> int:
        """The width of the features it reads."""
        return self.weight.shape[1]

    @in_own_settings
    def scores(self, features: Float[Array, "B d"]) -> Float[Array, "B T"]:
        """The score of each specialist for each input, the larger the better; −∞ for features with NaN or infinity.

        Raises:
            ValueError: features of another width.
        """
        return _scores(_filled(self), _checked(self, features))[:, : len(self)]

    @in_own_settings
    def novelty(self, features: Float[Array, "B d"]) -> Float[Array, " B"]:
        """How unlike any task each input is: the best score, negated. It is compared with `threshold`.

        Raises:
            ValueError: features of another width.
        """
        return -_best(_filled(self), _checked(self, features), 1)[0][:, 0]

    def query(self, features: Float[Array, "B d"]) -> Float[Array, "B e"]:
        """What is compared with the rows."""
        return features

    def match(self, query: Float[Array, "B e"], weight: Float[Array, "tile e"]) -> Float[Array, "B tile"]:
        """The scores without bias, for some rows; by default query · weight."""
        return product(query, weight.T)


@in_own_settings
def route(router: Router, features: Float[Array, "B d"], top_k: int = 1) -> Route:
    """Send each input to its best specialists, or to the base where it is unlike any task.

    Args:
        router: the router.
        features: the features of the inputs, as `base.embed(x)` gives them.
        top_k: how many specialists an input goes to; static. If there are fewer, the base fills up with weight 0.

    Returns:
        A `Route`. An input falls back to the base, with weight 1, where its novelty is above the threshold or its
        features hold NaN or infinity.

    Raises:
        TypeError: features that are not real numbers.
        ValueError: features of another width, or a `top_k` that is not a whole number of at least 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Centroid, route
        >>> router = Centroid.at(jnp.array([[1.0, 0.0], [0.0, 1.0]]))
        >>> route(router, jnp.array([[2.0, 0.1], [0.1, 2.0], [jnp.nan, 0.0]])).index.tolist()
        [0, 1, -1]
    """
    return _route(_filled(router), _checked(router, features), whole_number("top_k", top_k, least=1))


def _checked(router: Router, features) -> Array:
    features = jnp.asarray(inputs(features if isinstance(features, jax.Array) else np.asarray(features)))
    if features.dtype != bool:
        check_real("features", features)
    if router.bias.shape != (len(router),):
        raise ValueError(f"bias has shape {router.bias.shape}; expected [{len(router)}], one for each row of weight.")
    if features.ndim != 2 or features.shape[1] != router.width:
        raise ValueError(
            f"features have shape {features.shape}; expected [B, {router.width}], the width that this "
            f"{type(router).__name__} reads."
        )
    return features.astype(jnp.promote_types(features.dtype, router.weight.dtype))


def _filled(router: Router) -> Router:
    """The router padded to whole tiles with rows that are never chosen."""
    return replace(router, weight=filled(router.weight), bias=filled(router.bias, value=-jnp.inf))


def _query(router: Router, features):
    """The query, and which inputs have one. Whatever is not finite is replaced first, so that no derivative is NaN."""
    usable = jnp.all(jnp.isfinite(features), axis=1, keepdims=True)
    return router.query(jnp.where(usable, features, 0)), usable


def _tile_scores(router: Router, query, usable, weight, bias):
    score = router.match(query, weight) + bias
    return jnp.where(usable & ~jnp.isnan(score), score, -jnp.inf)


@jax.jit
def _scores(router: Router, features):
    query, usable = _query(router, features)
    score = by_tiles(lambda tile: _tile_scores(router, query, usable, *tile).T, (router.weight, router.bias))
    return score.T


@partial(jax.jit, static_argnames="k")
def _best(router: Router, features, k: int):
    """The k best scores and their indices, `[B, k]`; the first of equal ones; −∞ where there are fewer."""
    query, usable = _query(router, features)
    rows = tiled((router.weight, router.bias, jnp.arange(len(router), dtype=jnp.int32)))

    def better(best, tile):
        weight, bias, index = tile
        score = _tile_scores(router, query, usable, weight, bias)
        found = score, jnp.broadcast_to(index, score.shape)
        together, indices = (jnp.concatenate(pair, axis=1) for pair in zip(best, found, strict=True))
        top, which = _largest(together, k)
        return (top, jnp.take_along_axis(indices, which, axis=1)), None

    shape = (features.shape[0], k)
    none = jnp.full(shape, -jnp.inf, features.dtype), jnp.full(shape, -1, jnp.int32)
    return lax.scan(better, none, rows)[0]


def _largest(score, k: int):
    if k > 1:
        return lax.top_k(score, k)
    which = jnp.argmax(score, axis=1, keepdims=True)  # several times faster than a sort
    return jnp.take_along_axis(score, which, axis=1), which


@partial(jax.jit, static_argnames="k")
def _route(router: Router, features, k: int) -> Route:
    score, index = _best(router, features, k)
    known = jnp.isfinite(score[:, :1]) & (-score[:, :1] <= router.threshold)
    there = known & jnp.isfinite(score)
    index = jnp.where(there, index, -1)
    if k == 1:
        return Route(index[:, 0], None)
    safe = jnp.where(there, score, 0)
    share = jnp.where(there, jnp.exp(jnp.where(there, safe - safe[:, :1], 0) / router.temperature), 0)
    total = jnp.where(known, share.sum(axis=1, keepdims=True), 1)
    return Route(index, jnp.where(known, share / total, jnp.arange(k) == 0))


_TILE = 256  # rows; larger ones are hardly faster, and cost more for few rows
_UNROLLED = 16  # coordinates that are summed in one pass over the distances


@partial(jax.jit, static_argnames="value")
def filled(rows: PyTree, value: float = 0.0) -> PyTree:
    """Leaves `[T, ...]` padded with a value to whole tiles, at least two of them.

    Outside `jit` the programs that follow are the same for all T up to the next whole tile.
    """

    def fill(leaf):
        size = max(2, -(-leaf.shape[0] // _TILE)) * _TILE
        return jnp.concatenate([leaf, jnp.full((size - leaf.shape[0], *leaf.shape[1:]), value, leaf.dtype)])

    return jax.tree.map(fill, rows)


def tiled(rows: PyTree) -> PyTree:
    """Leaves `[T, ...]` of whole tiles, as `[tiles, rows, ...]`."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, _TILE, *leaf.shape[1:]), rows)


def by_tiles(f: Callable[[PyTree], PyTree], rows: PyTree) -> PyTree:
    """`f(rows)` tile by tile, for an `f` that treats all rows alike and leaves of whole tiles."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.lax.map(f, tiled(rows)))


def product(a: Array, b: Array) -> Array:
    """`a @ b` at the full precision of their dtype, on every device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def in_range(x: Array) -> Array:
    """The rows, scaled to a largest entry of size 1, for functions of their direction; a row of zeros stays one."""
    return x / positive(jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=1, keepdims=True, initial=0)))


@jax.checkpoint  # a derivative computes the differences again, rather than keep them for all tiles
def squared_distances(a: Array, b: Array) -> Array:
    """`‖a_i − b_j‖²`, `[B, rows]`, for rows `[B, d]` and `[rows, d]`.

    From differences, for ‖a‖² − 2 a · b + ‖b‖² cancels where rows are close to each other and far from zero. They are
    summed coordinate by coordinate, at about the cost of the product a bᵀ and without `[B, rows, d]` numbers.
    """
    d = a.shape[1]
    steps = -(-d // _UNROLLED)

    def coordinates(x):
        return jnp.pad(x.T, ((0, steps * _UNROLLED - d), (0, 0))).reshape(steps, _UNROLLED, x.shape[0])

    def step(total, pair):
        for one, other in zip(*pair, strict=True):
            total = total + (one[:, None] - other) ** 2
        return total, None

    none = jnp.zeros((a.shape[0], b.shape[0]), jnp.result_type(a, b))
    return jax.lax.scan(step, none, (coordinates(a), coordinates(b)))[0]


_BATCH = 1024  # inputs


def features_of(base: Base, tasks: Mapping[str, tuple]) -> tuple[NDArray, NDArray]:
    """The features `[N, d]` of all inputs, task by task, and the index of the task of each, `[N]`.

    Args:
        base: the model, with features.
        tasks: `(x, y)` or `Task`; inputs of weight 0 are left out.

    Raises:
        TypeError: `tasks` is not a mapping from names to tuples of arrays of numbers.
        ValueError: no inputs; features with NaN or infinity, with the name of the task.
    """
    tasks = named(tasks)
    inputs = [_inputs(name, task) for name, task in tasks.items()]
    counts = [jax.tree.leaves(x)[0].shape[0] for x in inputs]
    if not sum(counts):
        raise ValueError(f"tasks: {len(tasks)} tasks with no inputs; expected some.")
    index = np.repeat(np.arange(len(counts)), counts)
    features = _embedded(base, jax.tree.map(lambda *leaves: np.concatenate(leaves), *inputs))
    features = features.astype(as_float(features.dtype))
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        name = list(tasks)[index[np.argmax(bad)]]
        raise ValueError(f"the features of {bad.sum()} inputs, the first of task {name!r}, hold NaN or infinity.")
    return features, index


def _inputs(name: str, task: tuple) -> PyTree:
    if not task or not jax.tree.leaves(task[0]):
        raise ValueError(f"task {name!r} has no inputs; expected (x, ...), with an array or a pytree of arrays.")
    x, weight = of_examples(name, task[0], task[2] if len(task) > 2 else None, least=0)
    return jax.tree.map(lambda leaf: leaf[weight > 0], x)


def _embedded(base: Base, x: PyTree) -> NDArray:
    """`base.embed`, batch by batch. The last is padded, so that there is one shape to compile for."""
    size = jax.tree.leaves(x)[0].shape[0]
    batches = []
    for start in range(0, size, _BATCH):
        rows = np.minimum(np.arange(start, start + min(_BATCH, size)), size - 1)
        batches.append(np.asarray(base.embed(jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf[rows]), x))))
    return np.concatenate(batches)[:size]
