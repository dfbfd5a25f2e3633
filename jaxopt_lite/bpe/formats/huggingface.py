r"""`tokenizer.json` of Hugging Face `tokenizers`: written to make the same ids, and read where this package can.

The second half, `difference`, is about regular expressions, of which there are two languages: that of `regex`, in which
this package reads patterns, and Oniguruma's, Hugging Face's. They look alike and differ in many points: `\w` has other
characters, `{1,3}+` is a repetition of a repetition there, `$` matches at every line end, `&&` is an operator. So a
pattern is taken for the same in both only where all of it is known to be. What is known is written down here, and
tested by comparing the two, over all characters and on random patterns, in `tests/bpe/formats/test_huggingface.py`.
What remains is their age: each engine knows the characters of its version of Unicode, and a letter that is too new for
one is no letter there.
"""

import re
import string
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from jaxopt_lite.bpe.formats.content import (
    as_characters,
    check_shape,
    from_characters,
    is_byte,
    merges_of_texts,
    tokens_by_id,
)
from jaxopt_lite.bpe.patterns import GPT2, Splitter, splitter
from jaxopt_lite.bpe.vocabulary import BYTE_NAMES, Vocabulary

__all__ = ["as_json", "difference", "from_json", "texts_of"]

_SPACES = r"[\s\x1C-\x1F]+"  # what str.split() splits at
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
_FLAGS = ("single_word", "lstrip", "rstrip")  # of added tokens, that have no counterpart here
_SHAPE = {
    "model": {
        "type?": str, "vocab": {str: int}, "merges": [(str, [str])], "dropout?": (float, int, None),
        "unk_token?": (str, None), "continuing_subword_prefix?": (str, None), "end_of_word_suffix?": (str, None),
        "fuse_unk?": (bool, None), "byte_fallback?": (bool, None), "ignore_merges?": (bool, None),
    },
    "added_tokens?": [{"id": int, "content": str, "normalized": bool, "special": bool} | dict.fromkeys(_FLAGS, bool)],
}  # fmt: skip
_STEP = {
    "type": str, "pattern?": {"Regex?": str}, "behavior?": str, "invert?": (bool, None), "add_prefix_space?": bool,
    "use_regex?": bool, "pretokenizers?": list, "decoders?": list,
}  # fmt: skip


def as_json(vocabulary: Vocabulary, split: Splitter) -> dict[str, Any]:
    """A tokenizer as the content of a `tokenizer.json`.

    Raises:
        ValueError: an end-of-word mark, or anything else that Hugging Face would understand differently.
    """
    v, is_bytes = vocabulary, vocabulary.level == "byte"
    if v.end_of_word is not None:
        raise ValueError(
            "format='huggingface' has no form for an end-of-word mark that is a symbol of its own (its "
            "end_of_word_suffix makes other merges); use format='jaxopt_lite'."
        )
    texts = texts_of(v)
    if v.fallback is not None and [texts[k] for k in v.fallback.tolist()] != list(BYTE_NAMES):
        raise ValueError("format='huggingface' expects the fallback tokens to be called '<0x00>' to '<0xFF>'.")
    steps = [_split_step(split), *([_BYTE_LEVEL] if is_bytes else [])]
    decoders = [{"type": "ByteLevel"} | _BYTE_LEVEL] if is_bytes else [{"type": "ByteFallback"}, {"type": "Fuse"}]
    added = [
        {"id": k, "content": text, **dict.fromkeys(_FLAGS, False), "normalized": text in v.found_last,
         "special": text in v.special_tokens}
        for text, k in sorted({**v.special_tokens, **v.added_tokens}.items(), key=lambda item: item[1])
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": None if v.unknown is None else texts[v.unknown],
        "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
        "byte_fallback": bool(v.byte_fallback), "ignore_merges": bool(v.whole_words),
        "vocab": {text: k for k, text in enumerate(texts) if text},
        "merges": [[texts[left], texts[right]] for left, right in v.merges.tolist()],
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "post_processor": None,
        "decoder": decoders[0] if is_bytes else {"type": "Sequence", "decoders": decoders}, "model": model,
    }  # fmt: skip


