"""Counting and merging pairs on a device: the kernels of `bpe/pairs.py` in JAX, and `count_pairs`, the public one.

Sizes are rounded up to a few values, so that a few compiled programs serve all rounds.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxopt_lite.bpe.pairs import (
    LOOK_AHEAD,
    Backend,
    Candidates,
    Groups,
    Linked,
    Words,
    apply_merges,
    group,
    link,
    padded,
)
from jaxopt_lite.sizes import round_up

__all__ = ["Device", "OnDevice", "Pairs", "count_pairs"]

_SMALLEST = 1024  # the smallest static size


class Pairs(NamedTuple):
    """The distinct pairs, in order of (left, right): the first `number` entries of each array."""

    left: Int[Array, " N"]
    right: Int[Array, " N"]
    counts: Int[Array, " N"]
    number: Int[Array, ""]


@jax.jit
def count_pairs(symbols: Int[Array, " N"], weights: Int[Array, " N"]) -> Pairs:
    """Count the pairs of neighbors in a row of symbols, on the device.

    Args:
        symbols: concatenated words, a signed integer [N], with at least one negative number between any two words. If
            they are int16, or below 2³² in 64-bit mode, a GPU sorts them by radix, which is faster.
        weights: how often the word of each symbol occurs, an integer [N]. Counts have its dtype: for pairs with more
            than 2³¹ occurrences it must be int64, with `jax_enable_x64` on.

    Returns:
        The distinct pairs in order of (left, right), and their number.

    Example:
        >>> import jax.numpy as jnp
        >>> pairs = count_pairs(jnp.array([0, 0, 0, -1, 0, 1]), jnp.array([2, 2, 2, 0, 5, 5]))
        >>> int(pairs.number), pairs.counts[:2].tolist()
        (2, [4, 5])
        >>> pairs.left[:2].tolist(), pairs.right[:2].tolist()
        ([0, 0], [0, 1])
    """
    symbols, weights = jnp.asarray(symbols), jnp.asarray(weights)
    if not (jnp.issubdtype(symbols.dtype, jnp.signedinteger) and jnp.issubdtype(weights.dtype, jnp.integer)):
        raise TypeError(f"symbols and weights are {symbols.dtype} and {weights.dtype}; expected signed integers.")
    if symbols.ndim != 1 or weights.shape != symbols.shape:
        raise ValueError(f"symbols and weights have shapes {symbols.shape} and {weights.shape}; expected [N] for both.")
    following = jnp.concatenate([symbols[1:], jnp.full(min(symbols.size, 1), -1, symbols.dtype)])
    position = jnp.arange(symbols.size, dtype=jnp.int32)
    *_, found = group(Device, symbols, following, position, weights, (symbols >= 0) & (following >= 0))
    return Pairs(found.left, found.right, found.counts, found.number)


class Device:
    """The JAX part of the kernels, as `Host` is NumPy's. Arrays keep their shapes, and masked entries stay in them."""

    np = jnp

    @staticmethod
    def index(array):
        """The array as indices."""
        return array

    @staticmethod
    def put(array, index, values):
        """`array[index] = values`. Entries that share an index must share the value."""
        return array.at[index].set(values, mode="promise_in_bounds")

    @staticmethod
    def add(array, index, values):
        """`array[index] += values`, where entries that share an index add up."""
        return array.at[index].add(values, mode="promise_in_bounds")

    @staticmethod
    def put_range(array, start, values):
        """`array[start : start + len(values)] = values`; the range must be in bounds."""
        return jax.lax.dynamic_update_slice(array, values, (start,))

    @staticmethod
    def keep(mask, *arrays):
        """The mask and the arrays, unchanged: arrays cannot shrink here."""
        return mask, *arrays

    @staticmethod
    def order(left, right, valid):
        """The stable order by (left, right); entries that are not valid come last.

        On a GPU a single unsigned key is sorted by radix, many times faster. It has room for both symbols if they are
        16-bit integers, or in 64-bit mode unless one has more than 32 bits.
        """
        index = jnp.arange(left.size, dtype=jnp.int32)

        def together(word, shift: int):
            key = jnp.where(valid, (left.astype(word) << shift) | right.astype(word), word(jnp.iinfo(word).max))
            return jax.lax.sort((key, index), num_keys=1)[1]

        def apart():
            word = jnp.uint32 if left.dtype.itemsize == 4 else jnp.uint64  # its largest number is not a symbol
            last = word(jnp.iinfo(word).max)
            one, other = (jnp.where(valid, symbols.astype(word), last) for symbols in (left, right))
            return jax.lax.sort((one, other, index), num_keys=2)[2]

        if left.dtype.itemsize <= 2:
            return together(jnp.uint32, 16)
        if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            return apart()
        if left.dtype.itemsize == 4:
            return together(jnp.uint64, 32)
        fits = jnp.max(left, initial=0) < 2**32
        return jax.lax.cond(fits & (jnp.max(right, initial=0) < 2**32), lambda: together(jnp.uint64, 32), apart)

    @staticmethod
    def starts(begins, group):
        """Where each group begins, for entries in order of their groups; 0 for unused groups."""
        size = begins.size
        positions = jnp.where(begins, jnp.arange(size, dtype=jnp.int32), 0)
        return Device.put(jnp.zeros(size + 1, jnp.int32), jnp.where(begins, group, size), positions)[:size]

    @staticmethod
    def totals(values, group, start):
        """The sum of each group's values, for entries in order of their groups; the rest are in group N."""
        return Device.add(jnp.zeros(values.size + 1, values.dtype), group, values)[: values.size]

    @staticmethod
    def spread(end, size):
        """For each index below `size` the first row whose running total `end` exceeds it; the last row if none does."""
        rows = jnp.searchsorted(end, jnp.arange(size, dtype=jnp.int32), side="right")
        return jnp.minimum(rows, end.size - 1).astype(jnp.int32)

    @staticmethod
    def may_be(condition) -> bool:
        """Whether something must be computed: always, since this is decided before any value is known."""
        return True

    @staticmethod
    def running_max(values):
        """The largest entry up to each one."""
        return jax.lax.cummax(values)


