"""Texts as bytes, also those that hold bytes which were not UTF-8."""

from collections.abc import Iterable

__all__ = ["all_to_bytes", "to_bytes"]

_UTF8 = "utf-8", "surrogateescape"


def to_bytes(text: str) -> bytes:
    """UTF-8. U+DC80..U+DCFF, which stand for bytes that were not UTF-8 in a file, become those bytes again.

    Raises:
        ValueError: another half of a surrogate pair, which is no character and has no UTF-8.
    """
    try:
        return text.encode(*_UTF8)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text has the lone surrogate U+{ord(text[error.start]):04X} in {text[:40]!r}, which is no character; "
            "only U+DC80..U+DCFF, which errors='surrogateescape' makes of bytes, are understood. Replace it, for "
            "instance by text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None


def all_to_bytes(texts: Iterable[str]) -> list[bytes]:
    """`to_bytes` of each, without a call for each."""
    texts = list(texts)
    try:
        return [text.encode(*_UTF8) for text in texts]
    except UnicodeEncodeError:
        return list(map(to_bytes, texts))  # which says what is wrong
