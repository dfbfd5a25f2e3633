"""What a tokenizer knows: its tokens and the merges that make them. It is never changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from jaxopt_lite.bpe.once import once

__all__ = ["LEVELS", "Vocabulary"]

LEVELS = ("byte", "char")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Tokens and merges. Base symbols are the ids that no merge makes and that are not special.

    Two vocabularies are equal when all they hold is. Nothing is assumed of the order of ids.

    Attributes:
        tokens: the bytes of every id; of special tokens, fallback bytes and the end-of-word mark their UTF-8 text.
        merges: int32 [M, 2], the ids of left and right, in the order in which they are applied.
        merged: int32 [M], the id that each merge makes.
        counts: int64 [M], how often each pair was there when it was merged; `None` if unknown.
        special_tokens: text -> id.
        level: "byte" (base symbols are bytes) or "char" (they are characters).
        end_of_word: the id of the mark behind every word, or `None`.
        unknown: at character level, the id of characters that have no token, or `None`.
        byte_fallback: at character level, whether 256 tokens stand for the bytes of characters that have no token.
        fallback: int32 [256], their ids, or `None`.
        whole_words: whether a word that is a token becomes that token whatever the merges make of it. tiktoken does so,
            and files of Hugging Face with `ignore_merges`. It matters for tokens that the merges do not make.

    Raises:
        ValueError: naming what does not fit together.

    Example:
        >>> from jaxopt_lite.bpe.vocabulary import Vocabulary
        >>> vocabulary = Vocabulary((b"a", b"b", b"ab"), merges=[[0, 1]], merged=[2])
        >>> vocabulary.merges.shape
        (1, 2)
    """

    tokens: tuple[bytes, ...]
    merges: np.ndarray
    merged: np.ndarray
    counts: np.ndarray | None = None
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    level: str = "byte"
    end_of_word: int | None = None
    unknown: int | None = None
    byte_fallback: bool = False
    fallback: np.ndarray | None = None
    whole_words: bool = False

    def __post_init__(self):
        """Give everything its one type, and check that it fits together."""
        given = dict(
            tokens=tuple(self.tokens),
            merges=np.asarray(self.merges, np.int32).reshape(-1, 2),
            merged=np.asarray(self.merged, np.int32).reshape(-1),
            counts=None if self.counts is None else np.asarray(self.counts, np.int64).reshape(-1),
            special_tokens=dict(self.special_tokens),
            fallback=None if self.fallback is None else np.asarray(self.fallback, np.int32).reshape(-1),
        )
        for name, value in given.items():
            object.__setattr__(self, name, value)
        _check_merges(self)
        _check_marks(self)
        _check_base(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def __hash__(self) -> int:
        return hash((self.tokens, self.merges.tobytes(), self.level))

    @once
    def is_ordered(self) -> bool:
        """Whether every merge comes after all merges that make its parts, as in every trained vocabulary.

        Then merging a pair never brings up a pair that should have come before it, and all occurrences of a word's
        first pair can be merged at once.
        """
        last = np.full(len(self.tokens), -1, np.int64)
        np.maximum.at(last, self.merged, np.arange(self.merged.size))
        return bool(np.all(last[self.merges].max(axis=1, initial=-1) < np.arange(self.merged.size)))

    @once
    def base(self) -> tuple[int, ...]:
        """The base symbols: ids that no merge makes, without special tokens, fallback bytes and the mark."""
        others = {*self.merged.tolist(), *self.special_tokens.values(), self.end_of_word}
        others.update(() if self.fallback is None else self.fallback.tolist())
        return tuple(k for k in range(len(self.tokens)) if k not in others)

    @once
    def symbol_of(self) -> Mapping[int, int]:
        """The id of every byte (at byte level) or code point that has a token of its own."""
        if self.level == "byte":
            return {self.tokens[k][0]: k for k in self.base if len(self.tokens[k]) == 1}
        texts = ((k, self.tokens[k].decode("utf-8", "surrogateescape")) for k in self.base)
        return {ord(text): k for k, text in texts if len(text) == 1}

    @once
    def ends_word(self) -> np.ndarray:
        """bool [V]: whether a token ends with the mark."""
        ends = np.zeros(len(self.tokens), bool)
        if self.end_of_word is not None:
            ends[self.end_of_word] = True
            while not np.array_equal(ends[self.merged], ends[self.merges[:, 1]]):
                ends[self.merged] = ends[self.merges[:, 1]]
        return ends

    @once
    def texts(self) -> tuple[bytes, ...]:
        """The bytes of text that each id stands for: the mark stands for none, a fallback token for one."""
        texts = list(self.tokens)
        if self.end_of_word is not None:
            length = len(self.tokens[self.end_of_word])
            for k in np.flatnonzero(self.ends_word):
                texts[k] = texts[k][: len(texts[k]) - length]
        if self.fallback is not None:
            for value, k in enumerate(self.fallback.tolist()):
                texts[k] = bytes([value])
        return tuple(texts)

    @once
    def words(self) -> Mapping[bytes, int]:
        """The tokens that are whole words, by their text; those of the scheme with a mark end with it."""
        others = set(self.special_tokens.values()) | set(() if self.fallback is None else self.fallback.tolist())
        wanted = self.ends_word == (self.end_of_word is not None)
        return {self.texts[k]: int(k) for k in np.flatnonzero(wanted) if int(k) not in others}

    @once
    def ranks(self) -> Mapping[int, int]:
        """left * V + right -> the place of their merge in the order."""
        keys = self.merges[:, 0].astype(np.int64) * len(self.tokens) + self.merges[:, 1]
        return dict(zip(keys.tolist(), range(keys.size), strict=True))


def _same(a, b) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return a is not None and b is not None and np.array_equal(a, b)
    return a == b


def _check_merges(v: Vocabulary) -> None:
    size = len(v.tokens)
    if not all(isinstance(token, bytes) for token in v.tokens):
        raise ValueError("tokens: expected bytes for every id; encode texts with text.encode().")
    if len(v.merges) != len(v.merged) or (v.counts is not None and len(v.counts) != len(v.merges)):
        counts = "none" if v.counts is None else len(v.counts)
        raise ValueError(f"{len(v.merges)} merges, {len(v.merged)} merged, {counts} counts: expected as many of each.")
    ids = np.column_stack([v.merges, v.merged])
    wrong = np.flatnonzero(((ids < 0) | (ids >= size)).any(axis=1))
    if wrong.size:
        raise ValueError(f"merges: merge {wrong[0]} is {ids[wrong[0]].tolist()}; expected ids from 0 to {size - 1}.")
    for k, (left, right, new) in enumerate(ids.tolist()):
        if v.tokens[left] + v.tokens[right] != v.tokens[new]:
            raise ValueError(
                f"merges: merge {k} makes token {new}, {v.tokens[new]!r}, of {v.tokens[left]!r} and "
                f"{v.tokens[right]!r}; expected one after the other."
            )
    if len(v.ranks) != len(v.merges):
        raise ValueError(f"merges: {len(v.merges) - len(v.ranks)} pairs are merged twice; expected every pair once.")


def _check_marks(v: Vocabulary) -> None:
    size = len(v.tokens)
    if v.level not in LEVELS:
        raise ValueError(f"level={v.level!r}: expected one of {LEVELS}.")
    for text, k in v.special_tokens.items():
        if not text or not 0 <= k < size or v.tokens[k] != text.encode("utf-8", "surrogateescape"):
            raise ValueError(
                f"special_tokens: {text!r} has the id {k}; expected an id from 0 to {size - 1} with this text."
            )
    special = set(v.special_tokens.values())
    if special & {*v.merges.ravel().tolist(), *v.merged.tolist()}:
        raise ValueError("special_tokens: a merge uses or makes one of them; expected them to take part in none.")
    for name, k in (("end_of_word", v.end_of_word), ("unknown", v.unknown)):
        if k is not None and not 0 <= k < size:
            raise ValueError(f"{name}={k}: expected an id from 0 to {size - 1}, or None.")
    if v.end_of_word is not None and v.ends_word[v.merges[:, 0]].any():
        raise ValueError("merges: a merge has the end-of-word mark on its left; expected it at the end of words only.")
    if v.byte_fallback != (v.fallback is not None):
        raise ValueError("byte_fallback and fallback: expected both, or neither.")
    if v.fallback is not None and (v.fallback.size != 256 or v.fallback.min() < 0 or v.fallback.max() >= size):
        raise ValueError(f"fallback: expected 256 ids from 0 to {size - 1}, one for every byte.")
    if v.level == "byte" and (v.byte_fallback or v.unknown is not None):
        raise ValueError("byte_fallback and unknown are for level='char'; at byte level every text has symbols.")


def _check_base(v: Vocabulary) -> None:
    """No byte or character has two ids: which one a text gets would be chance."""
    lengths = [len(t if v.level == "byte" else t.decode("utf-8", "replace")) for t in map(v.tokens.__getitem__, v.base)]
    if lengths.count(1) != len(v.symbol_of):
        raise ValueError(f"tokens: {lengths.count(1) - len(v.symbol_of)} base symbols are there twice; expected once.")
