"""What is taken for the same in both languages of patterns is the same: on random patterns, and over all characters."""

import random
import string
from functools import cache

import pytest
import regex
import tokenizers
from tokenizers import normalizers, pre_tokenizers

from jaxopt_lite.bpe import oniguruma
from jaxopt_lite.bpe.oniguruma import difference, translated
from jaxopt_lite.bpe.patterns import RELATIVES, STOCK, splitter

NASTY = [
    *"aAbBkKsStTfFiIlLxyzZ09_-'.,/&|~[](){}!?*+^$#\\", *" \n\r\t\x0b\x0c\x1c\x1f\x7f\0", *("ss", "st", "ff", "ffi"),
    *"\x85\u00a0\u1680\u2003\u2028\u2029\u200b\u200d\ufeff\u3000", *("\r\n", "e\u0301", "\u0345", "👩\u200d👧"),
    *"²½ßẞſKéÉåÅıİʼŉǅǆµΩωςσ", *"ﬀﬁﬂﬃﬄﬅﬆ", *"漢字かカ한ไทยनीж١۲०Ⅷ🙂",
]  # fmt: skip


def texts(seed, number=12):
    draw = random.Random(seed)
    return ["".join(draw.choices(NASTY, k=draw.randrange(1, 25))) for _ in range(number)] + ["".join(NASTY)]


def words_elsewhere(pattern, text):
    step = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    return [word for word, _ in step.pre_tokenize_str(text)]


# --- Random patterns ----------------------------------------------------------------------------------------------

ESCAPES = [
    r"\s",
    r"\S",
    r"\d",
    r"\D",
    r"\n",
    r"\r",
    r"\t",
    r"\f",
    r"\.",
    r"\-",
    r"\[",
    r"\]",
    r"\&",
    r"\ ",
    r"\x41",
    r"\u00DF",
]
PROPERTIES = [
    r"\p{L}",
    r"\p{Lu}",
    r"\P{L}",
    r"\p{^N}",
    r"\p{N}",
    r"\p{M}",
    r"\p{Han}",
    r"\p{P}",
    r"\p{Zs}",
    r"\p{Latin}",
]
LITERALS = [*"aAsStTkfilLxz09 '-/,_#&~", "é", "ß", "ſ", "漢", "²"]
QUANTIFIERS = ["*", "+", "?", "*?", "+?", "??", "*+", "++", "?+", "{2}", "{1,3}", "{2,}", "{0,2}", "{1,2}?", "{2,}?"]


def bracket(draw):
    """A class in brackets, mostly one that is understood."""
    members = []
    for _ in range(draw.randint(1, 4)):
        kind = draw.random()
        if kind < 0.4:
            members.append(draw.choice(ESCAPES + PROPERTIES))
        elif kind < 0.6:
            members.append(draw.choice(["a-z", "A-Z", "0-9", r"\x00-\x1f", "b-s", r"\u0000-\uffff", "一-龥", "+-/"]))
        else:
            members.append(draw.choice([*LITERALS, "^", "|", "*", "$", "(", "{", "é"]))
    return f"[{draw.choice(['', '^'])}{''.join(members)}{draw.choice(['', '', '-'])}]"


def either_case(draw):
    return "".join(
        draw.choice(["a", "s", "k", "T", "'", "f", "l", "ll", "[sdmt]", "[a-h]", "x|y", "(?:r|s)", "z?"])
        for _ in range(3)
    )


def random_pattern(draw, depth=3):
    """A pattern, nearly always of constructs that are known."""
    kind = draw.random()
    if depth == 0 or kind < 0.45:
        atom = draw.choice([draw.choice(LITERALS), draw.choice(ESCAPES), draw.choice(PROPERTIES), bracket(draw), "."])
    elif kind < 0.6:
        atom = draw.choice(["(?:", "(", "(?>", "(?:"]) + random_pattern(draw, depth - 1) + ")"
    elif kind < 0.66:
        return (
            draw.choice(["(?=", "(?!", "(?<=", "(?<!"])
            + random_pattern(draw, 1)
            + ")"
            + random_pattern(draw, depth - 1)
        )
    elif kind < 0.74:
        atom = f"(?i:{either_case(draw)})"
    elif kind < 0.88:
        return random_pattern(draw, depth - 1) + random_pattern(draw, depth - 1)
    else:
        return random_pattern(draw, depth - 1) + "|" + random_pattern(draw, depth - 1)
    return atom + draw.choice(QUANTIFIERS) if draw.random() < 0.45 else atom


