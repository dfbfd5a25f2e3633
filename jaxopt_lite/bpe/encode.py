"""Encoding: from texts to ids. Text repeats itself, so pieces and words are remembered, and few words need merging.

In each word the pair whose merge comes first in the order is merged, the leftmost of equals, until none is left
(`reference.encode`). From below:

- `merge_word` does that for one word, and is exact for every order of merges.
- `merge_together` does it for very many words at once, where merges are in order (`Vocabulary.is_ordered`). In every
  round each word merges all occurrences of its first pair. That is what one merge at a time makes: the pairs that a
  merge creates come later in the order, so nothing comes between two occurrences of one pair. Merging all pairs that
  come before their neighbours would not: in "abcd" with the order cd, b+cd, ab, the pair ab comes before its neighbour
  bc, which is no pair, yet b+cd comes first.
- `merge_long` does that for one very long word.
- `Pieces` cuts long texts (`cuts.py`) and looks pieces up by number; only new ones are split into words.
- `Encoder` puts it together, remembers words (`cache.py`), and uses an accelerator where a program has one.
"""

import heapq
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise, repeat
from threading import Lock
from typing import NamedTuple, TypeVar
from weakref import WeakSet

import numpy as np

from jaxopt_lite.bpe.arguments import to_bytes
from jaxopt_lite.bpe.cache import Cache
from jaxopt_lite.bpe.cuts import WALL, starts
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.table import Table
from jaxopt_lite.bpe.vocabulary import Symbols, Vocabulary, once

__all__ = [
    "Encoder",
    "PairTable",
    "PieceWords",
    "Pieces",
    "groups",
    "merge_long",
    "merge_together",
    "merge_word",
    "split_pieces",
]

_LONG = 256  # symbols from which a heap is quicker than looking at all pairs
_NONE = 2**62  # later than any merge

_NO_RANK = 2**31 - 2  # the same as int32
_END = 2**31 - 1  # instead of a rank, at the end of a word
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Knuth, vol. 3, 6.4, multiplicative hashing
_SLOTS = 4  # slots in the table for each merge
_LASTING = 0.8  # the share of words with merges left below which the others are taken out of the row

_BLOCK = 1 << 20  # bytes that are worked on together: it bounds the memory, and a processor's caches hold most of it
_MOST_PIECES, _MOST_BYTES = 500_000, 64_000_000  # remembered, about; bytes of those too long for the table's arrays
_UTF8 = "utf-8", "surrogatepass"  # surrogates stand for bytes that were not UTF-8

_WORDS = 25_000_000  # bytes of a generation of words, of which there are two
_AT_ONCE = 4_000_000  # characters that are worked on together, which bounds the memory
_PIECE, _REACH = 64, 4  # symbols of a piece of a long word; tokens on either side that are encoded again, at first
_VERY_LONG = 2000  # symbols from which a word is encoded in pieces
_SHORT = 2000  # characters that are encoded word by word in less time than in arrays
_RECENT, _MOST_RECENT = 256, 4096  # characters of a text that is remembered whole, and how many such texts
_FEW = 64  # words that are merged one by one in less time than together
_MANY = 4096  # words that are worth a call to an accelerator
_LONGEST = 64  # symbols of a word that is merged with others; longer ones are few

_flat = chain.from_iterable
_Item = TypeVar("_Item")


def merge_word(symbols: Sequence[int], ranks: Mapping[int, int], merged: Sequence[int], size: int) -> list[int]:
    """The ids of a word: merge the pair of lowest rank, the leftmost of equals, until none is left.

    For a handful of words this is quicker than anything in arrays.

    Args:
        symbols: its base symbols.
        ranks: `left * size + right` -> the rank of their merge: its index in the order.
        merged: the id that each merge makes.
        size: the number of ids.

    Returns:
        The ids, after all merges that apply. The time is O(n log n) in the number n of symbols.

    Example:
        >>> from jaxopt_lite.bpe.encode import merge_word
        >>> merge_word([0, 1, 0], {0 * 3 + 1: 0}, [2], 3)
        [2, 0]
    """
    if len(symbols) > _LONG:
        return _merge_long_word(symbols, ranks, merged, size)
    ids = list(symbols)
    find = ranks.get
    pairs = [find(a * size + b, _NONE) for a, b in pairwise(ids)]
    while pairs:
        rank = min(pairs)
        if rank == _NONE:
            break
        i = pairs.index(rank)
        ids[i : i + 2] = [merged[rank]]
        del pairs[i]
        if i > 0:
            pairs[i - 1] = find(ids[i - 1] * size + ids[i], _NONE)
        if i < len(pairs):
            pairs[i] = find(ids[i] * size + ids[i + 1], _NONE)
    return ids


