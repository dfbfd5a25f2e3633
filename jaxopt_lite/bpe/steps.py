"""What becomes of a text before words are merged, as a `tokenizer.json` says it: normalizers and pre-tokenizers.

A part is a mapping with a "type", in Hugging Face's words, and parts can be sequences of parts. Here they become plain
functions: a normalizer from text to text, a pre-tokenizer from text to words. They are kept as the JSON that they came
as, so that a file can be written again, and made into functions when they are first used.

Bytes are no part of it: of a pre-tokenizer ByteLevel there are its words here, as text.

The meaning is that of tokenizers 0.23, whose normal forms are of Unicode 12 and younger in places: characters to which
later versions gave another form, or another place among marks, are left alone (`_FORMS`).
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
"""Unicode's white space, which Rust strips; `str.strip` has four more characters."""

_YOUNGER = (
    "\u32ff\ua7f2-\ua7f4\uab69\U00010781-\U00010785\U00010787-\U000107b0\U000107b2-\U000107ba\U00011938"
    "\U0001e030-\U0001e06d\U0001f16c\U0001fbf0-\U0001fbf9"
)
_FORMS = {  # and what is left alone in each
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
        ValueError: it is missing and has no default, or of another type.
    """
    value = part.get(name)
    value = default if value is None else value
    if type(value) is not kind:
        raise ValueError(f"{part.get('type', 'a part')!s:.40} with {name}={value!r:.60}; expected {kind.__name__}")
    return value


def as_parts(part: Any, inner: str) -> list[Mapping[str, Any]]:
    """The parts of a sequence, and of sequences in it, one behind the other; `inner` is what it calls them."""
    if part is None:
        return []
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise ValueError(f"{part!r:.80}; expected a mapping with a type")
    if part["type"] != "Sequence":
        return [part]
    return list(chain.from_iterable(as_parts(one, inner) for one in get(part, inner, list)))


def compiled(part: Mapping[str, Any]) -> regex.Pattern[str]:
    """What a part looks for: a text, or a pattern in Hugging Face's language.

    Raises:
        ValueError: a pattern that is read otherwise here, naming the construct.
    """
    pattern = get(part, "pattern", dict)
    if "String" in pattern:
        found = get(pattern, "String", str)
        if not found:
            raise ValueError(f"{part['type']} by an empty text; expected something to look for")
        return regex.compile(regex.escape(found))
    pattern = translated(get(pattern, "Regex", str), "oniguruma")
    if found := difference(pattern):
        raise ValueError(f"{part['type']} by {pattern!r:.200}, which is read otherwise here, or may be: {found}")
    try:
        return _everywhere(pattern)
    except regex.error as error:
        raise ValueError(f"{part['type']} by {pattern!r:.200}, which does not compile: {error}") from None


def _everywhere(pattern: str) -> regex.Pattern[str]:
    """`regex` would look for the starts of matches as if an `(?i:…)` among them held for all; see `patterns.py`."""
    return regex.compile(rf"(?=[\s\S])(?:{pattern})" if "(?i:" in pattern else pattern)


# --- Normalizers ------------------------------------------------------------------------------------------------------


@cache
def normalizer(parts: str) -> Text:
    """The function of a normalizer.

    Args:
        parts: the part, in JSON.

    Raises:
        ValueError: one that this package has no counterpart for, naming it.

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
            f"the normalizer {kind!r:.60}, which is not supported; expected {', '.join((*_FORMS, *_NORMALIZERS))}"
        )
    return _NORMALIZERS[kind](part)


def _in_form(form: str, text: str) -> str:
    if text.isascii() or unicodedata.is_normalized(form, text):  # pyright: ignore[reportArgumentType]
        return text
    pieces = _FORMS[form].split(text)
    return "".join(p if k % 2 else unicodedata.normalize(form, p) for k, p in enumerate(pieces))  # pyright: ignore


def _lowercase(part: Mapping[str, Any]) -> Text:
    # One character at a time: `str.lower` has another sigma at the end of words.
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
        raise ValueError("Prepend with prepend=''; expected some text, or leave this normalizer out")
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
    """Whether the text that is first for a Metaspace with prepend_scheme="first" is so elsewhere.

    There that is every text whose first character was the first before it was normalized: none where that was removed
    or made one with others, and several where it became many characters, between which the text is cut.

    Raises:
        ValueError: a normalizer that can do so, before such a Metaspace.
    """
    steps = as_parts(pre_tokenizers, "pretokenizers")
    at = [k for k, step in enumerate(steps) if step["type"] == "Metaspace" and _scheme(step) == "first"]
    for part in as_parts(normalizers, "normalizers") if at else ():
        if not _keeps_start(part, is_cut=at[-1] > 0):
            raise ValueError(
                f"a Metaspace with prepend_scheme='first' behind the normalizer {json.dumps(part)!s:.80}, which may "
                "change what the start of a text is; expected another prepend_scheme, or a Replace of one character, "
                "and by one where other steps are before the Metaspace"
            )


def _keeps_start(part: Mapping[str, Any], is_cut: bool) -> bool:
    """Whether what a normalizer makes of the first character, and nothing else, begins a text.

    `is_cut`: whether the text is cut before that matters, so that it must become one character.
    """
    if part["type"] == "Replace":
        made = len(part["content"])
        return len(part["pattern"].get("String", "")) == 1 and (made == 1 if is_cut else made > 0)
    return not part["strip_left"] if part["type"] == "Strip" else not is_cut


# --- Pre-tokenizers ---------------------------------------------------------------------------------------------------


@cache
def pre_tokenizer(parts: str) -> Callable[[str, bool], list[str]]:
    """The function of a pre-tokenizer: from a text, and whether it is the first of several pieces, to its words.

    Args:
        parts: the part, in JSON; `null` makes one word of a text.

    Raises:
        ValueError: one that this package has no counterpart for, naming it.

    Example:
        >>> from jaxopt_lite.bpe.steps import pre_tokenizer
        >>> pre_tokenizer('{"type": "Digits", "individual_digits": true}')("a12", True)
        ['a', '1', '2']
    """
    steps = [_pre_tokenizer(part) for part in as_parts(json.loads(parts), "pretokenizers")]

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


def _pre_tokenizer(part: Mapping[str, Any]) -> Words:
    kind = part["type"]
    if kind not in _PRE_TOKENIZERS:
        raise ValueError(
            f"the pre_tokenizer {kind!r:.60}, which is not supported; expected {', '.join(_PRE_TOKENIZERS)}"
        )
    return _PRE_TOKENIZERS[kind](part)


def _spans(pattern: regex.Pattern[str], invert: bool, text: str, like: str | None = None) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether it is a match: of the text as in Unicode 16, or of what it is `like`."""
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
    # An empty one in place of a match, so that nothing behind it is taken for the beginning of the text.
    return ["" if is_match else piece for piece, is_match in pieces]


def _isolated(pieces: list[tuple[str, bool]]) -> list[str]:
    return [piece for piece, _ in pieces]


def _groups(pieces: Iterable[tuple[str, bool]], joins: Callable[[bool, bool], bool]) -> list[list[str]]:
    """Pieces together with the one before, where `joins(is_match, whether that is a match)`."""
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
    return ["".join(group) for group in _groups(pieces, operator.gt)]  # a match, and what is none


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
    """When a Metaspace puts its mark before a text."""
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