def compiles(pattern):
    try:
        regex.compile(pattern)
    except regex.error:
        return False
    return True


def takes_long(pattern, text):
    """Whether there are very many ways to try it; Oniguruma gives up then, loudly."""
    try:
        regex.compile(pattern).findall(text, timeout=0.02)
        words_elsewhere(pattern, text)
    except TimeoutError:
        return True
    except BaseException as error:  # a panic
        return "retry-limit" in str(error)
    return False


def check_random_patterns(seeds):
    """Returns how many were compared."""
    compared = 0
    for seed in seeds:
        pattern = random_pattern(random.Random(seed))
        if not compiles(pattern) or difference(pattern) is not None:
            continue
        compared += 1
        split = splitter(f"(?:{pattern})")  # a name otherwise, perhaps
        for text in texts(seed):
            if not takes_long(pattern, text):
                assert split.words(text) == words_elsewhere(pattern, text), (seed, pattern, text)
    return compared


def test_random_patterns_cut_alike():
    assert check_random_patterns(range(1500)) > 800


@pytest.mark.slow
def test_very_many_random_patterns_cut_alike():
    assert check_random_patterns(range(10_000, 160_000)) > 50_000


# --- Every construct, over all characters -------------------------------------------------------------------------


@cache
def characters(last=0x110000):
    """All of which both engines think the same: each knows the characters of its version of Unicode."""
    text = "".join(chr(code) for code in range(last) if not 0xD800 <= code < 0xE000)
    pairs = [f"\\p{{{name}}}" for name in oniguruma._CATEGORIES.split() if len(name) == 2]
    differs = set().union(*(found_by_regex(p, text) ^ found_elsewhere(p, text) for p in [*pairs, r"\p{Cn}"]))
    unknown = found_elsewhere(r"\p{Cn}", text)
    assert differs <= unknown | {"\u0295"}  # a small letter in Unicode 16, another one in 17
    return "".join(character for character in text if character not in differs)


def found_by_regex(pattern, text):
    return set(text).difference(regex.sub(pattern, "", text))


def found_elsewhere(pattern, text):
    return set(text).difference(normalizers.Replace(tokenizers.Regex(pattern), "").normalize_str(text))


MARKS = "rntf " + string.punctuation
SINGLE = [
    *(".", r"\s", r"\S", r"\d", r"\D", r"[\s\S]", r"[^\S ]", r"[^\s\d]", "[a-z]", "[^a-z]", r"[\x00-\x7f]", "[一-龥]"),
    *(r"[^\u00e9-\u6f22]", "[^é]", "[a^]", "[-a]", "[a-]", r"[+-\-]", r"[\]-a]", r"\x7F", r"\u00e9", "a|é", "(?!a)."),
    *(form.replace("%", mark) for mark in MARKS for form in (r"\%", r"[\%]", r"[^\%]", r"[x\%]")),
    *(f"(?i:{letter})" for letter in string.ascii_letters if letter not in "iI"), "(?i:[a-h])", "(?i:[J-Z])",
]  # fmt: skip
NAMED = [f"{start}{name}}}" for name in sorted(oniguruma._PROPERTIES) for start in (r"\p{", r"\P{", r"\p{^")]
NAMED += [
    f"[{start}{name}}}]" for name in ("L", "lu", "Han", "zs") for start in (r"\p{", r"\P{", r"^\p{", r"^\P{", r"x\p{^")
]


def check_over(text, patterns):
    for pattern in patterns:
        assert difference(pattern) is None, pattern
        assert found_by_regex(pattern, text) == found_elsewhere(pattern, text), pattern


def test_every_construct_has_the_same_characters():
    """Those of most alphabets in use."""
    check_over(characters(0x3100), SINGLE + NAMED)


@pytest.mark.slow
def test_every_construct_has_the_same_characters_of_all():
    check_over(characters(), SINGLE + NAMED)


def test_patterns_in_use_are_cut_alike():
    """All but two spellings of tiktoken's, of which it is said how to write them."""
    differ = {pattern: found for pattern in (*STOCK.values(), *RELATIVES) if (found := difference(pattern))}
    assert len(differ) == 2 and all("'{1,3}+'" in found or "'$'" in found for found in differ.values())
    for pattern in {*STOCK.values(), *RELATIVES}.difference(differ):
        for text in (text for seed in range(20) for text in texts(seed)):
            assert splitter(pattern).words(text) == words_elsewhere(pattern, text), (pattern, text)