def texts_of(vocabulary: Vocabulary) -> list[str]:
    """The tokens as a file of texts names them; ids that stand for nothing have no name.

    Raises:
        ValueError: two tokens with one name, or one that is no UTF-8.
    """
    v, is_bytes = vocabulary, vocabulary.level == "byte"
    found = {k: text for tokens in (v.special_tokens, v.added_tokens) for text, k in tokens.items()}
    try:
        texts = [
            as_characters(token) if is_bytes and k not in found else token.decode() for k, token in enumerate(v.tokens)
        ]
    except UnicodeDecodeError as error:
        raise ValueError(f"the token {error.object!r} is not UTF-8, which this format needs") from error
    for k in {*v.merges.ravel().tolist(), *v.merged.tolist()}.intersection(found):
        if is_bytes and as_characters(v.tokens[k]) != texts[k]:
            raise ValueError(
                f"the added token {texts[k]!r} is one that merges take or make, and has two names in this format; use "
                "format='jaxopt_lite'."
            )
    seen: dict[str, int] = {}
    for k, text in enumerate(texts):
        if text and seen.setdefault(text, k) != k:
            raise ValueError(
                f"tokens {seen[text]} and {k} are both called {text!r} in this format, which needs different names; "
                "use format='jaxopt_lite'."
            )
    return texts


def _split_step(split: Splitter) -> dict[str, Any]:
    behavior = "Isolated" if split.pattern is not None else "Removed"
    pattern = _SPACES if split.pattern is None else split.pattern
    if found := difference(pattern):
        raise ValueError(
            f"pattern={pattern!r}: Hugging Face's engine reads it otherwise, or may: {found}. Or use a stock pattern "
            "such as 'gpt4', or format='jaxopt_lite'."
        )
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def from_json(content: Mapping[str, Any], source: str) -> tuple[Vocabulary, Splitter]:
    """A vocabulary and splitter from the content of a `tokenizer.json`.

    Tokens that a post-processor puts around a text are not added: the ids are those of `add_special_tokens=False`.

    Raises:
        ValueError: naming the file and the component that this package has no counterpart for.
    """
    fail = _failure(source)
    model = _model(content, fail)
    for name in ("normalizer", "truncation", "padding"):
        if content.get(name) is not None:
            raise fail(f"has a {name} ({_type(content[name])}), which is not supported; expected none")
    for part in _steps(content.get("decoder"), "decoder", "decoders", fail):
        if part["type"] not in ("ByteLevel", "ByteFallback", "Fuse"):
            raise fail(f"has the decoder {part['type']}, which is not supported; expected ByteLevel, or none")
    split, is_bytes = _pre_tokenizer(content.get("pre_tokenizer"), fail)
    added = content.get("added_tokens", [])
    _check_added(added, model["vocab"], is_bytes, fail)
    found = {token["content"]: token["id"] for token in added}
    vocab: dict[str, int] = model["vocab"] | found
    falls_back = bool(model.get("byte_fallback")) and not is_bytes
    if falls_back and not set(BYTE_NAMES) <= set(model["vocab"]):
        raise fail("says byte_fallback, but lacks tokens from '<0x00>' to '<0xFF>'")
    unknown = model.get("unk_token") if not is_bytes else None
    if unknown is not None and unknown not in model["vocab"]:
        raise fail(f"has the unk_token {unknown!r}, which is not in its vocab")
    try:
        merges, merged = merges_of_texts(model["merges"], model["vocab"])
        return Vocabulary(
            tokens=_tokens(vocab, found if is_bytes else vocab), merges=merges, merged=merged,
            special_tokens={token["content"]: token["id"] for token in added if token["special"]},
            level="byte" if is_bytes else "char", unknown=None if unknown is None else model["vocab"][unknown],
            byte_fallback=falls_back, whole_words=bool(model.get("ignore_merges")),
            fallback=np.array([model["vocab"][name] for name in BYTE_NAMES]) if falls_back else None,
            added_tokens={token["content"]: token["id"] for token in added if not token["special"]},
            found_last=frozenset(token["content"] for token in added if token["normalized"]),
        ), split  # fmt: skip
    except ValueError as error:
        raise fail(f"does not fit together: {error}") from None


def _failure(source: str) -> Callable[[str], ValueError]:
    return lambda problem: ValueError(f"{source} {problem}.")


def _type(part: Any) -> str:
    return str(part.get("type", part) if isinstance(part, Mapping) else part)[:60]


def _steps(part: Any, name: str, inner: str, fail) -> list[dict[str, Any]]:
    """The parts of a pre-tokenizer or decoder, one behind the other."""
    steps = [] if part is None else [part]
    try:
        if isinstance(part, Mapping) and part.get("type") == "Sequence":
            check_shape(part, {inner: list}, name)
            steps = list(part[inner])
        for step in steps:
            check_shape(step, _STEP, name)
    except ValueError as error:
        raise fail(f"does not fit together: {error}") from None
    return steps


