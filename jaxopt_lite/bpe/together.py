"""Encoding many words at once on the host. In every round each word merges all occurrences of its first pair.

Why that is what one merge at a time makes, is said in `encode.py`, which does the same on a device. Here the words
stand one after the other in one row, those that are done leave it, and only the ranks beside a merge are looked up
again.
"""

from typing import NamedTuple

import numpy as np

from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["PairTable", "merge_together"]

_END = 2**31 - 1  # instead of a rank, at the end of a word
_NONE = _END - 1  # later than any merge
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Knuth, vol. 3, 6.4, multiplicative hashing
_ROOM = 4  # places in the table for each merge
_LASTING = 0.8  # of the words; when fewer have merges left, the others leave the row


class PairTable:
    """The rank of every pair that is merged: a hash table with linear probing.

    Args:
        vocabulary: whose merges.
    """

    def __init__(self, vocabulary: Vocabulary):
        self.merged, self._size = vocabulary.merged, len(vocabulary.tokens)
        bits = (_ROOM * len(self.merged) + 1).bit_length()
        self._shift, self._wrap = np.uint64(64 - bits), 2**bits - 1
        self._keys, self._ranks = np.full(2**bits, -1, np.int64), np.full(2**bits, _NONE, np.int32)
        keys = self._keys_of(*vocabulary.merges.T)
        places, waiting = self._places(keys), np.arange(keys.size)
        while waiting.size:
            free = waiting[self._keys[places[waiting]] < 0]
            self._keys[places[free]] = keys[free]  # of several at one place the last one gets it
            waiting = waiting[self._keys[places[waiting]] != keys[waiting]]
            places[waiting] = (places[waiting] + 1) & self._wrap
        self._ranks[places] = np.arange(keys.size)

    def ranks(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The place in the order of merges, int32, of pairs of ids; later than any merge for those never merged."""
        keys = self._keys_of(left, right)
        places = self._places(keys)
        found = self._keys[places]
        other = np.flatnonzero((found != keys) & (found >= 0))
        while other.size:
            places[other] = (places[other] + 1) & self._wrap
            found[other] = self._keys[places[other]]
            other = other[(found[other] != keys[other]) & (found[other] >= 0)]
        return np.where(found == keys, self._ranks[places], _NONE)

    def _keys_of(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return left.astype(np.int64) * self._size + right

    def _places(self, keys: np.ndarray) -> np.ndarray:
        return (keys.astype(np.uint64) * _MIX >> self._shift).astype(np.int64)


class _Words(NamedTuple):
    """Words one after the other.

    Attributes:
        ids: int32, their symbols.
        rank: int32, that of the pair which each symbol begins; `_NONE`, or `_END` at the end of a word.
        number: which words they are.
        size: how many symbols each has.
    """

    ids: np.ndarray
    rank: np.ndarray
    number: np.ndarray
    size: np.ndarray

    def where(self, keep: np.ndarray) -> "_Words":
        symbols = np.repeat(keep, self.size)
        return _Words(self.ids[symbols], self.rank[symbols], self.number[keep], self.size[keep])


def merge_together(symbols: np.ndarray, lengths: np.ndarray, table: PairTable) -> tuple[np.ndarray, np.ndarray]:
    """Encode words.

    Args:
        symbols: int32 `[N]`, the base symbols of all words.
        lengths: int64 `[n]`, how many each word has, at least one.
        table: the merges, which must be ordered; see `Vocabulary.is_ordered`.

    Returns:
        The ids of all words, int32, and how many each has.

    Example:
        >>> import numpy as np
        >>> from jaxopt_lite.bpe.together import PairTable, merge_together
        >>> from jaxopt_lite.bpe.vocabulary import Vocabulary
        >>> table = PairTable(Vocabulary((b"a", b"b", b"ab"), merges=[[0, 1]], merged=[2]))
        >>> ids, lengths = merge_together(np.array([0, 1, 0, 1, 1]), np.array([3, 2]), table)
        >>> ids.tolist(), lengths.tolist()
        ([2, 0, 1, 1], [2, 2])
    """
    words, done = _begin(symbols, lengths, table), []
    while words.size.size:
        starts = np.cumsum(words.size) - words.size
        first = np.minimum.reduceat(words.rank, starts)
        lasting = first < _NONE
        if np.count_nonzero(lasting) < _LASTING * lasting.size:
            done.append(words.where(~lasting))
            words = words.where(lasting)
            continue
        first[~lasting] = -1
        words = _merge(words, starts, np.flatnonzero(words.rank == np.repeat(first, words.size)), table)
    ids, size = np.empty(symbols.size, np.int32), np.zeros(lengths.size, np.int64)
    for part in done:
        size[part.number] = part.size
    ends = np.cumsum(size)
    for part in done:
        inside = np.arange(part.ids.size) - np.repeat(np.cumsum(part.size) - part.size, part.size)
        ids[np.repeat(ends[part.number] - part.size, part.size) + inside] = part.ids
    return ids[: size.sum()], size


def _begin(symbols: np.ndarray, lengths: np.ndarray, table: PairTable) -> _Words:
    ids = symbols.astype(np.int32)
    rank = np.empty(ids.size, np.int32)
    rank[:-1] = table.ranks(ids[:-1], ids[1:])
    rank[np.cumsum(lengths) - 1] = _END
    return _Words(ids, rank, np.arange(lengths.size), np.asarray(lengths, np.int64))


def _merge(words: _Words, starts: np.ndarray, at: np.ndarray, table: PairTable) -> _Words:
    """Merge the pairs that begin at these places."""
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
    size = np.add.reduceat(keep, starts, dtype=np.int64)
    ids, rank = ids[keep], rank[keep]
    at -= np.arange(at.size)  # each merge takes a symbol away
    beside = np.concatenate([at, at[at > 0] - 1])
    beside = beside[rank[beside] != _END]
    rank[beside] = table.ranks(ids[beside], ids[beside + 1])
    return _Words(ids, rank, number, size)
