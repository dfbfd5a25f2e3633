"""Counting pairs of neighbouring symbols: by sorting, so that equal pairs stand together. A kernel, jittable.

Windows overlap: `a a a` holds the pair (a, a) twice. Each occurrence counts with the weight of its word.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxopt_lite.bpe.arrays import Device, Ops

__all__ = ["Groups", "Pairs", "count_pairs", "group"]


class Pairs(NamedTuple):
    """The distinct pairs, in order of (left, right): the first `number` entries of each array."""

    left: Int[Array, " N"]
    right: Int[Array, " N"]
    counts: Int[Array, " N"]
    number: Int[Array, ""]


class Groups(NamedTuple):
    """Occurrences of pairs, sorted by pair and then by place; entries that are no occurrence are at the end.

    Per occurrence, `[N]`: its `place`, the number of its `group`, and whether it is `valid`. Per group, in the first
    `number` entries: its symbols, the sum of its weights, and where its occurrences begin.
    """

    place: Any
    group: Any
    valid: Any
    left: Any
    right: Any
    counts: Any
    start: Any
    number: Any


def group(ops: Ops, left, right, place, weight, valid) -> Groups:
    """Bring the occurrences of equal pairs together. Those of one pair must come in order of their places.

    Args:
        ops: where to compute, `Host` or `Device`.
        left: the first symbol of each occurrence, a signed integer [N], not negative where valid.
        right: the second.
        place: where it is, int32 [N].
        weight: what it counts, an integer [N].
        valid: which entries are occurrences, bool [N].
    """
    np = ops.np
    size = left.size
    order = ops.order(left, right, valid)
    left, right, place, weight, valid = (array[order] for array in (left, right, place, weight, valid))
    differs = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    begins = valid & np.concatenate([np.ones(min(size, 1), bool), differs])
    index = np.cumsum(begins, dtype=np.int32) - 1
    index = np.where(valid, index, size)  # a spare group for the rest
    counts = ops.add(np.zeros(size + 1, weight.dtype), index, weight)[:size]
    start = np.zeros(size + 1, np.int32)
    start = ops.put(start, np.where(begins, index, size), np.where(begins, np.arange(size, dtype=np.int32), 0))[:size]
    return Groups(place, index, valid, left[start], right[start], counts, start, np.sum(begins, dtype=np.int32))


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
