"""Files: what is written makes the same ids elsewhere, what others write makes them here, the rest is refused."""

import json
import os
from contextlib import suppress

import numpy as np
import pytest
import tiktoken.load
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from jaxopt_lite import bpe
from jaxopt_lite.bpe.formats import own
from jaxopt_lite.bpe.patterns import splitter
from jaxopt_lite.bpe.tokenizer import Tokenizer, load
from jaxopt_lite.bpe.vocabulary import Vocabulary
from tests.bpe.test_tokenizer import BYTES, characters, marked
from tests.bpe.texts import SPECIAL, SPECIAL_IDS, huggingface, odd_texts, ranks, sources, tiktoken_of, write_ranks
from tests.faults import Fault, failing_at, lines

TEXTS = sources() + odd_texts(200, seed=5)


def ids_elsewhere(path, texts=TEXTS):
    """What Hugging Face makes of the texts with this file."""
    return [row.ids for row in tokenizers.Tokenizer.from_file(str(path)).encode_batch(texts, add_special_tokens=False)]


@pytest.fixture
def gpt4(tmp_path):
    return load(write_ranks(tmp_path / "gpt4.tiktoken", ranks()), pattern="gpt4", special_tokens=SPECIAL_IDS)


@pytest.mark.parametrize("kind", ["gpt2", "llama3"])
@pytest.mark.parametrize("merges", ["lists", "texts"])
def test_reading_huggingface(tmp_path, kind, merges):
    """Its ids, whichever way the merges are written; special tokens in the text too."""
    path = tmp_path / "tokenizer.json"
    content = json.loads(huggingface(kind).to_str())
    if merges == "texts":
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    path.write_text(json.dumps(content))
    tokenizer = load(path)
    assert load(tmp_path) == tokenizer  # the folder will do
    texts = [*TEXTS, "a<|end|>b<|begin|>"]
    assert tokenizer.encode_batch(texts, special="encode") == ids_elsewhere(path, texts)
    assert tokenizer.vocabulary.whole_words == (kind == "llama3")


@pytest.mark.parametrize("format", ["huggingface", "jaxopt_lite"])
def test_a_file_is_known_whatever_its_name(tmp_path, gpt4, format):
    """As `save` writes it to the name it is given."""
    gpt4.save(tmp_path / "tokenizer", format)
    assert load(tmp_path / "tokenizer").vocabulary.tokens == gpt4.vocabulary.tokens


def test_several_rules_for_a_token(tmp_path):
    """Files made from tiktoken's list all ways to cut a token in two."""
    known = ranks(size=600)
    base = json.loads(huggingface("llama3").to_str())
    tokenizer = load(write_ranks(tmp_path / "a.tiktoken", known), pattern="gpt4")
    tokenizer.save(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    ids = content["model"]["vocab"]
    merges = [[t[:cut], t[cut:]] for t in sorted(ids, key=ids.get) for cut in range(1, len(t))]
    content["model"]["merges"] = [pair for pair in merges if pair[0] in ids and pair[1] in ids]
    assert len(content["model"]["merges"]) > len(tokenizer.vocabulary.merges)
    for ignore in (True, False):
        content["model"]["ignore_merges"] = ignore
        (tmp_path / "b.json").write_text(json.dumps(content))
        assert load(tmp_path / "b.json").encode_batch(TEXTS) == ids_elsewhere(tmp_path / "b.json")
    assert base["model"]["ignore_merges"]
    load(tmp_path / "b.json").save(tmp_path / "c.tiktoken")
    assert (tmp_path / "c.tiktoken").read_text() == (tmp_path / "a.tiktoken").read_text()


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "o200k", "llama3", "qwen2", "whitespace", r"[\p{L}_]+|\d"])
def test_writing_huggingface(tmp_path, gpt4, pattern):
    """Every splitter, and back."""
    tokenizer, texts = Tokenizer(gpt4.vocabulary, splitter(pattern)), [text[:10_000] for text in TEXTS]
    tokenizer.save(tmp_path / "tokenizer.json")
    assert tokenizer.encode_batch(texts) == ids_elsewhere(tmp_path / "tokenizer.json", texts)
    assert load(tmp_path / "tokenizer.json") == tokenizer


