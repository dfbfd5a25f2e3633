"""`tekken.json` and CLIP's merges: the ids of the libraries that they are made for, and what is refused."""

import base64
import gzip
import json

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from jaxopt_lite import bpe
from jaxopt_lite.bpe.letters import as_characters, byte_order
from jaxopt_lite.bpe.patterns import STOCK
from tests.bpe.texts import odd_texts, ranks, sources, tiktoken_of

TEXTS = [*sources()[:3], *odd_texts(120, seed=4), "Hello  World's CAFÉ 12345"]


def tekken(path, **changes):
    known = ranks(size=900)
    config = {"pattern": STOCK["tekken"], "default_vocab_size": 810, "default_num_special_tokens": 10, "version": "v3"}
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for token, rank in known.items()
    ]
    path.write_text(json.dumps({"config": config, "vocab": vocab} | changes))
    return {token: rank for token, rank in known.items() if rank < 800}


def test_tekken(tmp_path):
    """Special tokens have the first ids; of the tokens only as many are used as the configuration says."""
    known = tekken(tmp_path / "tekken.json")
    tokenizer = bpe.load(tmp_path)
    assert bpe.load(tmp_path / "tekken.json") == tokenizer and tokenizer.vocab_size == 810
    theirs = tiktoken_of(known, STOCK["tekken"]).encode_ordinary_batch(TEXTS)
    assert tokenizer.encode_batch(TEXTS) == [[10 + k for k in row] for row in theirs]
    assert tokenizer.encode("</s>[INST]", special="encode") == [2, 3] and tokenizer.splitter.name == "tekken"
    special = [{"rank": 0, "token_str": "<one>", "is_control": True}]
    tekken(tmp_path / "tekken.json", special_tokens=special)
    assert list(bpe.load(tmp_path).special_tokens)[:3] == ["<one>", "<SPECIAL_1>", "<SPECIAL_2>"]


def test_tekken_that_is_refused(tmp_path):
    path = tmp_path / "tekken.json"
    for changes, problem in (
        ({"vocab": []}, "lacks the rank 0; expected all from 0 to 799"),
        ({"config": {}}, "config lacks 'pattern'"),
        ({"special_tokens": [3]}, r"special_tokens\[0\] is 3"),
        ({"vocab": [{"rank": 0, "token_bytes": "?"}]}, "lacks the rank 1"),
    ):
        tekken(path, **changes)
        with pytest.raises(ValueError, match=rf"tekken\.json does not fit together: .*{problem}"):
            bpe.load(path)


@pytest.mark.parametrize("name", ["merges.txt", "bpe_simple_vocab_16e6.txt.gz"])
def test_clip(tmp_path, name):
    """As Hugging Face's conversion: lower case, no whitespace, a mark at the end of words."""
    letters = [as_characters(byte) for byte in byte_order("gpt2")]
    merges = [("h", "e"), ("l", "l"), ("ll", "o</w>"), ("he", "llo</w>"), ("'", "s</w>"), ("1", "2</w>"), ("e", "l")]
    lines = ['"bpe_simple_vocab_16e6.txt#version: 0.2', *map(" ".join, merges), ""]
    with (gzip.open if name.endswith("gz") else open)(tmp_path / name, "wt") as file:
        file.write("\n".join(lines))
    special = ["<|startoftext|>", "<|endoftext|>"]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), *special]
    vocab = {token: k for k, token in enumerate(tokens)}
    theirs = Tokenizer(models.BPE(vocab, merges, unk_token=special[1], end_of_word_suffix="</w>"))
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    theirs.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(words), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    theirs.add_special_tokens(special)
    tokenizer = bpe.load(tmp_path / name)
    expected = [row.ids for row in theirs.encode_batch(TEXTS)]
    assert tokenizer.encode_batch(TEXTS) == expected
    start, end = (vocab[text] for text in special)
    assert tokenizer.encode("Hello", template=True) == [start, vocab["hello</w>"], end]
    assert tokenizer.decode(tokenizer.encode("Hello,  HELLO")) == "hello , hello "
    tokenizer.save(tmp_path / "saved")
    assert bpe.load(tmp_path / "saved").encode_batch(TEXTS) == expected
