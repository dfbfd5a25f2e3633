"""A tokenizer: text to ids and back, and its files. `encode.py` encodes; `formats` reads and writes the files."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args, overload

import numpy as np

from jaxopt_lite.arguments import flag, one_of, whole_number
from jaxopt_lite.bpe import parallel
from jaxopt_lite.bpe.arguments import check_is_text, text_list, to_bytes, whole_numbers
from jaxopt_lite.bpe.around import Around, as_texts, decoder, template
from jaxopt_lite.bpe.encode import Encoder
from jaxopt_lite.bpe.formats import Format, read, write
from jaxopt_lite.bpe.formats.huggingface import texts_of
from jaxopt_lite.bpe.patterns import Finder, Splitter
from jaxopt_lite.bpe.vocabulary import Symbols, Vocabulary, once
from jaxopt_lite.tables import html_table

if TYPE_CHECKING:
    from jaxtyping import Int32

__all__ = ["SPECIAL_MODES", "Decoding", "Overflow", "Special", "Tokenizer", "load", "raise_named"]

Special = Literal["raise", "encode", "ignore"]
SPECIAL_MODES: tuple[Special, ...] = get_args(Special)
Decoding = Literal["replace", "strict", "surrogateescape", "ignore", "backslashreplace"]
_DECODING: tuple[Decoding, ...] = get_args(Decoding)
Overflow = Literal["raise", "report"]
_NO_SPACE = re.compile(r"\S+")  # the words of str.split()
_SHOWN = 5  # how many texts that are too long an error shows, and how many special tokens a notebook


@dataclass(frozen=True)
class Tokenizer:
    """Text to ids and back. Made by `bpe.train` or `bpe.load`.

    The ids result from repeatedly merging the pair of neighbors that comes first in the vocabulary's order, the
    leftmost on ties, as in Hugging Face `tokenizers` and in `tiktoken`. Pieces of text and words are cached, in at most
    about 200 MB.

    Args:
        vocabulary: the tokens and merges.
        splitter: what the words of a text are.
        around: how tokens become text again, and what goes around a text, if a file says so.

    Example:
        >>> from jaxopt_lite import bpe
        >>> tokenizer = bpe.train(["low low low lower newest newest"], merges=4)
        >>> tokenizer.decode(tokenizer.encode("lower, newer"))
        'lower, newer'
    """

    vocabulary: Vocabulary
    splitter: Splitter
    around: Around = field(default_factory=Around)

    def __post_init__(self):
        if not isinstance(self.vocabulary, Vocabulary) or not isinstance(self.splitter, Splitter):
            raise TypeError(
                f"Tokenizer({type(self.vocabulary).__name__}, {type(self.splitter).__name__}): expected a Vocabulary "
                "and a Splitter, as bpe.splitter('gpt4') makes it."
            )
        if (self.vocabulary.end_of_word is None) != (self.splitter.end_of_word is None):
            raise ValueError(
                f"vocabulary.end_of_word={self.vocabulary.end_of_word} and splitter.end_of_word="
                f"{self.splitter.end_of_word!r}: expected a mark in both or in neither."
            )

    @once
    def _encoder(self) -> Encoder:
        return Encoder(self.vocabulary, self.splitter)

    @once
    def _found(self) -> dict[str, int]:
        """The special and the added tokens."""
        return {**self.vocabulary.special_tokens, **self.vocabulary.added_tokens}

    @once
    def finder(self) -> Finder:
        """Finds the special and the added tokens."""
        return self._finder_of(tuple(self._found))

    @once
    def _added_finder(self) -> Finder:
        return self._finder_of(tuple(self.vocabulary.added_tokens))

    @once
    def _orders(self) -> frozenset[int]:
        """Special tokens that the model itself can make of text; without the unknown token, which is harmless then."""
        v = self.vocabulary
        return frozenset(k for text, k in v.special_tokens.items() if text in v.in_model and k != v.unknown)

    def _finder_of(self, tokens: tuple[str, ...]) -> Finder:
        return Finder(tokens, self.vocabulary.found_last, self.vocabulary.flags, self.splitter)

    @once
    def _texts(self) -> tuple[bytes, ...]:
        """The bytes that each id adds to a text; the mark becomes a space between words."""
        ends, normal = self.vocabulary.ends_word.tolist(), self._normal
        texts = (normal[k].encode() if k in normal else text for k, text in enumerate(self.vocabulary.texts))
        return tuple(text + b" " if end else text for text, end in zip(texts, ends, strict=True))

    @once
    def _normal(self) -> dict[int, str]:
        """The normal forms of tokens that are searched in normalized text, to which they decode, as elsewhere."""
        last = self.vocabulary.found_last if self.splitter.normalizer is not None else ()
        return {self._found[text]: self.splitter.normalize(text) for text in last}

    @once
    def _decoded_names(self) -> list[str]:
        """The names of the tokens as passed to a decoder."""
        return [self._normal.get(k, name) for k, name in enumerate(self._names)]

    def __getstate__(self):
        """Without caches, so that copies for other processes are small."""
        return {"vocabulary": self.vocabulary, "splitter": self.splitter, "around": self.around}

    def __repr__(self) -> str:
        v = self.vocabulary
        return f"Tokenizer({len(v.tokens)} tokens, {len(v.merges)} merges, {v.level} level, {self.splitter.name})"

    def _repr_html_(self) -> str:
        splitter, special = self.splitter, list(self.special_tokens)
        facts = [
            ("tokens", f"{self.vocab_size:,}"),
            ("merges", f"{len(self.vocabulary.merges):,}"),
            ("level", self.vocabulary.level),
            ("words", f"{splitter.name}: {splitter.pattern}" if splitter.pattern else splitter.name),
            ("special tokens", " ".join(special[:_SHOWN]) + " …" * (len(special) > _SHOWN)),
        ]
        return html_table("Tokenizer", ("", ""), facts) + self.vocabulary._repr_html_()

    @property
    def vocab_size(self) -> int:
        """The number of ids, including those that stand for nothing."""
        return len(self.vocabulary.tokens)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The texts and ids of the special tokens."""
        return dict(self.vocabulary.special_tokens)

    @property
    def added_tokens(self) -> dict[str, int]:
        """The texts and ids of the added tokens, which are found in every text and are not special."""
        return dict(self.vocabulary.added_tokens)

    @once
    def _names(self) -> list[str]:
        """The tokens as Hugging Face's files name them."""
        return texts_of(self.vocabulary)

    def get_vocab(self) -> dict[str, int]:
        """All tokens and their ids. At byte level bytes are written as in Hugging Face's files, "Ġ" for a space."""
        return {name: k for k, name in enumerate(self._names) if name}

    def tokenize(self, text: str, *, special: Special = "raise") -> list[str]:
        """The tokens of a text as strings, for people to read; with U+FFFD where a token is part of a character.

        Args:
            text: the text.
            special: as in `encode`.
        """
        return [self.vocabulary.tokens[k].decode("utf-8", "replace") for k in self.encode(text, special=special)]

    @once
    def _id_of(self) -> dict[bytes, int]:
        # Backwards, so that the first of equal tokens wins: byte "_" and the mark "_" may both exist.
        ids = {token: k for k, token in reversed(list(enumerate(self.vocabulary.tokens))) if token}
        return ids | {to_bytes(text): k for text, k in self._found.items()}

    def token_to_id(self, token: str | bytes) -> int | None:
        """The id of a token, or `None` if there is none. An end-of-word mark is part of a token's text."""
        if not isinstance(token, bytes):
            check_is_text(token, "token")
            token = to_bytes(token)
        return self._id_of.get(token)

    def id_to_token(self, token_id: int) -> bytes:
        """The bytes of a token, including the mark if it has one. Raises ValueError for an id that has none."""
        return self.vocabulary.tokens[self._checked([token_id])[0]]

    @overload
    def encode(
        self, text: str, *, special: Special = "raise", return_offsets: Literal[False] = False, template: bool = False
    ) -> list[int]: ...

    @overload
    def encode(
        self, text: str, *, special: Special = "raise", return_offsets: Literal[True], template: bool = False
    ) -> "tuple[list[int], Int32[np.ndarray, 'n 2']]": ...

    def encode(self, text: str, *, special: Special = "raise", return_offsets: bool = False, template: bool = False):
        """The ids of a text.

        Args:
            text: the text. U+DC80..U+DCFF, into which errors='surrogateescape' turns bytes, become those bytes again;
                other lone surrogates raise.
            special: what to do if the text contains the text of a special token. "raise" (the default) refuses, because
                the author of the text may have no right to give orders; "encode" encodes it as the special token;
                "ignore" treats it as ordinary text. Added tokens are found in any case. A special token that the model
                itself makes of text, as one of its symbols, is refused unless special="encode".
            return_offsets: whether to return which characters each token stands for.
            template: whether to add the ids that the file's post-processor puts around a text. Default: no.

        Returns:
            The ids; with `return_offsets` also int32 `[n, 2]`, the first character of each token and the one after
            its last. Tokens that are part of a character have the span of the whole character.

        Raises:
            ValueError: a special token in the text, or a byte or character without a token.

        Example:
            >>> from jaxopt_lite import bpe
            >>> tokenizer = bpe.train(["abab"], merges=1, special_tokens=["<end>"])
            >>> len(tokenizer.encode("ab<end>", special="encode"))
            2
        """
        is_usual = return_offsets is template is False and type(special) is type(text) is str and not self._orders
        if is_usual and special in SPECIAL_MODES:
            ids = self._encoder.recent.get(text)
            if ids is not None:
                return list(ids)
            if not self.finder.finds((text,)):
                return self._encoder.encode_one(text)
        check_is_text(text, "text")
        one_of("special", special, SPECIAL_MODES)
        template = flag("template", template)
        if flag("return_offsets", return_offsets):
            if template:
                raise ValueError(
                    "template=True with return_offsets=True: tokens that a template adds have no place in the text; "
                    "leave one of them out."
                )
            return self._with_offsets(text, special)
        return self._encode([text], special, template)[0]

    @overload
    def encode_batch(
        self,
        texts: Sequence[str],
        *,
        special: Special = "raise",
        length: None = None,
        template: bool = False,
        processes: int = 1,
    ) -> list[list[int]]: ...

    @overload
    def encode_batch(
        self,
        texts: Sequence[str],
        *,
        special: Special = "raise",
        length: int,
        pad: int = 0,
        overflow: Overflow = "raise",
        template: bool = False,
        processes: int = 1,
    ) -> "tuple[Int32[np.ndarray, 'B length'], Int32[np.ndarray, 'B']]": ...

    def encode_batch(
        self, texts, *, special="raise", length=None, pad=0, overflow="raise", template=False, processes=1
    ):
        """The ids of many texts.

        Args:
            texts: the texts.
            special: as in `encode`.
            length: the width of one padded array to return instead of lists.
            pad: the id to pad with; only with `length`. Default 0.
            overflow: what to do with texts of more than `length` ids: "raise" (the default), or "report": the array
                holds their first ids, without what a template adds at the end, and `lengths` how many they have.
            template: as in `encode`.
            processes: how many processes encode, this one included. The others are started for this call, which takes
                some tenths of a second, with empty caches: use them for many megabytes of new text. A text is not
                divided. Default 1.

        Returns:
            A list of ids for each text. With `length`: int32 `[B, length]`, the ids, and int32 `[B]`, how many ids each
            text has; texts with more than `length` ids were truncated.

        Raises:
            ValueError: as in `encode`, naming the first such text; texts that are too long, naming them.
        """
        texts = text_list(texts, "For a single text use `encode`.")
        one_of("overflow", overflow, get_args(Overflow))
        one_of("special", special, SPECIAL_MODES)
        flag("template", template)
        whole_number("processes", processes, least=1)
        if length is None and (pad != 0 or overflow != "raise"):
            raise ValueError(
                f"pad={pad!r:.80}, overflow={overflow!r} without length=: lists of ids have no padding. Pass length=, "
                "the width of the array."
            )
        try:
            ids = self._encode(texts, special, template, processes)
        except ValueError:
            if len(texts) > 1:
                raise_named(lambda text: self._encode([text], special), texts, "texts[{}]".format)
            raise
        return ids if length is None else _padded(ids, length, pad, overflow)

    def decode(self, ids: Iterable[int], *, errors: Decoding = "replace", skip_special: bool = False) -> str:
        """The text of ids.

        Args:
            ids: a list or an array of whole numbers.
            errors: what to do about bytes that are not UTF-8, as when ids are part of a text: "replace" (the default;
                U+FFFD), "strict" (raises UnicodeDecodeError), "surrogateescape" (the inverse of `encode` for these
                too), "ignore", or "backslashreplace".
            skip_special: whether to leave out special tokens. By default they decode to their texts, as added tokens
                do; tokens that are searched in normalized text decode to their normal forms.

        Returns:
            The text. With an end-of-word mark, words are separated by one space.

        Raises:
            ValueError: an id that is not in the vocabulary, or stands for nothing there, naming its position.
        """
        one_of("errors", errors, _DECODING)  # Python checks it only if there are such bytes
        known = self._kept(ids, skip_special)
        if errors == "replace" and self.around.decoder is not None:
            return self._by_decoder(self.around.decoder, known, errors)
        data = self._bytes_of(known)
        if errors == "replace" and self.vocabulary.fallback is not None:
            return self._with_whole_runs(known, data)
        return data.decode("utf-8", errors)

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = False) -> bytes:
        """The bytes of ids, before `decode` turns them into text."""
        return self._bytes_of(self._kept(ids, skip_special))

    def _kept(self, ids: Iterable[int], skip_special: bool) -> list[int]:
        """The ids to decode, checked, without special tokens if these are skipped."""
        known = self._checked(ids)
        if flag("skip_special", skip_special):
            special = set(self.vocabulary.special_tokens.values())
            known = [k for k in known if k not in special]
        return known

    def _bytes_of(self, known: list[int]) -> bytes:
        if self.around.decoder is not None:
            return to_bytes(self._by_decoder(self.around.decoder, known, "surrogateescape"))
        data = b"".join(map(self._texts.__getitem__, known))
        return data[:-1] if known and self.vocabulary.ends_word[known[-1]] else data

    def _by_decoder(self, parts: str, known: list[int], errors: str) -> str:
        """What the file's decoder makes of ids."""
        return decoder(parts, errors)(list(map(self._decoded_names.__getitem__, known)))

    def _with_whole_runs(self, known: list[int], data: bytes) -> str:
        """The text of ids. A run of fallback bytes that is not all UTF-8 becomes U+FFFD for each byte.

        Hugging Face's library decodes them in this way.
        """
        try:
            return data.decode()
        except UnicodeDecodeError:
            fallback = set(self.vocabulary.fallback.tolist())  # pyright: ignore[reportOptionalMemberAccess]
            text = ""
            for is_fallback, run in groupby(known, fallback.__contains__):
                row = b"".join(map(self._texts.__getitem__, run))
                text += "".join(as_texts(row)) if is_fallback else row.decode("utf-8", "replace")
            return text[:-1] if self.vocabulary.ends_word[known[-1]] else text

    def decode_batch(
        self, ids, lengths: Sequence[int] | np.ndarray | None = None, *, errors: Decoding = "replace",
        skip_special: bool = False,
    ) -> list[str]:  # fmt: skip
        """The texts of many lists of ids, or of a padded array.

        Args:
            ids: lists of ids, or an array `[B, length]`.
            lengths: how many ids of each row to decode; needed to tell padding from text. Default: all.
            errors: as in `decode`.
            skip_special: as in `decode`.

        Raises:
            ValueError: as in `decode`, naming the row; a length beyond the end of its row, whose text was truncated.
        """
        if isinstance(ids, Set | Mapping) or not isinstance(ids, Iterable) or getattr(ids, "ndim", 1) == 0:
            raise ValueError(f"ids={ids!r:.80}: expected a list of rows of ids. For a single row use `decode`.")
        rows = list(ids) if lengths is None else _shortened(ids, lengths)
        texts: list[str] = []
        try:
            for row in rows:
                texts.append(self.decode(row, errors=errors, skip_special=skip_special))
        except UnicodeDecodeError:
            raise
        except ValueError as error:
            raise ValueError(f"row {len(texts)}: {error}") from None
        return texts

    def save(
        self,
        path: str | Path,
        format: Format | None = None,
        *,
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        unk: str | None = None,
        chat_template: str | None = None,
    ) -> None:
        """Write a file or a folder that `bpe.load` and other libraries read.

        Args:
            path: where to write. An existing file is replaced.
            format: "huggingface", a `tokenizer.json`; "transformers", a folder with that for AutoTokenizer; "gpt2", the
                same with `vocab.json` and `merges.txt` for other programs; "tiktoken", base64 and rank; "jaxopt_lite",
                which keeps everything, including the counts of merges and the mark. Default: by the path: ".tiktoken"
                means "tiktoken"; no suffix "gpt2", or "transformers" if that cannot express the tokenizer; and ".json"
                "huggingface", or "jaxopt_lite" for an end-of-word mark, which Hugging Face's format cannot express.
            bos: with a folder, the special token that begins a text, for AutoTokenizer.
            eos: likewise, the special token that ends a text.
            pad: likewise, the special token for padding.
            unk: likewise, the special token for what has no token.
            chat_template: how a conversation becomes a text, in Jinja.

        Warns:
            ServingWarning: the next version of Hugging Face's library, 1.0, does not accept the pattern.

        Raises:
            ValueError: the format cannot express the tokenizer, so that other libraries would make different ids.
            OSError: it cannot be written. What was there before is still there.
        """
        given = dict(bos=bos, eos=eos, pad=pad, unk=unk)
        roles = {role: text for role, text in given.items() if text is not None}
        write(self.vocabulary, self.splitter, self.around, path, format, roles=roles, chat_template=chat_template)

    def _encode(
        self, texts: Sequence[str], special: str, with_template: bool = False, processes: int = 1
    ) -> list[list[int]]:
        rows = self._encode_plain(texts, special, processes)
        if not with_template:
            return rows
        before, behind = template(self.around.post_processor)
        return [[*before, *row, *behind] for row in rows]

    def _encode_plain(self, texts: Sequence[str], special: str, processes: int) -> list[list[int]]:
        finder = self._added_finder if special == "ignore" else self.finder
        if not finder.finds(texts):
            return self._without_orders(parallel.encode(self._encoder, texts, processes=processes), special)
        cut = [list(self._pieces(text, special)) for text in texts]
        between = [(piece, at == 0) for row in cut for at, (_, piece, k) in enumerate(row) if k is None]
        pieces, firsts = zip(*between, strict=True) if between else ((), ())
        encoded = iter(self._without_orders(parallel.encode(self._encoder, pieces, firsts, processes), special))
        return [[i for _, _, k in row for i in (next(encoded) if k is None else (k,))] for row in cut]

    def _without_orders(self, rows: list[list[int]], special: str) -> list[list[int]]:
        """The ids of texts in which no special token was found. Raises if the model made one that was not asked for."""
        if special != "encode" and self._orders:
            for made in filter(None, map(self._orders.intersection, rows)):
                raise ValueError(
                    f"the text becomes the special token {self.vocabulary.tokens[min(made)].decode()!r}, which is "
                    "also a symbol or word of this tokenizer's model. If it may give orders, pass special='encode'; "
                    "special='ignore' cannot turn it into text."
                )
        return rows

    def _pieces(self, text: str, special: str) -> Iterator[tuple[int, str, int | None]]:
        """The special and added tokens with their ids, and the text between them; each with its first character."""
        finder = self._added_finder if special == "ignore" else self.finder
        refused = self.vocabulary.special_tokens if special == "raise" else ()
        for token, piece, start in finder.located(text):
            if token in refused:
                raise ValueError(
                    f"the text has the special token {token!r} at character {start}. If it may give orders, "
                    "pass special='encode'; if it is ordinary text, pass special='ignore'."
                )
            yield start, piece, None if token is None else self._found[token]

    def _with_offsets(self, text: str, special: str) -> "tuple[list[int], Int32[np.ndarray, 'n 2']]":
        if self.splitter.steps or self.splitter.normalizer or self.vocabulary.is_marked:
            raise ValueError(
                "return_offsets=True: this tokenizer changes texts before it cuts them, so that its tokens are not "
                "spans of them; leave return_offsets out."
            )
        ids: list[int] = []
        offsets = [np.zeros((0, 2), np.int32)]
        for start, piece, k in self._pieces(text, special):
            if k is not None:
                ids.append(k)
                offsets.append(np.array([[start, start + len(piece)]], np.int32))
                continue
            words = list(_words_with_starts(piece, self.splitter))
            known = self._encoder.words({word for _, word in words})
            self._without_orders(list(known.values()), special)
            spans = {word: _spans(word, row, self._encoder.symbols) for word, row in known.items()}
            for at, word in words:
                ids += known[word]
                offsets.append(spans[word] + np.int32(start + at))
        return ids, np.concatenate(offsets)

    def _checked(self, ids: Iterable[int]) -> list[int]:
        is_row = isinstance(ids, (list, np.ndarray))  # the usual case; the other checks take longer
        if not is_row and (isinstance(ids, Set | Mapping) or not isinstance(ids, Iterable)):
            raise ValueError(f"ids={ids!r:.80}: expected one row of whole numbers, in order.")
        try:
            given = np.asarray(ids if is_row or hasattr(ids, "__array__") else list(ids))
        except ValueError:
            raise ValueError("ids: expected one row of whole numbers; got rows of different lengths.") from None
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise ValueError(f"ids: expected one row of whole numbers; got {given.dtype} of shape {given.shape}.")
        if given.size and not 0 <= given.min() <= given.max() < self.vocab_size:
            wrong = np.flatnonzero((given < 0) | (given >= self.vocab_size))
            raise ValueError(
                f"ids[{wrong[0]}]={given[wrong[0]]}; expected ids from 0 to {self.vocab_size - 1}. Padding must be cut "
                "off; `decode_batch` does so with `lengths`."
            )
        known = given.tolist()
        if self._nothing and not self._nothing.isdisjoint(known):
            at = next(at for at, k in enumerate(known) if k in self._nothing)
            raise ValueError(f"ids[{at}]={known[at]}, which stands for nothing: the vocabulary leaves it out.")
        return known

    @once
    def _nothing(self) -> frozenset[int]:
        """The ids that stand for nothing."""
        return frozenset(k for k, token in enumerate(self.vocabulary.tokens) if not token)


