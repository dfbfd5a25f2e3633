"""Counting pairs of neighbouring symbols on a device. The public kernel, jittable."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxopt_lite.bpe.device import Device
from jaxopt_lite.bpe.groups import group

__all__ = ["Pairs", "count_pairs"]


class Pairs(NamedTuple):
    """The distinct pairs, in order of (left, right): the first `number` entries of each array."""

    left: Int[Array, " N"]
    right: Int[Array, " N"]
    counts: Int[Array, " N"]
    number: Int[Array, ""]


@jax.jit
def count_pairs(symbols: Int[Array, " N"], weights: Int[Array, " N"]) -> Pairs:
    """Count the pairs of neighbours in a row of symbols, on the device.

    Args:
        symbols: words one after the other, a signed integer [N], with at least one negative number between two words.
            With int16, or in 64-bit mode, a GPU sorts them by radix.
        weights: how often the word of each symbol occurs, an integer [N]. Counts have its dtype: for pairs with more
            than 2³¹ occurrences it must be int64, with `jax_enable_x64` on.

    Returns:
        The distinct pairs in order of (left, right), and their number.

    Example:
        >>> import jax.numpy as jnp
        >>> pairs = count_pairs(jnp.array([0, 0, 0, -1, 0, 1]), jnp.array([2, 2, 2, 0, 5, 5]))
        >>> int(pairs.number), pairs.left[:2].tolist(), pairs.right[:2].tolist(), pairs.counts[:2].tolist()
        (2, [0, 0], [0, 1], [4, 5])
    """
    symbols, weights = jnp.asarray(symbols), jnp.asarray(weights)
    if not (jnp.issubdtype(symbols.dtype, jnp.signedinteger) and jnp.issubdtype(weights.dtype, jnp.integer)):
        raise TypeError(f"symbols and weights are {symbols.dtype} and {weights.dtype}; expected signed integers.")
    if symbols.ndim != 1 or weights.shape != symbols.shape:
        raise ValueError(f"symbols and weights have shapes {symbols.shape} and {weights.shape}; expected [N] for both.")
    following = jnp.concatenate([symbols[1:], jnp.full(min(symbols.size, 1), -1, symbols.dtype)])
    place = jnp.arange(symbols.size, dtype=jnp.int32)
    found = group(Device, symbols, following, place, weights, (symbols >= 0) & (following >= 0))
    return Pairs(found.left, found.right, found.counts, found.number)