class OnDevice(Backend):
    """Rounds in JAX."""

    def __init__(self, words: Words, device):
        self._device = device
        size = words.symbols.size
        with jax.enable_x64(True), jax.default_device(device):
            self._linked, found = _start(jax.device_put(words, device), _room(size), 3 * size + 2 * _room(size))
            self.pairs = self._numbered(jax.device_get(found))

    def merge(self, chosen: Candidates, made: np.ndarray, watched: np.ndarray) -> tuple[Candidates, np.ndarray]:
        size = _room(int(chosen.length.sum()))
        self._make_room(2 * size)
        wanted, made = padded(chosen, made, LOOK_AHEAD, self._linked.counts.size - 1)
        asked = np.full(_room(watched.size), self._linked.counts.size - 1, np.int32)
        asked[: watched.size] = watched
        so_far = np.int32(self._number), np.int32(self._used)
        with jax.enable_x64(True), jax.default_device(self._device):
            self._linked, *found = _merge(self._linked, wanted, made, asked, *so_far, size)
            found, counts = jax.device_get(found)  # all at once: each transfer waits for the device
        return self._numbered(found), counts[: watched.size]

    def _make_room(self, more: int) -> None:
        """Make room for so many more pairs and positions; the padding that a round writes must fit too."""
        no_pair = self._linked.counts.size - 1
        with jax.enable_x64(True), jax.default_device(self._device):
            if self._number + more > no_pair:
                self._linked = _with_more_pairs(self._linked, _room(2 * no_pair + more))
            if self._used + more > self._linked.postings.size:
                self._linked = _with_more_postings(self._linked, 2 * more)

    def counts(self) -> np.ndarray:
        with jax.enable_x64(True):
            return np.array(self._linked.counts)[: self._number]


def _room(size: int) -> int:
    """A size rounded up to 1024 times a power of four: few programs are compiled, and masked work is cheap here."""
    power = round_up(-(-size // _SMALLEST))
    return _SMALLEST * (power if power.bit_length() % 2 else 2 * power)


@partial(jax.jit, static_argnums=(1, 2))
def _start(words: Words, pairs: int, postings: int) -> tuple[Linked, Groups]:
    return link(Device, words, pairs, postings)


@partial(jax.jit, static_argnums=6, donate_argnums=0)
def _merge(t: Linked, chosen: Candidates, made, watched, pairs, used, size: int):
    t, found = apply_merges(Device, t, chosen, made, size, pairs, used)
    return t, found, t.counts.at[watched].get(mode="promise_in_bounds")


@partial(jax.jit, static_argnums=1)
def _with_more_pairs(t: Linked, room: int) -> Linked:
    no_pair = t.counts.size - 1
    counts = jnp.zeros(room + 1, t.counts.dtype).at[:no_pair].set(t.counts[:no_pair])
    return t._replace(counts=counts, pair=jnp.where(t.pair == no_pair, room, t.pair).astype(t.pair.dtype))


@partial(jax.jit, static_argnums=1)
def _with_more_postings(t: Linked, more: int) -> Linked:
    return t._replace(postings=jnp.pad(t.postings, (0, more)))