def _model(content: Mapping[str, Any], fail) -> dict[str, Any]:
    model = content.get("model")
    if not isinstance(model, Mapping) or model.get("type", "BPE") != "BPE":
        raise fail(f"has a model of type {_type(model)}; expected BPE")
    if not isinstance(model.get("vocab"), dict) or not isinstance(model.get("merges"), list):
        raise fail("lacks the model's vocab or merges; expected a mapping and a list")
    try:
        check_shape(content, _SHAPE)
    except ValueError as error:
        raise fail(f"does not fit together: {error}") from None
    for name, good in (("dropout", 0), ("continuing_subword_prefix", ""), ("end_of_word_suffix", "")):
        if (model.get(name) or good) != good:
            raise fail(f"has the model setting {name}={model[name]!r:.60}, which is not supported; expected none")
    if model.get("fuse_unk") and model.get("unk_token") is not None:
        raise fail("has the model setting fuse_unk=true, which is not supported; expected false")
    return dict(model)


def _pre_tokenizer(part: Any, fail) -> tuple[Splitter, bool]:
    """The splitter, and whether words become bytes."""
    steps = _steps(part, "pre_tokenizer", "pretokenizers", fail)
    is_bytes = len(steps) > 0 and steps[-1]["type"] == "ByteLevel"
    if is_bytes:
        last = steps.pop()
        if last.get("add_prefix_space", True):
            raise fail("has a ByteLevel pre_tokenizer with add_prefix_space, which is not supported; expected false")
        if last.get("use_regex", True):
            steps.append({"type": "Split", "pattern": {"Regex": GPT2}, "behavior": "Isolated"})
    if len(steps) != 1 or steps[0]["type"] != "Split":
        kinds = [step["type"] for step in steps] or ["None"]
        raise fail(f"has the pre_tokenizer {' + '.join(kinds)}, which is not supported; expected Split and ByteLevel")
    pattern, behavior = steps[0].get("pattern", {}).get("Regex"), steps[0].get("behavior")
    if behavior == "Removed" and pattern == _SPACES and not steps[0].get("invert"):
        return splitter("whitespace"), is_bytes
    if pattern is None or behavior != "Isolated" or steps[0].get("invert"):
        shown = f"{steps[0]!r:.200}"
        raise fail(f"has the pre_tokenizer {shown}, which is not supported; expected Split by a Regex, Isolated")
    if found := difference(pattern):
        raise fail(f"has a Split by {pattern!r:.200}, which is read otherwise here, or may be: {found}")
    try:
        return splitter(pattern), is_bytes
    except ValueError as error:
        raise fail(f"has a Split that cannot be used: {error}") from None


def _check_added(added: list[dict[str, Any]], vocab: Mapping[str, int], is_bytes: bool, fail) -> None:
    """Whether the added tokens get the ids that they say, and are found as here."""
    for name in ("content", "id"):
        seen = set()
        for token in added:
            if token[name] in seen:
                raise fail(f"has two added tokens with the {name} {token[name]!r}; expected different ones")
            seen.add(token[name])
    following = len(vocab)
    for token in added:
        text, k = token["content"], token["id"]
        odd = [name for name in _FLAGS if token[name]]
        if odd or not text:
            raise fail(f"has the added token {text!r} with {odd[0] if odd else 'no text'}; expected none such")
        if vocab.get(text, k) != k:
            raise fail(f"has the ids {vocab[text]} and {k} for {text!r}; expected one")
        if text not in vocab and k != following:
            raise fail(
                f"has the added token {text!r} with the id {k}, to which Hugging Face gives the id {following}: it "
                "numbers those that are not in the vocab one by one"
            )
        if is_bytes and text in vocab and is_byte(text) and not text.isascii():
            raise fail(f"has the added token {text!r}, which in its vocab is the byte {from_characters(text)!r}")
        following += text not in vocab


def _tokens(vocab: Mapping[str, int], as_text: Mapping[str, int]) -> tuple[bytes, ...]:
    """The tokens by their ids; those of `as_text` are text, the others bytes in GPT-2's way."""
    by_id = {k: name.encode() if name in as_text else from_characters(name) for name, k in vocab.items()}
    if len(by_id) < len(vocab):
        raise ValueError(f"{len(vocab)} tokens have {len(by_id)} ids; expected one each")
    return tokens_by_id(by_id)


