"""Encoding from below: one word, many together, and texts in pieces. The ids of the textbook, whatever the word."""

import random
import time
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from jaxopt_lite import bpe
from jaxopt_lite.bpe import encode
from jaxopt_lite.bpe.cuts import WALL, starts
from jaxopt_lite.bpe.encode import PairTable, Pieces, merge_long, merge_together, merge_word, split_pieces
from jaxopt_lite.bpe.patterns import LOCAL, Splitter
from jaxopt_lite.bpe.reference import encode as encode_word_slowly
from jaxopt_lite.bpe.vocabulary import Vocabulary
from tests.bpe.corpora import random_vocabulary, words_to_encode
from tests.bpe.test_cuts import TEXTS
from tests.bpe.test_patterns import odd_texts
from tests.bpe.texts import MANY_LANGUAGES, sources

PATTERNS = [None, *sorted(LOCAL)]


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


# --- Texts in pieces --------------------------------------------------------------------------------------------------


NUMBER = pytest.mark.parametrize("number", [8, pytest.param(60, marks=pytest.mark.slow)])  # of texts of an alphabet


def texts_of(seed, number=60):
    drawn = [text for k, letters in enumerate(TEXTS.values()) for text in odd_texts(letters, number, seed=seed + k)]
    texts = [*drawn, "", MANY_LANGUAGES, sources()[0][:3000], "", "".join(drawn)]
    return [text.replace("\0", "") for text in texts]


class Numbered:
    """Pieces whose "ids" of a word are its bytes, so that ids are texts; it remembers the words it was asked for."""

    def __init__(self, split: Splitter):
        self.asked, self.pieces = [], Pieces(split, self.ids_of)

    def ids_of(self, words):
        self.asked += words
        data = [word.encode("utf-8", "surrogatepass") for word in words]
        ends = np.cumsum([len(word) for word in data], dtype=np.int64)
        return np.frombuffer(b"".join(data), np.uint8).astype(np.int32), ends

    def texts(self, texts):
        rows, begun = [], b""
        for ids, ends in self.pieces.rows(texts):
            data, places = bytes(ids.astype(np.uint8)), ends.tolist()
            for start, end in zip((0, *places), places, strict=False):
                rows.append(begun + data[start:end])
                begun = b""
            begun = begun + data[places[-1] if places else 0 :]
        assert begun == b""
        return rows


@NUMBER
@pytest.mark.parametrize("block", [1, pytest.param(7, marks=pytest.mark.slow), 64, 1 << 20])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_ids_of_texts(monkeypatch, pattern, block, number):
    """Of all texts at once, of each by itself, and again, when all is known."""
    monkeypatch.setattr(encode, "_BLOCK", block)
    split, known = Splitter("", pattern), Numbered(Splitter("", pattern))
    texts = texts_of(block, number)
    if block < 60:
        texts = [text[:200] for text in texts[::5]]  # each block goes from thread to thread
    expected = ["".join(split.words(text)).encode("utf-8", "surrogatepass") for text in texts]
    assert known.texts(texts) == expected
    known.asked.clear()
    assert known.texts(texts) == expected and known.asked == []
    assert [known.texts([text])[0] for text in texts[::7]] == expected[::7]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_words_of_blocks(monkeypatch, pattern):
    """Where a long text is cut into blocks, its words are not."""
    monkeypatch.setattr(encode, "_BLOCK", 20)
    split, choose = Splitter("", pattern), random.Random(0)
    for text in ("".join(choose.choices(texts_of(9), k=3)) for _ in range(60)):
        found = chain.from_iterable(_pieces(data, begins) for data, begins in encode._blocks([text], split))
        whole = [piece for piece in found if piece != WALL]
        words = [word for piece in whole for word in split.words(piece.decode("utf-8", "surrogatepass"))]
        assert words == split.words(text)


def _pieces(data, begins):
    return [data[a:b] for a, b in zip(begins.tolist(), [*begins[1:].tolist(), len(data)], strict=True)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_words_of_pieces(pattern):
    """Those of each piece, in the order that is told; an empty one has none."""
    split = Splitter("", pattern)
    data = "\n".join(texts_of(5)).encode("utf-8", "surrogatepass")
    distinct = dict.fromkeys(_pieces(data, starts(data, split.pattern)))
    whole = ["", *(piece.decode("utf-8", "surrogatepass") for piece in distinct)]
    words, order, ends = split_pieces(whole, split)
    assert sorted(order.tolist()) == list(range(len(whole))) and ends[-1] == len(words)
    first = [0, *ends[:-1].tolist()]
    for k, a, b in zip(order.tolist(), first, ends.tolist(), strict=True):
        assert words[a:b] == split.words(whole[k]), whole[k]


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(encode, "_MOST_PIECES", 20)
    monkeypatch.setattr(encode, "_BLOCK", 50)
    split = Splitter("", PATTERNS[-1])
    known, text = Numbered(split), sources()[0][:3000]
    assert known.texts([text, text]) == [text.encode()] * 2
    assert known.pieces._size.size == len(known.pieces._table) < 20 + 50


def test_long_words_in_pieces(monkeypatch):
    """As merge by merge, wherever pieces meet; runs of one letter, which no piece divides alike, too."""
    monkeypatch.setattr(encode, "_PIECE", 5)
    monkeypatch.setattr(encode, "_REACH", 1)
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


def test_short_texts_are_remembered_with_their_ids():
    """Whoever alters what he got changes nothing; special tokens are looked for first."""
    tokenizer = bpe.train(sources()[:2], 400, special_tokens=["<s>"], progress=False)
    first = tokenizer.encode("import os")
    first.append(7)
    assert tokenizer.encode("import os") == tokenizer.encode_batch(["import os"])[0] == first[:-1]
    for special in ("encode", "ignore"):
        assert tokenizer.encode("a<s>", special=special) == tokenizer.encode("a<s>", special=special)
    assert tokenizer.encode("a<s>", special="encode")[-1] == 0 != tokenizer.encode("a<s>", special="ignore")[-1]
    with pytest.raises(ValueError, match="special token"):
        tokenizer.encode("a<s>")
    for number in range(encode._MOST_RECENT + 10):
        tokenizer.encode(f"x = {number}")
    assert len(tokenizer._encoder.recent) <= encode._MOST_RECENT
