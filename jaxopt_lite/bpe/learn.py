"""Learning merges: the loop of rounds around `choose.py` (what to merge) and `rounds.py` (merging it everywhere).

The candidates are the first few thousand pairs of the order. Counts of known pairs only fall, so that no other can come
before them, and a new pair joins when it reaches their floor. When they are used up they are chosen anew from all.
"""

import numpy as np

from jaxopt_lite.bpe.backends import Backend, OnHost, Words
from jaxopt_lite.bpe.choose import LOOK_AHEAD, TIES, Candidates, Floor, Known, first, in_order

__all__ = ["Learner"]

_CANDIDATES, _MOST_CANDIDATES = 4096, 8192  # when they are chosen, and before they are chosen from themselves
_NO_SYMBOL = 2**31 - 1  # larger than any
_MOST_PLACES = 2**31 - 1


class Learner:
    """The state of a training run. `step` makes a round of merges.

    What has been learned is in `learned`, a row (left, right, count) for each merge. It grows by one call a round, so
    that it is right wherever the run is broken off; all else may be ahead of it by then.

    Args:
        words: what to learn from.
        texts: the bytes of every symbol there is so far; symbol k is the k-th. New ones are numbered on.
        tie: which of equally frequent pairs comes first, one of `TIES`.
        min_frequency: pairs that occur less often are not merged; at least 1.
        max_length: the longest text of a symbol, in bytes; `None` for no limit.
        lengths: the length of each text in other units than bytes, for `max_length`.
        device: an accelerator to work on; `None` for the host.
    """

    def __init__(self, words: Words, texts, *, tie="id", min_frequency=1, max_length=None, lengths=None, device=None):
        if 3 * words.symbols.size > _MOST_PLACES:
            raise ValueError(
                f"the distinct words hold {words.symbols.size:,} symbols; expected at most {_MOST_PLACES // 3:,}. "
                "Leave out rare words, or words that are no words."
            )
        self.texts = list(texts)
        self._lengths = [len(text) for text in self.texts] if lengths is None else list(lengths)
        self.learned: list[tuple[int, int, int]] = []
        self._least, self._max_length = max(1, min_frequency), max_length
        self._choose, self._is_by_id = TIES[tie], tie == "id"
        self._backend = _backend(words, device)
        self._known = Known(self._backend.pairs)
        self._numbers, self._counts = np.zeros(0, np.intp), np.zeros(0, np.int64)  # of the candidates
        self._floor = Floor(0, 0, 0)

    def step(self, most: int) -> int:
        """Make a round of at most `most` merges. Returns how many; none when there is nothing left to merge."""
        if most < 1 or not (self._numbers.size or self._look_again()):
            return 0
        likely = first(self._counts, min(most, LOOK_AHEAD))
        chosen = self._choose(self._known.of(self._numbers[likely], self._counts[likely]), most, self.texts)
        end = len(self.texts)
        made = np.arange(end, end + chosen.counts.size, dtype=np.int32)
        new, counts = self._backend.merge(chosen, made, self._numbers)
        self._record(list(zip(chosen.left.tolist(), chosen.right.tolist(), chosen.counts.tolist(), strict=True)))
        self._known.add(new)
        kept, fresh = counts >= max(self._least, self._floor.least), self._eligible(new)
        equal = np.flatnonzero(counts == self._floor.least)  # few; the others need no second look
        kept[equal] &= self._floor.reached_by(self._known.of(self._numbers[equal], counts[equal]))
        self._numbers = np.concatenate([self._numbers[kept], fresh.pair])
        self._counts = np.concatenate([counts[kept], fresh.counts])
        if self._numbers.size > _MOST_CANDIDATES:
            self._cut(self._known.of(self._numbers, self._counts))
        return chosen.counts.size

    def resume(self, learned: list[tuple[int, int, int]]) -> None:
        """Take over what an earlier run on the same words has learned."""
        first = len(self.texts)
        merges = np.array([pair for *pair, _ in learned], np.int32).reshape(-1, 2)
        self.replay(merges, np.arange(first, first + len(merges), dtype=np.int32))
        self._record(learned)

    def replay(self, merges: np.ndarray, made: np.ndarray) -> None:
        """Make merges that were learned before, `[M, 2]`, into the symbols `made`, `[M]`; before the first `step`.

        As many at a time as do not touch each other. Those of which the words hold nothing leave no trace.
        """
        known = _by_symbols(self._backend.pairs)
        for group in _independent(merges.tolist(), made.tolist()):
            there = [(known[pair], z) for pair, z in group if pair in known]
            if there:
                rows, symbols = zip(*there, strict=True)
                chosen = Candidates(*(np.asarray(column) for column in zip(*rows, strict=True)))
                new, _ = self._backend.merge(chosen, np.asarray(symbols, np.int32), chosen.pair[:0])
                self._known.add(new)
                known.update(_by_symbols(new))

    def _record(self, rows: list[tuple[int, int, int]]) -> None:
        for left, right, _ in rows:
            self.texts.append(self.texts[left] + self.texts[right])
            self._lengths.append(self._lengths[left] + self._lengths[right])
        self.learned += rows

    def _look_again(self) -> bool:
        """Choose the candidates anew from all pairs; whether there are any."""
        self._floor = Floor(0, 0, 0)
        counts = self._backend.counts()
        numbers = np.flatnonzero(counts >= self._least)
        self._cut(self._eligible(self._known.of(numbers, counts[numbers])))
        return self._numbers.size > 0

    def _cut(self, pairs: Candidates) -> None:
        """Make the first few thousand pairs the candidates, with the last of them as the floor."""
        if pairs.counts.size > _CANDIDATES:
            if self._is_by_id:
                pairs = in_order(pairs, _CANDIDATES)
                self._floor = Floor(int(pairs.counts[-1]), int(pairs.left[-1]), int(pairs.right[-1]))
            else:  # equals by count stay together
                pairs = pairs.of(first(pairs.counts, _CANDIDATES))
                self._floor = Floor(int(pairs.counts.min()), _NO_SYMBOL, _NO_SYMBOL)
        self._numbers, self._counts = pairs.pair, pairs.counts

    def _eligible(self, pairs: Candidates) -> Candidates:
        """Those that may be merged, and that nothing unknown can come before."""
        allowed = (pairs.counts >= self._least) & self._floor.reached_by(pairs)
        if self._max_length is not None:
            lengths = np.asarray(self._lengths)
            allowed &= lengths[pairs.left] + lengths[pairs.right] <= self._max_length
        return pairs.of(allowed)


def _backend(words: Words, device) -> Backend:
    if device is None:
        return OnHost(words)
    from jaxopt_lite.bpe.on_device import OnDevice  # it loads JAX, which the host can do without

    return OnDevice(words, device)


def _by_symbols(pairs: Candidates) -> dict[tuple[int, int], tuple]:
    """What is known of each pair, by (left, right)."""
    return dict(zip(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True), zip(*pairs, strict=True), strict=True))


def _independent(merges, made):
    """Split a list of merges, in order, into runs that can be made at once: lists of ((left, right), new)."""
    group, lefts, rights, new = [], set(), set(), set()
    for (left, right), z in zip(merges, made, strict=True):
        touches = left in rights or right in lefts or left in new or right in new
        if touches or len(group) == LOOK_AHEAD or (group and group[-1][0][0] == group[-1][0][1]):
            yield group
            group, lefts, rights, new = [], set(), set(), set()
        group.append(((left, right), z))
        lefts.add(left)
        rights.add(right)
        new.add(z)
    if group:
        yield group