def test_a_group_of_either_case_does_not_hide_the_beginnings_of_other_words():
    """`regex` would look for these as if they were of either case too."""
    for pattern in (
        r"(?i:x)|[^bc]",
        r"(?i:[xy])+z|[^bc]{2}",
        r"(?i:s)|\P{Lu}{2}|.",
        r"(?i:'?s)[^n]|[^dk\s]{2}",
        r"(?i:1)|[^ab]",
    ):
        assert difference(pattern) is None
        for text in ("aAbBcCdDkKsSxX", *(text for seed in range(5) for text in texts(seed))):
            assert splitter(pattern).words(text) == words_elsewhere(pattern, text), (pattern, text)


# --- What differs -------------------------------------------------------------------------------------------------

DIFFERS = {
    r"\w+|[^\w\s]+": r"'\w' at character 0; write '[\p{L}\p{M}\p{Nd}",
    r"a|\W": r"'\W' at character 2",
    r"\ba": r"'\b' at character 0",
    r"\h+": r"'\h' at character 0; write '[ \t]'",
    r"a\Z": r"'\Z' at character 1; write '(?![\s\S])'",
    r"\Aa": r"write '(?<![\s\S])'",
    "^a": "'^' at character 0; for the start of a text write '(?<![\\s\\S])'",
    "a$": "'$' at character 1; for the end of a text write '(?![\\s\\S])'",
    r"\p{N}{1,3}+": "'{1,3}+' at character 5; write '(?>…{1,3})'",
    r"\p{N}{2}?x": "'{2}?' at character 5; leave '?' out",
    r"\p{N}{,3}x": "'{,3}' at character 5; write '{0,3}'",
    r"a{x}": "'{x}' at character 1",
    r"[\p{L}&&[^\p{Han}]]": "'&&' at character 6; for an intersection write",
    r"[[a-c][x-z]]": r"'[' at character 1; write '\['",
    r"[a--c]": "'--'",
    r"[a||b]": "'||'",
    r"[a~~b]": "'~~'",
    r"[[:alpha:]]": "'['",
    r"[]a]": r"']' at character 1; write '\]'",
    r"[^\s\S]|a": "not both",
    r"[a-\d]": "'-\\d'",
    r"[a-c-e]": r"'-' at character 4; write '\-'",
    r"(?m:.)+?n": "'(?m:' at character 0",
    r"(?i)a": "'(?i)' at character 0",
    r"(?x)a b": "'(?x)'",
    r"(?P<name>a)": "'(?P<'",
    r"(?<name>a)": "'(?<n'",
    r"(a)\1": r"'\1' at character 3",
    r"(?i:strasse)": "'st' at character 5; ignoring case these also match one character",
    r"(?i:f)(?i:i)x": "it has more forms",
    r"(?i:[a-z])": "'i' has more forms",
    r"(?i:é)": "'é' at character 4",
    r"(?i:\p{Lu})": r"'\p{Lu}' at character 4",
    r"(?i:a[^b])": "'[^'",
    r"\p{Lowercase}": "write a general category",
    r"\P{^L}": "write a general category",
    r"\pL": r"'\p' at character 0",
    r"\X|\R": r"'\X'",
    r"(?<=ab|c)d": "give all its alternatives the same length",
    r"(?<=a+)d": "a lookbehind must have one length",
    r"(?<=(?>a))d": "inside a lookbehind",
    r"(?=\d).+~": r"'.' at character 6; after '(?=' write '[^\n]'",
    r"(?:a*)+b": "what is repeated must match a character",
    r"a++*": "'*' at character 3",
    r"a{2000}": "write numbers from 1 to 1000",
    r"a*": "can match the empty string",
    r"a|": "can match the empty string",
    r"(?=a)": "can match the empty string",
    "(" * 60 + "a" + ")" * 60: "at most 50 groups",
    "\ud800": "it is not a character",
}


@pytest.mark.parametrize("pattern", DIFFERS)
def test_what_stands_in_the_way_is_named(pattern):
    assert DIFFERS[pattern] in difference(pattern)


@pytest.mark.parametrize(
    "pattern", ["a)", "(a", "[a", "[a-", "[^", "a\\", "[a\\", "(?", "(?i:", "{", "a{2", "\\p{L", "\\x4", "\\u12"]
)
def test_what_no_engine_reads_is_named_too(pattern):
    """The reader stops at any end."""
    assert difference(pattern)


