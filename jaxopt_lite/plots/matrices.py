"""Pictures of specialists: how alike their tasks are, and where the inputs of each task went."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from jaxopt_lite.plots.style import axes, check

__all__ = ["Alike", "Routed", "confusion", "similarity"]

_MANY = 50  # names, at most, that can be read beside a matrix
_NUMBERS = 12  # columns, at most, whose cells have room for a number
_SIMILARITY = "what `specialists.similarity` returns"
_MAP = "cividis"  # the same for any color vision


class Alike(Protocol):
    """The parts of a `Similarity` that are drawn."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def distance(self) -> Float[np.ndarray, "T T"]: ...


class Routed(Protocol):
    """The parts of a `Report` that are drawn."""

    def confusion(self) -> tuple[tuple[str, ...], tuple[str, ...], Int[np.ndarray, "T S"]]: ...


def similarity(matrix: Alike, *, ax: Any = None) -> Any:
    """Draw how far tasks are apart, dark where they are near.

    Args:
        matrix: what `specialists.similarity` returns; `ordered()` puts near tasks side by side. More than 50 names
            are left out.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: something else than a `Similarity`.
        ImportError: matplotlib is not installed.
    """
    check("matrix", matrix, _SIMILARITY, "names", "distance")
    if np.ndim(matrix.distance) != 2:  # `Embeddings` have the name of one
        raise TypeError(f"matrix: expected {_SIMILARITY}, got {type(matrix).__name__}.")
    names = matrix.names
    ax = axes(ax, _size(len(names), len(names)))
    image = ax.imshow(matrix.distance, cmap=_MAP, interpolation="nearest")
    _name(ax, names, names)
    _bar(ax, image, "distance")
    return ax


def confusion(report: Routed, *, ax: Any = None) -> Any:
    """Draw where the inputs of each task went, as shares of the task's inputs. The last column is the base.

    Args:
        report: what `specialists.evaluate` returns.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: something else than a `Report`.
        ImportError: matplotlib is not installed.
    """
    check("report", report, "what `specialists.evaluate` returns", "confusion")
    tasks, specialists, counts = report.confusion()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax = axes(ax, _size(*share.shape))
    image = ax.imshow(share, cmap=_MAP, vmin=0, vmax=1, interpolation="nearest")
    _name(ax, specialists, tasks)
    ax.set(xlabel="went to the specialist", ylabel="inputs of the task")
    _bar(ax, image, "share of the task's inputs")
    if share.shape[1] <= _NUMBERS:
        for row, column in np.argwhere(share > 0).tolist():
            value = share[row, column]
            color = "black" if value > 0.5 else "white"
            ax.text(column, row, f"{value:.0%}", ha="center", va="center", color=color, fontsize="small")
    return ax


def _size(rows: int, columns: int) -> tuple[float, float]:
    """The size of a figure, in inches, in which the names beside the cells can be read."""
    return 2.6 + min(0.45 * columns, 9), 1.6 + min(0.35 * rows, 8)


def _name(ax: Any, columns: Sequence[str], rows: Sequence[str]) -> None:
    if len(columns) <= _MANY:
        slanted = dict(rotation=45, ha="right", rotation_mode="anchor")
        ax.set_xticks(range(len(columns)), columns, parse_math=False, **slanted)
    if len(rows) <= _MANY:
        ax.set_yticks(range(len(rows)), rows, parse_math=False)


def _bar(ax: Any, image: Any, label: str) -> None:
    """The scale of the colors, in the color of the other ticks."""
    bar = ax.figure.colorbar(image, ax=ax, label=label)
    color = ax.xaxis.label.get_color()
    bar.ax.tick_params(colors=color)
    bar.ax.yaxis.label.set_color(color)
    bar.outline.set_visible(False)
