"""What specialists change, in the linear form of their adapter, as arrays; and back to LoRA, by truncated SVD."""

import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_lite.lanes.arithmetic import at_least_float32, positive
from jaxopt_lite.specialists.adapters import Adapter, Parameters, Part, as_adapter
from jaxopt_lite.specialists.library import Library, unknown_fisher

__all__ = ["Compressed", "compress", "flat", "linear_parameters", "unflat"]


def linear_parameters(library: Library) -> Parameters:
    """The parameters of all its specialists in the linear form of the adapter, `[T, ...]`; zeros change nothing."""
    params = library.base.params
    return jax.vmap(lambda a: library.adapter.to_linear(params, a))(library.parameters)


def flat(tree: Parameters) -> Float[Array, "k p"]:
    """All numbers of each specialist as one row; half precision becomes float32, for sums and squares."""
    leaves = jax.tree.leaves(tree)
    rows = jnp.concatenate([leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:])) for leaf in leaves], axis=1)
    return rows.astype(at_least_float32(rows.dtype))


def unflat(flat: Float[Array, "*k p"], like: Parameters) -> Parameters:
    """The inverse of `flat`, for one specialist or all; each leaf in its own dtype."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([math.prod(leaf.shape[1:]) for leaf in leaves])[:-1]
    parts = jnp.split(flat, ends, axis=-1)
    shaped = [
        part.reshape(*flat.shape[:-1], *leaf.shape[1:]).astype(leaf.dtype)
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, shaped)


class Compressed(NamedTuple):
    """What `compress` gives: the library, and for each specialist ‖Δ − Δ'‖ / ‖Δ‖ over all its numbers."""

    library: Library
    error: Float[Array, " T"]


def compress(library: Library, adapter: Adapter | Part) -> Compressed:
    """The library with another adapter of the same linear form: LoRA for dense matrices, by truncated SVD.

    Args:
        library: the library, for instance a merge of specialists with LoRA.
        adapter: the adapter to convert it to, for instance `LoRA("hidden", rank=4) + Shift("bias")`.

    Returns:
        The library and the relative errors; raise the rank if these are too large.

    Raises:
        ValueError: an adapter with another linear form.
    """
    adapter = as_adapter(adapter)
    if adapter.linear != library.adapter.linear:
        raise ValueError(f"{adapter} has the linear form {adapter.linear}; expected that of {library.adapter.linear}.")
    params, linear = library.base.params, linear_parameters(library)
    parameters = jax.vmap(lambda a: adapter.from_linear(params, a))(linear)
    cards = tuple(
        replace(card, parents=(mine,), recipe=f"compress(parents, {adapter!r})")
        for card, mine in zip(library.cards, library.ids, strict=True)
    )
    profile = replace(library.profile, fisher=unknown_fisher(parameters))
    result = Library(library.base, parameters, profile, adapter, cards)
    exact, close = flat(linear), flat(linear_parameters(result))
    size = jnp.linalg.norm(exact, axis=1)
    return Compressed(result, jnp.linalg.norm(exact - close, axis=1) / positive(size))
