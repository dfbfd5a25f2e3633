"""What routers see of the inputs of tasks."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import NDArray

from jaxopt_lite.specialists.arguments import as_float
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.tasks import named, of_examples

__all__ = ["features_of"]

_BATCH = 1024  # inputs


def features_of(base: Base, tasks: Mapping[str, tuple]) -> tuple[NDArray, NDArray]:
    """The features `[N, d]` of all inputs, task by task, and the index of the task of each, `[N]`.

    Args:
        base: the model, with features.
        tasks: `(x, y)` or `Task`; inputs of weight 0 are left out.

    Raises:
        TypeError: `tasks` is not a mapping from names to tuples of arrays of numbers.
        ValueError: no inputs; features with NaN or infinity, with the name of the task.
    """
    tasks = named(tasks)
    xs = [_inputs(name, task) for name, task in tasks.items()]
    counts = [jax.tree.leaves(x)[0].shape[0] for x in xs]
    if not sum(counts):
        raise ValueError(f"tasks: {len(tasks)} tasks with no inputs; expected some.")
    index = np.repeat(np.arange(len(counts)), counts)
    features = _embedded(base, jax.tree.map(lambda *leaves: np.concatenate(leaves), *xs))
    features = features.astype(as_float(features.dtype))
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        name = list(tasks)[index[np.argmax(bad)]]
        raise ValueError(f"the features of {bad.sum()} inputs, the first of task {name!r}, hold NaN or infinity.")
    return features, index


def _inputs(name: str, task: tuple) -> PyTree:
    if not task or not jax.tree.leaves(task[0]):
        raise ValueError(f"task {name!r} has no inputs; expected (x, ...), with an array or a pytree of arrays.")
    x, weight = of_examples(name, task[0], task[2] if len(task) > 2 else None, least=0)
    return jax.tree.map(lambda leaf: leaf[weight > 0], x)


def _embedded(base: Base, x: PyTree) -> NDArray:
    """`base.embed`, batch by batch. The last is padded, so that there is one shape to compile for."""
    size = jax.tree.leaves(x)[0].shape[0]
    batches = []
    for start in range(0, size, _BATCH):
        rows = np.minimum(np.arange(start, start + min(_BATCH, size)), size - 1)
        batches.append(np.asarray(base.embed(jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf[rows]), x))))
    return np.concatenate(batches)[:size]
