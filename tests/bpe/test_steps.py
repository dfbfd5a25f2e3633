"""Normalizers and pre-tokenizers are those of Hugging Face, alone and one behind the other."""

import json
import random

import pytest
import tokenizers

from jaxopt_lite.bpe import steps
from tests.bpe.test_oniguruma import texts

BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
SOUGHT = ({"Regex": r"\d+|a"}, {"String": " "}, {"String": "ss"}, {"Regex": r"\w"})
PRE_TOKENIZERS = [
    *(
        {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
        for behavior in BEHAVIORS for invert in (False, True) for pattern in SOUGHT
    ),
    *({"type": "Digits", "individual_digits": alone} for alone in (True, False)),
    *({"type": "Punctuation", "behavior": behavior} for behavior in BEHAVIORS),
    {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"},
    {"type": "CharDelimiterSplit", "delimiter": "a"},
    *(
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
        for scheme in ("always", "first", "never") for split in (True, False)
    ),
]  # fmt: skip
NORMALIZERS = [
    *({"type": kind} for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")),
    *({"type": "Strip", "strip_left": left, "strip_right": right} for left in (True, False) for right in (True, False)),
    {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
    {"type": "Replace", "pattern": {"Regex": r"[^\w]"}, "content": r"x\1"},
]  # fmt: skip
MORE = ["", " a", "a ", "▁a  b", "12 a3", "㋿ ΣΑΣ", "İI", "\U0001f16c\u208f\ua7e2 \U00012550", "\U00010f55.\u2e60",
        "a\u166d.\U000111c9b", "a\U00011de0\U00011de9b1\U00016ff4\U00016ff6"]  # fmt: skip


def theirs(**parts):
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    model = {"type": "BPE", "vocab": {}, "merges": []}
    return tokenizers.Tokenizer.from_str(
        json.dumps({"version": "1.0", "added_tokens": [], "model": model} | empty | parts)
    )


def several(parts, inner, number):
    """All parts, and sequences of some."""
    draw = random.Random(0)
    return parts + [{"type": "Sequence", inner: draw.sample(parts, draw.choice([1, 2, 3]))} for _ in range(number)]


def test_pre_tokenizers():
    for part in several(PRE_TOKENIZERS, "pretokenizers", 120):
        other, ours = theirs(pre_tokenizer=part).pre_tokenizer, steps.pre_tokenizer(json.dumps(part))
        for text in (*MORE, *(text for seed in range(6) for text in texts(seed, 5))):
            assert ours(text, True) == [word for word, _ in other.pre_tokenize_str(text)], (part, text)


def test_normalizers():
    for part in several(NORMALIZERS, "normalizers", 60):
        other, ours = theirs(normalizer=part).normalizer, steps.normalizer(json.dumps(part))
        for text in (*MORE, *(text for seed in range(8) for text in texts(seed, 5))):
            assert ours(text) == other.normalize_str(text), (part, text)


def test_young_marks_stay_where_they_stand():
    """They are neither put in order nor passed over when what is around them becomes one character."""
    for kind in ("NFC", "NFD", "NFKC", "NFKD"):
        other, ours = theirs(normalizer={"type": kind}).normalizer, steps.normalizer(json.dumps({"type": kind}))
        for mark in "\u07fd\u0d3b\u1ac5\u1df6\ua82c\U0001133b\U0001193e\U0001e4ec\u0316\u0345":
            for around in ("j\u030c{}", "a{}\u0301", "{}\u0334\u0301", "a\u0301{}\u0316b\u0316{}\u0334\u05b0é", "é{}"):
                text = around.format(mark, mark)
                assert ours(text) == other.normalize_str(text), (kind, text)


@pytest.mark.slow
def test_over_all_characters():
    """Forms, and what digits and punctuation are; Unicode's age makes no difference."""
    kinds = [{"type": kind} for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")]
    everything = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for part in kinds:
        other, ours = theirs(normalizer=part).normalizer, steps.normalizer(json.dumps(part))
        assert [c for c in everything if ours(c) != other.normalize_str(c)] == []
    for part in ({"type": "Digits", "individual_digits": True}, {"type": "Punctuation"}, {"type": "Whitespace"}):
        other, ours = theirs(pre_tokenizer=part).pre_tokenizer, steps.pre_tokenizer(json.dumps(part))
        differ = [c for c in everything if ours(f"a{c}a", True) != [w for w, _ in other.pre_tokenize_str(f"a{c}a")]]
        assert differ == [], part


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"type": "Nmt"}, "the normalizer 'Nmt', which is not supported"),
        ({"type": "Strip", "strip_left": 1, "strip_right": True}, "strip_left=1; expected bool"),
        ({"type": "Replace", "pattern": {"Regex": r"(a)\1"}, "content": ""}, r"'\\1' at character 3"),
        ({"type": "Replace", "pattern": {"String": ""}, "content": ""}, "by an empty string"),
        ({"type": "Prepend"}, "prepend=None; expected str"),
        ({"type": "Prepend", "prepend": ""}, "prepend=''; expected some text"),
        ([], "expected a mapping with a type"),
    ],
)
def test_what_is_refused(part, problem):
    with pytest.raises(ValueError, match=problem):
        steps.normalizer(json.dumps(part))


def test_steps_that_are_refused():
    for part, problem in (
        ({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolate"}, "the behavior 'Isolate'"),
        ({"type": "Metaspace", "prepend_scheme": "often"}, "prepend_scheme='often'"),
        ({"type": "Sequence", "pretokenizers": [{"type": "UnicodeScripts"}]}, "'UnicodeScripts', which is not"),
        ({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Metaspace"}]},
         "a Metaspace pre_tokenizer after a ByteLevel, which is not supported"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=problem):
            steps.pre_tokenizer(json.dumps(part))
