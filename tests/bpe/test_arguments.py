"""What callers give by mistake: a clear error that names it, or the right answer."""

import pickle
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite import bpe
from jaxopt_lite.arguments import whole_number
from jaxopt_lite.bpe.arguments import texts, whole_numbers

TRAINED = bpe.train(["low low lower newest"], merges=5, special_tokens=["<end>"])
TOKENS = (b"a", b"b", b"ab", b"aba")


@pytest.mark.parametrize("value", [True, np.True_, 1.0, np.float64(2), "3", b"3", None, [1], np.array([1]), 1j])
def test_what_is_no_whole_number(value):
    with pytest.raises(ValueError, match="size=.*: expected a whole number"):
        whole_number("size", value)


def test_whole_numbers_are_python_ints():
    for value in (3, np.int8(3), np.uint64(3)):
        assert type(whole_number("size", value)) is int and whole_number("size", value, least=3) == 3
    assert whole_number("size", 10**30) == 10**30
    for value, least in ((2, 3), (-1, 0)):
        with pytest.raises(ValueError, match="of at least 3|not negative"):
            whole_number("size", value, least)


@pytest.mark.parametrize("values", [
    [True, False], [0.5], [1.0, 2.0], ["1"], [None], [[1, 2], [3]], [[1, 2]], 5, [2**31], [-(2**31) - 1], [2**70],
    "12", {1: 2},
])  # fmt: skip
def test_what_are_no_rows_of_numbers(values):
    with pytest.raises(ValueError, match="ids: expected"):
        whole_numbers("ids", values, np.int32)


def test_rows_of_numbers():
    for values in ([1, 2], (1, 2), np.array([1, 2], np.uint8), range(1, 3), jnp.array([1, 2])):
        array = whole_numbers("ids", values, np.int32)
        assert array.dtype == np.int32 and array.tolist() == [1, 2]
    assert whole_numbers("ids", [], np.int64).shape == (0,) and whole_numbers("ids", [], np.int32, 2).shape == (0, 2)
    with pytest.raises(ValueError, match="rows of 2"):
        whole_numbers("merges", [1, 2], np.int32, 2)


def test_texts():
    assert texts("names", iter(["a", "b"])) == ("a", "b") and texts("names", {"a": 1}) == ("a",)
    assert texts("names", {"a": 1}.keys(), ordered=True) == ("a",)
    for wrong in ("ab", b"ab", 3, None, [""], ["a", "a"], [1], [b"a"], [None], np.array([["a"]])):
        with pytest.raises(ValueError, match="names"):
            texts("names", wrong)


