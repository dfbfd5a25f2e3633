"""RegMean: the change whose layers answer as the specialists' do, on the inputs of each.

    min_Δ Σ_i w_i ‖X_i (Δ − Δ_i)‖²        Δ = (Σ w_i G_i)⁻¹ Σ w_i G_i Δ_i,    G_i = X_iᵀ X_i

Jin et al., arXiv 2212.09849. X_i are the inputs of a layer when specialist i sees its own examples; G_i is taken as a
mean over them, so that a task counts the same however many examples it has. The same sum of squares, written in the
parameters a of any linear adapter, is Σ_i w_i (a − a_i)ᵀ H_i (a − a_i), and its minimum has the same formula:

    Δ any matrix              H = G
    Δ = diag(s) W             H = G ∘ W Wᵀ
    Δ = W diag(s)             H = the diagonal of Wᵀ G W

Everything else, such as biases and lookup tables, is averaged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_lite.arguments import assign
from jaxopt_lite.lanes.arithmetic import at_least_float32, positive
from jaxopt_lite.specialists.adapters import Parameters
from jaxopt_lite.specialists.arguments import POSITIVE, number
from jaxopt_lite.specialists.leaves import digest
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.merging.gram import moments
from jaxopt_lite.specialists.merging.methods import Method, check_relative
from jaxopt_lite.specialists.tasks import Task, checked, named, without_zero_weights

__all__ = ["RegMean"]

_FACTOR = "a factor from 0 to 1", lambda factor: 0 <= factor <= 1
_RIDGE = "a positive number; without one G may have no inverse", POSITIVE[1]


@dataclass(frozen=True, eq=False)
class RegMean(Method):
    """(Σ w_i G_i)⁻¹ Σ w_i G_i Δ_i for matrices that are multiplied with activations; other leaves are averaged.

    Weights: the factors of the sums of squares, none negative, by default 1. They are relative, so that one specialist
    merges to itself.

    Args:
        tasks: examples of each specialist, by name, as for `fit`. Their labels are not used.
        off_diagonal: the factor of the off-diagonal entries of G; below 1 the inverse is more stable.
        ridge: a pull to the mean where the examples say nothing, relative to the mean of the diagonal.

    Raises:
        TypeError: `tasks` is not a mapping from names to tuples of arrays of numbers.
        ValueError: an `off_diagonal` outside [0, 1], or a `ridge` that is not positive.
    """

    tasks: Mapping[str, Task | tuple]
    off_diagonal: float = 0.9
    ridge: float = 1e-4

    def __post_init__(self):
        off_diagonal, ridge = number("off_diagonal", self.off_diagonal, _FACTOR), number("ridge", self.ridge, _RIDGE)
        assign(self, off_diagonal=off_diagonal, ridge=ridge, tasks=named(self.tasks))

    def __repr__(self) -> str:
        texts = []
        for name, task in sorted(self.tasks.items()):
            leaves = {f"{k}": np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(Task(*task).x))}
            texts.append(f"{name}: {digest(leaves)}")
        return f"RegMean(<{digest({}, *texts)[:16]}>, off_diagonal={self.off_diagonal}, ridge={self.ridge})"

    def combine(self, library, deltas, weights):
        check_relative(weights)
        share = weights / jnp.sum(weights)
        base, adapter = library.base, library.adapter
        seen = moments(base.apply, adapter, base.params, library.parameters, self._tasks(library))
        merged: Parameters = {}
        for part, name, leaf in adapter.linear.matches(base.params):
            if name in seen and len(part.keys) > 1:
                raise ValueError(
                    f"RegMean has no formula for {part}, whose change of {name!r} has the parameters "
                    f"{', '.join(part.keys)}: `quadratic` is for kinds with one. Take another method."
                )
            for key in (f"{key}:{name}" for key in part.keys):
                wide = at_least_float32(deltas[key].dtype)
                delta = deltas[key].astype(wide)
                mean = jnp.tensordot(share, delta, 1, precision="highest")
                if name in seen:
                    axis, g = seen[name][0], seen[name][1].astype(wide)
                    g = jnp.where(jnp.eye(g.shape[1], dtype=bool), g, self.off_diagonal * g)
                    h = jax.vmap(partial(part.quadratic, jnp.asarray(leaf, wide), axis))(g)
                    mean += self._shift(h, delta - mean, share, axis)
                merged[key] = mean.astype(deltas[key].dtype)
        return merged

    def _tasks(self, library: Library) -> list[Task]:
        missing = [name for name in library.names if name not in self.tasks]
        if missing:
            raise ValueError(f"tasks has no examples of {', '.join(missing)}; expected some of every specialist.")
        return list(without_zero_weights(checked({name: self.tasks[name] for name in library.names})).values())

    def _shift(self, h: Float[Array, "k ..."], apart: Float[Array, "k ..."], share, axis: int) -> Array:
        """The minimum's distance from the mean: (Σ w_i H_i + ρ)⁻¹ Σ w_i H_i (a_i − mean)."""
        total = jnp.tensordot(share, h, 1, precision="highest")
        if h.ndim == 2:
            rho = positive(self.ridge * jnp.mean(total))
            return jnp.sum(share[:, None] * h * apart, axis=0) / (total + rho)
        rho = positive(self.ridge * jnp.trace(total) / total.shape[0])
        columns = jnp.moveaxis(apart, 1 + axis, 1) if apart.ndim == 3 else apart[:, :, None]
        pull = jnp.einsum("k,kij,kjn->in", share, h, columns, precision="highest")
        solved = jnp.linalg.solve(total + rho * jnp.eye(total.shape[0], dtype=total.dtype), pull)
        return jnp.moveaxis(solved, 0, axis) if apart.ndim == 3 else solved[:, 0]
