"""Bytes as printable characters, one each: GPT-2's files write tokens so, and a ByteLevel pre-tokenizer texts."""

__all__ = ["as_characters", "byte_order", "from_characters", "is_byte"]

_BYTE_ORDERS = ("bytes", "gpt2")


def byte_order(name: str) -> tuple[bytes, ...]:
    """All 256 bytes in an order: "bytes", by value, or "gpt2", by the code points with which GPT-2 writes them.

    GPT-2 writes printable Latin-1 characters as themselves, and other bytes as the characters from U+0100 on. Hugging
    Face numbers its byte-level alphabet in that order, which decides between equally frequent pairs.
    """
    if not isinstance(name, str) or name not in _BYTE_ORDERS:
        raise ValueError(f"initial_alphabet={name!r:.80}: expected one of {_BYTE_ORDERS} at byte level.")
    values = range(256)
    if name == "gpt2":
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        values = [*printable, *(value for value in range(256) if value not in printable)]
    return tuple(bytes([value]) for value in values)


_PRINTABLE = 188  # so many bytes, the first in this order, are written as themselves, the others as U+0100 and up
_CHARACTERS = {
    byte[0]: chr(byte[0]) if k < _PRINTABLE else chr(256 + k - _PRINTABLE) for k, byte in enumerate(byte_order("gpt2"))
}
_BYTES = {character: byte for byte, character in _CHARACTERS.items()}


def as_characters(data: bytes) -> str:
    """Bytes as printable characters, one each, as GPT-2 writes them in its files.

    Example:
        >>> from jaxopt_lite.bpe.letters import as_characters
        >>> as_characters(b" a")
        'Ġa'
    """
    return "".join(map(_CHARACTERS.__getitem__, data))


def from_characters(text: str) -> bytes:
    """The inverse of `as_characters`.

    Raises:
        ValueError: a character that stands for no byte.
    """
    try:
        return bytes(map(_BYTES.__getitem__, text))
    except KeyError as error:
        raise ValueError(f"the token {text!r} has {error.args[0]!r}, which stands for no byte in GPT-2") from None


def is_byte(text: str) -> bool:
    """Whether a text stands for one byte."""
    return text in _BYTES
