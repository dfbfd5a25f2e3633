"""Pictures of a batch: how it converged, how its problems ended, and which start leads to which answer."""

from typing import Any, Literal, Protocol

import jax
import numpy as np
from jaxtyping import ArrayLike, Bool, Float, Int, PyTree
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from jaxopt_lite.lanes.status import Status, is_solved
from jaxopt_lite.plots.style import (
    BLUE,
    COLORS,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PINK,
    SKY,
    VERMILLION,
    axes,
    check,
    legend,
    next_color,
    title,
)

__all__ = ["Solved", "basins", "convergence", "statuses"]

_QUANTILES = ((0.05, 0.95, 0.18), (0.25, 0.75, 0.34))  # from, to, opacity
_BARS = 40  # at most
_FAINTEST = 0.4  # opacity of the start that takes longest
_NEAR = 1e-3  # of the extent of the starts: answers this near are one

_SOLUTION = "a Solution"

_COLOR = {
    Status.CONVERGED: BLUE,
    Status.AT_PRECISION: GREEN,
    Status.MAX_STEPS: ORANGE,
    Status.STALLED: VERMILLION,
    Status.NO_ROOT: PINK,
    Status.UNBOUNDED: SKY,
    Status.NONFINITE_START: GREY,
    Status.UNVERIFIED: GREY,
    Status.NOT_STARTED: PALE,
}


class Solved(Protocol):
    """The parts of a `Solution` that are drawn."""

    @property
    def x(self) -> PyTree: ...
    @property
    def grad(self) -> PyTree: ...
    @property
    def cost(self) -> Any: ...
    @property
    def status(self) -> Any: ...
    @property
    def steps(self) -> Any: ...
    @property
    def history(self) -> Any: ...


def convergence(
    solution: Solved, quantity: Literal["error", "value"] = "error", *, label: str | None = None, ax: Any = None
) -> Any:
    """Draw how the error of a batch falls from step to step: its median, and bands with half and nine tenths of it.

    A problem that has ended keeps its last number. Errors of zero are drawn at the smallest positive one.

    Args:
        solution: solved with `record=K`.
        quantity: "error", the solver's criterion, or "value": f(x), or for a root ½‖F(x)‖².
        label: name of the line in a legend, to compare several batches on the same axes.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: nothing was recorded, or no problem has a finite number at its start.
        TypeError: something else than a `Solution`.
        ImportError: matplotlib is not installed.
    """
    if quantity not in ("error", "value"):
        raise ValueError(f"quantity={quantity!r}: expected 'error' or 'value'.")
    check("solution", solution, _SOLUTION, "history", "status")
    if solution.history is None:
        raise ValueError("nothing was recorded; solve with record=K, for instance record=50.")
    recorded = np.asarray(getattr(solution.history, quantity), float)
    values = _held(recorded.reshape(-1, recorded.shape[-1]))
    ax, steps = axes(ax), np.arange(values.shape[1])
    color = next_color(ax)
    positive = bool((values >= 0).all() and (values > 0).any())
    values = np.maximum(values, values[values > 0].min()) if positive else values
    if len(values) > 1:
        for low, high, alpha in _QUANTILES:
            ax.fill_between(steps, *np.quantile(values, (low, high), axis=0), color=color, alpha=alpha, linewidth=0)
    ax.plot(steps, np.median(values, axis=0), color=color, label=label)
    if positive:
        ax.set_yscale("log")
    ax.set(xlabel="accepted steps", ylabel=_quantity(solution, quantity), xlim=(0, None))
    title(ax, f"{_many(len(values))}: median, 50 % and 90 % of them" if len(values) > 1 else "one problem")
    legend(ax)
    return ax


