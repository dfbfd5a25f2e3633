"""One specialist out of several: `methods.py` says how, here it becomes a library of one with its recipe."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxopt_lite.specialists.adapters import Parameters
from jaxopt_lite.specialists.checks import check_real
from jaxopt_lite.specialists.library import Card, Library, Profile
from jaxopt_lite.specialists.methods import DARE, TIES, Fisher, Mean, Method, TaskArithmetic

__all__ = ["merge"]

_METHODS = {"mean": Mean, "arithmetic": TaskArithmetic, "ties": TIES, "dare": DARE, "fisher": Fisher}


def merge(
    library: Library,
    method: Method | str = "mean",
    weights: Float[ArrayLike, " k"] | None = None,
    *,
    name: str = "merged",
    author: str = "",
    licence: str = "",
) -> Library:
    """One specialist out of all those of a library; choose some by `library[["a", "b"]]`.

    Args:
        library: the specialists to merge.
        method: `Mean()`, `TaskArithmetic()`, `TIES()`, `DARE()`, `Fisher()` or `RegMean(...)`, with their settings; or
            one of "mean", "arithmetic", "ties", "dare" and "fisher" for the defaults.
        weights: of the specialists, `[k]`. What they mean, and are by default, the methods say.
        name: of the result.
        author: for its card.
        licence: for its card.

    Returns:
        A library of one. Its adapter is `library.adapter.linear`, which for IA3 and Shift is the same. Its card has the
        parents' ids and the recipe; its profile their mean features, but no Fisher diagonal.

    Raises:
        TypeError: weights that are no real numbers, such as a mask; a name that is no text.
        ValueError: an empty library; weights that are not k finite numbers; what a method needs and does not get.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Base, Shift, fit, merge
        >>> base = Base({"b": jnp.zeros(1)}, lambda params, x: x + params["b"])
        >>> tasks = {"one": (jnp.zeros((4, 1)), jnp.ones((4, 1))), "three": (jnp.zeros((4, 1)), jnp.full((4, 1), 3.0))}
        >>> library = fit(base, Shift("b"), tasks, lambda out, y: jnp.sum((out - y) ** 2), prior=0.0, progress=False)
        >>> round(float(merge(library).parameters["shift:b"][0, 0]), 3)
        2.0
    """
    method = _method(method)
    if len(library) == 0:
        raise ValueError("library is empty; expected at least one specialist to merge.")
    weights = _weights(method, weights, library)
    a = method.merged(library, weights)
    recipe = f"merge(parents, {method!r}, weights={np.asarray(weights).tolist()})"
    card = Card(name, examples=sum(c.examples for c in library.cards), recipe=recipe, author=author, licence=licence)
    count = library.profile.count
    share = jnp.where(jnp.sum(count) > 0, count, 1)
    mean = jnp.sum(share[:, None] * library.profile.mean, axis=0) / jnp.sum(share)
    return specialist_of(library, a, card, jnp.sum(count), mean.astype(library.profile.mean.dtype))


def specialist_of(library: Library, a: Parameters, card: Card, count, mean) -> Library:
    """A library of one with all of this one as its parents, in the linear form of the adapter."""
    one = jax.tree.map(lambda leaf: leaf[None], a)
    profile = Profile(
        jnp.asarray(count)[None], mean[None], jax.tree.map(jnp.zeros_like, one), jnp.zeros_like(mean[None])
    )
    return Library(library.base, one, profile, library.adapter.linear, (replace(card, parents=library.ids),))


def _method(method: Method | str) -> Method:
    if isinstance(method, str) and method in _METHODS:
        return _METHODS[method]()
    if not isinstance(method, Method):
        raise ValueError(f"method={method!r}: expected one of {', '.join(_METHODS)}, or a method with its settings.")
    return method


def _weights(method: Method, weights, library: Library) -> Float[Array, " k"]:
    dtype = jnp.result_type(*jax.tree.leaves(library.parameters))
    given = np.array(method.weights(len(library)) if weights is None else weights)
    check_real("weights", given)
    with np.errstate(over="ignore"):
        kept = given.astype(dtype)
    if given.shape != (len(library),) or not np.isfinite(kept).all():
        raise ValueError(f"weights={given.tolist()}: expected {len(library)} finite numbers, one for each specialist.")
    return jnp.asarray(kept)
