r"""Two regular expression languages: that of `regex`, in which this package reads patterns, and Hugging Face's.

The latter is Oniguruma's. The two look alike and differ in many points: in Oniguruma `\w` matches other characters,
`{1,3}+` repeats a repetition, `$` matches at every line end, `&&` is an operator. So a pattern counts as the same in
both only if every part of it is known to be (`difference`). What is known is written down here, and tested by comparing
the two over all characters and on random patterns in `tests/bpe/test_oniguruma.py`. Constructs with another meaning are
rewritten in terms that mean the same in both (`translated`); the result has to pass the same check.

One difference remains: each engine knows the characters of its own version of Unicode, and a letter that is too new for
an engine is not a letter there.
"""

import re
import string
from typing import NamedTuple, NoReturn

__all__ = ["difference", "translated"]

_CATEGORIES = (
    "l lu ll lt lm lo m mn mc me n nd nl no p pc pd ps pe pi pf po s sm sc sk so z zs zl zp cc cf co "
    "letter lowercase_letter uppercase_letter mark number decimal_number punctuation symbol separator"
)
_SCRIPTS = (
    "arabic armenian bengali bopomofo braille cherokee common cyrillic devanagari ethiopic georgian greek gujarati "
    "gurmukhi han hangul hebrew hiragana inherited kannada katakana khmer lao latin malayalam mongolian myanmar oriya "
    "sinhala syriac tamil telugu thaana thai tibetan yi"
)
_BINARY = "alphabetic uppercase join_control"
_PROPERTIES = frozenset(f"{_CATEGORIES} {_SCRIPTS} {_BINARY}".split())
_PROPERTY = re.compile(r"\{(\^?)(\w+)\}", re.ASCII)
_CHARACTERS = frozenset("rntf" + string.punctuation + " ")  # after a backslash, one character in both
_CLASSES = frozenset("sSdD")
_SOME, _OTHERS = re.compile(r"\\[sd]|\\p\{[^^]"), re.compile(r"\\[SDP]|\\p\{\^")
_QUANTIFIER = re.compile(r"[*+?]|\{\d+(?:,\d*)?\}", re.ASCII)
_LOOKS_LIKE_ONE = re.compile(r"\{[^{}]*\}\+?")
_HEX = {"x": re.compile(r"[0-7][0-9A-Fa-f]"), "u": re.compile(r"[0-9A-Fa-f]{4}")}
_BEHIND = frozenset({"(?<=", "(?<!"})
_AROUND = _BEHIND | {"(?=", "(?!"}
_GROUPS = ("(?:", "(?>", "(?i:", *_AROUND)
_FOLDED = frozenset({"ss", "st", "ff", "fi", "fl"})  # Oniguruma also matches these with one character, such as ß
_MOST_TIMES, _DEEPEST = 1000, 50

_LETTERS = r"write '[\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}]'"
_NOTHING_BEFORE, _NOTHING_BEHIND = r"'(?<![\s\S])'", r"'(?![\s\S])'"
_INSTEAD = {
    "^": f"for the start of a text write {_NOTHING_BEFORE}", "$": f"for the end of a text write {_NOTHING_BEHIND}",
    r"\A": f"write {_NOTHING_BEFORE}", r"\Z": f"write {_NOTHING_BEHIND}", r"\z": f"write {_NOTHING_BEHIND}",
    r"\w": _LETTERS, r"\W": _LETTERS.replace("[", "[^"), r"\v": r"write '\x0B'",
    r"\h": r"write '[ \t]', or '[0-9A-Fa-f]'", "&&": "for an intersection write '(?=[…])[…]'",
    r"\b": r"write what must be before and after, such as '(?<![\p{L}\p{N}])'",
}  # fmt: skip


class _Differs(Exception):
    """A construct that is not known to mean the same in both, where it is, and what to do."""