def _held(recorded: Float[np.ndarray, "B K"]) -> Float[np.ndarray, "B k"]:
    """The rows that begin finite, each with its last number held, up to the last step of any."""
    there = np.isfinite(recorded)
    rows, there = recorded[there[:, 0]], there[there[:, 0]]
    if not len(rows):
        raise ValueError("no problem has a finite number at its start; see `solution.summary()`.")
    last = np.maximum.accumulate(np.where(there, np.arange(rows.shape[1]), 0), axis=1)
    return np.take_along_axis(rows, last, axis=1)[:, : np.flatnonzero(there.any(axis=0))[-1] + 1]


def _quantity(solution: Solved, quantity: str) -> str:
    if quantity == "value":
        return "½‖F(x)‖²" if solution.grad is None else "f(x)" if solution.cost is None else "cost"
    if solution.grad is None:
        return "residual ‖F(x)‖∞"
    return "gradient ‖∇f(x)‖∞" if solution.cost is None else "largest cosine of F and a column of J"


def statuses(solution: Solved, *, ax: Any = None) -> Any:
    """Draw how many steps the problems of a batch took, colored by how they ended. The legend has the counts.

    Args:
        solution: a `Solution` of a batch, or of one problem.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: something else than a `Solution`.
        ImportError: matplotlib is not installed.
    """
    check("solution", solution, _SOLUTION, "status", "steps")
    status, steps = np.ravel(solution.status), np.ravel(solution.steps)
    codes = sorted(set(status.tolist()), key=lambda code: (not is_solved(code), code))
    first, last = (int(steps.min()), int(steps.max())) if steps.size else (0, 0)
    width = 1 + (last - first) // _BARS
    edges = np.arange(first, last + width + 1, width)
    ax = axes(ax)
    if codes:
        ax.hist(
            [steps[status == code] for code in codes], edges - 0.5, stacked=True, linewidth=0.4, edgecolor=PALE,
            color=[_COLOR.get(code, PALE) for code in codes],
            label=[f"{Status(code).name.lower().replace('_', ' ')} ({np.sum(status == code):,})" for code in codes],
        )  # fmt: skip
    ax.set(xlabel="accepted steps", ylabel="problems")
    title(ax, f"{_many(status.size)}, {is_solved(status).sum():,} solved")
    _count_in_whole_numbers(ax)
    legend(ax)
    return ax


def _count_in_whole_numbers(ax: Any) -> None:
    """Ticks at integers, except on axes with ticks of another kind, such as logarithmic ones that were given."""
    from matplotlib.ticker import MaxNLocator  # pyright: ignore[reportMissingImports]  # optional

    for axis in (ax.xaxis, ax.yaxis):
        if isinstance(axis.get_major_locator(), MaxNLocator):
            axis.get_major_locator().set_params(integer=True)


def _many(problems: int) -> str:
    return f"{problems:,} problem{'' if problems == 1 else 's'}"


