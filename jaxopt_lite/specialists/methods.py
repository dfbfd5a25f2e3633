"""Ways to make one change of several, by arithmetic on the linear form of their adapters.

With Δ_i the change that specialist i makes, in the linear form of its adapter, and w_i its weight:

    Mean             Σ w_i Δ_i, w = 1/k                   Wortsman et al., arXiv 2203.05482
    TaskArithmetic   λ Σ w_i Δ_i, w = 1                   Ilharco et al., arXiv 2212.04089
    TIES             trim, elect a sign, disjoint mean    Yadav et al., arXiv 2306.01708
    DARE             drop at random and rescale           Yu et al., arXiv 2311.03099
    Fisher           Σ w_i F_i Δ_i / Σ w_i F_i            Matena and Raffel, arXiv 2111.09832
    RegMean          (Σ G_i)⁻¹ Σ G_i Δ_i                  Jin et al., arXiv 2212.09849; in `regmean.py`

The factors of LoRA are never merged, for a sum of products is not the product of sums. Its linear form is the product:
the result of a merge holds a dense matrix, and `compress` makes LoRA of it again.
"""

import zlib
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_lite.specialists.adapters import Adapter, Parameters
from jaxopt_lite.specialists.base import digest
from jaxopt_lite.specialists.checks import POSITIVE, SHARE, number, whole
from jaxopt_lite.specialists.frozen import frozen
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.linear import flat, linear_parameters, unflat
from jaxopt_lite.specialists.sums import weighted_sum

__all__ = ["DARE", "TIES", "Fisher", "Mean", "Method", "TaskArithmetic", "check_relative"]

_KEPT = "the share of entries to keep, above 0 and at most 1", lambda share: 0 < share <= 1


