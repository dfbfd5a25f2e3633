"""One round: several merges at once, applied to all words. A kernel on linked symbols; the choice is `choose.py`'s.

The symbols of all words stand in one row. Each knows its neighbours in its word, `before` and `after`, and the number
of the pair that it forms with the one after it. A merge writes the new symbol over the left one of each occurrence, and
takes the right one out of the chain. Behind the last symbol is a spare one, the neighbour of every word's ends, and
behind the last pair a spare pair; so each index is in bounds, always.

The places of all occurrences of a pair stand together in `arena`, in order. A pair gets occurrences only when the later
of its symbols comes into being, in one round, so they are written once. Some may be outdated when they are read: then
the symbols at that place are others. A merge makes at most two new occurrences and takes a symbol away for good, so
`arena` never holds more than three times as many places as there were symbols.

The merges of a round must not touch each other: no pair's right symbol is another's left one, and a pair of equal
symbols comes last.
"""

from typing import Any, NamedTuple

from jaxopt_lite.bpe.arrays import Ops
from jaxopt_lite.bpe.groups import Groups, group

__all__ = ["Chosen", "Table", "apply", "table"]


class Table(NamedTuple):
    """The words as linked symbols: `N` and a spare one; `P` pairs and a spare one; room for `A` places.

    `weight` is how often the word of each symbol occurs; the spare one weighs nothing. The symbol of what has been
    merged away, and of the spare place, is −1.
    """

    symbol: Any  # int32 [N + 1]
    before: Any  # int32 [N + 1]
    after: Any  # int32 [N + 1]
    pair: Any  # int32 [N + 1]
    weight: Any  # int64 [N + 1]
    counts: Any  # int64 [P + 1]
    arena: Any  # int32 [A]


class Chosen(NamedTuple):
    """The merges of a round, in order: the pairs, what they become, and where their places are in the arena.

    `end` is the running total of the lengths. Unused entries have the spare pair and length 0.
    """

    pair: Any  # int32 [K]
    left: Any
    right: Any
    new: Any
    start: Any
    end: Any


def table(ops: Ops, symbols, last, weights, pairs: int, places: int) -> tuple[Table, Groups]:
    """Link the words, and group their pairs; the groups are the pairs' numbers.

    Args:
        ops: where to compute.
        symbols: the words one after the other, int32 [N].
        last: which symbols end a word, bool [N].
        weights: how often each symbol's word occurs, int64 [N].
        pairs: how many pairs there is room for, at least N.
        places: how many places there is room for, at least 3 N.
    """
    np = ops.np
    size = symbols.size
    here = np.arange(size, dtype=np.int32)
    after = np.where(last, size, here + 1).astype(np.int32)
    first = np.concatenate([np.ones(min(size, 1), bool), last[:-1]])
    before = np.where(first, size, here - 1).astype(np.int32)
    padded = np.concatenate([symbols, np.full(1, -1, np.int32)])
    found = group(ops, symbols, padded[after], here, weights, ~last)
    spare = np.full(1, size, np.int32)
    pair = np.full(size + 1, pairs, np.int32)
    pair = ops.put(pair, np.where(found.valid, found.place, size), np.where(found.valid, found.group, pairs))
    return Table(
        symbol=padded,
        before=np.concatenate([before, spare]),
        after=np.concatenate([after, spare]),
        pair=pair,
        weight=np.concatenate([weights, np.zeros(1, weights.dtype)]),
        counts=ops.put_range(np.zeros(pairs + 1, weights.dtype), 0, found.counts),
        arena=ops.put_range(np.zeros(places, np.int32), 0, found.place),
    ), found


def apply(ops: Ops, t: Table, chosen: Chosen, size: int, pairs, places) -> tuple[Table, Groups]:
    """Merge, and number the new pairs.

    Args:
        ops: where to compute. `Host` changes the table in place.
        t: the table.
        chosen: the merges.
        size: at least the number of places to look at, `chosen.end[-1]`.
        pairs: the number of pairs so far; new ones are numbered from it.
        places: how much of the arena is used.

    Returns:
        The table, and the new pairs as groups: pair `pairs + g` is group g, and its places begin at
        `places + start[g]`.
    """
    np = ops.np
    spare, no_pair = t.symbol.size - 1, t.counts.size - 1
    valid, k, p, r = _occurrences(ops, t, chosen, size)
    x, y = ops.index(t.before[p]), ops.index(t.after[r])
    new, weight = chosen.new[k], t.weight[p]
    old_after = t.symbol[y]
    symbol = ops.put(ops.put(t.symbol, p, np.where(valid, new, -1)), r, np.full(r.size, -1, np.int32))
    # A neighbour may be merged in this round too. Then it is the new symbol that stands there now, and what lies
    # between two merges must count once: as what stands before the second.
    merged_after = symbol[y] != old_after
    left = np.where(symbol[x] == -1, t.before[x], x)
    found = group(
        ops,
        np.concatenate([symbol[left], new]),
        np.concatenate([new, old_after]),
        np.concatenate([left, p]),
        np.concatenate([weight, weight]),
        np.concatenate([valid & (x != spare), valid & (y != spare) & ~merged_after]),
    )

    count = ops.add(t.counts, ops.index(t.pair[x]), -weight)
    count = ops.add(count, ops.index(t.pair[r]), np.where(merged_after, 0, -weight))
    count = ops.put(count, chosen.pair, np.zeros(chosen.pair.size, count.dtype))
    count = ops.put_range(count, pairs, found.counts)
    count = ops.put(count, np.full(1, no_pair), np.zeros(1, count.dtype))
    pair = ops.put(ops.put(t.pair, p, np.full(p.size, no_pair, np.int32)), r, np.full(r.size, no_pair, np.int32))
    place = np.where(found.valid, found.place, spare)
    pair = ops.put(pair, place, np.where(found.valid, pairs + found.group, no_pair).astype(np.int32))
    after = ops.put(t.after, p, y)
    before = ops.put(t.before, y, np.where(valid & (y != spare), p, spare))
    arena = ops.put_range(t.arena, places, found.place)
    return Table(symbol, before, after, pair, t.weight, count, arena), found


def _occurrences(ops: Ops, t: Table, chosen: Chosen, size: int):
    """Which merge k, and the places p and r of both symbols, for everything to merge; the spare place elsewhere."""
    np = ops.np
    spare = t.symbol.size - 1
    i = ops.index(np.arange(size, dtype=np.int32))
    k = ops.spread(chosen.end, size)
    valid = i < chosen.end[-1]
    shift = chosen.start - np.concatenate([np.zeros(1, chosen.end.dtype), chosen.end[:-1]])
    p = ops.index(np.where(valid, t.arena[np.where(valid, shift[k] + i, 0)], spare))
    r = ops.index(t.after[p])
    valid &= (t.symbol[p] == chosen.left[k]) & (t.symbol[r] == chosen.right[k])
    if ops.may_be(np.any(chosen.left == chosen.right)):  # in a run of equal symbols every second, from the left
        begins = valid & (t.symbol[t.before[p]] != chosen.left[k])
        nth = np.cumsum(valid, dtype=np.int32)
        first = ops.running_max(np.where(begins, nth, 0))
        valid &= (chosen.left[k] != chosen.right[k]) | ((nth - first) % 2 == 0)
    valid, k, p, r = ops.keep(valid, k, p, r)
    return valid, k, np.where(valid, p, spare), np.where(valid, r, spare)
