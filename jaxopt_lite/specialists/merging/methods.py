"""Ways to make one change out of several, by arithmetic on the linear form of their adapters.

With Δ_i the change that specialist i makes, in the linear form of its adapter, and w_i its weight:

    Mean             Σ w_i Δ_i, w = 1/k                   Wortsman et al., arXiv 2203.05482
    TaskArithmetic   λ Σ w_i Δ_i, w = 1                   Ilharco et al., arXiv 2212.04089
    TIES             trim, elect a sign, disjoint mean    Yadav et al., arXiv 2306.01708
    DARE             keep at random and rescale           Yu et al., arXiv 2311.03099
    Fisher           Σ w_i F_i Δ_i / Σ w_i F_i            Matena and Raffel, arXiv 2111.09832
    RegMean          (Σ G_i)⁻¹ Σ G_i Δ_i                  Jin et al., arXiv 2212.09849; in `regmean.py`

The factors of LoRA are never merged, for a sum of products is not the product of sums. Its linear form is the product,
so that a merge holds a dense matrix, and `compress` makes LoRA of it again.
"""

import zlib
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxopt_lite.arguments import assign
from jaxopt_lite.lanes.arithmetic import at_least_float32, positive
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.specialists.adapters import Adapter, Parameters
from jaxopt_lite.specialists.arguments import POSITIVE, check_real, frozen, key_seed, number, renamed
from jaxopt_lite.specialists.leaves import digest
from jaxopt_lite.specialists.library import Card, Library, Profile, unknown_fisher
from jaxopt_lite.specialists.merging.linear import flat, linear_parameters, unflat
from jaxopt_lite.specialists.sums import weighted_sum

__all__ = ["DARE", "TIES", "Fisher", "Mean", "Method", "TaskArithmetic", "check_relative", "merge"]

_KEPT = "the share of entries to keep, above 0 and at most 1", lambda share: 0 < share <= 1


