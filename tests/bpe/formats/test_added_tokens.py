"""Tokens that are found in texts as they stand: in the order in which Hugging Face finds them, and with its ids."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from jaxopt_lite import bpe
from jaxopt_lite.bpe.patterns import Finder
from jaxopt_lite.bpe.tokenizer import Tokenizer, load
from jaxopt_lite.bpe.vocabulary import Vocabulary
from tests.bpe.formats.test_formats import added
from tests.bpe.test_tokenizer import BYTES

ALPHABET = {character: k for k, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}


def elsewhere(tokens, vocab=None, merges=()):
    """A tokenizer of Hugging Face with added tokens, as JSON."""
    theirs = tokenizers.Tokenizer(models.BPE(vocab=ALPHABET | (vocab or {}), merges=list(merges)))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    return json.loads(theirs.to_str()) | {"added_tokens": tokens}


def both(content, path):
    """Hugging Face's tokenizer and ours, from one file."""
    path.write_text(json.dumps(content))
    return tokenizers.Tokenizer.from_file(str(path)), load(path)


# --- Finding ------------------------------------------------------------------------------------------------------


def test_nothing_is_left_out_and_the_longest_is_found():
    """Of two tokens at one place the longer one is taken."""
    finder = Finder(("<a>", "<a><b>", "."))
    pieces = [(None, "x"), ("<a><b>", "<a><b>"), ("<a>", "<a>"), (".", "."), (None, " y")]
    assert list(finder.cut("x<a><b><a>. y")) == pieces
    assert list(Finder().cut("x.")) == [(None, "x.")] and list(Finder().cut("")) == list(finder.cut("")) == []
    assert list(finder.cut("<a>")) == [("<a>", "<a>")]
    assert finder.finds(["x", "y."]) and not finder.finds(["x", "y"]) and not Finder().finds(["x"])


