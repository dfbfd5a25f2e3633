"""Which merges come next: the sequential algorithm's choice, many at a time and exactly.

The sequential algorithm merges the pair with the largest count, of equals the one with the smallest (left, right), and
counts again. With all pairs in that order, take the longest prefix in which no pair's right symbol is another's left
one, cut behind the first pair of equal symbols. These are its next merges, in order:

Merging q = (a, b) into z changes the count of no other pair of the prefix, and lowers those of old pairs outside. A new
pair (x, z) occurs at most as often as (x, a) did. If it came before a later pair s of the prefix, so did (x, a): by its
count, or at equal counts because z, the newest symbol, is larger than all of s. Then (x, a) is in the prefix, beside
(a, b): a contradiction. The same holds for (z, y) with (b, y), and for two new symbols side by side. Only (z, z) from
q = (a, a) comes from q itself, hence the cut.

With other rules for ties a new pair may come first, and they choose one merge at a time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["LOOK_AHEAD", "TIES", "Candidates", "Floor", "Known", "best", "first", "in_order", "prefix"]

LOOK_AHEAD = 256  # merges a round at most; a tenth of it is usual


class Candidates(NamedTuple):
    """Pairs, an array entry each: number, symbols, count, and where the places are in the arena, and how many."""

    pair: np.ndarray
    left: np.ndarray
    right: np.ndarray
    counts: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def of(self, index) -> "Candidates":
        """Some of them."""
        return Candidates(*(array[index] for array in self))

    def joined(self, others: "Candidates") -> "Candidates":
        """These and others."""
        return Candidates(*(np.concatenate(arrays) for arrays in zip(self, others, strict=True)))


class Known:
    """All pairs so far, by number: all about them but their counts, which change."""

    def __init__(self, pairs: Candidates):
        self.size = pairs.pair.size
        self._columns = [column.copy() for column in (pairs.left, pairs.right, pairs.start, pairs.length)]

    def add(self, pairs: Candidates) -> None:
        """Add new pairs, which are numbered on."""
        end = self.size + pairs.pair.size
        for k, new in enumerate((pairs.left, pairs.right, pairs.start, pairs.length)):
            if end > self._columns[k].size:
                self._columns[k] = np.resize(self._columns[k], 2 * end)
            self._columns[k][self.size : end] = new
        self.size = end

    def of(self, numbers: np.ndarray, counts: np.ndarray) -> Candidates:
        """Some of them, with their counts."""
        left, right, start, length = (column[numbers] for column in self._columns)
        return Candidates(numbers, left, right, counts, start, length)


class Floor(NamedTuple):
    """The last place in the order that is known: every pair that is not among the candidates comes after it."""

    least: int
    left: int
    right: int

    def reached_by(self, pairs: Candidates) -> np.ndarray:
        """Which pairs do not come after it."""
        earlier = (pairs.left < self.left) | ((pairs.left == self.left) & (pairs.right <= self.right))
        return (pairs.counts > self.least) | ((pairs.counts == self.least) & earlier)


def first(counts: np.ndarray, most: int) -> np.ndarray:
    """Where the largest counts are, so many or, with all equals of the last, more."""
    if counts.size <= most:
        return np.arange(counts.size)
    return np.flatnonzero(counts >= np.partition(counts, -most)[-most])


def in_order(pairs: Candidates, most: int) -> Candidates:
    """The first of the pairs by (count, the largest first; left; right)."""
    if pairs.counts.size > most:  # all that may be among them, before sorting
        pairs = pairs.of(first(pairs.counts, most))
    return pairs.of(np.lexsort((pairs.right, pairs.left, -pairs.counts))[:most])


def prefix(pairs: Candidates, most: int, texts: list[bytes]) -> Candidates:
    """The next merges under the default rule for ties: the smallest (left, right) first."""
    pairs = in_order(pairs, min(most, LOOK_AHEAD))
    lefts, rights = set(), set()
    for k, (left, right) in enumerate(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)):
        if left in rights or right in lefts:
            return pairs.of(slice(k))
        if left == right:
            return pairs.of(slice(k + 1))
        lefts.add(left)
        rights.add(right)
    return pairs


def best(rank: Callable[[bytes, bytes], Any]) -> Callable[[Candidates, int, list[bytes]], Candidates]:
    """The next merge alone: of the most frequent pairs the one whose texts have the smallest `rank`."""

    def choose(pairs: Candidates, most: int, texts: list[bytes]) -> Candidates:
        tied = np.flatnonzero(pairs.counts == pairs.counts.max())
        first = min(tied.tolist(), key=lambda k: rank(texts[pairs.left[k]], texts[pairs.right[k]]))
        return pairs.of([first])

    return choose


def _largest_strings(left: bytes, right: bytes):
    """subword-nmt: the largest pair of strings, by code points; UTF-8 has their order."""
    return _Reversed((left, right))


class _Reversed(tuple):
    """A tuple of tuples in the opposite order."""

    def __lt__(self, other):
        return tuple(self) > tuple(other)


def _shortest_string(left: bytes, right: bytes):
    """sentencepiece: the shortest merged string, by characters, then the smallest."""
    merged = left + right
    return len(merged.decode("utf-8", "replace")), merged


TIES = {"id": prefix, "subword-nmt": best(_largest_strings), "sentencepiece": best(_shortest_string)}
