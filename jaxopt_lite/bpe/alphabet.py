"""Base symbols, and words as rows of them: what training starts from."""

from collections.abc import Iterable, Mapping
from itertools import chain, groupby

import numpy as np

from jaxopt_lite.bpe.backends import Words
from jaxopt_lite.bpe.symbols import Alphabet
from jaxopt_lite.bpe.utf8 import all_to_bytes
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["FALLBACK", "byte_order", "characters", "words_of"]

BYTE_ORDERS = ("bytes", "gpt2")
FALLBACK = tuple(f"<0x{value:02X}>" for value in range(256))  # what the tokens of single bytes are called everywhere


def byte_order(name: str) -> tuple[bytes, ...]:
    """All 256 bytes in an order: "bytes", by value, or "gpt2", by the code points that GPT-2 writes them with.

    GPT-2 writes printable characters of Latin-1 as themselves, and the others as the characters from U+0100 on. Hugging
    Face numbers its byte-level alphabet in that order, which decides between equally frequent pairs.
    """
    if name not in BYTE_ORDERS:
        raise ValueError(f"initial_alphabet={name!r:.80}: expected one of {BYTE_ORDERS} at byte level.")
    values = range(256)
    if name == "gpt2":
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        values = [*printable, *(value for value in range(256) if value not in printable)]
    return tuple(bytes([value]) for value in values)


def characters(words: Iterable[str], initial: Iterable[str] = ()) -> tuple[str, ...]:
    """The characters of the words and the initial ones, by code point."""
    first = set(initial)
    if wrong := [character for character in first if not isinstance(character, str) or len(character) != 1]:
        raise ValueError(f"initial_alphabet has {wrong[0]!r:.80}: expected single characters at character level.")
    return tuple(sorted(first.union(*words)))


def words_of(counts: Mapping[str, int], vocabulary: Vocabulary) -> Words:
    """Words as rows of base symbols, each with the mark behind it if there is one.

    Raises:
        ValueError: a byte or character that the vocabulary has no token for.
    """
    if vocabulary.level == "byte" and len(vocabulary.symbol_of) == 256:
        return _of_bytes(counts, vocabulary)
    symbols_of = Alphabet(vocabulary).symbols
    rows = [(part, count) for word, count in counts.items() for part in _known(symbols_of(word), vocabulary.unknown)]
    symbols = np.fromiter(chain.from_iterable(row for row, _ in rows), np.int32)
    return _in_a_row(symbols, [len(row) for row, _ in rows], [count for _, count in rows])


def _of_bytes(counts: Mapping[str, int], vocabulary: Vocabulary) -> Words:
    encoded = all_to_bytes(counts)
    symbol_of = np.array([vocabulary.symbol_of[value] for value in range(256)], np.int32)
    symbols = symbol_of[np.frombuffer(b"".join(encoded), np.uint8)]
    lengths = np.array([len(word) for word in encoded], np.int64)
    if vocabulary.end_of_word is not None:
        symbols = np.insert(symbols, np.cumsum(lengths), vocabulary.end_of_word)
        lengths = lengths + 1
    return _in_a_row(symbols, lengths, list(counts.values()))


def _known(symbols: list[int], unknown: int | None) -> list[list[int]]:
    """A word cut at what it has no symbols for: nothing is learned about that."""
    if unknown is None or unknown not in symbols:
        return [symbols]
    return [list(run) for is_unknown, run in groupby(symbols, lambda symbol: symbol == unknown) if not is_unknown]


def _in_a_row(symbols, lengths, counts) -> Words:
    """Words one after the other; empty ones and those that never occur are left out."""
    lengths, counts = np.asarray(lengths, np.int64), np.asarray(counts, np.int64)
    wanted = (lengths > 0) & (counts > 0)
    symbols = symbols[np.repeat(wanted, lengths)]
    lengths, counts = lengths[wanted], counts[wanted]
    last = np.zeros(symbols.size, bool)
    last[np.cumsum(lengths) - 1] = True
    return Words(symbols, last, np.repeat(counts, lengths))
