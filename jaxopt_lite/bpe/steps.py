"""What happens to a text before words are merged, as a `tokenizer.json` says it: normalizers and pre-tokenizers.

A part is a mapping with a "type", as in Hugging Face's files, and a part can be a sequence of parts. Here they become
plain functions: a normalizer from text to text, a pre-tokenizer from text to words. They are kept as the JSON that they
came as, so that a file can be written again, and turned into functions on first use.

Words are text here, also where they are to become bytes: a ByteLevel pre-tokenizer only splits. If others come after
it, they see its words as it writes them, one character per byte; a word that ends within a character has surrogates, as
with errors="surrogateescape".

The meaning is that of tokenizers 0.23, whose normal forms are those of Unicode 12, and newer in places: characters to
which later versions gave another form, or another place among combining marks, are left alone (`_FORMS`).
"""

import json
import operator
import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Any

import regex

from jaxopt_lite.bpe.age import (
    OLD_PUNCTUATION,
    YOUNG_CAPITALS,
    YOUNG_DIGITS,
    YOUNG_MARKS,
    YOUNG_PUNCTUATION,
    of_unicode_16,
)
from jaxopt_lite.bpe.arguments import to_bytes
from jaxopt_lite.bpe.letters import as_characters, from_characters
from jaxopt_lite.bpe.oniguruma import difference, translated

__all__ = [
    "GPT2_WORDS",
    "WHITE",
    "WORDS_OF_CLIP",
    "as_parts",
    "check_starts",
    "compiled",
    "get",
    "normalizer",
    "pre_tokenizer",
]

GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's words, as released; those of ByteLevel with `use_regex`."""
WORDS_OF_CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WHITE = "\t\n\x0b\x0c\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""Unicode's white space, which Rust strips; `str.strip` strips four more characters."""

_YOUNGER = (
    "\u32ff\ua7f2-\ua7f4\uab69\U00010781-\U00010785\U00010787-\U000107b0\U000107b2-\U000107ba\U00011938"
    "\U0001e030-\U0001e06d\U0001f16c\U0001fbf0-\U0001fbf9"
)
_FORMS = {  # and the characters left alone in each
    form: regex.compile(f"([{YOUNG_MARKS}{'' if form == 'NFC' else _YOUNGER}])")
    for form in ("NFC", "NFD", "NFKC", "NFKD")
}
_BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
_SCHEMES = ("always", "first", "never")
_WORD = r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]"  # Rust's \w
_PUNCTUATION = rf"(?![{YOUNG_PUNCTUATION}])[{regex.escape(string.punctuation)}{OLD_PUNCTUATION}\p{{P}}]"

Text = Callable[[str], str]
Words = Callable[[str, bool], Iterable[str]]


