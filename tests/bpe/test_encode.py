"""Many words at once on the device: the ids of the textbook, whatever the word."""

import random

import jax
import numpy as np
import pytest
from jax.experimental import checkify

from jaxopt_lite.bpe.encode import merge_rows, merge_words, rules_of
from jaxopt_lite.bpe.vocabulary import Vocabulary
from tests.oracles.bpe import encode_word_slowly

pytestmark = pytest.mark.hardly_optimised  # all is of whole numbers

LONGEST = 64


def merged_words(words, vocabulary):
    """The words through the device, as lists."""
    lengths = np.array([len(word) for word in words])
    symbols = np.array([symbol for word in words for symbol in word], np.int32)
    ids, sizes = merge_words(symbols, lengths, *rules_of(vocabulary))
    return [row.tolist() for row in np.split(ids, np.cumsum(sizes)[:-1])]


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


def random_words(seed, count, longest=LONGEST):
    choose = random.Random(seed)
    return [[choose.randrange(choose.randint(1, 3)) for _ in range(choose.randint(0, longest))] for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_as_the_textbook(seed):
    """Words of all lengths, among them none, and of runs."""
    vocabulary = random_vocabulary(seed)
    words = [*random_words(seed, 300), [], [0], [0] * LONGEST, [0, 1] * (LONGEST // 2), [2] * 7]
    merges, merged = vocabulary.merges.tolist(), vocabulary.merged.tolist()
    assert merged_words(words, vocabulary) == [encode_word_slowly(word, merges, merged) for word in words]


def test_local_minima_are_not_merged_at_once():
    """In "abcd" with the order cd, b+cd, ab, the pair ab waits."""
    vocabulary = Vocabulary((b"a", b"b", b"c", b"d", b"cd", b"bcd", b"ab"), [(2, 3), (1, 4), (0, 1)], [4, 5, 6])
    assert merged_words([[0, 1, 2, 3]], vocabulary) == [[0, 5]]


def test_no_merges():
    """Without merges words stay as they are."""
    assert merged_words([[0, 1]], Vocabulary((b"a", b"b"), [], [])) == [[0, 1]]


@pytest.mark.parametrize("x64", [True, False])
def test_every_index_is_in_bounds(x64):
    """Also in 32 bits, and where padding stands."""
    with jax.enable_x64(x64):
        rules, steps = rules_of(random_vocabulary(3))
        rows = np.full((64, 16), -1, np.int32)
        for row, word in zip(rows, random_words(3, 64, 16), strict=True):
            row[: len(word)] = word
        checked = checkify.checkify(lambda r, x: merge_rows(r, x, steps=steps), errors=checkify.index_checks)
        error, ids = jax.jit(checked)(rules, rows)
        error.throw()
        assert ids.dtype == np.int32


def test_few_programs():
    """Words of many lengths and numbers compile a handful of programs."""
    vocabulary = random_vocabulary(1, merges=30)
    before = merge_rows._cache_size()
    for count in (1, 7, 100, 1500):
        merged_words(random_words(count, count), vocabulary)
    assert merge_rows._cache_size() - before <= 8
