"""The nearest mean, by angle or by distance."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_lite.lanes.arithmetic import at_least_float32, positive
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.specialists.arguments import as_float, check_real, copied
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.routers.lda import Geometry
from jaxopt_lite.specialists.routing import Router
from jaxopt_lite.specialists.tiles import in_range, squared_distances

__all__ = ["Centroid"]

Metric = Literal["cosine", "euclid"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Centroid(Router):
    """Scores are the cosine between the features of an input and of a task, both relative to a center, or −½ distance².

    Made for features that are equally informative in all directions, and for too few inputs to estimate a covariance.
    It fails where a few directions vary much but say nothing about the task: `LDA` divides by that spread.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Centroid
        >>> router = Centroid.at(jnp.array([[3.0, 0.0], [0.0, 1.0]]))
        >>> router.scores(jnp.array([[0.0, 2.0]])).tolist()
        [[0.0, 1.0]]
    """

    center: Float[Array, " d"]
    metric: Metric = field(default="cosine", metadata={"static": True})

    @classmethod
    @in_own_settings
    def of(cls, library: Library, geometry: Geometry | None = None, metric: Metric = "cosine") -> "Centroid":
        """For the specialists of a library, by their profiles; the threshold is ∞ until `calibrated` sets one.

        Args:
            library: the specialists. One whose profile counts no inputs is never chosen.
            geometry: what gives the center. Without it the center is the mean over the specialists, which a new one
                moves.
            metric: "cosine" or "euclid".

        Raises:
            ValueError: the geometry of another base; another metric.
        """
        if geometry is not None:
            geometry.check(library.base)
        mean = library.profile.mean
        mean, center = _seen(library.profile.count, mean.astype(at_least_float32(mean.dtype)))
        return cls.at(mean, center if geometry is None else geometry.center, metric)

    @classmethod
    @in_own_settings
    def at(
        cls, mean: Float[Array, "T d"], center: Float[Array, " d"] | None = None, metric: Metric = "cosine"
    ) -> "Centroid":
        """For tasks with these means; the center is zero by default. A task without a finite mean is never chosen.

        Raises:
            TypeError: means or a center that are not real numbers.
            ValueError: another metric; means without a row for each task; a center of another width.
        """
        if metric not in ("cosine", "euclid"):
            raise ValueError(f"metric={metric!r}: expected 'cosine' or 'euclid'.")
        mean = jnp.asarray(copied(mean))
        check_real("mean", mean)
        mean = mean.astype(at_least_float32(as_float(mean.dtype)))
        if mean.ndim != 2:
            raise ValueError(f"mean has shape {mean.shape}; expected [T, d], a row for each task.")
        given = copied(np.zeros(mean.shape[1]) if center is None else center)
        check_real("center", given)
        if given.shape != mean.shape[1:]:
            raise ValueError(f"center has shape {given.shape}; expected {mean.shape[1:]}, like each mean.")
        center = jnp.asarray(given, mean.dtype)
        weight, bias, threshold, temperature = _compared(mean, center, metric)
        return cls(weight, bias, threshold, temperature, center, metric)

    def query(self, features):
        q = features - self.center
        return _unit(q) if self.metric == "cosine" else q

    def match(self, query, weight):
        return super().match(query, weight) if self.metric == "cosine" else -0.5 * squared_distances(query, weight)


# Programs of several operations; otherwise JAX would compile one for each.


@jax.jit
def _seen(count: Float[Array, " T"], mean: Float[Array, "T d"]) -> tuple[Array, Array]:
    """The means of the tasks that have inputs, NaN for others; and the mean of these means."""
    seen = count > 0
    center = jnp.sum(jnp.where(seen[:, None], mean, 0), axis=0) / jnp.maximum(jnp.sum(seen), 1)
    return jnp.where(seen[:, None], mean, jnp.nan), center


@partial(jax.jit, static_argnames="metric")
def _compared(
    mean: Float[Array, "T d"], center: Float[Array, " d"], metric: Metric
) -> tuple[Array, Array, Array, Array]:
    """The weight, bias, threshold and temperature of tasks with these means."""
    row = mean - center
    known = jnp.all(jnp.isfinite(row), axis=1)
    row = jnp.where(known[:, None], row, 0)
    bias = jnp.where(known, jnp.zeros_like(row[:, 0]), -jnp.inf)
    one = jnp.ones((), row.dtype)
    return _unit(row) if metric == "cosine" else row, bias, jnp.inf * one, one


def _unit(x):
    """Rows of length 1; a row of zeros stays one."""
    x = in_range(x)  # so that no square overflows
    square = jnp.sum(x**2, axis=1, keepdims=True)
    return x / jnp.sqrt(positive(square))
