"""Chunks have the words of the text, under every pattern for which texts are cut."""

import random
from itertools import chain

import pytest
import regex

from jaxopt_lite.bpe.chunks import keys, split_keys
from jaxopt_lite.bpe.patterns import LOCAL, splitter
from tests.bpe.texts import odd_texts, sources

ALPHABETS = [" \n\tx", "  \n\r\t x.5'/s", " \xa0\n x.é/1", "a \r\n/ \x0b\x85 \u3000中。1!", " \n\r\tab.5-/'sS", "  x"]


def random_texts(seed, count=1500):
    choose = random.Random(seed)
    return ["".join(choose.choices(choose.choice(ALPHABETS), k=choose.randrange(14))) for _ in range(count)]


def words_by_key(cut, split):
    found = split_keys(list(dict.fromkeys(chain.from_iterable(cut))), split)
    ends = found.ends.tolist()
    starts = [0, *ends[:-1]]
    return {key: found.words[a:b] for key, a, b in zip(found.keys, starts, ends, strict=True)}


@pytest.mark.parametrize("pattern", sorted(LOCAL))
def test_the_words_of_the_text(pattern):
    """Or a key that is left out, for a text that must not be cut; such texts are few."""
    split = splitter(pattern)
    texts = [*random_texts(len(pattern)), *odd_texts(100), *(text[:5000] for text in sources())]
    cut = [keys(text) for text in texts]
    found = words_by_key(cut, split)
    whole = 0
    for text, row in zip(texts, cut, strict=True):
        if all(key in found for key in row):
            assert list(chain.from_iterable(found[key] for key in row)) == split.words(text), text
            whole += 1
    assert whole > 0.8 * len(texts)
    assert all(key in found for text, row in zip(texts, cut, strict=True) if text.isalnum() for key in row)


def test_pieces_repeat():
    """A chunk is the same wherever in a text it stands, but at its ends."""
    assert keys("to be or to be\n") == [" to", "be", "or", "to", "be\n  "]


def test_whitespace_is_whitespace():
    r"""What \s matches in a pattern, `str.isspace` knows."""
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert all(space.isspace() for space in regex.findall(r"\s", every))
