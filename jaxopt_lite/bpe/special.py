"""Tokens that are found in a text as they stand, before it is cut into words: special ones, and added ones."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from jaxopt_lite.bpe.given import texts
from jaxopt_lite.bpe.once import once

__all__ = ["Finder", "check_mode", "pieces"]

MODES = ("raise", "encode", "ignore")


def check_mode(special: str) -> None:
    """Raise ValueError unless it is one of `MODES`."""
    if special not in MODES:
        raise ValueError(f"special={special!r}: expected one of {MODES}.")


@dataclass(frozen=True)
class Finder:
    """Finds tokens in texts: of those that begin at one place the longest, from the left.

    Args:
        tokens: different texts, none of them empty.
        last: those of them that are looked for only between the others that were found.

    Example:
        >>> from jaxopt_lite.bpe.special import Finder
        >>> list(Finder(("<|end|>",)).cut("one<|end|>two"))
        [(False, 'one'), (True, '<|end|>'), (False, 'two')]
    """

    tokens: tuple[str, ...] = ()
    last: Collection[str] = frozenset()

    def __post_init__(self):
        object.__setattr__(self, "tokens", texts("special_tokens", self.tokens))

    @once
    def patterns(self) -> list[re.Pattern[str]]:
        """A pattern for each search, in their order."""
        longest_first = sorted(self.tokens, key=len, reverse=True)
        groups = [[token for token in longest_first if (token in self.last) == is_last] for is_last in (False, True)]
        return [re.compile("|".join(map(re.escape, group))) for group in groups if group]

    def finds(self, several: Collection[str]) -> bool:
        """Whether any of the texts may hold a token."""
        for pattern in self.patterns:  # mostly there is none, and this is asked for every text
            if any(map(pattern.search, several)):
                return True
        return False

    def cut(self, text: str) -> Iterator[tuple[bool, str]]:
        """The tokens in a text and what lies between them, in order, nothing left out; no piece is empty.

        Yields:
            Whether a piece is a token, and the piece.
        """
        yield from _cut(text, self.patterns)


def _cut(text: str, patterns: list[re.Pattern[str]]) -> Iterator[tuple[bool, str]]:
    if not patterns:
        if text:
            yield False, text
        return
    start = 0
    for match in patterns[0].finditer(text):
        yield from _cut(text[start : match.start()], patterns[1:])
        yield True, match.group()
        start = match.end()
    yield from _cut(text[start:], patterns[1:])


def pieces(
    text: str, finder: Finder, ids: Mapping[str, int], refused: Collection[str]
) -> Iterator[tuple[int, str, int | None]]:
    """Cut a text at its tokens.

    Args:
        text: the text.
        finder: which tokens are looked for.
        ids: their ids.
        refused: those that must not be there.

    Yields:
        Where a piece starts, its text, and its id if it is a token.

    Raises:
        ValueError: one that must not be there.
    """
    start = 0
    for is_token, piece in finder.cut(text):
        if is_token and piece in refused:
            raise ValueError(
                f"the text has the special token {piece!r} at character {start}. If it may give orders, "
                "pass special='encode'; if it is text like any other, pass special='ignore'."
            )
        yield start, piece, ids[piece] if is_token else None
        start += len(piece)