def load(
    path: str | Path | tuple[str | Path, str | Path],
    *,
    pattern: str | None = None,
    special_tokens: Mapping[str, int] | Sequence[str] | None = None,
) -> Tokenizer:
    """Read a tokenizer that `Tokenizer.save`, Hugging Face `tokenizers` or `tiktoken` wrote.

    Args:
        path: a `tokenizer.json`, a file in this package's own format, a `.tiktoken`, a folder with a `tokenizer.json`
            or with `vocab.json` and `merges.txt`, or the paths of these two.
        pattern: what a word is, if the file does not say. Required for `.tiktoken` ("gpt4" for `cl100k_base`, "o200k"
            for `o200k_base`); for `vocab.json` the default is "gpt2".
        special_tokens: likewise. For `.tiktoken` a mapping of texts to ids, or only texts, which get ids that the file
            leaves out; for `vocab.json` the tokens that are special, by default those that no merge makes.

    Returns:
        A `Tokenizer`. Its ids are those of the library that wrote the file, without tokens that a post-processor adds
        around a text (as with Hugging Face's `add_special_tokens=False`).

    Raises:
        ValueError: a file that is something else, truncated, inconsistent, or that uses something this package does not
            support; the message names the file, what was expected and what is there.
        OSError: a file that cannot be read.

    Example:
        >>> import tempfile, pathlib
        >>> from jaxopt_lite import bpe
        >>> path = pathlib.Path(tempfile.mkdtemp(), "tokenizer.json")
        >>> tokenizer = bpe.train(["low low lower"], merges=2)
        >>> tokenizer.save(path)
        >>> bpe.load(path).encode("lower") == tokenizer.encode("lower")
        True
    """
    return Tokenizer(*read(path, pattern=pattern, special_tokens=special_tokens))