@dataclass(frozen=True)
class Method:
    """A way to make one change of several."""

    def weights(self, k: int) -> Float[Array, " k"]:
        """The weights where none are given."""
        return jnp.ones(k)

    def merged(self, library: Library, weights: Float[Array, " k"]) -> Parameters:
        """One change, leaves `[...]`, of a library's specialists, in the linear form of their adapter."""
        return self.combine(library, linear_parameters(library), weights)

    def combine(self, library: Library, deltas: Parameters, weights: Float[Array, " k"]) -> Parameters:
        """The same of changes that are already there, leaves `[k, ...]`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Mean(Method):
    """Σ w_i Δ_i.

    Weights: what each change is multiplied by, of any sign; by default 1/k. They are not divided by their sum.
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

    Weights: what each change is multiplied by, of any sign; by default 1. They are not divided by their sum.

    Args:
        scale: λ. With many specialists 1 is too much: 0.2 to 0.4 is usual.

    Raises:
        ValueError: a `scale` that is no finite number.
    """

    scale: float = 0.3

    def __post_init__(self):
        number("scale", self.scale)

    def merged(self, library, weights):
        return _scaled(self.scale, Mean().merged(library, weights))

    def combine(self, library, deltas, weights):
        return _scaled(self.scale, _weighted_sum(deltas, weights))


@dataclass(frozen=True)
class TIES(Method):
    """Of each specialist the largest entries, and for every number the weighted mean of those with the elected sign.

    Entries are chosen among all numbers of a specialist, exactly `round(density · numbers)` of them and at least one.
    A number's sign is that of the weighted sum of what is left; where that is zero, the sign of the majority of all
    numbers.

    Weights: how much each specialist counts in the election, where a negative one turns its changes round, and in the
    mean, ``Σ w_i Δ_i / Σ |w_i|`` over those that agree; by default 1. Their common size does not matter.

    Args:
        density: the share of entries that is kept. Where there are few, keep many.
        scale: λ, what the result is multiplied by.

    Raises:
        ValueError: a `density` outside of (0, 1]; a `scale` that is no finite number.
    """

    density: float = 0.2
    scale: float = 1.0

    def __post_init__(self):
        number("density", self.density, _KEPT)
        number("scale", self.scale)

    def combine(self, library, deltas, weights):
        w = weights[:, None]
        trimmed = w * _trimmed(flat(deltas), self.density)
        sign = jnp.sign(jnp.sum(trimmed, axis=0))
        sign = jnp.where(sign == 0, jnp.sign(jnp.sum(sign)), sign)
        agrees = (jnp.sign(trimmed) == sign) & (trimmed != 0)
        total = jnp.sum(jnp.where(agrees, jnp.abs(w), 0), axis=0)
        mean = jnp.sum(trimmed, axis=0, where=agrees) / jnp.where(total > 0, total, 1)
        return unflat(self.scale * mean, deltas)


@dataclass(frozen=True)
class DARE(Method):
    """Every entry is dropped with probability p; what is left is divided by 1 − p; then another method merges.

    What is dropped of a specialist depends on the seed and on its id, not on its place.

    Weights: what they are to the method that merges what is left.

    Args:
        drop: p.
        then: the method that merges what is left.
        seed: of the choice. With few numbers the result depends strongly on it; compare several.

    Raises:
        TypeError: a `then` that is no method.
        ValueError: a `drop` outside of [0, 1); a `seed` that is no whole number.
    """

    drop: float = 0.5
    then: Method = field(default_factory=Mean)
    seed: int = 0

    def __post_init__(self):
        number("drop", self.drop, ("a probability, at least 0 and below 1", SHARE[1]))
        whole("seed", self.seed)
        if not isinstance(self.then, Method):
            raise TypeError(f"then={self.then!r}: expected a method, such as Mean().")

    def weights(self, k):
        return self.then.weights(k)

    def combine(self, library, deltas, weights):
        entries = flat(deltas)
        keys = [jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(name.encode())) for name in library.ids]
        kept = jnp.stack([jax.random.bernoulli(key, 1 - self.drop, entries.shape[1:]) for key in keys])
        return self.then.combine(library, unflat(jnp.where(kept, entries / (1 - self.drop), 0), deltas), weights)


@dataclass(frozen=True, eq=False)
class Fisher(Method):
    """Σ w_i F_i Δ_i / Σ w_i F_i, each F_i, a diagonal, divided by its norm; the mean where all F_i are zero.

    Weights: what each diagonal is multiplied by, none negative, by default 1. They are relative, so that one specialist
    merges to itself.

    Args:
        diagonal: the Fisher diagonals for the parameters of `adapter.linear`, `[k, ...]`; by default those that the
            library's profile holds. It holds none for LoRA, where they are those of the factors and not of their
            product: `fisher_diagonal` computes them.
        floor: is added to the normalised diagonals, so that what has no information counts as in the mean.

    Raises:
        ValueError: a `floor` that is not positive, or no finite number.
    """

    diagonal: Parameters | None = None
    floor: float = 1e-6

    def __post_init__(self):
        number("floor", self.floor, POSITIVE)
        object.__setattr__(self, "diagonal", frozen(self.diagonal))

    def __repr__(self) -> str:
        known = None if self.diagonal is None else f"<{digest(self.diagonal)[:16]}>"
        return f"Fisher(diagonal={known}, floor={self.floor})"

    def combine(self, library, deltas, weights):
        check_relative(weights)
        diagonal = self._diagonal(library, deltas)
        f = flat(diagonal)
        empty = [name for name, used in zip(library.names, np.asarray(jnp.any(f > 0, axis=1)), strict=True) if not used]
        if empty:
            raise ValueError(
                f"no Fisher diagonal is known of {', '.join(empty)}: it is zero, as in what was merged before. "
                "Compute it by `fisher_diagonal` and give Fisher(diagonal=...)."
            )
        f = weights[:, None] * (f / jnp.linalg.norm(f, axis=1, keepdims=True) + self.floor)
        return unflat(jnp.sum(f * flat(deltas), axis=0) / jnp.sum(f, axis=0), deltas)

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
    """For methods that divide by a sum of weights.

    Raises:
        ValueError: negative ones, or all zero.
    """
    known = np.asarray(weights)
    if np.any(known < 0) or not np.any(known > 0):
        raise ValueError(f"weights={known.tolist()}: expected none negative and one positive, for they are relative.")


def _scaled(factor, tree: Parameters) -> Parameters:
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def _weighted_sum(deltas: Parameters, weights) -> Parameters:
    return jax.tree.map(lambda leaf: jnp.tensordot(weights.astype(leaf.dtype), leaf, 1, precision="highest"), deltas)


@partial(jax.jit, static_argnames="adapter")
def _sum_of_changes(params, parameters: Parameters, weights, adapter: Adapter) -> Parameters:
    """Σ w_i Δ_i, some specialists at a time: of LoRA each Δ_i is a dense matrix, and all of them may be too many."""
    return weighted_sum(partial(adapter.to_linear, params), parameters, weights)


def _trimmed(entries: Float[Array, "k p"], density: float) -> Float[Array, "k p"]:
    """The largest entries of each row, the first of equal ones, and zeros."""
    count = max(1, round(density * entries.shape[1]))
    _, places = jax.lax.top_k(jnp.abs(entries), count)
    kept = jnp.zeros(entries.shape, bool).at[jnp.arange(entries.shape[0])[:, None], places].set(True)
    return jnp.where(kept, entries, 0)