def get(part: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """A setting of a part.

    Raises:
        ValueError: it is missing and has no default, or is of another type.
    """
    value = part.get(name)
    value = default if value is None else value
    if type(value) is not kind:
        raise ValueError(f"{part.get('type', 'a part')!s:.40} with {name}={value!r:.60}; expected {kind.__name__}")
    return value


def as_parts(part: Any, inner: str) -> list[Mapping[str, Any]]:
    """The parts of a sequence, with nested sequences flattened; `inner` is the name that holds the parts."""
    if part is None:
        return []
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise ValueError(f"{part!r:.80}; expected a mapping with a type")
    if part["type"] != "Sequence":
        return [part]
    return list(chain.from_iterable(as_parts(one, inner) for one in get(part, inner, list)))


def compiled(part: Mapping[str, Any]) -> regex.Pattern[str]:
    """What a part searches for: a string, or a pattern in Hugging Face's language.

    Raises:
        ValueError: a pattern that is or may be read differently here, naming the construct.
    """
    pattern = get(part, "pattern", dict)
    if "String" in pattern:
        found = get(pattern, "String", str)
        if not found:
            raise ValueError(f"{part['type']} by an empty string; expected something to search for")
        return regex.compile(regex.escape(found))
    pattern = translated(get(pattern, "Regex", str), "oniguruma")
    if found := difference(pattern):
        raise ValueError(f"{part['type']} by {pattern!r:.200}, which is, or may be, read differently here: {found}")
    try:
        return _everywhere(pattern)
    except regex.error as error:
        raise ValueError(f"{part['type']} by {pattern!r:.200}, which does not compile: {error}") from None


def _everywhere(pattern: str) -> regex.Pattern[str]:
    """The pattern compiled so that one `(?i:…)` does not hide matches of other alternatives; see `patterns.py`."""
    return regex.compile(rf"(?=[\s\S])(?:{pattern})" if "(?i:" in pattern else pattern)


# --- Normalizers ------------------------------------------------------------------------------------------------------


@cache
def normalizer(parts: str) -> Text:
    """A normalizer as a function.

    Args:
        parts: the part, as JSON.

    Raises:
        ValueError: a normalizer that is not supported, naming it.

    Example:
        >>> from jaxopt_lite.bpe.steps import normalizer
        >>> normalizer('{"type": "Lowercase"}')("ABC")
        'abc'
    """
    steps = [_normalizer(part) for part in as_parts(json.loads(parts), "normalizers")]

    def normalized(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return normalized


def _normalizer(part: Mapping[str, Any]) -> Text:
    kind = part["type"]
    if kind in _FORMS:
        return lambda text: _in_form(kind, text)
    if kind not in _NORMALIZERS:
        raise ValueError(
            f"the normalizer {kind!r:.60}, which is not supported; expected one of "
            f"{', '.join((*_FORMS, *_NORMALIZERS))}"
        )
    return _NORMALIZERS[kind](part)


def _in_form(form: str, text: str) -> str:
    if text.isascii() or unicodedata.is_normalized(form, text):  # pyright: ignore[reportArgumentType]
        return text
    pieces = _FORMS[form].split(text)
    return "".join(p if k % 2 else unicodedata.normalize(form, p) for k, p in enumerate(pieces))  # pyright: ignore


def _lowercase(part: Mapping[str, Any]) -> Text:
    # Without its rule for words: `str.lower` makes a final sigma of a Σ at the end of a word.
    def lower(text: str) -> str:
        if text.isascii():
            return text.lower()
        return "σ".join(piece.lower() for piece in text.translate(YOUNG_CAPITALS).split("Σ"))

    return lower


def _replace(part: Mapping[str, Any]) -> Text:
    pattern, content = compiled(part), get(part, "content", str)
    if "String" in part["pattern"]:
        wanted = part["pattern"]["String"]
        return lambda text: text.replace(wanted, content)

    def replaced(text: str) -> str:
        return "".join(content if is_match else piece for piece, is_match in _spans(pattern, False, text))

    return replaced


def _prepend(part: Mapping[str, Any]) -> Text:
    before = get(part, "prepend", str)
    if not before:
        raise ValueError("Prepend with prepend=''; expected some text; else leave this normalizer out")
    return lambda text: before + text if text else text


def _strip(part: Mapping[str, Any]) -> Text:
    left, right = get(part, "strip_left", bool), get(part, "strip_right", bool)

    def stripped(text: str) -> str:
        text = text.lstrip(WHITE) if left else text
        return text.rstrip(WHITE) if right else text

    return stripped


_NORMALIZERS: dict[str, Callable[[Mapping[str, Any]], Text]] = {
    "Lowercase": _lowercase, "Replace": _replace, "Prepend": _prepend, "Strip": _strip,
}  # fmt: skip


def check_starts(normalizers: Any, pre_tokenizers: Any) -> None:
    """Check that a Metaspace with prepend_scheme="first" finds the same piece to be first as Hugging Face's library.

    There, a piece is first if its first character comes from the first character of the text before normalization: no
    piece is if the normalizer removed that character or joined it with others, and several can be if it became many
    characters, between which the text is cut.

    Raises:
        ValueError: a normalizer that can do so, before such a Metaspace.
    """
    steps = as_parts(pre_tokenizers, "pretokenizers")
    at = [k for k, step in enumerate(steps) if step["type"] == "Metaspace" and _scheme(step) == "first"]
    for part in as_parts(normalizers, "normalizers") if at else ():
        if not _keeps_start(part, is_cut=at[-1] > 0):
            raise ValueError(
                f"a Metaspace with prepend_scheme='first' after the normalizer {json.dumps(part)!s:.80}, which may "
                "change where a text starts; expected another prepend_scheme, or a Replace of one character, and by "
                "one character if other steps come before the Metaspace"
            )


def _keeps_start(part: Mapping[str, Any], is_cut: bool) -> bool:
    """Whether the text after a normalizer begins with what it makes of the first character, and of that alone.

    `is_cut`: whether other steps cut the text before the Metaspace, so that it must become exactly one character.
    """
    if part["type"] == "Replace":
        made = len(part["content"])
        return len(part["pattern"].get("String", "")) == 1 and (made == 1 if is_cut else made > 0)
    return not part["strip_left"] if part["type"] == "Strip" else not is_cut


# --- Pre-tokenizers ---------------------------------------------------------------------------------------------------


@cache
def pre_tokenizer(parts: str) -> Callable[[str, bool], list[str]]:
    """A pre-tokenizer as a function: from a text, and whether it is the first of several pieces, to its words.

    Args:
        parts: the part, as JSON; `null` makes the whole text one word.

    Raises:
        ValueError: a pre-tokenizer that is not supported, naming it.

    Example:
        >>> from jaxopt_lite.bpe.steps import pre_tokenizer
        >>> pre_tokenizer('{"type": "Digits", "individual_digits": true}')("a12", True)
        ['a', '1', '2']
    """
    several = as_parts(json.loads(parts), "pretokenizers")
    steps = [_pre_tokenizer(part) for part in several]
    if any(part["type"] == "ByteLevel" for part in several[:-1]):
        steps = _on_characters(several, steps)

    def words(text: str, is_first: bool) -> list[str]:
        pieces = [(text, is_first)] if text else []
        for step in steps:
            made = []
            for piece, begins in pieces:
                for word in step(piece, begins):
                    if word:
                        made.append((word, begins))
                    begins = False
            pieces = made
        return [word for word, _ in pieces]

    return words


def _on_characters(parts: list[Mapping[str, Any]], steps: list[Words]) -> list[Words]:
    """The steps with those after a ByteLevel working on one character per byte."""
    at = [part["type"] for part in parts].index("ByteLevel")
    for part in parts[at + 1 :]:
        if part["type"] in ("ByteLevel", "Metaspace"):
            raise ValueError(f"a {part['type']} pre_tokenizer after a ByteLevel, which is not supported; expected none")
    return [
        *steps[: at + 1],
        lambda text, _: [as_characters(to_bytes(text))],
        *steps[at + 1 :],
        lambda text, _: [from_characters(text).decode("utf-8", "surrogateescape")],
    ]


def _pre_tokenizer(part: Mapping[str, Any]) -> Words:
    kind = part["type"]
    if kind not in _PRE_TOKENIZERS:
        raise ValueError(
            f"the pre_tokenizer {kind!r:.60}, which is not supported; expected one of {', '.join(_PRE_TOKENIZERS)}"
        )
    return _PRE_TOKENIZERS[kind](part)


def _spans(pattern: regex.Pattern[str], invert: bool, text: str, like: str | None = None) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether it is a match: in `like`, by default the text as of Unicode 16."""
    pieces, start = [], 0
    for match in pattern.finditer(of_unicode_16(text) if like is None else like):
        if match.end() > match.start():
            if match.start() > start:
                pieces.append((text[start : match.start()], invert))
            pieces.append((text[match.start() : match.end()], not invert))
            start = match.end()
    if start < len(text):
        pieces.append((text[start:], invert))
    return pieces


def _removed(pieces: list[tuple[str, bool]]) -> list[str]:
    # An empty piece replaces a match, so that nothing after it is taken for the beginning of the text.
    return ["" if is_match else piece for piece, is_match in pieces]


def _isolated(pieces: list[tuple[str, bool]]) -> list[str]:
    return [piece for piece, _ in pieces]


def _groups(pieces: Iterable[tuple[str, bool]], joins: Callable[[bool, bool], bool]) -> list[list[str]]:
    """Pieces in groups: a piece joins the one before it if `joins(is_match, is_match of the one before)`."""
    groups, before = [], False
    for piece, is_match in pieces:
        if groups and joins(is_match, before):
            groups[-1].append(piece)
        else:
            groups.append([piece])
        before = is_match
    return groups


def _contiguous(pieces: list[tuple[str, bool]]) -> list[str]:
    return ["".join(group) for group in _groups(pieces, operator.eq)]


def _with_previous(pieces: list[tuple[str, bool]]) -> list[str]:
    return ["".join(group) for group in _groups(pieces, operator.gt)]  # a match joins a piece that is not one


def _with_next(pieces: list[tuple[str, bool]]) -> list[str]:
    return ["".join(reversed(group)) for group in reversed(_groups(reversed(pieces), operator.gt))]


_JOINED = dict(zip(_BEHAVIORS, (_removed, _isolated, _with_previous, _with_next, _contiguous), strict=True))


def _by(pattern: regex.Pattern[str], behavior: str, invert: bool = False) -> Words:
    if behavior not in _JOINED:
        raise ValueError(f"the behavior {behavior!r:.40}; expected one of {_BEHAVIORS}")
    join = _JOINED[behavior]
    return lambda text, _: join(_spans(pattern, invert, text))


def _split(part: Mapping[str, Any]) -> Words:
    return _by(compiled(part), get(part, "behavior", str), get(part, "invert", bool, False))


def _digits(part: Mapping[str, Any]) -> Words:
    join = _JOINED["Isolated" if get(part, "individual_digits", bool, False) else "Contiguous"]
    number = regex.compile(r"\p{N}")
    return lambda text, _: join(_spans(number, False, text, like=of_unicode_16(text.translate(YOUNG_DIGITS))))


def _punctuation(part: Mapping[str, Any]) -> Words:
    return _by(regex.compile(_PUNCTUATION), get(part, "behavior", str, "Isolated"))


def _whitespace(part: Mapping[str, Any]) -> Words:
    return _by(regex.compile(rf"{_WORD}+|[^\s{_WORD[1:-1]}]+"), "Removed", invert=True)


def _whitespace_split(part: Mapping[str, Any]) -> Words:
    return _by(regex.compile(r"\s"), "Removed")


def _delimiter(part: Mapping[str, Any]) -> Words:
    return _by(regex.compile(regex.escape(get(part, "delimiter", str))), "Removed")


def _bert(part: Mapping[str, Any]) -> Words:
    spaces, cut = regex.compile(r"\s"), _by(regex.compile(_PUNCTUATION), "Isolated")
    return lambda text, _: [word for piece in spaces.split(text) for word in (*cut(piece, False), "")]


def _scheme(part: Mapping[str, Any]) -> str:
    """When a Metaspace prepends its mark to a text."""
    scheme = get(part, "prepend_scheme", str, "always").lower()
    return "never" if part.get("add_prefix_space") is False and scheme in _SCHEMES else scheme


def _metaspace(part: Mapping[str, Any]) -> Words:
    mark = get(part, "replacement", str, "▁")
    scheme = _scheme(part)
    if scheme not in _SCHEMES or len(mark) != 1:
        raise ValueError(f"a Metaspace with prepend_scheme={scheme!r:.40} and replacement={mark!r:.40}; expected one "
                         f"of {_SCHEMES} and one character")  # fmt: skip
    cut = _by(regex.compile(regex.escape(mark)), "MergedWithNext") if get(part, "split", bool, True) else None

    def words(text: str, is_first: bool) -> Iterable[str]:
        text = text.replace(" ", mark)
        if (scheme == "always" or (scheme == "first" and is_first)) and not text.startswith(mark):
            text = mark + text
        return [text] if cut is None else cut(text, is_first)

    return words


def _byte_level(part: Mapping[str, Any]) -> Words:
    prefixed = get(part, "add_prefix_space", bool, True)
    cut = _by(regex.compile(GPT2_WORDS), "Isolated") if get(part, "use_regex", bool, True) else None

    def words(text: str, is_first: bool) -> Iterable[str]:
        text = " " + text if prefixed and not text.startswith(" ") else text
        return [text] if cut is None else cut(text, is_first)

    return words


_PRE_TOKENIZERS: dict[str, Callable[[Mapping[str, Any]], Words]] = {
    "Split": _split, "Digits": _digits, "Punctuation": _punctuation, "Whitespace": _whitespace,
    "WhitespaceSplit": _whitespace_split, "CharDelimiterSplit": _delimiter, "BertPreTokenizer": _bert,
    "Metaspace": _metaspace, "ByteLevel": _byte_level,
}  # fmt: skip