@pytest.mark.parametrize("unknown", [None, 5])
def test_characters_for_huggingface(tmp_path, unknown):
    """Character level with fallback bytes, or with an unknown token, and back."""
    fallback = dict(byte_fallback=True, fallback=np.arange(6, 262))
    tokenizer = characters(**(fallback if unknown is None else dict(unknown=5, special_tokens={"<unk>": 5})))
    tokenizer.save(tmp_path / "tokenizer.json")
    texts = ["abé", "ab ñé", "👩ab", ""]
    assert tokenizer.encode_batch(texts) == ids_elsewhere(tmp_path / "tokenizer.json", texts)
    assert load(tmp_path / "tokenizer.json").encode_batch(texts) == tokenizer.encode_batch(texts)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert unknown or theirs.decode(tokenizer.encode("👩abñ")) == "👩abñ"


def test_vocab_and_merges(tmp_path):
    """A folder, or two paths; Hugging Face reads what is written, and writes what is read."""
    huggingface().model.save(str(tmp_path))
    theirs = load(tmp_path)
    assert theirs.special_tokens == {"<|begin|>": 0, "<|end|>": 1}
    assert theirs.encode_batch(TEXTS) == [row.ids for row in huggingface().encode_batch(TEXTS)]
    theirs.save(tmp_path / "ours")
    paths = tmp_path / "ours" / "vocab.json", tmp_path / "ours" / "merges.txt"
    assert load(paths) == load(tmp_path / "ours") == theirs
    model = models.BPE.from_file(*map(str, paths))
    rebuilt = tokenizers.Tokenizer(model)
    rebuilt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert [row.ids for row in rebuilt.encode_batch(TEXTS)] == theirs.encode_batch(TEXTS)
    assert load(paths, special_tokens=["<|end|>"]).special_tokens == {"<|end|>": 1}
    with pytest.raises(ValueError, match="'<no>' is not in"):
        load(paths, special_tokens=["<no>"])


@pytest.mark.parametrize(("name", "content", "problem"), [
    ("added_tokens.json", {"<pad>": 600}, "the token '<pad>' in a file next to its vocab.json"),
    ("tokenizer_config.json", {"added_tokens_decoder": {"600": {"content": "<pad>"}}}, "'<pad>' in a file next to its"),
    ("added_tokens.json", ["<pad>"], "is malformed; the content is"),
    ("added_tokens.json", {"<|end|>": 1}, None),
    ("tokenizer_config.json", {"added_tokens_decoder": {"1": {"content": "<|end|>"}}, "pad_token": "<|end|>"}, None),
    ("tokenizer_config.json", {"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": False}, None),
    ("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}, "add_prefix_space set"),
    ("tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer"}, "the tokenizer_class 'Qwen2Tokenizer', which may"),
    ("tokenizer_config.json", {"tokenizer_class": 3}, "is malformed; tokenizer_class is 3"),
])  # fmt: skip
def test_what_is_beside_a_vocab(tmp_path, name, content, problem):
    """As transformers keeps added tokens and how texts are cut; without these there would be other ids."""
    tokenizer = bpe.train(["low low"], merges=2, pattern="gpt2", special_tokens=["<|end|>"])
    tokenizer.save(tmp_path / "folder")
    (tmp_path / "folder" / "tokenizer.json").unlink()
    (tmp_path / "folder" / name).write_text(json.dumps(content))
    if problem is None:
        assert load(tmp_path / "folder").vocabulary.tokens == tokenizer.vocabulary.tokens
        return
    with pytest.raises(ValueError, match=problem):
        load(tmp_path / "folder")
    pair = tmp_path / "folder" / "vocab.json", tmp_path / "folder" / "merges.txt"
    assert load(pair).vocabulary.tokens == tokenizer.vocabulary.tokens


def test_a_pattern_says_what_a_word_is_whatever_is_beside_a_vocab(tmp_path):
    tokenizer = bpe.train(["low low 12"], merges=2, pattern="qwen2")
    tokenizer.save(tmp_path / "folder", "gpt2")
    (tmp_path / "folder" / "tokenizer.json").unlink()
    (tmp_path / "folder" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))
    loaded = load(tmp_path / "folder", pattern="qwen2")
    assert loaded.splitter == tokenizer.splitter and loaded.vocabulary.tokens == tokenizer.vocabulary.tokens


@pytest.mark.parametrize("special_tokens", [None, ["<|end|>"]])
def test_symbols_at_the_end_of_words_are_refused(tmp_path, special_tokens):
    """As in CLIP's and the first GPT's files; they would be taken for special tokens."""
    names = ["l", "o", "w", "l</w>", "o</w>", "w</w>", "lo", "low</w>", "<|end|>"]
    pair = tmp_path / "vocab.json", tmp_path / "merges.txt"
    pair[0].write_text(json.dumps({name: k for k, name in enumerate(names)}))
    pair[1].write_text("#version: 0.2\nl o\nlo w</w>\n")
    with pytest.raises(ValueError, match="has 'l</w>', a symbol that ends a word, as in CLIP"):
        load(pair, special_tokens=special_tokens)


