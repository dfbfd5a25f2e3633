"""Training from text: the same merges as other trainers, settings, going on later, and what cannot be meant."""

import os
import random
import subprocess
import sys
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import jax
import numpy as np
import pytest
import rustbpe
import sentencepiece
from subword_nmt.learn_bpe import learn_bpe
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as HuggingFace

from jaxopt_lite import bpe
from jaxopt_lite.bpe import training
from jaxopt_lite.bpe.merges import Learner
from jaxopt_lite.bpe.reference import learn
from tests.bpe.corpora import laid_out
from tests.bpe.texts import sources
from tests.faults import Fault, failing_at, lines

CLASSIC = {"low": 5, "lower": 2, "newest": 6, "widest": 3}


pytestmark = pytest.mark.hardly_optimized  # all is of whole numbers


def few_words(seed, count=300):
    """A small text of made-up words, with many ties."""
    choice = random.Random(seed)
    return " ".join("".join(choice.choice("abcde") for _ in range(choice.randint(1, 9))) for _ in range(count))


def made(tokenizer):
    """The texts of both parts of every merge."""
    tokens = tokenizer.vocabulary.tokens
    return [(tokens[left], tokens[right]) for left, right in tokenizer.vocabulary.merges.tolist()]


def test_the_classic_example():
    """Sennrich, Haddow and Birch, algorithm 1, with the mark as a symbol of its own; ties to the smallest ids."""
    tokenizer = bpe.train(CLASSIC, merges=10, pattern="whitespace", end_of_word="_")
    assert made(tokenizer)[:5] == [(b"e", b"s"), (b"t", b"_"), (b"es", b"t_"), (b"l", b"o"), (b"lo", b"w")]
    assert tokenizer.vocabulary.counts[:5].tolist() == [9, 9, 9, 7, 7]
    ids = tokenizer.encode("lowest newest")
    assert [tokenizer.id_to_token(k) for k in ids] == [b"low", b"est_", b"newest_"]
    assert tokenizer.decode(ids) == "lowest newest"


# --- The same merges as others --------------------------------------------------------------------------------


def rust_tokens(text, size, pattern):
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter([text]), size, pattern=pattern)
    return [bytes(token) for token, _ in tokenizer.get_mergeable_ranks()]


def hugging_face(texts, size, pattern, **settings):
    tokenizer = HuggingFace(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False, **settings)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@pytest.mark.parametrize("pattern", ["gpt4", "gpt2"])
def test_the_merges_of_rustbpe(pattern):
    text = "".join(sources(300_000))
    tokenizer = bpe.train([text], 3000, pattern=pattern)
    assert list(tokenizer.vocabulary.tokens) == rust_tokens(text, 3000, tokenizer.splitter.pattern)


@pytest.mark.parametrize(
    "settings", [{}, {"min_frequency": 10}, {"max_token_length": 6}, {"special_tokens": ["<end>"]}]
)
def test_the_ids_of_hugging_face(settings):
    text = "".join(sources(300_000))
    tokenizer = bpe.train([text], 2000, pattern="gpt2", initial_alphabet="gpt2", **settings)
    if "max_token_length" in settings:  # theirs must be longer than any token that they make
        settings = {"max_token_length": settings["max_token_length"] + 1}
    theirs = hugging_face([text], 2000, tokenizer.splitter.pattern, **settings)
    sample = text[:50_000]
    assert tokenizer.vocab_size == theirs.get_vocab_size()
    assert tokenizer.encode(sample) == theirs.encode(sample).ids


def as_characters(words, mark_last=None, mark_first=None):
    """Words as rows over an alphabet of texts, where a mark may be part of the last character, or come first."""
    rows = []
    for word, count in words.items():
        texts = [*word]
        if mark_last:
            texts[-1] += mark_last
        rows.append(([mark_first, *texts] if mark_first else texts, count))
    alphabet = sorted({text for row, _ in rows for text in row})
    return [([alphabet.index(text) for text in row], count) for row, count in rows], alphabet


def learned(rows, alphabet, most, **settings):
    """Pairs of texts, by the learner on rows of any symbols."""
    learner = Learner(laid_out(rows), [text.encode() for text in alphabet], **settings)
    while len(learner.learned) < most and learner.step(most - len(learner.learned)):
        pass
    return [(learner.texts[left].decode(), learner.texts[right].decode()) for left, right, _ in learner.learned]


