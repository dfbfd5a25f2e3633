"""Multinomial logistic regression on the features: a learned router, fitted by L-BFGS as one problem."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.lanes.arithmetic import at_least_float32
from jaxopt_lite.lanes.status import Status
from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.solvers.solve import minimize
from jaxopt_lite.specialists.arguments import NOT_NEGATIVE, number
from jaxopt_lite.specialists.features import features_of
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.routers.calibration import calibrated, shuffled_ranks
from jaxopt_lite.specialists.routers.lda import means
from jaxopt_lite.specialists.routing import Router
from jaxopt_lite.specialists.sums import weighted_sum
from jaxopt_lite.specialists.tasks import named
from jaxopt_lite.specialists.tiles import product

__all__ = ["Softmax"]

_HELD_OUT = 5  # every fifth input of a task


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Softmax(Router):
    """Scores are the logits of a multinomial logistic regression.

    Made for a fixed set of tasks with many inputs: it may tell apart what `LDA` cannot, where the tasks' clouds have
    different shapes. It does not grow: a new specialist needs the inputs of all tasks again, and moves all scores. With
    few inputs and many features it overfits, unless `ridge` is large.

    Its novelty is the largest logit, negated: Hendrycks et al., arXiv 1911.11132.
    """

    @classmethod
    def fit(
        cls,
        library: Library,
        tasks: Mapping[str, tuple],
        *,
        ridge: float = 1.0,
        fallback: float = 0.01,
        solver: LBFGS | None = None,
        seed: int = 0,
    ) -> "Softmax":
        """Fit to four fifths of the inputs of every task; the rest sets the threshold and the temperature.

        Args:
            library: the specialists.
            tasks: inputs of each of them, by name, `(x, ...)` or `Task`; all tasks weigh the same.
            ridge: the strength of the penalty ½ ridge ‖weight‖² / N, for features scaled to variance 1.
            fallback: the share of inputs of known tasks that may fall back to the base; 0 for no fallback.
            solver: the settings of the solver.
            seed: the seed of the choice of what is held out.

        Raises:
            TypeError: `tasks` is not a mapping from names to tuples of arrays of numbers.
            ValueError: no specialists; one without a task or inputs; too few inputs for the share of `fallback`.

        Warns:
            RuntimeWarning: the fit did not converge.
        """
        tasks, ridge = named(tasks), number("ridge", ridge, NOT_NEGATIVE)
        seed = whole_number("seed", seed, least=0)
        if not len(library):
            raise ValueError("library is empty; expected at least one specialist.")
        missing = [name for name in library.names if name not in tasks]
        if missing:
            raise ValueError(
                f"tasks: expected one of each of {len(library)} specialists; there is none of {missing[:5]}."
            )
        features, index = features_of(library.base, {name: tasks[name] for name in library.names})
        held = _held_out(index, seed)
        weight, bias = _fitted(features[~held], index[~held], len(library), ridge, solver)
        one = jnp.ones((), weight.dtype)
        router = cls(weight, bias, jnp.inf * one, one)
        return calibrated(router, features[held], index[held], fallback=fallback, seed=seed)


def _held_out(index: NDArray, seed: int) -> NDArray:
    """A fifth of the inputs of each task, at random, and never the only one."""
    return shuffled_ranks(index, seed) % _HELD_OUT == 1


def _fitted(features: NDArray, index: NDArray, size: int, ridge: float, solver: LBFGS | None):
    count = np.bincount(index, minlength=size)
    if (count == 0).any():
        raise ValueError(f"tasks: {(count == 0).sum()} of them have no inputs; expected at least one each.")
    center, deviation = _location_and_scale(features)
    x = jnp.asarray((features - center) / deviation, at_least_float32(features.dtype))
    share = jnp.asarray(1 / (size * count[index]), x.dtype)
    start = {"weight": jnp.zeros((size, x.shape[1]), x.dtype), "bias": jnp.zeros(size, x.dtype)}
    args = x, jnp.asarray(index), share, jnp.asarray(ridge / len(x), x.dtype)
    solver = solver or LBFGS(atol=1e-7, rtol=1e-3, max_steps=2000)
    solution = minimize(_cross_entropy, start, args, solver=solver, batched=False)
    if not bool(solution.success):
        warnings.warn(
            f"the fit of the router ended as {Status(int(solution.status)).name}.", RuntimeWarning, stacklevel=3
        )
    weight = np.asarray(solution.x["weight"], np.float64) / deviation
    bias = np.asarray(solution.x["bias"], np.float64) - weight @ center
    return jnp.asarray(weight, x.dtype), jnp.asarray(bias, x.dtype)


def _location_and_scale(features: NDArray) -> tuple[NDArray, NDArray]:
    """The mean and the standard deviation of each feature, in float64; 1 for one that is constant."""
    wide = features.astype(np.float64)
    center = means(wide, np.zeros(len(wide), int), 1)[0][0]
    deviation = np.sqrt(np.mean((wide - center) ** 2, axis=0))
    return center, np.where(deviation > 0, deviation, 1)


def _cross_entropy(unknowns, args):
    """The loss of all inputs, some at a time: all their logits for all specialists may not fit in memory."""
    weight, bias = unknowns["weight"], unknowns["bias"]
    x, index, share, ridge = args

    def one(example):
        x, k = example
        logits = product(weight, x) + bias
        return jax.nn.logsumexp(logits) - logits[k]

    return weighted_sum(one, (x, index), share) + 0.5 * ridge * jnp.sum(weight**2)
