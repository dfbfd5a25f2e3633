"""Novel tasks as compositions of skills: learned weights over existing specialists.

For each task the weights w minimize, over its few examples,

    ( Σ_n loss(model with Σ_i w_i Δ_i, x_n) + ½ ridge ‖w − 1/k‖² ) / N

LoraHub (Huang et al., arXiv 2307.13269) has the same aim. It mixes the factors of LoRA and starts at w = 0, where the
gradient of a product of two mixtures is zero: a gradient method would never move. Here the changes themselves are
mixed, in the linear form of the adapter, and the start is their mean.

The solver sees the weights as ordinary parameters: they and the specialists' changes are parameters of a base, and a
`Shift` adapts the weights. So all tasks are mixed in one batched solve, by `fit`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxopt_lite.solvers.bfgs import BFGS
from jaxopt_lite.solvers.lbfgs import LBFGS
from jaxopt_lite.specialists.adapters import Adapter, Shift
from jaxopt_lite.specialists.arguments import NOT_NEGATIVE, number, renamed
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.fit import fit
from jaxopt_lite.specialists.library import Library, adapted, unknown_fisher
from jaxopt_lite.specialists.merging.linear import linear_parameters
from jaxopt_lite.specialists.tasks import Task

__all__ = ["mix"]


@renamed(licence="license")
def mix(
    library: Library,
    tasks: Mapping[str, Task | tuple],
    loss: Callable[[PyTree, PyTree], Array],
    *,
    ridge: float = 1.0,
    solver: BFGS | LBFGS | None = None,
    author: str = "",
    license: str = "",
    progress: bool | None = None,
) -> Library:
    """One specialist for each novel task, a weighted sum of those of a library; all in one batched solve.

    Args:
        library: the k specialists to mix, for instance the nearest ones, `library[names]`.
        tasks: the examples of each novel task, by name: `Task(x, y)`, or a pair, leaves `[N, ...]`; N may differ.
        loss: `loss(output, y) -> scalar` for one example.
        ridge: how strongly the weights are pulled to 1/k, in examples of curvature 1. With few examples take more.
        solver: the solver, as for `fit`.
        author: who made them, for the cards.
        license: their license, for the cards.
        progress: whether to show a progress bar. Default: on a terminal and in a notebook.

    Returns:
        A library of ordinary specialists, in the order of `tasks`, with the adapter `library.adapter.linear`. The cards
        have the parents' ids, and the weights in the recipe. To fit further from there, and around it, call
        `fit(..., start=mixed.parameters, center=mixed.parameters)`.

    Raises:
        TypeError, ValueError: what `fit` refuses.
        ValueError: an empty library; a `ridge` that is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Base, Shift, fit, mix
        >>> base = Base({"b": jnp.zeros(2)}, lambda params, x: x + params["b"])
        >>> loss = lambda out, y: jnp.sum((out - y) ** 2)
        >>> example = lambda *y: (jnp.zeros((9, 2)), jnp.tile(jnp.array(y), (9, 1)))
        >>> tasks = {"x": example(1.0, 0.0), "y": example(0.0, 1.0)}
        >>> library = fit(base, Shift("b"), tasks, loss, progress=False)
        >>> novel = mix(library, {"both": example(0.9, 0.3)}, loss, ridge=0.01, progress=False)
        >>> [round(float(b), 1) for b in novel.parameters["shift:b"][0]]
        [0.9, 0.3]
    """
    ridge, k = number("ridge", ridge, NOT_NEGATIVE), len(library)
    if k == 0:
        raise ValueError("library is empty; expected at least one specialist to mix.")
    deltas = linear_parameters(library)
    dtype = jnp.result_type(*jax.tree.leaves(deltas))
    base = library.base
    params = {"base": base.params, "changes": deltas, "weights": jnp.zeros(k, dtype)}
    features = None if base.features is None else _Features(base.features)
    mixture = Base(params, _Mixture(base.apply, library.adapter.linear), features, name=f"mixture of {k}")
    even = {"shift:weights": np.full(k, 1 / k, dtype)}
    fitted = fit(
        mixture, Shift("weights"), tasks, loss, prior=ridge, center=even, solver=solver, author=author,
        license=license, progress=progress,
    )  # fmt: skip
    weights = fitted.parameters["shift:weights"]
    mixed = jax.vmap(_Mixture.sum, in_axes=(None, 0))(deltas, weights)
    recipes = (f"merge(parents, TaskArithmetic(scale=1.0), weights={row})" for row in np.asarray(weights).tolist())
    cards = tuple(
        replace(card, parents=library.ids, recipe=recipe, notes=f"weights learned by mix with ridge={ridge}")
        for card, recipe in zip(fitted.cards, recipes, strict=True)
    )
    profile = replace(fitted.profile, fisher=unknown_fisher(mixed))
    return Library(base, mixed, profile, library.adapter.linear, cards)


@dataclass(frozen=True)
class _Mixture:
    """The base with a weighted sum of changes, as a function of both."""

    apply: Callable
    adapter: Adapter

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        change = self.sum(params["changes"], params["weights"])
        return adapted(self.adapter, self.apply)(params["base"], change, x)

    @staticmethod
    def sum(changes: PyTree, weights: Array) -> PyTree:
        """Σ_i w_i Δ_i."""

        def total(leaf):
            return jnp.tensordot(weights, leaf, 1, precision="highest").astype(leaf.dtype)

        return jax.tree.map(total, changes)


@dataclass(frozen=True)
class _Features:
    """The base's features; the mixture does not change them."""

    features: Callable

    def __call__(self, params: PyTree, x: PyTree) -> Array:
        return self.features(params["base"], x)