@pytest.mark.parametrize("seed", range(10))
def test_the_merges_of_subword_nmt(seed, tmp_path):
    text = few_words(seed)
    with open(tmp_path / "codes", "w") as codes, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learn_bpe(text.split("\n"), codes, 200, min_frequency=2)
    theirs = [tuple(line.split()) for line in (tmp_path / "codes").read_text().splitlines()[1:]]
    rows, alphabet = as_characters(Counter(text.split()), mark_last="</w>")
    assert learned(rows, alphabet, 200, tie="subword-nmt", min_frequency=2) == theirs


@pytest.mark.parametrize("seed", range(3))
def test_the_pieces_of_sentencepiece(seed, tmp_path):
    text = few_words(seed)
    (tmp_path / "text").write_text(text.replace(" ", "\n"))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "model"), vocab_size=120, model_type="bpe",
        normalization_rule_name="identity", character_coverage=1.0, split_by_number=False,
        split_by_unicode_script=False, hard_vocab_limit=False, minloglevel=3,
    )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "model.model"))
    theirs = [model.id_to_piece(k) for k in range(3, model.vocab_size()) if len(model.id_to_piece(k)) > 1]
    rows, alphabet = as_characters(Counter(text.split()), mark_first="▁")
    mine = learned(rows, alphabet, len(theirs), tie="sentencepiece", max_length=16, lengths=[1] * len(alphabet))
    assert [left + right for left, right in mine] == theirs


# --- Settings -------------------------------------------------------------------------------------------------


def test_ids_are_special_tokens_then_the_alphabet_then_the_mark_then_merges():
    tokenizer = bpe.train(CLASSIC, merges=1, pattern="whitespace", end_of_word="_", special_tokens=["<a>", "<b>"])
    tokens = tokenizer.vocabulary.tokens
    assert tokens[:2] == (b"<a>", b"<b>") and tokens[2:258] == tuple(bytes([k]) for k in range(256))
    assert tokens[258:] == (b"_", b"es")
    assert tokenizer.special_tokens == {"<a>": 0, "<b>": 1}


def test_characters_are_in_order_of_code_points():
    tokenizer = bpe.train({"übel": 3, "über": 2}, merges=2, level="char", initial_alphabet="z", unknown="<unk>")
    assert [token.decode() for token in tokenizer.vocabulary.tokens] == [
        "<unk>", "b", "e", "l", "r", "z", "ü", "be", "übe",
    ]  # fmt: skip
    assert tokenizer.encode("über") == [8, 4] and tokenizer.encode("ey")[1] == 0


def test_the_unknown_in_a_text_is_neither_split_nor_counted():
    """As every special token, and as with `extend`."""
    corpus, settings = ["x<unk>ab<unk>ab"], dict(level="char", unknown="<unk>")
    whole = bpe.train(corpus, merges=1, **settings)
    assert whole.vocabulary.tokens == (b"<unk>", b"a", b"b", b"x", b"ab")
    assert whole == bpe.train(corpus, merges=1, extend=bpe.train(corpus, merges=0, **settings))
    assert whole == bpe.train(corpus, merges=1, special_tokens=["<unk>"], **settings)


def test_bytes_stand_for_characters_that_have_no_symbol():
    tokenizer = bpe.train({"abc": 3}, merges=1, level="char", byte_fallback=True)
    assert tokenizer.decode(tokenizer.encode("ab€")) == "ab€"


def test_special_tokens_are_cut_out_of_the_text():
    plain = bpe.train(["low lower", "lowest"], merges=3)
    special = bpe.train(["low lower<end>lowest"], merges=3, special_tokens=["<end>"])
    assert made(plain) == made(special)


