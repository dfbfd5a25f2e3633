"""The examples of tasks: ragged ones as a few arrays of one shape.

Some tasks have five examples, some five thousand. Tasks of similar size share a bucket, padded to one size with copies
of weight 0. Compiling a bucket takes seconds, so another bucket pays off only for many tasks, or for tasks much smaller
than the rest.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxopt_lite.sizes import round_up
from jaxopt_lite.specialists.arguments import check_kept, check_real, text

__all__ = [
    "Bucket", "Task", "buckets", "checked", "named", "of_examples", "of_tasks", "pieces", "without_zero_weights",
]  # fmt: skip

_WORTH = 200_000  # padding examples that are worth a compilation, at about 30 µs to solve an example


class Task(NamedTuple):
    """The examples of one task.

    Attributes:
        x: inputs, leaves `[N, ...]`.
        y: what the loss compares the outputs with, leaves `[N, ...]`.
        weight: the weight of each example, `[N]`; by default 1.
    """

    x: PyTree
    y: PyTree
    weight: Any = None

    @property
    def examples(self) -> int:
        """The number of examples."""
        return jax.tree.leaves(self.x)[0].shape[0]


class Bucket(NamedTuple):
    """Tasks of similar size, padded to one size: leaves `[T, N, ...]`, and which tasks they are."""

    indices: np.ndarray
    task: Task


def checked(tasks: Mapping[str, Task | tuple]) -> dict[str, Task]:
    """The tasks as NumPy arrays with weights.

    Raises:
        TypeError: `tasks` is not a mapping from names to tuples of arrays of numbers.
        ValueError: no examples, sizes or shapes that differ, weights that are negative or all zero, NaN or infinity;
            numbers too large for the dtypes that JAX has enabled.
    """
    done = {name: _whole(name, task) for name, task in named(tasks).items()}
    shapes = {name: _shapes(task) for name, task in done.items()}
    for name, shape in shapes.items():
        first = next(iter(shapes))
        if shape != shapes[first]:
            raise ValueError(f"the examples of task {name!r} have shapes {shape}, those of {first!r} {shapes[first]}.")
    return done


def named(tasks: Mapping[str, tuple]) -> dict[str, tuple]:
    """The tasks by name; a mapping that makes them on request is asked once.

    Raises:
        TypeError: `tasks` is not a mapping from names to tuples of arrays of numbers.
    """
    if not isinstance(tasks, Mapping):
        raise TypeError(f"tasks is {type(tasks).__name__}; expected a mapping from names to Task(x, y).")
    known = {text("the name of a task", name): task for name, task in tasks.items()}
    for name, task in known.items():
        if not isinstance(task, tuple):
            raise TypeError(f"task {name!r} is {type(task).__name__}; expected Task(x, y), or a pair.")
        if any(isinstance(part, Iterator) for part in task):  # which can be read only once
            raise TypeError(f"task {name!r} holds a generator; expected arrays of numbers.")
    return known


def of_examples(name: str, parts: PyTree, weight: Any, least: int) -> tuple[PyTree, np.ndarray]:
    """The parts of a task, leaves `[N, ...]`, and the weight of each example, as NumPy arrays.

    Args:
        name: the name of the task.
        parts: the inputs, or inputs and labels.
        weight: `[N]`, or None.
        least: the least number of examples.

    Raises:
        TypeError: arrays that do not hold numbers.
        ValueError: sizes that differ; weights that are negative; numbers too large for the dtypes that JAX has enabled.
    """
    parts = jax.tree.map(np.asarray, parts)
    leaves = jax.tree.leaves(parts)
    for leaf in leaves:
        check_kept(f"task {name!r}", leaf)
    sizes = {leaf.shape[:1] for leaf in leaves}
    if len(sizes) != 1 or () in sizes or min(sizes) < (least,):
        raise ValueError(
            f"the leaves of task {name!r} have leading axes {sorted(sizes)}; expected one, the number of examples, of "
            f"at least {least}. A list counts as a pytree; make an array of it."
        )
    ((count,),) = sizes
    return parts, _weights(name, np.ones(count) if weight is None else np.asarray(weight), count)


def _weights(name: str, given: np.ndarray, count: int) -> np.ndarray:
    if given.dtype != bool:
        check_real(f"weight of task {name!r}", given)
    with np.errstate(over="ignore"):
        weight = given.astype(np.float32)
        total = weight.sum()
    if weight.shape != (count,) or not (weight >= 0).all() or (count and not (given > 0).any()):
        raise ValueError(f"weight of task {name!r}: expected {count} numbers that are not negative and not all zero.")
    if not np.isfinite(total) or ((given > 0) & (weight == 0)).any():
        raise ValueError(
            f"weight of task {name!r}: some are too large or too small for float32, or infinite; scale them."
        )
    return given.astype(jax.dtypes.canonicalize_dtype(float))


def _whole(name: str, task: tuple) -> Task:
    if len(task) not in (2, 3):
        raise ValueError(f"task {name!r} has {len(task)} parts; expected x, y, and weights where they differ.")
    if not jax.tree.leaves(task[0]):
        raise ValueError(f"task {name!r} has no inputs; expected an array, or a pytree of arrays.")
    (x, y), weight = of_examples(name, task[:2], task[2] if len(task) > 2 else None, least=1)
    for leaf in jax.tree.leaves((x, y)):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(leaf).all():
            raise ValueError(f"task {name!r} holds NaN or infinity; leave such examples out.")
    return Task(x, y, weight)


def without_zero_weights(tasks: dict[str, Task]) -> dict[str, Task]:
    """The tasks without examples of weight 0, where a model may give NaN: 0 · NaN is NaN."""

    def without(task: Task) -> Task:
        use = task.weight > 0
        return task if use.all() else Task(*jax.tree.map(lambda leaf: leaf[use], tuple(task)))

    return {name: without(task) for name, task in tasks.items()}


def _shapes(task: Task):
    return [(leaf.shape[1:], leaf.dtype) for leaf in jax.tree.leaves((task.x, task.y))]


def buckets(tasks: list[Task]) -> Iterator[Bucket]:
    """The tasks in buckets by size, the largest first."""
    counts = np.array([task.examples for task in tasks], int)
    order = np.argsort(-counts, kind="stable")
    start = 0
    while start < len(order):
        size = counts[order[start]]
        end = start + int(np.sum(2 * counts[order[start:]] > size))
        filling_saved = (len(order) - end) * (size - counts[order[end:]].max(initial=0))
        end = end if filling_saved >= _WORTH else len(order)
        indices = order[start:end]
        filled = round_up(int(size), parts=8, least=8)  # few sizes, most of them compiled before
        yield Bucket(indices, _stacked([tasks[index] for index in indices.tolist()], filled))
        start = end


def pieces(tasks: list[Task], most: Callable[[int], int]) -> Iterator[Bucket]:
    """The buckets in pieces of one size; the last piece reaches back, so that a bucket is compiled once.

    Args:
        tasks: the tasks.
        most: how many tasks a piece may have, given the number of examples that each is padded to.
    """
    for indices, task in buckets(tasks):
        count = max(1, min(len(indices), most(task.weight.shape[1])))
        for first in range(0, len(indices), count):
            piece = slice(max(0, min(first, len(indices) - count)), first + count)
            yield Bucket(indices[piece], jax.tree.map(lambda leaf, piece=piece: leaf[piece], task))


def _stacked(tasks: list[Task], size: int) -> Task:
    def stack(*leaves):
        whole = np.empty((len(leaves), size, *leaves[0].shape[1:]), leaves[0].dtype)
        for row, leaf in zip(whole, leaves, strict=True):
            row[: len(leaf)] = leaf
            row[len(leaf) :] = leaf[:1]
        return whole

    stacked = jax.tree.map(stack, *tasks)
    for row, task in zip(stacked.weight, tasks, strict=True):
        row[task.examples :] = 0
    return stacked


def of_tasks(f: Callable[[np.ndarray, Task], PyTree], tasks: list[Task]) -> PyTree:
    """`f(indices, task)` for each bucket of tasks, leaves `[t, ...]`, joined in the order of the tasks: `[T, ...]`."""
    done = [(indices, f(indices, task)) for indices, task in buckets(tasks)]
    rows = np.argsort(np.concatenate([indices for indices, _ in done]))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[rows], *(values for _, values in done))
