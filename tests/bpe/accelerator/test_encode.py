"""Many words at once on the device: the ids of the textbook, whatever the word."""

import jax
import numpy as np
import pytest
from jax.experimental import checkify

from jaxopt_lite.bpe.accelerator.encode import merge_rows, merge_words, rules_of
from jaxopt_lite.bpe.reference import encode
from jaxopt_lite.bpe.vocabulary import Vocabulary
from tests.bpe.corpora import LONGEST, random_vocabulary, words_to_encode

pytestmark = pytest.mark.hardly_optimized  # all is of whole numbers


STEPS = 4  # of every search


def merged_words(words, vocabulary):
    """The words through the device, as lists."""
    lengths = np.array([len(word) for word in words])
    symbols = np.array([symbol for word in words for symbol in word], np.int32)
    rules, steps = rules_of(vocabulary)
    assert steps <= STEPS
    ids, sizes = merge_words(symbols, lengths, rules, STEPS)  # more steps find no more, and share their programs
    return [row.tolist() for row in np.split(ids, np.cumsum(sizes)[:-1])]


def test_as_the_textbook():
    """Words of all lengths, among them none, and of runs."""
    for seed in range(8):
        vocabulary = random_vocabulary(seed)
        words = [*words_to_encode(seed, 150), [], [0], [0] * LONGEST, [0, 1] * (LONGEST // 2), [2] * 7]
        merges, merged = vocabulary.merges.tolist(), vocabulary.merged.tolist()
        assert merged_words(words, vocabulary) == [encode(word, merges, merged) for word in words], seed


def test_local_minima_are_not_merged_at_once():
    """In "abcd" with the order cd, b+cd, ab, the pair ab waits."""
    vocabulary = Vocabulary((b"a", b"b", b"c", b"d", b"cd", b"bcd", b"ab"), [(2, 3), (1, 4), (0, 1)], [4, 5, 6])
    assert merged_words([[0, 1, 2, 3]], vocabulary) == [[0, 5]]


def test_no_merges():
    """Without merges words stay as they are."""
    assert merged_words([[0, 1]], Vocabulary((b"a", b"b"), [], [])) == [[0, 1]]


@pytest.mark.parametrize("x64", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_index_is_in_bounds(x64):
    """Also in 32 bits, and where there is padding."""
    with jax.enable_x64(x64):
        rules, steps = rules_of(random_vocabulary(3))
        rows = np.full((64, 16), -1, np.int32)
        for row, word in zip(rows, words_to_encode(3, 64, 16), strict=True):
            row[: len(word)] = word
        checked = checkify.checkify(lambda r, x: merge_rows(r, x, steps=steps), errors=checkify.index_checks)
        error, ids = jax.jit(checked)(rules, rows)
        error.throw()
        assert ids.dtype == np.int32


def test_few_programs():
    """Words of many lengths and numbers compile a handful of programs."""
    vocabulary = random_vocabulary(1)
    before = merge_rows._cache_size()
    for count in (1, 7, 100, 1500):
        merged_words(words_to_encode(count, count), vocabulary)
    assert merge_rows._cache_size() - before <= 8
