"""From texts to ids, remembering both chunks and words: text repeats itself, few words need merging."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from threading import Lock

import numpy as np

from jaxopt_lite.bpe.chunks import keys, split_keys
from jaxopt_lite.bpe.memory import Memory
from jaxopt_lite.bpe.merging import merge_word
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.symbols import Alphabet, to_bytes
from jaxopt_lite.bpe.together import PairTable, merge_together
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["Encoder"]

_CHUNKS, _WORDS = 100_000_000, 25_000_000  # bytes of a generation, of which there are two: 250 MB at most
_FEW = 64  # words that are merged one by one in less time than together
_MANY = 4096  # words that are worth a call to an accelerator
_LONGEST = 64  # symbols of a word that is merged with others; longer ones are few

_flat = chain.from_iterable


class Encoder:
    """The ids of texts. Threads may share it; they take turns.

    Args:
        vocabulary: the tokens and merges.
        splitter: which makes words of texts.
    """

    def __init__(self, vocabulary: Vocabulary, splitter: Splitter):
        self.alphabet = Alphabet(vocabulary)
        self._vocabulary, self._splitter = vocabulary, splitter
        self._in_chunks = splitter.local and splitter.pattern is not None
        self._merged = vocabulary.merged.tolist()
        self._whole = vocabulary.words if vocabulary.whole_words else {}
        self._numbers = np.arange(len(vocabulary.tokens)).astype(object)  # so that an id is one object everywhere
        self._table = self._rules = None
        self._chunks, self._words, self._lock = Memory(_CHUNKS), Memory(_WORDS), Lock()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts."""
        with self._lock:
            return self._by_chunks(texts) if self._in_chunks else self._by_words(texts)

    def words(self, words: set[str]) -> dict[str, list[int]]:
        """The ids of distinct words."""
        with self._lock:
            known = self._known(words)
            return {word: list(known[word]) for word in words}

    def _by_words(self, texts: Iterable[str]) -> list[list[int]]:
        cut = [self._splitter.words(text) for text in texts]
        find = self._known(set(_flat(cut))).__getitem__
        return [list(_flat(map(find, words))) for words in cut]

    def _by_chunks(self, texts: Sequence[str]) -> list[list[int]]:
        cut = [keys(text) for text in texts]
        rows = self._remembered(cut)
        late = [k for k, row in enumerate(rows) if row is None]
        if late:
            self._learn(set(_flat(cut[k] for k in late)))
            for k, row in zip(late, self._remembered([cut[k] for k in late]), strict=True):
                rows[k] = self._by_words([texts[k]])[0] if row is None else row  # one of those that must not be cut
        return rows  # pyright: ignore[reportReturnType]  # all are there now

    def _remembered(self, cut: Iterable[list[str]]) -> list[list[int] | None]:
        """The ids of each text whose chunks are all known."""
        find, rows = self._chunks.__getitem__, []
        for chunks in cut:
            try:
                rows.append(list(_flat(map(find, chunks))))
            except KeyError:
                rows.append(None)
        return rows

    def _learn(self, chunks: set[str]) -> None:
        """Find the ids of chunks that are not remembered."""
        split = split_keys(self._chunks.missing(chunks), self._splitter)
        known = self._known(set(split.words))
        ids = list(map(known.__getitem__, split.words))
        before = np.cumsum([0, *map(len, ids)])  # of every word, how many ids those before it have
        self._chunks.update(zip(split.keys, _parts(tuple(_flat(ids)), before[split.ends]), strict=True))

    def _known(self, words: set[str]) -> Mapping[str, tuple[int, ...]]:
        """The ids of distinct words, and of others that are remembered."""
        known = self._words
        missing = known.missing(words)
        if self._whole:
            found = {word: self._whole.get(to_bytes(word)) for word in missing}
            known.update((word, (k,)) for word, k in found.items() if k is not None)
            missing = [word for word, k in found.items() if k is None]
        known.update(zip(missing, self._merge(missing), strict=True))
        return known

    def _merge(self, words: list[str]) -> list[tuple[int, ...]]:
        """The ids of each word: together if there are many and merges are in order, else one by one."""
        if len(words) < _FEW or not self._vocabulary.is_ordered:
            return [self._merge_one(self.alphabet.symbols(word)) for word in words]
        symbols, lengths = self.alphabet.all_symbols(words)
        short = (lengths > 0) & (lengths <= _LONGEST)
        ids, sizes = self._merge_together(symbols[np.repeat(short, lengths)], lengths[short])
        parts = _parts(tuple(self._numbers[ids].tolist()), np.cumsum(sizes))
        return [
            next(parts) if is_short else self._merge_one(self.alphabet.symbols(word))
            for word, is_short in zip(words, short.tolist(), strict=True)
        ]

    def _merge_one(self, symbols: list[int]) -> tuple[int, ...]:
        return tuple(merge_word(symbols, self._vocabulary.ranks, self._merged, len(self._numbers)))

    def _merge_together(self, symbols: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        device = _device() if lengths.size >= _MANY else None
        if device is not None:
            self._rules = self._rules or device.rules_of(self._vocabulary)
            return device.merge_words(symbols, lengths, *self._rules)
        self._table = self._table or PairTable(self._vocabulary)
        return merge_together(symbols, lengths, self._table)


def _parts(row: tuple[int, ...], ends: np.ndarray) -> Iterator[tuple[int, ...]]:
    return map(row.__getitem__, map(slice, chain((0,), ends.tolist()), ends.tolist()))


def _device():
    """What encodes on an accelerator, where this program uses one: JAX is not loaded, nor a GPU taken, for this."""
    if "jax" not in sys.modules:
        return None
    from jaxopt_lite.bpe import encode

    return encode if encode.has_accelerator() else None