def raise_named(encode: Callable[[str], object], texts: Iterable[str], name: Callable[[int], str]) -> None:
    """Raise the error of the first text that cannot be encoded, with the name that `name` gives its index."""
    for k, text in enumerate(texts):
        try:
            encode(text)
        except ValueError as error:
            raise ValueError(f"{name(k)}: {error}") from None


def _padded(
    ids: list[list[int]], length: int, pad: int, overflow: str
) -> "tuple[Int32[np.ndarray, 'B length'], Int32[np.ndarray, 'B']]":
    """Lists of ids as a padded array, and how many ids each had. See `Tokenizer.encode_batch`."""
    for name, value, least in (("length", length, 0), ("pad", pad, None)):
        whole_numbers(name, [whole_number(name, value, least)], np.int32)
    lengths = np.fromiter(map(len, ids), np.int32, len(ids))
    long = np.flatnonzero(lengths > length)
    if long.size and overflow == "raise":
        shown = ", ".join(f"{k} ({lengths[k]})" for k in long[:_SHOWN].tolist())
        raise ValueError(
            f"length={length}, but {long.size} of {len(ids)} texts have more ids: {shown}"
            f"{', …' if long.size > _SHOWN else ''}. Use length={lengths.max()}, or overflow='report'."
        )
    rows = np.full((len(ids), length), pad, np.int32)
    for row, values in zip(rows, ids, strict=True):
        row[: len(values)] = values[:length]
    return rows, lengths


