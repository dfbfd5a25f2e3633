"""Random words and merges with many ties and runs, and how to lay words out for the kernels."""

import random

import numpy as np

from jaxopt_lite.bpe.pairs import Words
from jaxopt_lite.bpe.vocabulary import Vocabulary

LONGEST = 64


def random_words(seed):
    """Distinct words over one to five symbols with counts, and the number of symbols."""
    choice = random.Random(seed)
    symbols = choice.choice([1, 2, 3, 5])
    longest = choice.choice([3, 8, 25])
    words = {}
    for _ in range(choice.randint(1, 12)):
        word = tuple(choice.randrange(symbols) for _ in range(choice.randint(1, longest)))
        words[word] = choice.randint(1, choice.choice([1, 3, 50]))
    return list(words.items()), symbols


def laid_out(words):
    """(symbols, count) each, in a row."""
    lengths = np.array([len(symbols) for symbols, _ in words], np.int64)
    last = np.zeros(int(lengths.sum()), bool)
    last[np.cumsum(lengths) - 1] = True
    symbols = np.array([symbol for word, _ in words for symbol in word], np.int32)
    return Words(symbols, last, np.repeat(np.array([count for _, count in words], np.int64), lengths))


def random_vocabulary(seed, merges=14):
    """Merges over "abc", each after those that make its parts."""
    choose = random.Random(seed)
    tokens, pairs = [b"a", b"b", b"c"], []
    while len(pairs) < merges:
        pair = (choose.randrange(len(tokens)), choose.randrange(len(tokens)))
        if pair not in pairs:
            pairs.append(pair)
            tokens.append(tokens[pair[0]] + tokens[pair[1]])
    return Vocabulary(tuple(tokens), pairs, range(3, 3 + merges))


def words_to_encode(seed, count, longest=LONGEST):
    """Words over the symbols of "abc", of all lengths; some of them none, some of one symbol."""
    choose = random.Random(seed)
    return [[choose.randrange(choose.randint(1, 3)) for _ in range(choose.randint(0, longest))] for _ in range(count)]
