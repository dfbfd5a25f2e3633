"""Text to ids and back: the ids of other libraries, nothing lost, and errors that say what to do."""

import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxopt_lite.bpe import encode, pieces
from jaxopt_lite.bpe.accelerator import encode as on_accelerator
from jaxopt_lite.bpe.patterns import splitter
from jaxopt_lite.bpe.tokenizer import Tokenizer, load
from jaxopt_lite.bpe.vocabulary import Vocabulary
from tests.bpe.texts import (
    ODD,
    SPECIAL_IDS,
    huggingface,
    odd_texts,
    ranks,
    real_texts,
    sources,
    tiktoken_of,
    unicode_names,
    write_ranks,
)
from tests.oracles.bpe import slow_encoder

pytestmark = pytest.mark.hardly_optimized  # all is of whole numbers

BYTES = tuple(bytes([value]) for value in range(256))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizers")


@pytest.fixture
def gpt2(files):
    huggingface().save(str(files / "tokenizer.json"))
    return load(files / "tokenizer.json")


@pytest.fixture
def gpt4(files):
    return load(write_ranks(files / "gpt4.tiktoken", ranks()), pattern="gpt4", special_tokens=SPECIAL_IDS)


def marked(text="low lower newest", merges=((108, 111), (258, 119), (259, 256), (119, 256))):
    """Bytes, the mark "_", and a few merges: lo, low, low_, w_."""
    tokens = [*BYTES, b"_", b"<s>"]
    tokens += [tokens[a] + tokens[b] for a, b in [(108, 111)]]
    for a, b in merges[1:]:
        tokens.append(tokens[a] + tokens[b])
    v = Vocabulary(tuple(tokens), merges, range(258, 262), end_of_word=256, special_tokens={"<s>": 257})
    return Tokenizer(v, splitter("whitespace", "_"))


def characters(**more):
    """The characters a, b, é and the merges ab, abé."""
    tokens = ["a", "b", "é", "ab", "abé", "<unk>", *(f"<0x{value:02X}>" for value in range(256))]
    given = dict(merges=[(0, 1), (3, 2)], merged=[3, 4], level="char") | more
    return Tokenizer(Vocabulary(tuple(token.encode() for token in tokens), **given), splitter("gpt2"))


def test_ids_of_huggingface(gpt2):
    """Ids and offsets, on sources, many languages and odd strings."""
    texts = [text[:20_000] for text in sources()] + odd_texts(300)
    for text, theirs in zip(texts, huggingface().encode_batch(texts), strict=True):
        ids, offsets = gpt2.encode(text, return_offsets=True)
        assert ids == theirs.ids == gpt2.encode(text), text[:80]
        assert offsets.dtype == np.int32 and offsets.tolist() == [list(span) for span in theirs.offsets], text[:80]


def test_ids_of_tiktoken(gpt4):
    """The same of tiktoken."""
    texts = sources() + odd_texts(1000)
    assert gpt4.encode_batch(texts) == tiktoken_of(ranks()).encode_ordinary_batch(texts)


def use_a_device(monkeypatch):
    """Encode any number of words as on an accelerator."""
    monkeypatch.setattr(encode, "_FEW", 0)
    monkeypatch.setattr(encode, "_MANY", 1)
    monkeypatch.setattr(on_accelerator, "has_accelerator", lambda: True)


@pytest.mark.parametrize("on_device", [True, False])
def test_ids_of_the_textbook(gpt4, monkeypatch, on_device):
    """On the device and on the host, without looking words up."""
    if on_device:
        use_a_device(monkeypatch)
        monkeypatch.setattr(encode, "_LONGEST", 16)  # of two lengths, so two programs; the kernel's own tests have more
    else:
        monkeypatch.setattr(encode, "_FEW", 0)
    vocabulary = dataclasses.replace(gpt4.vocabulary, whole_words=False)
    texts = [*odd_texts(200, seed=1), sources()[0][:20_000]]
    ids = Tokenizer(vocabulary, gpt4.splitter).encode_batch(texts)
    slowly = slow_encoder(vocabulary)
    assert ids == [slowly(gpt4.splitter.words(text)) for text in texts]


