"""Thresholds and temperatures from inputs that were held out.

The threshold is a quantile of the novelty of n inputs of known tasks. The ⌈(n + 1)(1 − α)⌉-th smallest of them is
exceeded by another such input with a probability of at most α, whatever the distribution: split conformal prediction,
Angelopoulos and Bates, arXiv 2107.07511, section 1. The temperature minimizes the cross-entropy of the softmax of the
scores: Guo et al., arXiv 1706.04599.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Int
from numpy.typing import NDArray

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.lanes.arithmetic import at_least_float32
from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.solve import minimize
from jaxopt_lite.specialists.arguments import SHARE, number
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.features import features_of
from jaxopt_lite.specialists.routers.lda import LDA, Geometry, Whitening, means, whitening
from jaxopt_lite.specialists.routing import Router
from jaxopt_lite.specialists.tasks import named

__all__ = ["calibrate", "calibrated", "quantile", "shuffled_ranks"]

_SCORES = 1 << 22  # the most scores for the temperature; of more inputs a sample is taken

AnyRouter = TypeVar("AnyRouter", bound=Router)


def calibrate(base: Base, tasks: Mapping[str, tuple], *, fallback: float = 0.01, seed: int = 0) -> Geometry:
    """Learn the feature space of a base from inputs of many tasks, once; then specialists join without changing it.

    The covariance is that of all inputs. The threshold and the temperature are found by cross-fitting: each task is
    halved, and each half is scored by the means and the covariance of the other. An input's novelty is that under its
    own task. In a library that holds this task it is no larger, so at most a share of `fallback` falls back falsely,
    however many specialists there are; fewer where tasks overlap.

    Args:
        base: the model, with features.
        tasks: inputs of tasks like those to come, `(x, ...)` or `Task`, leaves of x `[N, ...]`; only x is read.
        fallback: the share of inputs of known tasks that may fall back to the base; 0 for no fallback.
        seed: the seed of the halves.

    Returns:
        A `Geometry`, for `LDA.of(library, geometry)`.

    Raises:
        TypeError: `tasks` is not a mapping from names to tuples of arrays of numbers.
        ValueError: a base without features; NaN or infinity in them; features that do not vary; too few inputs for the
            share of `fallback`.
    """
    share, seed = _fallback(fallback), whole_number("seed", seed, least=0)
    tasks = named(tasks)
    features, index = features_of(base, tasks)
    size, half = len(tasks), shuffled_ranks(index, seed) % 2 == 0
    dtype = at_least_float32(features.dtype)  # half precision would round scores to ties, or to infinity
    features = features.astype(np.float64)
    novelty, temperature = [], []
    for fit in (half, ~half):
        space = whitening(features[fit], index[fit], size)
        mean, count = means(features[fit], index[fit], size)
        held = ~fit & (count[index] > 0)
        novelty.append(_own_novelty(features[held], mean[index[held]], count[index[held]], space))
        router = LDA.at(mean.astype(dtype), count, _geometry(space, np.inf, 1.0, dtype, base))
        temperature.append(_fitted_temperature(router, features[held].astype(dtype), index[held], seed))
    threshold = quantile(np.concatenate(novelty), share)
    space = whitening(features, index, size)
    return _geometry(space, threshold, float(np.sqrt(np.prod(temperature))), dtype, base)


def calibrated(
    router: AnyRouter,
    features: Float[ArrayLike, "N d"],
    index: Int[ArrayLike, " N"] | None = None,
    *,
    fallback: float = 0.01,
    seed: int = 0,
) -> AnyRouter:
    """Any router with a threshold, and a temperature, from held-out inputs of the tasks it knows.

    Args:
        router: the router.
        features: the features of inputs that neither it nor its specialists were fitted to.
        index: the specialist of each, for the temperature; without it the temperature stays.
        fallback: the share of such inputs that may fall back to the base; 0 for no fallback.
        seed: the seed of the sample for the temperature, if there are very many inputs.

    Raises:
        TypeError: an index that is not of integers.
        ValueError: features of another width, not finite, or too large for the dtypes that JAX has enabled; too few
            inputs for the share of `fallback`; an index out of range.
    """
    fallback, seed = _fallback(fallback), whole_number("seed", seed, least=0)
    novelty = np.asarray(router.novelty(features))  # this refuses numbers that JAX would change
    features = jnp.asarray(features)
    if not jnp.isfinite(features).all():
        raise ValueError("features hold NaN or infinity; leave such inputs out.")
    threshold = quantile(novelty, fallback)
    router = replace(router, threshold=jnp.asarray(threshold, router.threshold.dtype))
    if index is None:
        return router
    known = np.asarray(index)
    if not np.issubdtype(known.dtype, np.integer):
        raise TypeError(f"index is of {known.dtype.name}; expected whole numbers, one per input.")
    if known.shape != features.shape[:1] or not np.all((known >= 0) & (known < len(router))):
        raise ValueError(f"index: expected {len(features)} whole numbers from 0 to {len(router) - 1}, one per input.")
    temperature = _fitted_temperature(router, np.asarray(features), known, seed)
    return replace(router, temperature=jnp.asarray(temperature, router.temperature.dtype))


def quantile(novelty: NDArray, fallback: float) -> float:
    """The threshold that another novelty exceeds with a probability of at most `fallback`.

    Raises:
        ValueError: too few numbers.
    """
    if fallback == 0:
        return np.inf
    n = len(novelty)
    rank = int(np.ceil((n + 1) * (1 - fallback) - 1e-9))
    if rank > n:
        raise ValueError(
            f"fallback={fallback} needs at least {int(np.ceil(1 / fallback - 1e-9)) - 1} held-out inputs, and there "
            f"are {n}; give more, or allow a larger share."
        )
    return float(np.sort(novelty)[rank - 1])


def _fallback(share: float) -> float:
    return number("fallback", share, SHARE)


def shuffled_ranks(index: NDArray, seed: int) -> NDArray:
    """The rank of each input among those of its task, in a random order."""
    order = np.random.default_rng(seed).permutation(len(index))
    order = order[np.argsort(index[order], kind="stable")]
    ranks = np.empty(len(index), int)
    ranks[order] = np.arange(len(order)) - np.searchsorted(index[order], index[order])
    return ranks


def _own_novelty(features: NDArray, mean: NDArray, count: NDArray, space: Whitening) -> NDArray:
    """The LDA score of each input for its own task, negated."""
    return 0.5 * count / (count + 1) * np.sum(((features - mean) @ space.matrix) ** 2, axis=1)


def _geometry(space: Whitening, threshold: float, temperature: float, dtype, base: Base) -> Geometry:
    arrays = space.center, space.matrix, threshold, temperature
    return Geometry(*(jnp.asarray(array, dtype) for array in arrays), fingerprint=base.fingerprint)


def _fitted_temperature(router: Router, features: NDArray, index: NDArray, seed: int) -> float:
    most = max(1, _SCORES // max(len(router), 1))
    if len(index) > most:
        sample = np.random.default_rng(seed).choice(len(index), most, replace=False)
        features, index = features[sample], index[sample]
    if not len(index):
        return 1.0
    args = router.scores(jnp.asarray(features)), jnp.asarray(index)
    solution = minimize(_cross_entropy, jnp.zeros(1, router.weight.dtype), args, solver=BFGS(), batched=False)
    return float(np.exp(solution.x[0]))


def _cross_entropy(log_temperature, args):
    """That of the softmax of scores / temperature. A weak prior keeps the temperature above 0 if no score is wrong."""
    score, index = args
    score = jnp.where(jnp.isfinite(score), score, jnp.finfo(score.dtype).min / 4)
    score = score - jnp.max(score, axis=1, keepdims=True)
    logs = jax.nn.log_softmax(score * jnp.exp(-log_temperature[0]), axis=1)
    loss = -jnp.mean(jnp.take_along_axis(logs, index[:, None], axis=1))
    return loss + 0.5 * log_temperature[0] ** 2 / score.shape[0]
