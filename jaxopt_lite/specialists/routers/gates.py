"""Gates: each specialist learns, alone and after its fit, for which inputs it is useful.

PHATGOOSE: Muqeeth, Liu, Liu and Raffel, Learning to route among specialized experts for zero-shot generalization, arXiv
2402.05859, section 3. All but a vector v is frozen, and v, which starts at zero, minimizes the specialist's own loss
with its change of the model scaled by σ(vᵀ u), u the features of the input. Scores are the products of v and u after
both are normalized, ṽᵀ ũ / √d.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpy.typing import NDArray

from jaxopt_lite.lanes.arithmetic import at_least_float32, positive
from jaxopt_lite.lanes.status import Status, is_solved
from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.solvers.solve import minimize
from jaxopt_lite.specialists.adapters import Adapter
from jaxopt_lite.specialists.arguments import POSITIVE, number, scalar
from jaxopt_lite.specialists.base import off_mesh
from jaxopt_lite.specialists.features import features_of
from jaxopt_lite.specialists.library import Library, adapted, rows_of
from jaxopt_lite.specialists.routing import Router
from jaxopt_lite.specialists.tasks import Task, checked, pieces, without_zero_weights
from jaxopt_lite.specialists.tiles import in_range

__all__ = ["Gates", "fit_gates"]

_CHUNK = 256  # specialists that are solved together
_PRIOR = "a positive number; without one, gates grow without bound", POSITIVE[1]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Gates(Router):
    """Scores are the products of normalized gates and normalized features.

    The method was designed for each token at each layer, with specialists that are trained apart and share no inputs.
    Once per input it is one direction in feature space, learned without a look at any other task; compare it with `LDA`
    by `evaluate` before relying on it.
    """

    @classmethod
    def of(cls, library: Library) -> "Gates":
        """For the specialists of a library; the threshold is ∞ until `calibrated` sets one.

        A specialist whose gate is zero is never chosen: no gate was learned for it, or the best one found is zero.

        Raises:
            ValueError: no specialist has a gate.
        """
        gate = library.profile.gate
        gate = gate.astype(at_least_float32(gate.dtype))  # in half precision close scores would be equal
        known = jnp.any(gate != 0, axis=1)
        if len(library) and not known.any():
            raise ValueError(
                f"none of {len(library)} specialists has a gate; `fit_gates(library, tasks, loss)` learns them."
            )
        bias, one = jnp.where(known, jnp.zeros_like(gate[:, 0]), -jnp.inf), jnp.ones((), gate.dtype)
        return cls(_normalized(gate) / np.sqrt(gate.shape[1]), bias, jnp.inf * one, one)

    def query(self, features):
        return _normalized(features)


def fit_gates(
    library: Library,
    tasks: Mapping[str, tuple],
    loss: Callable[[PyTree, PyTree], Array],
    *,
    prior: float = 1.0,
    solver: LBFGS | None = None,
) -> Library:
    """The library with a gate for each specialist that has a task here, learned in one batched solve.

    Args:
        library: the specialists.
        tasks: the examples of some or all of them, by name: `Task(x, y)`, or a pair, leaves `[N, ...]`.
        loss: `loss(output, y) -> scalar` for one example.
        prior: the strength of the penalty ½ prior ‖v‖², in examples.
        solver: the settings of the solver.

    Returns:
        The library with another `profile.gate`; all else stays.

    Raises:
        TypeError: `tasks` is not a mapping from names to tuples of arrays of numbers.
        ValueError: a base without features, features that are not finite; tasks without examples, shapes that differ,
            NaN or infinity; weights that are negative or all zero; a `prior` that is not positive.
        KeyError: a task without a specialist of its name.

    Warns:
        RuntimeWarning: some gates did not converge; it says how many, and how they ended.
    """
    prior = number("prior", prior, _PRIOR)
    tasks = without_zero_weights(checked(tasks))
    chosen = library[list(tasks)]
    features, index = features_of(library.base, tasks)
    objective = _Objective(library.base.apply, chosen.adapter, loss)
    solver, params = solver or LBFGS(atol=1e-6, rtol=1e-4), off_mesh(library.base.params)
    gates, status = np.zeros((len(tasks), features.shape[1]), features.dtype), np.zeros(len(tasks), int)
    for indices, ((x, u), y, weight) in pieces(_with_features(list(tasks.values()), features, index), lambda _: _CHUNK):
        a = jax.tree.map(lambda leaf, indices=indices: leaf[indices], chosen.parameters)
        args, axes = (params, prior, a, x, y, u, weight), (None, None, 0, 0, 0, 0, 0)
        v = jnp.zeros((len(indices), u.shape[-1]), u.dtype)
        solution = minimize(objective, v, args, solver=solver, args_axes=axes)
        gates[indices], status[indices] = solution.x, solution.status
    _warn_of(status)
    rows = np.array(rows_of(library, list(tasks)))
    gate = jnp.asarray(library.profile.gate).at[rows].set(jnp.asarray(gates, library.profile.gate.dtype))
    return replace(library, profile=replace(library.profile, gate=gate))


def _with_features(tasks: list[Task], features: NDArray, index: NDArray) -> list[Task]:
    """The tasks with inputs `(x, u)`, u the features."""
    split = np.split(features, np.searchsorted(index, np.arange(1, len(tasks))))
    return [Task((x, u), y, weight) for (x, y, weight), u in zip(tasks, split, strict=True)]


def _warn_of(status: NDArray) -> None:
    failed = Counter(Status(code).name for code in status.tolist() if not is_solved(code))
    if failed:
        ends = ", ".join(f"{count} as {name}" for name, count in failed.most_common())
        warnings.warn(
            f"{failed.total()} of {len(status)} gates did not converge: {ends}.", RuntimeWarning, stacklevel=3
        )


@dataclass(frozen=True)
class _Objective:
    """(Σ_i w_i loss_i + ½ prior ‖v‖²) / Σ_i w_i for one specialist; hashed by its fields, so that it compiles once."""

    apply: Callable
    adapter: Adapter
    loss: Callable

    def __call__(self, v, args):
        params, prior, a, x, y, u, weight = args
        model, loss = adapted(self.adapter, self.apply), scalar(self.loss)

        def one(x, y, u):
            return loss(model(params, self.adapter.scaled(params, jax.nn.sigmoid(v @ u), a), x), y)

        losses = jax.vmap(one)(x, y, u)
        weight = weight.astype(at_least_float32(losses.dtype))
        size = jnp.sum(v.astype(at_least_float32(v.dtype)) ** 2)
        return (jnp.sum(weight * losses) + 0.5 * prior * size) / jnp.sum(weight)


def _normalized(x):
    """Layer norm without a scale or a shift of its own; a constant row becomes zero."""
    x = in_range(x)  # so that neither the sum nor a square overflows
    x = x - jnp.mean(x, axis=1, keepdims=True)
    variance = jnp.mean(x**2, axis=1, keepdims=True)
    return x / jnp.sqrt(positive(variance))
