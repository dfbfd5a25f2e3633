"""A matrix of distances between tasks, in an order in which families stand together, to be looked at."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxopt_lite.specialists.embedding import Distance, Embeddings, distances

__all__ = ["Similarity", "similarity"]


@dataclass(frozen=True, eq=False)
class Similarity:
    """Distances between tasks, on the host.

    Attributes:
        names: of the tasks.
        distance: from each (rows) to each (columns).
    """

    names: tuple[str, ...]
    distance: Float[np.ndarray, "T T"]

    def ordered(self) -> "Similarity":
        """In the order of a hierarchical clustering by average linkage: near tasks stand side by side."""
        rows = _order((self.distance + self.distance.T) / 2)
        return Similarity(tuple(self.names[row] for row in rows), self.distance[np.ix_(rows, rows)])

    def plot(self, ax: Any = None) -> Any:
        """Draw the matrix, dark where tasks are near.

        Args:
            ax: matplotlib axes to draw on; by default those of a new figure.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot  # pyright: ignore[reportMissingImports]  # optional
        except ImportError as error:
            raise ImportError("a plot needs matplotlib: pip install 'jaxopt-lite[plot]'.") from error
        if ax is None:
            size = 2 + 0.2 * len(self.names)
            _, ax = pyplot.subplots(figsize=(size, size))
        ax.imshow(self.distance, cmap="viridis")
        ax.set_xticks(range(len(self.names)), self.names, rotation=90)
        ax.set_yticks(range(len(self.names)), self.names)
        return ax


def similarity(embeddings: Embeddings, kind: Distance | None = None) -> Similarity:
    """The distances of tasks as a matrix to look at; `kind` as for `distances`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Embeddings, similarity
        >>> vectors = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]])
        >>> similarity(Embeddings(("a", "b", "c", "d"), vectors)).ordered().names
        ('a', 'c', 'd', 'b')
    """
    return Similarity(embeddings.names, np.asarray(distances(embeddings, kind)))


def _order(distance: Float[np.ndarray, "T T"]) -> list[int]:
    """The leaves of the tree of average linkage; of each two branches the ends that are nearest meet."""
    apart = distance.astype(float)
    np.fill_diagonal(apart, np.inf)
    branches = [[row] for row in range(len(apart))]
    for _ in range(len(apart) - 1):
        i, j = sorted(np.unravel_index(np.argmin(apart), apart.shape))
        n, m = len(branches[i]), len(branches[j])
        branches[i] = _joined(branches[i], branches[j], distance)
        row = (n * apart[i] + m * apart[j]) / (n + m)
        row[i] = row[j] = np.inf
        apart[i] = apart[:, i] = row
        apart[j] = apart[:, j] = np.inf
    return branches[0] if branches else []


def _joined(left: list[int], right: list[int], distance: Float[np.ndarray, "T T"]) -> list[int]:
    ways = [left + right, left + right[::-1], left[::-1] + right, left[::-1] + right[::-1]]
    return min(ways, key=lambda way: distance[way[len(left) - 1], way[len(left)]])