def basins(
    starts: Float[ArrayLike, "B n"],
    solution: Solved,
    *,
    unknowns: tuple[int, int] = (0, 1),
    tolerance: float | None = None,
    ax: Any = None,
) -> Any:
    """Draw which answer each start leads to: a color for each, fainter where it takes more steps, grey if unsolved.

    The answers that most starts lead to have colors and are marked by a point; the others share a pale grey.

    Args:
        starts: the starts. Those that fill a grid, in any order, are drawn as one picture, others as points.
        solution: the `Solution` from these starts, in their order.
        unknowns: which two of the n unknowns are drawn across and up.
        tolerance: answers no further apart than this in any unknown are one, and some up to twice as far. By default
            a thousandth of the extent of the starts from which a problem was solved.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: starts that do not match the solution, unknowns that they do not have, or a tolerance that is not
            positive.
        TypeError: something else than a `Solution`.
        ImportError: matplotlib is not installed.
    """
    check("solution", solution, _SOLUTION, "status", "steps", "x")
    starts, status = np.asarray(starts, float), np.ravel(solution.status)
    if starts.ndim != 2 or starts.shape[1] < 2 or len(starts) != status.size or not status.size:
        raise ValueError(f"starts has shape {starts.shape}; expected [{status.size}, n], one for each problem, n ≥ 2.")
    if len(unknowns) != 2 or not all(-starts.shape[1] <= k < starts.shape[1] for k in unknowns):
        raise ValueError(f"unknowns={unknowns}: expected two numbers from 0 to {starts.shape[1] - 1}.")
    if tolerance is not None and not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance={tolerance}: expected a positive number, or None.")
    leaves = [np.reshape(leaf, (status.size, -1)) for leaf in jax.tree.leaves(solution.x)]
    answers, solved = np.concatenate(leaves, axis=1), np.asarray(is_solved(status))
    extent = float(np.ptp(starts[solved], axis=0).max()) if solved.any() else 0.0
    near = tolerance or _NEAR * extent or _NEAR
    which = np.full(status.size, -1)
    which[solved] = _clusters(answers[solved], near)
    order = np.argsort(-np.bincount(which[solved]), kind="stable")[: len(COLORS)]
    ax, both = axes(ax, (5.4, 4.2)), list(unknowns)
    _paint(ax, starts[:, both], _colors(which, order, np.ravel(solution.steps)))
    for color, answer in zip(COLORS, order.tolist(), strict=False):
        point = np.median(answers[which == answer], axis=0)[both]
        shown = ", ".join(f"{value:.3g}" for value in np.where(np.abs(point) < near, 0, point))
        style = dict(color=color, markeredgecolor="white", markersize=8, marker="o", linestyle="none")
        ax.plot(*point, label=f"({shown}): {np.mean(which == answer):.0%}", **style)
    for color, rest, name in ((PALE, solved & ~np.isin(which, order), "others"), (GREY, ~solved, "unsolved")):
        if rest.any():
            ax.plot([], [], "s", color=color, label=f"{name}: {np.mean(rest):.0%}")
    ax.set(xlabel=f"start, x[{both[0]}]", ylabel=f"start, x[{both[1]}]")
    title(ax, "the answer that a start leads to")
    legend(ax, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def _clusters(answers: Float[np.ndarray, "B n"], near: float) -> Int[np.ndarray, " B"]:
    """The group of each answer, as a number: a chain of answers near each other is one group.

    Answers are first put into cells of that size, of which there are far fewer; neighboring cells are one group.
    """
    cells, cell = np.unique(np.round(answers / near), axis=0, return_inverse=True)
    one, other = KDTree(cells).query_pairs(1.5, p=np.inf, output_type="ndarray").T
    graph = coo_array((np.ones(len(one)), (one, other)), (len(cells), len(cells)))
    return connected_components(graph, directed=False)[1][cell.ravel()]


def _colors(which: Int[np.ndarray, " B"], order: Int[np.ndarray, " k"], steps: Int[np.ndarray, " B"]):
    """RGBA of each start, `[B, 4]`."""
    from matplotlib.colors import to_rgba_array  # pyright: ignore[reportMissingImports]  # optional

    place = np.full(max(which.max(), 0) + 2, len(COLORS))
    place[order], place[-1] = np.arange(len(order)), len(COLORS) + 1  # place[-1] is for the unsolved
    painted = to_rgba_array([*COLORS, PALE, GREY])[place[which]]
    slowness = (steps - steps.min()) / max(np.ptp(steps), 1)
    painted[:, 3] = 1 - (1 - _FAINTEST) * slowness
    return painted


def _paint(ax: Any, starts: Float[np.ndarray, "B 2"], colors: Float[np.ndarray, "B 4"]) -> None:
    """A mesh where the starts fill a grid, else points."""
    (across, column), (up, row) = (np.unique(values, return_inverse=True) for values in starts.T)
    filled: Bool[np.ndarray, "rows columns"] = np.zeros((len(up), len(across)), bool)
    filled[row, column] = True
    if filled.all() and filled.size == len(starts) and min(filled.shape) > 1:
        image = np.zeros((*filled.shape, 4))
        image[row, column] = colors
        ax.pcolormesh(across, up, image, shading="nearest", rasterized=True)
    else:
        ax.scatter(*starts.T, c=colors, s=12, linewidths=0)
