"""Texts as rows of pieces, which occur again and again: known pieces are looked up, and only new ones are split.

`cuts.py` says where a long text may be cut. Each piece has a number, under which the ids of its words are cached.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from jaxopt_lite.bpe.cuts import WALL, starts
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.table import Table

__all__ = ["PieceWords", "Pieces", "groups", "split_pieces"]

_BLOCK = 1 << 20  # bytes processed together: it bounds the memory, and most of it fits in a processor's caches
_MOST_PIECES, _MOST_BYTES = 500_000, 64_000_000  # about how many are cached; bytes of those too long for table arrays
_UTF8 = "utf-8", "surrogatepass"  # surrogates stand for bytes that were not UTF-8

_Item = TypeVar("_Item")


class PieceWords(NamedTuple):
    """The words of pieces, in one row.

    Attributes:
        words: the words, piece by piece.
        order: the indices of the pieces in this order, int64.
        ends: for each of these pieces, where its words end in `words`, int64.
    """

    words: list[str]
    order: np.ndarray
    ends: np.ndarray


def split_pieces(pieces: list[str], splitter: Splitter) -> PieceWords:
    """The words of pieces, each piece on its own. Empty pieces have none."""
    words: list[str] = []
    ends, alone, joined = [], [], ([], [])
    for k, piece in enumerate(pieces):
        # Any text may be cut between two such pieces. One call of a pattern is faster than thousands, and for ASCII
        # it is faster still.
        if splitter.pattern is not None and piece[:1] == " " and not piece[-1].isspace():
            joined[piece.isascii()].append(k)
        else:
            alone.append(k)
            words += splitter.words(piece)
            ends.append(len(words))
    all_ends = [np.array(ends, np.int64)]
    for group in filter(None, joined):
        row = [pieces[k] for k in group]
        new = splitter.words("".join(row))
        all_ends.append(len(words) + 1 + np.searchsorted(_lengths(new), _lengths(row)))
        words += new
    return PieceWords(words, np.array([*alone, *joined[0], *joined[1]], np.int64), np.concatenate(all_ends))


def _lengths(texts: list[str]) -> np.ndarray:
    """The cumulative numbers of characters of texts."""
    return np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))


class Pieces:
    """The ids of known pieces, and of texts as rows of pieces.

    A piece gets its number before its ids are known, and finding these may raise or be interrupted by Ctrl-C. The next
    use discards whatever was left half done.

    Args:
        splitter: splits pieces into words; it must be local.
        ids_of: the ids of words: int32, concatenated, and int64, where those of each word end.
    """

    def __init__(self, splitter: Splitter, ids_of: Callable[[list[str]], tuple[np.ndarray, np.ndarray]]):
        self._splitter, self._ids_of = splitter, ids_of
        self._is_whole = False

    def _forget(self) -> None:
        self._table = Table()
        self._ids, self._first, self._size = np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64)

    def rows(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The ids of texts.

        Args:
            texts: texts without NUL, which a table cannot tell from padding.

        Yields:
            The next ids, int32, of the texts in order, and where among them texts end, int64.
        """
        for data, begins in _ahead(_blocks(texts, self._splitter)):
            was_whole, self._is_whole = self._is_whole, False
            if not was_whole or self._table.is_full(_MOST_PIECES, _MOST_BYTES):
                self._forget()
            numbers = self._table.numbers(data, begins)
            if len(self._table) > self._size.size:
                self._learn(data, begins, numbers)
            self._is_whole = True
            size = self._size[numbers]
            ends = np.cumsum(size)
            ids = self._ids[np.arange(ends[-1]) + np.repeat(self._first[numbers] - (ends - size), size)]
            yield ids, ends[np.frombuffer(data, np.uint8)[begins] == WALL[0]]

    def _learn(self, data: bytes, begins: np.ndarray, numbers: np.ndarray) -> None:
        """Find the ids of new pieces, whose numbers follow those of the known ones."""
        known = self._size.size
        new = np.flatnonzero(numbers >= known)
        new = new[np.unique(numbers[new], return_index=True)[1]]
        ends = np.append(begins, len(data))[new + 1]
        pieces = [data[a:b] for a, b in zip(begins[new].tolist(), ends.tolist(), strict=True)]
        found = split_pieces(["" if piece == WALL else piece.decode(*_UTF8) for piece in pieces], self._splitter)
        ids, word_ends = self._ids_of(found.words)
        ends = np.append(0, word_ends)[found.ends]
        first, size = np.empty(len(pieces), np.int64), np.empty(len(pieces), np.int64)
        size[found.order] = np.diff(ends, prepend=0)
        first[found.order] = self._ids.size + ends - size[found.order]
        self._ids, self._first = np.append(self._ids, ids), np.append(self._first, first)
        self._size = np.append(self._size, size)


def _blocks(texts: Sequence[str], splitter: Splitter) -> Iterator[tuple[bytes, np.ndarray]]:
    """The texts in UTF-8, each followed by `WALL`, and where pieces start; long texts in parts.

    A part ends at the last cut that can be seen without the text after it. More text only adds cuts.
    """
    for group in groups(texts, _BLOCK):
        data = b"".join(text.encode(*_UTF8) + WALL for text in group)
        at, size = 0, _BLOCK
        while at < len(data):
            block = data[at : at + size]
            begins = starts(block, splitter.pattern)
            if at + size < len(data):
                if begins.size == 1:
                    size *= 2
                    continue
                block, begins = block[: begins[-1]], begins[:-1]
            yield block, begins
            at, size = at + len(block), _BLOCK


def _ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items; a thread prepares the next one meanwhile, since NumPy releases the interpreter lock."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item


def groups(texts: Sequence[str], most: int) -> Iterator[list[str]]:
    """Groups of texts to work on together, each of about `most` characters or a single longer text."""
    group, size = [], 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= most:
            yield group
            group, size = [], 0
    if group:
        yield group
