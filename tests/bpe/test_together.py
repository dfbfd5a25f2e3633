"""Many words at once on the host: the ids of the textbook, whatever the word."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxopt_lite.bpe.together import PairTable, merge_together
from jaxopt_lite.bpe.vocabulary import Vocabulary
from tests.bpe.test_encode import random_vocabulary, random_words
from tests.oracles.bpe import encode_word_slowly


def merged(words, vocabulary):
    lengths = np.array([len(word) for word in words], np.int64)
    symbols = np.array([symbol for word in words for symbol in word], np.int32)
    ids, sizes = merge_together(symbols, lengths, PairTable(vocabulary))
    return [row.tolist() for row in np.split(ids, np.cumsum(sizes)[:-1])]


@pytest.mark.parametrize("seed", range(30))
def test_as_the_textbook(seed):
    """Words of all lengths, and runs, alone and beside others."""
    vocabulary = random_vocabulary(seed)
    words = [word for word in random_words(seed, 300) if word]
    words += [[0], [0] * 65, [0, 1] * 32, [2] * 7, [0, 0, 0], [0, 0]]
    merges, new = vocabulary.merges.tolist(), vocabulary.merged.tolist()
    slowly = [encode_word_slowly(word, merges, new) for word in words]
    assert merged(words, vocabulary) == slowly
    for word, ids in zip(words[-8:], slowly[-8:], strict=True):
        assert merged([word], vocabulary) == [ids]


def test_no_merges_and_no_words():
    """Without merges words stay as they are, and nothing stays nothing."""
    vocabulary = Vocabulary((b"a", b"b"), [], [])
    assert merged([[0, 1], [1]], vocabulary) == [[0, 1], [1]]
    ids, sizes = merge_together(np.zeros(0, np.int32), np.zeros(0, np.int64), PairTable(vocabulary))
    assert ids.size == sizes.size == 0


def test_every_pair_is_found():
    """Also where many share a place in the table, and no other pair is."""
    size = 3000
    draw = np.random.default_rng(0)
    pairs = np.unique(draw.integers(0, size, (20_000, 2)), axis=0)
    merged = np.zeros(len(pairs), np.int32)
    table = PairTable(SimpleNamespace(tokens=range(size), merges=pairs, merged=merged))  # pyright: ignore
    assert np.array_equal(table.ranks(*pairs.T), np.arange(len(pairs)))
    others = draw.integers(0, size, (20_000, 2))
    known = set((pairs @ [size, 1]).tolist())
    others = others[[pair not in known for pair in (others @ [size, 1]).tolist()]]
    assert len(others) > 10_000 and np.all(table.ranks(*others.T) > len(pairs))
