"""The objective of a fit, and its solve for tasks of one shape; what `fit` does to every bucket."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree

from jaxopt_lite.jaxprs import largest_array
from jaxopt_lite.lanes.arithmetic import on_cpu
from jaxopt_lite.lanes.capture import Signature, run
from jaxopt_lite.lanes.devices import over_devices
from jaxopt_lite.lanes.fan_out import Rows
from jaxopt_lite.lanes.rows import in_tiles
from jaxopt_lite.lanes.settings import exact_products
from jaxopt_lite.lanes.widths import EVALUATIONS
from jaxopt_lite.solvers.solve import minimize
from jaxopt_lite.specialists.adapters import Adapter, Parameters
from jaxopt_lite.specialists.hoist import Hoisted, hoist
from jaxopt_lite.specialists.library import Profile, adapted
from jaxopt_lite.specialists.sums import weighted_mean
from jaxopt_lite.specialists.tasks import Task

__all__ = ["Fitted", "Model", "bytes_per_example", "solve"]

_MEMORY = 1 << 26  # bytes of the largest array, for the tasks whose means are computed at once
_TOGETHER = 64  # of them on a CPU, whatever the number of tasks: no bit depends on it


class Model(NamedTuple):
    """What is fitted: functions for one input, and the adapter."""

    apply: Callable
    features: Callable | None
    adapter: Adapter
    loss: Callable


class Fitted(NamedTuple):
    """What came of some tasks, stacked."""

    parameters: Parameters
    profile: Profile
    loss: Float[Array, " T"]
    status: Int[Array, " T"]


def solve(model: Model, params: PyTree, task: Task, start: Parameters, center: Parameters, prior, solver) -> Fitted:
    """Fit the adapters of tasks of one shape, leaves `[T, N, ...]`, in one batched solve on all devices of the host."""
    core = _without_features if model.features is None else _solve
    arguments = params, task, start, center, prior, solver
    return run(core, (model.adapter,), _functions(model, params, task), *arguments, rows=_rows(*arguments))


def _rows(params: PyTree, task: Task, start: Parameters, center: Parameters, prior, solver) -> Rows:
    """The tasks in the arguments of `_solve`."""
    size, examples = task.weight.shape
    counts = [len(jax.tree.leaves(each)) for each in (params, task, start, center, prior, solver)]
    axes = tuple((axis,) * count for axis, count in zip((None, 0, 0, 0, None, None), counts, strict=True))
    unknowns = sum(leaf.size // size for leaf in start.values())
    return Rows(size, axes, unknowns, EVALUATIONS["minimum"], calls=examples)


def _functions(model: Model, params: PyTree, task: Task) -> list[tuple[Callable, Signature]]:
    """The user's functions, each with its arguments for one example."""
    f, a, x = _of_one(model, params, task)
    of_input = Signature.of(params, x, mapped=(0, 0), exact=True)
    of_output = Signature.of(jax.eval_shape(f, params, a, x), task.y, mapped=(0, 2), exact=True)
    functions = [(model.apply, of_input), (model.loss, of_output)]
    return functions if model.features is None else [*functions, (model.features, of_input)]


def _without_features(apply, loss, *others) -> Fitted:
    return _solve(apply, loss, None, *others)


def _solve(apply, loss, features, adapter: Adapter, params, task: Task, start, center, prior, solver) -> Fitted:
    share = partial(_solve_share, Model(apply, features, adapter, loss), params, prior, solver)
    devices = jax.local_devices()
    if len(devices) > 1:
        share = over_devices(share, Mesh(np.asarray(devices), ("tasks",)))
    with exact_products():
        return share(task, start, center)


def _solve_share(model: Model, params: PyTree, prior, solver, task: Task, start, center) -> Fitted:
    parts = _hoisted(model, params, task)
    shared = parts.shared(params)
    known = jax.vmap(jax.vmap(partial(parts.example, params)))(task.x)

    def losses(a, known, y):
        """The loss of each example of one task."""
        return jax.vmap(lambda known, y: model.loss(parts.rest(a, shared, known), y))(known, y)

    def objective(a, args):
        known, y, weight, center = args
        apart = sum(jnp.sum((a[key] - center[key]) ** 2) for key in a)
        loss = jnp.sum(weight * losses(a, known, y)) / jnp.sum(weight)
        return loss + prior / 2 * apart / jnp.sum(weight), loss

    data = known, task.y, task.weight
    solution = minimize(objective, start, (*data, center), solver=solver, has_aux=True)

    def squared_gradient(a, example):
        alone = jax.tree.map(lambda leaf: leaf[None], example)
        return jax.tree.map(jnp.square, jax.grad(lambda a: losses(a, *alone)[0])(a))

    mean = _mean_features(model, params, task)
    profile = Profile(
        count=jnp.sum(task.weight > 0, axis=1).astype(task.weight.dtype),
        mean=mean,
        fisher=_means(squared_gradient, solution.x, (known, task.y), task.weight),
        gate=jnp.zeros_like(mean),
    )
    return Fitted(solution.x, profile, solution.aux, solution.status)


def bytes_per_example(model: Model, params: PyTree, task: Task) -> int:
    """What is known of each example before the solve takes this much memory; `task` is one task."""
    parts = _hoisted(model, params, jax.tree.map(lambda leaf: leaf[None], task))
    known = jax.eval_shape(parts.example, params, jax.tree.map(lambda leaf: leaf[0], task.x))
    return max(1, sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((known, task.y))))


def _hoisted(model: Model, params: PyTree, task: Task) -> Hoisted:
    f, a, x = _of_one(model, params, task)
    return hoist(f, params, a, x)


def _of_one(model: Model, params: PyTree, task: Task) -> tuple[Callable, Parameters, PyTree]:
    """The base with an adapter, `f(params, a, x)`, and the shapes of `a` and of one input."""
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), task.x)
    return adapted(model.adapter, model.apply), jax.eval_shape(model.adapter.identity, params), x


def _mean_features(model: Model, params: PyTree, task: Task) -> Float[Array, "T d"]:
    """The mean features of each task's inputs; of width zero for a base without features."""
    features = model.features
    if features is None:
        return jnp.zeros((task.weight.shape[0], 0))
    return _means(lambda _, x: features(params, x), (), task.x, task.weight)


def _means(f: Callable, of_task: PyTree, examples: PyTree, weight: Float[Array, "T N"]) -> PyTree:
    """The weighted mean over the examples of `f(of_task[t], example)` for each task, some tasks at a time."""
    first = jax.tree.map(lambda leaf: leaf[0], (of_task, jax.tree.map(lambda leaf: leaf[:, 0], examples)))
    size = largest_array(jax.make_jaxpr(f)(*first)) * weight.shape[1]

    def mean(args):
        own, examples, weight = args
        return weighted_mean(lambda example: f(own, example), examples, weight)

    together = max(1, min(_TOGETHER if on_cpu() else weight.shape[0], _MEMORY // max(size, 1)))
    return in_tiles(mean, True, together)((of_task, examples, weight))
