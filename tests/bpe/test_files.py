"""Files: what is written makes the same ids elsewhere, what others write makes them here, the rest is refused."""

import json

import numpy as np
import pytest
import tiktoken.load
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from jaxopt_lite.bpe.formats.load import load
from jaxopt_lite.bpe.patterns import splitter
from jaxopt_lite.bpe.tokenizer import Tokenizer
from jaxopt_lite.bpe.vocabulary import Vocabulary
from tests.bpe.test_tokenizer import BYTES, characters, marked
from tests.bpe.texts import SPECIAL, huggingface, odd_texts, ranks, sources, tiktoken_of, write_ranks

TEXTS = sources() + odd_texts(200, seed=5)


def ids_elsewhere(path, texts=TEXTS):
    """What Hugging Face makes of the texts with this file."""
    return [row.ids for row in tokenizers.Tokenizer.from_file(str(path)).encode_batch(texts, add_special_tokens=False)]


@pytest.fixture
def gpt4(tmp_path):
    return load(write_ranks(tmp_path / "gpt4.tiktoken", ranks()), pattern="gpt4", special_tokens=SPECIAL)


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


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "o200k", "whitespace", r"\w+|\d"])
def test_writing_huggingface(tmp_path, gpt4, pattern):
    """Every splitter, and back."""
    tokenizer = Tokenizer(gpt4.vocabulary, splitter(pattern))
    tokenizer.save(tmp_path / "tokenizer.json")
    assert tokenizer.encode_batch(TEXTS) == ids_elsewhere(tmp_path / "tokenizer.json")
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


def test_tiktoken(tmp_path, gpt4):
    """tiktoken's own reader reads what is written; special tokens stand outside, where the caller wants them."""
    gpt4.save(tmp_path / "a.tiktoken")
    read = tiktoken.load.load_tiktoken_bpe(str(tmp_path / "a.tiktoken"))
    assert read == ranks()
    assert tiktoken_of(read).encode_ordinary_batch(TEXTS) == gpt4.encode_batch(TEXTS)
    assert gpt4.special_tokens == {"<|begin|>": 1500, "<|end|>": 1501}
    theirs = tiktoken_of(read, special=SPECIAL).encode("a<|end|>", allowed_special="all")
    assert gpt4.encode("a<|end|>", special="encode") == theirs
    with pytest.raises(ValueError, match="expected every id from 0 on once"):
        load(tmp_path / "a.tiktoken", pattern="gpt4", special_tokens={"<|end|>": 2000})
    with pytest.raises(ValueError, match="does not say what a word is"):
        load(tmp_path / "a.tiktoken")


def test_special_tokens_come_first(tmp_path):
    """Ids that the file leaves out belong to special tokens."""
    huggingface().save(str(tmp_path / "tokenizer.json"))
    tokenizer = load(tmp_path / "tokenizer.json")
    tokenizer.save(tmp_path / "a.tiktoken")
    again = load(tmp_path / "a.tiktoken", pattern="gpt2", special_tokens=SPECIAL)
    assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS) and again.special_tokens["<|end|>"] == 1
    with pytest.raises(ValueError, match="does not fill its gaps, such as 0"):
        load(tmp_path / "a.tiktoken", pattern="gpt2")