def _shortened(ids, lengths) -> list:
    """The first `lengths[k]` ids of each row, without the padding. See `Tokenizer.decode_batch`."""
    rows, ends = list(ids), whole_numbers("lengths", lengths, np.int64).tolist()
    if len(ends) != len(rows):
        raise ValueError(f"lengths has {len(ends)} entries for {len(rows)} texts; expected one per text.")
    for k, (row, end) in enumerate(zip(rows, ends, strict=True)):
        if not 0 <= end <= len(row):
            raise ValueError(
                f"lengths[{k}]={end}, but there are {len(row)} ids; expected at most as many. A text that "
                "`encode_batch` truncated cannot be decoded whole."
            )
    return [row[:end] for row, end in zip(rows, ends, strict=True)]


def _words_with_starts(text: str, splitter: Splitter) -> Iterator[tuple[int, str]]:
    """The words of a text, each with the index of its first character."""
    if splitter.pattern is None:
        yield from ((match.start(), match[0]) for match in _NO_SPACE.finditer(text))
        return
    start = 0
    for word in splitter.words(text):
        yield start, word
        start += len(word)


def _spans(word: str, ids: Sequence[int], symbols: Symbols) -> "Int32[np.ndarray, 'n 2']":
    """The first character of every token of a word, and the one after its last.

    The span of a token that begins or ends inside a character includes the whole character. A token without text, such
    as the end-of-word mark, has an empty span where it is.

    Args:
        word: the word.
        ids: the tokens of the word.
        symbols: makes the base symbols of words.
    """
    if len(ids) == 1:  # it may be a whole word, whatever its symbols are
        return np.array([[0, len(word)]], np.int32)
    made, spans = symbols.spans(word)
    sizes, begins, end = symbols.vocabulary.sizes, [], 0
    for k in ids:
        begins.append(end)
        end += 1 if made[end] == k else int(sizes[k])  # the unknown token may also be one that merges make
    first, behind = np.minimum.reduceat(spans[:, 0], begins), np.maximum.reduceat(spans[:, 1], begins)
    return np.column_stack([first, behind]).astype(np.int32)