def test_tiktoken(tmp_path, gpt4):
    """tiktoken's own reader reads what is written; special tokens stand outside, where the caller wants them."""
    gpt4.save(tmp_path / "a.tiktoken")
    read = tiktoken.load.load_tiktoken_bpe(str(tmp_path / "a.tiktoken"))
    assert read == ranks()
    assert tiktoken_of(read).encode_ordinary_batch(TEXTS) == gpt4.encode_batch(TEXTS)
    assert gpt4.special_tokens == {"<|begin|>": 1500, "<|end|>": 1501}
    theirs = tiktoken_of(read, special=SPECIAL).encode("a<|end|>", allowed_special="all")
    assert gpt4.encode("a<|end|>", special="encode") == theirs
    with pytest.raises(ValueError, match="does not say what a word is"):
        load(tmp_path / "a.tiktoken")


def test_special_tokens_come_first(tmp_path):
    """Ids that the file leaves out belong to special tokens; without a mapping they are guessed, and said."""
    huggingface().save(str(tmp_path / "tokenizer.json"))
    tokenizer = load(tmp_path / "tokenizer.json")
    tokenizer.save(tmp_path / "a.tiktoken")
    again = load(tmp_path / "a.tiktoken", pattern="gpt2", special_tokens={"<|begin|>": 0, "<|end|>": 1})
    assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    with pytest.warns(
        UserWarning, match=r"\{'<\|begin\|>': 0, '<\|end\|>': 1, '<x>': 1500\}.*mapping of texts to ids"
    ) as said:
        guessed = load(tmp_path / "a.tiktoken", pattern="gpt2", special_tokens=[*SPECIAL, "<x>"])
    assert guessed.special_tokens == {"<|begin|>": 0, "<|end|>": 1, "<x>": 1500} and said[0].filename == __file__
    without = load(tmp_path / "a.tiktoken", pattern="gpt2")
    assert without.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS) and without.vocab_size == 1500
    with pytest.raises(ValueError, match=r"ids\[1\]=0, which stands for nothing"):
        without.decode([5, 0])


LAYOUTS = {  # as those of cl100k_base, o200k_base and its Harmony, Llama 3, Qwen, and one with room between all
    "cl100k": {"<|endoftext|>": 257, "<|fim_prefix|>": 258, "<|fim_middle|>": 259, "<|endofprompt|>": 276},
    "o200k": {"<|endoftext|>": 256, "<|endofprompt|>": 275},
    "harmony": {"<|startoftext|>": 258, "<|return|>": 262, "<|call|>": 272, "<|endoftext|>": 259},
    "llama3": {"<|begin_of_text|>": 256, "<|end_of_text|>": 257, "<|eot_id|>": 265},
    "one": {"<|endoftext|>": 60_000},
    "none": {},
}


@pytest.mark.parametrize("special", LAYOUTS.values(), ids=LAYOUTS)
def test_special_tokens_of_tiktoken_have_their_ids(tmp_path, special):
    """Gaps before, between and after included; the ids and their number are tiktoken's, in every form and back."""
    known = {bytes([k]): k for k in range(256)}
    path = write_ranks(tmp_path / "a.tiktoken", known)
    theirs = tiktoken.Encoding("x", pat_str=splitter("gpt4").pattern, mergeable_ranks=known, special_tokens=special)
    text = "a".join(["x", *special, " b c"])
    tokenizer = load(path, pattern="cl100k_base", special_tokens=special)
    assert tokenizer.encode(text, special="encode") == theirs.encode(text, allowed_special="all")
    assert tokenizer.vocab_size == theirs.n_vocab and tokenizer.special_tokens == special
    for name, format in (("b.json", None), ("own.json", "jaxopt_lite"), ("folder", None)):
        tokenizer.save(tmp_path / name, format)
        assert load(tmp_path / name) == tokenizer, name
    assert load((tmp_path / "folder" / "vocab.json", tmp_path / "folder" / "merges.txt")) == tokenizer
    assert ids_elsewhere(tmp_path / "b.json", [text]) == [tokenizer.encode(text, special="encode")]
    tokenizer.save(tmp_path / "c.tiktoken")
    assert (tmp_path / "c.tiktoken").read_text() == path.read_text()
    for k in set(range(tokenizer.vocab_size)).difference(range(256), special.values()):
        for use in (
            lambda k: tokenizer.decode([97, k]),
            tokenizer.id_to_token,
            lambda k: tokenizer.decode_batch([[k]]),
        ):
            with pytest.raises(ValueError, match=rf"\]={k}, which stands for nothing"):
                use(k)
        if k > 300:
            break
    assert tokenizer.token_to_id(b"") is None
    more = bpe.train(["ab ab ab"], merges=1, extend=tokenizer)
    assert more.encode("ab") == [tokenizer.vocab_size] and more.special_tokens == special


