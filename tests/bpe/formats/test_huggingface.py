"""Every `tokenizer.json` of a byte-pair encoding: the same ids, the same text again, and the same file again."""

import json
import random

import pytest
import tokenizers
from tokenizers import models, trainers

from jaxopt_lite import bpe
from jaxopt_lite.bpe.vocabulary import BYTE_NAMES
from tests.bpe.formats.test_formats import added, ids_elsewhere
from tests.bpe.test_steps import theirs
from tests.bpe.texts import odd_texts, sources

LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
PREFIXED = LEVEL | {"add_prefix_space": True, "use_regex": True}
META = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
LLAMA2_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}  # fmt: skip


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def steps(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def normal(*parts):
    return {"type": "Sequence", "normalizers": list(parts)}


# Parts of a file, and settings of its model.
FILES = {
    "NFC": (dict(normalizer={"type": "NFC"}, pre_tokenizer=LEVEL | {"use_regex": True}), {}),
    "no normalizer in a sequence": (dict(normalizer=normal(), pre_tokenizer=PREFIXED), {}),
    "three splits": (
        dict(pre_tokenizer=steps(split(r"\p{N}{1,3}"), split("[一-龥ぁ-ヿ]+"), split(r"\s?\w+|[^\w\s]"), LEVEL)),
        {},
    ),
    "what is matched": (dict(pre_tokenizer=steps(split(r"\w+|\S|\s+", "Removed", True), LEVEL)), {}),
    "Llama 2": (
        dict(normalizer=normal({"type": "Prepend", "prepend": "▁"}, SPACES), decoder=LLAMA2_DECODER),
        {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"},
    ),
    "Metaspace": (dict(pre_tokenizer=META, decoder=META), {"unk_token": "<unk>"}),
    "Gemma": (
        dict(normalizer=SPACES, pre_tokenizer={"type": "Split", "pattern": {"String": " "},
                                               "behavior": "MergedWithPrevious", "invert": False}),
        {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True, "ignore_merges": True},
    ),
    "a suffix": (
        dict(normalizer=normal({"type": "NFC"}, {"type": "Lowercase"}), pre_tokenizer={"type": "Whitespace"},
             decoder={"type": "BPEDecoder", "suffix": "</w>"}),
        {"end_of_word_suffix": "</w>", "unk_token": "<unk>"},
    ),
    "a prefix": (
        dict(pre_tokenizer=steps({"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}),
             decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
        {"continuing_subword_prefix": "##", "unk_token": "<unk>", "fuse_unk": True},
    ),
    "bytes with a suffix": (
        dict(normalizer={"type": "Lowercase"}, pre_tokenizer=steps(split(r"\w+|\S", "Removed", True), LEVEL)),
        {"end_of_word_suffix": "</w>", "unk_token": "<unk>"},
    ),
    "Falcon": (  # what is after ByteLevel sees characters that stand for bytes, some of which are digits
        dict(pre_tokenizer=steps({"type": "Punctuation", "behavior": "Contiguous"}, LEVEL | {"use_regex": True},
                                 {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]"))),
        {},
    ),
    "digits": (dict(pre_tokenizer=steps({"type": "Digits", "individual_digits": True}, PREFIXED)), {}),
}  # fmt: skip
TEXTS = [
    *sources()[:3],
    *odd_texts(150, seed=8),
    "<unk><s> a <s>b",
    "x<pad>  y",
    "qaQa Qab",
    "ab abc<w>d <w> e.<w>",
    "",
    " ▁ ",
    "1234567½ x²y Ĳ³ 'Þ‚",
    "<0x41>",
]


def file_of(parts, settings):
    """A file with these parts, and a vocabulary that Hugging Face trains with them."""
    tokenizer = theirs(**parts)
    marks = {k: v for k, v in settings.items() if k in ("continuing_subword_prefix", "end_of_word_suffix")}
    tokenizer.model = models.BPE(unk_token=settings.get("unk_token"), **marks)
    names = [*BYTE_NAMES] if settings.get("byte_fallback") else []
    is_bytes = "ByteLevel" in json.dumps(parts)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet() if is_bytes else []
    trainer = trainers.BpeTrainer(
        vocab_size=1600, special_tokens=["<unk>", "<s>"], show_progress=False, initial_alphabet=alphabet,
        limit_alphabet=300, min_frequency=2, **marks,
    )  # fmt: skip
    tokenizer.train_from_iterator(sources()[:6] + odd_texts(100), trainer)
    content = json.loads(tokenizer.to_str())
    vocab = content["model"]["vocab"]
    vocab |= {name: len(vocab) + k for k, name in enumerate(names)}
    if is_bytes and marks:  # every byte at the end of a word
        missing = [letter + "</w>" for letter in alphabet if letter + "</w>" not in vocab]
        vocab |= {name: len(vocab) + k for k, name in enumerate(missing)}
    content["model"] |= settings
    end = len(vocab)
    content["added_tokens"] += [
        added("<pad>", end, lstrip=True, rstrip=True),
        added("<w>", end + 1, single_word=True, special=False),
        added("Qa", end + 2, normalized=True, special=False),
    ]
    return content


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_file(tmp_path, kind):
    """As it came and as written again; padding and truncation are set aside with a word."""
    path, again, own = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "own.json"
    content = file_of(*FILES[kind])
    path.write_text(json.dumps(content))
    tokenizer = bpe.load(path)
    expected = ids_elsewhere(path, TEXTS)
    assert tokenizer.encode_batch(TEXTS, special="encode") == expected
    assert [tokenizer.encode(text, special="encode") for text in TEXTS[:60]] == expected[:60]
    elsewhere = tokenizers.Tokenizer.from_file(str(path))
    texts = [elsewhere.decode(row, skip_special_tokens=False) for row in expected]
    if content["decoder"] is not None or tokenizer.around.decoder is not None:
        # They decode a token that is `normalized` as what its text becomes; here it stays what it is.
        rows = [(row, text) for row, text, source in zip(expected, texts, TEXTS, strict=True) if "Qa" not in source]
        assert [tokenizer.decode(row) for row, _ in rows] == [text for _, text in rows]
    tokenizer.save(again)
    assert ids_elsewhere(again, TEXTS) == expected
    tokenizer.save(own, "jaxopt_lite")
    for path in (again, own):
        assert bpe.load(path).encode_batch(TEXTS, special="encode") == expected
    assert bpe.load(own) == tokenizer


def test_what_ranks_cannot_say_is_not_saved_as_ranks(tmp_path):
    """Normal forms, several steps, flags of special tokens: without them there would be other ids."""
    content = file_of(*FILES["NFC"])
    content["added_tokens"] = [token for token in content["added_tokens"] if token["special"]]
    plain = [token | {"lstrip": False, "rstrip": False} for token in content["added_tokens"]]
    path = tmp_path / "a.json"
    changes = {
        "flags of special tokens": {"normalizer": None},
        "normalizers": {"added_tokens": plain},
        "words in several steps": FILES["Falcon"][0] | {"normalizer": None},
    }
    for what, change in changes.items():
        path.write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=f"'tiktoken' has no form for {what}, which this tokenizer has"):
            bpe.load(path).save(tmp_path / "a.tiktoken")
    path.write_text(json.dumps(content | {"normalizer": None, "added_tokens": plain}))
    bpe.load(path).save(tmp_path / "a.tiktoken")


def test_padding_and_truncation_are_set_aside_with_a_word(tmp_path):
    truncation = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content = file_of(*FILES["NFC"]) | {"truncation": truncation}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="has truncation set, which is ignored"):
        assert len(bpe.load(tmp_path / "a.json").encode("abc def ghi jkl mno")) > 3


def test_templates_on_request(tmp_path):
    content = file_of(*FILES["NFC"])
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    known = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
    template = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": known}
    roberta = {"type": "RobertaProcessing", "sep": ["<pad>", 1600], "cls": ["<s>", 1], "trim_offsets": True,
               "add_prefix_space": False}  # fmt: skip
    for processor in (template, roberta, {"type": "Sequence", "processors": [LEVEL, template]}, LEVEL):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(content | {"post_processor": processor}))
        tokenizer, elsewhere = bpe.load(path), tokenizers.Tokenizer.from_file(str(path))
        expected = [row.ids for row in elsewhere.encode_batch(["a b", ""])]
        assert tokenizer.encode_batch(["a b", ""], template=True) == expected
        assert tokenizer.encode("a b", template=True) == expected[0]
        tokenizer.save(path)
        assert bpe.load(path) == tokenizer


REMOVED = {"type": "Replace", "pattern": {"String": "d"}, "content": ""}
STARTS = [  # normalizers, and whether they may take the start of a text away
    *((REMOVED | change, True) for change in ({}, {"pattern": {"String": "dd"}, "content": "e"},
                                              {"pattern": {"Regex": " +"}, "content": " "})),
    ({"type": "Strip", "strip_left": True, "strip_right": False}, True),
    ({"type": "Strip", "strip_left": False, "strip_right": True}, False),
    *((REMOVED | {"content": content}, False) for content in ("e", "e e")),
    *(({"type": "Prepend", "prepend": before}, False) for before in (" ", "de")),
    *(({"type": kind}, False) for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")),
]  # fmt: skip


KEPT = (REMOVED | {"content": "e"}, {"type": "Strip", "strip_left": False, "strip_right": True})  # wherever it is cut


@pytest.mark.parametrize(("part", "is_refused"), STARTS, ids=str)
def test_what_is_first_after_a_normalizer(tmp_path, part, is_refused):
    vocab = {letter: k for k, letter in enumerate("_abde▁")}
    content = json.loads(theirs(normalizer=part, pre_tokenizer=META).to_str())
    content["model"] |= {"vocab": vocab, "unk_token": "_"}
    content["added_tokens"] = [added("<s>", len(vocab))]
    path = tmp_path / "a.json"
    cut = steps({"type": "WhitespaceSplit"}, META)
    for words in [META] * is_refused + [cut] * (part not in KEPT):
        path.write_text(json.dumps(content | {"pre_tokenizer": words}))
        with pytest.raises(ValueError, match="prepend_scheme='first' after the normalizer"):
            bpe.load(path)
    path.write_text(
        json.dumps(content | ({"pre_tokenizer": META | {"prepend_scheme": "always"}} if is_refused else {}))
    )
    texts = ["a", " a", "da", " dda", "ddab", "éa", "e\u0301", "ﬁa", "İ", "a<s>b", " a<s> b", "<s>a", " <s>a", " "]
    for text in texts:
        assert bpe.load(path).encode(text, special="encode") == ids_elsewhere(path, [text])[0], text


def test_a_template_before_other_processors_is_refused(tmp_path):
    """They would go around each of its tokens, as around texts of their own."""
    content = file_of(*FILES["NFC"])
    template = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
                "special_tokens": {}}  # fmt: skip
    bert = {"type": "BertProcessing", "sep": ["<pad>", 1600], "cls": ["<s>", 1]}
    for others in ([template, bert], [template, template], [bert, template, LEVEL, bert]):
        (tmp_path / "a.json").write_text(
            json.dumps(content | {"post_processor": {"type": "Sequence", "processors": others}})
        )
        with pytest.raises(ValueError, match="after a TemplateProcessing.*expected TemplateProcessing as the last"):
            bpe.load(tmp_path / "a.json")


FALLS_BACK = {"type": "ByteFallback"}
FUSE = {"type": "Fuse"}
PIECES = {"type": "WordPiece", "prefix": "##", "cleanup": False}
IN_A_ROW = [
    [], [FUSE], [FALLS_BACK], [FUSE, FALLS_BACK], [FALLS_BACK, FUSE], [FALLS_BACK, FUSE, FALLS_BACK],
    [FALLS_BACK, PIECES],
]  # fmt: skip


@pytest.mark.parametrize("falls_back", [True, False])
@pytest.mark.parametrize("several", [None, *IN_A_ROW], ids=str)
def test_decoders_in_any_order(tmp_path, several, falls_back):
    """Bytes, neighbours of which are no text, and what looks like bytes; also saved and read again."""
    names = ["a", "b", "é", "<0x41>", "<0xC3>", "<0xa9>", "<0xE9>", "▁", "<0x", "41>", "<0x+4>"]
    decoder = None if several is None else {"type": "Sequence", "decoders": several}
    parts = dict(decoder=decoder, pre_tokenizer=META if several is None else None)
    content = json.loads(theirs(**parts).to_str())
    content["model"] |= {"vocab": {name: k for k, name in enumerate(names)}, "byte_fallback": falls_back}
    for path in (tmp_path / "a.json", tmp_path / "b.json"):
        if not path.exists():
            path.write_text(json.dumps(content))
        mine, elsewhere = bpe.load(path), tokenizers.Tokenizer.from_file(str(path))
        for row in ([0, 3, 1], [4], [4, 5, 4], [0, 4, 1, 6], [3, 4, 2], [4, 5, 2], [8, 9, 7], [10], [4, 4, 0, 3]):
            assert mine.decode(row) == elsewhere.decode(row), row
        mine.save(tmp_path / "b.json")


@pytest.mark.parametrize("kind", ["Llama 2", "bytes with a suffix"])
def test_decoders_keep_bytes_that_are_no_text(tmp_path, kind):
    """`errors=` says what becomes of them; "replace" is what Hugging Face does."""
    content = file_of(*FILES[kind])
    if kind != "Llama 2":
        suffix = {"type": "Replace", "pattern": {"String": "</w>"}, "content": " "}
        content["decoder"] = {"type": "Sequence", "decoders": [LEVEL, suffix]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    tokenizer, elsewhere = bpe.load(path), tokenizers.Tokenizer.from_file(str(path))
    half = tokenizer.encode("a 😀")[:-1]
    assert tokenizer.decode_bytes(half) == b"a \xf0\x9f\x98"
    assert tokenizer.decode(half) == elsewhere.decode(half)
    others = {"ignore": "a ", "surrogateescape": "a \udcf0\udc9f\udc98", "backslashreplace": r"a \xf0\x9f\x98"}
    assert {errors: tokenizer.decode(half, errors=errors) for errors in others} == others
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode(half, errors="strict")


def test_bytes_decoded_twice(tmp_path):
    content = file_of(*FILES["NFC"])
    for decoders, text in (([LEVEL], "é a"), ([LEVEL, LEVEL], "Ã© a"), ([], "é a")):
        (tmp_path / "a.json").write_text(json.dumps(content | {"decoder": {"type": "Sequence", "decoders": decoders}}))
        mine, elsewhere = bpe.load(tmp_path / "a.json"), tokenizers.Tokenizer.from_file(str(tmp_path / "a.json"))
        ids = elsewhere.encode(text).ids
        assert mine.decode(ids) == elsewhere.decode(ids)


@pytest.mark.parametrize("level", ["byte", "char"])
def test_what_looks_like_a_byte_is_saved_as_text(tmp_path, level):
    tokenizer = bpe.train(["aé b"], merges=1, level=level, special_tokens=["<0x41>"])
    tokenizer.save(tmp_path / "a.json")
    elsewhere = tokenizers.Tokenizer.from_file(str(tmp_path / "a.json"))
    assert bpe.load(tmp_path / "a.json").around == tokenizer.around
    ids = tokenizer.encode("é<0x41>a", special="encode")
    assert tokenizer.decode(ids) == elsewhere.decode(ids, skip_special_tokens=False) == "é<0x41>a"


def test_more_merges_and_special_tokens_for_what_was_read(tmp_path):
    """`extend=` with a normalizer and steps: words as its files find them, and ids that stay."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(file_of(*FILES["three splits"])))
    old = bpe.load(path)
    new = bpe.train(["Zebra zebra " * 30], merges=3, extend=old, special_tokens=["<new>"], progress=False)
    assert new.vocabulary.tokens[: old.vocab_size] == old.vocabulary.tokens
    assert new.special_tokens == {**old.special_tokens, "<new>": old.vocab_size}
    assert len(new.encode("zebra")) < len(old.encode("zebra"))
    new.save(path)
    assert bpe.load(path).encode("zebra<new>", special="encode") == ids_elsewhere(path, ["zebra<new>"])[0]


def test_tokens_as_text(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(file_of(*FILES["NFC"])))
    tokenizer, elsewhere = bpe.load(path), tokenizers.Tokenizer.from_file(str(path))
    assert tokenizer.get_vocab() == elsewhere.get_vocab(with_added_tokens=True)
    known = map(tokenizer.id_to_token, tokenizer.encode("a café"))
    assert tokenizer.tokenize("a café") == [token.decode("utf-8", "replace") for token in known]
    draw = random.Random(0).sample(sorted(tokenizer.get_vocab()), 50)
    assert [tokenizer.get_vocab()[name] for name in draw] == [elsewhere.token_to_id(name) for name in draw]


@pytest.mark.parametrize("setting", [None, "fuse_unk", "byte_fallback", "ignore_merges"])
def test_characters_of_what_has_no_token(tmp_path, setting):
    """An unknown may stand for several characters, and for one whose bytes are not all there."""
    path, known = tmp_path / "a.json", [*"abc ", "ab", "<unk>", *"<unk>", *(f"<0x{byte:02X}>" for byte in range(200))]
    model = dict(type="BPE", unk_token="<unk>", vocab={}, merges=[["a", "b"]])
    model |= {} if setting is None else {setting: True}
    model["vocab"] = {token: k for k, token in enumerate(dict.fromkeys(known))}
    path.write_text(json.dumps({"added_tokens": [], "pre_tokenizer": split(r"\S+|\s"), "model": model}))
    tokenizer, elsewhere = bpe.load(path), tokenizers.Tokenizer.from_file(str(path))
    for text in ("abxyzab xa", "zz z", "<unk> x<unk>", "x漢ab", "é漢😀b漢漢", "aéb"):
        ids, spans = tokenizer.encode(text, return_offsets=True)
        expected = elsewhere.encode(text)
        assert ids == expected.ids and spans.tolist() == [list(span) for span in expected.offsets], text


def test_characters_of_an_unknown_behind_bytes(tmp_path):
    """It comes behind them, as elsewhere, where offsets are of the text so far; it stands for what is before them."""
    path, known = tmp_path / "a.json", ["a", "<unk>", *(f"<0x{byte:02X}>" for byte in range(200))]
    for fuses, spans in ((False, [[1, 2], [0, 1], [2, 3], [3, 4]]), (True, [[1, 2], [0, 3], [3, 4]])):
        model = dict(type="BPE", unk_token="<unk>", merges=[], byte_fallback=True, fuse_unk=fuses)
        model["vocab"] = {token: k for k, token in enumerate(known)}
        path.write_text(json.dumps({"added_tokens": [], "pre_tokenizer": split(r"\S+|\s"), "model": model}))
        ids, found = bpe.load(path).encode("漢x漢a", return_offsets=True)
        assert ids == tokenizers.Tokenizer.from_file(str(path)).encode("漢x漢a").ids
        assert [known[k] for k in ids] == ["<0x78>", *["<unk>"] * (len(spans) - 2), "a"] and found.tolist() == spans
