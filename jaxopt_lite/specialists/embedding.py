"""Tasks as vectors: Task2Vec, and the tuned parameters themselves; how far apart they are, and which are near.

Task2Vec (Achille et al., arXiv 1902.03545) is the diagonal of the Fisher information of a probe, here of leaves of the
base, for the labels that the model itself would give once its head is fitted to the task. It says which parts of the
model matter for a task. Averaged over the weights of each unit, it has one number per unit. The distance is

    d(a, b) = 1 − cos( F_a / (F_a + F_b), F_b / (F_a + F_b) ).

To choose whom to learn from, subtract α d(a, trivial), which favors what was learned on hard tasks. The head is fitted
for each task and is not part of the embedding: it would only reflect the label frequencies.

Tuned parameters (Vu et al., arXiv 2110.07904; Zhou et al., arXiv 2210.11705) cost nothing once a specialist is fitted.
They are taken in the linear form of the adapter, where equal changes have equal numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from jaxopt_lite import plots
from jaxopt_lite.arguments import assign, one_of, whole_number
from jaxopt_lite.lanes.arithmetic import positive
from jaxopt_lite.lanes.settings import in_own_settings
from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.specialists.adapters import Adapter, Parameters, Part, Shift, as_adapter
from jaxopt_lite.specialists.arguments import check_real, copied, freeze_fields, key_seed, number, renamed, repeated
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.fisher import Draws, Sampler, categorical, squared_gradients
from jaxopt_lite.specialists.fit import fit
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.merging.linear import flat, linear_parameters
from jaxopt_lite.specialists.tasks import Task, checked

__all__ = ["Distance", "Embeddings", "Similarity", "distances", "nearest", "similarity", "task2vec", "tuned_parameters"]

Distance = Literal["cosine", "task2vec", "asymmetric"]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Tasks as vectors.

    Attributes:
        names: the names of the tasks.
        vectors: a row for each task.
        distance: how they are compared by default.

    Raises:
        TypeError: vectors that are not real numbers.
        ValueError: not one row for each name; a name that occurs more than once; another distance.
    """

    names: tuple[str, ...]
    vectors: Float[Array, "T d"]
    distance: Distance = "cosine"

    def __post_init__(self):
        assign(self, vectors=copied(self.vectors))
        check_real("vectors", self.vectors)
        if np.ndim(self.vectors) != 2 or len(self.vectors) != len(self.names):
            raise ValueError(
                f"vectors has shape {np.shape(self.vectors)}; expected a row for each of {len(self)} names."
            )
        one_of("distance", self.distance, get_args(Distance))
        if len(set(self.names)) < len(self):
            raise ValueError(f"names: {repeated(self.names)} occur more than once.")
        freeze_fields(self)

    def __len__(self) -> int:
        return len(self.names)


