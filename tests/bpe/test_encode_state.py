"""What is remembered between calls is right after any error or interruption, in threads, and in the child of a fork."""

import os
import pickle
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from threading import Lock

import numpy as np
import pytest

from jaxopt_lite import bpe
from jaxopt_lite.bpe import encode, pieces
from jaxopt_lite.bpe.tokenizer import Tokenizer
from jaxopt_lite.bpe.vocabulary import Vocabulary, once
from tests.bpe.test_tokenizer import BYTES, characters, marked
from tests.bpe.texts import sources
from tests.faults import Fault, failing_at, lines

WORDS = ["".join(random.Random(k).choices("abcdefghij", k=2 + k % 7)) for k in range(500)]


def text(seed, words=40):
    """Some words of a few hundred, so that texts share some of them."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


@pytest.fixture
def small(monkeypatch):
    """Everything is much: short texts go by pieces, memories are full soon, and a few words are merged together."""
    monkeypatch.setattr(encode, "_SHORT", 60)
    monkeypatch.setattr(encode, "_FEW", 4)
    monkeypatch.setattr(encode, "_WORDS", 9_000)
    monkeypatch.setattr(pieces, "_MOST_PIECES", 300)
    monkeypatch.setattr(pieces, "_BLOCK", 400)


@pytest.fixture(scope="module")
def trained():
    """Tokenizers of every way to encode: by pieces, by words, with whole words, with a mark, by characters."""
    corpus = [text(seed) for seed in range(30)]
    plain = bpe.train(corpus, 400, special_tokens=["<end>"])
    whole = (*BYTES, *plain.vocabulary.tokens[257:], b" abcde")
    merges = plain.vocabulary.merges - 1, plain.vocabulary.merged - 1
    return {
        "bytes": plain,
        "whole words": Tokenizer(Vocabulary(whole, *merges, whole_words=True), plain.splitter),
        "own pattern": bpe.train(corpus, 300, pattern=r"[a-e]+|[^a-e]+"),
        "mark": bpe.train(corpus, 300, pattern="whitespace", end_of_word="_"),
        "characters": bpe.train(corpus, merges=100, level="char"),
    }


def fresh(tokenizer):
    """The same tokenizer, which has met nothing."""
    return pickle.loads(pickle.dumps(tokenizer))


USES = {
    "encode": lambda tokenizer, some: tokenizer.encode(some),
    "long": lambda tokenizer, some: tokenizer.encode(some * 3),
    "batch": lambda tokenizer, some: tokenizer.encode_batch([some, "a", some[:90]]),
    "padded": lambda tokenizer, some: tokenizer.encode_batch([some, some[:90]], length=500),
    "special": lambda tokenizer, some: tokenizer.encode(f"{some}<end>{some}", special="encode"),
    "offsets": lambda tokenizer, some: tokenizer.encode(some, return_offsets=True),
    "decode": lambda tokenizer, some: tokenizer.decode(tokenizer.encode(some)[:20]),
}


KINDS = [("bytes", use) for use in USES]
KINDS += [(kind, use) for kind in ("whole words", "own pattern", "mark", "characters") for use in ("batch", "offsets")]


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])  # lines
@pytest.mark.parametrize(("kind", "use"), KINDS)
def test_ids_are_right_after_an_error_at_any_line(small, trained, kind, use, every):
    """The very next texts, old and new, have the ids that a new tokenizer gives them."""
    pure, tokenizer = fresh(trained[kind]), fresh(trained[kind])
    rounds = (1, 2) if use == "batch" else (1,)
    faults = [(line, times) for line in lines(lambda: USES[use](fresh(pure), text(0)))[::every] for times in rounds]
    known = pure.encode_batch([text(seed) for seed in range(len(faults))])
    for seed, (line, times) in enumerate(faults):
        if seed % 3 == 0:
            tokenizer = fresh(pure)  # for errors in what is worked out only once
        error = (Fault, KeyboardInterrupt)[seed % 2]
        with suppress(error), failing_at(line, error, times):
            USES[use](tokenizer, text(seed))
        tokenizer._encoder._lock = Lock()  # a signal cannot come between the end of a `with` and the release; this can
        for k in (seed, seed % 7)[: 1 + seed % 2]:
            assert tokenizer.encode(text(k)) == known[k], (line, times)


REFUSED = {
    "lone surrogate": ("bytes", "\ud800"),
    "lone surrogate in a long text": ("bytes", text(8, 600) + "\udfff"),
    "lone surrogate of whole words": ("whole words", text(9, 600) + " \ud800"),
    "lone surrogate of an own pattern": ("own pattern", text(9, 600) + " \ud800"),
    "lone surrogate before a mark": ("mark", text(9, 600) + " \ud800"),
    "unknown character": ("characters", "Z"),
    "unknown character in a long text": ("characters", text(10, 600) + " Z"),
}


@pytest.mark.parametrize(("kind", "refused"), REFUSED.values(), ids=REFUSED)
def test_ids_are_right_after_a_text_that_was_refused(trained, kind, refused):
    """Short ones and long ones, again and again."""
    tokenizer, pure = fresh(trained[kind]), fresh(trained[kind])
    for seed in range(20):
        for bad in (refused, f"{text(seed)} {refused} {text(seed + 1)}"):
            with pytest.raises(ValueError, match="lone surrogate|has no token"):
                tokenizer.encode_batch([text(seed), bad])
            with pytest.raises(ValueError, match="lone surrogate|has no token"):
                tokenizer.encode(bad, return_offsets=True)
        for words in (20, 700):
            assert tokenizer.encode(text(seed, words)) == pure.encode(text(seed, words))


def test_what_was_refused_takes_no_room(trained, monkeypatch):
    """A memory does not fill up with what is not in it."""
    monkeypatch.setattr(encode, "_WORDS", 50_000)
    tokenizer = fresh(trained["characters"])
    tokenizer.encode("abc")
    for k in range(300):
        with pytest.raises(ValueError, match="has no token"):
            tokenizer.encode(f"{text(k)} Z")
    assert tokenizer._encoder._words._size == fresh(trained["characters"])._encoder._words._size + 140 + 3 * 3


INTERRUPTED = """
import pickle, random, signal, sys

