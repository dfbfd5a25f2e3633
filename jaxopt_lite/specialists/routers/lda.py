"""Linear discriminant analysis: the nearest mean, in units of the spread within tasks. The default router.

All tasks share the covariance Σ of the `Geometry`, which is made once for a base, frozen, and shared by all who add
specialists to it; a specialist ships the mean μ and the number n of its inputs. With known means the most likely task
is the one with the largest score −½ (x − μ)ᵀ Σ⁻¹ (x − μ): Hastie, Tibshirani and Friedman, The Elements of Statistical
Learning, 2nd ed., section 4.3, with equal priors. A mean of n inputs itself has the covariance Σ / n, so that x − μ has
the covariance (1 + 1/n) Σ, and the score becomes

    −½ c ‖(x − μ) W‖²,    c = n / (n + 1),    W Wᵀ = Σ⁻¹.

An input of the task itself then has the same distribution of scores whatever n is: a specialist of few examples is
neither favored nor disfavored, and one threshold is right for all. (The full log-density has a further term ½ d log c.
It is right for means that may be anywhere; for tasks close to each other it disfavors those of few examples.)

Σ is the covariance within tasks, pooled over them and shrunk, on the host in float64: Ledoit and Wolf, A
well-conditioned estimator for large-dimensional covariance matrices, J. Multivariate Analysis 88 (2004), 365-411. It is
shrunk towards a multiple of the identity, by the share with the least mean squared error as both the number of inputs
and d grow, for features scaled to variance 1, so that the units of the features do not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num
from numpy.typing import NDArray

from jaxopt_lite.files import write
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.specialists.arguments import check_real, copied, freeze_fields
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.routing import Router
from jaxopt_lite.specialists.tensor_files import check_dtypes, check_exists, check_tensors, encode, read
from jaxopt_lite.specialists.tiles import by_tiles, filled, product, squared_distances

__all__ = ["LDA", "Geometry", "Whitening", "means", "shrinkage", "whitening"]

_KIND = "jaxopt_lite geometry"
_ARRAYS = ("center", "whiten", "threshold", "temperature")
_AGAIN = "make it again by `calibrate(base, tasks)`"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Geometry:
    """The feature space of a base, from inputs of many tasks; `calibrate` makes one. A pytree of d features.

    Attributes:
        center: the mean features.
        whiten: a matrix; within a task the covariance of `(features − center) @ whiten` is about the identity.
        threshold: the largest novelty of an input that is not sent to the base, for LDA.
        temperature: the temperature of the softmax of LDA's scores.
        fingerprint: the fingerprint of the base.
    """

    center: Float[Array, " d"]
    whiten: Float[Array, "d d"]
    threshold: Float[Array, ""]
    temperature: Float[Array, ""]
    fingerprint: str = field(metadata={"static": True})

    def __post_init__(self):
        freeze_fields(self)

    def save(self, file: str | Path) -> None:
        """Save it as one safetensors file, with a checksum; an existing file is replaced at once.

        Raises:
            OSError: it cannot be written; an existing file stays as it is.
            ValueError: what `load` would refuse.
        """
        tensors = {name: np.asarray(getattr(self, name), order="C") for name in _ARRAYS}
        _check(tensors)
        write(file, encode(_KIND, tensors, {"base": self.fingerprint}))

    @classmethod
    def load(cls, file: str | Path, base: Base) -> "Geometry":
        """Read what `save` wrote.

        Args:
            file: the file.
            base: the base it was made for.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be accessed.
            ValueError: the geometry of another base; a damaged file or something else; a center or a matrix that is
                not finite, a matrix with a row or a column of zeros, a threshold that is NaN or −∞, a temperature that
                is not positive and finite.
        """
        file = Path(file)
        check_exists(file, "`Geometry.save`")
        try:
            tensors, metadata = read(file, _KIND, {"1": ("base",)})
            _check(tensors)
            arrays = {name: jnp.asarray(tensor) for name, tensor in tensors.items()}
            geometry = cls(**arrays, fingerprint=metadata["base"])
            geometry.check(base)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        return geometry

    def check(self, base: Base) -> None:
        """Refuse another base.

        Raises:
            ValueError: the geometry of another base.
        """
        if self.fingerprint != base.fingerprint:
            raise ValueError(
                f"this geometry is for the base {self.fingerprint[:12]}…, not for {base.name!r} "
                f"({base.fingerprint[:12]}…); make one by `calibrate(base, tasks)`."
            )


def _check(tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse numbers with which no input could be routed, or all would be routed alike."""
    d = np.size(tensors.get("center", ()))
    check_tensors(tensors, {"center": (d,), "whiten": (d, d), "threshold": (), "temperature": ()})
    check_dtypes(tensors, floating=True)
    for name in ("center", "whiten"):
        if not d or not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name!r} is empty or holds NaN or infinity; {_AGAIN}.")
    used = tensors["whiten"] != 0
    if not (used.any(axis=0).all() and used.any(axis=1).all()):
        raise ValueError(f"'whiten' has a row or a column of zeros; expected a matrix with an inverse; {_AGAIN}.")
    threshold, temperature = (float(tensors[name]) for name in ("threshold", "temperature"))
    if not threshold > -np.inf:
        raise ValueError(f"'threshold' is {threshold}; expected a number, infinity for no fallback; {_AGAIN}.")
    if not 0 < temperature < np.inf:
        raise ValueError(f"'temperature' is {temperature}; expected a positive number; {_AGAIN}.")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LDA(Router):
    """Scores are −½ squared distances. Adding a specialist changes no other's, to the bit.

    Made for features in which the tasks are clouds of one shape. It fails where a task is several clouds: then give it
    several specialists, or fit a `Softmax`.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from jaxopt_lite.specialists import LDA, Base, calibrate
        >>> apply = lambda params, x: params["w"] @ x
        >>> base = Base({"w": jnp.ones(2)}, apply, features=lambda params, x: x)
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
    @in_own_settings
    def at(cls, mean: Float[ArrayLike, "T d"], count: Num[ArrayLike, " T"], geometry: Geometry) -> "LDA":
        """For tasks with these means of `count` inputs. A task with no inputs, or no finite mean, is never chosen.

        Raises:
            TypeError: means or counts that are not real numbers.
            ValueError: means of another width than the geometry's; not one count for each.
        """
        mean, count = (_numbers(*given, geometry.center.dtype) for given in (("mean", mean), ("count", count)))
        if mean.ndim != 2 or mean.shape[1] != geometry.center.size:
            raise ValueError(f"mean has shape {mean.shape}; the geometry is of {geometry.center.size} features.")
        if count.shape != mean.shape[:1]:
            raise ValueError(f"count has shape {count.shape}; expected {mean.shape[:1]}, one for each mean.")
        rows = filled((mean, count))  # with tasks of no inputs
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
    array = copied(given)
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


class Whitening(NamedTuple):
    """Within a task the covariance of `(x − center) @ matrix` is about the identity."""

    center: NDArray
    matrix: NDArray


def means(features: NDArray, index: NDArray, size: int) -> tuple[NDArray, NDArray]:
    """The mean features of each task, `[T, d]`, and the number of its inputs, `[T]`; zeros where there are none."""
    count = np.bincount(index, minlength=size)
    first, total = np.zeros((2, size, features.shape[1]))
    first[index[::-1]] = features[::-1]  # if all inputs of a task are equal, so is their mean, to the bit
    np.add.at(total, index, features - first[index])
    return first + total / np.maximum(count, 1)[:, None], count


def whitening(features: NDArray, index: NDArray, size: int) -> Whitening:
    """The whitening for the features `[N, d]` of inputs of the tasks `index`.

    Raises:
        ValueError: features that do not vary within any task.
    """
    mean, count = means(features, index, size)
    z, freedom = features - mean[index], len(features) - int(np.count_nonzero(count))
    deviation = np.sqrt((z**2).sum(axis=0) / max(freedom, 1))
    if freedom < 1 or not deviation.any():
        raise ValueError(
            f"the features of {len(features)} inputs of {size} tasks do not vary within the tasks; expected several "
            "different inputs of some task."
        )
    deviation[deviation == 0] = 1
    z /= deviation
    covariance, share = z.T @ z / freedom, shrinkage(z, freedom)
    covariance = (1 - share) * covariance + share * np.mean(np.diag(covariance)) * np.eye(len(deviation))
    value, vector = np.linalg.eigh(covariance)
    floor = np.finfo(np.float64).eps * len(value) * value.max()  # a share of 0 may leave zeros
    return Whitening(features.mean(axis=0), vector / np.sqrt(np.maximum(value, floor)) / deviation[:, None])


def shrinkage(z: NDArray, freedom: int) -> float:
    """The share of the identity for centered rows `z`, from 0 to 1."""
    s = z.T @ z / freedom
    scatter = np.sum(np.sum(z**2, axis=1) ** 2) - freedom * np.sum(s**2)  # Σ ‖z zᵀ − S‖²
    noise = max(scatter, 0.0) / freedom**2
    distance = np.sum((s - np.mean(np.diag(s)) * np.eye(len(s))) ** 2)
    return float(min(noise, distance) / distance) if distance > 0 else 1.0
