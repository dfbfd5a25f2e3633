"""Fit the adapters of all tasks at once: one batched solve by BFGS, every fit verified.

For a task with examples (x_i, y_i) of weight w_i, an adapter's parameters `a` minimize

    ( Σ_i w_i loss(model_a(x_i), y_i) + ½ prior ‖a − center‖² ) / Σ_i w_i,

the posterior mode under a Gaussian prior around `center`, by default the identity: with few examples an adapter stays
near the base. Whatever in the model does not depend on `a` is computed once per example (`hoist.py`).
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree

from jaxopt_lite.jaxprs import largest_array
from jaxopt_lite.lanes.arithmetic import at_least_float32, on_cpu
from jaxopt_lite.lanes.capture import Signature, run
from jaxopt_lite.lanes.devices import over_devices
from jaxopt_lite.lanes.fan_out import Rows
from jaxopt_lite.lanes.rows import in_tiles
from jaxopt_lite.lanes.settings import exact_products
from jaxopt_lite.lanes.status import Status
from jaxopt_lite.lanes.widths import EVALUATIONS
from jaxopt_lite.progress import interruptible, progress_bar
from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.solvers.solve import expect, minimize
from jaxopt_lite.specialists.adapters import Adapter, Parameters, Part, as_adapter
from jaxopt_lite.specialists.arguments import (
    NOT_NEGATIVE,
    as_float,
    check_real,
    number,
    renamed,
    scalar,
    text,
    vector,
)
from jaxopt_lite.specialists.base import Base, no_mesh, off_mesh
from jaxopt_lite.specialists.hoist import Hoisted, hoist
from jaxopt_lite.specialists.library import Card, Library, Profile, adapted, squared, unknown_fisher
from jaxopt_lite.specialists.sums import mean_about_first, weighted_mean
from jaxopt_lite.specialists.tasks import (
    Bucket,
    Task,
    checked,
    pieces,
    without_zero_weights,
)

__all__ = ["fit"]

_LARGEST_DENSE = 128  # parameters, up to which the inverse Hessian is kept whole
_MEMORY = 1 << 28  # bytes of what is computed once per example, over the tasks that are solved together
_MEAN_MEMORY = 1 << 26  # bytes of the largest array, over the tasks whose means are computed together
_TOGETHER = 64  # such tasks on a CPU, however many there are, so that no bit depends on their number


class _Model(NamedTuple):
    """What is fitted: functions for one input, and the adapter."""

    apply: Callable
    features: Callable
    adapter: Adapter
    loss: Callable


class _Fitted(NamedTuple):
    """The results of some tasks, stacked."""

    parameters: Parameters
    profile: Profile
    loss: Float[Array, " T"]
    status: Int[Array, " T"]


@renamed(licence="license")
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
    license: str = "",
    progress: bool | None = None,
) -> Library:
    """One specialist for each task, all fitted in one batched solve. Tasks may differ in size.

    Args:
        base: the model.
        adapter: what may change in it.
        tasks: the examples of each task, by name: `Task(x, y)`, or a pair, leaves `[N, ...]`; N may differ.
        loss: `loss(output, y) -> scalar` for one example.
        prior: the strength of the prior, in examples of curvature 1; 0 for none.
        solver: `BFGS()` or `LBFGS()`; by default the former for up to 128 parameters.
        start: where to start: the parameters of one adapter, or stacked `[T, ...]`; by default `center`.
        center: the center of the prior, in the same form; by default the identity.
        author: who made them, for the cards.
        license: their license, for the cards.
        progress: whether to show a progress bar. Default: on a terminal and in a notebook.

    Returns:
        A library in the order of `tasks`. A card's `status` says whether its fit was verified as converged. After
        Ctrl-C it holds the tasks that are done, with a warning.

    Raises:
        TypeError: `tasks` is not a mapping from names to tuples of arrays of numbers; a `start` or `center` that is not
            a dictionary; another `solver`.
        ValueError: tasks without examples, shapes that differ, NaN or infinity, also in `start` and `center`; a `prior`
            that is negative; a loss that is not one number for an example, features that are not a vector for an input.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Base, Shift, fit
        >>> apply = lambda params, x: params["w"] @ x + params["b"]
        >>> base = Base({"w": jnp.ones(1), "b": jnp.zeros(())}, apply)
        >>> x = jnp.arange(4.0)[:, None]
        >>> tasks = {"up": (x, x[:, 0] + 2.0), "down": (x, x[:, 0] - 1.0)}
        >>> square = lambda out, y: (out - y) ** 2
        >>> library = fit(base, Shift("b"), tasks, square, prior=0.0, progress=False)
        >>> [round(float(b), 2) for b in library.parameters["shift:b"]]
        [2.0, -1.0]
    """
    adapter, given = as_adapter(adapter), checked(tasks)
    tasks = without_zero_weights(given)
    prior, author, license = number("prior", prior, NOT_NEGATIVE), text("author", author), text("license", license)
    identity = adapter.identity(base.params)
    center = _one_each("center", identity if center is None else center, identity, len(tasks))
    start = center if start is None else _one_each("start", start, identity, len(tasks))
    model = _Model(base.apply, _no_features if base.features is None else base.features, adapter, loss)
    if solver is None:
        solver = BFGS() if adapter.size(base.params) <= _LARGEST_DENSE else LBFGS()
    expect(solver, "fit", "BFGS() or LBFGS()", "minimum")
    params, fitted = off_mesh(base.params), []
    done: set[int] = set()  # pieces reach back, so a task may be in two of them
    with no_mesh(), interruptible(), progress_bar(progress) as bar:
        shown = bar.add_task("fitting", total=len(tasks))
        try:
            for indices, task in _pieces(model, params, list(tasks.values())):
                first, near = jax.tree.map(lambda leaf, indices=indices: leaf[indices], (start, center))
                result = _solve_bucket(model, params, task, first, near, prior, solver)
                fitted.append((indices, jax.device_get(result)))
                done.update(indices.tolist())
                bar.update(shown, completed=len(done))
        except KeyboardInterrupt:
            warnings.warn(f"interrupted: {len(done)} of {len(tasks)} tasks are fitted.", stacklevel=3)
    return _library(base, adapter, given, fitted, author, license)


def _no_features(params: PyTree, x: PyTree) -> Float[Array, " 0"]:
    """The features of a base without features."""
    return jnp.zeros(0)


def _one_each(name: str, given: Parameters, identity: Parameters, size: int) -> Parameters:
    """Parameters for each task, `[T, ...]`, given as such or for one adapter."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} is {type(given).__name__}; expected a dictionary with the keys {sorted(identity)}.")
    if given.keys() != identity.keys():
        raise ValueError(f"{name} has the keys {sorted(given)}; expected {sorted(identity)}.")

    def spread(key: str):
        shape, one = np.shape(given[key]), identity[key].shape
        check_real(f"{name}[{key!r}]", given[key])
        if shape not in (one, (size, *one)):
            raise ValueError(f"{name}[{key!r}] has shape {shape}; expected {one} for all tasks, or {(size, *one)}.")
        with np.errstate(over="ignore"):
            known = np.asarray(given[key], identity[key].dtype)
        if not np.isfinite(known).all():
            raise ValueError(f"{name}[{key!r}] holds NaN or infinity in {known.dtype.name}; expected finite numbers.")
        return np.broadcast_to(known, (size, *one))

    return {key: spread(key) for key in identity}


