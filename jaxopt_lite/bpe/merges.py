"""Learning merges: which come next, many at a time and exactly, and the loop that makes them.

The sequential algorithm (`reference.py`) merges the pair with the largest count, on ties the one with the smallest
(left, right), and counts again. With all pairs in that order, take the longest prefix in which no pair's right symbol
is another's left one, cut after the first pair of equal symbols. These are the algorithm's next merges, in order:

Merging q = (a, b) into z does not change the count of any other pair of the prefix, and can only lower those of old
pairs outside. A new pair (x, z) occurs at most as often as (x, a) did. If it came before a later pair s of the prefix,
so did (x, a): by its count, or at equal counts because z, the newest symbol, is larger than both symbols of s. Then
(x, a) is in the prefix together with (a, b): a contradiction. The same holds for (z, y) with (b, y), and for two new
symbols side by side. Only (z, z) from q = (a, a) comes from q itself, hence the cut.

With other tie-breaking rules a new pair may come first, so they choose one merge at a time.

Not all pairs are looked at in every round. The candidates are the first few thousand in the order. Counts of known
pairs only fall, so no other known pair can come before them, and a new pair joins if it reaches their floor. When the
candidates are used up, they are chosen again from all pairs. `pairs.py` makes the merges and keeps the counts.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxopt_lite.bpe.pairs import LOOK_AHEAD, Backend, Candidates, OnHost, Words
from jaxopt_lite.bpe.vocabulary import independent

__all__ = ["TIES", "Floor", "Learner", "Tie", "best", "first", "in_order", "prefix"]

_CANDIDATES, _MOST_CANDIDATES = 4096, 8192  # how many are chosen; beyond how many they are cut down again
_NO_SYMBOL = 2**31 - 1  # larger than any
_MOST_POSTINGS = 2**31 - 1


class Floor(NamedTuple):
    """The last known position in the order: every pair that is not among the candidates comes after it."""

    least: int
    left: int
    right: int

    def reached_by(self, pairs: Candidates) -> np.ndarray:
        """Which pairs do not come after it."""
        earlier = (pairs.left < self.left) | ((pairs.left == self.left) & (pairs.right <= self.right))
        return (pairs.counts > self.least) | ((pairs.counts == self.least) & earlier)


def first(counts: np.ndarray, most: int) -> np.ndarray:
    """The indices of the `most` largest counts, and of any others that equal the smallest of these."""
    if counts.size <= most:
        return np.arange(counts.size)
    return np.flatnonzero(counts >= np.partition(counts, -most)[-most])


def in_order(pairs: Candidates, most: int) -> Candidates:
    """The first `most` pairs, ordered by count, largest first, then by left and right."""
    if pairs.counts.size > most:  # drop those that cannot be among them before sorting
        pairs = pairs.of(first(pairs.counts, most))
    return pairs.of(np.lexsort((pairs.right, pairs.left, -pairs.counts))[:most])


def prefix(pairs: Candidates, most: int, texts: list[bytes]) -> Candidates:
    """The next merges under the default tie-breaking rule: the smallest (left, right) first."""
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
    """Only the next merge: among the most frequent pairs, the one whose texts have the smallest `rank`."""

    def choose(pairs: Candidates, most: int, texts: list[bytes]) -> Candidates:
        tied = np.flatnonzero(pairs.counts == pairs.counts.max())
        first = min(tied.tolist(), key=lambda k: rank(texts[pairs.left[k]], texts[pairs.right[k]]))
        return pairs.of([first])

    return choose


def _largest_strings(left: bytes, right: bytes):
    """subword-nmt: the largest pair of strings, by code points, whose order UTF-8 preserves."""
    return _Reversed((left, right))


class _Reversed(tuple):
    """A tuple with the opposite order."""

    def __lt__(self, other):
        return tuple(self) > tuple(other)


def _shortest_string(left: bytes, right: bytes):
    """sentencepiece: the shortest merged string, in characters, then the smallest."""
    merged = left + right
    return len(merged.decode("utf-8", "replace")), merged


Tie = Literal["id", "subword-nmt", "sentencepiece"]
TIES = {"id": prefix, "subword-nmt": best(_largest_strings), "sentencepiece": best(_shortest_string)}


class Learner:
    """The state of a training run. `step` makes a round of merges.

    What has been learned is in `learned`, a row (left, right, count) for each merge. It grows in one call per round, so
    that it is right wherever the run is interrupted; everything else may be ahead of it.

    Args:
        words: what to learn from.
        texts: the bytes of every symbol so far; the k-th is symbol k. New symbols get the next numbers.
        tie: which of equally frequent pairs comes first, one of `TIES`.
        min_frequency: pairs that occur less often are not merged; at least 1.
        max_length: the longest text of a symbol, in bytes or the units of `lengths`; `None` for no limit.
        lengths: the length of each text for `max_length`. Default: in bytes.
        device: an accelerator to work on; `None` for the host.
    """

    def __init__(self, words: Words, texts, *, tie="id", min_frequency=1, max_length=None, lengths=None, device=None):
        if 3 * words.symbols.size > _MOST_POSTINGS:
            raise ValueError(
                f"the distinct words hold {words.symbols.size:,} symbols; expected at most {_MOST_POSTINGS // 3:,}. "
                "Leave out rare words, or strings that are not really words."
            )
        self.texts = list(texts)
        self._lengths = [len(text) for text in self.texts] if lengths is None else list(lengths)
        self.learned: list[tuple[int, int, int]] = []
        self._least, self._max_length = max(1, min_frequency), max_length
        self._choose, self._is_by_id = TIES[tie], tie == "id"
        self._backend = _backend(words, device)
        self._numbers, self._counts = np.zeros(0, np.intp), np.zeros(0, np.int64)  # of the candidates
        self._floor = Floor(0, 0, 0)

    def step(self, most: int) -> int:
        """Make a round of at most `most` merges. Returns how many; 0 when nothing is left to merge."""
        if most < 1 or not (self._numbers.size or self._look_again()):
            return 0
        pairs = self._backend
        likely = first(self._counts, min(most, LOOK_AHEAD))
        chosen = self._choose(pairs.of(self._numbers[likely], self._counts[likely]), most, self.texts)
        end = len(self.texts)
        made = np.arange(end, end + chosen.counts.size, dtype=np.int32)
        new, counts = pairs.merge(chosen, made, self._numbers)
        self._record(list(zip(chosen.left.tolist(), chosen.right.tolist(), chosen.counts.tolist(), strict=True)))
        kept, fresh = counts >= max(self._least, self._floor.least), self._eligible(new)
        equal = np.flatnonzero(counts == self._floor.least)  # only a few need the full comparison
        kept[equal] &= self._floor.reached_by(pairs.of(self._numbers[equal], counts[equal]))
        self._numbers = np.concatenate([self._numbers[kept], fresh.pair])
        self._counts = np.concatenate([counts[kept], fresh.counts])
        if self._numbers.size > _MOST_CANDIDATES:
            self._cut(pairs.of(self._numbers, self._counts))
        return chosen.counts.size

    def resume(self, learned: list[tuple[int, int, int]]) -> None:
        """Continue from what an earlier run on the same words has learned."""
        first = len(self.texts)
        merges = np.array([pair for *pair, _ in learned], np.int32).reshape(-1, 2)
        self.replay(merges, np.arange(first, first + len(merges), dtype=np.int32))
        self._record(learned)

    def replay(self, merges: np.ndarray, made: np.ndarray) -> None:
        """Make the earlier merges `[M, 2]`, into the symbols `made`, `[M]`; call this before the first `step`.

        As many are made at a time as do not touch each other. Merges of pairs that do not occur have no effect. Two
        calls in a row do the same as one with the merges of both.
        """
        if not len(made):
            return
        counts = self._backend.counts()
        known = _by_symbols(self._backend.of(np.arange(counts.size), counts))  # also those of earlier replays
        for run in independent(merges.tolist(), made.tolist(), LOOK_AHEAD):
            there = [(known[pair], z) for pair, z in run if pair in known]
            if there:
                rows, symbols = zip(*there, strict=True)
                chosen = Candidates(*(np.asarray(column) for column in zip(*rows, strict=True)))
                new, _ = self._backend.merge(chosen, np.asarray(symbols, np.int32), chosen.pair[:0])
                known.update(_by_symbols(new))

    def _record(self, rows: list[tuple[int, int, int]]) -> None:
        for left, right, _ in rows:
            self.texts.append(self.texts[left] + self.texts[right])
            self._lengths.append(self._lengths[left] + self._lengths[right])
        self.learned += rows

    def _look_again(self) -> bool:
        """Choose the candidates from all pairs. Returns whether there are any."""
        self._floor = Floor(0, 0, 0)
        counts = self._backend.counts()
        numbers = np.flatnonzero(counts >= self._least)
        self._cut(self._eligible(self._backend.of(numbers, counts[numbers])))
        return self._numbers.size > 0

    def _cut(self, pairs: Candidates) -> None:
        """Make the first few thousand pairs the candidates, with the last of them as the floor."""
        if pairs.counts.size > _CANDIDATES:
            if self._is_by_id:
                pairs = in_order(pairs, _CANDIDATES)
                self._floor = Floor(int(pairs.counts[-1]), int(pairs.left[-1]), int(pairs.right[-1]))
            else:  # pairs of equal count stay together
                pairs = pairs.of(first(pairs.counts, _CANDIDATES))
                self._floor = Floor(int(pairs.counts.min()), _NO_SYMBOL, _NO_SYMBOL)
        self._numbers, self._counts = pairs.pair, pairs.counts

    def _eligible(self, pairs: Candidates) -> Candidates:
        """The pairs that may be merged and that no pair outside the candidates can come before."""
        allowed = (pairs.counts >= self._least) & self._floor.reached_by(pairs)
        if self._max_length is not None:
            lengths = np.asarray(self._lengths)
            allowed &= lengths[pairs.left] + lengths[pairs.right] <= self._max_length
        return pairs.of(allowed)


def _backend(words: Words, device) -> Backend:
    if device is None:
        return OnHost(words)
    from jaxopt_lite.bpe.accelerator.pairs import OnDevice  # it loads JAX, which the host does not need

    return OnDevice(words, device)


def _by_symbols(pairs: Candidates) -> dict[tuple[int, int], tuple]:
    """What is known of each pair, by (left, right)."""
    return dict(zip(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True), zip(*pairs, strict=True), strict=True))
