"""Pairs of neighboring symbols: counted once, then updated while merges are made. The kernels, and the NumPy backend.

The symbols of all words are in one row. Each knows its neighbors in its word, `before` and `after`, and the number
of the pair that it forms with the next one. A merge overwrites the left symbol of each occurrence with the new one and
takes the right one out of the chain. After the last symbol there is a spare one, the neighbor of every word's ends, and
after the last pair a spare pair; so every index is in bounds.

The positions of all occurrences of a pair are together in `postings`, in order. A pair gets occurrences only in the
round in which the later of its symbols is created, so they are written once. Some may be outdated when they are read:
then the symbols at that position have changed. A merge makes at most two new occurrences and removes one symbol for
good, so `postings` never hold more than three times as many positions as there were symbols.

The merges of a round must not touch each other: no pair's right symbol is another's left one, and a pair of equal
symbols comes last. `merges.py` chooses them so.

The kernels are written once, against `Ops`. On the host they run in NumPy: a round touches about a thousand scattered
numbers, too few for a compiled loop to pay off, and nothing has to be compiled. On a device the same lines run in JAX
(`accelerator/pairs.py`) with static shapes: entries that NumPy drops from an array stay in it there, masked.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "LOOK_AHEAD",
    "Backend",
    "Candidates",
    "Groups",
    "Host",
    "Linked",
    "OnHost",
    "Ops",
    "Words",
    "apply_merges",
    "group",
    "link",
    "padded",
]

LOOK_AHEAD = 256  # the largest number of merges in a round; a tenth of it is usual


class Words(NamedTuple):
    """Concatenated distinct words: int32 [N] symbols, bool [N] which end a word, int64 [N] the count of its word."""

    symbols: np.ndarray
    last: np.ndarray
    counts: np.ndarray


class Candidates(NamedTuple):
    """Pairs on the host, one entry of each array per pair.

    Attributes:
        pair: their numbers, in the order in which they were found.
        left: the left symbols.
        right: the right symbols.
        counts: how often each occurs now.
        start: where the positions of each begin in the postings.
        length: how many positions each has there.
    """

    pair: np.ndarray
    left: np.ndarray
    right: np.ndarray
    counts: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def of(self, index) -> "Candidates":
        """The pairs at this index."""
        return Candidates(*(array[index] for array in self))


class Groups(NamedTuple):
    """Pairs as they were counted: the first `number` entries of each array, in order of (left, right).

    Attributes:
        left: the left symbols.
        right: the right symbols.
        counts: the sum of the weights of each pair's occurrences.
        start: where the occurrences of each begin, of `occurrences` in all.
        number: how many pairs there are.
        occurrences: how many occurrences there are.
    """

    left: Any
    right: Any
    counts: Any
    start: Any
    number: Any
    occurrences: Any


class Linked(NamedTuple):
    """The words as linked symbols: `N` and a spare one; `P` pairs and a spare one; room for `A` positions.

    `weight` is how often the word of each symbol occurs; 0 for the spare one. The symbol at positions that have been
    merged away, and at the spare one, is −1.
    """

    symbol: Any  # int32 [N + 1]
    before: Any  # int32 [N + 1]
    after: Any  # int32 [N + 1]
    pair: Any  # int32 [N + 1]
    weight: Any  # int64 [N + 1]
    counts: Any  # int64 [P + 1]
    postings: Any  # int32 [A]


class Host:
    """NumPy's part of the kernels. Arrays are changed in place, and shrink to what is used."""

    np = np

    @staticmethod
    def index(array):
        """The array as indices: NumPy would convert any other integer type on each use."""
        return array.astype(np.intp)

    @staticmethod
    def put(array, index, values):
        """`array[index] = values`. Entries that share an index must share the value."""
        array[index] = values
        return array

    @staticmethod
    def add(array, index, values):
        """`array[index] += values`, where entries that share an index add up."""
        np.add.at(array, index, values)
        return array

    @staticmethod
    def put_range(array, start, values):
        """`array[start : start + len(values)] = values`."""
        array[start : start + len(values)] = values
        return array

    @staticmethod
    def keep(mask, *arrays):
        """The mask and the arrays without masked-out entries, if arrays may shrink."""
        return np.ones(np.count_nonzero(mask), bool), *(array[mask] for array in arrays)

    @staticmethod
    def order(left, right, valid):
        """The stable order by (left, right); entries that are not valid come last."""
        if max(left.max(initial=0), right.max(initial=0)) < 1 << 15:  # NumPy sorts 16-bit keys by radix
            if not valid.all():
                left, right = np.where(valid, left, -1), np.where(valid, right, -1)
            left, right = left.astype(np.uint16), right.astype(np.uint16)
            order = np.argsort(right, kind="stable")
            return order[np.argsort(left[order], kind="stable")]
        key = np.where(valid, (left.astype(np.int64) << 32) | right, np.iinfo(np.int64).max)
        return np.argsort(key, kind="stable")

    @staticmethod
    def starts(begins, group):
        """Where each group begins, for entries in order of their groups."""
        return np.flatnonzero(begins)

    @staticmethod
    def totals(values, group, start):
        """The sum of each group's values, for entries in order of their groups."""
        return np.add.reduceat(values, start) if start.size else values[:0]

    @staticmethod
    def spread(end, size):
        """For each index below `size` the first row whose running total `end` exceeds it; the last row if none does."""
        return np.repeat(np.arange(end.size), np.diff(end, prepend=0))

    @staticmethod
    def may_be(condition) -> bool:
        """Whether something must be computed: not if the condition is known to be false."""
        return bool(condition)

    @staticmethod
    def running_max(values):
        """The largest entry up to each one."""
        return np.maximum.accumulate(values)