@pytest.mark.parametrize(("special", "problem"), [
    ({"<a>": 5}, "expected distinct ids that no token has"),
    ({"<a>": 300, "<b>": 300}, "expected distinct ids that no token has"),
    ({"<a>": -1}, "not negative"),
    ({"<a>": 2**60}, "one of which has the id 1152921504606846976"),
    ({"<a>": 10**30}, "one of which has the id"),
    ({"<a>": 70_000}, "with few gaps"),
    ({"<a>": True}, "expected a whole number"),
    ({"<a>": 300.0}, "expected a whole number"),
    ({"<a>": "300"}, "expected a whole number"),
    ({"": 300}, "none of them empty"),
    ({5: 300}, "special_tokens has 5"),
    ("<a>", "expected a list"),
    (["<a>", "<a>"], "distinct"),
    (5, "expected a list"),
])  # fmt: skip
def test_special_tokens_that_cannot_be(tmp_path, special, problem):
    path = write_ranks(tmp_path / "a.tiktoken", {bytes([k]): k for k in range(256)})
    with pytest.raises(ValueError, match=problem):
        load(path, pattern="gpt4", special_tokens=special)


def test_tokens_of_whole_words_only(tmp_path):
    """A token that no ranks lead to is found as a word, as tiktoken does; one that later ranks lead to is made so."""
    known = dict(zip((*BYTES, b"ab", b"bc", b"xabc"), range(259), strict=True))
    tokenizer = load(write_ranks(tmp_path / "a.tiktoken", known), pattern="gpt2")
    texts = ["xabc", "xxabc", "abc xabc"]
    theirs = tiktoken_of(known, tokenizer.splitter.pattern).encode_ordinary_batch(texts)
    assert tokenizer.encode_batch(texts) == theirs
    tokenizer.save(tmp_path / "b.tiktoken")
    tokenizer.save(tmp_path / "b.json")
    assert tokenizer.encode_batch(texts) == ids_elsewhere(tmp_path / "b.json", texts)
    known = dict(zip((*BYTES, b"abcd", b"ab", b"cd"), range(259), strict=True))
    tokenizer = load(write_ranks(tmp_path / "c.tiktoken", known), pattern="gpt2")
    texts = ["abcd", "abcdx", "xabcdcdabab", "ab cd abcd"]
    theirs = tiktoken_of(known, tokenizer.splitter.pattern).encode_ordinary_batch(texts)
    assert tokenizer.vocabulary.by_token and tokenizer.encode_batch(texts) == theirs
    tokenizer.save(tmp_path / "d.tiktoken")
    assert load(tmp_path / "d.tiktoken", pattern="gpt2") == tokenizer
    with pytest.raises(ValueError, match="several ways of one rank"):
        tokenizer.save(tmp_path / "d.json")


def test_own_form_keeps_everything(tmp_path, gpt4):
    """Counts, mark, unknown, fallback and pattern; it is what a mark is saved in."""
    t = marked()
    counts = Vocabulary(t.vocabulary.tokens, t.vocabulary.merges, t.vocabulary.merged, [9, 8, 7, 6], end_of_word=256)
    fallback = characters(byte_fallback=True, fallback=np.arange(6, 262))
    for k, tokenizer in enumerate([t, Tokenizer(counts, t.splitter), fallback, gpt4]):
        path = tmp_path / f"{k}.json"
        tokenizer.save(path, None if tokenizer.vocabulary.end_of_word else "jaxopt_lite")
        assert load(path) == tokenizer
        assert load(path).encode("ab a") == tokenizer.encode("ab a") if k > 1 else True
    for format in ("huggingface", "gpt2", "tiktoken"):
        with pytest.raises(ValueError, match=r"mark.*format='jaxopt_lite'"):
            t.save(tmp_path / "x.json", format)


