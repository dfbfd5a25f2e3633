"""Linear discriminant analysis: the nearest mean, in units of the spread within tasks. The default router.

All tasks share the covariance Σ of the `Geometry`; a specialist ships the mean μ and the number n of its inputs. With
known means the most likely task is the one with the largest score −½ (x − μ)ᵀ Σ⁻¹ (x − μ): Hastie, Tibshirani and
Friedman, The Elements of Statistical Learning, 2nd ed., section 4.3, with equal priors. A mean of n inputs is itself
off by a covariance of Σ / n, so that x − μ has the covariance (1 + 1/n) Σ, and the score becomes

    −½ c ‖(x − μ) W‖²,    c = n / (n + 1),    W Wᵀ = Σ⁻¹.

An input of the task itself has then the same distribution of scores whatever n is: a specialist of few examples is
neither favoured nor slighted, and one threshold is right for all. (The full log-density has a further term ½ d log c.
It is right for means that may be anywhere; for tasks that lie close to each other it slights those of few examples.)
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num

from jaxopt_lite.specialists.checks import check_real
from jaxopt_lite.specialists.frozen import own
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.routers.geometry import Geometry
from jaxopt_lite.specialists.routing import Router
from jaxopt_lite.specialists.tiles import by_tiles, filled, product, squared_distances

__all__ = ["LDA"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LDA(Router):
    """Scores are −½ squared distances. Adding a specialist changes no other's, to the bit.

    Made for features in which the tasks are clouds of one shape. It fails where a task is several clouds: then give it
    several specialists, or fit a `Softmax`.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from jaxopt_lite.specialists import LDA, Base, calibrate
        >>> base = Base({"w": jnp.ones(2)}, lambda params, x: params["w"] @ x, features=lambda params, x: x)
        >>> x = np.random.default_rng(0).normal(size=(2, 200, 2)) + np.array([[[0, 0]], [[9, 9]]])
        >>> geometry = calibrate(base, {"near": (x[0], x[0]), "far": (x[1], x[1])})
        >>> router = LDA.at(x.mean(axis=1), jnp.full(2, 200), geometry)
        >>> router(jnp.array([[0.0, 1.0], [9.0, 8.0], [-50.0, 50.0]])).tolist()
        [0, 1, -1]
    """

    center: Float[Array, " d"]
    whiten: Float[Array, "d d"]

    @classmethod
    def of(cls, library: Library, geometry: Geometry) -> "LDA":
        """For the specialists of a library, by their profiles.

        Raises:
            ValueError: the geometry of another base.
        """
        geometry.check(library.base)
        return cls.at(library.profile.mean, library.profile.count, geometry)

    @classmethod
    def at(cls, mean: Float[ArrayLike, "T d"], count: Num[ArrayLike, " T"], geometry: Geometry) -> "LDA":
        """For tasks with these means of `count` inputs. One with no inputs, or no finite mean, is never chosen.

        Raises:
            TypeError: means or counts that are no real numbers.
            ValueError: means of another width than the geometry's; not as many counts.
        """
        mean, count = (_numbers(*given, geometry.center.dtype) for given in (("mean", mean), ("count", count)))
        if mean.ndim != 2 or mean.shape[1] != geometry.center.size:
            raise ValueError(f"mean has shape {mean.shape}; the geometry is of {geometry.center.size} features.")
        if count.shape != mean.shape[:1]:
            raise ValueError(f"count has shape {count.shape}; expected {mean.shape[:1]}, one for each mean.")
        rows = filled((mean, count))  # of no inputs
        weight, bias = (leaf[: len(mean)] for leaf in _rows(*rows, geometry.center, geometry.whiten))
        return cls(weight, bias, geometry.threshold, geometry.temperature, geometry.center, geometry.whiten)

    @property
    def width(self) -> int:
        return self.center.shape[0]

    def query(self, features):
        return product(features - self.center, self.whiten)

    def match(self, query, weight):
        m, c = weight[:, :-1], weight[:, -1]
        return -0.5 * c * squared_distances(query, m)


def _numbers(name: str, given, dtype) -> Array:
    array = own(given)
    check_real(name, array)
    return jnp.asarray(array, dtype)


@jax.jit
def _rows(mean, count, center, whiten):
    """The rows (m, c) of the scores −½ c ‖q − m‖², q = (x − center) W, and biases that are 0 or −∞."""

    def tile(rows):
        mean, n = rows
        c = n / (n + 1)
        known = jnp.all(jnp.isfinite(mean), axis=1) & (n > 0) & jnp.isfinite(c)
        m = product(jnp.where(known[:, None], mean, center) - center, whiten)
        weight = jnp.concatenate([m, c[:, None]], axis=1)
        return jnp.where(known[:, None], weight, 0), jnp.where(known, jnp.zeros_like(c), -jnp.inf)

    return by_tiles(tile, (mean, count))