Ops = Any  # `type[Host]` or `type[Device]` of `accelerator/pairs.py`; pyright cannot follow either through `np`


def group(ops: Ops, left, right, position, weight, valid) -> tuple[Any, Any, Any, Groups]:
    """Bring the occurrences of equal pairs together, by sorting. Those of one pair must come in order of position.

    Windows overlap: `a a a` holds the pair (a, a) twice. Each occurrence counts with the weight of its word.

    Args:
        ops: where to compute, `Host` or `Device`.
        left: the first symbol of each occurrence, a signed integer [N], not negative where valid.
        right: the second symbol, likewise.
        position: where each occurrence is, int32 [N].
        weight: how much it counts, an integer [N].
        valid: which entries are occurrences, bool [N].

    Returns:
        The occurrences sorted by pair and then by position, with invalid entries last: their positions, their groups'
        numbers, and which are valid. And the groups.
    """
    np = ops.np
    valid, left, right, position, weight = ops.keep(valid, left, right, position, weight)
    size = left.size
    order = ops.order(left, right, valid)
    left, right, valid = left[order], right[order], valid[order]
    position, weight = position[order], weight[order]  # in two steps: for a whole corpus these arrays are large
    differs = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    begins = valid & np.concatenate([np.ones(min(size, 1), bool), differs])
    index = np.cumsum(begins, dtype=np.int32) - 1
    index = np.where(valid, index, size)  # a spare group for the rest
    start = ops.starts(begins, index)
    counts = ops.totals(weight, index, start)
    number, occurrences = np.sum(begins, dtype=np.int32), np.sum(valid, dtype=np.int32)
    return position, index, valid, Groups(left[start], right[start], counts, start, number, occurrences)


def link(ops: Ops, words: Words, pairs: int, postings: int) -> tuple[Linked, Groups]:
    """Link the symbols of words, and group their pairs; pairs are numbered as their groups.

    Args:
        ops: where to compute.
        words: the words, of N symbols.
        pairs: how many pairs there is room for, at least N.
        postings: how many positions there is room for, at least 3 N.
    """
    np = ops.np
    symbols, last, weights = words
    size = symbols.size
    here = np.arange(size, dtype=np.int32)
    after = np.where(last, size, here + 1).astype(np.int32)
    first = np.concatenate([np.ones(min(size, 1), bool), last[:-1]])
    before = np.where(first, size, here - 1).astype(np.int32)
    padded_symbols = np.concatenate([symbols, np.full(1, -1, np.int32)])
    position, index, valid, found = group(ops, symbols, padded_symbols[after], here, weights, ~last)
    spare = np.full(1, size, np.int32)
    pair = np.full(size + 1, pairs, np.int32)
    pair = ops.put(pair, np.where(valid, position, size), np.where(valid, index, pairs))
    return Linked(
        symbol=padded_symbols,
        before=np.concatenate([before, spare]),
        after=np.concatenate([after, spare]),
        pair=pair,
        weight=np.concatenate([weights, np.zeros(1, weights.dtype)]),
        counts=ops.put_range(np.zeros(pairs + 1, weights.dtype), 0, found.counts),
        postings=ops.put_range(np.zeros(postings, np.int32), 0, position),
    ), found


