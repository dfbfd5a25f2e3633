"""From the symbols of words to their ids by a vocabulary's merges: for one word, very many, or a very long one.

In each word the pair whose merge comes first in the order is merged, the leftmost on ties, until no pair is left that
merges (`reference.encode`).

- `merge_word` does this for one word, and is exact for every order of merges.
- `merge_together` does it for very many words at once, if the merges are in order (`Vocabulary.is_ordered`). In each
  round every word merges all occurrences of its first pair. This equals one merge at a time: the pairs that a merge
  creates come later in the order, so no other merge can come between two occurrences of one pair. Merging every pair
  that comes before its neighbors would be wrong: in "abcd" with the order cd, b+cd, ab, the pair ab comes before its
  neighbor bc, which never merges, and yet b+cd comes first.
- `merge_long` does it for one very long word.
"""

import heapq
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np

from jaxopt_lite.bpe.vocabulary import Vocabulary, once

__all__ = ["PairTable", "merge_long", "merge_together", "merge_word"]

_LONG = 256  # symbols beyond which a heap is faster than looking at all pairs
_NONE = 2**62  # later than any merge

_NO_RANK = 2**31 - 2  # the same as int32
_END = 2**31 - 1  # in place of a rank, at the end of a word
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Knuth, vol. 3, 6.4, multiplicative hashing
_SLOTS = 4  # slots in the table for each merge
_LASTING = 0.8  # when fewer words than this share have merges left, the others are taken out of the row
_PIECE, _REACH = 64, 4  # symbols of a piece of a long word; tokens on either side that are first encoded again

_flat = chain.from_iterable


