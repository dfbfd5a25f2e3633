"""Encoding: from texts to ids. Text repeats itself, so pieces and words are cached, and few words need merging.

Longer texts are cut into pieces (`pieces.py`), short ones into words, which are cached too (`cache.py`). New words are
merged (`encode_words.py`); very many at once, on an accelerator if the program uses one.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from threading import Lock
from weakref import WeakSet

import numpy as np

from jaxopt_lite.bpe.arguments import to_bytes
from jaxopt_lite.bpe.cache import Cache
from jaxopt_lite.bpe.encode_words import PairTable, merge_long, merge_together, merge_word
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.pieces import Pieces, groups
from jaxopt_lite.bpe.vocabulary import Symbols, Vocabulary

__all__ = ["Encoder"]

_WORDS = 25_000_000  # bytes of one of the two generations of words
_AT_ONCE = 4_000_000  # characters that are processed together, which bounds the memory
_SHORT = 2000  # up to so many characters, encoding word by word is faster than in arrays
_RECENT, _MOST_RECENT = 256, 4096  # most characters of a text that is cached whole, and how many such texts
_FEW = 64  # fewer words than this are merged faster one by one than together
_MANY = 4096  # words that are worth a call to an accelerator
_LONGEST = 64  # most symbols of a word that is merged with others; longer words are rare
_VERY_LONG = 2000  # symbols from which on a word is encoded in pieces

_flat = chain.from_iterable


class Encoder:
    """The ids of texts. Threads may share it; they take turns.

    Args:
        vocabulary: the tokens and merges.
        splitter: splits texts into words.
    """

    def __init__(self, vocabulary: Vocabulary, splitter: Splitter):
        self.symbols = Symbols(vocabulary)
        self.vocabulary, self.splitter = vocabulary, splitter
        self._merged = vocabulary.merged.tolist()
        self._whole = vocabulary.words if vocabulary.whole_words else {}
        self._numbers = np.arange(len(vocabulary.tokens)).astype(object)  # every id is one shared int object
        self._table = self._rules = None
        self.recent: dict[str, tuple[int, ...]] = {}  # the ids of short texts
        self._words, self._pieces, self._lock = Cache(_WORDS), Pieces(splitter, self._ids_of), Lock()
        _encoders.add(self)

    def encode(self, texts: Sequence[str], firsts: Sequence[bool] = ()) -> list[list[int]]:
        """The ids of normalized texts.

        Args:
            texts: the texts, or pieces of texts.
            firsts: for each, whether nothing is before it in its text. Default: all are whole texts.
        """
        with self._lock:
            if self.splitter.local and sum(map(len, texts)) > _SHORT:
                return self._by_pieces(texts)
            begins = iter(firsts or repeat(True))
            return [row for group in groups(texts, _AT_ONCE) for row in self._by_words(group, begins)]

    def encode_one(self, text: str) -> list[int]:
        """The ids of one text that holds no special or added token; short texts are cached whole.

        Cached entries are right at any time, so they are looked up without the lock.
        """
        if len(text) > _SHORT:
            return self.encode([text])[0]
        try:
            ids = list(_flat(map(self._words.__getitem__, self.splitter.words(text))))
        except KeyError:
            ids = self.encode([text])[0]
        if len(text) <= _RECENT:
            if len(self.recent) >= _MOST_RECENT:
                self.recent = {}
            self.recent[text] = tuple(ids)
        return ids

    def words(self, words: set[str]) -> dict[str, list[int]]:
        """The ids of distinct words."""
        with self._lock:
            known = self._known(words)
            return {word: list(known[word]) for word in words}

    def _by_words(self, texts: Iterable[str], firsts: Iterator[bool]) -> list[list[int]]:
        cut = [self.splitter.words(text, next(firsts)) for text in texts]
        find = self._known(set(_flat(cut))).__getitem__
        return [list(_flat(map(find, words))) for words in cut]

    def _by_pieces(self, texts: Sequence[str]) -> list[list[int]]:
        rows, begun = [], []
        for ids, ends in self._pieces.rows(["" if "\0" in text else text for text in texts]):
            known, stops = self._numbers[ids].tolist(), ends.tolist()
            for start, end in zip((0, *stops), stops, strict=False):
                rows.append(begun + known[start:end] if begun else known[start:end])
                begun = []
            begun += known[stops[-1] if stops else 0 :]
        for k, text in enumerate(texts):
            if "\0" in text:
                rows[k] = self._by_words([text], repeat(True))[0]
        return rows

    def as_lists(self, ids: np.ndarray, ends: np.ndarray) -> list[list[int]]:
        """The ids of texts as lists, from concatenated ids and where each text's ids end."""
        known, stops = self._numbers[ids].tolist(), ends.tolist()
        return [known[start:end] for start, end in zip((0, *stops), stops, strict=False)]

    def _ids_of(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of words, concatenated, and where each word's ids end."""
        known = self._known(set(words))
        ids = list(map(known.__getitem__, words))
        sizes = np.fromiter(map(len, ids), np.int64, len(ids))
        return np.fromiter(_flat(ids), np.int32, sizes.sum()), np.cumsum(sizes)

    def _known(self, words: set[str]) -> Mapping[str, tuple[int, ...]]:
        """The ids of distinct words, and of others in the cache."""
        self._words.fill(words, self._make if self._whole else self._merge)
        return self._words

    def _make(self, words: list[str]) -> list[tuple[int, ...]]:
        """The ids of each word: its own id if the word is a token, else what the merges make."""
        whole = [self._whole.get(to_bytes(word)) for word in words]
        merged = iter(self._merge([word for word, k in zip(words, whole, strict=True) if k is None]))
        return [next(merged) if k is None else (k,) for k in whole]

    def _merge(self, words: list[str]) -> list[tuple[int, ...]]:
        """The ids of each word: together if there are many and merges are in order, else one by one."""
        if len(words) < _FEW or not self.vocabulary.is_ordered:
            return [self._merge_one(self.symbols.of(word)) for word in words]
        symbols, lengths = self.symbols.of_all(words)
        short = (lengths > 0) & (lengths <= _LONGEST)
        ids, sizes = self._merge_together(symbols[np.repeat(short, lengths)], lengths[short])
        parts = _parts(tuple(self._numbers[ids].tolist()), np.cumsum(sizes))
        return [
            next(parts) if is_short else self._merge_one(self.symbols.of(word))
            for word, is_short in zip(words, short.tolist(), strict=True)
        ]

    def _merge_one(self, symbols: list[int]) -> tuple[int, ...]:
        if len(symbols) >= _VERY_LONG and self.vocabulary.is_unique:
            self._table = self._table or PairTable(self.vocabulary)
            return tuple(self._numbers[merge_long(np.array(symbols, np.int32), self._table)].tolist())
        return tuple(merge_word(symbols, self.vocabulary.ranks, self._merged, len(self._numbers)))

    def _merge_together(self, symbols: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        device = _device() if lengths.size >= _MANY else None
        if device is not None:
            self._rules = self._rules or device.rules_of(self.vocabulary)
            return device.merge_words(symbols, lengths, *self._rules)
        self._table = self._table or PairTable(self.vocabulary)
        return merge_together(symbols, lengths, self._table)


_encoders: WeakSet[Encoder] = WeakSet()


def _unlock() -> None:
    """New locks in the child of a fork: the thread that may have held the old ones is not there."""
    for encoder in _encoders:
        encoder._lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def _parts(row: tuple[int, ...], ends: np.ndarray) -> Iterator[tuple[int, ...]]:
    return map(row.__getitem__, map(slice, chain((0,), ends.tolist()), ends.tolist()))


def _device():
    """The module that encodes on an accelerator, or `None` if this program has not loaded JAX or JAX has none."""
    if "jax" not in sys.modules:
        return None
    from jaxopt_lite.bpe.accelerator import encode

    return encode if encode.has_accelerator() else None
