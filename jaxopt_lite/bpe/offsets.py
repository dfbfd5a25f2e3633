"""Which characters of a text each token stands for. Used by `tokenizer.py`."""

import re
from collections.abc import Iterable, Iterator

import numpy as np

from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.utf8 import to_bytes
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["placed_words", "spans"]

_NO_SPACE = re.compile(r"\S+")  # the words of str.split()


def placed_words(text: str, splitter: Splitter) -> Iterator[tuple[int, str]]:
    """The words of a text with the place of their first character."""
    if splitter.pattern is None:
        yield from ((match.start(), match[0]) for match in _NO_SPACE.finditer(text))
        return
    place = 0
    for word in splitter.words(text):
        yield place, word
        place += len(word)


def spans(word: str, start: int, ids: Iterable[int], vocabulary: Vocabulary) -> np.ndarray:
    """First and behind the last character of every token of a word, int32 `[n, 2]`.

    A token that begins or ends inside a character touches that character, and its span holds all of it. One without
    text, such as the end-of-word mark, has an empty span where it stands.

    Args:
        word: the word.
        start: the place of its first character in the text.
        ids: the tokens of the word.
        vocabulary: what they are.
    """
    lengths = [len(to_bytes(character)) for character in word]
    character = np.append(np.repeat(np.arange(len(word)), lengths), len(word))  # of every byte, and behind the last
    ends, end = [], 0
    for k in ids:
        # An unknown character has another text than its token.
        end += lengths[character[end]] if k == vocabulary.unknown else len(vocabulary.texts[k])
        ends.append(end)
    last = np.asarray(ends, np.int64)
    first = np.concatenate([[0], last])[:-1]
    behind = np.where(last > first, character[np.maximum(last, 1) - 1] + 1, character[first])
    return (start + np.column_stack([character[first], behind])).astype(np.int32)
