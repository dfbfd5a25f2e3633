"""Pictures of curve fits: data, the fitted curve, and how well the data determine it."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.plots.style import GREY, axes, check, legend, next_color

__all__ = ["Fitted", "bands"]

_POINTS = 200  # of a curve


class Fitted(Protocol):
    """The parts of a `Solution` of `least_squares` that are drawn."""

    @property
    def x(self) -> PyTree: ...
    @property
    def status(self) -> Any: ...
    def covariance(self, *, absolute_sigma: bool = False) -> Any: ...


def bands(
    solution: Fitted,
    model: Callable[[PyTree, Float[Array, " N"]], Float[Array, " N"]],
    t: Float[ArrayLike, " m"],
    y: Float[ArrayLike, " m"] | None = None,
    *,
    index: int | None = None,
    level: float = 0.95,
    absolute_sigma: bool = False,
    label: str | None = None,
    ax: Any = None,
) -> Any:
    """Draw a fit with its data, and the band that holds the curve at each place with a given probability.

    The band is that of the mean, to first order in the unknowns: `Covariance.interval`. New data scatter around it.

    Args:
        solution: a `Solution` of `least_squares`.
        model: `model(x, t)`, the curve for the unknowns of one fit at places `t`, `[N]`.
        t: where the data are. The curve is drawn from the smallest to the largest; what is not finite is left out.
        y: the data; None for the curve alone.
        index: which fit of a batch; it must be given where there are several.
        level: the probability that the band holds the curve, at any one place.
        absolute_sigma: as for `Solution.covariance`.
        label: name of the curve in the legend.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: several fits and no index; no solution of `least_squares`; t and y of different sizes; no finite t;
            a model that does not give one number for each place.
        IndexError: there is no fit of that index.
        TypeError: something else than a `Solution`.
        ImportError: matplotlib is not installed.
    """
    check("solution", solution, "a Solution of `least_squares`", "covariance", "status")
    t = np.ravel(np.asarray(t, float))
    if y is not None and np.size(y) != t.size:
        raise ValueError(f"t has {t.size} places and y has {np.size(y)} data; expected the same number.")
    there = t[np.isfinite(t)]
    if not there.size:
        raise ValueError(f"t: expected at least one place that is finite, got {t.size} others.")
    covariance = _one(solution, index).covariance(absolute_sigma=absolute_sigma)
    grid = np.linspace(there.min(), there.max(), _POINTS)
    curve = np.asarray(model(covariance.x, jnp.asarray(grid)))
    if curve.shape != grid.shape:
        raise ValueError(f"model: expected {_POINTS} numbers at {_POINTS} places, got the shape {curve.shape}.")
    ends = covariance.interval(model, jnp.asarray(grid), level=level)
    low, high = (np.where(np.isfinite(end), end, np.nan) for end in ends)
    ax = axes(ax)
    color = next_color(ax)
    if y is not None:
        ax.plot(t, np.ravel(np.asarray(y)), "o", color=GREY, markersize=4, markeredgewidth=0, label="data")
    ax.plot(grid, curve, color=color, label="fit" if label is None else label)
    known = "" if np.isfinite(low).all() else ", where the data determine it"
    ax.fill_between(grid, low, high, color=color, alpha=0.25, linewidth=0, label=f"{100 * level:g} % confidence{known}")
    ax.set(xlabel="t", ylabel="y")
    legend(ax)
    return ax


def _one(solution: Any, index: int | None) -> Any:
    """The solution of one fit, without a batch axis."""
    shape = np.shape(solution.status)
    if not shape:
        return solution
    if index is not None:
        index = whole_number("index", index)
    elif shape != (1,):
        raise ValueError(f"solution is of {shape[0]} fits; expected index=, which of them to draw.")
    if not -shape[0] <= (index or 0) < shape[0]:
        raise IndexError(f"index={index}: expected a fit from 0 to {shape[0] - 1}.")
    return jax.tree.map(lambda leaf: leaf[index or 0], solution)