def test_bytes_that_are_not_utf8_are_kept_on_request(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(b"\xff\xfd " * 5)
    with pytest.raises(ValueError, match="bytes"):
        bpe.train(path, merges=1)
    tokenizer = bpe.train(path, merges=1, errors="surrogateescape")
    assert tokenizer.vocabulary.tokens[-1] == b"\xff\xfd"


def test_a_text_that_is_used_up_says_so():
    with pytest.warns(UserWarning, match="nothing left to merge after 2 of 50 merges"):
        tokenizer = bpe.train({"abc": 1}, merges=50)
    assert tokenizer.vocab_size == 258


@pytest.mark.parametrize("corpus", [{}, [], [""], {"a": 0}])
def test_nothing_to_learn_from(corpus):
    with pytest.warns(UserWarning, match="nothing left"):
        assert bpe.train(corpus, merges=3).vocab_size == 256


def test_a_vocabulary_as_large_as_the_alphabet_has_no_merges():
    assert bpe.train(CLASSIC, 256).vocab_size == 256


def test_a_vocabulary_smaller_than_what_there_is_before_the_first_merge_is_refused():
    """At byte level before anything is read."""

    def texts():
        raise AssertionError("read")
        yield

    with pytest.raises(ValueError, match="vocab_size=200: expected at least 256"):
        bpe.train(texts(), 200)
    with pytest.raises(ValueError, match="expected at least 258"):
        bpe.train(texts(), 257, special_tokens=["<a>", "<b>"])
    with pytest.raises(ValueError, match="expected at least 256"):
        bpe.train(texts(), 100, level="char", byte_fallback=True)
    with pytest.raises(ValueError, match="expected at least 10"):
        bpe.train(CLASSIC, 9, level="char")
    with pytest.raises(ValueError, match="expected at least 259"):
        bpe.train(CLASSIC, 258, extend=bpe.train(CLASSIC, 259))


# --- Going on later -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1, 40, 120])
def test_extending_on_the_same_text_is_as_if_it_had_been_one_run(first):
    text = [few_words(1)]
    whole = bpe.train(text, merges=120)
    part = bpe.train(text, merges=first)
    assert bpe.train(text, merges=120 - first, extend=part).vocabulary == whole.vocabulary


def test_extending_on_other_text_keeps_the_old_merges():
    first = bpe.train([few_words(1)], merges=30, special_tokens=["<end>"])
    more = bpe.train([few_words(2)], first.vocab_size + 30, extend=first)
    assert more.vocabulary.tokens[: first.vocab_size] == first.vocabulary.tokens
    assert np.array_equal(more.vocabulary.merges[:30], first.vocabulary.merges) and len(more.vocabulary.merges) == 60
    text = few_words(3)
    assert more.decode(more.encode(text)) == text and len(more.encode(text)) < len(first.encode(text))


def test_an_extended_tokenizer_of_characters_learns_around_what_it_does_not_know():
    first = bpe.train({"aab": 3}, merges=1, level="char", unknown="<unk>")
    more = bpe.train({"aabxaab": 5}, merges=1, extend=first)
    assert more.vocabulary.tokens[-1] == b"aab" and more.vocabulary.counts[-1] == 10


def stops_after(rounds, monkeypatch):
    """Ctrl-C after so many rounds."""
    step, done = Learner.step, []

    def interrupted(self, most):
        if len(done) == rounds:
            raise KeyboardInterrupt
        done.append(1)
        return step(self, most)

    monkeypatch.setattr(Learner, "step", interrupted)


def test_an_interrupted_run_keeps_what_it_has_learned_and_goes_on_from_it(monkeypatch, tmp_path):
    text, path = [few_words(4)], tmp_path / "run"
    whole = bpe.train(text, merges=100)
    with monkeypatch.context() as patch:
        stops_after(6, patch)
        with pytest.warns(UserWarning, match=r"interrupted after \d+ of 100 merges"):
            part = bpe.train(text, merges=100, checkpoint=path)
    known = len(part.vocabulary.merges)
    assert 0 < known < 100 and made(part) == made(whole)[:known]
    assert bpe.train(text, merges=100, checkpoint=path).vocabulary == whole.vocabulary
    assert bpe.train(text, merges=50, checkpoint=path).vocabulary == bpe.train(text, merges=50).vocabulary


def test_checkpoints_are_written_on_the_way(monkeypatch, tmp_path):
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    written = []
    monkeypatch.setattr(training, "write_checkpoint", lambda path, mark, learned: written.append(len(learned)))
    bpe.train([few_words(4)], merges=60, checkpoint=tmp_path / "run")
    assert len(written) > 2 and written == sorted(written) and written[-1] == 60


def test_a_run_outlives_a_full_disk(monkeypatch, tmp_path):
    """The old checkpoint stays, what is learned is returned, and a later run goes on."""
    text, path = [few_words(4)], tmp_path / "run"
    bpe.train(text, merges=5, checkpoint=path)
    before, whole = path.read_bytes(), bpe.train(text, merges=60).vocabulary
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match=r"run' cannot be written \(No space left"):
        patch.setattr("os.fsync", full)
        assert bpe.train(text, merges=60, checkpoint=path).vocabulary == whole
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["run"]
    assert bpe.train(text, merges=60, checkpoint=path).vocabulary == whole


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run"
    bpe.train([few_words(4)], merges=5, checkpoint=path)
    text, first = {"corpus": [few_words(4)]}, bpe.train(["ab"], merges=1)
    for other in ({"corpus": [few_words(5)]}, text | {"min_frequency": 2}, text | {"extend": first}):
        with pytest.raises(ValueError, match="of another run"):
            bpe.train(other.pop("corpus"), merges=5, checkpoint=path, **other)