CALLS = {
    # ids
    "a truth value": (lambda t: t.decode([True, False]), "whole numbers; got bool"),
    "fractions": (lambda t: t.decode(np.array([1.0])), "got float64"),
    "digits": (lambda t: t.decode("12"), "whole numbers"),
    "one id": (lambda t: t.decode(5), "ids=5: expected one row"),
    "a set of ids": (lambda t: t.decode({5, 6}), "in order"),
    "a mapping of ids": (lambda t: t.decode({5: 6}), "in order"),
    "rows of ids": (lambda t: t.decode([[5], [6]]), r"shape \(2, 1\)"),
    "rows of different lengths": (lambda t: t.decode([[5], [6, 7]]), "ids: expected one row .* of different lengths"),
    "a huge id": (lambda t: t.decode([2**70]), "whole numbers; got object"),
    "a large unsigned id": (lambda t: t.decode(np.array([2**63], np.uint64)), r"ids\[0\]=9223372036854775808"),
    "nothing": (lambda t: t.decode(None), "ids=None"),
    "one row for a batch": (lambda t: t.decode_batch([1, 2]), "expected one row"),
    "no such errors": (lambda t: t.decode([70], errors="surogateescape"), "errors='surogateescape'"),
    "no such errors, of many": (lambda t: t.decode_batch([[70]], errors=None), "errors=None"),
    "a truth value for an id": (lambda t: t.id_to_token(True), "whole numbers; got bool"),
    "a fraction for an id": (lambda t: t.id_to_token(1.0), "got float64"),
    "a number for a token": (lambda t: t.token_to_id(5), "token is int; expected str"),
    "fractions of lengths": (lambda t: t.decode_batch([[70, 71]], [1.5]), "lengths: expected whole numbers"),
    "truth values of lengths": (lambda t: t.decode_batch([[70, 71]], [True]), "lengths: expected whole numbers"),
    "one length": (lambda t: t.decode_batch([[70, 71]], 1), "lengths: expected whole numbers"),
    # texts
    "bytes": (lambda t: t.encode(b"low"), "text is bytes"),
    "a path": (lambda t: t.encode(Path("low")), "text is PosixPath|text is WindowsPath"),
    "a list for one text": (lambda t: t.encode(["low"]), "text is list"),
    "one text for many": (lambda t: t.encode_batch("low"), "texts is one str"),
    "a set of texts": (lambda t: t.encode_batch({"low", "new"}), "texts is one set"),
    "a mapping of texts": (lambda t: t.encode_batch({"low": 1}), "texts is one dict"),
    "bytes for many": (lambda t: t.encode_batch(b"low"), "texts is one bytes"),
    "a text that is none": (lambda t: t.encode_batch(["low", 5]), r"texts\[1\] is int"),
    "a truth value for the length": (lambda t: t.encode_batch(["low"], length=True), "length=True"),
    "a fraction of a length": (lambda t: t.encode_batch(["low"], length=4.0), "length=4.0"),
    "a text for the length": (lambda t: t.encode_batch(["low"], length="4"), "length='4'"),
    "a padding that is none": (lambda t: t.encode_batch(["low"], length=4, pad=None), "pad=None"),
    "a padding too large": (lambda t: t.encode_batch(["low"], length=4, pad=2**31), "pad: expected numbers that int32"),
    "a mode that is none": (lambda t: t.encode("low", special=True), "special=True"),
    # training
    "no such size": (lambda t: bpe.train(["low"], "300"), "vocab_size='300'"),
    "a truth value for a size": (lambda t: bpe.train(["low"], True), "vocab_size=True"),
    "a truth value for merges": (lambda t: bpe.train(["low"], merges=True), "merges=True"),
    "a fraction of merges": (lambda t: bpe.train(["low"], merges=3.0), "merges=3.0"),
    "no frequency": (lambda t: bpe.train(["low"], merges=1, min_frequency=None), "min_frequency=None"),
    "special tokens in one": (lambda t: bpe.train(["low"], merges=1, special_tokens="<a>"), "special_tokens='<a>'"),
    "special tokens of bytes": (lambda t: bpe.train(["low"], merges=1, special_tokens=[b"<a>"]), "has b'<a>'"),
    "special tokens of numbers": (lambda t: bpe.train(["low"], merges=1, special_tokens=[1]), "special_tokens has 1"),
    "a set of special tokens": (lambda t: bpe.train(["a"], merges=1, special_tokens={"<a>"}), "empty, in order"),
    "ids of special tokens": (lambda t: bpe.train(["a"], merges=1, special_tokens={"<a>": 7}), "empty, in order"),
    "a set for a file": (lambda t: bpe.load("a.tiktoken", special_tokens={"<a>", "<b>"}), "empty, in order"),
    "no special tokens": (lambda t: bpe.train(["low"], merges=1, special_tokens=None), "special_tokens=None"),
    "a path to extend": (lambda t: bpe.train(["low"], merges=1, extend="t.json"), "`bpe.load` reads one"),
    "a vocabulary to extend": (lambda t: bpe.train(["low"], merges=1, extend=t.vocabulary), "expected a Tokenizer"),
    "an alphabet of bytes": (lambda t: bpe.train(["a"], merges=1, initial_alphabet=["a"]), "at byte level"),
    "an alphabet of words": (
        lambda t: bpe.train(["a"], merges=1, level="char", initial_alphabet=["ab"]), "expected single characters"
    ),
    "an unknown token without text": (lambda t: bpe.train(["a"], merges=1, level="char", unknown=""), "unknown=''"),
    "an unknown token that is none": (lambda t: bpe.train(["a"], merges=1, level="char", unknown=0), "unknown=0"),
    "processes that are none": (lambda t: bpe.train(["a"], merges=1, processes=True), "processes=True"),
    "errors that are none": (lambda t: bpe.train(["a"], merges=1, errors="Strict"), "errors='Strict'"),
    "a word for a bar": (lambda t: bpe.train(["a"], merges=1, progress="no"), "progress='no': expected True or False"),
    "a bar of counting": (lambda t: bpe.count_words(["a"], bpe.splitter(), progress=0), "progress=0: expected True"),
    # files
    "no path": (lambda t: t.save(""), "expected the name of a file"),
    "a format that is none": (lambda t: t.save("a.json", "HuggingFace"), "format='HuggingFace'"),
    "three paths": (lambda t: bpe.load(("a", "b", "c")), "expected one path, or those of"),
    "one special token": (lambda t: bpe.load("a.tiktoken", special_tokens="<a>"), "special_tokens='<a>'"),
    # vocabularies
    "texts for bytes": (lambda t: bpe.Vocabulary(("a", "b"), [], []), "expected bytes"),
    "merges of fractions": (lambda t: bpe.Vocabulary(TOKENS, [[0.5, 1]], [2]), "merges: expected whole numbers"),
    "merges of truth values": (lambda t: bpe.Vocabulary(TOKENS, [[False, True]], [2]), "merges: expected whole"),
    "merges in a row": (lambda t: bpe.Vocabulary(TOKENS, [0, 1], [2]), "merges: expected whole numbers, rows of 2"),
    "merges of three": (lambda t: bpe.Vocabulary(TOKENS, [[0, 1, 2]], [2]), "rows of 2"),
    "merges beyond 32 bits": (lambda t: bpe.Vocabulary(TOKENS, [[2**32, 1]], [2]), "numbers that int32 holds"),
    "counts of fractions": (lambda t: bpe.Vocabulary(TOKENS, [[0, 1]], [2], counts=[1.5]), "counts: expected whole"),
    "a mark that is none": (lambda t: bpe.Vocabulary(TOKENS, [], [], end_of_word=True), "end_of_word=True"),
    "an id for special tokens": (lambda t: bpe.Vocabulary(TOKENS, [], [], special_tokens=3), "expected a mapping"),
    "a list of special tokens": (lambda t: bpe.Vocabulary(TOKENS, [], [], special_tokens=["a"]), "expected a mapping"),
    "a fraction of an id": (lambda t: bpe.Vocabulary(TOKENS, [], [], special_tokens={"a": 0.0}), "whole number"),
    "half a character": (lambda t: bpe.Vocabulary(TOKENS, [], [], special_tokens={"\ud800": 0}), "lone surrogate"),
    "words that are 1": (lambda t: bpe.Vocabulary(TOKENS, [], [], whole_words=1), "whole_words=1"),
    "a merge of nothing": (lambda t: bpe.Vocabulary((b"a", b"", b"a"), [[0, 1]], [2]), "merge 0 makes token 2"),
    "a mark of nothing": (lambda t: bpe.Vocabulary((b"a", b""), [], [], end_of_word=1), "expected the id of a token"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "problem"), CALLS.values(), ids=CALLS)
