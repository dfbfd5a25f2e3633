"""Bytes written as printable characters, as GPT-2 does in its files. Used by the file formats."""

from jaxopt_lite.bpe.alphabet import byte_order

__all__ = ["from_text", "is_byte", "to_text"]

_PRINTABLE = 188  # the first of the order are written as themselves, the others as the characters from U+0100 on
_CHARACTERS = {
    byte[0]: chr(byte[0]) if place < _PRINTABLE else chr(256 + place - _PRINTABLE)
    for place, byte in enumerate(byte_order("gpt2"))
}
_BYTES = {character: byte for byte, character in _CHARACTERS.items()}


def to_text(data: bytes) -> str:
    """Bytes as characters, one for each.

    Example:
        >>> from jaxopt_lite.bpe.formats.byte_text import to_text
        >>> to_text(b" a")
        'Ġa'
    """
    return "".join(map(_CHARACTERS.__getitem__, data))


def from_text(text: str) -> bytes:
    """The inverse.

    Raises:
        ValueError: a character that stands for no byte.
    """
    try:
        return bytes(map(_BYTES.__getitem__, text))
    except KeyError as error:
        raise ValueError(f"the token {text!r} has {error.args[0]!r}, which stands for no byte in GPT-2's way") from None


def is_byte(text: str) -> bool:
    """Whether a text stands for one byte."""
    return text in _BYTES
