"""Where a text may be cut so that the words of the pieces are the words of the text. NumPy, a megabyte at a time.

This is the one definition: counting, encoding, and reading files in blocks all use it. The tables and the predicates on
neighboring bytes, which `accelerator/words.py` evaluates in JAX, are here too.

In long texts the same pieces occur again and again, and only distinct ones need to be split into words. A cut is sound
where (1) a word of the text ends, (2) no match before it depends on what comes after it, and (3) no match after it
depends on what came before. No pattern of `patterns.LOCAL` looks back. For these patterns, in ASCII:

- Words with letters end with the letters, except that o200k lets `'s` and the like follow; in a word, digits never
  follow punctuation, and only digits follow digits. So words end where a letter meets a digit or punctuation, before
  and after digits, and between punctuation and letters if the punctuation has two characters or a space before it: a
  single one would belong to the letters.
- After letters, digits and punctuation no word continues with a space; after letters and digits, with no whitespace at
  all.
- A run of whitespace before something visible loses its last space to the next word. Some patterns have a word for
  everything up to the last line end of a run (`lines`), and a word ends there. With the others a word ends after a line
  end that stands alone. Patterns with `lines` divide runs differently at the end of a text, unless the run has no line
  end; so with them a piece may end inside a run only after its last line end.

Anything that is not ASCII might be anything. More text after the end only adds cuts.

These cuts are sound together: the one before the last space of a run needs the one after the run's last line end. The
cuts of `ONE_CUT` are sound each on its own, and look at so little that they stay sound where tokens are taken out of
the text on either side. They are used to read files in blocks.
"""

import re
from functools import cache
from typing import Any

import numpy as np

__all__ = ["ONE_CUT", "WALL", "has_lines", "starts"]

WALL = b"\xff"
"""A byte that never occurs in UTF-8: put between texts, it is a piece of its own."""

# Before a space that follows a visible character: no word spans that. Between a letter or digit and whitespace: of the
# words with whitespace after their first character, some are all whitespace, and the others have line ends after
# punctuation. Between a line end that stands alone and a visible character: the line end is a word or ends one,
# whatever follows, except that o200k may put a slash after it. `re` counts four more control characters as whitespace
# than `regex`, which only leads to fewer cuts.
ONE_CUT = re.compile(r"(?<=\S)(?= )|(?<=[A-Za-z0-9])(?=[ \t\r\n])|(?<=\S\n)(?=[^\s/])")
"""Where a text may be cut in two, for every pattern of `patterns.LOCAL` and for words between whitespace."""

LETTER, DIGIT, SIGN, QUOTE, SPACE, LINE, BLANK, OTHER, WIDE, END = range(10)
_VISIBLE = (LETTER, DIGIT, SIGN, QUOTE)
# What a pair of neighbors says about the point between them, as bits; all but the first need a look at more bytes.
CUT, BEHIND_SIGNS, BEFORE_QUOTE, LAST_SPACE, ENDS_RUN, WIDE_SPACE = 1, 2, 4, 8, 16, 32


def _class_of(byte: int) -> int:
    named = {b"'": QUOTE, b" ": SPACE, b"\n": LINE, b"\t": BLANK, b"\r": BLANK, WALL: END}
    character = bytes([byte])
    if character in named:
        return named[character]
    if character.isalpha():
        return LETTER
    if character.isdigit():
        return DIGIT
    # `str.isspace` is true for four more control characters than in `regex`; no cut is made at these.
    return WIDE if byte > 127 else OTHER if chr(byte).isspace() else SIGN


CLASSES = bytes(map(_class_of, range(256)))


@cache
def pair_bits(is_whitespace: bool) -> bytes:
    """A table indexed by 16 times the class of a byte plus that of the next: what may be between them, as bits."""
    bits = np.zeros((16, 16), np.uint8)
    if is_whitespace:
        for one in (*_VISIBLE, WIDE):
            bits[one, [SPACE, LINE, BLANK]] = bits[[SPACE, LINE, BLANK], one] = CUT
        return bits.tobytes()
    bits[[LETTER, DIGIT], SPACE] = bits[[LETTER, DIGIT], LINE] = bits[[LETTER, DIGIT], BLANK] = CUT
    bits[[SIGN, QUOTE], SPACE] = bits[[SIGN, QUOTE], DIGIT] = CUT
    bits[LETTER, [DIGIT, SIGN]] = bits[DIGIT, [LETTER, SIGN, QUOTE]] = CUT
    bits[[SIGN, QUOTE], LETTER] = BEHIND_SIGNS
    bits[LETTER, QUOTE] = BEFORE_QUOTE
    bits[SPACE, SPACE] = LAST_SPACE
    bits[WIDE, SPACE] = CUT | WIDE_SPACE
    for one in (SPACE, LINE, BLANK, OTHER, WIDE):
        bits[one, _VISIBLE] |= ENDS_RUN
    return bits.tobytes()