def test_what_is_refused(call, problem, tmp_path, monkeypatch):
    """With an error that names the argument, and says what arrived."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=problem):
        call(TRAINED)
    assert not list(tmp_path.iterdir())


def test_a_table_is_not_taken_for_the_names_of_its_columns():
    table = pytest.importorskip("pandas").DataFrame({"text": ["low lower"], "label": ["x"]})
    with pytest.raises(TypeError, match="such as one column of a table"):
        bpe.train(table, merges=1)
    with pytest.raises(ValueError, match="texts is one DataFrame"):
        TRAINED.encode_batch(table)
    assert bpe.train(table["text"], merges=2).vocabulary.tokens[-1] == b"low"
    assert TRAINED.encode_batch(table["text"]) == [TRAINED.encode("low lower")]


@pytest.mark.parametrize(("call", "problem"), [
    (lambda: bpe.Tokenizer(TRAINED.vocabulary, "gpt4"), "expected a Vocabulary and a Splitter"),
    (lambda: bpe.Tokenizer("t.json", TRAINED.splitter), r"Tokenizer\(str, Splitter\)"),
    (lambda: bpe.count_words(["a"], "gpt4"), "splitter='gpt4': expected a Splitter"),
    (lambda: bpe.train(["a"], merges=1, pattern=TRAINED.splitter), "expected a name"),
    (lambda: bpe.train(["a", None], merges=1), "item 1 of the corpus is None"),
    (lambda: bpe.train([["a"]], merges=1), "item 0 of the corpus"),
    (lambda: bpe.train(b"text", merges=1), "pathlib.Path"),
    (lambda: bpe.train(None, merges=1), "pathlib.Path"),
    (lambda: bpe.train({"a": 1.5}, merges=1), "the count of 'a' is 1.5"),
    (lambda: bpe.train({b"a": 1}, merges=1), "expected str"),
])  # fmt: skip
def test_what_is_of_another_type(call, problem):
    with pytest.raises(TypeError, match=problem):
        call()


def test_what_is_taken_for_what_it_is(tmp_path):
    """NumPy's and JAX's numbers and rows, generators, subclasses of str, paths as texts."""
    t, ids = TRAINED, TRAINED.encode("lower")
    for row in (tuple(ids), np.array(ids), np.array(ids, np.uint16), jnp.array(ids), iter(ids), (k for k in ids)):
        assert t.decode(row) == "lower"
    assert t.decode([np.int64(k) for k in ids]) == "lower" and t.decode([]) == t.decode(np.zeros(0, np.int32)) == ""
    assert t.id_to_token(np.int32(ids[0])) == t.id_to_token(ids[0])
    assert t.encode_batch(text for text in ("low", "new")) == t.encode_batch(["low", "new"])
    assert t.encode_batch(np.array(["low"])) == [t.encode("low")] == [t.encode(np.str_("low"))]
    array, lengths = t.encode_batch(["low", ""], length=np.int64(5), pad=np.int32(-1))
    assert array[1].tolist() == [-1] * 5 and t.decode_batch(array, lengths) == t.decode_batch(array, jnp.array(lengths))
    for merges in (np.int64(5), np.uint8(5)):
        assert bpe.train(["low low lower newest"], merges=merges, special_tokens=("<end>",)) == t
    counts = {np.str_("low"): np.int32(2), "lower": np.uint8(1)}
    assert bpe.train(counts, merges=2).vocabulary == bpe.train({"low": 2, "lower": 1}, merges=2).vocabulary
    assert bpe.train({"low", "new"}, merges=1).vocab_size == 257  # of a corpus the order means nothing
    t.save(str(tmp_path / "t.json"), "jaxopt_lite")
    assert bpe.load(str(tmp_path / "t.json")) == bpe.load(tmp_path / "t.json") == pickle.loads(pickle.dumps(t))
    t.save(tmp_path / "folder")
    pair = [str(tmp_path / "folder" / name) for name in ("vocab.json", "merges.txt")]
    assert bpe.load(pair) == bpe.load(tuple(pair)) == bpe.load(tmp_path / "folder")


def test_characters_of_bytes_that_were_not_utf8(tmp_path):
    """Kept on request, they are characters too, and come back as the bytes that they were."""
    (tmp_path / "text").write_bytes(b"a\xffb a\xffb")
    tokenizer = bpe.train(tmp_path / "text", merges=2, level="char", errors="surrogateescape")
    assert tokenizer.decode_bytes(tokenizer.encode("a\udcffb")) == b"a\xffb"
    with pytest.raises(ValueError, match="is not UTF-8"):
        tokenizer.save(tmp_path / "t.json")
    tokenizer.save(tmp_path / "own.json", "jaxopt_lite")
    assert bpe.load(tmp_path / "own.json") == tokenizer
    with pytest.raises(ValueError, match=r"lone surrogate U\+D800"):
        bpe.train(["a\ud800"], merges=0, level="char")
