"""Encoding in several processes: the same ids, errors as in one, and nobody is left behind."""

import os
import threading

import pytest

from jaxopt_lite import bpe
from jaxopt_lite.bpe import parallel
from jaxopt_lite.bpe.workers import Workers
from tests.bpe.test_corpus import children, linux, long_text
from tests.faults import Fault, failing_at, lines

PROCESSES = 3


@pytest.fixture
def small_parts(monkeypatch):
    """Parts so small that there are many, and the parts that were answered by arrays, which only workers send."""
    monkeypatch.setattr(parallel, "_PART", 500)
    sent = []

    class Watched(Workers):
        def __init__(self, what, here, task, processes, done):
            super().__init__(what, here, task, processes, lambda *answer: (sent.append(answer[1]), done(*answer)))

        def put(self, message, key):
            """Not before a worker has shown that it is there."""
            super().put(message, key)
            while self.threads and not sent and self.failure is None:
                self.threads[0].join(0.01)

    monkeypatch.setattr(parallel, "Workers", Watched)
    return sent


def texts_of(number=40):
    return [long_text("ascii", 30)[k * 37 : 900 + k] for k in range(number)] + ["", "a\0b", "", long_text("odd", 20)]


@pytest.fixture(scope="module")
def tokenizers():
    texts = texts_of()
    settings = [dict(pattern="gpt4"), dict(pattern=r"\w+|."), dict(level="char", pattern="whitespace", end_of_word="_")]
    made = [bpe.train(texts, merges=60, progress=False, **each) for each in settings]  # pyright: ignore
    return [*made, bpe.train(texts, merges=40, special_tokens=["<end>"], progress=False)]


def test_the_same_ids(small_parts, tokenizers):
    """Of every kind of words, with special tokens between them, and again, when more is known here."""
    texts = texts_of()
    for tokenizer in tokenizers:
        given = [f"<end>{text}<end>" for text in texts] if tokenizer.special_tokens else texts
        alone = [tokenizer.encode(text, special="encode") for text in given]
        for _ in range(2):
            small_parts.clear()
            assert tokenizer.encode_batch(given, special="encode", processes=PROCESSES) == alone
            assert any(isinstance(answer, tuple) for answer in small_parts)
        padded, lengths = tokenizer.encode_batch(given, special="encode", length=2000, processes=2)
        assert [row[:size].tolist() for row, size in zip(padded, lengths, strict=True)] == alone


def test_no_texts(tokenizers):
    assert tokenizers[0].encode_batch([], processes=PROCESSES) == []
    assert tokenizers[0].encode_batch(["", ""], processes=PROCESSES) == [[], []]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", None])
def test_what_is_no_number_of_processes(tokenizers, wrong):
    with pytest.raises((ValueError, TypeError), match="processes"):
        tokenizers[0].encode_batch(["a"], processes=wrong)


def test_what_has_no_token_is_refused_as_in_one_process(small_parts):
    """Wherever it was met; of several the first."""
    tokenizer = bpe.train(["ab ab b a"], merges=1, level="char", pattern="whitespace", end_of_word="_", progress=False)
    texts = ["ab a " * 40] * 30
    texts[7:7], texts[20:20] = ["ab x"], ["ab y"]
    with pytest.raises(ValueError, match="'x'.*has no token"):
        tokenizer.encode_batch(texts, processes=PROCESSES)


@linux
def test_a_worker_that_dies_is_reported(small_parts, tokenizers, monkeypatch):
    """With what to do about it; nobody is left."""
    before, encode = children(), bpe.encode.Encoder.encode

    def kill(*given):
        for pid in children() - before:
            os.kill(int(pid), 9)
        return encode(*given)

    monkeypatch.setattr(bpe.encode.Encoder, "encode", kill)
    with pytest.raises(RuntimeError, match="encoding ended with exit code -9.*processes=1"):
        tokenizers[0].encode_batch(texts_of(200), processes=2)
    assert children() == before


@linux
@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_at_any_line_leaves_no_worker_behind(monkeypatch, tokenizers, every):
    """Neither running nor as a zombie, whatever the line; the next ids are right."""
    monkeypatch.setattr(parallel, "_PART", 2000)
    texts, raised = texts_of(8), 0
    before, threads = children(), threading.active_count()

    def encode():
        return tokenizers[0].encode_batch(texts, processes=PROCESSES)

    expected = encode()
    for number, line in enumerate(lines(encode, "bpe/parallel", "bpe/workers")[::every]):
        error = (KeyboardInterrupt, Fault)[number % 2]
        try:
            with failing_at(line, error, 1 + number % 2):
                encode()
        except error:
            raised += 1
        assert (children(), threading.active_count()) == (before, threads), line
    assert raised > 20 / every and encode() == expected