def apply_merges(ops: Ops, t: Linked, chosen: Candidates, made, size: int, pairs, used) -> tuple[Linked, Groups]:
    """Make the merges of a round everywhere, and number the new pairs.

    Args:
        ops: where to compute. `Host` changes the linked words in place.
        t: the linked words.
        chosen: the pairs to merge, in order, from `padded`.
        made: the symbols that they become, int32, one for each.
        size: at least the number of positions to look at, which is the sum of `chosen.length`.
        pairs: the number of pairs so far, and so the number of the first new one.
        used: how much of the postings is used.

    Returns:
        The linked words, and the new pairs as groups: group g is pair `pairs + g`, and its positions begin at
        `used + start[g]`.
    """
    np = ops.np
    spare, no_pair = t.symbol.size - 1, t.counts.size - 1
    valid, k, p, r = _occurrences(ops, t, chosen, size)
    x, y = ops.index(t.before[p]), ops.index(t.after[r])
    new, weight = made[k], t.weight[p]
    old_after = t.symbol[y]
    symbol = ops.put(ops.put(t.symbol, p, np.where(valid, new, -1)), r, np.full(r.size, -1, np.int32))
    # A neighbor may be merged in this round too. Then its new symbol is already there, and the pair between two merges
    # must count once: as the pair before the second.
    merged_after = symbol[y] != old_after
    left = np.where(symbol[x] == -1, t.before[x], x)
    position, index, is_new, found = group(
        ops,
        np.concatenate([symbol[left], new]),
        np.concatenate([new, old_after]),
        np.concatenate([left, p]),
        np.concatenate([weight, weight]),
        np.concatenate([valid & (x != spare), valid & (y != spare) & ~merged_after]),
    )

    counts = ops.add(t.counts, ops.index(t.pair[x]), -weight)
    counts = ops.add(counts, ops.index(t.pair[r]), np.where(merged_after, 0, -weight))
    counts = ops.put(counts, chosen.pair, np.zeros(chosen.pair.size, counts.dtype))
    counts = ops.put_range(counts, pairs, found.counts)
    counts = ops.put(counts, np.full(1, no_pair), np.zeros(1, counts.dtype))
    pair = ops.put(ops.put(t.pair, p, np.full(p.size, no_pair, np.int32)), r, np.full(r.size, no_pair, np.int32))
    at = np.where(is_new, position, spare)
    pair = ops.put(pair, at, np.where(is_new, pairs + index, no_pair).astype(np.int32))
    after = ops.put(t.after, p, y)
    before = ops.put(t.before, y, np.where(valid & (y != spare), p, spare))
    postings = ops.put_range(t.postings, used, position)
    return Linked(symbol, before, after, pair, t.weight, counts, postings), found


def _occurrences(ops: Ops, t: Linked, chosen: Candidates, size: int):
    """For every occurrence to merge, which merge k it is and the positions p and r of both symbols; spare elsewhere."""
    np = ops.np
    spare = t.symbol.size - 1
    i = ops.index(np.arange(size, dtype=np.int32))
    end = np.cumsum(chosen.length, dtype=np.int32)
    k = ops.spread(end, size)
    valid = i < end[-1]
    shift = chosen.start - np.concatenate([np.zeros(1, end.dtype), end[:-1]])
    p = ops.index(np.where(valid, t.postings[np.where(valid, shift[k] + i, 0)], spare))
    r = ops.index(t.after[p])
    valid &= (t.symbol[p] == chosen.left[k]) & (t.symbol[r] == chosen.right[k])
    if ops.may_be(np.any(chosen.left == chosen.right)):  # in a run of equal symbols take every second, from the left
        begins = valid & (t.symbol[t.before[p]] != chosen.left[k])
        nth = np.cumsum(valid, dtype=np.int32)
        first = ops.running_max(np.where(begins, nth, 0))
        valid &= (chosen.left[k] != chosen.right[k]) | ((nth - first) % 2 == 0)
    valid, k, p, r = ops.keep(valid, k, p, r)
    return valid, k, np.where(valid, p, spare), np.where(valid, r, spare)


