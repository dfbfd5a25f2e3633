"""Encoding very many words at once on a device. In every round each word merges all occurrences of its first pair.

`bpe/encode_words.py` explains why this equals one merge at a time. Words are rows here, padded to one of a few lengths.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxopt_lite.bpe.vocabulary import Vocabulary
from jaxopt_lite.sizes import round_up

__all__ = ["Rules", "has_accelerator", "merge_rows", "merge_words", "rules_of"]

_SHORTEST = 8
_BLOCKS = (1024, 16_384)  # words per call: two sizes, so that few programs are compiled
_NO_RANK = 2**31 - 1


def has_accelerator() -> bool:
    """Whether JAX's default backend is something other than a CPU."""
    return jax.default_backend() != "cpu"


class Rules(NamedTuple):
    """Merges, sorted by (left, right): int32, padded to powers of two.

    Attributes:
        start: the merges of the left symbol a are those from `start[a]` to `start[a + 1]`.
        right: the right symbol of each merge.
        rank: its index in the order of merges.
        new: the id that the merge of each rank makes.
    """

    start: Array
    right: Array
    rank: Array
    new: Array


def rules_of(vocabulary: Vocabulary) -> tuple[Rules, int]:
    """The merges of a vocabulary as arrays on a device, and the steps of a search among those of one left symbol."""
    left, right = vocabulary.merges.T
    order = np.lexsort((right, left))
    start = np.searchsorted(left[order], np.arange(len(vocabulary.tokens) + 1))
    most = int(np.diff(start).max(initial=0))

    def padded(values, fill: int) -> Array:
        return jnp.asarray(
            np.pad(values.astype(np.int32), (0, round_up(values.size + 1) - values.size), constant_values=fill)
        )

    ranks = np.arange(left.size)[order]
    rules = Rules(padded(start, left.size), padded(right[order], -1), padded(ranks, 0), padded(vocabulary.merged, 0))
    return rules, most.bit_length()


@partial(jax.jit, static_argnames="steps")
def merge_rows(rules: Rules, rows: Int[Array, "n L"], *, steps: int) -> Int[Array, "n L"]:
    """Encode words, one per row.

    Args:
        rules: the merges, from `rules_of`.
        rows: int32 `[n, L]`, the base symbols of every word, then -1.
        steps: the steps of the search, from `rules_of`.

    Returns:
        int32 `[n, L]`, the ids of every word, then -1.
    """
    position = jnp.arange(rows.shape[1] - 1, dtype=jnp.int32)

    def merge(state):
        ids, rank = state
        first = jnp.min(rank, axis=1, keepdims=True)
        there = (rank == first) & (first < _NO_RANK)
        # Occurrences overlap only in runs of one symbol; there every second one counts, from the left.
        since = position - jax.lax.cummax(jnp.where(there, -1, position), axis=1)
        there &= since % 2 == 1
        there = jnp.pad(there, ((0, 0), (0, 1)))
        new = rules.new.at[jnp.where(first < _NO_RANK, first, 0)].get(mode="promise_in_bounds")
        ids = _without(jnp.where(there, new, ids), jnp.pad(there[:, :-1], ((0, 0), (1, 0))))
        return ids, _ranks(rules, ids, steps)

    ids, _ = jax.lax.while_loop(lambda s: jnp.any(s[1] < _NO_RANK), merge, (rows, _ranks(rules, rows, steps)))
    return ids


def _ranks(rules: Rules, ids: Int[Array, "n L"], steps: int) -> Int[Array, "n m"]:
    """The rank of every pair of neighbors, `[n, L - 1]`, by bisection among the merges of its left symbol."""
    left, right = ids[:, :-1], ids[:, 1:]
    known = jnp.maximum(left, 0)
    low = rules.start.at[known].get(mode="promise_in_bounds")
    end = high = rules.start.at[known + 1].get(mode="promise_in_bounds")
    for _ in range(steps):
        middle = (low + high) // 2  # at most M, so in bounds: the arrays are longer
        before = rules.right.at[middle].get(mode="promise_in_bounds") < right
        open_ = low < high
        low, high = jnp.where(open_ & before, middle + 1, low), jnp.where(open_ & ~before, middle, high)
    found = (low < end) & (rules.right.at[low].get(mode="promise_in_bounds") == right) & (right >= 0) & (left >= 0)
    return jnp.where(found, rules.rank.at[low].get(mode="promise_in_bounds"), _NO_RANK)


def _without(ids: Int[Array, "n L"], gone: Array) -> Int[Array, "n L"]:
    """The rows without the entries marked as gone, moved together to the left, then -1."""
    count, length = ids.shape
    target = jnp.where(gone, length, jnp.cumsum(~gone, axis=1, dtype=jnp.int32) - 1)
    row = jnp.arange(count, dtype=jnp.int32)[:, None]
    closed = jnp.full((count, length + 1), -1, jnp.int32)  # the last column takes what is gone
    return closed.at[row, target].set(jnp.where(gone, -1, ids), mode="promise_in_bounds")[:, :-1]


def merge_words(symbols: np.ndarray, lengths: np.ndarray, rules: Rules, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Encode words.

    Args:
        symbols: int32 `[N]`, the base symbols of all words.
        lengths: int64 `[n]`, how many each word has. Words are padded to 8, 16, 32, … symbols.
        rules: from `rules_of`, on the device to work on.
        steps: from `rules_of`.

    Returns:
        The ids of all words, int32, and how many each word has.
    """
    starts = np.cumsum(lengths) - lengths
    sizes, parts = np.zeros_like(lengths), []
    longest, least = _SHORTEST, -1
    while least < lengths.max(initial=-1):
        for block in _blocks(np.flatnonzero((lengths > least) & (lengths <= longest))):
            rows = np.full((_room(block.size), longest), -1, np.int32)
            inside = np.arange(longest) < lengths[block, None]
            rows[: block.size][inside] = symbols[(starts[block, None] + np.arange(longest))[inside]]
            merged = np.asarray(merge_rows(rules, jnp.asarray(rows), steps=steps))[: block.size]
            sizes[block] = (merged >= 0).sum(axis=1)
            parts.append((block, merged))
        least, longest = longest, 2 * longest
    ids, ends = np.empty(sizes.sum(), np.int32), np.cumsum(sizes)
    for block, merged in parts:
        first = (ends - sizes)[block, None]
        there = merged >= 0
        ids[(first + np.arange(merged.shape[1]))[there]] = merged[there]
    return ids, sizes


def _blocks(words: np.ndarray) -> list[np.ndarray]:
    """Large blocks, and small ones for the rest if that computes less."""
    small, large = _BLOCKS
    whole = words.size - words.size % large
    if words.size - whole > large // 2:
        whole = words.size
    blocks = [words[i : i + large] for i in range(0, whole, large)]
    return blocks + [words[i : i + small] for i in range(whole, words.size, small)]


def _room(size: int) -> int:
    return next(block for block in _BLOCKS if size <= block)