def added(content, k, **flags):
    """An added token as Hugging Face writes it."""
    usual = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    return {"id": k, "content": content} | usual | flags


def hf(**change):
    """A small tokenizer.json with a change."""
    content = json.loads(huggingface().to_str())
    for path, value in change.items():
        *keys, last = path.split("__")
        part = content
        for key in keys:
            part = part[key]
        part[last] = value
    return json.dumps(content)


REFUSED = {
    "not JSON": ("a.json", "{", "expected JSON.*complete"),
    "cut short": ("a.json", hf()[:-50], "expected JSON.*complete"),
    "not UTF-8": ("a.json", b"\xff{}", "expected UTF-8; byte 0 is 0xFF"),
    "SentencePiece": (
        "tokenizer.model",
        b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02\n\x0c",
        "is a model of SentencePiece.*json",
    ),
    "a text as ranks": ("text.txt", "a text\n", "line 1: expected a token in base64 and its rank"),
    "other JSON": ("a.json", '{"a": []}', r"got other JSON.*vocab\.json"),
    "a vocab.json": ("a.json", '{"model": 0, "format": 1, "padding": 2}', r"got a vocab\.json.*merges\.txt"),
    "a vocab.json with more": ("a.json", '{"a": 0, "merges": 1, "version": 2}', r"pass \(vocab\.json, merges\.txt\)"),
    "its settings": ("a.json", '{"tokenizer_class": "GPT2"}', r"got a tokenizer_config\.json"),
    "nothing": ("a.json", "{}", "got other JSON"),
    "a text": ("a.json", '"model"', "got other JSON"),
    "a list": ("a.json", "[1]", "got other JSON"),
    "normalizer": ("a.json", hf(normalizer={"type": "Nmt"}), r"a\.json has the normalizer 'Nmt', which is not"),
    "WordPiece": ("a.json", hf(model__type="WordPiece"), "model of type WordPiece; expected BPE"),
    "dropout": ("a.json", hf(model__dropout=0.1), "dropout=0.1"),
    "no merges": ("a.json", hf(model__merges=None), "lacks the model's vocab or merges"),
    "UnicodeScripts": ("a.json", hf(pre_tokenizer={"type": "UnicodeScripts"}), "the pre_tokenizer 'UnicodeScripts'"),
    "no step": ("a.json", hf(pre_tokenizer=3), "expected a mapping with a type"),
    "a setting": ("a.json", hf(pre_tokenizer__add_prefix_space=3), "add_prefix_space=3; expected bool"),
    "CTC decoder": ("a.json", hf(decoder={"type": "CTC"}), "the decoder 'CTC'"),
    "a template": (
        "a.json",
        hf(post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": 3}], "special_tokens": {}}),
        "TemplateProcessing with",
    ),
    "an odd merge": ("a.json", hf(model__merges=["a b c"]), "merge 0 is 'a b c'; expected two strings"),
    "a foreign merge": ("a.json", hf(model__merges=[["q", "\u1234"]]), "is not in the vocabulary"),
    "an id far away": ("a.json", hf(added_tokens=[], model__vocab={"a": 10**9}, model__merges=[]), "with few gaps"),
    "an id twice": (
        "a.json",
        hf(added_tokens=[], model__vocab={"a": 1, "b": 1}, model__merges=[]),
        "2 tokens have 1 ids",
    ),
    "a negative id": ("a.json", hf(added_tokens=[], model__vocab={"a": -1}, model__merges=[]), "the id -1"),
    "a foreign character": (
        "a.json",
        hf(added_tokens=[], model__vocab={"\u1234": 0}, model__merges=[], model__ignore_merges=True),
        "stands for no byte",
    ),
    "another version": ("a.json", '{"format": "jaxopt_lite.bpe", "version": 9}', "version 9"),
    "half of ours": ("a.json", '{"format": "jaxopt_lite.bpe", "version": 1}', "lacks 'level'"),
    "not base64": ("a.tiktoken", "YQ== 0\n??? 1\n", "a.tiktoken, line 2: expected a token in base64"),
    "no rank": ("a.tiktoken", "YQ==\n", "line 1: expected a token"),
    "a rank twice": ("a.tiktoken", "YQ== 0\nYg== 0\n", "line 2: expected a token and a unique rank"),
    "a token twice": ("a.tiktoken", "YQ== 0\nYQ== 1\n", "some have two ranks"),
    "empty": ("a.tiktoken", "", "the file is empty"),
    "a byte is missing": ("a.tiktoken", "YWI= 0\n", "a byte that is not a token"),
}


@pytest.mark.parametrize(("name", "content", "problem"), REFUSED.values(), ids=REFUSED)
def test_files_that_are_refused(tmp_path, name, content, problem):
    """The error names the file and what is wrong."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=problem):
        load(path, **({"pattern": "gpt4"} if path.suffix == ".tiktoken" else {}))


@pytest.mark.parametrize(("pattern", "named"), [
    ("(?i:strasse)|.", "'st'"), (r"\s*", "can match the empty string"), (r"(a)\1|.", r"'\\1'"), (r"\X|.", r"'\\X'"),
    (r"(?i:é)|.", "'é'"), ("(", "'\\('"),
])  # fmt: skip
def test_patterns_that_are_read_otherwise_are_refused(tmp_path, gpt4, pattern, named):
    """On reading, and on writing for Hugging Face or as a folder; the package's own form keeps them."""
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    path = tmp_path / "a.json"
    path.write_text(hf(pre_tokenizer={"type": "Sequence", "pretokenizers": [step, level]}))
    with pytest.raises(
        ValueError, match=rf"a\.json has Split by .* which is, or may be, read differently here: .*{named}"
    ):
        load(path)
    if pattern != "(":
        tokenizer = Tokenizer(gpt4.vocabulary, splitter(pattern))
        for place in ("b.json", "folder"):
            with pytest.raises(ValueError, match=rf"Hugging Face's engine reads it differently, or may: .*{named}"):
                tokenizer.save(tmp_path / place)
            assert not (tmp_path / place).exists()
        tokenizer.save(tmp_path / "own.json", "jaxopt_lite")
        assert load(tmp_path / "own.json") == tokenizer


def test_other_refusals(tmp_path, gpt4):
    """Forms that cannot say what a tokenizer is, and paths that say no form."""
    with pytest.raises(ValueError, match="expected one of"):
        gpt4.save(tmp_path / "a.json", "pickle")
    with pytest.raises(ValueError, match="expected it to end with"):
        gpt4.save(tmp_path / "a.model")
    with pytest.raises(ValueError, match=r"Hugging Face's engine reads it differently, or may: '\\X' at character 3"):
        Tokenizer(gpt4.vocabulary, splitter(r"\d|\X")).save(tmp_path / "a.json")
    with pytest.raises(ValueError, match="both called"):
        Tokenizer(Vocabulary((*BYTES, b"a"), [], [], special_tokens={"a": 256}), gpt4.splitter).save(
            tmp_path / "a.json"
        )
    gpt4.save(tmp_path / "b.json")
    for wrong in (
        {"pattern": "gpt2"},
        {"pattern": r"\d"},
        {"special_tokens": []},
        {"special_tokens": {"<|end|>": 1501}},
    ):
        with pytest.raises(ValueError, match="itself .* leave"):
            load(tmp_path / "b.json", **wrong)
    with pytest.raises(ValueError, match="leave them out"):
        load(tmp_path / "b.json", special_tokens={"<|begin|>": 1501, "<|end|>": 1500})
    for right in ({"pattern": "cl100k_base"}, {"special_tokens": SPECIAL[::-1]}, {"special_tokens": SPECIAL_IDS}):
        assert load(tmp_path / "b.json", **right) == gpt4  # it says the same
    for missing in ("nowhere.json", "nowhere", "nowhere.tiktoken"):
        with pytest.raises(FileNotFoundError, match=rf"{missing}: there is no such file"):
            load(tmp_path / missing)
    with pytest.raises(ValueError, match="byte level"):
        characters().save(tmp_path / "folder", "gpt2")
    for given in ({"eos": "<|end|>"}, {"chat_template": "{{ messages }}"}):
        with pytest.raises(ValueError, match="format='transformers'"):
            gpt4.save(tmp_path / "a.json", **given)
    with pytest.raises(ValueError, match=r"pad='x': expected a special token of this tokenizer \('<\|begin"):
        gpt4.save(tmp_path / "folder", pad="x")
    # Merges whose order is not that of their ids.
    backwards = Vocabulary((*BYTES, b"bc", b"ab"), [(97, 98), (98, 99)], [257, 256])
    with pytest.raises(ValueError, match="order of the ids"):
        Tokenizer(backwards, gpt4.splitter).save(tmp_path / "a.tiktoken")
    (tmp_path / "merges.txt").write_text("a b\n")
    for content in ('{"a": 0, "b": "5"}', '{"a": 0, "b": true}', '{"a": 0, "b": 1.0}', "[]", '{"a": null}'):
        (tmp_path / "vocab.json").write_text(content)
        with pytest.raises(ValueError, match=r"vocab\.json: expected one mapping"):
            load(tmp_path)


# --- Whole files --------------------------------------------------------------------------------------------------

WAYS = {"huggingface": "a.json", "tiktoken": "a.tiktoken", "jaxopt_lite": "own.json", "gpt2": "folder"}


@pytest.fixture(scope="module")
def old_and_new():
    """Two tokenizers, of which the second is the first with more merges, and one that is shorter than both."""
    text = [sources()[0][:4000]]
    whole = bpe.train(text, 330, pattern="gpt2", progress=False)
    return [bpe.train(text, size, pattern="gpt2", progress=False) for size in (300, 280)] + [whole]


def read_again(path):
    """The vocabulary without what a form leaves out."""
    tokenizer = load(path, **({"pattern": "gpt2"} if path.suffix == ".tiktoken" else {}))
    return tokenizer.vocabulary.tokens, tokenizer.vocabulary.merges.tolist(), tokenizer.splitter


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# A trace function, unlike a signal, can come between the end of a `with` and the closing of its file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])  # lines
@pytest.mark.parametrize("format", WAYS)
def test_an_error_at_any_line_of_a_write_leaves_the_old_or_the_new(tmp_path, monkeypatch, old_and_new, format, every):
    """And one more write leaves nothing but the new one."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    path, (old, *others) = tmp_path / WAYS[format], old_and_new
    old.save(path, format)
    names = files_in(tmp_path)
    for number, line in enumerate(lines(lambda: others[0].save(path, format), "bpe/formats", "files")[::every]):
        error, new = (KeyboardInterrupt, Fault)[number % 2], others[number // 2 % 2]
        known = [(t.vocabulary.tokens, t.vocabulary.merges.tolist(), t.splitter) for t in (old, new)]
        old.save(path, format)
        with suppress(error), failing_at(line, error, 1 + number % 3):
            new.save(path, format)
        assert read_again(path) in known, line
        new.save(path, format)
        assert read_again(path) == known[1] and files_in(tmp_path) == names, line


@pytest.mark.parametrize("later", [1, 2], ids=["a smaller one", "a larger one"])
def test_a_folder_holds_one_tokenizer_between_any_two_steps(tmp_path, old_and_new, later):
    """As after a power cut; what is read as a pair alone is one tokenizer, or is refused."""
    old, new = old_and_new[0], old_and_new[later]
    rename = os.replace
    for step in range(4):
        folder, calls = tmp_path / str(step), []
        old.save(folder)

        def replace(*paths, calls=calls, step=step):
            if len(calls) == step:
                raise KeyboardInterrupt
            calls.append(paths)
            rename(*paths)

        with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr("os.replace", replace)
            new.save(folder)
        assert read_again(folder)[0] == (old if step == 0 else new).vocabulary.tokens
        pair = folder / "vocab.json", folder / "merges.txt"
        if step == 2:
            with pytest.raises(ValueError, match=r"vocab\.json and .*merges\.txt do not fit together"):
                load(pair)
        else:
            assert load(pair).vocabulary.tokens == (new if step == 3 else old).vocabulary.tokens


def test_a_pair_that_was_cut_or_mixed_is_refused(tmp_path, old_and_new):
    """Where the first line has a checksum, whatever changed; without it what can be seen."""
    old, _, new = old_and_new
    for name, tokenizer in (("old", old), ("new", new)):
        tokenizer.save(tmp_path / name)
    pair = tmp_path / "new" / "vocab.json", tmp_path / "new" / "merges.txt"
    vocab, merges = (path.read_text() for path in pair)
    lines = merges.split("\n")
    assert lines[0].startswith("#version: 0.2 {") and load(pair) == load(tmp_path / "new")
    for cut in (2, len(lines) // 2, len(lines) - 2):
        pair[1].write_text("\n".join(lines[:cut]) + "\n")
        with pytest.raises(ValueError, match="do not fit together: the checksum"):
            load(pair)
    pair[1].write_text(merges.replace('"gpt2"', '"gpt4"'))
    with pytest.raises(ValueError, match="do not fit together"):
        load(pair)
    pair[1].write_text(merges)
    pair[0].write_text(vocab.replace('"Ġ": ', '"Ġ":  '))
    with pytest.raises(ValueError, match="do not fit together"):
        load(pair)
    pair[0].write_text(vocab)
    with pytest.raises(ValueError, match="do not fit together"):
        load((tmp_path / "old" / "vocab.json", pair[1]))
    for first in ("#version: 0.2", "#version: 0.2 - Trained by `huggingface/tokenizers`"):  # as others write it
        pair[1].write_text("\n".join([first, *lines[1:]]))
        assert load(pair).vocabulary.tokens == new.vocabulary.tokens
        pair[1].write_text("\n".join([first, *lines[1 : len(lines) // 2], ""]))
        with pytest.raises(
            ValueError, match=r"more tokens that no merge in .*merges\.txt makes. Is that file truncated"
        ):
            load(pair)
    pair[1].write_text("\n".join(lines[1:]))  # and without any
    assert load(pair).vocabulary.tokens == new.vocabulary.tokens


def test_a_folder_says_everything(tmp_path):
    """The pattern, whole words, special and added tokens: as a folder, as two paths, and elsewhere."""
    tokens = (*BYTES, b"the", b"<s>", b"  ", b"<x>")
    whole = Vocabulary(
        tokens, [], [], whole_words=True, special_tokens={"<s>": 257}, added_tokens={"  ": 258, "<x>": 259},
        found_last=frozenset({"<x>"}),
    )  # fmt: skip
    for pattern in ("gpt4", "qwen2", r"\d|[^\d]+"):
        tokenizer, folder = Tokenizer(whole, splitter(pattern)), tmp_path / f"folder {len(pattern)}"
        tokenizer.save(folder)
        assert load(folder) == load((folder / "vocab.json", folder / "merges.txt")) == tokenizer
        texts = ["the 12345 the", "a  the<x>", "<s>"]
        assert tokenizer.encode_batch(texts, special="encode") == ids_elsewhere(folder / "tokenizer.json", texts)
        given = load((folder / "vocab.json", folder / "merges.txt"), pattern="gpt2", special_tokens=[])
        assert given.splitter.name == "gpt2" and given.special_tokens == {}
    with pytest.raises(ValueError, match=r"'\\X' at character 0"):
        Tokenizer(whole, splitter(r"\X+")).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_places_that_are_something_else(tmp_path, gpt4):
    """A file where a folder is meant, the other way round, links, and a folder with another tokenizer.json."""
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder.json").mkdir()
    for path, format in (
        ("file", None),
        ("file", "gpt2"),
        ("folder.json", "huggingface"),
        ("folder.json", "jaxopt_lite"),
    ):
        with pytest.raises(ValueError, match="is not a folder|is a folder"):
            gpt4.save(tmp_path / path, format)
    assert (tmp_path / "file").read_text() == "precious" and not list((tmp_path / "folder.json").iterdir())
    with pytest.raises(ValueError, match="expected the name of a file or folder"):
        gpt4.save("")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    gpt4.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and load(tmp_path / "real") == load(tmp_path / "link") == gpt4
    (tmp_path / "real" / "tokenizer.json").write_text(huggingface("llama3").to_str())
    gpt4.save(tmp_path / "real")
    assert load(tmp_path / "real") == gpt4
    with pytest.raises(OSError, match="none"):
        gpt4.save(tmp_path / "none" / "a.json")
    with pytest.raises(ValueError, match="expected one path, or those of"):
        load((tmp_path / "a", tmp_path / "b", tmp_path / "c"))


def test_character_level_of_huggingface(tmp_path):
    """What Hugging Face trains on characters, with an unknown token."""
    theirs = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    theirs.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(splitter("gpt2").pattern), "isolated")
    theirs.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"], show_progress=False, limit_alphabet=60)
    theirs.train_from_iterator(sources(), trainer)
    theirs.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load(tmp_path / "tokenizer.json")
    assert tokenizer.vocabulary.level == "char"
    assert tokenizer.encode_batch(TEXTS, special="encode") == ids_elsewhere(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("part", ["decoder", "post_processor", "normalizer", "steps"])
@pytest.mark.parametrize("value", ["Ġ", '{"type": "Other"}', '{"type": 1}', "[" * 100_000])
def test_a_part_of_our_own_form_that_is_none(gpt4, tmp_path, part, value):
    """With a checksum that fits: it is refused when it is loaded, by the name of the file, and not when it is used."""
    path = tmp_path / "own.json"
    gpt4.save(path, "jaxopt_lite")
    content = json.loads(path.read_text()) | {part: value}
    path.write_text(json.dumps(content | {"checksum": own._checksum(content)}))
    with pytest.raises(ValueError, match="own.json does not fit together"):
        load(path)