def starts(data: bytes, pattern: str | None) -> np.ndarray:
    """Where the pieces start, int64, of texts in UTF-8 with `WALL` between them.

    Args:
        data: the texts, at least one byte.
        pattern: what the words are, one of `patterns.LOCAL`; `None` for words between whitespace.

    Example:
        >>> from jaxopt_lite.bpe.cuts import starts
        >>> from jaxopt_lite.bpe.patterns import splitter
        >>> starts(b"to be", splitter("gpt4").pattern).tolist()
        [0, 2]
    """
    byte = np.frombuffer(data, np.uint8)
    kind = np.frombuffer(data.translate(CLASSES), np.uint8)
    pair = kind[:-1] << 4
    pair |= kind[1:]
    bits = np.frombuffer(pair.tobytes().translate(pair_bits(pattern is None)), np.uint8)
    cut = (bits & CUT).view(bool)  # between byte k and the next
    walls = np.flatnonzero(byte == WALL[0]) if WALL in data else np.zeros(0, np.int64)
    if pattern is not None:
        _look_around(byte, kind, bits, cut)
        _at_line_ends(byte, kind, bits, cut, walls, has_lines(pattern), b"\r" in data)
    cut[walls[walls < cut.size]] = True
    cut[walls[walls > 0] - 1] = True
    return np.append(0, np.flatnonzero(cut) + 1)


def has_lines(pattern: str | None) -> bool:
    """Whether the pattern has a word for all whitespace up to the last line end of a run."""
    return pattern is not None and r"\s*[\r\n]" in pattern


# --- Predicates on neighboring bytes, as NumPy or JAX arrays: `byte_…` are bytes, the others mostly their classes -----


def signs_end(kind_before: Any, byte_before: Any) -> Any:
    """Whether punctuation after this ends before letters; after a slash, o200k may end another word with it."""
    signs = ((kind_before == SIGN) | (kind_before == QUOTE)) & (byte_before != ord("/"))
    return signs | (kind_before == SPACE)


def quote_starts(kind_behind: Any) -> Any:
    """Whether an apostrophe before this starts a word and does not belong to the letters before it."""
    return (kind_behind != LETTER) & (kind_behind != WIDE)


def may_end_whitespace(before: Any, last: Any) -> Any:
    """Whether two bytes may be the last of a whitespace character beyond ASCII: U+0085, U+00A0, U+1680, U+2000 …"""
    ends = (last == 0x85) | (last == 0xA0) | (last == 0x9F) | ((last >= 0x80) & (last <= 0x8A)) | (last >> 1 == 0x54)
    return (ends | (last == 0xAF)) & ((before == 0xC2) | (before == 0x9A) | (before == 0x80) | (before == 0x81))


def line_ends(kind_behind: Any, byte_behind: Any) -> Any:
    """Whether a word ends after the line end before this; o200k may put a slash after line ends."""
    return (kind_behind <= QUOTE) & (byte_behind != ord("/"))


def run_goes_on(kind_behind: Any) -> Any:
    """Whether this, after a line end, is or may be whitespace other than a line end."""
    return (kind_behind >= SPACE) & (kind_behind != LINE) & (kind_behind != END)


# --- The same for a whole text, looking only where it is needed -------------------------------------------------------


def _look_around(byte, kind, bits, cut) -> None:
    """Cuts that depend on the byte before both neighbors, or on the one after them."""
    at = np.flatnonzero(bits & BEHIND_SIGNS != 0)
    at = at[at > 0]
    cut[at[signs_end(kind[at - 1], byte[at - 1])]] = True
    at = np.flatnonzero(bits & BEFORE_QUOTE != 0)
    at = at[at + 2 < kind.size]
    cut[at[quote_starts(kind[at + 2])]] = True
    at = np.flatnonzero(bits & WIDE_SPACE != 0)
    cut[at[may_end_whitespace(byte[at - 1], byte[at])]] = False


def _at_line_ends(byte, kind, bits, cut, walls, lines: bool, has_returns: bool) -> None:
    """Cuts after line ends, and before the last space of a run."""
    at = np.flatnonzero(kind[:-1] == LINE)
    behind = kind[at + 1]
    visible = line_ends(behind, byte[at + 1])
    if not lines:
        cut[at[visible & (at > 0) & (kind[at - 1] <= QUOTE)]] = True
    else:
        cut[at[visible]] = True
        if has_returns:
            return  # carriage returns may end lines too, which is not handled here
        # Cuts before more whitespace, or what may be whitespace, if no line end follows in it.
        ends = np.append(np.flatnonzero(bits & ENDS_RUN != 0), byte.size)
        stops = np.sort(np.append(walls, np.append(at, byte.size - 1)))
        at = at[run_goes_on(behind)]
        cut[at[ends[np.searchsorted(ends, at)] < stops[np.searchsorted(stops, at, "right")]]] = True
    at = np.flatnonzero(bits & LAST_SPACE != 0)
    at = at[at + 2 < kind.size]
    cut[at[kind[at + 2] <= QUOTE]] = True
