r"""Texts in chunks that come again and again, found by `str.split`, which is several times as fast as any pattern.

A text is cut before every space with a visible character behind it. Such chunks have the words of the text, one after
the other, under every pattern of `patterns.LOCAL`, where a chunk is cut into words with a space and a visible character
behind it, if that is what the text has there. Proof: (1) The patterns match everything, and a match holds a space
behind its first character only if it is all whitespace; of whitespace that a visible character follows, such a match
leaves the last space out. So no word spans a cut. (2) What a match begun before the cut asks about the text beyond is
whether a run of whitespace goes on or ends, and of what: the space and the visible character, which are there, answer
it. (3) No pattern looks back.

Chunks are kept as keys: without the space at the cut, and with NUL for spaces that are no cuts. So the only spaces in
keys are those that mark the ends of a text.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxopt_lite.bpe.patterns import Splitter

__all__ = ["Words", "keys", "split_keys"]

_FIRST, _LAST = " ", "  "  # before the key at the beginning of a text, behind the one at the end
_BEYOND = " x"  # stands for what follows a chunk
_UNUSUAL = "\n"  # a key that no text has


def keys(text: str) -> list[str]:
    r"""The chunks of a text, as keys.

    A text with NUL, or with spaces before whitespace other than "\n", "\t", "\r" and spaces, has keys that
    `split_keys` leaves out. Its words must be found from the whole.

    Example:
        >>> from jaxopt_lite.bpe.chunks import keys
        >>> keys("to be  or not")
        [' to', 'be\x00', 'or', 'not']
    """
    if "\0" in text:
        return [_UNUSUAL]
    # All spaces of a run but the last become NUL: every second one, those before them, and one of two that are left.
    text = text.replace("  ", "\0 ").replace(" \0", "\0\0").replace("  ", "\0 ")
    text = text.replace(" \n", "\0\n").replace(" \t", "\0\t").replace(" \r", "\0\r")
    if text.endswith(" "):
        text = text[:-1] + "\0"
    found = text.split(" ")
    found[0] = _FIRST + found[0]
    if not text[-1:].isalnum():  # only the meaning of whitespace depends on whether there is more
        found[-1] += _LAST
    return found


class Words(NamedTuple):
    """The words of chunks, in one row, as lists of lists would keep the garbage collector busy.

    Attributes:
        keys: of the chunks.
        words: those of the first chunk, those of the second, and so on.
        ends: for each chunk, how many words it and those before it have.
    """

    keys: list[str]
    words: list[str]
    ends: np.ndarray


def split_keys(chunks: Iterable[str], splitter: Splitter) -> Words:
    """The words of chunks.

    Args:
        chunks: from `keys`, distinct.
        splitter: a local one.

    Returns:
        The words of all chunks but those whose words depend on what is around them.
    """
    groups: tuple[list[str], ...] = ([], [])
    known, words, ends = [], [], []
    for key in chunks:
        is_first = key[0] == _FIRST
        if key[0].isspace() and not is_first:
            continue
        if is_first or key.endswith(_LAST):
            known.append(key)
            words += _at_the_edge(key, splitter)
            ends.append(len(words))
        else:
            groups[key.isascii()].append(key)
    # One call of the pattern is faster than thousands, and for ASCII it is faster still.
    all_ends = [np.asarray(ends, np.int64)]
    for group in filter(None, groups):
        new = splitter.words(_text(" ".join(group)) + _BEYOND)
        characters = np.cumsum(np.fromiter(map(len, group), np.int64, len(group)) + 1)
        all_ends.append(len(words) + 1 + np.searchsorted(np.cumsum(np.fromiter(map(len, new), np.int64)), characters))
        known += group
        words += new
        del words[all_ends[-1][-1] :]
    return Words(known, words, np.concatenate(all_ends))


def _at_the_edge(key: str, splitter: Splitter) -> list[str]:
    """The words of a chunk at the beginning or the end of a text."""
    if key.endswith(_LAST):
        return splitter.words(_text(key[: -len(_LAST)]))
    return splitter.words(_text(key) + _BEYOND)[:-1]


def _text(key: str) -> str:
    text = key.replace("\0", " ")
    return text[len(_FIRST) :] if key.startswith(_FIRST) else " " + text
