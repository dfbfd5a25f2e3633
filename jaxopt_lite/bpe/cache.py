"""From chunks of text to ids, remembering both chunks and words: text repeats itself, and few words need any merging."""

from collections.abc import Iterable, Sequence
from itertools import chain

import jax

from jaxopt_lite.bpe.encode import LONGEST, merge_words, rules_of
from jaxopt_lite.bpe.merging import merge_word
from jaxopt_lite.bpe.patterns import Splitter
from jaxopt_lite.bpe.symbols import Alphabet, to_bytes
from jaxopt_lite.bpe.vocabulary import Vocabulary

__all__ = ["Encoder"]

CHUNKS = WORDS = 2**19  # entries that are kept; a full cache is emptied. About 200 bytes an entry: 200 MB at most
_MANY = 4096  # words that are worth a call to a device


class Encoder:
    """The ids of chunks, which `splitter.chunks` makes of a text.

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
        self._chunks: dict[str, list[int]] = {}
        self._words: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[Sequence[str]]) -> list[list[int]]:
        """The ids of texts, each given as its chunks."""
        missing = set().union(*texts).difference(self._chunks)
        if len(missing) + len(self._chunks) > CHUNKS:
            self._chunks.clear()
            missing = set().union(*texts)
        if missing:
            split = {chunk: self._splitter.words(chunk) for chunk in missing}
            known = self.words(set(chain.from_iterable(split.values())))
            for chunk, words in split.items():
                only = len(words) == 1
                self._chunks[chunk] = known[words[0]] if only else [k for word in words for k in known[word]]
        find = self._chunks.__getitem__
        return [list(chain.from_iterable(map(find, chunks))) for chunks in texts]

    def words(self, words: Iterable[str]) -> dict[str, list[int]]:
        """The ids of distinct words, and of others that are remembered."""
        wanted = set(words)
        missing = list(wanted.difference(self._words))
        if len(missing) + len(self._words) > WORDS:
            self._words = {}
            missing = list(wanted)
        known = self._words
        if self._whole:
            found = {word: self._whole.get(to_bytes(word)) for word in missing}
            known.update((word, [k]) for word, k in found.items() if k is not None)
            missing = [word for word, k in found.items() if k is None]
        symbols = [self.alphabet.symbols(word) for word in missing]
        known.update(zip(missing, self._merge(symbols), strict=True))
        return known

    def _merge(self, words: list[list[int]]) -> list[list[int]]:
        """Merge on the device if there are many words and merges in order, else here."""
        short = [k for k, word in enumerate(words) if 1 < len(word) <= LONGEST]
        results: dict[int, list[int]] = {}
        if len(short) >= _MANY and self._vocabulary.is_ordered:
            rules, steps = self._on_device()
            results = dict(zip(short, merge_words([words[k] for k in short], rules, steps), strict=True))
        size = len(self._vocabulary.tokens)
        return [
            results[k] if k in results else merge_word(word, self._ranks, self._merged, size)
            for k, word in enumerate(words)
        ]

    def _on_device(self):
        if self._rules is None:
            rules, steps = rules_of(self._vocabulary)
            self._rules = jax.device_put(rules), steps
        return self._rules
