"""Fit the adapters of all tasks at once: one batched solve by BFGS, every fit verified.

For a task with examples (x_i, y_i) of weight w_i, an adapter's parameters `a` minimise

    ( Σ_i w_i loss(model_a(x_i), y_i) + ½ prior ‖a − center‖² ) / Σ_i w_i,

the posterior mode under a Gaussian prior around `center`, the identity by default: with few examples an adapter stays
near the base. Whatever in the model does not depend on `a` is computed once per example (`hoist.py`).
"""

import warnings
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxopt_lite.lanes.status import Status
from jaxopt_lite.progress import interruptible, progress_bar
from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.specialists.adapters import Adapter, Parameters, Part, as_adapter
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.checks import NOT_NEGATIVE, check_real, number, text
from jaxopt_lite.specialists.library import Card, Library, Profile
from jaxopt_lite.specialists.objective import Fitted, Model, bytes_per_example, solve
from jaxopt_lite.specialists.tasks import Bucket, Task, buckets, checked

__all__ = ["fit"]

_LARGEST_DENSE = 128  # parameters, up to which the inverse Hessian is kept whole
_MEMORY = 1 << 28  # bytes of what is known once per example, for the tasks that are solved together


def fit(
    base: Base,
    adapter: Adapter | Part,
    tasks: Mapping[str, Task | tuple],
    loss: Callable[[PyTree, PyTree], Array],
    *,
    prior: float = 1.0,
    solver: BFGS | LBFGS | None = None,
    start: Parameters | None = None,
    center: Parameters | None = None,
    author: str = "",
    licence: str = "",
    progress: bool = True,
) -> Library:
    """One specialist for each task, all fitted in one batched solve; ragged tasks share arrays by size.

    Args:
        base: the model.
        adapter: what may change of it.
        tasks: the examples of each task, by name: `Task(x, y)`, or a pair, leaves `[N, ...]`; N may differ.
        loss: `loss(output, y) -> scalar` for one example.
        prior: the strength of the prior, in examples of curvature 1; 0 for none.
        solver: `BFGS()` or `LBFGS()`; by default the former for up to 128 parameters.
        start: where to start: the parameters of one adapter, or stacked `[T, ...]`; by default `center`.
        center: of the prior, likewise; by default the identity.
        author: for the cards.
        licence: for the cards.
        progress: whether to show a progress bar.

    Returns:
        A library in the order of `tasks`. A card's `status` says whether its fit was verified as converged. After
        Ctrl-C it holds the tasks that were done, with a warning.

    Raises:
        TypeError: no mapping, a name that is no text, a task that is no tuple, examples that are no numbers.
        ValueError: tasks without examples, shapes that differ, NaN or infinity; a `prior` that is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Base, Shift, fit
        >>> base = Base({"w": jnp.ones(1), "b": jnp.zeros(())}, lambda params, x: params["w"] @ x + params["b"])
        >>> x = jnp.arange(4.0)[:, None]
        >>> tasks = {"up": (x, x[:, 0] + 2.0), "down": (x, x[:, 0] - 1.0)}
        >>> library = fit(base, Shift("b"), tasks, lambda out, y: (out - y) ** 2, prior=0.0, progress=False)
        >>> [round(float(b), 2) for b in library.parameters["shift:b"]]
        [2.0, -1.0]
    """
    adapter, tasks = as_adapter(adapter), checked(tasks)
    prior, author, licence = number("prior", prior, NOT_NEGATIVE), text("author", author), text("licence", licence)
    identity = adapter.identity(base.params)
    center = _one_each("center", identity if center is None else center, identity, len(tasks))
    start = center if start is None else _one_each("start", start, identity, len(tasks))
    model = Model(base.apply, base.features, adapter, loss)
    solver = solver or (BFGS() if adapter.size(base.params) <= _LARGEST_DENSE else LBFGS())
    fitted: list[tuple[np.ndarray, Fitted]] = []
    with interruptible(), progress_bar(progress) as bar:
        shown = bar.add_task("fitting", total=len(tasks))
        try:
            for places, task in _chunks(model, base.params, list(tasks.values())):
                first, near = jax.tree.map(lambda leaf, places=places: leaf[places], (start, center))
                fitted.append((places, jax.device_get(solve(model, base.params, task, first, near, prior, solver))))
                bar.update(shown, advance=places.size)
        except KeyboardInterrupt:
            done = sum(places.size for places, _ in fitted)
            warnings.warn(f"interrupted: {done} of {len(tasks)} tasks are fitted.", stacklevel=2)
    return _library(base, adapter, tasks, fitted, author, licence)


def _one_each(name: str, given: Parameters, identity: Parameters, size: int) -> Parameters:
    """Parameters for each task, `[T, ...]`, from those or from one adapter's."""
    if not isinstance(given, Mapping) or given.keys() != identity.keys():
        raise ValueError(f"{name} has the keys {sorted(given)}; expected {sorted(identity)}.")

    def spread(key: str):
        shape, one = np.shape(given[key]), identity[key].shape
        check_real(f"{name}[{key!r}]", given[key])
        if shape not in (one, (size, *one)):
            raise ValueError(f"{name}[{key!r}] has shape {shape}; expected {one} for all tasks, or {(size, *one)}.")
        return np.broadcast_to(np.asarray(given[key], identity[key].dtype), (size, *one))

    return {key: spread(key) for key in identity}


def _chunks(model: Model, params: PyTree, tasks: list[Task]) -> Iterator[Bucket]:
    """The buckets, in pieces whose examples fit in memory."""
    if not tasks:
        return
    each = bytes_per_example(model, params, tasks[0])
    for places, task in buckets(tasks):
        size = task.weight.shape[1]
        count = max(1, min(len(places), _MEMORY // (each * size)))
        for first in range(0, len(places), count):
            piece = slice(max(0, min(first, len(places) - count)), first + count)
            yield Bucket(places[piece], jax.tree.map(lambda leaf, piece=piece: leaf[piece], task))


def _library(base: Base, adapter: Adapter, tasks: dict[str, Task], fitted, author: str, licence: str) -> Library:
    """What was fitted, in the order of the tasks."""
    if not fitted:
        fitted = [(np.zeros(0, int), _nothing(base, adapter))]
    places = np.concatenate([places for places, _ in fitted])
    _, rows = np.unique(places, return_index=True)
    whole: Fitted = jax.tree.map(lambda *leaves: np.concatenate(leaves)[rows], *(result for _, result in fitted))
    names = list(tasks)
    cards = tuple(
        Card(
            names[place], tasks[names[place]].examples, float(loss), Status(status).name, author=author, licence=licence
        )
        for place, loss, status in zip(places[rows].tolist(), whole.loss, whole.status.tolist(), strict=True)
    )
    parameters, profile = jax.tree.map(jnp.asarray, (whole.parameters, whole.profile))
    return Library(base, parameters, profile, adapter, cards)


def _nothing(base: Base, adapter: Adapter) -> Fitted:
    """What comes of no tasks."""
    none = {key: jnp.zeros((0, *leaf.shape), leaf.dtype) for key, leaf in adapter.identity(base.params).items()}
    nobody, features = jnp.zeros(0), jnp.zeros((0, 0))
    return Fitted(none, Profile(nobody, features, none, features), nobody, jnp.zeros(0, jnp.int32))