# --- Patterns that both engines read alike ----------------------------------------------------------------------------

_CATEGORIES = (
    "l lu ll lt lm lo m mn mc me n nd nl no p pc pd ps pe pi pf po s sm sc sk so z zs zl zp cc cf co "
    "letter lowercase_letter uppercase_letter mark number decimal_number punctuation symbol separator"
)
_SCRIPTS = (
    "arabic armenian bengali bopomofo braille cherokee common cyrillic devanagari ethiopic georgian greek gujarati "
    "gurmukhi han hangul hebrew hiragana inherited kannada katakana khmer lao latin malayalam mongolian myanmar oriya "
    "sinhala syriac tamil telugu thaana thai tibetan yi"
)
_PROPERTIES = frozenset(f"{_CATEGORIES} {_SCRIPTS}".split())
_PROPERTY = re.compile(r"\{(\^?)(\w+)\}", re.ASCII)
_CHARACTERS = frozenset("rntf" + string.punctuation + " ")  # behind a backslash, one character in both
_CLASSES = frozenset("sSdD")
_SOME, _OTHERS = re.compile(r"\\[sd]|\\p\{[^^]"), re.compile(r"\\[SDP]|\\p\{\^")
_QUANTIFIER = re.compile(r"[*+?]|\{\d+(?:,\d*)?\}", re.ASCII)
_LOOKS_LIKE_ONE = re.compile(r"\{[^{}]*\}\+?")
_HEX = {"x": re.compile(r"[0-7][0-9A-Fa-f]"), "u": re.compile(r"[0-9A-Fa-f]{4}")}
_BEHIND = frozenset({"(?<=", "(?<!"})
_AROUND = _BEHIND | {"(?=", "(?!"}
_GROUPS = ("(?:", "(?>", "(?i:", *_AROUND)
_FOLDED = frozenset({"ss", "st", "ff", "fi", "fl"})  # that are one character in another case, such as ß, in Oniguruma
_MOST_TIMES, _DEEPEST = 1000, 50

_LETTERS = r"write '[\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}]'"
_NOTHING_BEFORE, _NOTHING_BEHIND = r"'(?<![\s\S])'", r"'(?![\s\S])'"
_INSTEAD = {
    "^": f"for the start of a text write {_NOTHING_BEFORE}", "$": f"for the end of a text write {_NOTHING_BEHIND}",
    r"\A": f"write {_NOTHING_BEFORE}", r"\Z": f"write {_NOTHING_BEHIND}", r"\z": f"write {_NOTHING_BEHIND}",
    r"\w": _LETTERS, r"\W": _LETTERS.replace("[", "[^"), r"\v": r"write '\x0B'",
    r"\h": r"write '[ \t]', or '[0-9A-Fa-f]'", "&&": "for what is in both write '(?=[…])[…]'",
    r"\b": r"write what stands before and behind, such as '(?<![\p{L}\p{N}])'",
}  # fmt: skip


class _Differs(Exception):
    """A construct that is not known to mean the same, where it is, and what to do."""


class _Part(NamedTuple):
    """What matters about a part of a pattern.

    Attributes:
        empty: whether it can match nothing.
        first: the letters of either case that it can begin with, in lower case.
        last: those that it can end with.
        length: the characters of what it matches, if it is always as many.
    """

    empty: bool
    first: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()
    length: int | None = 0


_NOTHING, _ANY = _Part(True), _Part(False, length=1)


def difference(pattern: str) -> str | None:
    r"""What may keep both engines from reading a pattern alike, and what to do about it; `None` if nothing.

    Args:
        pattern: one that `regex` compiles.

    Example:
        >>> from jaxopt_lite.bpe.formats.huggingface import difference
        >>> difference(r" ?\p{L}+|\s+")
        >>> difference(r"\w+")
        "'\\w' at character 0; write '[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}]'"
    """
    reader = _Reader(pattern)
    try:
        part = reader.choice()
        if reader.at < len(pattern):
            reader.refuse(")", reader.at, "the group that it ends has no beginning")
        if part.empty:
            return f"{pattern!r}, which can match nothing; write it so that every match has a character"
    except _Differs as found:
        return str(found)
    return None