def stop(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, stop)
tokenizer, words = pickle.load(sys.stdin.buffer)
pure, draw = pickle.loads(pickle.dumps(tokenizer)), random.Random(3)
for k in range(30):
    some = " ".join([*draw.choices(words, k=30), *(hex(draw.getrandbits(40)) for _ in range(3000))])
    signal.setitimer(signal.ITIMER_REAL, 0.002 + 0.001 * k)
    try:
        tokenizer.encode(some)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
    assert tokenizer.encode(some) == pure.encode(some), k
"""


def test_ctrl_c_while_a_long_text_is_encoded(trained):
    """The signal itself, wherever it comes."""
    sent = pickle.dumps((trained["bytes"], WORDS))
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], input=sent, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


# --- Threads and processes --------------------------------------------------------------------------------------


def in_a_fork(action, seconds=20):
    """The exit status of a child that does something; fails where it hangs."""
    if (child := os.fork()) == 0:
        status = 1
        try:
            status = 0 if action() else 3
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
ignoring = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")


@forks
@ignoring
def test_a_process_that_forks_while_a_thread_encodes(trained):
    """Its children encode, with the tokenizer in use and with another."""
    tokenizer, other = fresh(trained["bytes"]), fresh(trained["whole words"])
    expected = [fresh(one).encode(text(5, 700)) for one in (tokenizer, other)]
    stop = threading.Event()

    def busy():
        seed = 0
        while not stop.is_set():
            for one in (tokenizer, other):
                one.encode(text(seed := seed + 1, 5000))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(8):
            time.sleep(0.01)
            assert in_a_fork(lambda: [one.encode(text(5, 700)) for one in (tokenizer, other)] == expected) == 0
    finally:
        stop.set()
        thread.join()


@forks
@ignoring
@pytest.mark.parametrize("line", ["self._table.numbers", "self._learn(", "known = self._known(set(words))"])
def test_a_fork_while_a_thread_is_inside(trained, line, monkeypatch):
    """The child forgets what the thread had half done; the thread itself goes on."""
    tokenizer, pure = fresh(trained["bytes"]), fresh(trained["bytes"])
    expected = pure.encode(text(6, 700)), pure.encode(text(7, 700))
    tokenizer.encode(text(1, 700))
    inside, go_on = threading.Event(), threading.Event()
    learn = pieces.Pieces._learn
    numbers = pieces.Table.numbers

    def wait(self, *arguments):
        inside.set()
        go_on.wait(30)
        return (numbers if line == "self._table.numbers" else learn)(self, *arguments)

    if line == "self._table.numbers":
        monkeypatch.setattr(pieces.Table, "numbers", wait)
    elif line == "self._learn(":
        monkeypatch.setattr(pieces.Pieces, "_learn", wait)
    else:
        of = tokenizer._encoder._words.fill

        def fill(*arguments):
            inside.set()
            go_on.wait(30)
            of(*arguments)

        monkeypatch.setattr(tokenizer._encoder._words, "fill", fill, raising=False)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(tokenizer.encode, text(6, 700))
        assert inside.wait(30)

        def child():
            go_on.set()
            monkeypatch.undo()
            return tokenizer.encode(text(7, 700)) == expected[1] and tokenizer.encode(text(6, 700)) == expected[0]

        try:
            assert in_a_fork(child) == 0
        finally:
            go_on.set()
        assert waiting.result() == expected[0] and tokenizer.encode(text(7, 700)) == expected[1]


@forks
@ignoring
def test_a_fork_while_a_thread_works_out_an_attribute():
    """Python 3.11's `cached_property` would hold a lock for the attribute of all instances."""
    inside, go_on = threading.Event(), threading.Event()

    class Slow:
        @once
        def value(self):
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                go_on.wait(30)
            return 5

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(lambda: Slow().value)
        assert inside.wait(30)
        try:
            assert in_a_fork(lambda: Slow().value == 5) == 0
        finally:
            go_on.set()
        assert waiting.result() == 5
    for kind in (Tokenizer, Vocabulary):
        assert not [name for name, value in vars(kind).items() if isinstance(value, cached_property)]


