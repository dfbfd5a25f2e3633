"""The diagonal of the Fisher information of an adapter's parameters, per example and for all tasks.

    F = E_x E_y ( ∂ log p(y | x) / ∂a )²

Each example's own gradient is squared: the square of a batch's mean gradient would be smaller by the batch's size, and
by cancellation. With y drawn from the model this is the Fisher information; with the true y it is the empirical one.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.lanes.capture import Signature, run
from jaxopt_lite.specialists.adapters import Adapter, Parameters, Part, as_adapter
from jaxopt_lite.specialists.arguments import frozen, key_seed, scalar
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.library import adapted, squared
from jaxopt_lite.specialists.sums import weighted_mean
from jaxopt_lite.specialists.tasks import Task, checked, of_tasks, without_zero_weights

__all__ = ["Draws", "Sampler", "categorical", "fisher_diagonal", "squared_gradients"]

Sampler = Callable[[Array, PyTree, PyTree], PyTree]


def true_label(key: Array, output: PyTree, y: PyTree) -> PyTree:
    """The sampler for the empirical Fisher information."""
    return y


class Draws(NamedTuple):
    """How labels are drawn: by a function, how many for each example, and with which seed."""

    sample: Sampler = true_label
    number: int = 1
    seed: int = 0


def categorical(key: Array, logits: Float[Array, "*labels V"], y: Int[Array, "*labels"]) -> Int[Array, "*labels"]:
    """Labels drawn from logits, along the last axis. True labels outside 0 … V − 1 stay: they are padding.

    Raises:
        ValueError: labels that are not integers, or of another shape; then give a sampler of your own.
    """
    if jnp.shape(y) != logits.shape[:-1] or not jnp.issubdtype(jnp.result_type(y), jnp.integer):
        raise ValueError(
            f"y has shape {jnp.shape(y)} and dtype {jnp.result_type(y)}; for outputs of shape {logits.shape} expected "
            f"integers of shape {logits.shape[:-1]}. For other labels give sample=... of your own."
        )
    drawn = jax.random.categorical(key, logits).astype(y.dtype)
    return jnp.where((y >= 0) & (y < logits.shape[-1]), drawn, y)


def fisher_diagonal(
    base: Base,
    adapter: Adapter | Part,
    parameters: Parameters,
    tasks: Mapping[str, Task | tuple],
    loss: Callable[[PyTree, PyTree], Array],
    *,
    sample: Sampler | None = None,
    draws: int = 1,
    seed: int = 0,
) -> Parameters:
    """The Fisher diagonals of the parameters of T adapters, each on the examples of its task.

    Args:
        base: the model.
        adapter: what the parameters mean. For LoRA's products give `adapter.linear` and `linear_parameters(library)`.
        parameters: the parameters of T adapters, leaves `[T, ...]`.
        tasks: the examples, in the order of the parameters.
        loss: `loss(output, y) -> scalar` for one example, −log p(y | x).
        sample: `sample(key, output, y)` draws a label from the model in place of the true one, for instance
            `categorical`; without it the labels are the true ones.
        draws: how many labels are drawn for each example.
        seed: the seed of the draws.

    Returns:
        A dictionary like `parameters`; in float32 where these are in float16, which cannot hold the squares.

    Raises:
        TypeError: `tasks` is not a mapping from names to tuples of arrays of numbers.
        ValueError: tasks without examples, NaN or infinity in them; parameters of another number or shape.
    """
    adapter, tasks = as_adapter(adapter), checked(tasks)
    draws, seed, parameters = whole_number("draws", draws, least=1), key_seed(seed), frozen(parameters)
    expected = {key: (len(tasks), *leaf.shape) for key, leaf in adapter.shapes(base.params).items()}
    arrived = {key: jnp.shape(leaf) for key, leaf in parameters.items()}
    if arrived != expected:
        raise ValueError(f"parameters has the shapes {arrived}; expected {expected}.")
    labels = Draws() if sample is None else Draws(sample, draws, seed)
    return squared_gradients(base, adapter, parameters, tasks, loss, labels, _all)


def _all(squares: Parameters) -> Parameters:
    return squares


def squared_gradients(
    base: Base,
    adapter: Adapter,
    parameters: Parameters,
    tasks: dict[str, Task],
    loss: Callable,
    draws: Draws,
    summary: Callable[[Parameters], PyTree],
) -> PyTree:
    """The mean over the examples of `summary` of the squared gradient, for each of the tasks, `[T, ...]`."""
    if not tasks:
        one = jax.eval_shape(lambda gradient: summary(squared(gradient)), adapter.shapes(base.params))
        return jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape), leaf.dtype), one)
    tasks, key = without_zero_weights(tasks), jax.random.key(draws.seed)
    numbers = [zlib.crc32(name.encode("utf-8", "surrogatepass")) for name in tasks]  # whatever else there is
    keys = jnp.stack([jax.random.fold_in(key, number) for number in numbers])
    functions = _functions(base, adapter, loss, draws.sample, parameters, next(iter(tasks.values())), key)

    def of_bucket(indices, task):
        a = jax.tree.map(lambda leaf: jnp.asarray(leaf)[indices], parameters)
        return run(_of_bucket, (adapter, draws.number, summary), functions, base.params, a, task, keys[indices])

    return of_tasks(of_bucket, list(tasks.values()))


def _functions(base: Base, adapter: Adapter, loss, sample, parameters, task: Task, key) -> list:
    """The user's functions, each with its arguments for one example."""
    a, x, y = jax.tree.map(lambda leaf: leaf[0], (parameters, task.x, task.y))
    output = jax.eval_shape(adapted(adapter, base.apply), base.params, a, x)
    labels = jax.eval_shape(sample, key, output, y)
    return [
        (base.apply, Signature.of(base.params, x, mapped=(0, 0))),
        (loss, Signature.of(output, labels, mapped=(0, 0))),
        (sample, Signature.of(key, output, y, mapped=(0, 0, 0))),
    ]


def _of_bucket(apply, loss, sample: Sampler, adapter, number: int, summary, params, parameters, task: Task, keys):
    """For tasks of one shape, leaves `[T, N, ...]`, one after the other."""
    model, loss = adapted(adapter, apply), scalar(loss)

    def of_task(args):
        a, task, key = args

        def squares(x, y):
            return summary(squared(jax.grad(lambda a: loss(model(params, a, x), y))(a)))

        def of_example(example):
            x, y, index = example
            drawn = jax.random.split(jax.random.fold_in(key, index), number)
            labels = jax.vmap(sample, in_axes=(0, None, None))(drawn, model(params, a, x), y)
            return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(squares, in_axes=(None, 0))(x, labels))

        indices = jnp.arange(task.weight.shape[0])
        return weighted_mean(of_example, (task.x, task.y, indices), task.weight)

    return jax.lax.map(of_task, (parameters, task, keys))