class _Reader:
    """Reads a pattern from left to right; raises `_Differs`."""

    def __init__(self, pattern: str):
        self.pattern, self.at = pattern, 0
        self.around: list[str] = []  # the beginnings of the groups that are open
        self.looks_ahead = False  # somewhere before

    def refuse(self, construct: str, at: int, instead: str | None = None) -> NoReturn:
        raise _Differs(f"'{construct}' at character {at}; {instead or _INSTEAD.get(construct, 'write it otherwise')}")

    def took(self, text: str) -> bool:
        if there := self.pattern.startswith(text, self.at):
            self.at += len(text)
        return there

    @property
    def in_either_case(self) -> bool:
        return "(?i:" in self.around

    @property
    def looks_back(self) -> bool:
        return not _BEHIND.isdisjoint(self.around)

    def choice(self) -> _Part:
        """Alternatives, up to the end or a closing parenthesis."""
        parts = [self.row()]
        while self.took("|"):
            parts.append(self.row())
        lengths = {part.length for part in parts}
        return _Part(
            any(part.empty for part in parts),
            frozenset().union(*(part.first for part in parts)),
            frozenset().union(*(part.last for part in parts)),
            lengths.pop() if len(lengths) == 1 else None,
        )

    def row(self) -> _Part:
        whole = _NOTHING
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            start = self.at
            whole = self.joined(whole, self.repeated(), start)
        return whole

    def joined(self, one: _Part, two: _Part, start: int) -> _Part:
        """One behind the other."""
        if folded := sorted(_FOLDED.intersection(a + b for a in one.last for b in two.first)):
            self.refuse(folded[0], start, "in either case these are one character too; write '[Ss]' for '(?i:s)'")
        return _Part(
            one.empty and two.empty,
            one.first | (two.first if one.empty else frozenset()),
            two.last | (one.last if two.empty else frozenset()),
            None if one.length is None or two.length is None else one.length + two.length,
        )

    def repeated(self) -> _Part:
        """An item with its quantifier."""
        start = self.at
        part = self.item()
        found = _QUANTIFIER.match(self.pattern, self.at)
        if found is None:
            return part
        self.at = found.end()
        least, most = self.times(found[0], found.start())
        if found[0].startswith("{"):
            if self.took("+"):
                self.refuse(f"{found[0]}+", found.start(), f"write '(?>…{found[0]})'")
            if self.took("?") and least == most:
                self.refuse(f"{found[0]}?", found.start(), "leave '?' out")
        elif not self.took("?"):
            self.took("+")
        if again := _QUANTIFIER.match(self.pattern, self.at):
            self.refuse(again[0], self.at, "repeat a group, '(?:…)'")
        if part.empty or (self.looks_back and least != most):
            self.refuse(
                self.pattern[start : self.at],
                start,
                "let what is repeated have a character, and a look back one length",
            )
        if most > 1:
            self.joined(part, part, start)
        length = None if part.length is None or least != most else part.length * least
        return _Part(least == 0, part.first, part.last, length)

    def times(self, quantifier: str, at: int) -> tuple[int, int]:
        """How often at least and at most."""
        if quantifier in "*+?":
            return int(quantifier == "+"), 1 if quantifier == "?" else _MOST_TIMES
        least, comma, most = quantifier[1:-1].partition(",")
        bounds = int(least), int(most or (_MOST_TIMES if comma else least))
        if not 0 < bounds[1] <= _MOST_TIMES or bounds[0] > bounds[1]:
            self.refuse(quantifier, at, f"write numbers from 1 to {_MOST_TIMES}")
        return bounds

    def item(self) -> _Part:
        """A character, a class or a group."""
        start, character = self.at, self.pattern[self.at]
        if character == "(":
            return self.group()
        if character == "[":
            return self.bracket()
        if character == "{" and (found := _LOOKS_LIKE_ONE.match(self.pattern, start)):
            self.refuse(found[0], start, r"write '{0,3}' for '{,3}', and '\{' for the character")
        if character in "^$*+?{}]":
            self.refuse(character, start, _INSTEAD.get(character, rf"write '\{character}' for the character"))
        if character == "." and self.looks_ahead:  # Oniguruma finds no '(?=\d).+~' in "a0~"
            self.refuse(".", start, r"behind '(?=' write '[^\n]'")
        return _ANY if self.took(".") else self.of([self.character()])

    def of(self, characters: list[str | None]) -> _Part:
        """One of some characters; `None` is a class of them."""
        letters = frozenset(c.lower() for c in characters if c) if self.in_either_case else frozenset()
        return _Part(False, letters, letters, 1)

    def character(self) -> str | None:
        """A character as it stands or behind a backslash; `None` for a class of characters."""
        start, character = self.at, self.pattern[self.at]
        self.at += 1
        if character == "\\":
            character = self.escaped(start)
        if character is not None and "\ud800" <= character <= "\udfff":
            self.refuse(character, start, "it is no character")
        if self.in_either_case and (character is None or character in "iI" or not character.isascii()):
            self.refuse(
                self.pattern[start : self.at], start, "in either case it has more forms; write it without '(?i:'"
            )
        return character

    def escaped(self, start: int) -> str | None:
        kind = self.pattern[self.at : self.at + 1]
        self.at += 1
        if kind in _CLASSES:
            return None
        if kind in ("p", "P") and (found := _PROPERTY.match(self.pattern, self.at)):
            self.at = found.end()
            if found[2].lower() in _PROPERTIES and not (found[1] and kind == "P"):
                return None
            self.refuse(self.pattern[start : self.at], start, "write a general category such as 'L', or a script")
        if kind in _HEX and (found := _HEX[kind].match(self.pattern, self.at)):
            self.at = found.end()
            return chr(int(found[0], 16))
        if not kind or kind not in _CHARACTERS:
            self.refuse(f"\\{kind}", start)
        return {"r": "\r", "n": "\n", "t": "\t", "f": "\f"}.get(kind, kind)

    def bracket(self) -> _Part:
        """A class in brackets."""
        start = self.at
        self.took("[")
        is_negative = self.took("^")
        if is_negative and self.in_either_case:
            self.refuse("[^", start, "write it without '(?i:'")
        characters: list[str | None] = []
        first = self.at
        while self.at == first or not self.took("]"):
            characters += self.member(start, first)
        inside = self.pattern[first : self.at]
        if is_negative and _SOME.search(inside) and _OTHERS.search(inside):  # `regex` takes '[^\s\S]' for anything
            self.refuse(f"[^{inside}", start, r"write '\s' and the like, or '\S' and the like, not both")
        return self.of(characters)

    def member(self, start: int, first: int) -> list[str | None]:
        """What a character, a class or a range in brackets adds to it, of the letters that matter."""
        following = self.pattern[self.at : self.at + 2]
        if not following:
            self.refuse("[", start, "it has no end")
        if operator := next((two for two in ("&&", "--", "||", "~~", "[", "]") if following.startswith(two)), None):
            self.refuse(operator, self.at, _INSTEAD.get(operator, rf"write '\{operator[0]}' for the character"))
        if following[0] == "-" and self.at > first and following[1:] != "]":
            self.refuse("-", self.at, r"write '\-' for the character")
        low = self.character()
        if not self.pattern.startswith("-", self.at) or self.pattern[self.at + 1 : self.at + 2] in ("]", ""):
            return [low]
        at = self.at
        self.took("-")
        if self.pattern[self.at] in "[-":
            self.refuse(self.pattern[at : self.at + 1], at, r"write '\-' or '\[' for the character")
        high = self.character()
        if low is None or high is None or low > high:
            self.refuse(self.pattern[at : self.at], at, r"write '\-' for the character")
        if self.in_either_case:
            if low <= "i" <= high or low <= "I" <= high:
                self.refuse(f"{low}-{high}", at, "in either case 'i' has more forms; leave it out")
            return [chr(code) for code in range(ord(low), ord(high) + 1)]
        return []

    def group(self) -> _Part:
        start = self.at
        kind = next((kind for kind in _GROUPS if self.took(kind)), "(")
        if kind == "(":
            self.took("(")
            if self.pattern[self.at : self.at + 1] in ("?", "*"):
                self.refuse(self.pattern[start : start + 4], start, "write '(?:…)', or '(?i:…)' around what it is for")
        if (self.looks_back and kind != "(?:") or (self.in_either_case and kind in _BEHIND):
            self.refuse(kind, start, "write '(?:…)' alone inside of a look back, and none inside of '(?i:…)'")
        if len(self.around) == _DEEPEST:
            self.refuse("(", start, f"write at most {_DEEPEST} groups in each other")
        self.looks_ahead |= kind == "(?="
        self.around.append(kind)
        part = self.choice()
        self.around.pop()
        if not self.took(")"):
            self.refuse("(", start, "it has no end")
        if kind in _BEHIND and part.length is None:
            self.refuse(self.pattern[start : self.at], start, "let all its alternatives have one length")
        return _NOTHING if kind in _AROUND else part