def test_a_tokenizer_is_extended_from_a_checkpoint(tmp_path):
    """What the checkpoint says is made of what the tokenizer's own merges have made."""
    text, path = [few_words(4)], tmp_path / "run"
    first, whole = bpe.train(text, merges=20), bpe.train(text, merges=60).vocabulary
    for more in (1, 15, 40, 40):
        learned = bpe.train(text, merges=more, extend=first, checkpoint=path).vocabulary
        assert learned.merges.tolist() == whole.merges[: 20 + more].tolist()
        assert learned.counts.tolist() == whole.counts[: 20 + more].tolist()


def test_a_checkpoint_of_words_with_a_mark_is_not_one_of_words_without(tmp_path):
    """Also where a letter is called as the mark and has its id."""
    path, settings = tmp_path / "run", dict(merges=1, level="char", pattern="whitespace")
    marked = bpe.train({"ab": 5, "b": 9}, end_of_word="~", checkpoint=path, **settings).vocabulary
    assert marked.tokens[:3] == bpe.train({"ab": 5, "b": 9}, initial_alphabet="~", **settings).vocabulary.tokens[:3]
    with pytest.raises(ValueError, match="of another run"):
        bpe.train({"ab": 5, "b": 9}, initial_alphabet="~", checkpoint=path, **settings)


def test_a_checkpoint_of_whole_words_is_not_one_of_words_that_are_merged(tmp_path):
    """Nothing is learned of a word that is a token by itself."""
    counts, first = {"hello": 10, "help": 4, "elf": 3}, bpe.train({"ab": 5}, merges=1)
    v = replace(first.vocabulary, tokens=(*first.vocabulary.tokens, b"hello"))
    merged, whole = (bpe.Tokenizer(replace(v, whole_words=kind), first.splitter) for kind in (False, True))
    learned = bpe.train(counts, merges=3, extend=whole, checkpoint=tmp_path / "run").vocabulary
    assert learned.counts[1:].tolist() == [7, 4, 4]  # "el", "hel", "help"
    with pytest.raises(ValueError, match="of another run"):
        bpe.train(counts, merges=3, extend=merged, checkpoint=tmp_path / "run")


def test_another_run_may_begin_to_write_the_same_checkpoint(monkeypatch, tmp_path):
    """What the first of them saves stays, and the other says so; of two runs that learn the same, the longer stays."""
    path, step = tmp_path / "run", Learner.step

    def meanwhile(text, merges):
        with monkeypatch.context() as patch:
            patch.setattr(Learner, "step", step)
            bpe.train([text], merges=merges, checkpoint=path)

    def run(other, merges):
        path.unlink(missing_ok=True)

        def after_another(*args):
            if not path.exists():
                meanwhile(other, merges)
            return step(*args)

        with monkeypatch.context() as patch:
            patch.setattr(Learner, "step", after_another)
            learned = bpe.train([few_words(4)], merges=9, checkpoint=path).vocabulary
        assert learned == whole

    whole = bpe.train([few_words(4)], merges=9).vocabulary
    with pytest.warns(UserWarning, match="of another run.* This run has not written it"):
        run(few_words(5), 5)
    meanwhile(few_words(5), 7)  # it goes on
    run(few_words(4), 12)
    before = path.read_bytes()
    meanwhile(few_words(4), 12)
    assert path.read_bytes() == before


