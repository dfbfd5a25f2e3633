"""Words from below: one, many together, a very long one. The ids of the textbook, whatever the word."""

import random
import time
from types import SimpleNamespace

import numpy as np
import pytest

from jaxopt_lite import bpe
from jaxopt_lite.bpe import encode_words
from jaxopt_lite.bpe.encode_words import PairTable, merge_long, merge_together, merge_word
from jaxopt_lite.bpe.reference import encode as encode_word_slowly
from jaxopt_lite.bpe.vocabulary import Vocabulary
from tests.bpe.corpora import random_vocabulary, words_to_encode
from tests.bpe.texts import sources

# --- One word ---------------------------------------------------------------------------------------------------------


def random_rules(seed, ordered):
    """Merges over three base symbols; not `ordered`: in any order, so that parts may come after the whole."""
    choose = random.Random(seed)
    merges, merged = [], []
    while len(merges) < 12:
        pair = (choose.randrange(3 + len(merges)), choose.randrange(3 + len(merges)))
        if pair not in merges:
            merges.append(pair)
            merged.append(2 + len(merges))
    if not ordered:
        order = choose.sample(range(len(merges)), len(merges))
        merges, merged = [merges[k] for k in order], [merged[k] for k in order]
    return merges, merged, 3 + len(merges)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("longest", [12, 600])
def test_one_word_is_as_the_textbook_says(ordered, longest):
    """Below and above the length from which a heap is used."""
    for seed in range(30 if longest > 100 else 600):
        merges, merged, size = random_rules(seed, ordered)
        choose = random.Random(seed)
        letters = choose.randint(1, 3)
        word = [choose.randrange(letters) for _ in range(choose.randint(longest // 2, longest))]
        ranks = {a * size + b: rank for rank, (a, b) in enumerate(merges)}
        assert merge_word(word, ranks, merged, size) == encode_word_slowly(word, merges, merged), (seed, word)


def test_no_symbols_and_no_merges():
    """Nothing stays nothing, and without merges all stays as it is."""
    assert merge_word([], {}, [], 3) == []
    assert merge_word([1, 2, 1], {}, [], 3) == [1, 2, 1]


def test_very_long_word():
    """A hundred thousand equal symbols take a moment and not minutes."""
    start = time.perf_counter()
    ids = merge_word([0] * 100_000, {0: 0, 1 * 3 + 1: 1}, [1, 2], 3)
    assert ids == [2] * 25_000
    assert time.perf_counter() - start < 5


# --- Many words together ----------------------------------------------------------------------------------------------


def merged(words, vocabulary):
    lengths = np.array([len(word) for word in words], np.int64)
    symbols = np.array([symbol for word in words for symbol in word], np.int32)
    ids, sizes = merge_together(symbols, lengths, PairTable(vocabulary))
    return [row.tolist() for row in np.split(ids, np.cumsum(sizes)[:-1])]


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(k, marks=pytest.mark.slow) for k in range(10, 30))])
def test_many_words_are_as_the_textbook_says(seed):
    """Words of all lengths, and runs, alone and beside others."""
    vocabulary = random_vocabulary(seed)
    words = [word for word in words_to_encode(seed, 300) if word]
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
    """Also where many share a slot of the table, and no other pair is."""
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


# --- One very long word -----------------------------------------------------------------------------------------------


def test_long_words_in_pieces(monkeypatch):
    """As merge by merge, wherever pieces meet; runs of one letter, which no piece divides alike, too."""
    monkeypatch.setattr(encode_words, "_PIECE", 5)
    monkeypatch.setattr(encode_words, "_REACH", 1)
    compared = 0
    for seed in range(600):
        draw = random.Random(seed)
        vocabulary = random_vocabulary(seed, draw.choice([3, 14, 30]))
        if not vocabulary.is_unique:
            continue
        compared += 1
        word = [draw.randrange(draw.choice([1, 2, 3])) for _ in range(draw.randrange(1, 120))]
        slowly = merge_word(word, vocabulary.ranks, vocabulary.merged.tolist(), len(vocabulary.tokens))
        assert merge_long(np.array(word, np.int32), PairTable(vocabulary)).tolist() == slowly, seed
    assert compared > 100


def test_very_long_words_have_the_same_ids():
    """Of the encoder, whose pieces are longer: letters of proteins, runs, and base64."""
    tokenizer = bpe.train(sources()[:4], 900, progress=False)
    vocabulary, draw = tokenizer.vocabulary, random.Random(0)
    for letters in ("ACDEFGHIKLMNPQRSTVWY", "a", "ab", "theandofing"):
        text = "".join(draw.choices(letters, k=5000))
        symbols = [vocabulary.symbol_of[byte] for byte in text.encode()]
        slowly = merge_word(symbols, vocabulary.ranks, vocabulary.merged.tolist(), len(vocabulary.tokens))
        assert tokenizer.encode(text) == slowly