def _merge_long_word(symbols, ranks, merged, size: int) -> list[int]:
    """The same by a heap of pairs and a linked list of symbols."""
    ids: list[int] = list(symbols)
    find, count = ranks.get, len(ids)
    before, after = list(range(-1, count - 1)), list(range(1, count + 1))
    pairs = ((find(a * size + b), i) for i, (a, b) in enumerate(pairwise(ids)))
    heap = [(rank, i) for rank, i in pairs if rank is not None]
    heapq.heapify(heap)
    while heap:
        rank, i = heapq.heappop(heap)
        j = after[i]
        # An entry is stale when a symbol of its pair has been merged with another meanwhile.
        if ids[i] < 0 or j == count or find(ids[i] * size + ids[j]) != rank:
            continue
        ids[i], ids[j] = merged[rank], -1
        after[i] = following = after[j]
        if following < count:
            before[following] = i
            if (found := find(ids[i] * size + ids[following])) is not None:
                heapq.heappush(heap, (found, i))
        if (preceding := before[i]) >= 0 and (found := find(ids[preceding] * size + ids[i])) is not None:
            heapq.heappush(heap, (found, preceding))
    return [k for k in ids if k >= 0]


class PairTable:
    """The rank of every pair that is merged: a hash table with linear probing.

    Bisection among sorted pairs takes six times as long, and `table.py` is made for strings that it has not met.

    Args:
        vocabulary: whose merges.
    """

    def __init__(self, vocabulary: Vocabulary):
        self.merged, self.size = vocabulary.merged, len(vocabulary.tokens)
        self._vocabulary = vocabulary
        bits = (_SLOTS * len(self.merged) + 1).bit_length()
        self._shift, self._wrap = np.uint64(64 - bits), 2**bits - 1
        self._keys, self._ranks = np.full(2**bits, -1, np.int64), np.full(2**bits, _NO_RANK, np.int32)
        keys = self._keys_of(*vocabulary.merges.T)
        slots, waiting = self._slots_of(keys), np.arange(keys.size)
        while waiting.size:
            free = waiting[self._keys[slots[waiting]] < 0]
            self._keys[slots[free]] = keys[free]  # of several for one slot the last one gets it
            waiting = waiting[self._keys[slots[waiting]] != keys[waiting]]
            slots[waiting] = (slots[waiting] + 1) & self._wrap
        self._ranks[slots] = np.arange(keys.size)

    def ranks(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The ranks of pairs of ids, int32; later than any merge for those that are never merged."""
        keys = self._keys_of(left, right)
        slots = self._slots_of(keys)
        found = self._keys[slots]
        other = np.flatnonzero((found != keys) & (found >= 0))
        while other.size:
            slots[other] = (slots[other] + 1) & self._wrap
            found[other] = self._keys[slots[other]]
            other = other[(found[other] != keys[other]) & (found[other] >= 0)]
        return np.where(found == keys, self._ranks[slots], _NO_RANK)

    def symbols_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The base symbols that tokens are made of, one after the other, and how many each has."""
        symbols, ends = self._made_of
        first, size = ends[ids], ends[ids + 1] - ends[ids]
        total = np.cumsum(size)
        inside = np.arange(size.sum()) - np.repeat(total - size, size)
        return symbols[np.repeat(first, size) + inside], size

    @once
    def _made_of(self) -> tuple[np.ndarray, np.ndarray]:
        """The base symbols of every token, in one row, and where each one's begin."""
        made: list[list[int]] = [[k] for k in range(self.size)]
        for (left, right), k in zip(self._vocabulary.merges.tolist(), self.merged.tolist(), strict=True):
            made[k] = made[left] + made[right]
        sizes = np.fromiter(map(len, made), np.int64, self.size)
        return np.fromiter(_flat(made), np.int32, sizes.sum()), np.append(0, np.cumsum(sizes))

    def _keys_of(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return left.astype(np.int64) * self.size + right

    def _slots_of(self, keys: np.ndarray) -> np.ndarray:
        return (keys.astype(np.uint64) * _MIX >> self._shift).astype(np.int64)


class _Row(NamedTuple):
    """Words one after the other; those that are done leave the row.

    Attributes:
        ids: int32, their symbols.
        rank: int32, that of the pair which each symbol begins; `_NO_RANK`, or `_END` at the end of a word.
        number: which words they are.
        size: how many symbols each has.
    """

    ids: np.ndarray
    rank: np.ndarray
    number: np.ndarray
    size: np.ndarray

    def where(self, keep: np.ndarray) -> "_Row":
        symbols = np.repeat(keep, self.size)
        return _Row(self.ids[symbols], self.rank[symbols], self.number[keep], self.size[keep])


def merge_together(symbols: np.ndarray, lengths: np.ndarray, table: PairTable) -> tuple[np.ndarray, np.ndarray]:
    """Encode words together. Only the ranks beside a merge are looked up again.

    Args:
        symbols: int32 `[N]`, the base symbols of all words.
        lengths: int64 `[n]`, how many each word has, at least one.
        table: the merges, which must be ordered; see `Vocabulary.is_ordered`.

    Returns:
        The ids of all words, int32, and how many each has.

    Example:
        >>> import numpy as np
        >>> from jaxopt_lite.bpe.encode import PairTable, merge_together
        >>> from jaxopt_lite.bpe.vocabulary import Vocabulary
        >>> table = PairTable(Vocabulary((b"a", b"b", b"ab"), merges=[[0, 1]], merged=[2]))
        >>> ids, lengths = merge_together(np.array([0, 1, 0, 1, 1]), np.array([3, 2]), table)
        >>> ids.tolist(), lengths.tolist()
        ([2, 0, 1, 1], [2, 2])
    """
    words, done = _begin(symbols, lengths, table), []
    while words.size.size:
        begins = np.cumsum(words.size) - words.size
        first = np.minimum.reduceat(words.rank, begins)
        lasting = first < _NO_RANK
        if np.count_nonzero(lasting) < _LASTING * lasting.size:
            done.append(words.where(~lasting))
            words = words.where(lasting)
            continue
        first[~lasting] = -1
        words = _merge(words, begins, np.flatnonzero(words.rank == np.repeat(first, words.size)), table)
    ids, size = np.empty(symbols.size, np.int32), np.zeros(lengths.size, np.int64)
    for part in done:
        size[part.number] = part.size
    ends = np.cumsum(size)
    for part in done:
        inside = np.arange(part.ids.size) - np.repeat(np.cumsum(part.size) - part.size, part.size)
        ids[np.repeat(ends[part.number] - part.size, part.size) + inside] = part.ids
    return ids[: size.sum()], size


def _begin(symbols: np.ndarray, lengths: np.ndarray, table: PairTable) -> _Row:
    ids = symbols.astype(np.int32)
    rank = np.empty(ids.size, np.int32)
    rank[:-1] = table.ranks(ids[:-1], ids[1:])
    rank[np.cumsum(lengths) - 1] = _END
    return _Row(ids, rank, np.arange(lengths.size), np.asarray(lengths, np.int64))


def _merge(words: _Row, begins: np.ndarray, at: np.ndarray, table: PairTable) -> _Row:
    """Merge the pairs that begin at these positions."""
    ids, rank, number, size = words
    if np.any(np.diff(at) == 1):
        # Occurrences overlap in runs of one symbol only; there every second one counts, from the left.
        order = np.arange(at.size)
        begin = np.diff(at, prepend=-2) > 1
        at = at[(order - np.maximum.accumulate(np.where(begin, order, 0))) % 2 == 0]
    ids[at] = table.merged[rank[at]]
    rank[at] = rank[at + 1]  # which is `_END` or looked up below
    keep = np.ones(ids.size, bool)
    keep[at + 1] = False
    size = np.add.reduceat(keep, begins, dtype=np.int64)
    ids, rank = ids[keep], rank[keep]
    at -= np.arange(at.size)  # each merge takes a symbol away
    beside = np.concatenate([at, at[at > 0] - 1])
    beside = beside[rank[beside] != _END]
    rank[beside] = table.ranks(ids[beside], ids[beside + 1])
    return _Row(ids, rank, number, size)


def merge_long(symbols: np.ndarray, table: PairTable) -> np.ndarray:
    """Encode one very long word, such as text without spaces: in pieces, which are put right where they meet.

    A row of tokens is what the merges make of its symbols if and only if that holds for any two neighbours by
    themselves (van Antwerpen and Neubeck, "So many tokens, so little time", 2024). So the word is cut anywhere, the
    pieces are encoded together, and around two tokens that would be others together some more of both sides are encoded
    again, until there are none. In the worst case, a run of one letter, that is all of the word in the end.

    Args:
        symbols: int32 `[N]`, its base symbols.
        table: the merges, which must be ordered, no two of them of one token.

    Returns:
        The ids, int32.

    Example:
        >>> import numpy as np
        >>> from jaxopt_lite.bpe.encode import PairTable, merge_long
        >>> from jaxopt_lite.bpe.vocabulary import Vocabulary
        >>> table = PairTable(Vocabulary((b"a", b"b", b"ab"), merges=[[0, 1]], merged=[2]))
        >>> merge_long(np.array([0, 1] * 3, np.int32), table).tolist()
        [2, 2, 2]
    """
    lengths = np.full(-(-symbols.size // _PIECE), _PIECE)
    lengths[-1] -= lengths.sum() - symbols.size
    ids, sizes = merge_together(symbols, lengths, table)
    meets, reach = np.cumsum(sizes)[:-1], _REACH  # where what was encoded by itself begins; inside of that all is well
    while True:
        bad = meets[~_stay(ids[meets - 1], ids[meets], table)]
        if not bad.size:
            return ids
        ids, meets = _again(ids, bad, reach, table)
        reach *= 2


def _stay(left: np.ndarray, right: np.ndarray, table: PairTable) -> np.ndarray:
    """Whether two tokens, one behind the other, are what the merges make of their symbols."""
    symbols, lengths = table.symbols_of(np.column_stack([left, right]).ravel())
    ids, sizes = merge_together(symbols, lengths.reshape(-1, 2).sum(axis=1), table)
    first = np.cumsum(sizes) - sizes
    second = np.minimum(first + 1, ids.size - 1)
    return (sizes == 2) & (ids[first] == left) & (ids[second] == right)


def _again(ids: np.ndarray, bad: np.ndarray, reach: int, table: PairTable) -> tuple[np.ndarray, np.ndarray]:
    """Encode tokens on either side of these places again, as many as `reach`; windows that touch together.

    Returns:
        All ids, and where windows meet what is around them.
    """
    inside = np.zeros(ids.size + 1, np.int64)
    np.add.at(inside, np.maximum(bad - reach, 0), 1)
    np.add.at(inside, np.minimum(bad + reach, ids.size), -1)
    is_inside = np.cumsum(inside[:-1]) > 0
    begins = np.flatnonzero(np.diff(is_inside.astype(np.int8), prepend=0) == 1)
    counts = np.add.reduceat(is_inside, begins, dtype=np.int64)  # tokens of each window
    symbols, lengths = table.symbols_of(ids[is_inside])
    made, sizes = merge_together(symbols, np.add.reduceat(lengths, np.cumsum(counts) - counts), table)
    shift = np.cumsum(sizes - counts)  # of what is behind each window
    starts = begins + np.append(0, shift[:-1])
    ends = starts + sizes
    whole = np.empty(ids.size + shift[-1], np.int32)
    remade = np.zeros(whole.size + 1, np.int8)
    remade[starts] += 1
    remade[ends] -= 1
    remade = np.cumsum(remade[:-1], dtype=np.int8) > 0
    whole[remade], whole[~remade] = made, ids[~is_inside]
    meets = np.union1d(starts, ends)
    return whole, meets[(meets > 0) & (meets < whole.size)]


class PieceWords(NamedTuple):
    """The words of pieces, in one row.

    Attributes:
        words: those of one piece after the other.
        order: which pieces these are, int64.
        ends: for each, how many words it and those before it have, int64.
    """

    words: list[str]
    order: np.ndarray
    ends: np.ndarray


def split_pieces(pieces: list[str], splitter: Splitter) -> PieceWords:
    """The words of pieces, each by itself. Empty ones have none."""
    words: list[str] = []
    ends, alone, joined = [], [], ([], [])
    for k, piece in enumerate(pieces):
        # Between two such pieces every text may be cut. One call of a pattern is faster than thousands, and for ASCII
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
    """How many characters each text and those before it have."""
    return np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))


class Pieces:
    """The ids of pieces that were met before, and of texts as rows of pieces.

    A piece has its number before its ids are known, and these may be refused, or Ctrl-C come between. What was left
    half done is forgotten at the next use.

    Args:
        splitter: a local one, which makes words of pieces.
        ids_of: the ids of words: int32, those of one word after the other, and int64, where each word's end.
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
            texts: without NUL, which a table cannot tell from nothing.

        Yields:
            Ids, int32, some of one text after the other, and where among them texts end, int64.
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
        """Find the ids of new pieces, whose numbers follow those of the known."""
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
    """The texts in UTF-8, `WALL` behind each, and where pieces start; long texts in parts.

    A part ends at the last cut that is seen without what follows. More text only adds cuts.
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
    """The same items; a thread makes the next one meanwhile, for NumPy leaves the interpreter free."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item


def groups(texts: Sequence[str], most: int) -> Iterator[list[str]]:
    """Texts to work on together: so many that they have about so many characters, or one."""
    group, size = [], 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= most:
            yield group
            group, size = [], 0
    if group:
        yield group


class Encoder:
    """The ids of texts. Threads may share it; they take turns.

    Args:
        vocabulary: the tokens and merges.
        splitter: which makes words of texts.
    """

    def __init__(self, vocabulary: Vocabulary, splitter: Splitter):
        self._symbols = Symbols(vocabulary)
        self.vocabulary, self.splitter = vocabulary, splitter
        self._merged = vocabulary.merged.tolist()
        self._whole = vocabulary.words if vocabulary.whole_words else {}
        self._numbers = np.arange(len(vocabulary.tokens)).astype(object)  # so that an id is one object everywhere
        self._table = self._rules = None
        self.recent: dict[str, tuple[int, ...]] = {}  # the ids of short texts
        self._words, self._pieces, self._lock = Cache(_WORDS), Pieces(splitter, self._ids_of), Lock()
        _encoders.add(self)

    def encode(self, texts: Sequence[str], firsts: Sequence[bool] = ()) -> list[list[int]]:
        """The ids of texts that are normalized.

        Args:
            texts: the texts, or pieces of some.
            firsts: whether nothing is before each of them. Default: all are whole.
        """
        with self._lock:
            if self.splitter.local and sum(map(len, texts)) > _SHORT:
                return self._by_pieces(texts)
            begins = iter(firsts or repeat(True))
            return [row for group in groups(texts, _AT_ONCE) for row in self._by_words(group, begins)]

    def encode_one(self, text: str) -> list[int]:
        """The ids of one text in which no token is found before; short ones are remembered whole.

        What is remembered is right at any time, so that it is looked up without a turn.
        """
        if len(text) > _SHORT:
            return self.encode([text])[0]
        try:
            ids = list(_flat(map(self._words.__getitem__, self.splitter.words(text))))
        except KeyError:
            ids = self.encode([text])[0]
        if len(text) <= _RECENT:
            if len(self.recent) >= _MOST_RECENT:
                self.recent = {}
            self.recent[text] = tuple(ids)
        return ids

    def words(self, words: set[str]) -> dict[str, list[int]]:
        """The ids of distinct words."""
        with self._lock:
            known = self._known(words)
            return {word: list(known[word]) for word in words}

    def _by_words(self, texts: Iterable[str], firsts: Iterator[bool]) -> list[list[int]]:
        cut = [self.splitter.words(text, next(firsts)) for text in texts]
        find = self._known(set(_flat(cut))).__getitem__
        return [list(_flat(map(find, words))) for words in cut]

    def _by_pieces(self, texts: Sequence[str]) -> list[list[int]]:
        rows, begun = [], []
        for ids, ends in self._pieces.rows(["" if "\0" in text else text for text in texts]):
            known, stops = self._numbers[ids].tolist(), ends.tolist()
            for start, end in zip((0, *stops), stops, strict=False):
                rows.append(begun + known[start:end] if begun else known[start:end])
                begun = []
            begun += known[stops[-1] if stops else 0 :]
        for k, text in enumerate(texts):
            if "\0" in text:
                rows[k] = self._by_words([text], repeat(True))[0]
        return rows

    def as_lists(self, ids: np.ndarray, ends: np.ndarray) -> list[list[int]]:
        """The ids of texts, one after the other and where each text's end, as lists."""
        known, stops = self._numbers[ids].tolist(), ends.tolist()
        return [known[start:end] for start, end in zip((0, *stops), stops, strict=False)]

    def _ids_of(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of words, one after the other, and where each word's end."""
        known = self._known(set(words))
        ids = list(map(known.__getitem__, words))
        sizes = np.fromiter(map(len, ids), np.int64, len(ids))
        return np.fromiter(_flat(ids), np.int32, sizes.sum()), np.cumsum(sizes)

    def _known(self, words: set[str]) -> Mapping[str, tuple[int, ...]]:
        """The ids of distinct words, and of others that are remembered."""
        self._words.fill(words, self._make if self._whole else self._merge)
        return self._words

    def _make(self, words: list[str]) -> list[tuple[int, ...]]:
        """The ids of each word: those that are tokens as a whole, and what is merged."""
        whole = [self._whole.get(to_bytes(word)) for word in words]
        merged = iter(self._merge([word for word, k in zip(words, whole, strict=True) if k is None]))
        return [next(merged) if k is None else (k,) for k in whole]

    def _merge(self, words: list[str]) -> list[tuple[int, ...]]:
        """The ids of each word: together if there are many and merges are in order, else one by one."""
        if len(words) < _FEW or not self.vocabulary.is_ordered:
            return [self._merge_one(self._symbols.of(word)) for word in words]
        symbols, lengths = self._symbols.of_all(words)
        short = (lengths > 0) & (lengths <= _LONGEST)
        ids, sizes = self._merge_together(symbols[np.repeat(short, lengths)], lengths[short])
        parts = _parts(tuple(self._numbers[ids].tolist()), np.cumsum(sizes))
        return [
            next(parts) if is_short else self._merge_one(self._symbols.of(word))
            for word, is_short in zip(words, short.tolist(), strict=True)
        ]

    def _merge_one(self, symbols: list[int]) -> tuple[int, ...]:
        if len(symbols) >= _VERY_LONG and self.vocabulary.is_unique:
            self._table = self._table or PairTable(self.vocabulary)
            return tuple(self._numbers[merge_long(np.array(symbols, np.int32), self._table)].tolist())
        return tuple(merge_word(symbols, self.vocabulary.ranks, self._merged, len(self._numbers)))

    def _merge_together(self, symbols: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        device = _device() if lengths.size >= _MANY else None
        if device is not None:
            self._rules = self._rules or device.rules_of(self.vocabulary)
            return device.merge_words(symbols, lengths, *self._rules)
        self._table = self._table or PairTable(self.vocabulary)
        return merge_together(symbols, lengths, self._table)


_encoders: WeakSet[Encoder] = WeakSet()


def _unlock() -> None:
    """In the child of a fork, which lacks the thread that may have held a lock."""
    for encoder in _encoders:
        encoder._lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def _parts(row: tuple[int, ...], ends: np.ndarray) -> Iterator[tuple[int, ...]]:
    return map(row.__getitem__, map(slice, chain((0,), ends.tolist()), ends.tolist()))


def _device():
    """What encodes on an accelerator, where this program uses one: JAX is not loaded, nor a GPU taken, for this."""
    if "jax" not in sys.modules:
        return None
    from jaxopt_lite.bpe.accelerator import encode

    return encode if encode.has_accelerator() else None
