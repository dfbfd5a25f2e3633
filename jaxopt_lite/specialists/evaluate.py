"""How good is a system of specialists? Always compared with the alternatives, so that a number means something."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from numpy.typing import NDArray

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.lanes.capture import Signature, run
from jaxopt_lite.specialists.arguments import scalar
from jaxopt_lite.specialists.base import Base, batched
from jaxopt_lite.specialists.fit import fit
from jaxopt_lite.specialists.library import Library, outside, rows_of
from jaxopt_lite.specialists.merging.methods import merge
from jaxopt_lite.specialists.report import PER_EXAMPLE, Cost, Report, Routing, Row, Unit
from jaxopt_lite.specialists.tasks import Task, checked, without_zero_weights

__all__ = ["evaluate", "task_losses"]

_OUTPUT_BYTES = 1 << 26  # of outputs in memory at once
_POOLED = 2048  # the most examples that the monolith is fitted to

Loss = Callable[[PyTree, PyTree], Array]
Routes = Callable[[Float[Array, "B d"]], Int[Array, " B"]]


def evaluate(
    library: Library,
    router: Routes,
    tasks: Mapping[str, Task | tuple],
    loss: Loss,
    *,
    train_tasks: Mapping[str, Task | tuple] | None = None,
    joint: Base | None = None,
    unit: Unit = PER_EXAMPLE,
    prior: float = 1.0,
    seed: int = 0,
) -> Report:
    """Compare routed specialists with the base, a monolith, a joint model, random routing, a merge, and the oracle.

    Args:
        library: the specialists.
        router: `router(features) -> index`, −1 for the base.
        tasks: what to test on, by the names of the specialists: examples that no specialist was fitted to. Tasks with
            other names are novel; their inputs should go to the base. Examples of weight 0 count for nothing.
        loss: `loss(output, y) -> scalar` for one example, as in `fit`.
        train_tasks: what the specialists were fitted to. With it the monolith, one adapter of the same size for all
            tasks together, is fitted to at most 2,048 of these examples drawn at random (the table says out of how
            many), and the cost of adding one more specialist is measured.
        joint: a model of the same total size, trained on everything.
        unit: the unit of the reported losses.
        prior: the prior of the fits, as in `fit`.
        seed: the seed of random routing and of the monolith's examples.

    Returns:
        A `Report`; print it.

    Raises:
        IndexError: a router that sends inputs to specialists that are not there.
        TypeError, ValueError: tasks that `fit` would refuse.
        ValueError: no task that is known to the library; empty `train_tasks`; a router that does not give integers.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Base, Shift, evaluate, fit
        >>> apply = lambda params, x: x[0] + params["b"]
        >>> base = Base({"b": jnp.zeros(())}, apply, features=lambda params, x: x)
        >>> x = jnp.array([[0.0], [1.0]])
        >>> tasks = {"up": (x, x[:, 0] + 1), "down": (x - 9, x[:, 0] - 10)}
        >>> square = lambda out, y: (out - y) ** 2
        >>> library = fit(base, Shift("b"), tasks, square, progress=False)
        >>> router = lambda features: (features[:, 0] < -4).astype(int)
        >>> report = evaluate(library, router, tasks, square)
        >>> report.routing.accuracy, round(report.recovered, 3)
        (1.0, 1.0)
    """
    tasks, seed = without_zero_weights(checked(tasks)), whole_number("seed", seed, least=0)
    known = {name: task for name, task in tasks.items() if name in library}
    if not known:
        raise ValueError(f"tasks are {', '.join(tasks) or 'none'}; expected some with the names of specialists.")
    test = _Examples(known, loss, unit, library)
    own = np.array(rows_of(library, list(known)), np.int32)[test.of]
    routed = test.route(router)
    nowhere, first = np.full(len(own), -1, np.int32), np.zeros(len(own), np.int32)
    drawn = np.random.default_rng(seed).integers(0, len(library), len(own)).astype(np.int32)
    monolith, seen, cost = _monolith_and_cost(library, train_tasks, loss, prior, seed)
    rows = (
        test.row("base", library, nowhere),
        test.row("monolith of the same size", monolith, first)._replace(examples=seen),
        test.row("joint retrain of the same total size", joint, nowhere),
        test.row("random routing", library, drawn),
        test.row("uniform merge", merge(library), first),
        test.row("oracle", library, own),
        test.row("routed", library, routed),
    )
    destinations = test.by_task(routed)
    novel = {name: task for name, task in tasks.items() if name not in library}
    fallback = None
    if novel:
        strange = _Examples(novel, loss, unit, library)
        elsewhere = strange.route(router)
        destinations |= strange.by_task(elsewhere)
        fallback = float(np.mean(elsewhere == -1))
    routing = Routing(float(np.mean(routed == own)), float(np.mean(routed == -1)), fallback)
    return Report(unit.name, tuple(known), rows, routing, cost, library.names, destinations)


def task_losses(
    library: Library, tasks: Mapping[str, Task | tuple], loss: Loss, *, unit: Unit = PER_EXAMPLE
) -> Float[np.ndarray, " T"]:
    """The loss of each task by the specialist of its name, or by the base where there is none.

    Args:
        library: the specialists; `library[[]]` for the base alone.
        tasks: examples by name.
        loss: `loss(output, y) -> scalar` for one example.
        unit: the unit of the losses.
    """
    test = _Examples(without_zero_weights(checked(tasks)), loss, unit, library)
    own = np.array([rows_of(library, name)[0] if name in library else -1 for name in tasks], np.int32)[test.of]
    total, amount = test.totals(library, own)
    return total / amount


class _Examples:
    """The examples of all tasks, one after another, and what is done with them, batch by batch."""

    def __init__(self, tasks: dict[str, Task], loss: Loss, unit: Unit, library: Library):
        self.names, self.loss, self.library = tuple(tasks), loss, library
        self.x, self.y, self.weight = _pooled(tasks)
        self.of = np.repeat(np.arange(len(tasks)), [task.examples for task in tasks.values()])
        self.amount = np.asarray(unit.amount(self.x, self.weight), np.float64)
        one = jax.eval_shape(library.base.apply, library.base.params, jax.tree.map(lambda leaf: leaf[0], self.x))
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
        batches = -(-len(self.of) * size // _OUTPUT_BYTES) or 1
        self.batch = -(-len(self.of) // min(batches, len(self.of)))

    def route(self, router: Routes) -> Int[np.ndarray, " N"]:
        def one(x):
            index = np.asarray(router(self.library.base.embed(x)))
            if index.shape != (self.batch,) or not np.issubdtype(index.dtype, np.integer):
                raise ValueError(
                    f"router gave {index.dtype.name} of shape {index.shape}; expected whole numbers, one for each of "
                    f"{self.batch} inputs: a specialist, or −1 for the base."
                )
            wrong = outside(index, len(self.library))
            if wrong.size:
                raise IndexError(
                    f"router gave {wrong[0]}; expected whole numbers, −1 for the base, or 0 to {len(self.library) - 1}."
                )
            return index

        return self._in_batches(one, self.x)

    def by_task(self, index: Int[np.ndarray, " N"]) -> dict[str, Int[np.ndarray, " n"]]:
        """The indices of each task's examples."""
        return {name: index[self.of == task] for task, name in enumerate(self.names)}

    def row(self, name: str, model: Library | Base | None, index: Int[np.ndarray, " N"]) -> Row:
        """How well a model does, a library by the specialists of these indices; without a model, no numbers."""
        if model is None:
            return Row(name, float("nan"), None)
        total, amount = self.totals(model, index)
        return Row(name, float(total.sum() / amount.sum()), total / amount)

    def totals(self, model: Library | Base, index: Int[np.ndarray, " N"]) -> tuple[NDArray, NDArray]:
        """For each task the weighted sum of the losses, and the amount that it is divided by."""
        losses = self._in_batches(partial(_losses, model, loss=self.loss), self.x, self.y, index)
        return np.bincount(self.of, losses.astype(np.float64) * self.weight), np.bincount(self.of, self.amount)

    def _in_batches(self, one: Callable, *arrays: PyTree) -> np.ndarray:
        """`one(*arrays)` in batches of one size; the last is padded with its first example."""
        done = []
        for start in range(0, len(self.of), self.batch):
            rows = np.arange(start, start + self.batch)
            rows[rows >= len(self.of)] = start
            values = one(*jax.tree.map(lambda leaf, rows=rows: leaf[rows], arrays))
            done.append(np.asarray(values)[: len(self.of) - start])
        return np.concatenate(done)