def test_tokens_of_whole_words_only(tmp_path):
    """A token that no ranks lead to is found as a word, as tiktoken does; one that later ranks lead to is refused."""
    known = dict(zip((*BYTES, b"ab", b"bc", b"xabc"), range(259), strict=True))
    tokenizer = load(write_ranks(tmp_path / "a.tiktoken", known), pattern="gpt2")
    texts = ["xabc", "xxabc", "abc xabc"]
    theirs = tiktoken_of(known, tokenizer.splitter.pattern).encode_ordinary_batch(texts)
    assert tokenizer.encode_batch(texts) == theirs
    tokenizer.save(tmp_path / "b.tiktoken")
    tokenizer.save(tmp_path / "b.json")
    assert tokenizer.encode_batch(texts) == ids_elsewhere(tmp_path / "b.json", texts)
    known = dict(zip((*BYTES, b"abcd", b"ab", b"cd"), range(259), strict=True))
    with pytest.raises(ValueError, match="where parts come first"):
        load(write_ranks(tmp_path / "c.tiktoken", known), pattern="gpt2")


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
    "other JSON": ("a.json", '{"a": 1}', r"got other JSON.*vocab\.json"),
    "a list": ("a.json", "[1]", "got other JSON"),
    "normalizer": ("a.json", hf(normalizer={"type": "NFC"}), r"a\.json has a normalizer \(NFC\)"),
    "truncation": ("a.json", hf(truncation={"max_length": 2}), "has a truncation"),
    "WordPiece": ("a.json", hf(model__type="WordPiece"), "model of type WordPiece; expected BPE"),
    "dropout": ("a.json", hf(model__dropout=0.1), "dropout=0.1"),
    "suffix": ("a.json", hf(model__end_of_word_suffix="</w>"), "end_of_word_suffix='</w>'"),
    "fuse_unk": ("a.json", hf(model__fuse_unk=True, model__unk_token="a"), "fuse_unk"),
    "no merges": ("a.json", hf(model__merges=None), "lacks the model's vocab or merges"),
    "Metaspace": ("a.json", hf(pre_tokenizer={"type": "Metaspace"}), "pre_tokenizer Metaspace"),
    "no pre_tokenizer": ("a.json", hf(pre_tokenizer=None), "pre_tokenizer None"),
    "prefix space": ("a.json", hf(pre_tokenizer__add_prefix_space=True), "add_prefix_space"),
    "WordPiece decoder": ("a.json", hf(decoder={"type": "WordPiece"}), "decoder WordPiece"),
    "an odd merge": ("a.json", hf(model__merges=["a b c"]), "merge 0 is 'a b c'; expected two texts"),
    "a foreign merge": ("a.json", hf(model__merges=[["q", "\u1234"]]), "is not in the vocabulary"),
    "a gap in the ids": ("a.json", hf(model__vocab={"a": 7}, model__merges=[]), "other ids than 0 to"),
    "a foreign character": ("a.json", hf(model__vocab={"\u1234": 2}, model__merges=[]), "stands for no byte"),
    "lstrip": ("a.json", hf(added_tokens=[{"content": "x", "id": 3, "lstrip": True}]), "with lstrip"),
    "another version": ("a.json", '{"format": "jaxopt_lite.bpe", "version": 9}', "version 9"),
    "half of ours": ("a.json", '{"format": "jaxopt_lite.bpe", "version": 1}', "lacks 'tokens'"),
    "not base64": ("a.tiktoken", "YQ== 0\n??? 1\n", "a.tiktoken, line 2: expected a token in base64"),
    "no rank": ("a.tiktoken", "YQ==\n", "line 1: expected a token"),
    "a rank twice": ("a.tiktoken", "YQ== 0\nYg== 0\n", "line 2: expected a token of its own rank"),
    "a token twice": ("a.tiktoken", "YQ== 0\nYQ== 1\n", "some have two ranks"),
    "empty": ("a.tiktoken", "", "the file is empty"),
    "a byte is missing": ("a.tiktoken", "YWI= 0\n", "a byte that is no token"),
}


@pytest.mark.parametrize(("name", "content", "problem"), REFUSED.values(), ids=REFUSED)
def test_files_that_are_refused(tmp_path, name, content, problem):
    """The error names the file and what is wrong."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=problem):
        load(path, **({"pattern": "gpt4"} if path.suffix == ".tiktoken" else {}))


def test_other_refusals(tmp_path, gpt4):
    """Forms that cannot say what a tokenizer is, and paths that say no form."""
    with pytest.raises(ValueError, match="expected one of"):
        gpt4.save(tmp_path / "a.json", "pickle")
    with pytest.raises(ValueError, match="expected it to end with"):
        gpt4.save(tmp_path / "a.model")
    with pytest.raises(ValueError, match="Hugging Face's engine reads .* otherwise"):
        Tokenizer(gpt4.vocabulary, splitter(r"\d{1,3}+|x$")).save(tmp_path / "a.json")
    with pytest.raises(ValueError, match="both called"):
        Tokenizer(Vocabulary((*BYTES, b"a"), [], [], special_tokens={"a": 256}), gpt4.splitter).save(
            tmp_path / "a.json"
        )
    gpt4.save(tmp_path / "b.json")
    with pytest.raises(ValueError, match="says both itself"):
        load(tmp_path / "b.json", pattern="gpt2")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match="byte level"):
        characters().save(tmp_path / "folder")
    # Merges whose order is not that of their ids.
    backwards = Vocabulary((*BYTES, b"bc", b"ab"), [(97, 98), (98, 99)], [257, 256])
    with pytest.raises(ValueError, match="order of the ids"):
        Tokenizer(backwards, gpt4.splitter).save(tmp_path / "a.tiktoken")
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 5}')
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(ValueError, match=r"vocab\.json: expected one mapping"):
        load(tmp_path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, gpt4, monkeypatch):
    """The file is replaced when it is complete."""
    path = tmp_path / "a.json"
    gpt4.save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        gpt4.save(path, "jaxopt_lite")
    assert path.read_bytes() == before


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