def test_numbers_and_words_of_numpy_are_those_of_python_to_a_checkpoint(tmp_path):
    words, counts = np.unique(["ab", "ab", "cab", "b"], return_counts=True)
    numbers = dict(min_frequency=np.int64(1), max_token_length=np.int32(9))
    bpe.train(dict(zip(words, counts, strict=True)), merges=np.int8(1), checkpoint=tmp_path / "run", **numbers)
    plain = {"ab": 2, "cab": 1, "b": 1}
    more = bpe.train(plain, merges=2, max_token_length=9, checkpoint=tmp_path / "run")
    assert more.vocabulary == bpe.train(plain, merges=2).vocabulary


@pytest.mark.parametrize("content", [b"", b"something else", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "run"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a checkpoint"):
        bpe.train([few_words(4)], merges=5, checkpoint=path)
    assert path.read_bytes() == content


FOREIGN = {
    "an array": lambda file: np.save(file, np.arange(3)),
    "other arrays": lambda file: np.savez(file, a=np.arange(3)),
    "objects": lambda file: np.savez(file, fingerprint=np.array("x"), merges=np.array([{}, {}]), counts=np.arange(2)),
    "floats": lambda file: np.savez(file, fingerprint=np.array("x"), merges=np.ones((2, 2)), counts=np.arange(2)),
    "triples": lambda file: np.savez(
        file, fingerprint=np.array("x"), merges=np.ones((2, 3), np.int32), counts=np.arange(2)
    ),
    "a count too many": lambda file: np.savez(
        file, fingerprint=np.array("x"), merges=np.ones((2, 2), np.int32), counts=np.arange(3)
    ),
    "a number for a text": lambda file: np.savez(
        file, fingerprint=np.array(3), merges=np.ones((2, 2), np.int32), counts=np.arange(2)
    ),
    "a fraction of a count": lambda file: np.savez(
        file, fingerprint=np.array("x"), merges=np.ones((2, 2), np.int32), counts=np.ones(2)
    ),
}


@pytest.mark.parametrize("write", FOREIGN.values(), ids=FOREIGN)
def test_other_files_of_numpy_are_refused_before_anything_is_counted(tmp_path, write):
    with open(tmp_path / "run", "wb") as file:
        write(file)

    def texts():
        raise AssertionError("read")
        yield

    with pytest.raises(ValueError, match=r"run' is not a checkpoint"):
        bpe.train(texts(), merges=5, checkpoint=tmp_path / "run")


def test_a_checkpoint_that_was_cut_or_altered_is_refused(tmp_path):
    """Wherever it was cut, and whatever byte was changed, unless it says the same."""
    path, text = tmp_path / "run", [few_words(4)]
    whole = bpe.train(text, merges=9, checkpoint=path).vocabulary
    data = path.read_bytes()
    for k in range(0, len(data), 13):
        path.write_bytes(data[:k])
        with pytest.raises(ValueError, match="run'.* checkpoint|run' is of another run"):
            bpe.train(text, merges=9, checkpoint=path)
        path.write_bytes(data[:k] + bytes([data[k] ^ 16]) + data[k + 1 :])
        try:
            assert bpe.train(text, merges=9, checkpoint=path).vocabulary == whole
        except ValueError as error:
            assert "run'" in str(error)


def test_a_checkpoint_of_other_merges_than_its_checksum_says_is_refused(tmp_path):
    """Whole as a zip file, of merges that would fit the words, but not those that were learned."""
    path, text = tmp_path / "run", [few_words(4)]
    bpe.train(text, merges=9, checkpoint=path)
    with np.load(path) as file:
        arrays = dict(file)
    for name in ("merges", "counts"):
        with open(path, "wb") as file:
            np.savez(file, **arrays | {name: arrays[name][::-1]})
        with pytest.raises(ValueError, match="run' is not a checkpoint .*the checksum does not match the merges"):
            bpe.train(text, merges=9, checkpoint=path)


@pytest.mark.parametrize("learned", [
    [(97, 98, 3), (97, 98, 3)], [(97, 999, 3)], [(97, -1, 3)], [(97, 256, 3)], [(2**31 - 1, 97, 1)],
    [(97, 97, 3), *((k, k, 3) for k in range(256, 320))],
])  # fmt: skip
def test_merges_that_do_not_fit_are_refused(tmp_path, learned):
    """Of the right run, so that only the merges tell."""
    path, text = tmp_path / "run", [few_words(4)]
    bpe.train(text, merges=9, checkpoint=path)
    with np.load(path) as file:
        mark = str(file["fingerprint"])
    training.write_checkpoint(path, mark, learned)
    with pytest.raises(ValueError, match=r"run' does not fit together"):
        bpe.train(text, merges=9, checkpoint=path)


def test_places_where_no_checkpoint_can_be_are_told_before_the_work(tmp_path, monkeypatch):
    """As what they are; a file that may not be read is not called a foreign one."""

    def texts():
        raise AssertionError("read")
        yield

    with pytest.raises(FileNotFoundError, match="there is no folder"):
        bpe.train(texts(), merges=1, checkpoint=tmp_path / "none" / "run")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        bpe.train(texts(), merges=1, checkpoint=tmp_path)

    with monkeypatch.context() as patch:  # as the system says it of a folder for reading
        patch.setattr("os.access", lambda path, mode: not (path == tmp_path and mode == os.W_OK))
        with pytest.raises(PermissionError, match="is not writable"):
            bpe.train(texts(), merges=1, checkpoint=tmp_path / "run")

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", denied)
    with pytest.raises(PermissionError, match="run"):
        bpe.train(texts(), merges=1, checkpoint=tmp_path / "run")


def test_a_shorter_run_leaves_a_longer_checkpoint(tmp_path):
    """Nothing that was learned is lost."""
    path, text = tmp_path / "run", [few_words(4)]
    bpe.train(text, merges=20, checkpoint=path)
    before = path.read_bytes()
    assert len(bpe.train(text, merges=5, checkpoint=path).vocabulary.merges) == 5
    assert path.read_bytes() == before


def test_a_checkpoint_of_no_text(tmp_path):
    """Also where there is not even a symbol."""
    for level, size in (("char", 0), ("byte", 256)):
        for _ in range(2):
            tokenizer = bpe.train([], merges=0, level=level, checkpoint=tmp_path / level)
            assert tokenizer.vocab_size == size


def test_a_checkpoint_behind_a_link(tmp_path):
    """The file that it points to is written, also where there is none yet."""
    text = [few_words(4)]
    (tmp_path / "link").symlink_to(tmp_path / "run")
    part = bpe.train(text, merges=5, checkpoint=tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "run").is_file()
    assert bpe.train(text, merges=5, checkpoint=tmp_path / "run").vocabulary == part.vocabulary


# --- Broken off anywhere ----------------------------------------------------------------------------------------

RUNS = {
    "a run": (False, {"pattern": "whitespace", "end_of_word": "_"}),
    "a run with a checkpoint": (True, {"level": "char", "unknown": "<unk>", "max_token_length": 4}),
    "a longer one with a checkpoint": (True, {"extend": True, "tie": "subword-nmt"}),
}


@pytest.mark.parametrize("every", [14, pytest.param(1, marks=pytest.mark.slow)])  # lines
@pytest.mark.parametrize(("checkpoint", "settings"), RUNS.values(), ids=RUNS)
def test_an_error_at_any_line_of_a_run(tmp_path, monkeypatch, checkpoint, settings, every):
    """It raises, or gives a tokenizer that fits together; with a checkpoint the next run has the whole result."""
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("os.fsync", lambda _: None)  # slow, and there is no power cut here
    text, path = Counter(few_words(6, 60).split()), tmp_path / "run"
    settings = settings | dict(progress=False, merges=6)
    if "extend" in settings:
        settings["extend"] = bpe.train(text, merges=3)
    more = {"checkpoint": path} if checkpoint else {}
    whole = bpe.train(text, **settings).vocabulary
    for number, line in enumerate(lines(lambda: bpe.train(text, **settings, **more), "bpe", "files")[::every]):
        path.unlink(missing_ok=True)
        error, part = (Fault, KeyboardInterrupt)[number % 2], None
        with warnings.catch_warnings(), suppress(error), failing_at(line, error, 1 + number % 3):
            warnings.simplefilter("ignore")
            part = bpe.train(text, **settings, **more).vocabulary
        if part is not None:
            size, made = len(part.tokens), len(part.merges)
            assert part.tokens == whole.tokens[:size] and part.merges.tolist() == whole.merges[:made].tolist(), line
            assert size == len(whole.tokens) - len(whole.merges) + made
            assert part.counts.tolist() == whole.counts[:made].tolist()
        if part is None or checkpoint:
            assert bpe.train(text, **settings, **more).vocabulary == whole, line
        assert set(os.listdir(tmp_path)) <= {"run"}, line


TOLD_TO_END = """
import os, signal, sys, threading, time, warnings
from pathlib import Path
from jaxopt_lite import bpe
from jaxopt_lite.bpe.merges import Learner
from jaxopt_lite.bpe.reference import learn

mode, path, step, done = sys.argv[1], Path(sys.argv[2]), Learner.step, []
fsync = os.fsync

def told_to_end():
    done.append(1)
    if len(done) == (1 if mode == "last" else 6):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)

def slow(self, most):
    told_to_end()
    return step(self, most)

def slow_disk(number):
    told_to_end()
    fsync(number)

def mine(*_):
    print("mine", path.exists())

if mode == "last":  # while the checkpoint of the end is written
    os.fsync = slow_disk
else:
    Learner.step = slow
if mode == "handled":
    signal.signal(signal.SIGTERM, mine)
run = lambda: bpe.train(["the quick brown fox jumps over the lazy dog " * 9], merges=30, checkpoint=path)
if mode == "thread":
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
else:
    run()
print("at the end", signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, mine))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("mode", ["main", "last", "handled", "thread"])
def test_sigterm_ends_a_run_and_saves_it_first(tmp_path, mode):
    """In the main thread, and where nobody else handles the signal; it ends the process as it would have."""
    path = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", TOLD_TO_END, mode, path], capture_output=True, text=True, timeout=60)
    if mode == "handled":
        assert (done.returncode, done.stdout) == (0, "mine False\nat the end True\n"), done.stderr
        return
    assert (done.returncode, done.stdout) == (-15, ""), done.stderr
    assert path.exists() == (mode != "thread")
    text = ["the quick brown fox jumps over the lazy dog " * 9]
    if mode != "thread":
        with np.load(path) as file:
            assert 0 < len(file["merges"]) < 30 or mode == "last"
    assert bpe.train(text, merges=30, checkpoint=path).vocabulary == bpe.train(text, merges=30).vocabulary


# --- What cannot be meant -------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings, message", [
    ({}, "expected exactly one"),
    ({"vocab_size": 300, "merges": 3}, "expected exactly one"),
    ({"merges": -1}, "not negative"),
    ({"merges": 2.5}, "expected a whole number"),
    ({"merges": 1, "min_frequency": True}, "expected a whole number"),
    ({"merges": 1, "tie": "random"}, "expected one of"),
    ({"merges": 1, "level": "word"}, "expected one of"),
    ({"merges": 1, "byte_fallback": True}, "level='char'"),
    ({"merges": 1, "special_tokens": "<end>"}, "expected a list"),
    ({"merges": 1, "special_tokens": ["<a>", "<a>"]}, "distinct strings"),
    ({"merges": 1, "initial_alphabet": "xyz"}, "expected one of"),
    ({"merges": 1, "end_of_word": "_"}, "whitespace"),
    ({"merges": 1, "pattern": "("}, "pattern"),
])  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        bpe.train(CLASSIC, **settings)


def test_settings_that_the_tokenizer_to_extend_decides_are_refused():
    first = bpe.train(CLASSIC, merges=1)
    for settings in ({"pattern": "gpt2"}, {"level": "char"}, {"initial_alphabet": "gpt2"}):
        with pytest.raises(ValueError, match="the tokenizer to extend decides"):
            bpe.train(CLASSIC, merges=1, extend=first, **settings)
    with pytest.raises(ValueError, match="'a', which is a token of extend="):
        bpe.train(CLASSIC, merges=1, extend=first, special_tokens=["a"])


def test_what_stands_for_unknown_characters_is_merged_with_nothing():
    """Its bytes would become the letters of their names."""
    first = bpe.train(["low low # #"], merges=2, level="char", byte_fallback=True)
    more = bpe.train(["é#é#é# low\n#low\n# lower"], merges=3, extend=first)
    assert more.vocabulary.tokens[-3:] == (b"low", b" low", b"#low")
    assert more.decode(more.encode("é#low\n#low")) == "é#low\n#low"


@pytest.mark.parametrize("level", ["byte", "char"])
def test_merges_in_no_order_are_learned_on(level):
    """As files have them, where a merge may come before the one that makes its part."""
    plain = bpe.train([], merges=0, level=level, initial_alphabet=None if level == "byte" else "abcd").vocabulary
    size, (a, b, c) = len(plain.tokens), (plain.tokens.index(letter) for letter in (b"a", b"b", b"c"))
    tokens, merges = (*plain.tokens, b"abc", b"ab"), [[size + 1, c], [a, b]]
    late = replace(plain, tokens=tokens, merges=merges, merged=[size, size + 1], counts=None)
    first = bpe.Tokenizer(late, bpe.splitter("gpt4"))
    words = {"abc": 5, "abcd": 3, "dabcabc": 2, "cdcd": 2, "ab": 1}
    more = bpe.train(words, merges=5, extend=first).vocabulary
    slowly = learn([(first.encode(word), count) for word, count in words.items()], first=size + 2, most=5)
    assert more.merges[2:].tolist() == [[left, right] for left, right, _ in slowly]
    assert bpe.Tokenizer(more, first.splitter).encode("dabcabc") == [more.tokens.index(b"dabcabc")]


@pytest.mark.parametrize("level", ["byte", "char"])
def test_counts_are_exact_up_to_what_64_bits_hold(level):
    """Beyond, a sum would begin again at the most negative number, and the most frequent pair would come last."""
    counts = bpe.train({"aaa": 2**59, "ab": 2**59 - 1}, merges=2, level=level).vocabulary.counts
    assert counts.tolist() == [2**60, 2**59]
    for words in ({"aaa": 2**62, "cd": 5}, {"ab": 2**62, "xab": 2**62}, {"ab": 2**63}):
        with pytest.raises(ValueError, match=r"symbols, each as often as the counts say; expected at most 4\.61e\+18"):
            bpe.train(words, merges=1, level=level)


def test_what_is_no_device_is_refused_before_the_work():
    with pytest.raises(TypeError, match=r"device='cpu' \(str\): expected a jax.Device"):
        bpe.train((1 / 0 for _ in range(1)), merges=1, device="cpu")


def test_a_device_learns_the_same_tokenizer():
    words, most = {}, 0  # of 400 symbols, so that the programs are those of the tests of `merges`
    for word, count in Counter(few_words(7).split()).items():
        if most + len(word) <= 400 - len("rest"):
            words[word], most = count, most + len(word)
    words["z" * (400 - most)] = 1
    assert bpe.train(words, merges=50, device=jax.devices()[0]).vocabulary == bpe.train(words, merges=50).vocabulary


@pytest.mark.parametrize("level", ["byte", "char"])
def test_words_that_are_tokens_as_a_whole_keep_their_ids(level):
    """As some of tiktoken's files have them, which no merge makes: nothing is learned from their letters."""
    plain = bpe.train([], merges=0, level=level, initial_alphabet=None if level == "byte" else "abcd").vocabulary
    vocabulary = replace(plain, tokens=(*plain.tokens, b"abc"), whole_words=True, counts=None)
    first = bpe.Tokenizer(vocabulary, bpe.splitter("gpt4"))
    words = {"abc": 50, "abcd": 3, "cdcd": 20, "ab": 1}
    more = bpe.train(words, merges=4, extend=first)
    slowly = learn([(first.encode(word), count) for word, count in words.items()], first=len(plain.tokens) + 1, most=4)
    assert more.vocabulary.merges.tolist() == [[left, right] for left, right, _ in slowly]
    assert more.encode("abc") == first.encode("abc") == [len(plain.tokens)]
    if level == "byte":  # also where merges make the same text of another word, which is said
        with pytest.warns(UserWarning, match=r"1 new tokens have the same text .* such as b'abc' with ids 256 and 258"):
            more = bpe.train({"xabc": 5, "yabc": 5}, merges=2, extend=first)
        assert more.encode("abc") == [len(plain.tokens)] and more.vocabulary.tokens[258] == b"abc"


def test_a_letter_like_the_mark_makes_no_equal_tokens(recwarn):
    first = bpe.train({"a": 9}, merges=1, pattern="whitespace", end_of_word="_")
    more = bpe.train({"a_b": 9, "a_c": 9}, merges=1, extend=first)
    assert more.vocabulary.tokens[-2:] == (b"a_", b"a_") and not recwarn.list


def test_an_extended_tokenizer_keeps_how_words_are_looked_up():
    first = replace(bpe.train([few_words(1)], merges=5).vocabulary, whole_words=True)
    more = bpe.train([few_words(2)], merges=5, extend=bpe.Tokenizer(first, bpe.splitter("gpt4")))
    assert more.vocabulary.whole_words