def test_merges_in_another_order(monkeypatch):
    """Where parts come after the whole, one merge at a time, also when there are many words."""
    use_a_device(monkeypatch)
    tokens = (*BYTES, b"ab", b"abc", b"bc")
    vocabulary = Vocabulary(tokens, [(256, 99), (97, 98), (98, 99)], [257, 256, 258])
    tokenizer = Tokenizer(vocabulary, splitter("gpt2"))
    for text in ("abc", "abcabc bc", "aabcc"):
        assert tokenizer.encode(text) == slow_encoder(vocabulary)(tokenizer.splitter.words(text))


def test_a_token_that_merges_do_not_make():
    """It is found as a whole word where the vocabulary says so, and not otherwise."""
    v = Vocabulary((*BYTES, b"ab", b"bc", b"abc"), [(97, 98), (98, 99)], [256, 257])
    assert Tokenizer(v, splitter("gpt2")).encode("abc") == [256, 99]
    assert Tokenizer(dataclasses.replace(v, whole_words=True), splitter("gpt2")).encode("abc") == [258]


def test_round_trip(gpt2, gpt4):
    """At byte level every text comes back, also bytes that are not UTF-8."""
    texts = [*odd_texts(300, seed=2), *sources(), b"\xff\xfe a\x80\xe4".decode("utf-8", "surrogateescape")]
    for tokenizer in (gpt2, gpt4):
        ids = tokenizer.encode_batch(texts)
        assert tokenizer.decode_batch(ids, errors="surrogateescape") == texts
        assert [tokenizer.decode_bytes(row) for row in ids] == [t.encode("utf-8", "surrogateescape") for t in texts]


def test_custom_pattern_loses_nothing():
    """What the pattern does not match is encoded too; it is not cut into pieces."""
    tokenizer = Tokenizer(Vocabulary(BYTES, [], []), splitter(r"\d+"))
    assert not tokenizer.splitter.local and tokenizer.decode(tokenizer.encode("a1 b 22")) == "a1 b 22"


def test_memories_are_bounded(gpt2, monkeypatch):
    """Old words are forgotten and long ones are not kept, and the ids stay the same."""
    monkeypatch.setattr(encode, "_WORDS", 5_000)
    small = Tokenizer(gpt2.vocabulary, gpt2.splitter)
    for text in sources()[0].split("\n")[:300]:
        assert small.encode(text) == gpt2.encode(text)
        assert len(small._encoder._words) <= 35
    small.encode("x" * 5000)
    small.encode("y")
    assert all(len(key) < 5000 for key in small._encoder._words)


def test_short_and_long_texts(gpt2, gpt4, monkeypatch):
    """Word by word and in pieces, together and one by one: the same ids, also with NUL in some texts."""
    texts = [*odd_texts(100, seed=5), "a\0b \0", sources()[0][:9000], "", "\0", sources()[1][:5000]]
    for tokenizer in (gpt2, gpt4):
        long = tokenizer.encode_batch(texts)
        monkeypatch.setattr(encode, "_SHORT", 10**9)
        assert [tokenizer.encode(text) for text in texts] == tokenizer.encode_batch(texts) == long
        monkeypatch.undo()


def test_threads(gpt2, monkeypatch):
    """Threads may share a tokenizer, also while its memory is emptied again and again."""
    monkeypatch.setattr(encode, "_WORDS", 4_000)
    monkeypatch.setattr(encode, "_SHORT", 30)
    monkeypatch.setattr(pieces, "_MOST_PIECES", 100)
    small = Tokenizer(gpt2.vocabulary, gpt2.splitter)
    lines = sources()[0].split("\n")[:400]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(small.encode, lines)) == gpt2.encode_batch(lines)
        spans = threads.map(lambda line: small.encode(line, return_offsets=True)[0], lines)
        assert list(spans) == gpt2.encode_batch(lines)


def test_very_long_word(gpt4):
    """A hundred thousand letters without a break."""
    text = "a" * 100_000
    assert gpt4.decode(gpt4.encode(text)) == text


def test_special_tokens(gpt2):
    """Refused, encoded or text like any other, as one says."""
    text = "one<|end|> two<|begin|><|begin|>"
    with pytest.raises(ValueError, match=r"'<\|end\|>' at character 3.*special='encode'.*special='ignore'"):
        gpt2.encode(text)
    ids, offsets = gpt2.encode(text, special="encode", return_offsets=True)
    theirs = huggingface().encode(text)
    assert ids == theirs.ids == gpt2.encode(text, special="encode")
    assert offsets.tolist() == [list(span) for span in theirs.offsets]
    plain = gpt2.encode(text, special="ignore")
    assert not {*gpt2.special_tokens.values()} & {*plain}
    assert gpt2.decode(plain) == gpt2.decode(ids) == text
    assert gpt2.decode(ids, skip_special=True) == "one two"
    with pytest.raises(ValueError, match="special='no'"):
        gpt2.encode(text, special="no")


