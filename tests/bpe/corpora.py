"""Random words with many ties and runs, and how to lay words out for the kernels."""

import random

import numpy as np

from jaxopt_lite.bpe.backends import Words


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
