"""The covariance within tasks, pooled over them and shrunk. On the host, in float64: it is computed once.

Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, J. Multivariate Analysis 88
(2004), 365-411: S is drawn towards a multiple of the identity, by the share that is best in the mean squared error as
both N and d grow. It is applied to features scaled to variance 1, so that the units of the features do not matter.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Whitening", "means", "shrinkage", "whitening"]


class Whitening(NamedTuple):
    """`(x − center) @ matrix` has, within a task, about the identity for its covariance."""

    center: NDArray
    matrix: NDArray


def means(features: NDArray, index: NDArray, size: int) -> tuple[NDArray, NDArray]:
    """The mean features of each task, `[T, d]`, and the number of its inputs, `[T]`; zeros where there are none."""
    count = np.bincount(index, minlength=size)
    total = np.zeros((size, features.shape[1]))
    np.add.at(total, index, features)
    return total / np.maximum(count, 1)[:, None], count


def whitening(features: NDArray, index: NDArray, size: int) -> Whitening:
    """From the features `[N, d]` of inputs of the tasks `index`.

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
    """The share of the identity for centred rows `z`, from 0 to 1."""
    s = z.T @ z / freedom
    scatter = np.sum(np.sum(z**2, axis=1) ** 2) - freedom * np.sum(s**2)  # Σ ‖z zᵀ − S‖²
    noise = max(scatter, 0.0) / freedom**2
    distance = np.sum((s - np.mean(np.diag(s)) * np.eye(len(s))) ** 2)
    return float(min(noise, distance) / distance) if distance > 0 else 1.0