def merge_word(symbols: Sequence[int], ranks: Mapping[int, int], merged: Sequence[int], size: int) -> list[int]:
    """The ids of a word: merge the pair of lowest rank, the leftmost on ties, until none is left.

    For a handful of words this is faster than anything in arrays.

    Args:
        symbols: its base symbols.
        ranks: `left * size + right` -> the rank of their merge: its index in the order.
        merged: the id that each merge makes.
        size: the number of ids.

    Returns:
        The ids, after all merges that apply. The time is O(n log n) in the number n of symbols.

    Example:
        >>> from jaxopt_lite.bpe.encode_words import merge_word
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
    """The same with a heap of pairs and a linked list of symbols."""
    ids: list[int] = list(symbols)
    find, count = ranks.get, len(ids)
    before, after = list(range(-1, count - 1)), list(range(1, count + 1))
    pairs = ((find(a * size + b), i) for i, (a, b) in enumerate(pairwise(ids)))
    heap = [(rank, i) for rank, i in pairs if rank is not None]
    heapq.heapify(heap)
    while heap:
        rank, i = heapq.heappop(heap)
        j = after[i]
        # An entry is stale if a symbol of its pair has been merged with another since.
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
    """The ranks of all pairs that merge: a hash table with linear probing.

    Bisection in sorted pairs takes six times as long, and `table.py` is designed for strings it has not seen.

    Args:
        vocabulary: the vocabulary whose merges these are.
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
            self._keys[slots[free]] = keys[free]  # if several want one slot, the last gets it
            waiting = waiting[self._keys[slots[waiting]] != keys[waiting]]
            slots[waiting] = (slots[waiting] + 1) & self._wrap
        self._ranks[slots] = np.arange(keys.size)

    def ranks(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The ranks of pairs of ids, int32; later than any merge for pairs that never merge."""
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
        """The base symbols that tokens are made of, concatenated, and how many each token has."""
        symbols, ends = self._made_of
        first, size = ends[ids], ends[ids + 1] - ends[ids]
        total = np.cumsum(size)
        inside = np.arange(size.sum()) - np.repeat(total - size, size)
        return symbols[np.repeat(first, size) + inside], size

    @once
    def _made_of(self) -> tuple[np.ndarray, np.ndarray]:
        """The base symbols of all tokens, in one row, and where those of each token begin."""
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
    """Concatenated words; finished words leave the row.

    Attributes:
        ids: int32, their symbols.
        rank: int32, the rank of the pair that each symbol begins; `_NO_RANK` for none, `_END` at the end of a word.
        number: the indices of the words.
        size: how many symbols each word has.
    """

    ids: np.ndarray
    rank: np.ndarray
    number: np.ndarray
    size: np.ndarray

    def where(self, keep: np.ndarray) -> "_Row":
        symbols = np.repeat(keep, self.size)
        return _Row(self.ids[symbols], self.rank[symbols], self.number[keep], self.size[keep])


def merge_together(symbols: np.ndarray, lengths: np.ndarray, table: PairTable) -> tuple[np.ndarray, np.ndarray]:
    """Encode words together. After a merge only the ranks next to it are looked up again.

    Args:
        symbols: int32 `[N]`, the base symbols of all words.
        lengths: int64 `[n]`, how many each word has, at least one.
        table: the merges, which must be ordered; see `Vocabulary.is_ordered`.

    Returns:
        The ids of all words, int32, and how many each word has.

    Example:
        >>> import numpy as np
        >>> from jaxopt_lite.bpe.encode_words import PairTable, merge_together
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
        # Occurrences overlap only in runs of one symbol; there every second one counts, from the left.
        order = np.arange(at.size)
        begin = np.diff(at, prepend=-2) > 1
        at = at[(order - np.maximum.accumulate(np.where(begin, order, 0))) % 2 == 0]
    ids[at] = table.merged[rank[at]]
    rank[at] = rank[at + 1]  # either `_END`, or looked up below
    keep = np.ones(ids.size, bool)
    keep[at + 1] = False
    size = np.add.reduceat(keep, begins, dtype=np.int64)
    ids, rank = ids[keep], rank[keep]
    at -= np.arange(at.size)  # each merge removes one symbol
    beside = np.concatenate([at, at[at > 0] - 1])
    beside = beside[rank[beside] != _END]
    rank[beside] = table.ranks(ids[beside], ids[beside + 1])
    return _Row(ids, rank, number, size)


def merge_long(symbols: np.ndarray, table: PairTable) -> np.ndarray:
    """Encode one very long word, such as text without spaces, in pieces, and correct the places where they meet.

    A row of tokens is what the merges make of its symbols if and only if the same holds for every two neighboring
    tokens on their own (van Antwerpen and Neubeck, "So many tokens, so little time", 2024). So the word is cut
    anywhere, the pieces are encoded together, and around every two tokens that would be encoded differently together,
    more and more of both sides is encoded again, until no such pair is left. In the worst case, a run of one letter,
    this ends with the whole word.

    Args:
        symbols: int32 `[N]`, its base symbols.
        table: the merges, which must be ordered, and no two of which make the same token.

    Returns:
        The ids, int32.

    Example:
        >>> import numpy as np
        >>> from jaxopt_lite.bpe.encode_words import PairTable, merge_long
        >>> from jaxopt_lite.bpe.vocabulary import Vocabulary
        >>> table = PairTable(Vocabulary((b"a", b"b", b"ab"), merges=[[0, 1]], merged=[2]))
        >>> merge_long(np.array([0, 1] * 3, np.int32), table).tolist()
        [2, 2, 2]
    """
    lengths = np.full(-(-symbols.size // _PIECE), _PIECE)
    lengths[-1] -= lengths.sum() - symbols.size
    ids, sizes = merge_together(symbols, lengths, table)
    meets, reach = np.cumsum(sizes)[:-1], _REACH  # where separately encoded parts meet; inside a part all is right
    while True:
        bad = meets[~_stay(ids[meets - 1], ids[meets], table)]
        if not bad.size:
            return ids
        ids, meets = _again(ids, bad, reach, table)
        reach *= 2


def _stay(left: np.ndarray, right: np.ndarray, table: PairTable) -> np.ndarray:
    """Whether two tokens, one after the other, are what the merges make of their symbols."""
    symbols, lengths = table.symbols_of(np.column_stack([left, right]).ravel())
    ids, sizes = merge_together(symbols, lengths.reshape(-1, 2).sum(axis=1), table)
    first = np.cumsum(sizes) - sizes
    second = np.minimum(first + 1, ids.size - 1)
    return (sizes == 2) & (ids[first] == left) & (ids[second] == right)


def _again(ids: np.ndarray, bad: np.ndarray, reach: int, table: PairTable) -> tuple[np.ndarray, np.ndarray]:
    """Encode `reach` tokens on either side of these places again; windows that touch are encoded as one.

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
    shift = np.cumsum(sizes - counts)  # of what follows each window
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