def test_longest_special_token():
    """Of two that begin at one place the longer one is meant."""
    v = Vocabulary((*BYTES, b"<a>", b"<a><b>"), [], [], special_tokens={"<a>": 256, "<a><b>": 257})
    assert Tokenizer(v, splitter("gpt2")).encode("<a><b><a>", special="encode") == [257, 256]


def test_padded_array(gpt2):
    """One array with true lengths; nothing is cut in silence."""
    texts = ["a", "", "one two three four five six"]
    ids = gpt2.encode_batch(texts)
    rows, lengths = gpt2.encode_batch(texts, length=32, pad=1)
    assert rows.shape == (3, 32) and rows.dtype == lengths.dtype == np.int32
    assert [row[:n].tolist() for row, n in zip(rows, lengths, strict=True)] == ids and (rows[1] == 1).all()
    assert gpt2.decode_batch(rows, lengths) == texts
    with pytest.raises(ValueError, match=r"length=2, but 1 of 3 texts have more ids: 2 \(\d+\).*overflow='report'"):
        gpt2.encode_batch(texts, length=2)
    rows, lengths = gpt2.encode_batch(texts, length=2, overflow="report")
    assert rows.shape == (3, 2) and lengths.tolist() == [len(row) for row in ids]
    with pytest.raises(ValueError, match=r"lengths\[2\]=\d+, but there are 2 ids"):
        gpt2.decode_batch(rows, lengths)
    with pytest.raises(ValueError, match="2 entries for 3"):
        gpt2.decode_batch(rows, lengths[:2])
    assert gpt2.encode_batch([]) == [] and gpt2.encode_batch([], length=3)[0].shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda t: t.encode(b"bytes"), "text is bytes; expected str"),
        (lambda t: t.encode_batch("one text"), "expected a list"),
        (lambda t: t.encode_batch(["a", None]), r"texts\[1\] is NoneType"),
        (lambda t: t.encode_batch(["a"], length=-1), "length=-1"),
        (lambda t: t.encode_batch(["a"], pad=3), "pad=3, overflow='raise' without length="),
        (lambda t: t.encode_batch(["a"], overflow="report"), "pad=0, overflow='report' without length="),
        (lambda t: t.encode_batch(["a", "b", "c\ud800"]), r"^texts\[2\]: the text has the lone surrogate"),
        (lambda t: t.decode_batch([[1], [2, 10**6]]), r"^row 1: ids\[1\]=1000000"),
        (lambda t: t.decode_batch(5), "ids=5: expected a list of rows"),
        (lambda t: t.decode_batch({(1, 2), (3, 4)}), "expected a list of rows of ids"),
        (lambda t: t.encode_batch(["a"], length=1, overflow="cut"), "overflow='cut'"),
        (lambda t: t.encode("a\ud800b"), r"lone surrogate U\+D800"),
        (lambda t: t.decode([3, -1]), r"ids\[1\]=-1; expected ids from 0 to 1499"),
        (lambda t: t.decode([1500]), r"ids\[0\]=1500"),
        (lambda t: t.decode([0.5]), "whole numbers; got float64"),
        (lambda t: t.decode([[1]]), r"shape \(1, 1\)"),
        (lambda t: t.id_to_token(99_999), r"ids\[0\]=99999"),
        (lambda t: Tokenizer(t.vocabulary, splitter("whitespace", "_")), "a mark in both or in neither"),
    ],
)
def test_what_is_refused(gpt2, call, problem):
    """Errors name what arrived and what was expected."""
    with pytest.raises(ValueError, match=problem):
        call(gpt2)


def test_parts_of_characters(gpt2):
    """Parts of a character are no text; what becomes of them is for the caller to say."""
    ids = gpt2.encode("👩")
    assert len(ids) > 1 and "�" in gpt2.decode(ids[:1])
    with pytest.raises(UnicodeDecodeError):
        gpt2.decode(ids[:1], errors="strict")
    assert gpt2.encode("x👩", return_offsets=True)[1].tolist() == [[0, 1]] + [[1, 2]] * len(ids)


