"""The sequential algorithm as the textbook has it: count all pairs, merge the best one, count again."""

from collections import Counter
from itertools import pairwise


def learn_slowly(words, base, most, *, min_frequency=1, max_length=None, lengths=None, rank=None):
    """The merges (left, right, count) of words, (symbols, count) each; new symbols are numbered from `base`."""
    words = [(list(symbols), count) for symbols, count in words]
    lengths = dict(enumerate(lengths or [1] * base))
    merges = []
    while len(merges) < most:
        counts = count_slowly(words)
        if max_length is not None:
            counts = {(a, b): n for (a, b), n in counts.items() if lengths[a] + lengths[b] <= max_length}
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], rank(pair) if rank else pair))
        if counts[best] < max(1, min_frequency):
            break
        new = base + len(merges)
        lengths[new] = lengths[best[0]] + lengths[best[1]]
        merges.append((*best, counts[best]))
        for symbols, _ in words:
            merge_slowly(symbols, best, new)
    return merges


def count_slowly(words):
    """How often each pair occurs, overlapping ones counted."""
    counts = Counter()
    for symbols, count in words:
        for pair in pairwise(symbols):
            counts[pair] += count
    return counts


def merge_slowly(symbols, pair, new):
    """Merge a pair in a list of symbols, from the left, in place."""
    place = 0
    while place < len(symbols) - 1:
        if (symbols[place], symbols[place + 1]) == pair:
            symbols[place : place + 2] = [new]
        place += 1