@dataclass(frozen=True)
class Method:
    """A way to make one change out of several. Recipes print its settings, and programs are compiled for them."""

    def weights(self, k: int) -> Float[Array, " k"]:
        """The default weights."""
        return jnp.ones(k)

    def merged(self, library: Library, weights: Float[Array, " k"]) -> Parameters:
        """One change, leaves `[...]`, of a library's specialists, in the linear form of their adapter."""
        return self.combine(library, linear_parameters(library), weights)

    def combine(self, library: Library, deltas: Parameters, weights: Float[Array, " k"]) -> Parameters:
        """The same for given changes, leaves `[k, ...]`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Mean(Method):
    """Σ w_i Δ_i.

    Weights: the factors of the changes, of any sign; by default 1/k. They are not divided by their sum.
    """

    def weights(self, k):
        return jnp.full(k, 1 / k)

    def merged(self, library, weights):
        return _sum_of_changes(library.base.params, library.parameters, weights, library.adapter)

    def combine(self, library, deltas, weights):
        return _weighted_sum(deltas, weights)


@dataclass(frozen=True)
class TaskArithmetic(Method):
    """λ Σ w_i Δ_i.

    Weights: the factors of the changes, of any sign; by default 1. They are not divided by their sum.

    Args:
        scale: λ. With many specialists 1 is too much; 0.2 to 0.4 is usual.

    Raises:
        ValueError: a `scale` that is not a finite number.
    """

    scale: float = 0.3

    def __post_init__(self):
        assign(self, scale=number("scale", self.scale))

    def merged(self, library, weights):
        return _scaled(self.scale, Mean().merged(library, weights))

    def combine(self, library, deltas, weights):
        return _scaled(self.scale, _weighted_sum(deltas, weights))


@dataclass(frozen=True)
class TIES(Method):
    """The largest entries of each specialist, and for every number the weighted mean of those with the elected sign.

    Entries are chosen among all numbers of a specialist, exactly `round(density · numbers)` of them and at least one.
    A number's sign is that of the weighted sum of what is left; where that is zero, the sign of the majority of all
    numbers.

    Weights: how much each specialist counts in the election and in the mean, ``Σ w_i Δ_i / Σ |w_i|`` over those that
    agree; by default 1. A negative weight reverses its changes. Their common size does not matter.

    Args:
        density: the share of entries to keep. If there are few, keep many.
        scale: λ, the factor of the result.

    Raises:
        ValueError: a `density` outside (0, 1]; a `scale` that is not a finite number.
    """

    density: float = 0.2
    scale: float = 1.0

    def __post_init__(self):
        assign(self, density=number("density", self.density, _KEPT), scale=number("scale", self.scale))

    def combine(self, library, deltas, weights):
        return _ties(deltas, weights, self.density, self.scale)


@renamed(drop="density, which is 1 - drop")
@dataclass(frozen=True)
class DARE(Method):
    """Every entry is kept with probability p, and divided by it; then another method merges what is left.

    What is kept of a specialist depends on the seed and on its id, not on its index.

    Weights: as for the method that merges what is left.

    Args:
        density: p, the expected share of entries to keep.
        then: the method that merges what is left.
        seed: the seed of the choice. With few numbers the result depends strongly on it; compare several.

    Raises:
        TypeError: a `then` that is not a method.
        ValueError: a `density` outside (0, 1]; a `seed` that is not a whole number.
    """

    density: float = 0.5
    then: Method = field(default_factory=Mean)
    seed: int = 0

    def __post_init__(self):
        assign(self, density=number("density", self.density, _KEPT), seed=key_seed(self.seed))
        if not isinstance(self.then, Method):
            raise TypeError(f"then={self.then!r}: expected a method, such as Mean().")

    def weights(self, k):
        return self.then.weights(k)

    def combine(self, library, deltas, weights):
        numbers = np.array([zlib.crc32(name.encode()) for name in library.ids], np.uint32)
        return self.then.combine(library, _dare(deltas, jax.random.key(self.seed), numbers, self.density), weights)


@dataclass(frozen=True, eq=False)
class Fisher(Method):
    """Σ w_i F_i Δ_i / Σ w_i F_i, each F_i, a diagonal, divided by its norm; the mean where all F_i are zero.

    Weights: the factors of the diagonals, none negative, by default 1. They are relative, so that one specialist merges
    to itself.

    Args:
        diagonal: the Fisher diagonals for the parameters of `adapter.linear`, `[k, ...]`; by default those in the
            library's profile. For LoRA it has only those of the factors, not of their product; `fisher_diagonal`
            computes these.
        floor: a number added to the normalized diagonals, so that what has no information counts as in the mean.

    Raises:
        ValueError: a `floor` that is not positive and finite.
    """

    diagonal: Parameters | None = None
    floor: float = 1e-6

    def __post_init__(self):
        assign(self, floor=number("floor", self.floor, POSITIVE), diagonal=frozen(self.diagonal))

    def __repr__(self) -> str:
        known = None if self.diagonal is None else f"<{digest(self.diagonal)[:16]}>"
        return f"Fisher(diagonal={known}, floor={self.floor})"

    def combine(self, library, deltas, weights):
        check_relative(weights)
        diagonal = self._diagonal(library, deltas)
        f = flat(diagonal)
        known = np.asarray(jnp.all(jnp.isfinite(f) & (f >= 0), axis=1))
        if not known.all():
            wrong = [name for name, fine in zip(library.names, known, strict=True) if not fine]
            raise ValueError(
                f"the Fisher diagonals of {', '.join(wrong)} hold NaN, infinity or negative numbers; expected means of "
                "squares. Leave these out, or give Fisher(diagonal=...)."
            )
        empty = [name for name, used in zip(library.names, np.asarray(jnp.any(f > 0, axis=1)), strict=True) if not used]
        if empty:
            raise ValueError(
                f"no Fisher diagonal is known for {', '.join(empty)}: it is zero, as after a merge. "
                "Compute it by `fisher_diagonal` and give Fisher(diagonal=...)."
            )
        return _fisher(f, deltas, weights, self.floor)

    def _diagonal(self, library: Library, deltas: Parameters) -> Parameters:
        diagonal = library.profile.fisher if self.diagonal is None else self.diagonal
        shapes = {key: leaf.shape for key, leaf in deltas.items()}
        arrived = {key: jnp.shape(leaf) for key, leaf in diagonal.items()}
        if arrived == shapes:
            return jax.tree.map(jnp.asarray, dict(diagonal))
        if self.diagonal is None:
            raise ValueError(
                f"the library's Fisher diagonals are those of {sorted(arrived)}, and what is merged is "
                f"{sorted(shapes)}: the diagonal for LoRA's product does not follow from those of its factors. Give "
                "Fisher(diagonal=fisher_diagonal(...)) for the linear form, or take RegMean, TIES or Mean."
            )
        raise ValueError(f"diagonal has the shapes {arrived}; expected {shapes}.")


def check_relative(weights: Float[Array, " k"]) -> None:
    """Check the weights of methods that divide by their sum.

    Raises:
        ValueError: negative ones, or all zero.
    """
    known = np.asarray(weights)
    if np.any(known < 0) or not np.any(known > 0):
        raise ValueError(f"weights={known.tolist()}: expected none negative and one positive, for they are relative.")


# Programs of several operations; otherwise JAX would compile one for each.


@jax.jit
def _scaled(factor, tree: Parameters) -> Parameters:
    return jax.tree.map(lambda leaf: factor * leaf, tree)


@jax.jit
def _weighted_sum(deltas: Parameters, weights) -> Parameters:
    return weighted_sum(lambda delta: delta, deltas, weights)


@partial(jax.jit, static_argnames="adapter")
def _sum_of_changes(params, parameters: Parameters, weights, adapter: Adapter) -> Parameters:
    """Σ w_i Δ_i, some specialists at a time: for LoRA each Δ_i is a dense matrix, and all may not fit in memory."""
    return weighted_sum(partial(adapter.to_linear, params), parameters, weights)


@partial(jax.jit, static_argnames="density")
def _ties(deltas: Parameters, weights, density: float, scale) -> Parameters:
    """The merge of `TIES`."""
    w = weights[:, None]
    trimmed = w * _trimmed(flat(deltas), density)
    sign = jnp.sign(jnp.sum(trimmed, axis=0))
    sign = jnp.where(sign == 0, jnp.sign(jnp.sum(sign)), sign)
    agrees = (jnp.sign(trimmed) == sign) & (trimmed != 0)
    total = jnp.sum(jnp.where(agrees, jnp.abs(w), 0), axis=0)
    mean = jnp.sum(trimmed, axis=0, where=agrees) / positive(total)
    return unflat(scale * mean, deltas)


def _trimmed(entries: Float[Array, "k p"], density: float) -> Float[Array, "k p"]:
    """The largest entries of each row, the first of equal ones; zeros elsewhere."""
    count = max(1, round(density * entries.shape[1]))
    _, indices = jax.lax.top_k(jnp.abs(entries), count)
    kept = jnp.zeros(entries.shape, bool).at[jnp.arange(entries.shape[0])[:, None], indices].set(True)
    return jnp.where(kept, entries, 0)


@jax.jit
def _dare(deltas: Parameters, key, numbers, density) -> Parameters:
    """What `DARE` keeps of each specialist; `numbers` stand for their ids."""
    entries = flat(deltas)
    keys = jax.vmap(partial(jax.random.fold_in, key))(numbers)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, density, entries.shape[1:]))(keys)
    return unflat(jnp.where(kept, entries / density, 0), deltas)


@jax.jit
def _fisher(f: Float[Array, "k p"], deltas: Parameters, weights, floor) -> Parameters:
    """The merge of `Fisher`, with the diagonals f."""
    f = f / jnp.max(f, axis=1, keepdims=True)  # so that no square is out of range
    f = weights[:, None] * (f / jnp.linalg.norm(f, axis=1, keepdims=True) + floor)
    return unflat(jnp.sum(f * flat(deltas), axis=0) / jnp.sum(f, axis=0), deltas)


_METHODS = {"mean": Mean, "arithmetic": TaskArithmetic, "ties": TIES, "dare": DARE, "fisher": Fisher}


@renamed(licence="license")
@in_own_settings
def merge(
    library: Library,
    method: Method | str = "mean",
    weights: Float[ArrayLike, " k"] | None = None,
    *,
    name: str = "merged",
    author: str = "",
    license: str = "",
) -> Library:
    """One specialist out of all those of a library; choose some by `library[["a", "b"]]`.

    Args:
        library: the specialists to merge.
        method: `Mean()`, `TaskArithmetic()`, `TIES()`, `DARE()`, `Fisher()` or `RegMean(...)`, with their settings; or
            one of "mean", "arithmetic", "ties", "dare" and "fisher" for the defaults.
        weights: the weights of the specialists, `[k]`. Each method says what they mean, and its default.
        name: the name of the result.
        author: who made it, for its card.
        license: its license, for its card.

    Returns:
        A library of one. Its adapter is `library.adapter.linear`, which for IA3 and Shift is the same. Its card has the
        parents' ids and the recipe; its profile has their mean features, but no Fisher diagonal.

    Raises:
        TypeError: weights that are not real numbers, such as a mask; a name that is not a string.
        ValueError: an empty library; weights that are not k finite numbers; a method that lacks what it needs.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Base, Shift, fit, merge
        >>> base = Base({"b": jnp.zeros(1)}, lambda params, x: x + params["b"])
        >>> x = jnp.zeros((4, 1))
        >>> tasks = {"one": (x, x + 1), "three": (x, x + 3)}
        >>> loss = lambda out, y: jnp.sum((out - y) ** 2)
        >>> library = fit(base, Shift("b"), tasks, loss, prior=0.0, progress=False)
        >>> round(float(merge(library).parameters["shift:b"][0, 0]), 3)
        2.0
    """
    method = _method(method)
    if len(library) == 0:
        raise ValueError("library is empty; expected at least one specialist to merge.")
    weights = _weights(method, weights, library)
    a = method.merged(library, weights)
    recipe = f"merge(parents, {method!r}, weights={np.asarray(weights).tolist()})"
    card = Card(name, examples=sum(c.examples for c in library.cards), recipe=recipe, author=author, license=license)
    return specialist_of(library, a, card, *_seen_together(library.profile.count, library.profile.mean))


@jax.jit
def _seen_together(count: Float[Array, " k"], mean: Float[Array, "k d"]) -> tuple[Array, Array]:
    """The number of inputs of all specialists together, and their mean features."""
    share = jnp.where(jnp.sum(count) > 0, count, 1)
    return jnp.sum(count), (jnp.sum(share[:, None] * mean, axis=0) / jnp.sum(share)).astype(mean.dtype)


def specialist_of(library: Library, a: Parameters, card: Card, count, mean) -> Library:
    """A library of one specialist, in the linear form of the adapter; its parents are all of `library`."""
    parameters, profile = _of_one(a, count, mean)
    return Library(library.base, parameters, profile, library.adapter.linear, (replace(card, parents=library.ids),))


@jax.jit
def _of_one(a: Parameters, count, mean) -> tuple[Parameters, Profile]:
    """The arrays of a library of one, without a Fisher diagonal."""
    a, count, mean = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (a, count, mean))
    return a, Profile(count, mean, unknown_fisher(a), jnp.zeros_like(mean))


def _method(method: Method | str) -> Method:
    if isinstance(method, str) and method in _METHODS:
        return _METHODS[method]()
    if not isinstance(method, Method):
        raise ValueError(f"method={method!r}: expected one of {', '.join(_METHODS)}, or a method with its settings.")
    return method


def _weights(method: Method, weights, library: Library) -> Float[Array, " k"]:
    dtype = at_least_float32(jnp.result_type(*jax.tree.leaves(library.parameters)))
    given = np.array(method.weights(len(library)) if weights is None else weights)
    check_real("weights", given)
    with np.errstate(over="ignore"):
        kept = given.astype(dtype)
    if given.shape != (len(library),) or not np.isfinite(kept).all():
        raise ValueError(f"weights={given.tolist()}: expected {len(library)} finite numbers, one for each specialist.")
    return jnp.asarray(kept)
