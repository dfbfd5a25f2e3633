"""Tasks are ragged: some have five examples, some five thousand. Here they become few arrays of one shape each.

Examples are filled up with copies that weigh nothing. Tasks of like size share a bucket. Each bucket is compiled once,
which takes seconds, so that a bucket of their own pays only for tasks that are many or much smaller than the others.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

__all__ = ["Bucket", "Task", "buckets", "checked"]

_WORTH = 200_000  # examples of filling that are worth compiling for, at about 30 µs of solving an example


class Task(NamedTuple):
    """The examples of one task.

    Attributes:
        x: inputs, leaves `[N, ...]`.
        y: what the loss compares the outputs with, leaves `[N, ...]`.
        weight: what each example counts, `[N]`; by default 1.
    """

    x: PyTree
    y: PyTree
    weight: Any = None

    @property
    def examples(self) -> int:
        """How many there are."""
        return jax.tree.leaves(self.x)[0].shape[0]


class Bucket(NamedTuple):
    """Tasks of like size, filled up to one: leaves `[T, N, ...]`, and which tasks they are."""

    places: np.ndarray
    task: Task


def checked(tasks: Mapping[str, Task | tuple]) -> dict[str, Task]:
    """The tasks as NumPy arrays with weights.

    Raises:
        ValueError: no examples, sizes or shapes that differ, weights that are negative or all zero, NaN or infinity.
    """
    if not isinstance(tasks, Mapping):
        raise TypeError(f"tasks is {type(tasks).__name__}; expected a mapping from names to Task(x, y).")
    done = {name: _arrays(name, Task(*task)) for name, task in tasks.items()}
    shapes = {name: _shapes(task) for name, task in done.items()}
    for name, shape in shapes.items():
        first = next(iter(shapes))
        if shape != shapes[first]:
            raise ValueError(f"the examples of task {name!r} have shapes {shape}, those of {first!r} {shapes[first]}.")
    return done


def _arrays(name: str, task: Task) -> Task:
    x, y = jax.tree.map(np.asarray, (task.x, task.y))
    leaves = jax.tree.leaves((x, y))
    sizes = {np.shape(leaf)[:1] for leaf in leaves}
    if len(sizes) != 1 or sizes in ({()}, {(0,)}):
        raise ValueError(
            f"the leaves of task {name!r} have leading axes {sorted(sizes)}; expected one, the number of examples, of "
            "at least 1."
        )
    ((count,),) = sizes
    weight = np.ones(count, np.float32) if task.weight is None else np.asarray(task.weight, np.float32)
    if weight.shape != (count,) or not (weight >= 0).all() or not weight.sum() > 0:
        raise ValueError(f"weight of task {name!r}: expected {count} numbers that are not negative and not all zero.")
    for leaf in [*leaves, weight]:
        if leaf.dtype.kind not in "biu" and not np.isfinite(leaf).all():
            raise ValueError(f"task {name!r} holds NaN or infinity; leave such examples out.")
    return Task(x, y, weight)


def _shapes(task: Task):
    return [(leaf.shape[1:], leaf.dtype) for leaf in jax.tree.leaves((task.x, task.y))]


def buckets(tasks: list[Task]) -> Iterator[Bucket]:
    """The tasks by size, the largest first."""
    counts = np.array([task.examples for task in tasks], int)
    order = np.argsort(-counts, kind="stable")
    start = 0
    while start < len(order):
        size = counts[order[start]]
        end = start + int(np.sum(2 * counts[order[start:]] > size))
        filling_saved = (len(order) - end) * (size - counts[order[end:]].max(initial=0))
        end = end if filling_saved >= _WORTH else len(order)
        places = order[start:end]
        yield Bucket(places, _stacked([tasks[place] for place in places.tolist()], _round_up(int(size))))
        start = end


def _round_up(size: int) -> int:
    """To a multiple of 8, and beyond 64 of an eighth of a power of two: few sizes, most of them compiled already."""
    step = max(8, 1 << max(size.bit_length() - 4, 0))
    return -(-size // step) * step


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
