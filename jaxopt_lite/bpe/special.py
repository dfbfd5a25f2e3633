"""Special tokens in text: where they stand, and what becomes of them. Used by `tokenizer.py`."""

import re
from collections.abc import Iterator, Mapping

from jaxopt_lite.bpe.patterns import special_pattern, split_special

__all__ = ["check_mode", "finder", "pieces"]

MODES = ("raise", "encode", "ignore")


def check_mode(special: str) -> None:
    """Raise ValueError unless it is one of `MODES`."""
    if special not in MODES:
        raise ValueError(f"special={special!r}: expected one of {MODES}.")


def finder(special_tokens: Mapping[str, int]) -> re.Pattern[str] | None:
    """A pattern that finds special tokens, the longest of those that begin at one place; `None` if there are none."""
    return special_pattern(tuple(special_tokens)) if special_tokens else None


def pieces(text: str, special_tokens: Mapping[str, int], special: str) -> Iterator[tuple[int, str, int | None]]:
    """Cut a text at its special tokens.

    Args:
        text: the text.
        special_tokens: text -> id.
        special: one of `MODES`, see `Tokenizer.encode`.

    Yields:
        Where a piece starts, its text, and its id if it is a special token.

    Raises:
        ValueError: a special token, where `special` is "raise".
    """
    start = 0
    for is_special, piece in split_special(text, () if special == "ignore" else tuple(special_tokens)):
        if is_special and special == "raise":
            raise ValueError(
                f"the text has the special token {piece!r} at character {start}. If it may give orders, "
                "pass special='encode'; if it is text like any other, pass special='ignore'."
            )
        yield start, piece, special_tokens[piece] if is_special else None
        start += len(piece)
