"""Words are those of the peers' patterns, and a text may be cut into chunks without changing any of them."""

import random
import re

import pytest
import regex
import tiktoken.model

from jaxopt_lite.bpe.patterns import LOCAL, STOCK, Splitter, splitter

# As tiktoken publishes them, letter by letter.
TIKTOKEN = {
    "gpt2": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    "gpt4": r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"""
    r"""|\s*[\r\n]|\s+(?!\S)|\s""",
    "o200k": "|".join(
        [
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""\p{N}{1,3}""",
            r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
            r"""\s*[\r\n]+""",
            r"""\s+(?!\S)""",
            r"""\s+""",
        ]
    ),
}
RELEASED_GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

ASCII = [
    *" \n\t\r\x0b\x0c\x1c\x1f\x7f\0'!/._-#",
    " ",
    " ",
    "  ",
    "\r\n",
    "\n\n",
    "'s",
    "'LL",
    "'re",
    "a",
    "Bc",
    "WORD",
    "123456",
]
ODD = [
    *("\u00a0", "\u0085", "\u1680", "\u2028", "\u3000", "\u200b", "\ufeff"),
    *("é", "e\u0301", "\u0301", "ß", "Ω", "ǅ", "ʰ", "ſ", "'ſ", "日本語", "。", "한국", "ไทย", "न\u0940"),
    *("🙂", "👩\u200d👧", "٣", "Ⅷ", "½", "“", "’s", "…"),
]  # fmt: skip
SURROGATES = ["\ud800", "\udcff", "\udc80"]
ALPHABETS = {
    "ascii": ASCII,
    "odd": ASCII + ODD,
    "surrogates": ASCII + ODD + SURROGATES,
    "spaces": list(" \n\t\r\u00a0a!/1"),
}


def odd_texts(alphabet: list[str], number: int, seed: int = 0):
    """Texts of up to 30 pieces of an alphabet."""
    rng = random.Random(seed)
    for _ in range(number):
        yield "".join(rng.choices(alphabet, k=rng.randrange(30)))


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("name", TIKTOKEN)
def test_stock_words_are_tiktokens(name: str, alphabet: str):
    """Our spelling has the same matches as tiktoken's."""
    published, split = regex.compile(TIKTOKEN[name]), splitter(name)
    for text in odd_texts(ALPHABETS[alphabet], 3000):
        assert split.words(text) == published.findall(text), repr(text)


def test_gpt2_words_are_those_of_its_release():
    """tiktoken's faster spelling changed nothing."""
    released, split = regex.compile(RELEASED_GPT2), splitter("gpt2")
    for text in odd_texts(ALPHABETS["odd"], 3000):
        assert split.words(text) == released.findall(text), repr(text)


@pytest.mark.parametrize("name", STOCK)
def test_hugging_face_reads_the_patterns_alike(name: str):
    """The same pattern, given to `tokenizers`, cuts the same words."""
    tokenizers = pytest.importorskip("tokenizers")
    peer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(STOCK[name]), "isolated")
    split = splitter(name)
    for text in odd_texts(ALPHABETS["odd"], 1000):
        assert split.words(text) == [word for word, _ in peer.pre_tokenize_str(text)], repr(text)


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("pattern", sorted(LOCAL))
def test_nothing_is_lost_and_chunks_keep_the_words(pattern: str, alphabet: str):
    """Words and chunks add up to the text, and the words of the chunks are the words of the text."""
    split, direct = splitter(pattern), regex.compile(pattern)
    for text in odd_texts(ALPHABETS[alphabet], 300, seed=1):
        words, chunks = direct.findall(text), split.chunks(text)
        assert split.words(text) == words
        assert "".join(words) == text == "".join(chunks)
        assert [word for chunk in chunks for word in split.words(chunk)] == words, repr(text)


def test_whitespace_words():
    """Whitespace is dropped; the mark is kept beside the words."""
    split = splitter("whitespace", end_of_word="_")
    assert split == Splitter("whitespace", None, "_")
    assert split.words(" one\ttwo\u00a0three \n") == split.chunks(" one\ttwo\u00a0three \n") == ["one", "two", "three"]
    assert split.words("") == []


def test_examples():
    """A few words to see with one's own eyes."""
    assert splitter("gpt2").words("It's  1234 x!\n") == ["It", "'s", " ", " 1234", " x", "!", "\n"]
    assert splitter("gpt4").words("IT'S  1234 x!\n") == ["IT", "'S", " ", " ", "123", "4", " x", "!\n"]
    assert splitter("o200k").words("It's aWord/\n") == ["It's", " a", "Word", "/\n"]
    assert splitter().name == "gpt4"


