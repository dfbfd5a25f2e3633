"""Texts as rows of pieces: wherever they are cut, the ids are those of the words of the text."""

import random
from itertools import chain

import numpy as np
import pytest

from jaxopt_lite.bpe import pieces
from jaxopt_lite.bpe.cuts import WALL, starts
from jaxopt_lite.bpe.patterns import LOCAL, Splitter
from jaxopt_lite.bpe.pieces import Pieces, split_pieces
from tests.bpe.test_cuts import TEXTS
from tests.bpe.test_patterns import odd_texts
from tests.bpe.texts import MANY_LANGUAGES, sources

PATTERNS = [None, *sorted(LOCAL)]
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
    monkeypatch.setattr(pieces, "_BLOCK", block)
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
    monkeypatch.setattr(pieces, "_BLOCK", 20)
    split, choose = Splitter("", pattern), random.Random(0)
    for text in ("".join(choose.choices(texts_of(9), k=3)) for _ in range(60)):
        found = chain.from_iterable(_pieces(data, begins) for data, begins in pieces._blocks([text], split))
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
    monkeypatch.setattr(pieces, "_MOST_PIECES", 20)
    monkeypatch.setattr(pieces, "_BLOCK", 50)
    split = Splitter("", PATTERNS[-1])
    known, text = Numbered(split), sources()[0][:3000]
    assert known.texts([text, text]) == [text.encode()] * 2
    assert known.pieces._size.size == len(known.pieces._table) < 20 + 50
