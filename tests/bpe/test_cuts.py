"""The words of the pieces are the words of the texts, for every pattern that may be cut."""

import random
from collections import Counter

import numpy as np
import pytest

from jaxopt_lite.bpe.cuts import ONE_CUT, WALL, starts
from jaxopt_lite.bpe.patterns import LOCAL, Splitter, splitter
from tests.bpe.test_patterns import ALPHABETS, odd_texts

PATTERNS = [None, *sorted(LOCAL)]
TEXTS = ALPHABETS | {
    "runs": list(" \n\ta!/1'\u3000日"),  # a carriage return in a text leaves out some cuts
    "spaces": [" ", "  ", "\n", "\n\n", "\t", "a", "(", "s", "é", "\u2028", "\x1c"],
    "signs": [*"aBs'/.\n ", "'s", "'LL", "ſ", "5", " '", "\u0301"],
}


def pieces(texts: list[str], split: Splitter) -> list[bytes]:
    data = WALL.join(text.encode("utf-8", "surrogatepass") for text in texts)
    return [data[a:b] for a, b in pairs(starts(data, split.pattern), len(data))]


def pairs(places: np.ndarray, end: int):
    return zip(places.tolist(), [*places[1:].tolist(), end], strict=True)


@pytest.mark.parametrize("alphabet", TEXTS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_cuts_change_no_word(pattern, alphabet):
    split = Splitter("", pattern)
    texts = list(odd_texts(TEXTS[alphabet], 400, seed=3))
    found = pieces(texts, split)
    assert b"".join(found) == WALL.join(text.encode("utf-8", "surrogatepass") for text in texts)
    words = Counter(w for piece in found if piece != WALL for w in split.words(piece.decode("utf-8", "surrogatepass")))
    assert words == Counter(word for text in texts for word in split.words(text))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_cut_changes_no_word(pattern):
    """Each by itself, wherever the text begins and ends."""
    split, choose = Splitter("", pattern), random.Random(4)
    for text in (text for letters in TEXTS.values() for text in odd_texts(letters, 60, seed=4)):
        text = text[choose.randrange(len(text) + 1) :]
        for at in (match.start() for match in ONE_CUT.finditer(text)):
            for end in {choose.randint(at, len(text)), len(text)}:
                part = text[:end]
                assert split.words(part[:at]) + split.words(part[at:]) == split.words(part), (part, at)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("gpt4", "one two, don't", ["one", " two", ",", " don't"]),
        ("gpt4", "f(x):\n    return\n", ["f", "(x", "):\n", "   ", " return", "\n"]),
        ("gpt4", "a\n\n b", ["a", "\n\n", " b"]),
        ("gpt2", "a\n\n b\nc", ["a", "\n\n b", "\n", "c"]),
        ("o200k", "x!\n/y 'z' 12.5", ["x", "!\n/y", " '", "z", "'", " 12", ".", "5"]),
        ("gpt4", "Да, нет", ["Да,", " нет"]),
        ("whitespace", "a1, b", ["a1,", " ", "b"]),
    ],
)
def test_pieces_are_short(pattern, text, expected):
    """So that few of them are distinct; this is what makes counting quick."""
    assert [piece.decode() for piece in pieces([text], splitter(pattern))] == expected