def test_threads_and_copies_of_one_tokenizer(trained, small):
    """Threads share it, while some of their texts are refused; a copy for another process gives the same ids."""
    tokenizer, pure = fresh(trained["bytes"]), fresh(trained["bytes"])
    expected = [pure.encode(text(seed)) for seed in range(200)]

    def encode(seed):
        if seed % 3 == 0:
            with pytest.raises(ValueError, match="surrogate"):
                tokenizer.encode(text(seed) + " \ud800")
        return tokenizer.encode(text(seed))

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(encode, range(200))) == expected
    assert fresh(tokenizer).encode_batch([text(seed) for seed in range(200)]) == expected


def test_copies_for_other_processes(trained, tmp_path):
    """Pickled into a fresh interpreter, as `spawn` does."""
    code = "import pickle, sys; t, texts = pickle.load(sys.stdin.buffer); print(t.encode_batch(texts))"
    tokenizer, texts = trained["whole words"], [text(3, 700), text(4)]
    tokenizer.encode(text(3, 700))
    sent = pickle.dumps((tokenizer, texts))
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, timeout=60, check=True)
    assert done.stdout.decode().strip() == str(tokenizer.encode_batch(texts))


def test_other_ways_to_encode_after_an_error(trained):
    """Tokenizers of the other tests' making: fallback bytes, marks and special tokens."""
    for tokenizer, some in (
        (characters(byte_fallback=True, fallback=np.arange(6, 262)), "abé ñ"),
        (marked(), "low lower newest"),
        (trained["bytes"], sources()[0][:500]),
    ):
        expected = fresh(tokenizer).encode(some)
        for line in lines(lambda t=tokenizer, s=some: fresh(t).encode(s)):
            broken = fresh(tokenizer)
            with suppress(Fault), failing_at(line):
                broken.encode(some)
            assert broken.encode(some) == expected, line