def test_those_of_the_last_search_are_found_between_the_others():
    finder = Finder(("<b><c>", "<a><b>", "c"), frozenset({"<a><b>", "c"}))
    assert list(finder.cut("<a><b><c>c<a><b>")) == [
        (None, "<a>"), ("<b><c>", "<b><c>"), ("c", "c"), ("<a><b>", "<a><b>"),
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", ["<a>", [""], ["a", "a"], [3], 3, b"a"])
def test_what_can_be_no_token(wrong):
    with pytest.raises(ValueError, match="special_tokens"):
        Finder(wrong)


def test_very_many_tokens():
    """Twenty thousand tokens, and one token in another a thousand times, take no time to speak of."""
    tokens = tuple(f"<|{k}|>" for k in range(20_000)) + tuple("a" * k for k in range(1, 1001))
    assert list(Finder(tokens).cut("x<|19999|>" + "a" * 2001)) == [
        (None, "x"), ("<|19999|>", "<|19999|>"), ("a" * 1000, "a" * 1000), ("a" * 1000, "a" * 1000), ("a", "a"),
    ]  # fmt: skip


# --- As Hugging Face ----------------------------------------------------------------------------------------------

TOKENS = st.lists(st.text("ab< ", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


@settings(max_examples=150, deadline=None)
@given(TOKENS, st.lists(st.booleans(), min_size=12, max_size=12), st.lists(st.text("ab< c", max_size=20), max_size=5))
def test_overlapping_tokens_are_found_as_elsewhere(tmp_path_factory, names, flags, texts):
    """Whatever is special and whatever is found last: ids, offsets, and what is left of a decoded text."""
    names = [name for name in names if len(name) > 1 or not name.isascii() or name == " "]  # not a byte's own name
    tokens = [added(name, 256 + k, special=flags[k], normalized=flags[6 + k]) for k, name in enumerate(names)]
    theirs, mine = both(elsewhere(tokens), tmp_path_factory.mktemp("x") / "t.json")
    plain = {name for token in tokens if not token["special"] for name in [token["content"]]}
    assert mine.added_tokens.keys() == plain and len(mine.special_tokens) + len(plain) == len(tokens)
    for text in [*texts, "".join(names), "".join(names[::-1]), "a<b<a b"]:
        expected = theirs.encode(text, add_special_tokens=False)
        ids, offsets = mine.encode(text, special="encode", return_offsets=True)
        assert ids == expected.ids == mine.encode_batch([text], special="encode")[0]
        assert offsets.tolist() == [list(span) for span in expected.offsets]
        assert mine.decode(ids) == text == theirs.decode(ids, skip_special_tokens=False)
        assert mine.decode(ids, skip_special=True) == theirs.decode(ids, skip_special_tokens=True)
        if not set(ids) & set(mine.special_tokens.values()):
            assert mine.encode(text) == ids == mine.encode_batch([text], special="raise")[0]
        else:
            with pytest.raises(ValueError, match="the text has the special token"):
                mine.encode(text)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=1, max_size=5),
    st.lists(st.integers(0, 4), max_size=3, unique=True),
)
def test_ids_are_those_of_hugging_face_or_the_file_is_refused(tmp_path_factory, steps, in_vocab):
    """It numbers added tokens that are not in the vocab itself, whatever their ids in the file."""
    tokens, vocab, k = [], {}, 256
    for number, (gap, special, normalized) in enumerate(steps):
        k += gap
        tokens.append(added(f"<{number}>", k, special=special, normalized=normalized))
        if number in in_vocab:
            vocab[f"<{number}>"] = k
        k += 1
    random.Random(k).shuffle(tokens)
    content, path = elsewhere(tokens, vocab), tmp_path_factory.mktemp("x") / "t.json"
    theirs = tokenizers.Tokenizer.from_str(json.dumps(content))
    fits = all(theirs.token_to_id(token["content"]) == token["id"] for token in tokens)
    path.write_text(json.dumps(content))
    if fits:
        text = "a".join(token["content"] for token in tokens)
        mine = load(path)
        assert mine.encode(text, special="encode") == theirs.encode(text).ids
        mine.save(path)  # with every token in the vocab
        assert load(path) == mine
        assert tokenizers.Tokenizer.from_file(str(path)).encode(text).ids == mine.encode(text, special="encode")
    else:
        with pytest.raises(ValueError, match="to which Hugging Face gives the id"):
            load(path)


def test_what_is_beside_a_word_of_its_own(tmp_path):
    """Letters, marks, digits and the like, but for those that are younger than Unicode 16."""
    theirs, mine = both(elsewhere([added("ab", 256, special=False, single_word=True)]), tmp_path / "t.json")
    for beside in (
        *"a_1.- é\u0301\u0d3b\u203f\u200d",
        "\U00018dd7",
        "\U0001262a",
        "\U00011de0",
        "\U00016ea0",
        "\ua7ce",
    ):
        for text in (f"ab{beside}", f"{beside}ab", f"{beside}ab{beside}"):
            assert mine.encode(text) == theirs.encode(text).ids, text


def plain(*texts, last=()):
    """Added tokens that are not special, some of them found last."""
    return [added(text, 256 + k, special=False, normalized=text in last) for k, text in enumerate(texts)]


SAMPLES = {  # (tokens, texts): as models have them
    "runs of spaces": (plain(*(" " * k for k in range(2, 9))), ["if x:\n        y", "a  b", " " * 19]),
    "calls": (
        [added("<|end|>", 256), added("<tool_call>", 257, special=False), added("</tool_call>", 258, special=False)],
        ["<tool_call>{}</tool_call>", "a<tool_call>", "<|end|><tool_call>"],
    ),
    "normalized": (
        [added("<b><c>", 256), added("<a><b>", 257, special=False, normalized=True), added("\n\n", 258, special=False)],
        ["x<a><b><c>y", "<a><b>\n\n<c>", "<a><b><b><c>"],
    ),
    "fill-in": (plain("<fim_prefix>", "<fim_suffix>", "<fim_middle>"), ["<fim_prefix>a<fim_suffix>b<fim_middle>"]),
    "letters": ([added("漢", 256), added("e\u0301", 257, special=False)], ["é漢e\u0301e", "\u0301漢漢"]),
    "a word": (plain("the", " the", last=[" the"]), ["other the the"]),
    "lines": (plain("\r\n", "\n"), ["a\r\nb\nc\r"]),
}
STRIPPING = {  # (flags of "<s>", flags of two tabs, texts)
    "taken": ({"rstrip": True}, {"lstrip": True}, ["<s>\t\tb", "<s>\t\t", "\t\t<s>a\t\t"]),
    "both": ({"rstrip": True}, {"lstrip": True, "rstrip": True}, ["\t\t\t\tb", "a\t\t\t\t", "<s>\t\t<s>\t\t\tb"]),
    "found in it": ({"rstrip": True}, {}, ["<s>\t\t\tb", "<s> \t\t\t\t\t a<s>", "a<s>\t\t<s>\t b"]),
    "found again in it": ({}, {"rstrip": True}, ["a\t\t\t\tb", "\t\t\t\t\t<s>c\t\t \t\t"]),
}


@pytest.mark.parametrize(("one", "two", "texts"), STRIPPING.values(), ids=STRIPPING)
def test_white_space_that_was_taken_is_no_token(tmp_path, one, two, texts):
    tokens = [added("<s>", 256, special=False, **one), added("\t\t", 257, special=False, **two)]
    theirs, mine = both(elsewhere(tokens), tmp_path / "t.json")
    for text in texts:
        ids, spans = mine.encode(text, return_offsets=True)
        assert ids == theirs.encode(text).ids, text
        assert spans.tolist() == list(map(list, theirs.encode(text).offsets)), text


@pytest.mark.parametrize(("tokens", "texts"), SAMPLES.values(), ids=SAMPLES)
def test_tokens_of_models(tmp_path, tokens, texts):
    """Plain texts do not raise, indentation stays, real special tokens can be left as text; and back, flags and all."""
    theirs, mine = both(elsewhere(tokens), tmp_path / "t.json")
    for text in texts:
        ids = mine.encode(text, special="encode")
        assert ids == theirs.encode(text, add_special_tokens=False).ids
        special = [name for name in mine.special_tokens if name in text]
        if not special:
            assert mine.encode(text) == ids
        plain = mine.encode(text, special="ignore")
        assert set(mine.special_tokens.values()).isdisjoint(plain) and mine.decode(plain) == text
        assert {k for k in ids if k in mine.added_tokens.values()} <= set(plain)
        kept = theirs.decode(ids, skip_special_tokens=True)
        assert mine.decode(ids, skip_special=True) == kept
    for name, format in (("u.json", None), ("own.json", "jaxopt_lite"), ("folder", None)):
        mine.save(tmp_path / name, format)
        assert load(tmp_path / name) == mine
    assert json.loads((tmp_path / "u.json").read_text())["added_tokens"] == sorted(tokens, key=lambda t: t["id"])
    if mine.added_tokens:
        with pytest.raises(ValueError, match="no form for added tokens"):
            mine.save(tmp_path / "t.tiktoken")


def test_an_added_token_that_merges_make_too(tmp_path):
    """It is the same token; found first, and made where it is found in no text."""
    vocab, merges = {"ab": 256, "abc": 257}, [("a", "b"), ("ab", "c")]
    theirs, mine = both(elsewhere([added("ab", 256, special=False)], vocab, merges), tmp_path / "t.json")
    for text in ("abc", "ab ab", "aabcc", "a b"):
        assert mine.encode(text) == theirs.encode(text).ids
    mine.save(tmp_path / "u.json")
    assert load(tmp_path / "u.json") == mine
    letter = [added("a", ALPHABET["a"], special=False)]
    theirs, mine = both(elsewhere(letter, vocab, merges), tmp_path / "t.json")
    assert mine.encode("abca") == theirs.encode("abca").ids and mine.token_to_id("a") == ALPHABET["a"]


WRONG = {
    "one text twice": ([added("<a>", 256), added("<a>", 257)], "two added tokens with the content '<a>'"),
    "one id twice": ([added("<a>", 256), added("<b>", 256)], "two added tokens with the id 256"),
    "no text": ([added("", 256)], "which is empty"),
    "another id in the vocab": ([added("!", 300)], r"has the ids \d+ and 300 for '!'"),
    "a gap": ([added("<a>", 257)], "gives the id 256"),
    "a byte's name under another id": ([added("é", 256)], r"has the ids \d+ and 256 for 'é'"),
    "a byte's name": ([added("Ġ", ALPHABET["Ġ"])], "in its vocab is the byte b' '"),
    "a flag that is none": ([added("<a>", 256, special=1)], r"added_tokens\[0\].special is 1; expected true or false"),
    "an id that is none": ([added("<a>", 256.0)], r"added_tokens\[0\].id is 256.0; expected a whole number"),
    "a text that is none": ([added(None, 256)], r"added_tokens\[0\].content is null; expected a string"),
    "no flag": ([{"id": 256, "content": "<a>"}], r"added_tokens\[0\] lacks 'normalized'"),
    "half a character": ([added("\ud800", 256)], "does not fit together"),
}


@pytest.mark.parametrize(("tokens", "problem"), WRONG.values(), ids=WRONG)
def test_added_tokens_that_are_refused(tmp_path, tokens, problem):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(elsewhere(tokens)))
    with pytest.raises(ValueError, match=rf"t\.json.*{problem}"):
        load(path)


