"""Counting the words of texts, for this process and for workers (`workers.py`)."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain

import numpy as np

from jaxopt_lite.bpe.cuts import WALL, starts
from jaxopt_lite.bpe.patterns import Finder, Splitter
from jaxopt_lite.bpe.table import Table

__all__ = ["Find", "Tally"]

MOST_PIECES = 500_000  # about 50 MB
MOST_BYTES = 64_000_000  # of pieces too long for the table
# A function of texts with `WALL` between them and a pattern, as in `cuts.starts`. It returns where pieces start and, if
# equal ones have been counted, their lengths and how often each occurs.
Find = Callable[[bytes, str | None], tuple[np.ndarray, ...]]
_UTF8 = "utf-8", "surrogatepass"  # surrogates stand for bytes that were not UTF-8


class Tally:
    """Word counts of the texts added so far.

    Pieces (see `cuts.py`) are counted first, and only the distinct ones are split into words. Their number is bounded,
    so that memory grows with the distinct words of the corpus and not with its size.
    """

    def __init__(self, splitter: Splitter, special: Finder | None = None, find: Find | None = None):
        self.splitter, self.special = splitter, special
        self.find = find or _find
        self.table, self.counts = Table(), np.zeros(0, np.int64)
        self.word_counts: Counter[str] = Counter()

    def do(self, texts: list[str]) -> None:
        """Count the words of these texts."""
        pieces, firsts = texts, [True] * len(texts)
        if self.special is not None and self.special.finds(texts):
            cut = [(piece, not k) for text in texts for k, (token, piece) in enumerate(self.special.cut(text))
                   if token is None]  # fmt: skip
            pieces, firsts = [piece for piece, _ in cut], [is_first for _, is_first in cut]
        if not self.splitter.local:
            self.word_counts.update(chain.from_iterable(map(self.splitter.words, pieces, firsts)))
            return
        data = WALL.join(piece.encode(*_UTF8) for piece in pieces)
        if b"\0" in data:  # a table cannot tell it from padding
            distinct = Counter(chain.from_iterable(map(self.splitter.chunks, pieces)))
            self._split(distinct.items())
        elif data:
            self._count(data, *self.find(data, self.splitter.pattern))
        if self.table.is_full(MOST_PIECES, MOST_BYTES):
            self._empty_table()

    def end(self) -> Counter[str]:
        """The counts."""
        self._empty_table()
        return self.word_counts

    def _empty_table(self) -> None:
        pieces = self.table.items(self.counts)
        self.table, self.counts = Table(), np.zeros(0, np.int64)
        self._split((piece.decode(*_UTF8), count) for piece, count in pieces if piece != WALL)

    def _count(self, data: bytes, starts: np.ndarray, *found: np.ndarray) -> None:
        """Count the pieces that start here: once each, or, if their lengths and counts are given, so many times."""
        lengths, times = found or (None, None)
        numbers = self.table.numbers(data, starts, lengths)
        before, self.counts = self.counts, np.bincount(numbers, minlength=len(self.table))
        if times is not None:
            self.counts[:] = 0  # `bincount` would turn weights into floats
            np.add.at(self.counts, numbers, times)
        self.counts[: before.size] += before

    def _split(self, pieces: Iterable[tuple[str, int]]) -> None:
        """Split pieces into words, joining those of equal count: one call of the pattern is faster than thousands."""
        groups: dict[tuple[int, bool], list[str]] = {}
        counts = self.word_counts
        for piece, count in pieces:
            # Any text may be cut between two such pieces, so joining them is sound.
            if piece[0] == " " and not piece[-1].isspace():
                groups.setdefault((count, piece.isascii()), []).append(piece)
            else:
                for word in self.splitter.words(piece):
                    counts[word] += count
        for (count, _), joined in groups.items():
            words = self.splitter.words("".join(joined))
            if count == 1:
                counts.update(words)
            else:
                for word in words:
                    counts[word] += count


def _find(data: bytes, pattern: str | None) -> tuple[np.ndarray, ...]:
    return (starts(data, pattern),)
