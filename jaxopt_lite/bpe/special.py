"""Special tokens in text: where they stand, and what becomes of them. Used by `tokenizer.py`."""

import re
from collections.abc import Iterator, Mapping

from jaxopt_lite.bpe.patterns import special_pattern

__all__ = ["MODES", "finder", "pieces"]

MODES = ("raise", "encode", "ignore")


def finder(special_tokens: Mapping[str, int]) -> re.Pattern[str] | None:
    """A pattern that finds special tokens, the longest of those that begin at one place; `None` if there are none."""
    return special_pattern(tuple(special_tokens)) if special_tokens else None


def pieces(
    text: str, special_tokens: Mapping[str, int], find: re.Pattern[str] | None, special: str
) -> Iterator[tuple[int, str, int | None]]:
    """Cut a text at its special tokens.

    Args:
        text: the text.
        special_tokens: text -> id.
        find: from `finder`.
        special: one of `MODES`, see `Tokenizer.encode`.

    Yields:
        Where a piece starts, its text, and its id if it is a special token.

    Raises:
        ValueError: a special token, where `special` is "raise".
    """
    if special not in MODES:
        raise ValueError(f"special={special!r}: expected one of {MODES}.")
    end = 0
    for match in find.finditer(text) if find is not None and special != "ignore" else ():
        if special == "raise":
            raise ValueError(
                f"the text has the special token {match[0]!r} at character {match.start()}. If it may give orders, "
                "pass special='encode'; if it is text like any other, pass special='ignore'."
            )
        if match.start() > end:
            yield end, text[end : match.start()], None
        yield match.start(), match[0], special_tokens[match[0]]
        end = match.end()
    if end < len(text):
        yield end, text[end:], None
