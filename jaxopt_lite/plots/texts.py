"""A text colored by its tokens: on a terminal through rich, in a notebook as HTML, and as plain text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, Protocol, TypeAlias

from rich.text import Text

from jaxopt_lite.plots.style import GREEN, ORANGE, PINK, SKY, VERMILLION, check

__all__ = ["Reads", "Tokens", "tokens"]

_COLORS = (SKY, ORANGE, GREEN, PINK, VERMILLION)  # on which black is easy to read
_TRANSPARENT = "66"  # the text keeps the notebook's color, light or dark


Special: TypeAlias = Literal["raise", "encode", "ignore"]


class Reads(Protocol):
    """What a `Tokenizer` is asked for."""

    @property
    def vocabulary(self) -> Any: ...
    def encode(self, text: str, *, special: Special = "raise") -> list[int]: ...


@dataclass(frozen=True)
class Tokens:
    """A text as its tokens. A notebook shows it in colors, and so does `rich.print`; `print` puts "|" between tokens.

    Attributes:
        ids: the tokens' ids.
        pieces: the text of each; a byte that is part of a character is "\\xe2", and invisible characters and control
            codes are escaped likewise.
    """

    ids: tuple[int, ...]
    pieces: tuple[str, ...]

    def __str__(self) -> str:
        return "|".join(self.pieces)

    def __rich__(self) -> Text:
        text = Text()
        for color, piece in self._colored():
            text.append(piece.replace("\n", "⏎\n"), f"black on {color}")
        return text

    def _repr_html_(self) -> str:
        spans = []
        for k, (color, piece) in zip(self.ids, self._colored(), strict=True):
            shown = escape(piece).replace("\n", "⏎\n")
            spans.append(f'<span style="background:{color}{_TRANSPARENT};border-radius:2px" title="{k}">{shown}</span>')
        note = f"<small>{len(self.ids):,} tokens</small>"
        return f'<div style="white-space:pre-wrap;font-family:monospace;line-height:1.6">{"".join(spans)}</div>{note}'

    def _colored(self) -> Iterator[tuple[str, str]]:
        return ((_COLORS[at % len(_COLORS)], piece) for at, piece in enumerate(self.pieces))


def tokens(tokenizer: Reads, text: str, *, special: Special = "encode") -> Tokens:
    """A text colored by its tokens, to be shown in a notebook or printed by `rich.print`.

    Args:
        tokenizer: what cuts the text into tokens.
        text: the text.
        special: what a special token in the text is, as for `Tokenizer.encode`; by default that token.

    Returns:
        The tokens, which show themselves.

    Raises:
        TypeError: something else than a `Tokenizer`.
        ValueError: what `Tokenizer.encode` refuses.

    Example:
        >>> from jaxopt_lite import bpe, plots
        >>> tokenizer = bpe.train(["low lower lowest"] * 2, merges=3)
        >>> print(plots.tokens(tokenizer, "lower"))
        low|e|r
    """
    check("tokenizer", tokenizer, "a Tokenizer", "vocabulary", "encode")
    ids = tokenizer.encode(text, special=special)
    return Tokens(tuple(ids), tuple(_pieces(tokenizer.vocabulary, ids)))


def _pieces(vocabulary: Any, ids: Sequence[int]) -> Iterator[str]:
    for k in ids:
        text = vocabulary.texts[k].decode("utf-8", "backslashreplace") + " " * bool(vocabulary.ends_word[k])
        yield "".join(map(_visible, text))


def _visible(character: str) -> str:
    shown = character.isprintable() or character in "\n\t"
    return character if shown else character.encode("unicode_escape").decode()