def task2vec(
    base: Base,
    tasks: Mapping[str, Task | tuple],
    head: Adapter | Part,
    loss: Callable[[PyTree, PyTree], Array],
    *,
    probe: str | Part | Adapter,
    sample: Sampler = categorical,
    draws: int = 1,
    seed: int = 0,
    prior: float = 1.0,
    solver: BFGS | LBFGS | None = None,
    progress: bool | None = None,
) -> Embeddings:
    """Task2Vec: how much each unit of the base matters for each task.

    The head is fitted to all tasks in one batched solve. Then each example's gradient is squared, for labels drawn from
    the model, some examples at a time.

    Args:
        base: the model.
        tasks: the examples of each task, by name: `Task(x, y)`, or a pair, leaves `[N, ...]`; N may differ.
        head: what is fitted to each task and left out of the embedding, for instance `Shift("output_bias")`.
        loss: `loss(output, y) -> scalar` for one example, −log p(y | x).
        probe: the leaves that the embedding is about, by name or pattern; or an adapter, for its parameters. They are
            averaged over all axes but the last, which gives a matrix one number for each output.
        sample: `sample(key, output, y)`, a label drawn from the model in place of the true one; by default from logits,
            on the last axis, except where the true label is padding.
        draws: how many labels are drawn for each example.
        seed: the seed of the draws.
        prior: the prior of the head's fit, as in `fit`.
        solver: the solver of the head's fit, as in `fit`.
        progress: whether to show a progress bar. Default: on a terminal and in a notebook.

    Returns:
        The embeddings, in the order of `tasks`.

    Raises:
        TypeError, ValueError: what `fit` refuses.
        ValueError: a leaf that both the head and the probe would change; `draws` below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Base, Shift, nearest, task2vec
        >>> apply = lambda params, x: x @ params["w"] + params["b"]
        >>> base = Base({"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}, apply)
        >>> loss = lambda logits, y: -jax.nn.log_softmax(logits)[y]
        >>> x = jnp.eye(3)
        >>> tasks = {"first": (x, jnp.array([0, 0, 1])), "second": (x, jnp.array([0, 1, 1]))}
        >>> embeddings = task2vec(base, tasks, Shift("b"), loss, probe="w", progress=False)
        >>> embeddings.vectors.shape, nearest(embeddings, "first", 1)[0][0]
        ((2, 2), 'second')
    """
    tasks, draws, seed = checked(tasks), whole_number("draws", draws, least=1), key_seed(seed)
    head = as_adapter(head)
    probe = Adapter((Shift(probe),)) if isinstance(probe, str) else as_adapter(probe)
    both = head + probe
    unchanged = both.identity(base.params)  # also refuses a leaf that both would change
    fitted = fit(base, head, tasks, loss, prior=prior, solver=solver, progress=progress)
    tasks = {name: task for name, task in tasks.items() if name in fitted}
    own = {key: leaf for key, leaf in unchanged.items() if key not in fitted.parameters}
    spread = {key: jnp.broadcast_to(leaf, (len(tasks), *leaf.shape)) for key, leaf in own.items()}
    units = squared_gradients(
        base, both, fitted.parameters | spread, tasks, loss, Draws(sample, draws, seed), _Units(tuple(own))
    )
    return Embeddings(fitted.names, flat(units), "task2vec")


@dataclass(frozen=True)
class _Units:
    """The squared gradients of the probe, averaged over all axes but the last."""

    keys: tuple[str, ...]

    def __call__(self, squares: Parameters) -> Parameters:
        kept = {key: squares[key] for key in self.keys}
        return jax.tree.map(lambda leaf: jnp.mean(jnp.atleast_1d(leaf), axis=tuple(range(leaf.ndim - 1))), kept)


@renamed(standardise="standardize")
@in_own_settings
def tuned_parameters(library: Library, *, standardize: bool = False) -> Embeddings:
    """The parameters of specialists as embeddings of their tasks: the linear form of the adapter, zero for the base.

    Args:
        library: the specialists.
        standardize: whether to express each number in standard deviations from its mean over the library, so that none
            dominates by its unit. An embedding then depends on the others.
    """
    vectors = flat(linear_parameters(library))
    if standardize:
        apart = vectors - vectors[:1]  # exactly zero where all are equal, of which a mean may be off by rounding
        apart -= jnp.mean(apart, axis=0)
        vectors = apart / positive(jnp.sqrt(jnp.mean(apart**2, axis=0)))
    return Embeddings(library.names, vectors, "cosine")