def _pieces(model: _Model, params: PyTree, tasks: list[Task]) -> Iterator[Bucket]:
    """The tasks in pieces whose examples fit in memory."""
    if not tasks:
        return iter(())
    each = _bytes_per_example(model, params, tasks[0])
    return pieces(tasks, lambda size: _MEMORY // (each * size))


def _library(base: Base, adapter: Adapter, tasks: dict[str, Task], fitted, author: str, license: str) -> Library:
    """The library of what was fitted, in the order of the tasks."""
    if not fitted:
        fitted = [(np.zeros(0, int), _nothing(base, adapter))]
    indices = np.concatenate([indices for indices, _ in fitted])
    _, rows = np.unique(indices, return_index=True)
    whole: _Fitted = jax.tree.map(lambda *leaves: np.concatenate(leaves)[rows], *(result for _, result in fitted))
    names = list(tasks)
    cards = tuple(
        Card(
            names[index], tasks[names[index]].examples, float(loss), Status(status).name, author=author, license=license
        )
        for index, loss, status in zip(indices[rows].tolist(), whole.loss, whole.status.tolist(), strict=True)
    )
    parameters, profile = jax.tree.map(jnp.asarray, (whole.parameters, whole.profile))
    return Library(base, parameters, profile, adapter, cards)


def _nothing(base: Base, adapter: Adapter) -> _Fitted:
    """The result of no tasks."""
    none = {key: jnp.zeros((0, *leaf.shape), leaf.dtype) for key, leaf in adapter.shapes(base.params).items()}
    nobody, features = jnp.zeros(0), jnp.zeros((0, 0))
    return _Fitted(none, Profile(nobody, features, unknown_fisher(none), features), nobody, jnp.zeros(0, jnp.int32))


def _solve_bucket(
    model: _Model, params: PyTree, task: Task, start: Parameters, center: Parameters, prior, solver
) -> _Fitted:
    """Fit the adapters of tasks of one shape, leaves `[T, N, ...]`, in one batched solve on all devices of the host."""
    arguments = params, task, start, center, prior, solver
    return run(_solve, (model.adapter,), _functions(model, params, task), *arguments, rows=_rows(*arguments))


def _rows(params: PyTree, task: Task, start: Parameters, center: Parameters, prior, solver) -> Rows:
    """The tasks in the arguments of `_solve`."""
    size, examples = task.weight.shape
    counts = [len(jax.tree.leaves(each)) for each in (params, task, start, center, prior, solver)]
    axes = tuple((axis,) * count for axis, count in zip((None, 0, 0, 0, None, None), counts, strict=True))
    unknowns = sum(leaf.size // size for leaf in start.values())
    return Rows(size, axes, unknowns, EVALUATIONS["minimum"], calls=examples)


def _functions(model: _Model, params: PyTree, task: Task) -> list[tuple[Callable, Signature]]:
    """The user's functions, each with its arguments for one example."""
    f, a, x = _of_one(model, params, task)
    of_input = Signature.of(params, x, mapped=(0, 0), exact=True)
    of_output = Signature.of(jax.eval_shape(f, params, a, x), task.y, mapped=(0, 2), exact=True)
    return [(model.apply, of_input), (model.loss, of_output), (model.features, of_input)]


def _solve(apply, loss, features, adapter: Adapter, params, task: Task, start, center, prior, solver) -> _Fitted:
    share = partial(_solve_share, _Model(apply, features, adapter, scalar(loss)), params, prior, solver)
    devices = jax.local_devices()
    if len(devices) > 1:
        share = over_devices(share, Mesh(np.asarray(devices), ("tasks",)))
    with exact_products():
        return share(task, start, center)


def _solve_share(model: _Model, params: PyTree, prior, solver, task: Task, start, center) -> _Fitted:
    parts = _hoisted(model, params, task)
    shared = parts.shared(params)
    known = jax.vmap(jax.vmap(partial(parts.example, params)))(task.x)

    def losses(a, known, y):
        """The loss of each example of one task."""
        return jax.vmap(lambda known, y: model.loss(parts.rest(a, shared, known), y))(known, y)

    def objective(a, args):
        known, y, weight, center = args
        apart = [a[key] - center[key] for key in a]
        apart = sum(jnp.sum(each.astype(at_least_float32(each.dtype)) ** 2) for each in apart)
        each = losses(a, known, y)
        weight = weight.astype(at_least_float32(each.dtype))
        loss = jnp.sum(weight * each) / jnp.sum(weight)
        return loss + prior / 2 * apart / jnp.sum(weight), loss

    data = known, task.y, task.weight
    solution = minimize(objective, start, (*data, center), solver=solver, has_aux=True)

    def squared_gradient(a, example):
        alone = jax.tree.map(lambda leaf: leaf[None], example)
        return squared(jax.grad(lambda a: losses(a, *alone)[0])(a))

    mean = _mean_features(model, params, task)
    profile = Profile(
        count=jnp.sum(task.weight > 0, axis=1).astype(jnp.float32),
        mean=mean,
        fisher=_means(squared_gradient, solution.x, (known, task.y), task.weight),
        gate=jnp.zeros_like(mean),
    )
    return _Fitted(solution.x, profile, solution.aux, solution.status)


def _bytes_per_example(model: _Model, params: PyTree, task: Task) -> int:
    """The memory for what is computed from one example before the solve; `task` is any one of the tasks."""
    parts = _hoisted(model, params, jax.tree.map(lambda leaf: leaf[None], task))
    known = jax.eval_shape(parts.example, params, jax.tree.map(lambda leaf: leaf[0], task.x))
    return max(1, sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((known, task.y))))


def _hoisted(model: _Model, params: PyTree, task: Task) -> Hoisted:
    f, a, x = _of_one(model, params, task)
    return hoist(f, params, a, x)


def _of_one(model: _Model, params: PyTree, task: Task) -> tuple[Callable, Parameters, PyTree]:
    """The base with an adapter, `f(params, a, x)`, and the shapes of `a` and of one input."""
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], jnp.result_type(leaf)), task.x)
    return adapted(model.adapter, model.apply), jax.eval_shape(model.adapter.identity, params), x


def _mean_features(model: _Model, params: PyTree, task: Task) -> Float[Array, "T d"]:
    """The mean features of each task's inputs."""

    def of_input(_, x):
        value = vector(model.features)(params, x)
        return value.astype(as_float(value.dtype))  # the mean of integers is not an integer

    return _means(of_input, (), task.x, task.weight, mean_about_first)


def _means(f: Callable, of_task: PyTree, examples: PyTree, weight: Float[Array, "T N"], by=weighted_mean) -> PyTree:
    """The weighted mean over the examples of `f(of_task[t], example)` for each task, some tasks at a time."""
    first = jax.tree.map(lambda leaf: leaf[0], (of_task, jax.tree.map(lambda leaf: leaf[:, 0], examples)))
    size = largest_array(jax.make_jaxpr(f)(*first)) * weight.shape[1]

    def mean(args):
        own, examples, weight = args
        return by(lambda example: f(own, example), examples, weight)

    together = max(1, min(_TOGETHER if on_cpu() else weight.shape[0], _MEAN_MEMORY // max(size, 1)))
    return in_tiles(mean, True, together)((of_task, examples, weight))