LETTERS = {letter: k for k, letter in enumerate("abfo ?é1")}
WORD = dict(single_word=True)
IN_MODEL = {  # settings of the model, added tokens with their flags, texts
    "a symbol": ({}, {"é": WORD}, ["é a", "éa", "aé é"]),
    "a symbol of normal text": ({}, {"é": {}}, ["e\u0301a", "é"]),
    "a whole word": ({"ignore_merges": True, "vocab": {"foo": 8}}, {"foo": WORD}, ["foo1", "1foo", "foo a", "foob"]),
    "no word of the model": ({"ignore_merges": True}, {"foo": WORD}, ["foo1", "1foo", "foo a", "afoo"]),
    "a symbol with a prefix": (
        {"continuing_subword_prefix": "#", "vocab": {"#a": 8, "#b": 9}}, {"#a": {}, "b": WORD, "#o": {}},
        ["aab", "ab", "ao"],
    ),
    "no symbol of the model": (
        {"end_of_word_suffix": "/", "vocab": {"a/": 8}}, {"x": WORD, "b/": {}}, ["xa", "x a", "ab"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(("settings", "names", "texts"), IN_MODEL.values(), ids=IN_MODEL)
def test_what_the_model_has_too_it_makes_of_text(tmp_path, settings, names, texts, special):
    """Where it is not found as it stands; and what it has not it does not make. Also saved and read again."""
    vocab = LETTERS | settings.get("vocab", {})
    ids = vocab | {name: len(vocab) + k for k, name in enumerate(name for name in names if name not in vocab)}
    content = elsewhere([added(name, ids[name], special=special, **flags) for name, flags in names.items()])
    content["model"] |= settings | {"vocab": vocab, "unk_token": "?"}
    content |= {"normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Digits", "individual_digits": True}}
    content["decoder"] = None
    _, mine = both(content, tmp_path / "a.json")
    mine.save(tmp_path / "b.json")
    mine.save(tmp_path / "own.json", "jaxopt_lite")
    assert load(tmp_path / "b.json") == mine == load(tmp_path / "own.json")
    for name in ("a.json", "b.json"):
        theirs = tokenizers.Tokenizer.from_file(str(tmp_path / name))
        for text in texts:
            assert mine.encode(text, special="encode") == theirs.encode(text).ids, text


def test_a_special_token_that_the_model_makes_is_an_order_too(tmp_path):
    """Only who asks for special tokens gets one, however it comes about; the unknown is no order."""
    tokens = [added(name, LETTERS[name], single_word=name == "é") for name in ("é", "?")]
    content = elsewhere(tokens) | {"pre_tokenizer": None, "decoder": None}
    content["model"] |= {"vocab": LETTERS, "unk_token": "?"}
    theirs, mine = both(content, tmp_path / "a.json")
    for text in ("éa", "aé b"):
        assert mine.encode(text, special="encode") == theirs.encode(text).ids
        for special in ("raise", "ignore"):
            with pytest.raises(ValueError, match="becomes the special token 'é', which is also a symbol"):
                mine.encode(text, special=special)
            with pytest.raises(ValueError, match="becomes the special token 'é'"):
                mine.encode_batch(["a", text], special=special)
    assert mine.encode("axb") == theirs.encode("axb").ids


def test_a_found_token_among_those_of_the_model_is_not_saved_where_that_would_use_it(tmp_path):
    vocabulary = Vocabulary((*BYTES, b"foo", b"x1"), [], [], added_tokens={"foo": 256}, special_tokens={"x1": 257},
                            whole_words=True, flags={"foo": ("single_word",)})  # fmt: skip
    Tokenizer(vocabulary, bpe.splitter("gpt4")).save(tmp_path / "a.json")  # it is behind those of the model
    assert load(tmp_path / "a.json").vocabulary == vocabulary
    vocabulary = Vocabulary((b"foo", *BYTES), [], [], added_tokens={"foo": 0}, whole_words=True,
                            flags={"foo": ("single_word",)})  # fmt: skip
    with pytest.raises(ValueError, match="the token 'foo' is only found, but has an id among"):
        Tokenizer(vocabulary, bpe.splitter("gpt4")).save(tmp_path / "a.json")
    vocabulary = Vocabulary((*BYTES, b"foo"), [], [], added_tokens={"foo": 256}, whole_words=True, in_model={"foo"})
    with pytest.raises(ValueError, match="no form for normalizers"):
        Tokenizer(vocabulary, bpe.splitter("gpt4")).save(tmp_path / "folder", "gpt2")


def test_an_added_token_called_like_a_byte_is_none_that_text_falls_back_to(tmp_path):
    model = json.loads(models.BPE(byte_fallback=True, unk_token="_").__getstate__())
    model |= {"vocab": {"_": 0, "<0x42>": 1}}
    tokens = [added("<0x41>", 2, special=False)]
    content = json.loads(tokenizers.Tokenizer(models.BPE()).to_str()) | {"model": model, "added_tokens": tokens}
    theirs, mine = both(content, tmp_path / "a.json")
    mine.save(tmp_path / "b.json")
    for one in (mine, load(tmp_path / "b.json")):
        assert one.encode("A<0x41>B") == theirs.encode("A<0x41>B").ids == [0, 2, 1]
    assert load(tmp_path / "b.json").vocabulary == mine.vocabulary
    vocabulary = replace(mine.vocabulary, tokens=(*mine.vocabulary.tokens, b"A"))
    with pytest.raises(ValueError, match="the token '<0x41>' is only found, but has an id among"):
        Tokenizer(vocabulary, mine.splitter).save(tmp_path / "b.json")


@pytest.mark.parametrize("part", [None, decoders.ByteLevel(), decoders.Fuse()], ids=str)
def test_what_is_found_in_normalized_text_is_decoded_so(tmp_path, part):
    tokens = [added("<A>", 256, normalized=True), added("<B>", 257, special=False, normalized=True), added("<C>", 258)]
    content = elsewhere(tokens) | {"normalizer": {"type": "Lowercase"}}
    content["decoder"] = None if part is None else json.loads(part.__getstate__())
    theirs, mine = both(content, tmp_path / "t.json")
    ids = mine.encode("x<A><b><C>", special="encode")
    assert ids == theirs.encode("x<A><b><C>").ids
    assert mine.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize(
    ("names", "normal", "problem"),
    [
        (["\t\t"], {"type": "Strip", "strip_left": True, "strip_right": True}, r"'\\t\\t', of which .* leaves nothing"),
        (["<A>", "<a>"], {"type": "Lowercase"}, "'<A>' and '<a>', both of which its normalizer turns into '<a>'"),
    ],
)
def test_normal_forms_that_are_refused(tmp_path, names, normal, problem):
    """Unless they are looked for in the text as it is."""
    path = tmp_path / "t.json"
    tokens = [added(name, 256 + k, normalized=True) for k, name in enumerate(names)]
    path.write_text(json.dumps(elsewhere(tokens) | {"normalizer": normal}))
    with pytest.raises(ValueError, match=problem):
        load(path)
    tokens[0] |= {"normalized": False}
    theirs, mine = both(elsewhere(tokens) | {"normalizer": normal}, path)
    assert mine.encode("x<A>\t\t<a>", special="encode") == theirs.encode("x<A>\t\t<a>").ids


# --- In everything else -------------------------------------------------------------------------------------------


@pytest.fixture
def tokenizer():
    vocabulary = Vocabulary(
        (*BYTES, b"<s>", b"  ", b"<x> "), [], [], special_tokens={"<s>": 256}, added_tokens={"  ": 257, "<x> ": 258},
        found_last=frozenset({"<x> "}),
    )  # fmt: skip
    return Tokenizer(vocabulary, bpe.splitter("gpt4"))


def test_training_goes_on_around_them(tokenizer):
    """The words of the text are those that `encode` will meet, in the order of finding."""
    text = "ab<x>   ab<x> ab<s>ab  ab"
    more = bpe.train([text], merges=1, extend=tokenizer)
    assert more.vocabulary.tokens[-1] == b"ab" and more.vocabulary.counts is None
    words = bpe.count_words([text], tokenizer.splitter, special_tokens=tokenizer.finder, processes=1)
    cut = [piece for token, piece in tokenizer.finder.cut(text) if token is None]
    assert cut == ["ab<x>", " ab", "ab", "ab", "ab"]
    assert words == {"ab": 4, "<x": 1, ">": 1, " ab": 1}
    assert more.added_tokens == tokenizer.added_tokens and more.vocabulary.found_last == {"<x> "}
    assert more.encode("ab  ab") == [259, 257, 259]


def test_counting_in_workers_finds_them_too(tokenizer, monkeypatch):
    monkeypatch.setattr("jaxopt_lite.bpe.corpus.SMALL", 10)
    texts = ["ab<x>   ab<x> ab<s>ab  ab " * 50] * 9
    counts = [bpe.count_words(texts, tokenizer.splitter, special_tokens=tokenizer.finder, processes=n) for n in (1, 3)]
    assert counts[0] == counts[1] and counts[0]["ab"] > 1000


def test_they_are_part_of_what_a_tokenizer_is(tokenizer):
    """Equality, ids by text, padded arrays, and texts of ids."""
    v = tokenizer.vocabulary
    assert v != Vocabulary(v.tokens, [], [], special_tokens=v.special_tokens, added_tokens=v.added_tokens)
    assert tokenizer.token_to_id("  ") == 257 and tokenizer.id_to_token(258) == b"<x> "
    array, lengths = tokenizer.encode_batch(["a  b", "  "], length=4)
    assert array.tolist() == [[97, 257, 98, 0], [257, 0, 0, 0]] and lengths.tolist() == [3, 1]
    assert tokenizer.decode([256, 257, 97], skip_special=True) == "  a"
    assert tokenizer.decode_batch(array, lengths) == ["a  b", "  "]
    assert np.array_equal(tokenizer.encode("  a", return_offsets=True)[1], [[0, 2], [2, 3]])


@pytest.mark.parametrize(("change", "problem"), [
    (dict(added_tokens={"<x>": 256}), "'<x>' has the id 256"),
    (dict(added_tokens={"<s>": 999}), "'<s>' has the id 999"),
    (dict(added_tokens={"<s>": 256}, special_tokens={"<s>": 256}), "two of them share an id"),
    (dict(in_model={"<y>"}), "in_model has '<y>'; expected special or added"),
    (dict(found_last={"<y>"}), "found_last has '<y>'; expected special or added"),
    (dict(found_last="<s>", special_tokens={"<s>": 256}), "found_last='<s>': expected a list"),
    (dict(added_tokens=["<s>"]), "expected a mapping"),
    (dict(added_tokens={"<s>": True}), "expected a whole number"),
    (dict(added_tokens={"": 256}), "none of them empty"),
])  # fmt: skip
def test_vocabularies_that_do_not_fit(change, problem):
    with pytest.raises(ValueError, match=problem):
        Vocabulary((*BYTES, b"<s>"), [], [], **change)
