"""Routing by input: every input goes, whole, to the specialists with the best scores, or to the base.

A router turns the features of an input into a query and compares it with one row per specialist. The novelty of an
input is its best score, negated; above the router's threshold the input is unlike any task, and the base answers. A
score depends on the input and on one row. Where a router's rows do not depend on each other, as with `LDA`, a new
specialist changes no other's scores, and takes only the inputs for which it is the best.

This holds to the bit, see `tiles`. The best are kept as tiles pass: B inputs and T specialists need memory for B + T,
not for B · T.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.specialists.arguments import check_real, freeze_fields, inputs
from jaxopt_lite.specialists.tiles import by_tiles, filled, product, tiled

__all__ = ["Route", "Router", "route"]


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
