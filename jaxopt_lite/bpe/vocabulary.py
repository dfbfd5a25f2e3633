"""What a tokenizer knows: its tokens and the merges that make them, immutable. And the base symbols of words."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, get_args, overload

import numpy as np

from jaxopt_lite.arguments import assign, whole_number
from jaxopt_lite.bpe.arguments import all_to_bytes, texts, to_bytes, whole_numbers
from jaxopt_lite.tables import html_table

if TYPE_CHECKING:  # it takes as long to load as everything else together
    from jaxtyping import Bool, Int32, Int64

__all__ = [
    "BYTE_NAMES",
    "FLAGS",
    "LEVELS",
    "Level",
    "Symbols",
    "Vocabulary",
    "independent",
    "once",
    "quoted",
]

Level = Literal["byte", "char"]
LEVELS: tuple[Level, ...] = get_args(Level)
FLAGS = ("single_word", "lstrip", "rstrip")
BYTE_NAMES = tuple(f"<0x{value:02X}>" for value in range(256))  # the usual names of single-byte tokens
_SHOWN = 10  # merges, in a notebook
_Value = TypeVar("_Value")


def quoted(token: bytes) -> str:
    """A token in quotes: as text if it is UTF-8, else byte by byte."""
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)


class once(Generic[_Value]):
    """An attribute that is computed on first use: `functools.cached_property` without a lock.

    In Python 3.11 `cached_property` holds one lock for all instances, which may never be released in a forked child.
    """

    def __init__(self, make: Callable[[Any], _Value]):
        self._make, self.__doc__ = make, make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "once[_Value]": ...

    @overload
    def __get__(self, instance: object, owner: type) -> _Value: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._make(instance)  # from now on it is found there first
        return value


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Tokens and merges. Base symbols are the ids that no merge makes and that are neither special nor added.

    Two vocabularies are equal when all their attributes are. Nothing is assumed about the order of ids.

    Attributes:
        tokens: the bytes of every id: UTF-8 text for special and added tokens, fallback bytes and the end-of-word mark;
            empty for ids that stand for nothing, which a file may leave out.
        merges: int32 [M, 2], the ids of left and right, in the order in which they are applied.
        merged: int32 [M], the id that each merge makes.
        counts: int64 [M], how often each pair occurred when it was merged; `None` if unknown.
        special_tokens: text -> id, of tokens that give orders. `encode` is told whether to find them in a text.
        level: "byte" (base symbols are bytes) or "char" (they are characters).
        end_of_word: the id of the mark after every word, or `None`.
        unknown: the id for characters, or bytes, that have no token, or `None`.
        byte_fallback: at character level, whether 256 tokens stand for the bytes of characters that have no token.
        fallback: int32 [256], their ids, or `None`; −1 for a byte without one, as files may have it.
        whole_words: whether a word that is a token becomes that token whatever the merges make of it, as in tiktoken
            and in Hugging Face's files with `ignore_merges`. It matters for tokens that the merges do not make.
        added_tokens: text -> id, of tokens that are found in every text before it is cut into words, and otherwise are
            ordinary text. Merges may make them, too.
        found_last: special and added tokens that are searched only in what the others leave; in Hugging Face's terms,
            those that are `normalized`.
        flags: how matches of special and added tokens are restricted or extended, text -> some of `FLAGS`: they count
            only where no letter, digit or "_" is next to them; they include the whitespace before or after them.
        prefix: what every base symbol except the first of its word begins with, such as b"##"; a merge drops the prefix
            of its right part.
        suffix: what the last base symbol of every word ends with, such as b"</w>".
        fuses_unknown: whether a run of characters that have no token becomes a single unknown token.
        by_token: whether all merges that make the same token rank as the first of them, so that the leftmost comes
            first, as in tiktoken. It matters only if a token can be made in several ways.
        in_model: special and added tokens that are also base symbols or whole words where they are not found: in
            Hugging Face's files, those that the model has too.

    Raises:
        ValueError: naming what is of the wrong type or inconsistent.

    Example:
        >>> from jaxopt_lite.bpe.vocabulary import Vocabulary
        >>> vocabulary = Vocabulary((b"a", b"b", b"ab"), merges=[[0, 1]], merged=[2])
        >>> vocabulary.merges.shape
        (1, 2)
    """

    tokens: tuple[bytes, ...]
    merges: "Int32[np.ndarray, 'M 2']"
    merged: "Int32[np.ndarray, 'M']"
    counts: "Int64[np.ndarray, 'M'] | None" = None
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    level: str = "byte"
    end_of_word: int | None = None
    unknown: int | None = None
    byte_fallback: bool = False
    fallback: "Int32[np.ndarray, '256'] | None" = None
    whole_words: bool = False
    added_tokens: Mapping[str, int] = field(default_factory=dict)
    found_last: frozenset[str] = frozenset()
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prefix: bytes = b""
    suffix: bytes = b""
    fuses_unknown: bool = False
    by_token: bool = False
    in_model: frozenset[str] = frozenset()

    def __post_init__(self):
        """Convert everything to its type, and check that it is consistent."""
        assign(
            self,
            tokens=tuple(self.tokens),
            merges=whole_numbers("merges", self.merges, np.int32, 2),
            merged=whole_numbers("merged", self.merged, np.int32),
            counts=None if self.counts is None else whole_numbers("counts", self.counts, np.int64),
            special_tokens=_ids("special_tokens", self.special_tokens),
            end_of_word=None if self.end_of_word is None else whole_number("end_of_word", self.end_of_word),
            unknown=None if self.unknown is None else whole_number("unknown", self.unknown),
            fallback=None if self.fallback is None else whole_numbers("fallback", self.fallback, np.int32),
            added_tokens=_ids("added_tokens", self.added_tokens),
            found_last=frozenset(texts("found_last", self.found_last)),
            flags={text: tuple(self.flags[text]) for text in texts("flags", self.flags)},
            in_model=frozenset(texts("in_model", self.in_model)),
        )
        self._freeze()
        _check_merges(self)
        _check_found(self)
        _check_marks(self)
        _check_base(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def __hash__(self) -> int:
        return hash((self.tokens, self.merges.tobytes(), self.level))

    def __getstate__(self):
        """Without cached attributes, which another thread may be adding to at this moment."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._freeze()

    def _freeze(self) -> None:
        """Make the arrays read-only. They are copies, on which what is cached depends."""
        for array in (self.merges, self.merged, self.counts, self.fallback):
            if array is not None:
                array.flags.writeable = False

    def __repr__(self) -> str:
        special = f", {len(self.special_tokens)} special" if self.special_tokens else ""
        return f"Vocabulary({len(self.tokens)} tokens, {len(self.merges)} merges, {self.level} level{special})"

    def _repr_html_(self) -> str:
        return html_table(repr(self), ("merge", "left", "right", "token", "id", "count"), self.first_merges(_SHOWN))

    def first_merges(self, most: int) -> Iterator[tuple[int, str, str, str, int, int | None]]:
        """The number of each of the first merges, left, right, what they make, its id and count, for people to read."""
        for k, (left, right) in enumerate(self.merges[:most].tolist()):
            made = int(self.merged[k])
            one, other, both = (quoted(self.tokens[each]) for each in (left, right, made))
            yield k + 1, one, other, both, made, None if self.counts is None else int(self.counts[k])

    @once
    def is_ordered(self) -> bool:
        """Whether every merge comes after all merges that make its parts, as in every trained vocabulary.

        Then merging a pair never creates a pair that should have come before it, and all occurrences of a word's first
        pair can be merged at once.
        """
        if self.by_token:
            return False
        last = np.full(len(self.tokens), -1, np.int64)
        np.maximum.at(last, self.merged, np.arange(self.merged.size))
        return bool(np.all(last[self.merges].max(axis=1, initial=-1) < np.arange(self.merged.size)))

    @once
    def is_unique(self) -> bool:
        """Whether merges are in order, and each token is made by at most one of them."""
        return self.is_ordered and np.unique(self.merged).size == self.merged.size

    @once
    def base(self) -> tuple[int, ...]:
        """The base symbols: ids that no merge makes, without the mark, fallback bytes, special and added tokens.

        An added token that a merge uses is a base symbol after all.
        """
        others = {*self.merged.tolist(), *self.found_only.difference(self.merges.ravel().tolist()), self.end_of_word}
        others.update(() if self.fallback is None else self.fallback.tolist())
        return tuple(k for k, token in enumerate(self.tokens) if token and k not in others)

    @once
    def found_only(self) -> frozenset[int]:
        """The special and added tokens that are only found, never made by the model."""
        found = (*self.special_tokens.items(), *self.added_tokens.items())
        return frozenset(k for text, k in found if text not in self.in_model)

    @once
    def symbol_of(self) -> Mapping[int, int]:
        """The id of every byte (at byte level) or code point that has a token of its own."""
        if self.level == "byte":
            return {self.tokens[k][0]: k for k in self.base if len(self.tokens[k]) == 1}
        texts = ((k, self.tokens[k].decode("utf-8", "surrogateescape")) for k in self.base)
        return {ord(text): k for k, text in texts if len(text) == 1}

    @once
    def ends_word(self) -> "Bool[np.ndarray, 'V']":
        """bool [V]: whether a token ends with the mark."""
        ends = np.zeros(len(self.tokens), bool)
        if self.end_of_word is not None:
            ends[self.end_of_word] = True
            for k in self._shortest_first:
                ends[self.merged[k]] = ends[self.merges[k, 1]]
        return ends

    @once
    def sizes(self) -> "Int64[np.ndarray, 'V']":
        """int64 [V]: how many base symbols each token is made of; 1 for tokens that no merge makes."""
        sizes = np.ones(len(self.tokens), np.int64)
        for k in self._shortest_first:
            sizes[self.merged[k]] = sizes[self.merges[k]].sum()
        return sizes

    @once
    def _shortest_first(self) -> list[int]:
        """The indices of the merges in an order in which every part comes before the whole."""
        lengths = np.fromiter(map(len, self.tokens), np.int64, len(self.tokens))
        return np.argsort(lengths[self.merged], kind="stable").tolist()

    @once
    def texts(self) -> tuple[bytes, ...]:
        """The bytes of text that each id stands for: none for the mark, one for a fallback token."""
        texts = list(self.tokens)
        if self.end_of_word is not None:
            length = len(self.tokens[self.end_of_word])
            for k in np.flatnonzero(self.ends_word):
                texts[k] = texts[k][: len(texts[k]) - length]
        if self.fallback is not None:
            for value, k in enumerate(self.fallback.tolist()):
                if k >= 0:
                    texts[k] = bytes([value])
        return tuple(texts)

    @once
    def words(self) -> Mapping[bytes, int]:
        """The tokens that are whole words, by their text; if there is a mark, those that end with it.

        Fallback tokens are among them by their names: Hugging Face's library looks words up in the whole vocabulary.
        """
        fallback = set(() if self.fallback is None else self.fallback.tolist())
        wanted = self.ends_word == (self.end_of_word is not None)
        ids = [k for k in np.flatnonzero(wanted).tolist() if k not in self.found_only and self.tokens[k]]
        texts = [self.tokens[k] if k in fallback else self.texts[k] for k in ids]
        # The first of equal texts, also after more merges.
        return dict(zip(reversed(texts), reversed(ids), strict=True))

    @once
    def ranks(self) -> Mapping[int, int]:
        """left * V + right -> the rank of their merge: its index in the order, or that of its token (`by_token`)."""
        keys = self.merges[:, 0].astype(np.int64) * len(self.tokens) + self.merges[:, 1]
        order = np.arange(keys.size)
        if self.by_token:
            order = np.unique(self.merged, return_index=True)[1][np.unique(self.merged, return_inverse=True)[1]]
        return dict(zip(keys.tolist(), order.tolist(), strict=True))

    @once
    def rounds(self) -> "Int64[np.ndarray, 'R']":
        """int64 [R]: the lengths of consecutive runs of merges that do not touch each other and can be made at once."""
        runs = independent(self.merges.tolist(), self.merged.tolist())
        return np.fromiter(map(len, runs), np.int64)

    @property
    def is_marked(self) -> bool:
        """Whether a base symbol depends on its place in the word."""
        return bool(self.prefix or self.suffix)


def independent(
    merges: Iterable[Sequence[int]], made: Iterable[int], most: float = math.inf
) -> Iterator[list[tuple[tuple[int, int], int]]]:
    """Split merges, in order, into runs that can be made at once.

    Args:
        merges: left and right of each.
        made: what each makes.
        most: how long a run may be.

    Returns:
        The runs, `[((left, right), made), ...]` each.
    """
    run, lefts, rights, new = [], set(), set(), set()
    for (left, right), z in zip(merges, made, strict=True):
        touches = left in rights or right in lefts or left in new or right in new
        if touches or len(run) == most or (run and run[-1][0][0] == run[-1][0][1]):
            yield run
            run, lefts, rights, new = [], set(), set(), set()
        run.append(((left, right), z))
        lefts.add(left)
        rights.add(right)
        new.add(z)
    if run:
        yield run


def _same(a, b) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return a is not None and b is not None and np.array_equal(a, b)
    return a == b


def _ids(name: str, given: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{name}={given!r:.80}: expected a mapping of strings to ids.")
    return {text: whole_number(f"{name}[{text!r}]", given[text]) for text in texts(name, given)}


def _check_merges(v: Vocabulary) -> None:
    size = len(v.tokens)
    if not all(isinstance(token, bytes) for token in v.tokens):
        raise ValueError("tokens: expected bytes for every id; encode strings with text.encode().")
    if len(v.merges) != len(v.merged) or (v.counts is not None and len(v.counts) != len(v.merges)):
        counts = "none" if v.counts is None else len(v.counts)
        raise ValueError(f"{len(v.merges)} merges, {len(v.merged)} merged, {counts} counts: expected equally many.")
    ids = np.column_stack([v.merges, v.merged])
    wrong = np.flatnonzero(((ids < 0) | (ids >= size)).any(axis=1))
    if wrong.size:
        raise ValueError(f"merges: merge {wrong[0]} is {ids[wrong[0]].tolist()}; expected ids from 0 to {size - 1}.")
    columns = (map(v.tokens.__getitem__, column) for column in ids.T.tolist())
    skipped = len(v.prefix)
    for k, (one, two, both) in enumerate(zip(*columns, strict=True)):
        two = two[skipped:] if skipped else two
        # Lengths are compared first, so that long tokens are not joined needlessly for every merge.
        if len(one) + len(two) != len(both) or one + two != both or not one or not two:
            raise ValueError(
                f"merges: merge {k} makes token {v.merged[k]}, {both!r:.80}, of {one!r:.80} and {two!r:.80}; expected "
                "the two joined."
            )
    if len(v.ranks) != len(v.merges):
        raise ValueError(f"merges: {len(v.merges) - len(v.ranks)} pairs are merged twice; expected every pair once.")


def _check_found(v: Vocabulary) -> None:
    """Check the tokens that are found in texts before these are cut into words."""
    size = len(v.tokens)
    for name, tokens in (("special_tokens", v.special_tokens), ("added_tokens", v.added_tokens)):
        for text, k in tokens.items():
            if not 0 <= k < size or v.tokens[k] != to_bytes(text):
                raise ValueError(
                    f"{name}: {text!r} has the id {k}; expected an id from 0 to {size - 1} with this text."
                )
    found = [*v.special_tokens.values(), *v.added_tokens.values()]
    if len(set(found)) != len(found):
        raise ValueError("special_tokens and added_tokens: two of them share an id; expected one id each.")
    for name, named in (("found_last", v.found_last), ("flags", frozenset(v.flags)), ("in_model", v.in_model)):
        if unknown := named.difference(v.special_tokens, v.added_tokens):
            raise ValueError(f"{name} has {min(unknown)!r}; expected special or added tokens.")
    if wrong := {flag for flags in v.flags.values() for flag in flags}.difference(FLAGS):
        raise ValueError(f"flags has {min(wrong)!r}; expected some of {FLAGS}.")
    if set(v.special_tokens.values()) & {*v.merges.ravel().tolist(), *v.merged.tolist()}:
        raise ValueError("special_tokens: a merge uses or makes one of them; expected no merge to do so.")


def _check_marks(v: Vocabulary) -> None:
    size = len(v.tokens)
    if v.level not in LEVELS:
        raise ValueError(f"level={v.level!r}: expected one of {LEVELS}.")
    for name, k in (("end_of_word", v.end_of_word), ("unknown", v.unknown)):
        if k is not None and not (0 <= k < size and v.tokens[k]):
            raise ValueError(f"{name}={k}: expected the id of a token, from 0 to {size - 1}, or None.")
    ends = v.ends_word
    if v.end_of_word is not None and (ends[v.merges[:, 0]].any() or (ends[v.merged] != ends[v.merges[:, 1]]).any()):
        raise ValueError("merges: a merge has the end-of-word mark on its left; expected it only at the end of words.")
    for name in ("prefix", "suffix"):
        if not isinstance(getattr(v, name), bytes):
            raise ValueError(f"{name}={getattr(v, name)!r:.80}: expected bytes.")
    if v.is_marked and v.end_of_word is not None:
        raise ValueError("prefix or suffix, and end_of_word: expected only one kind of mark.")
    for name in ("byte_fallback", "whole_words", "fuses_unknown", "by_token"):
        if not isinstance(getattr(v, name), bool | np.bool_):
            raise ValueError(f"{name}={getattr(v, name)!r:.80}: expected True or False.")
    if v.byte_fallback != (v.fallback is not None):
        raise ValueError("byte_fallback and fallback: expected both, or neither.")
    known = [] if v.fallback is None else [k for k in v.fallback.tolist() if k >= 0]
    if v.fallback is not None and (
        v.fallback.size != 256 or len(set(known)) != len(known) or v.fallback.min() < -1 or v.fallback.max() >= size
    ):
        raise ValueError(f"fallback: expected 256 distinct ids from 0 to {size - 1}, one per byte, or −1 for none.")
    if v.level == "byte" and v.byte_fallback:
        raise ValueError("byte_fallback is for level='char'; at byte level every text has symbols.")


def _check_base(v: Vocabulary) -> None:
    """Check that no byte or character has two ids: the choice between them would be arbitrary."""
    lengths = [len(t if v.level == "byte" else t.decode("utf-8", "replace")) for t in map(v.tokens.__getitem__, v.base)]
    if lengths.count(1) != len(v.symbol_of):
        raise ValueError(f"tokens: {lengths.count(1) - len(v.symbol_of)} base symbols occur twice; expected once.")


def _named(v: Vocabulary) -> dict[bytes, int]:
    """The ids of tokens by their bytes, without those that are only found."""
    others = v.found_only.difference(v.merges.ravel().tolist(), v.merged.tolist())
    return {token: k for k, token in enumerate(v.tokens) if token and k not in others}


class Symbols:
    """Words as base symbols: bytes or characters, substitutes for those without a token, and the mark at the end.

    Args:
        vocabulary: the vocabulary with these symbols.
    """

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        self._level, self._mark, self._unknown = vocabulary.level, vocabulary.end_of_word, vocabulary.unknown
        self._ids = vocabulary.symbol_of
        self._fallback = None if vocabulary.fallback is None else vocabulary.fallback.tolist()
        self._fuses, self._marks = vocabulary.fuses_unknown, (vocabulary.prefix, vocabulary.suffix)
        self._named = _named(vocabulary) if vocabulary.is_marked else {}
        self._table = [self._ids.get(byte, -1) for byte in range(256)]

    def of(self, word: str) -> list[int]:
        """The ids of a word's bytes or characters, and of the mark.

        Raises:
            ValueError: a byte or character that has no token and no substitute.
        """
        ids = self._given(word)
        if -1 in ids:
            ids = [k for known, _, _ in self._instead(word, ids) for k in known]
        if self._mark is not None:
            ids.append(self._mark)
        return ids

    def spans(self, word: str) -> "tuple[list[int], Int64[np.ndarray, 'n 2']]":
        """The same, and for each id the first character it stands for and the one after its last; none for the mark."""
        made: list[int] = []
        ends: list[tuple[int, int]] = []
        for ids, first, behind in self._instead(word, self._given(word)):
            made += ids
            is_each = len(ids) == behind - first
            ends += [(k, k + 1) for k in range(first, behind)] if is_each else [(first, behind)] * len(ids)
        spans = np.array(ends, np.int64).reshape(-1, 2)
        if self._level == "byte":
            character = np.repeat(np.arange(len(word)), [len(to_bytes(character)) for character in word])
            spans = character[spans - [0, 1]] + [0, 1]
        if self._mark is not None:
            made, spans = [*made, self._mark], np.append(spans, [[len(word)] * 2], axis=0)
        return made, spans

    def _given(self, word: str) -> list[int]:
        """The ids, −1 for bytes or characters that have none."""
        if not any(self._marks):
            if self._level == "byte":
                return list(map(self._table.__getitem__, to_bytes(word)))
            return [self._ids.get(ord(character), -1) for character in word]
        prefix, suffix = self._marks
        data = to_bytes(word)
        units = [data[k : k + 1] for k in range(len(data))] if self._level == "byte" else list(map(to_bytes, word))
        units[1:] = [prefix + unit for unit in units[1:]]
        units[-1:] = [unit + suffix for unit in units[-1:]]
        return [self._named.get(unit, -1) for unit in units]

    def _instead(self, word: str, ids: list[int]) -> Iterator[tuple[list[int], int, int]]:
        """The same with substitutes for what has no token.

        As in Hugging Face's library an unknown token waits for what comes next: for more unknown characters, if they
        are fused, and until after fallback bytes.

        Yields:
            Some ids, the first byte or character that they stand for, and the one after the last. If there are as many
            ids as bytes or characters, each id stands for one, otherwise all ids together for all of them.
        """
        start = 0
        unknown: list[tuple[list[int], int, int]] = []  # the one that is waiting, if any
        for at in [at for at, k in enumerate(ids) if k < 0]:
            if start < at:
                yield from (*unknown, (ids[start:at], start, at))
                unknown = []
            start = at + 1
            data = [-1] if self._fallback is None else [self._fallback[byte] for byte in to_bytes(word[at])]
            if min(data) >= 0:
                yield data, at, start
            elif self._unknown is None:
                self._refuse(word, at)
            elif unknown and self._fuses:
                unknown = [([self._unknown], unknown[0][1], start)]
            else:
                yield from unknown
                unknown = [([self._unknown], at, start)]
        yield from unknown
        if start < len(ids):
            yield ids[start:], start, len(ids)

    def _refuse(self, word: str, at: int) -> NoReturn:
        if self._level == "byte":
            raise ValueError(
                f"the byte 0x{to_bytes(word)[at]:02X} of {word!r} has no token in this vocabulary; train with all "
                "256 bytes, as `bpe.train` does."
            )
        raise ValueError(
            f"the character {word[at]!r} (U+{ord(word[at]):04X}) of {word!r} has no token in this vocabulary; "
            "train with byte_fallback=True or unknown='<unk>', or at byte level."
        )

    def of_all(self, words: list[str]) -> "tuple[Int32[np.ndarray, 'N'], Int64[np.ndarray, 'n']]":
        """The same for many words: int32, their concatenated ids, and int64, how many each word has."""
        if self._level == "byte" and self._mark is None and not any(self._marks):
            data = all_to_bytes(words)
            symbols = np.array(self._table, np.int32)[np.frombuffer(b"".join(data), np.uint8)]
            if symbols.min(initial=0) >= 0:
                return symbols, np.fromiter(map(len, data), np.int64, len(data))
        rows = list(map(self.of, words))
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.int32, lengths.sum()), lengths
