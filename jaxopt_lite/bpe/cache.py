"""From chunks of text to ids, remembering both chunks and words: text repeats itself, few words need merging."""

import sys
from array import array
from collections.abc import Iterable, Mapping
from itertools import chain
from threading import Lock

from jaxopt_lite.bpe.merging import merge_word
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.symbols import Alphabet, to_bytes
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["Encoder"]

_ENTRIES = 2**19  # that a memory keeps; about 150 bytes each, so that two memories take 150 MB at most
_LONG = 1000  # characters from which a chunk or word is not kept: it will hardly come again
_MANY = 4096  # words that are worth a call to an accelerator


class _Memory(dict[str, bytes]):
    """Ids of chunks or of words, int32, as bytes. When it is full it is emptied.

    Bytes are joined quickly, and the garbage collector, which would visit every tuple again and again, ignores them.
    """

    _long: list[str] = []  # noqa: RUF012  # replaced, never changed

    def missing(self, wanted: set[str]) -> set[str]:
        """Which of these are not here yet; there is room for them."""
        for key in self._long:
            self.pop(key, None)
        missing = {key for key in wanted if key not in self}  # `difference` would walk all that is remembered
        if len(missing) + len(self) > _ENTRIES:
            self.clear()
            missing = wanted
        self._long = [key for key in missing if len(key) > _LONG]
        return missing


class Encoder:
    """The ids of chunks, which `splitter.chunks` makes of a text. Threads may share it; they take turns.

    Args:
        vocabulary: the tokens and merges.
        splitter: which makes words of chunks.
    """

    def __init__(self, vocabulary: Vocabulary, splitter: Splitter):
        self.alphabet = Alphabet(vocabulary)
        self._vocabulary, self._splitter = vocabulary, splitter
        self._ranks, self._merged = vocabulary.ranks, vocabulary.merged.tolist()
        self._whole = vocabulary.words if vocabulary.whole_words else {}
        self._rules = None
        self._chunks, self._words, self._lock = _Memory(), _Memory(), Lock()

    def encode(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of texts."""
        with self._lock:
            return self._encode(texts)

    def words(self, words: set[str]) -> dict[str, list[int]]:
        """The ids of distinct words."""
        with self._lock:
            known = self._known(words)
            return {word: _joined([known[word]]) for word in words}

    def _encode(self, texts: Iterable[str]) -> list[list[int]]:
        if not self._splitter.local:  # words depend on what is around them
            cut = [self._splitter.words(text) for text in texts]
            known = self._known(set().union(*cut))
            return [_joined(map(known.__getitem__, words)) for words in cut]
        cut = [self._splitter.chunks(text) for text in texts]
        try:  # most of the time all is known
            return self._remembered(cut)
        except KeyError:
            self._learn(cut)
        return self._remembered(cut)

    def _remembered(self, cut: list[list[str]]) -> list[list[int]]:
        find = self._chunks.__getitem__
        return [_joined(map(find, chunks)) for chunks in cut]

    def _learn(self, cut: list[list[str]]) -> None:
        """Find the ids of all chunks that are not remembered."""
        split = {chunk: self._splitter.words(chunk) for chunk in self._chunks.missing(set().union(*cut))}
        known = self._known(set(chain.from_iterable(split.values())))
        find = known.__getitem__
        for chunk, words in split.items():
            self._chunks[chunk] = find(words[0]) if len(words) == 1 else b"".join(map(find, words))

    def _known(self, words: set[str]) -> Mapping[str, bytes]:
        """The ids of distinct words, and of others that are remembered."""
        known = self._words
        missing = list(known.missing(words))
        if self._whole:
            found = {word: self._whole.get(to_bytes(word)) for word in missing}
            known.update((word, _kept([k])) for word, k in found.items() if k is not None)
            missing = [word for word, k in found.items() if k is None]
        symbols = [self.alphabet.symbols(word) for word in missing]
        known.update(zip(missing, map(_kept, self._merge(symbols)), strict=True))
        return known

    def _merge(self, words: list[list[int]]) -> list[list[int]]:
        """Merge on an accelerator if there are many words and merges in order, else here."""
        results: dict[int, list[int]] = {}
        device = _device() if len(words) >= _MANY and self._vocabulary.is_ordered else None
        if device is not None:
            short = [k for k, word in enumerate(words) if 1 < len(word) <= device.LONGEST]
            self._rules = self._rules or device.rules_of(self._vocabulary)
            results = dict(zip(short, device.merge_words([words[k] for k in short], *self._rules), strict=True))
        size = len(self._vocabulary.tokens)
        return [
            results[k] if k in results else merge_word(word, self._ranks, self._merged, size)
            for k, word in enumerate(words)
        ]


def _kept(ids: list[int]) -> bytes:
    return array("i", ids).tobytes()


def _joined(kept: Iterable[bytes]) -> list[int]:
    ids = array("i")
    ids.frombytes(b"".join(kept))
    return ids.tolist()


def _device():
    """What encodes on an accelerator, where this program uses one: JAX is not loaded, nor a GPU taken, for this.

    JAX on a CPU is not quicker: it takes a third longer than a loop over the words.
    """
    if "jax" not in sys.modules:
        return None
    from jaxopt_lite.bpe import encode

    return encode if encode.has_accelerator() else None