def test_tokens(gpt2):
    """By id and by text."""
    assert gpt2.vocab_size == 1500 and gpt2.special_tokens == {"<|begin|>": 0, "<|end|>": 1}
    (k,) = gpt2.encode("self")
    assert gpt2.id_to_token(k) == b"self" and gpt2.token_to_id("self") == gpt2.token_to_id(b"self") == k
    assert gpt2.token_to_id("no such token") is None and "1500 tokens" in repr(gpt2)
    assert pickle.loads(pickle.dumps(gpt2)) == gpt2
    html = gpt2._repr_html_()
    assert "1,500" in html and "gpt2: " in html and "&lt;|begin|&gt; &lt;|end|&gt;" in html


def test_end_of_word():
    """The mark ends every word, is another symbol than its character, and becomes a space between words."""
    t = marked()
    assert t.encode("low  low_\nw") == [260, 259, 95, 256, 261]
    assert t.encode("low low_ w") == slow_encoder(t.vocabulary)(["low", "low_", "w"])
    assert t.decode(t.encode(" low\tlow_ w ")) == "low low_ w" and t.decode([]) == ""
    ids, offsets = t.encode(" low  low_ <s> w", return_offsets=True, special="encode")
    assert ids == [260, 259, 95, 256, 257, 261]
    assert offsets.tolist() == [[1, 4], [6, 9], [9, 10], [10, 10], [11, 14], [15, 16]]
    assert t.decode(ids[:3]) == "low low_"


def test_characters():
    """Unknown characters fall back to bytes, to the unknown token, or are refused."""
    fallback = dict(byte_fallback=True, fallback=np.arange(6, 262))
    t = characters(**fallback)
    ids, offsets = t.encode("abéñb", return_offsets=True)
    assert ids == [4, 6 + 0xC3, 6 + 0xB1, 1] and t.decode(ids) == "abéñb"
    assert offsets.tolist() == [[0, 3], [3, 4], [3, 4], [4, 5]]
    t = characters(unknown=5, special_tokens={"<unk>": 5})
    ids, offsets = t.encode("abñéa", return_offsets=True)
    assert ids == [3, 5, 2, 0] and offsets.tolist() == [[0, 2], [2, 3], [3, 4], [4, 5]]
    assert t.decode(ids) == "ab<unk>éa"
    with pytest.raises(ValueError, match=r"'ñ' \(U\+00F1\).*byte_fallback=True"):
        characters().encode("abñ")


def test_missing_bytes():
    """A byte without a token is named, and nothing is dropped."""
    with pytest.raises(ValueError, match="0x63 of 'ac' has no token"):
        Tokenizer(Vocabulary((b"a",), [], []), splitter("gpt2")).encode("ac")


def test_modes_of_special_without_special_tokens():
    """A mode that there is not is an error also where it would not matter."""
    tokenizer = Tokenizer(Vocabulary(BYTES, [], []), splitter("gpt2"))
    for call in (tokenizer.encode, lambda text, special: tokenizer.encode_batch([text], special=special)):
        with pytest.raises(ValueError, match="special='no': expected one of"):
            call("text", special="no")
        with pytest.raises(ValueError, match="special='no': expected one of"):
            call("", special="no")


def test_texts_that_must_not_be_cut(gpt2):
    """NUL, and a space before whitespace that is rare, also beside texts that can be cut."""
    texts = ["a\0 b", "one \xa0two", "one two", "one \x0b\n two", " \u3000", "\0"]
    assert gpt2.encode_batch(texts) == [row.ids for row in huggingface().encode_batch(texts)]


@pytest.mark.slow
def test_hundred_thousand_words(gpt2, gpt4):
    """A hundred thousand distinct words that are there wherever Python is, and twenty thousand odd strings."""
    texts, odd = [*real_texts(), *sorted(unicode_names())], odd_texts(20_000, seed=3)
    for tokenizer, theirs in (
        (gpt4, tiktoken_of(ranks()).encode_ordinary_batch),
        (gpt2, lambda texts: [row.ids for row in huggingface().encode_batch_fast(texts)]),
    ):
        words = {word for text in texts for word in tokenizer.splitter.words(text)}
        assert len(words) >= 100_000 and len(odd) >= 20_000
        for some in (sorted(words), odd, texts):  # every word as a text of its own, too
            assert tokenizer.encode_batch(some) == theirs(some)


def test_odd_strings_are_there():
    """The list of odd strings holds what it is meant to."""
    assert "" in ODD and any(len(text) > 900 for text in ODD)
