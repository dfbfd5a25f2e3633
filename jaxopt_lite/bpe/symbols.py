"""A word as base symbols: bytes or characters, what stands for those without a token, and the mark at its end."""

from itertools import chain

import numpy as np

from jaxopt_lite.bpe.utf8 import all_to_bytes, to_bytes
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["Alphabet"]


class Alphabet:
    """The base symbols of words.

    Args:
        vocabulary: whose symbols.
    """

    def __init__(self, vocabulary: Vocabulary):
        self._level, self._mark, self._unknown = vocabulary.level, vocabulary.end_of_word, vocabulary.unknown
        self._ids = vocabulary.symbol_of
        self._fallback = None if vocabulary.fallback is None else vocabulary.fallback.tolist()
        self._table = [self._ids.get(byte, -1) for byte in range(256)]

    def symbols(self, word: str) -> list[int]:
        """The ids of a word's bytes or characters, and of the mark.

        Raises:
            ValueError: a byte or character that has no token, and nothing that stands for it.
        """
        ids = self._of_bytes(word) if self._level == "byte" else self._of_characters(word)
        if self._mark is not None:
            ids.append(self._mark)
        return ids

    def all_symbols(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The same of many words: int32, the ids of one word after the other, and int64, how many each has."""
        if self._level == "byte" and self._mark is None:
            data = all_to_bytes(words)
            symbols = np.array(self._table, np.int32)[np.frombuffer(b"".join(data), np.uint8)]
            if symbols.min(initial=0) >= 0:
                return symbols, np.fromiter(map(len, data), np.int64, len(data))
        rows = list(map(self.symbols, words))
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.int32, lengths.sum()), lengths

    def _of_bytes(self, word: str) -> list[int]:
        data = to_bytes(word)
        ids = list(map(self._table.__getitem__, data))
        if -1 in ids:
            raise ValueError(
                f"the byte 0x{data[ids.index(-1)]:02X} of {word!r} has no token in this vocabulary; train with all "
                "256 bytes, as `bpe.train` does."
            )
        return ids

    def _of_characters(self, word: str) -> list[int]:
        ids = [self._ids.get(ord(character), -1) for character in word]
        return ids if -1 not in ids else [k for i, k in enumerate(ids) for k in ([k] if k >= 0 else self._for(word, i))]

    def _for(self, word: str, place: int) -> list[int]:
        """What stands for a character without a token."""
        if self._fallback is not None:
            return [self._fallback[byte] for byte in to_bytes(word[place])]
        if self._unknown is not None:
            return [self._unknown]
        raise ValueError(
            f"the character {word[place]!r} (U+{ord(word[place]):04X}) of {word!r} has no token in this vocabulary; "
            "train with byte_fallback=True or unknown='<unk>', or at byte level."
        )