def test_what_is_advised_means_what_was_meant():
    """The replacements pass, and cut as the original does in this library."""
    advised = {
        r"\w+|\W": r"[\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}]+|[^\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}]",
        r"^a|b$|c": r"(?<![\s\S])a|b(?![\s\S])|c",
        r"\p{N}{1,3}+|a": r"(?>\p{N}{1,3})|a",
    }
    for old, new in advised.items():
        assert difference(old) and difference(new) is None
        for text in ("abc 12345 ab", *(text for seed in range(40) for text in texts(seed))):
            text = text.replace("\u200d", "")  # joins letters, and is one for `regex`
            assert splitter(old).words(text) == splitter(new).words(text), (old, text)


# --- Translations -------------------------------------------------------------------------------------------------

FROM_ONIGURUMA = [
    r"\w+|[^\w\s]+", r"a|\W", r"\ba", r"a\b", r"\B.", r"\h+", r"\H+", r"a\Z", r"\Aa", r"a\z", "^a", "^.", "a$", ".$",
    r"\p{N}{1,3}+", r"\p{N}{2}?x", r"\p{N}{,3}x", r"[\p{L}&&[^\p{Han}]]+", "[[a-c][x-z]]+", "[^[a-c]x]+",
    "[[:alpha:]]+", "[^[:alpha:]]", "[[:alpha:]_-]+", "(?m:.)+?n", "(?m:.+)", "(?<name>a)", r"\x{e9}+", r"\x{1F642}",
    r"\v+", r"\a|\e", r"\N+", r"\O", r"\R", r"[\w-]+", r"[\W_]+", r"[^\W_]+", r"[\H0]+", "[a-z&&[^aeiou]]+",
    "[^a-z&&[^aeiou]]+", r"\P{^L}+", "(?i)ab", "[[^a]b]+", "(?m)a.", r"\w+(?:'\w+)?|[^\w\s]", r"[\w&&[^\d]]+",
    "[[:digit:]]+", "[[:alnum:]]+", "[[:^alpha:]]+", "[^[:^alnum:]]+", "[[:^space:]a-c ]", "[[:^word:]\\W1]+",
    r"\n$", r"\n+$", r"\s+$", r"a\s*$", r"b|\n$", r"$\n", r"\n(?!$)", r"(?m:.)$", r"\n^",
]  # fmt: skip
FROM_REGEX = [
    r"\w+|[^\w\s]+", r"a|\W", r"\ba", r"\B.", r"\h+", r"a\Z", r"\Aa", "^a", "a$", ".$", r"\p{N}{1,3}+", r"\p{N}{2}?x",
    r"\p{N}{,3}x", "[a&&b]+", "[a[b]+", "[[:alpha:]]+", "(?s:.+)n", "(?s).", "(?P<n>a)", r"\pL+", r"\P{^L}", r"\R",
    r"[\w-]+", r"[\W_]+", r"[^\W_]+", r"\v", r"\a", r"\U0001F642", r"\xe9+", "(?i)ab", r"\d{1,3}+|\D",
    "[[:digit:]]+", "[[:alnum:]]+", "[[:^alpha:]]+", "[^[:^alnum:]]+", "[[:^space:]a-c ]", "[[:^word:]\\W1]+",
]  # fmt: skip
ENDS = [
    "ab²½a_b",
    "a\nb\n",
    "a\n",
    "\n\n",
    "a_1é²x",
    "abcdef 0F",
    "12345x",
    "12x",
    "123x",
    "x\n ",
    "aA\u0301",
    "\n",
    "a\nb",
    "a\n\n",
    "a \nb\n\n\n",
]


def test_what_is_translated_means_what_was_meant(recwarn):
    """Constructs that mean something else in the other language, by the words of that in which they are written."""
    many = [*ENDS, *(text for seed in range(60) for text in texts(seed, 5))]
    for language, patterns in (("oniguruma", FROM_ONIGURUMA), ("regex", FROM_REGEX)):
        for pattern in patterns:
            made = translated(pattern, language)
            assert difference(made) is None, (language, pattern, made)
            here, there = (made, pattern) if language == "oniguruma" else (pattern, made)
            here = splitter(here if here.startswith("(?") else f"(?:{here})")
            for text in many:
                assert here.words(text) == words_elsewhere(there, text), (language, pattern, made, text)


def test_what_is_the_same_is_left_alone():
    for pattern in (r" ?\p{L}+|\s+", *STOCK.values()):
        assert translated(pattern, "regex") == translated(pattern, "oniguruma") == pattern


def test_what_cannot_be_translated_stays_so_that_it_is_named():
    for pattern in (r"(a)\1", r"\X", r"[[:punct:]]", r"[[:^punct:]]", "(?i:strasse)", "[", "a)", "(", "\\"):
        assert difference(translated(pattern, "oniguruma")) and difference(translated(pattern, "regex"))