class _Part(NamedTuple):
    """What matters about a part of a pattern.

    Attributes:
        empty: whether it can match the empty string.
        first: the letters inside `(?i:…)` that a match can begin with, in lower case.
        last: those that a match can end with.
        length: how many characters it matches, if always the same number; else `None`.
    """

    empty: bool
    first: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()
    length: int | None = 0


_NOTHING, _ANY = _Part(True), _Part(False, length=1)


def difference(pattern: str) -> str | None:
    r"""What may make the two engines read a pattern differently, and what to do about it; `None` if nothing.

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
            reader.refuse(")", reader.at, "it closes no group")
        if part.empty:
            return f"{pattern!r}, which can match the empty string; write it so that every match has a character"
    except _Differs as found:
        return str(found)
    return None


class _Reader:
    """Reads a pattern from left to right; raises `_Differs`."""

    def __init__(self, pattern: str):
        self.pattern, self.at = pattern, 0
        self.around: list[str] = []  # how the open groups begin
        self.looks_ahead = False  # whether a "(?=" came before

    def refuse(self, construct: str, at: int, instead: str | None = None) -> NoReturn:
        raise _Differs(f"'{construct}' at character {at}; {instead or _INSTEAD.get(construct, 'write it another way')}")

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
        """One part followed by another."""
        if folded := sorted(_FOLDED.intersection(a + b for a in one.last for b in two.first)):
            self.refuse(folded[0], start, "ignoring case these also match one character; write '[Ss]' for '(?i:s)'")
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
                "what is repeated must match a character, and a lookbehind must have one length",
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
            self.refuse(".", start, r"after '(?=' write '[^\n]'")
        return _ANY if self.took(".") else self.of([self.character()])

    def of(self, characters: list[str | None]) -> _Part:
        """One of some characters; `None` stands for a class of characters."""
        letters = frozenset(c.lower() for c in characters if c) if self.in_either_case else frozenset()
        return _Part(False, letters, letters, 1)

    def character(self) -> str | None:
        """A literal or escaped character; `None` for a class of characters."""
        start, character = self.at, self.pattern[self.at]
        self.at += 1
        if character == "\\":
            character = self.escaped(start)
        if character is not None and "\ud800" <= character <= "\udfff":
            self.refuse(character, start, "it is not a character")
        if self.in_either_case and (character is None or character in "iI" or not character.isascii()):
            self.refuse(
                self.pattern[start : self.at], start, "ignoring case it has more forms; write it outside of '(?i:'"
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
            self.refuse("[^", start, "write it outside of '(?i:'")
        characters: list[str | None] = []
        first = self.at
        while self.at == first or not self.took("]"):
            characters += self.member(start, first)
        inside = self.pattern[first : self.at]
        if is_negative and _SOME.search(inside) and _OTHERS.search(inside):  # `regex` lets '[^\s\S]' match anything
            self.refuse(f"[^{inside}", start, r"use classes like '\s' or classes like '\S' in it, not both")
        return self.of(characters)

    def member(self, start: int, first: int) -> list[str | None]:
        """The letters that matter of one member of a class: a character, a class or a range."""
        following = self.pattern[self.at : self.at + 2]
        if not following:
            self.refuse("[", start, "it is not closed")
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
                self.refuse(f"{low}-{high}", at, "ignoring case 'i' has more forms; leave it out")
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
            self.refuse(kind, start, "use only '(?:…)' inside a lookbehind, and no lookbehind inside '(?i:…)'")
        if len(self.around) == _DEEPEST:
            self.refuse("(", start, f"nest at most {_DEEPEST} groups")
        self.looks_ahead |= kind == "(?="
        self.around.append(kind)
        part = self.choice()
        self.around.pop()
        if not self.took(")"):
            self.refuse("(", start, "it is not closed")
        if kind in _BEHIND and part.length is None:
            self.refuse(self.pattern[start : self.at], start, "give all its alternatives the same length")
        return _NOTHING if kind in _AROUND else part


# --- Translation into terms that mean the same in both ------------------------------------------------------------

_LETTER_LIKE = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}"
_LINE_ENDS = r"(?>\r\n|[\n-\r\u0085\u2028\u2029])"
_AT_START, _AT_END = r"(?<![\s\S])", r"(?![\s\S])"


_POSIX = {
    "alpha": r"\p{Alphabetic}", "digit": r"\p{Nd}", "alnum": r"\p{Alphabetic}\p{Nd}", "space": r"\s",
    "upper": r"\p{Uppercase}", "xdigit": "0-9A-Fa-f", "blank": r"\t\p{Zs}", "cntrl": r"\p{Cc}",
    "word": _LETTER_LIKE,
}  # fmt: skip


class _Language(NamedTuple):
    """The meaning of constructs that the other language lacks or reads differently.

    Attributes:
        sets: the members of escaped classes such as `\\w`; the capital letter stands for all other characters.
        more: further members that they have outside of brackets.
        points: escapes and anchors, and expressions that mean the same.
        posix: the members of classes such as "[:alpha:]".
        any_group: how a group begins in which "." matches any character.
        nests: whether brackets in brackets are classes, and "&&" is their intersection.
        is_possessive: whether "{1,3}+" is possessive; otherwise it repeats a repetition.
    """

    sets: dict[str, str]
    more: dict[str, str]
    points: dict[str, str]
    posix: dict[str, str]
    any_group: str
    nests: bool
    is_possessive: bool


_ONIGURUMA = _Language(
    {"w": _LETTER_LIKE, "h": "0-9A-Fa-f"},
    {"w": r"\u00B2\u00B3\u00B9\u00BC-\u00BE"},
    {
        r"\A": _AT_START, r"\z": _AT_END, r"\Z": r"(?:(?=\n(?![\s\S]))|(?![\s\S]))", r"\v": r"\x0B", r"\a": r"\x07",
        "^": r"(?:(?<![\s\S])|(?<=\n)(?=[\s\S]))", "$": r"(?:(?=\n)|(?![\s\S]))", r"\e": r"\x1B",
        r"\N": r"[^\n]", r"\O": r"[\s\S]", r"\R": _LINE_ENDS,
    },
    _POSIX, "(?m:", nests=True, is_possessive=False,
)  # fmt: skip
_REGEX = _Language(
    {"w": _LETTER_LIKE + r"\p{Join_Control}", "h": r"\t\p{Zs}"},
    {},
    {
        r"\A": _AT_START, r"\z": _AT_END, r"\Z": _AT_END, r"\v": r"\x0B", r"\a": r"\x07", "^": _AT_START,
        "$": r"(?:(?=\n(?![\s\S]))|(?![\s\S]))", r"\R": _LINE_ENDS,
    },
    _POSIX | {"digit": "0-9", "alnum": r"\p{Alphabetic}0-9", "word": _LETTER_LIKE + r"\p{Join_Control}"},
    "(?s:", nests=False, is_possessive=True,
)  # fmt: skip
_LANGUAGES = {"oniguruma": _ONIGURUMA, "regex": _REGEX}
_OPENED = re.compile(r"\((?:\?(?:[:=!>]|<[=!]|P?<[A-Za-z_]\w*>|[a-z]+:))?")
_NAMED_GROUP = re.compile(r"\(\?P?<[A-Za-z_]\w*>")
_REPEATED = re.compile(r"(\{\d+(?:,\d*)?\}|\{,\d+\})([+?]?)|[*+?][+?]?", re.ASCII)
_POSIX_CLASS = re.compile(r"\[:(\^?)(\w+):\]")
_NUMBERED = re.compile(r"\\x\{([0-9A-Fa-f]+)\}|\\U([0-9A-Fa-f]{8})|\\x([89A-Fa-f][0-9A-Fa-f])")
_SHORT_PROPERTY = re.compile(r"\\([pP])([LMNPSZC])|\\P\{\^(\w+)\}")


def translated(pattern: str, language: str) -> str:
    r"""A pattern rewritten to mean the same in both languages, as far as possible.

    Unknown constructs stay as they are, so that `difference` names them.

    Args:
        pattern: the pattern.
        language: the language it is written in, "regex" or "oniguruma".

    Example:
        >>> from jaxopt_lite.bpe.oniguruma import translated
        >>> translated(r"a$|\p{N}{1,3}+", "regex")
        'a(?:(?=\\n(?![\\s\\S]))|(?![\\s\\S]))|(?>\\p{N}{1,3})'
    """
    if difference(pattern) is None:
        return pattern
    for flag in ("(?i)", _LANGUAGES[language].any_group.replace(":", ")")):
        if pattern.startswith(flag):  # it applies to everything after it
            pattern = f"{flag[:-1]}:{pattern.removeprefix(flag)})"
    return _Translator(pattern, _LANGUAGES[language]).whole()


class _Translator:
    """Reads a pattern from left to right and rewrites it."""

    def __init__(self, pattern: str, language: _Language):
        self.pattern, self.at, self.language = pattern, 0, language
        self.out: list[str] = []
        self.item = 0  # the index in `out` of the last item, to which a quantifier applies
        self.open: list[tuple[int, bool]] = [(0, False)]  # open groups: index in `out`; whether "." matches anything

    def whole(self) -> str:
        while self.at < len(self.pattern):
            self.step()
        return "".join(self.out)

    def step(self) -> None:
        character = self.pattern[self.at]
        if found := _REPEATED.match(self.pattern, self.at):
            return self.repeat(found)
        if character == "(":
            return self.begin()
        if character == ")":
            self.item = self.open.pop()[0] if len(self.open) > 1 else len(self.out)
            self.out.append(character)
            self.at += 1
            return
        self.item = len(self.out)
        if character == "[":
            self.out.append(self.bracket())
        elif character == "\\":
            self.out.append(self.escaped())
        else:
            self.at += 1
            dot = r"[\s\S]" if self.open[-1][1] else r"[^\n]"
            self.out.append(dot if character == "." else self.language.points.get(character, character))

    def begin(self) -> None:
        """A group."""
        found = _OPENED.match(self.pattern, self.at)
        assert found is not None
        is_any = found[0] == self.language.any_group
        self.open.append((len(self.out), is_any or self.open[-1][1]))
        self.out.append("(?:" if is_any else "(" if _NAMED_GROUP.fullmatch(found[0]) else found[0])
        self.at = found.end()

    def repeat(self, found: re.Match[str]) -> None:
        """A quantifier after the last item."""
        self.at = found.end()
        if found[1] is None:
            self.out.append(found[0])
            return
        times, mark = found[1].replace("{,", "{0,"), found[2]
        item = "".join(self.out[self.item :])
        del self.out[self.item :]
        is_fixed = "," not in times
        if mark == "+":
            item = f"(?>{item}{times})" if self.language.is_possessive else f"(?:{item}{times})+"
        elif mark == "?" and is_fixed:
            item = f"{item}{times}" if self.language.is_possessive else f"(?:{item}{times})?"
        else:
            item += times + mark
        self.out.append(item)

    def escaped(self) -> str:
        """An escape outside of brackets."""
        kind = self.pattern[self.at + 1 : self.at + 2]
        if kind in ("b", "B"):
            self.at += 2
            word = f"[{self.language.sets['w']}{self.language.more.get('w', '')}]"
            rows = (("=", "!"), ("!", "=")) if kind == "b" else (("=", "="), ("!", "!"))
            return "(?:" + "|".join(f"(?<{before}{word})(?{behind}{word})" for before, behind in rows) + ")"
        if members := self.language.sets.get(kind.lower()):
            self.at += 2
            return f"[{'^' * kind.isupper()}{members}{self.language.more.get(kind.lower(), '')}]"
        if (point := self.language.points.get(f"\\{kind}")) is not None:
            self.at += 2
            return point
        return self.plain_escape()

    def plain_escape(self) -> str:
        """An escaped character or property, in brackets or not."""
        if found := _NUMBERED.match(self.pattern, self.at):
            code = int(next(filter(None, found.groups())), 16)
            if code <= 0x10FFFF and not (found[0].startswith("\\U") and self.language.nests):
                self.at = found.end()
                return f"\\u{code:04X}" if code <= 0xFFFF else chr(code)
        if (found := _SHORT_PROPERTY.match(self.pattern, self.at)) and not (found[2] and self.language.nests):
            self.at = found.end()
            return f"\\p{{{found[3]}}}" if found[3] else f"\\{found[1]}{{{found[2]}}}"
        start, self.at = self.at, min(self.at + 2, len(self.pattern))
        if self.pattern[start + 1 : self.at] in ("p", "P") and (found := _PROPERTY.match(self.pattern, self.at)):
            self.at = found.end()
        return self.pattern[start : self.at]

    def bracket(self) -> str:
        """A class in brackets; unchanged if it is not understood."""
        start = self.at
        try:
            is_negative, rows = self.classes()
        except _Differs:
            end = self.pattern.find("]", start)
            self.at = len(self.pattern) if end < 0 else end + 1
            return self.pattern[start : self.at]
        parts = [_class(members, others) for members, others in rows]
        if len(parts) == 1 and parts[0].startswith("[") and not rows[0][1]:
            return f"[{'^' * is_negative}{''.join(rows[0][0])}]"
        whole = "".join(f"(?={part})" for part in parts[1:]) + parts[0]
        return rf"(?:(?!{whole})[\s\S])" if is_negative else f"(?:{whole})"

    def classes(self) -> tuple[bool, list[tuple[list[str], list[str]]]]:
        """Whether a class is negated, and the parts it intersects: the members of each, and classes that it negates."""
        self.at += 1
        is_negative = self.pattern.startswith("^", self.at)
        self.at += is_negative
        first = self.at
        rows: list[tuple[list[str], list[str]]] = [([], [])]
        while not self.pattern.startswith("]", self.at) or self.at == first:
            if self.at >= len(self.pattern) or self.pattern.startswith("]", self.at):
                raise _Differs
            if self.language.nests and self.pattern.startswith("&&", self.at):
                self.at += 2
                rows.append(([], []))
            else:
                self.member(*rows[-1])
        self.at += 1
        if not all(members or others for members, others in rows):
            raise _Differs
        return is_negative, rows

    def member(self, members: list[str], others: list[str]) -> None:
        character = self.pattern[self.at]
        if found := _POSIX_CLASS.match(self.pattern, self.at):
            if found[2] not in self.language.posix:
                raise _Differs
            (others if found[1] else members).append(self.language.posix[found[2]])
            self.at = found.end()
        elif character == "[" and self.language.nests:
            is_negative, rows = self.classes()
            if len(rows) > 1 or (is_negative and rows[0][1]):
                raise _Differs
            (others if is_negative else members).append("".join(rows[0][0]))
            others += [] if is_negative else rows[0][1]
        elif character == "\\":
            kind = self.pattern[self.at + 1 : self.at + 2]
            if found_set := self.language.sets.get(kind.lower()):
                (others if kind.isupper() else members).append(found_set)
                self.at += 2
            elif (point := self.language.points.get(f"\\{kind}", "")).startswith(r"\x"):
                members.append(point)
                self.at += 2
            else:
                members.append(self.plain_escape())
        else:
            operators = not self.language.nests and self.pattern.startswith(("&&", "[", "||", "~~"), self.at)
            members.append(f"\\{character}" if operators else character)
            self.at += 1


def _class(members: list[str], others: list[str]) -> str:
    """An expression for one character: a member, or one outside of one of the classes `others`."""
    parts = [f"[{''.join(members)}]"] if members else []
    parts += [f"[^{other}]" for other in others]
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"