def test_a_custom_pattern_loses_nothing():
    """What lies between the matches are words too; empty matches are none."""
    split = splitter(r"\d*")
    assert split.name == "custom" and not split.local
    assert split.words("ab12c3d") == ["ab", "12", "c", "3", "d"]
    assert split.words("") == split.chunks("") == []
    assert split.chunks("a b") == ["a b"]
    for text in odd_texts(ALPHABETS["surrogates"], 500):
        assert "".join(split.words(text)) == text


def test_known_strings_are_known():
    """The pattern of a stock scheme is that scheme, and its relatives in other people's files count by chunks too."""
    assert splitter(STOCK["gpt4"]) == splitter("gpt4")
    for pattern in (*TIKTOKEN.values(), RELEASED_GPT2):
        assert splitter(pattern).local and splitter(pattern).pattern == pattern


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"pattern": "gpt4", "end_of_word": "_"}, ValueError, 'use pattern="whitespace"'),
        ({"pattern": "whitespace", "end_of_word": ""}, ValueError, "visible"),
        ({"pattern": "whitespace", "end_of_word": " "}, ValueError, "visible"),
        ({"pattern": "gpt5"}, ValueError, '"o200k"'),
        ({"pattern": "cl100k"}, ValueError, "cl100k_base"),
        ({"pattern": "gpt-4x"}, ValueError, "gpt-4o"),
        ({"pattern": "llama-3.4"}, ValueError, "llama-3.1"),
        ({"pattern": "bert-base-uncased"}, ValueError, "write '(?:bert-base-uncased)'"),
        ({"pattern": "openai/gpt-oss"}, ValueError, "gpt-oss-20b"),
        ({"pattern": "white space"}, ValueError, '"whitespace"'),
        ({"pattern": "a b\nc"}, ValueError, "matches only itself"),
        ({"pattern": "日本"}, ValueError, "matches only itself"),
        ({"pattern": "cl100k_base", "end_of_word": "_"}, ValueError, 'use pattern="whitespace"'),
        ({"pattern": "(" * 5000 + ")" * 5000}, ValueError, "compiles"),
        ({"pattern": "a{99999999999999999999}"}, ValueError, "compiles"),
        ({"pattern": b"gpt4"}, TypeError, "as a str"),
        ({"pattern": None}, TypeError, "as a str"),
        ({"pattern": ""}, ValueError, "regular expression"),
        ({"pattern": "(a"}, ValueError, "compiles"),
        ({"pattern": 4}, TypeError, "as a str"),
    ],
)
def test_wrong_settings(settings: dict, error: type[Exception], message: str):
    """Each says what is expected."""
    with pytest.raises(error, match=regex.escape(message)):
        splitter(**settings)


def test_names_that_people_type():
    """Whatever a scheme is called, and in either case; the scheme has its one name."""
    for name, scheme in {
        "cl100k_base": "gpt4", "GPT-4": "gpt4", "gpt-3.5-turbo": "gpt4", "text-embedding-3-large": "gpt4",
        "o200k_base": "o200k", "o200k_harmony": "o200k", "gpt-4o": "o200k", "GPT-5": "o200k", "o1": "o200k",
        "gpt-2": "gpt2", "r50k_base": "gpt2", "p50k_base": "gpt2", "text-davinci-003": "gpt2",
        "llama-3": "llama3", "Llama-3.1": "llama3", "LLAMA3": "llama3", "qwen2.5": "qwen2", "Qwen3": "qwen2",
        "Whitespace": "whitespace",
    }.items():  # fmt: skip
        assert splitter(name) == splitter(scheme) and splitter(name).name == scheme
    assert splitter("WHITESPACE", "_").end_of_word == "_"


def test_names_are_those_of_tiktoken():
    """Its encodings and its models, all that it lists by a name of their own."""
    for name in (*tiktoken.list_encoding_names(), *tiktoken.model.MODEL_TO_ENCODING):
        encoding = tiktoken.model.MODEL_TO_ENCODING.get(name, name)
        scheme = {"cl100k_base": "gpt4", "o200k_base": "o200k", "o200k_harmony": "o200k"}.get(encoding, "gpt2")
        try:
            assert splitter(name).name == scheme, name
        except ValueError:
            assert scheme == "gpt2" and re.match(
                "text-(similarity|search|curie|babbage|ada)|code-|.*codex|.*-edit", name
            )


@pytest.mark.parametrize("pattern", [".", " ", "\n", ",", ", ", "a|b", r"\d", "(?:gpt-9)", "a.b.", "[ab]", "x+"])
def test_patterns_that_are_no_names(pattern):
    """Signs alone, and whatever has a construct."""
    assert splitter(pattern).name == "custom"
