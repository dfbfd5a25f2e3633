"""Encoding one word on the host: merge the pair of lowest rank, the leftmost of equals, until none is left.

For a handful of words this is quicker than any call to a device, and it is exact for every order of merges. Used by
`cache.py`; many words at once are the work of `encode.py`.
"""

import heapq
from collections.abc import Mapping, Sequence
from itertools import pairwise

__all__ = ["merge_word"]

_LONG = 256  # symbols from which a heap is quicker than looking at all pairs
_NONE = 2**62  # later than any merge


def merge_word(symbols: Sequence[int], ranks: Mapping[int, int], merged: Sequence[int], size: int) -> list[int]:
    """The ids of a word.

    Args:
        symbols: its base symbols.
        ranks: `left * size + right` -> the place of their merge in the order.
        merged: the id that each merge makes.
        size: the number of ids.

    Returns:
        The ids, after all merges that apply. The time is O(n log n) in the number n of symbols.

    Example:
        >>> from jaxopt_lite.bpe.merging import merge_word
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
