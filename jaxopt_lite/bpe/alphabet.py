"""Base symbols, and words as rows of them: what training starts from."""

from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np

from jaxopt_lite.bpe.backends import Words

__all__ = ["byte_order", "characters", "to_bytes", "words_of_bytes", "words_of_characters"]

BYTE_ORDERS = ("bytes", "gpt2")


@cache
def byte_order(name: str) -> tuple[bytes, ...]:
    """All 256 bytes in an order: "bytes", by value, or "gpt2", by the code points that GPT-2 writes them with.

    GPT-2 writes printable characters of Latin-1 as themselves, and the others as the characters from U+0100 on. Hugging
    Face numbers its byte-level alphabet in that order, which decides between equally frequent pairs.
    """
    if name not in BYTE_ORDERS:
        raise ValueError(f"initial_alphabet={name!r}: expected one of {BYTE_ORDERS} at byte level.")
    values = range(256)
    if name == "gpt2":
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        values = [*printable, *(value for value in range(256) if value not in printable)]
    return tuple(bytes([value]) for value in values)


def characters(words: Iterable[str], initial: Iterable[str] = ()) -> tuple[str, ...]:
    """The characters of the words and the initial ones, by code point."""
    return tuple(sorted(set(initial).union(*words)))


def to_bytes(word: str) -> bytes:
    """A word as bytes; those that were not UTF-8 in the file come back as they were."""
    return word.encode("utf-8", "surrogateescape")


def words_of_bytes(counts: Mapping[str, int], symbol_of: np.ndarray, mark: int | None) -> Words:
    """Words at byte level. `symbol_of`, [256], is the symbol of each byte; the mark ends each word, if there is one."""
    encoded = [to_bytes(word) for word in counts]
    values = np.frombuffer(b"".join(encoded), np.uint8)
    return _words(symbol_of[values], [len(word) for word in encoded], list(counts.values()), mark)


def words_of_characters(counts: Mapping[str, int], symbol_of: Mapping[str, int], mark: int | None) -> Words:
    """Words at character level; every character must have a symbol."""
    values = np.frombuffer("".join(counts).encode("utf-32-le"), np.uint32)
    table = np.zeros(int(values.max(initial=0)) + 1, np.int32)
    for character, symbol in symbol_of.items():
        if ord(character) < table.size:
            table[ord(character)] = symbol
    return _words(table[values], [len(word) for word in counts], list(counts.values()), mark)


def _words(symbols, lengths, counts, mark: int | None) -> Words:
    """Lay words out in a row, with the mark behind each; empty words and those that never occur are left out."""
    lengths, counts = np.asarray(lengths, np.int64), np.asarray(counts, np.int64)
    wanted = (lengths > 0) & (counts > 0)
    symbols = symbols[np.repeat(wanted, lengths)]
    lengths, counts = lengths[wanted], counts[wanted]
    if mark is not None:
        symbols = np.insert(symbols, np.cumsum(lengths), mark)
        lengths = lengths + 1
    last = np.zeros(symbols.size, bool)
    last[np.cumsum(lengths) - 1] = True
    return Words(symbols.astype(np.int32), last, np.repeat(counts, lengths))
