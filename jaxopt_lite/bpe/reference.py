"""Textbook byte-pair encoding on plain Python lists: slow, and the definition of what this package computes.

Sennrich, Haddow and Birch, ACL 2016, algorithm 1: choose the most frequent pair of neighboring symbols, merge it
throughout, repeat. Merges stay inside words; an optional mark such as `_` at the end of each is a symbol like any
other. Windows overlap when pairs are counted, and are merged from the left. Of equally frequent pairs the smallest
(left, right) comes first. The documentation and the tests compare the rest of this package with this module.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

__all__ = ["count", "encode", "learn", "merge", "most_frequent"]

Pair = tuple[int, int]
Word = tuple[Sequence[int], int]  # symbols, and how often the word occurs


def most_frequent(counts: Mapping[Pair, int]) -> Pair:
    """The most frequent pair; on ties the smallest."""
    return min(counts, key=lambda pair: (-counts[pair], pair))


def learn(
    words: Iterable[Word], first: int, most: int, choose: Callable[[Mapping[Pair, int]], Pair | None] = most_frequent
) -> list[tuple[int, int, int]]:
    """Learn merges: for each, left, right, and how often they stood side by side.

    Args:
        words: their symbols, all below `first`, and their counts.
        first: the symbol that the first merge makes; later ones get the next numbers.
        most: how many merges to learn; fewer are learned if nothing is left to merge.
        choose: the pair to merge next, from the counts of all pairs; `None` stops.

    Example:
        >>> from jaxopt_lite.bpe.reference import encode, learn
        >>> merges = learn([(b"low_", 5), (b"lower_", 2), (b"newest_", 6)], 256, 2)
        >>> [(chr(left), chr(right), count) for left, right, count in merges]
        [('w', 'e', 8), ('l', 'o', 7)]
        >>> encode(b"lowest_", [pair for *pair, _ in merges], [256, 257]) == [257, 256, *b"st_"]
        True
    """
    rows = [(list(symbols), times) for symbols, times in words]
    merges = []
    while len(merges) < most and (counts := count(rows)) and (best := choose(counts)) is not None:
        for symbols, _ in rows:
            merge(symbols, best, first + len(merges))
        merges.append((*best, counts[best]))
    return merges


def count(words: Iterable[Word]) -> Counter[Pair]:
    """How often each pair occurs; `a a a` holds (a, a) twice."""
    counts: Counter[Pair] = Counter()
    for symbols, times in words:
        for pair in pairwise(symbols):
            counts[pair] += times
    return counts


def merge(symbols: list[int], pair: Pair, new: int) -> None:
    """Merge a pair throughout a word, from the left, in place."""
    k = 0
    while k < len(symbols) - 1:
        if (symbols[k], symbols[k + 1]) == pair:
            symbols[k : k + 2] = [new]
        k += 1


def encode(symbols: Iterable[int], merges: Sequence[Sequence[int]], merged: Sequence[int]) -> list[int]:
    """The ids of a word: merge the pair that comes first in the order of merges, the leftmost on ties, and repeat.

    Args:
        symbols: the base symbols of the word.
        merges: the pairs, in order.
        merged: the symbols that they make.
    """
    ids = list(symbols)
    ranks = {(left, right): rank for rank, (left, right) in enumerate(merges)}
    while found := [(ranks[pair], k) for k, pair in enumerate(pairwise(ids)) if pair in ranks]:
        rank, k = min(found)
        ids[k : k + 2] = [merged[rank]]
    return ids