def padded(chosen: Candidates, made: np.ndarray, size: int, no_pair: int) -> tuple[Candidates, np.ndarray]:
    """The merges of a round as the kernel takes them, padded to `size`: unused entries are the spare pair, of length 0.

    Counts are left out: the kernel knows them.
    """
    unused = size - chosen.pair.size

    def filled(array, value):
        return np.concatenate([array.astype(np.int32), np.full(unused, value, np.int32)])

    return Candidates(
        pair=filled(chosen.pair, no_pair), left=filled(chosen.left, -2), right=filled(chosen.right, -2),
        counts=np.zeros(0, np.int64), start=filled(chosen.start, 0), length=filled(chosen.length, 0),
    ), filled(made, -1)  # fmt: skip


class Backend(ABC):
    """The linked words on the host or a device; and, always on the host, all pairs so far without their counts.

    The linked words stay where they are. Only the chosen merges, the new pairs, and the counts of the candidates are
    transferred in a round.

    Attributes:
        pairs: the pairs of the words before the first round.
    """

    pairs: Candidates
    _linked: Linked
    _number = _used = 0  # how many pairs there are, and how much of the postings is used

    @abstractmethod
    def merge(self, chosen: Candidates, made: np.ndarray, watched: np.ndarray) -> tuple[Candidates, np.ndarray]:
        """Merge the chosen pairs into the symbols `made`. Returns the new pairs and the counts of the watched ones."""

    @abstractmethod
    def counts(self) -> np.ndarray:
        """The current counts of all pairs."""

    def of(self, numbers: np.ndarray, counts: np.ndarray) -> Candidates:
        """The pairs of these numbers, with the given counts."""
        left, right, start, length = (column[numbers] for column in self._columns)
        return Candidates(numbers, left, right, counts, start, length)

    def _numbered(self, found: Groups) -> Candidates:
        """New groups as pairs, which get the next numbers and are added to the known pairs."""
        number, first = int(found.number), self._number
        start = found.start[:number]
        length = np.diff(np.append(start, found.occurrences))
        new = Candidates(
            pair=np.arange(first, first + number),
            left=found.left[:number],
            right=found.right[:number],
            counts=found.counts[:number],
            start=(self._used + start).astype(np.int32),
            length=length.astype(np.int32),
        )
        self._add(new)
        self._number, self._used = first + number, self._used + int(length.sum())
        return new

    def _add(self, new: Candidates) -> None:
        columns = [new.left, new.right, new.start, new.length]
        if self._number == 0:
            self._columns = [column.copy() for column in columns]
            return
        end = self._number + new.pair.size
        for k, column in enumerate(columns):
            if end > self._columns[k].size:
                self._columns[k] = np.resize(self._columns[k], 2 * end)
            self._columns[k][self._number : end] = column


class OnHost(Backend):
    """Rounds in NumPy."""

    def __init__(self, words: Words):
        size = words.symbols.size
        self._linked, found = link(Host, words, size, 3 * size)
        self.pairs = self._numbered(found)

    def merge(self, chosen: Candidates, made: np.ndarray, watched: np.ndarray) -> tuple[Candidates, np.ndarray]:
        size = int(chosen.length.sum())
        self._make_room(2 * size)
        wanted, made = padded(chosen, made, chosen.pair.size, self._linked.counts.size - 1)
        self._linked, found = apply_merges(Host, self._linked, wanted, made, size, self._number, self._used)
        return self._numbered(found), self._linked.counts[watched]

    def _make_room(self, more: int) -> None:
        """Make room for so many more pairs and positions."""
        t, no_pair = self._linked, self._linked.counts.size - 1
        if self._number + more > no_pair:
            room = 2 * no_pair + more
            counts = np.zeros(room + 1, t.counts.dtype)
            counts[:no_pair] = t.counts[:no_pair]
            t = t._replace(counts=counts, pair=np.where(t.pair == no_pair, np.int32(room), t.pair))
        if self._used + more > t.postings.size:
            t = t._replace(postings=np.concatenate([t.postings[: self._used], np.zeros(2 * more, np.int32)]))
        self._linked = t

    def counts(self) -> np.ndarray:
        return self._linked.counts[: self._number].copy()