@in_own_settings
def distances(
    embeddings: Embeddings,
    kind: Distance | None = None,
    *,
    to: Embeddings | None = None,
    alpha: float = 0.15,
    trivial: Float[ArrayLike, "*d"] | None = None,
) -> Float[Array, "T S"]:
    """How far apart tasks are.

    Args:
        embeddings: the embeddings of T tasks.
        kind: "cosine"; "task2vec", the symmetric distance of Fisher diagonals; or "asymmetric", from each of the tasks
            to learn from (rows) to each to be learned (columns). By default that of the embeddings.
        to: the embeddings of S tasks; by default `embeddings`.
        alpha: how much "asymmetric" favors tasks far from the trivial one.
        trivial: the embedding of the trivial task, `[d]` or one number for all units; by default the mean over the
            numbers of `embeddings`.

    Raises:
        ValueError: another `kind`, vectors of different sizes, negative numbers where Fisher diagonals are expected; an
            `alpha` that is not a finite number.
    """
    alpha = number("alpha", alpha)
    kind = embeddings.distance if kind is None else kind
    to = embeddings if to is None else to
    a, b = embeddings.vectors, to.vectors
    one_of("kind", kind, get_args(Distance))
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the embeddings have {a.shape[1]} and {b.shape[1]} numbers; expected the same number.")
    if kind == "cosine":
        return _rows(a, b, _cosine)
    if bool(jnp.any(a < 0)) or bool(jnp.any(b < 0)):
        raise ValueError(f'kind={kind!r} compares Fisher diagonals, and some numbers are negative; take "cosine".')
    apart = _rows(a, b, _normalized)
    if kind == "task2vec":
        return apart
    zero = jnp.broadcast_to(jnp.mean(a) if trivial is None else jnp.asarray(copied(trivial), a.dtype), (1, a.shape[1]))
    return apart - alpha * _rows(a, zero, _normalized)


@partial(jax.jit, static_argnames="distance")
def _rows(a, b, distance):
    """All pairs, one row at a time."""
    return jax.lax.map(lambda row: jax.vmap(partial(distance, row))(b), a)


def _cosine(a, b):
    """1 − cos, which is 1 where one of them is zero."""
    a, b = (v / positive(jnp.max(jnp.abs(v), initial=0)) for v in (a, b))  # so that no square is out of range
    size = jnp.linalg.norm(a) * jnp.linalg.norm(b)
    cosine = jnp.where(size > 0, jnp.dot(a, b, precision="highest") / positive(size), 0)
    return 1 - jnp.clip(cosine, -1, 1)  # never below 0 by rounding


def _normalized(a, b):
    """A unit that matters for neither has no effect."""
    total = positive(a + b)
    return _cosine(a / total, b / total)


def nearest(
    tasks: Embeddings | Library, query: str | Float[ArrayLike, " d"], k: int = 4, *, kind: Distance | None = None
) -> list[tuple[str, float]]:
    """The k nearest tasks and their distances, the nearest first.

    Args:
        tasks: embeddings; or a library, for its `tuned_parameters`.
        query: the name of one of them, which is then left out; or a vector like theirs.
        k: how many; all of them if there are fewer.
        kind: as for `distances`; "asymmetric" is from each of them to the query.

    Raises:
        KeyError: a name that is not there.
        ValueError: a vector of another size; a `k` that is not a whole number, or negative.
    """
    k = whole_number("k", k, least=0)
    embeddings = tuned_parameters(tasks) if isinstance(tasks, Library) else tasks
    if isinstance(query, str) and query not in embeddings.names:
        raise KeyError(f"no task {query!r} among these {len(embeddings)}.")
    vector = embeddings.vectors[embeddings.names.index(query)] if isinstance(query, str) else jnp.asarray(query)
    if vector.ndim != 1:
        raise ValueError(f"query has shape {vector.shape}; expected one vector, [{embeddings.vectors.shape[1]}].")
    apart = np.asarray(distances(embeddings, kind, to=Embeddings(("query",), vector[None], embeddings.distance)))[:, 0]
    itself = query if isinstance(query, str) else None
    order = [row for row in np.argsort(apart, kind="stable") if embeddings.names[row] != itself]
    return [(embeddings.names[row], float(apart[row])) for row in order[:k]]


@dataclass(frozen=True, eq=False)
class Similarity:
    """Distances between tasks, on the host.

    Attributes:
        names: the names of the tasks.
        distance: the distance from each (rows) to each (columns).
    """

    names: tuple[str, ...]
    distance: Float[np.ndarray, "T T"]

    def ordered(self) -> "Similarity":
        """In the order of a hierarchical clustering by average linkage, with near tasks side by side."""
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
        return plots.similarity(self, ax=ax)


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
    """The leaves of the tree of average linkage, ordered so that neighbors are as near as possible."""
    if len(distance) < 2:
        return list(range(len(distance)))
    apart = squareform(distance.astype(float), checks=False)
    return leaves_list(linkage(apart, "average", optimal_ordering=True)).tolist()