def _losses(model: Library | Base, x, y, index, loss: Loss) -> Float[Array, " B"]:
    if isinstance(model, Library):
        outputs = model.apply(x, index)
    else:
        outputs = run(batched, (), [(model.apply, model.signature(x))], model.params, x)
    return run(_vmapped, (), [(loss, Signature.of(outputs, y, mapped=(1, 1)))], outputs, y)


def _vmapped(loss, outputs, y):
    return jax.vmap(scalar(loss, np.generic))(outputs, y)


def _pooled(tasks: Mapping[str, Task]) -> Task:
    return Task(*jax.tree.map(lambda *leaves: np.concatenate(leaves), *(tuple(task) for task in tasks.values())))


def _monolith_and_cost(
    library: Library, tasks, loss: Loss, prior: float, seed: int
) -> tuple[Library | None, tuple[int, int] | None, Cost]:
    """One adapter for all tasks together, how many of the examples it saw, and the cost of one more specialist."""
    one: Any = jax.tree.map(lambda leaf: leaf[:1], (library.parameters, library.profile))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
    if tasks is None:
        return None, None, Cost(size, None, None)
    tasks = without_zero_weights(checked(tasks))
    if not tasks:
        raise ValueError("train_tasks is empty; expected what the specialists were fitted to, or None.")
    pooled = _pooled(tasks)
    chosen = np.random.default_rng(seed).permutation(pooled.examples)[:_POOLED]
    again = partial(fit, library.base, library.adapter, loss=loss, prior=prior, progress=False)
    name = next(iter(tasks))
    times = [time.perf_counter()]
    for _ in range(2):
        again({name: tasks[name]})
        times.append(time.perf_counter())
    first, seconds = np.diff(times).tolist()
    # After the measurement, for it may compile the same program.
    monolith = again({"all": Task(*jax.tree.map(lambda leaf: leaf[chosen], tuple(pooled)))})
    return monolith, (len(chosen), pooled.examples), Cost(size, seconds, first)
