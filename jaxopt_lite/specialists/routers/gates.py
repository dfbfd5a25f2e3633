"""Gates: each specialist learns, alone and after its fit, for which inputs it is of use.

PHATGOOSE: Muqeeth, Liu, Liu and Raffel, Learning to route among specialized experts for zero-shot generalization, arXiv
2402.05859, section 3. All but a vector v is frozen, and v, which starts at zero, minimises the specialist's own loss
with its change of the model scaled by σ(vᵀ u), u the features of the input. Scores are the products of v and u after
both are normalised, ṽᵀ ũ / √d.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpy.typing import NDArray

from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.solvers.solve import minimize
from jaxopt_lite.specialists.adapters import Adapter, LoRA, Parameters
from jaxopt_lite.specialists.library import Library, adapted
from jaxopt_lite.specialists.routers.features import features_of
from jaxopt_lite.specialists.routing import Router

__all__ = ["Gates", "fit_gates"]

_CHUNK = 256  # specialists that are solved together


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gates(Router):
    """Scores are the products of normalised gates and normalised features.

    It was designed for each token at each layer, where specialists are trained apart and no inputs are shared. Once per
    input it is one direction in feature space, learned without a look at any other task; compare it with `LDA` by
    `evaluate` before relying on it.
    """

    @classmethod
    def of(cls, library: Library) -> "Gates":
        """For the specialists of a library; the threshold is ∞ until `calibrated` sets one.

        Raises:
            ValueError: a specialist without a gate.
        """
        gate = library.profile.gate
        without = np.flatnonzero(~np.asarray(gate).any(axis=1))
        if without.size:
            raise ValueError(
                f"{without.size} specialists have no gate, {library.names[without[0]]!r} is the first; "
                "`fit_gates(library, tasks, loss)` learns them."
            )
        one = jnp.ones((), gate.dtype)
        return cls(_normalised(gate) / np.sqrt(gate.shape[1]), jnp.zeros_like(gate[:, 0]), jnp.inf * one, one)

    def query(self, features):
        return _normalised(features)


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
        solver: its settings.

    Returns:
        The library with another `profile.gate`; all else in it stays.

    Raises:
        ValueError: a base without features, features that are not finite, no examples; a `prior` that is not positive.
        KeyError: a task that is no specialist's.
    """
    if not prior > 0:
        raise ValueError(f"prior={prior}: expected a positive number; without one, gates grow without bound.")
    chosen = library[list(tasks)]
    features, index = features_of(library.base, tasks)
    stacked = _stacked([tuple(task) for task in tasks.values()], np.bincount(index, minlength=len(tasks)), features)
    objective = _Objective(library.base.apply, chosen.adapter, loss)
    gates = []
    for start in range(0, len(tasks), _CHUNK):
        part = slice(start, start + _CHUNK)
        mine = jax.tree.map(lambda leaf, part=part: leaf[part], (chosen.parameters, *stacked))
        v = jnp.zeros((len(mine[-1]), features.shape[1]), features.dtype)
        args, axes = (library.base.params, prior, *mine), (None, None, 0, 0, 0, 0, 0)
        solution = minimize(objective, v, args, solver=solver or LBFGS(atol=1e-6, rtol=1e-4), args_axes=axes)
        gates.append(solution.x)
    places = np.array([library.names.index(name) for name in tasks])
    gate = library.profile.gate.at[places].set(jnp.concatenate(gates).astype(library.profile.gate.dtype))
    return replace(library, profile=replace(library.profile, gate=gate))


@dataclass(frozen=True)
class _Objective:
    """(Σ_i w_i loss_i + ½ prior ‖v‖²) / Σ_i w_i for one specialist; hashed by its fields, so that it compiles once."""

    apply: Callable
    adapter: Adapter
    loss: Callable

    def __call__(self, v, args):
        params, prior, a, x, y, u, weight = args
        model = adapted(self.adapter, self.apply)

        def one(x, y, u):
            return self.loss(model(params, _scaled(a, jax.nn.sigmoid(v @ u)), x), y)

        losses = jax.vmap(one)(x, y, u)
        return (jnp.sum(weight * losses) + 0.5 * prior * jnp.sum(v**2)) / jnp.sum(weight)


def _scaled(a: Parameters, share) -> Parameters:
    """The parameters that make `share` times the change: of a product of two factors, one is scaled."""
    first = f"{LoRA.keys[0]}:"
    return {key: leaf if key.startswith(first) else share.astype(leaf.dtype) * leaf for key, leaf in a.items()}


def _stacked(tasks: list[tuple], counts: NDArray, features: NDArray):
    """x, y, features `[T, N, ...]` and weights `[T, N]`, filled up with copies that weigh nothing."""
    if not counts.all():
        raise ValueError(f"tasks: {np.sum(counts == 0)} of them have no examples; expected at least one each.")
    weights = [
        np.ones(n) if len(task) < 3 or task[2] is None else task[2] for task, n in zip(tasks, counts, strict=True)
    ]
    size, place = counts.max(), np.cumsum(counts) - counts
    use = [np.resize(np.flatnonzero(np.asarray(weight) > 0), size) for weight in weights]

    def stack(*leaves):
        return np.stack([np.asarray(leaf)[rows] for leaf, rows in zip(leaves, use, strict=True)])

    x, y = jax.tree.map(stack, *(tuple(task[:2]) for task in tasks))
    there = np.arange(size) < counts[:, None]
    u = features[place[:, None] + np.where(there, np.arange(size), 0)]
    return x, y, u, np.where(there, stack(*weights), 0).astype(features.dtype)


def _normalised(x):
    """Layer norm without a scale or a shift of its own; what is constant becomes zero."""
    x = x - jnp.mean(x, axis=1, keepdims=True)
    variance = jnp.mean(x**2, axis=1, keepdims=True)
    return x / jnp.sqrt(jnp.where(variance > 0, variance, 1))
