"""Word counts are those of a plain count, however the corpus arrives, is cut, and is shared among processes."""

import bz2
import gzip
import io
import json  # noqa: F401  # which a line of code needs
import lzma
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from jaxopt_lite.bpe import corpus, counting, readers, workers
from jaxopt_lite.bpe.corpus import count_words
from jaxopt_lite.bpe.patterns import STOCK, Finder, splitter
from tests.bpe.test_patterns import ALPHABETS, odd_texts
from tests.faults import Fault, failing_at, lines

SCHEMES = [*STOCK, "whitespace", r"\w+"]
SPECIAL = ("<|end of text|>", "a\nb", "a", "'s")


def plain_count(texts, scheme: str, special_tokens=()) -> Counter[str]:
    """The same in two lines."""
    pieces = (piece for text in texts for special, piece in Finder(special_tokens).cut(text) if not special)
    return Counter(word for piece in pieces for word in splitter(scheme).words(piece))


def long_text(alphabet: str = "odd", pieces: int = 300) -> str:
    return " ".join(odd_texts(ALPHABETS[alphabet], pieces, seed=7))


@pytest.fixture
def small_blocks(monkeypatch):
    """Everything is large: files are read in a few bytes at a time, and workers start at once."""
    monkeypatch.setattr(readers, "BLOCK", 64)
    monkeypatch.setattr(corpus, "NEAR_THE_END", 8)
    monkeypatch.setattr(corpus, "SMALL", 100)


@pytest.mark.parametrize("special_tokens", [(), SPECIAL])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts(scheme: str, special_tokens: tuple[str, ...]):
    """An iterable of texts, in one go."""
    texts = list(odd_texts(ALPHABETS["surrogates"], 500))
    counts = count_words(iter(texts), splitter(scheme), special_tokens=special_tokens)
    assert counts == plain_count(texts, scheme, special_tokens)
    assert type(counts) is Counter and all(type(count) is int for count in counts.values())


@pytest.mark.parametrize("number", [6, pytest.param(60, marks=pytest.mark.slow)])  # of texts
@pytest.mark.parametrize("special_tokens", [(), SPECIAL])
@pytest.mark.parametrize("block", [1, 7, 50])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_cuts_change_no_word(
    monkeypatch, tmp_path, scheme: str, block: int, special_tokens: tuple[str, ...], number: int
):
    """Files and texts in the smallest of blocks count as whole ones do."""
    monkeypatch.setattr(readers, "BLOCK", block)
    monkeypatch.setattr(corpus, "NEAR_THE_END", 2)
    file = tmp_path / "text"
    for alphabet in ("ascii", "odd", "spaces"):
        for text in odd_texts(ALPHABETS[alphabet], number, seed=block):
            text = text.replace("!/", "!/<|end of text|>").lstrip("\0")  # with which no file of text begins
            file.write_bytes(text.encode())
            expected = plain_count([text], scheme, special_tokens)
            assert count_words(file, splitter(scheme), special_tokens=special_tokens, processes=1) == expected, repr(
                text
            )
            assert count_words([text], splitter(scheme), special_tokens=special_tokens, processes=1) == expected


@pytest.mark.parametrize("block", [1, 3, 7, 20])
def test_no_special_token_is_cut(monkeypatch, block):
    """Wherever it begins, and whatever looks like one."""
    monkeypatch.setattr(readers, "BLOCK", block)
    monkeypatch.setattr(corpus, "NEAR_THE_END", 2)
    special, choose, number = ("<|end of text|>",), random.Random(block), 0

    def found(text):
        return [piece for is_token, piece in Finder(special).cut(text) if is_token]

    for _ in range(100):
        text = "".join(choose.choices([*special, "<|end", " of", " text|>", " ", "\n", "a", "b c", "d" * 30], k=20))
        parts = [part for batch in corpus.batches([text], splitter("gpt4"), special, "strict") for part in batch.texts]
        assert "".join(parts) == text
        assert [token for part in parts for token in found(part)] == found(text), text
        number += len(parts)
    assert number > 200


@pytest.mark.parametrize("scheme", [*STOCK, "whitespace"])
def test_blocks_are_cut_where_lines_end(monkeypatch, scheme):
    """Text without spaces, such as Japanese, does not pile up."""
    monkeypatch.setattr(readers, "BLOCK", 4096)
    text = "日本語のテキスト。\n" * 10_000 + "x" * 10
    parts = [part for batch in corpus.batches([text], splitter(scheme), (), "strict") for part in batch.texts]
    assert "".join(parts) == text
    assert len(parts) == -(-len(text) // 4096) and max(map(len, parts)) <= 4096 + 100


@pytest.mark.parametrize(
    "scheme",
    ["gpt4", "whitespace", r"\w+"] + [pytest.param(name, marks=pytest.mark.slow) for name in STOCK if name != "gpt4"],
)
def test_processes_change_nothing(small_blocks, tmp_path, scheme: str):
    """One process and three find the same, special tokens and bytes that are not UTF-8 included."""
    files = [tmp_path / name for name in "abcd"]
    for file in files:
        file.write_bytes(long_text().encode() + b"\xff\xfe <|end of text|>" + file.name.encode())
    texts = [file.read_bytes().decode("utf-8", "surrogateescape") for file in files]
    settings = dict(special_tokens=SPECIAL, errors="surrogateescape")
    counts = [count_words(files, splitter(scheme), processes=number, **settings) for number in (1, 3)]
    assert counts[0] == counts[1] == plain_count(texts, scheme, SPECIAL)


def test_bounded_memory_changes_nothing(monkeypatch, small_blocks):
    """Chunks are given up when there are many, and counted again."""
    monkeypatch.setattr(counting, "MOST_PIECES", 5)
    texts = [long_text()]
    assert count_words(texts, splitter("gpt4"), processes=1) == plain_count(texts, "gpt4")


def test_files_and_texts_side_by_side(tmp_path):
    """Item by item: a path is a file, a str is a text; words do not go from one to the next."""
    file = tmp_path / "file"
    file.write_text("on")
    assert count_words(["on", file, "", "e"], splitter("gpt4")) == {"on": 2, "e": 1}
    assert count_words([], splitter("gpt4")) == count_words("", splitter("gpt4")) == {}
    assert count_words("one one", splitter("whitespace")) == {"one": 2}


def test_line_ends_stay_as_they_are(tmp_path):
    """Nothing is translated, and a mark at the beginning is text."""
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert count_words(tmp_path / "file", splitter("gpt4")) == {"\ufeffa": 1, "\r\n": 1, "b": 1}


def test_ready_counts():
    """They are checked and returned, as Python ints of any size."""
    counts = count_words({"a": np.int32(3), "b": 2**70, "": 0}, splitter("gpt4"))
    assert counts == Counter({"a": 3, "b": 2**70}) and type(counts["a"]) is int


@pytest.mark.parametrize(
    ("corpus", "error", "message"),
    [
        ({"a": -1}, ValueError, "'a' is -1"),
        ({"a": 1.0}, TypeError, "1.0 (float)"),
        ({"a": True}, TypeError, "bool"),
        ({b"a": 1}, TypeError, "expected str"),
        (b"text", TypeError, "pathlib.Path"),
        (3, TypeError, "pathlib.Path"),
        (["text", b"text"], TypeError, "item 1"),
    ],
)
def test_wrong_corpora(corpus, error: type[Exception], message: str):
    """Each says what is wrong with which item."""
    with pytest.raises(error) as caught:
        count_words(corpus, splitter("gpt4"))
    assert message in str(caught.value)


def test_wrong_files(tmp_path):
    """A str that names a file, a directory, a missing file."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="pathlib.Path"):
        count_words(str(file), splitter("gpt4"))
    for items in ([str(file)], ["a text", str(file)], (name for name in [str(file)]), {str(file): None}.keys()):
        with pytest.raises(ValueError, match="item [01] of the corpus.*map\\(pathlib.Path, names\\).*Counter"):
            count_words(items, splitter("gpt4"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        count_words([file, tmp_path / "missing"], splitter("gpt4"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        count_words(iter([tmp_path / "missing"]), splitter("gpt4"))


def test_texts_that_are_no_names_of_files(tmp_path, monkeypatch):
    """Names of folders, longer texts, and what stands behind the first hundred; and how to count the others anyway."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("a").write_text("content")
    split = splitter("gpt4")
    assert count_words(["folder", "a\n", "a ", "b", "", "x" * 5000, "\0"], split)["folder"] == 1
    assert count_words([*["b"] * 100, "a"], split) == {"b": 100, "a": 1}
    with pytest.raises(ValueError, match="item 99 of the corpus is 'a'"):
        count_words([*["b"] * 99, "a"], split)
    texts = ["a", "a b"]
    assert count_words(Counter(word for text in texts for word in split.words(text)), split) == {"a": 2, " b": 1}
    assert count_words(Counter(split.words("a")), split) == {"a": 1}
    assert count_words(map(Path, ["a"]), split) == {"content": 1}


NO_TEXT = {
    ".arrow": "pyarrow.feather", ".feather": "pyarrow.feather", ".zip": "unpack", ".tar": "unpack", ".tar.gz": "unpack",
    ".tgz": "unpack", ".7z": "unpack", ".pdf": "plain text", ".docx": "plain text", ".DOCX": "plain text",
    ".npy": "the texts that are in it",
}  # fmt: skip


@pytest.mark.parametrize("suffix", NO_TEXT)
def test_files_that_are_no_text_by_their_name(tmp_path, suffix):
    """The error says what to do, before anything is counted; text in other forms is text."""
    path = tmp_path / f"docs{suffix}"
    path.write_text("one two")
    first = tmp_path / "first.txt"
    first.write_text("one")
    for items in (path, [first, path], iter([first, path])):
        with pytest.raises(ValueError, match=f"docs{suffix}: a .* file is not plain text") as error:
            count_words(items, splitter("gpt4"))
        assert NO_TEXT[suffix] in str(error.value) and "read_text" in str(error.value)
    assert count_words([path.read_text()], splitter("gpt4"))["one"] == 1  # as it says


def test_files_of_text_have_any_other_name(tmp_path):
    for suffix in (".json", ".html", ".md", ".csv", ".xml", ".py", ".tex", ".1", "", ".txt", ".log"):
        path = tmp_path / f"name{suffix}"
        path.write_text("one two")
        assert count_words(path, splitter("gpt4")) == {"one": 1, " two": 1}


BEGINNINGS = {
    "UTF-16": ("one two".encode("utf-16"), "UTF-16"),
    "UTF-16, the other way round": (b"\xfe\xff\0a", "UTF-16"),
    "UTF-16 without a mark": ("one two".encode("utf-16-be"), "NUL"),
    "UTF-32": ("one".encode("utf-32"), "UTF-16"),
    "UTF-32, the other way round": (b"\0\0\xfe\xff\0\0\0a", "NUL"),
    "gzip": (gzip.compress(b"a"), "gzip"),
    "bzip2": (bz2.compress(b"a"), "bzip2"),
    "xz": (lzma.compress(b"a"), "xz"),
    "zstd": (b"(\xb5/\xfd abc", "zstd"),
    "zip": (b"PK\x03\x04abc", "archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "archive"),
    "PDF": (b"%PDF-1.7", "PDF"),
}


@pytest.mark.parametrize("errors", readers.ERRORS)
@pytest.mark.parametrize(("data", "said"), BEGINNINGS.values(), ids=BEGINNINGS)
def test_files_that_are_no_text_by_how_they_begin(tmp_path, data, said, errors):
    """Whatever is to become of bytes that are not UTF-8."""
    path = tmp_path / "file.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"file.txt: expected UTF-8; it is .*{said}"):
        count_words(path, splitter("gpt4"), errors=errors)


def test_a_splitter_by_its_name_alone_is_refused():
    with pytest.raises(TypeError, match="splitter='gpt4': expected a Splitter, as bpe.splitter"):
        count_words(["text"], "gpt4")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"errors": "loose"}, "surrogateescape"),
        ({"processes": 0}, "at least 1"),
        ({"special_tokens": ["<a>", ""]}, "special_tokens"),
        ({"special_tokens": "<a>"}, "expected a list"),
        ({"special_tokens": ["<a>", "<a>"]}, "distinct"),
        ({"special_tokens": ["<a>", 3]}, "3"),
        ({"special_tokens": b"<a>"}, "expected a list"),
        ({"special_tokens": 3}, "expected a list"),
        ({"processes": True}, "processes=True"),
        ({"processes": 2.0}, "processes=2.0"),
    ],
)
def test_wrong_settings(settings: dict, message: str):
    """Each names the argument and the choices."""
    with pytest.raises((ValueError, TypeError), match=message):
        count_words(["text"], splitter("gpt4"), **settings)


def test_bad_bytes(monkeypatch, tmp_path):
    """Strict says where; the others do what they say, wherever a block ends."""
    file = tmp_path / "file"
    file.write_bytes("aé".encode() * 5 + b"\xe2\x82" + b" b")
    for block in (1, 2, 3, 100):
        monkeypatch.setattr(readers, "BLOCK", block)
        with pytest.raises(ValueError, match="file: byte 15 is 'e2 82'.*surrogateescape"):
            count_words(file, splitter("whitespace"))
        text = "aé" * 5
        for errors, word in {
            "replace": text + "\ufffd",
            "ignore": text,
            "surrogateescape": text + "\udce2\udc82",
        }.items():
            assert count_words(file, splitter("whitespace"), errors=errors) == {word: 1, "b": 1}
    file.write_bytes(b"ab\xe2")
    with pytest.raises(ValueError, match="byte 2 is 'e2'"):
        count_words(file, splitter("whitespace"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("processes", [1, 2])
def test_progress(monkeypatch, small_blocks, processes: int):
    """By default a terminal sees it when the work is long; True and False force it."""

    def shown(texts: list[str], progress: bool | None, stderr: io.StringIO) -> bool:
        monkeypatch.setattr(sys, "stderr", stderr)
        count_words(texts, splitter("gpt4"), progress=progress, processes=processes)
        return "counting words" in stderr.getvalue()

    long = [long_text("ascii")]
    assert shown(long, None, Terminal())
    assert not shown(long, None, io.StringIO())
    assert not shown(long, False, Terminal())
    assert not shown(["short"], None, Terminal())
    assert shown(long, True, io.StringIO()) and shown(["short"], True, io.StringIO())


def children() -> set[str]:
    """The child processes of this one, whichever thread has started them, zombies included."""
    pids = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):
            pids.update((thread / "children").read_text().split())
    return pids


def is_soon(condition, seconds=20) -> bool:
    """Whether something comes to be true."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_workers_end_with_the_call(small_blocks, error: type[BaseException]):
    """Ctrl-C, or an error of the corpus, leaves no process and no zombie behind."""
    before = children()

    def texts():
        yield from [long_text()] * 3
        assert is_soon(lambda: children() > before)
        raise error

    with pytest.raises(error):
        count_words(texts(), splitter("gpt4"), processes=2)
    assert children() == before


def small_corpus():
    return [long_text("ascii", 30), "a text", long_text("ascii", 40)]


@linux
@pytest.mark.parametrize(
    ("files", "every"),
    [(("bpe/counting", "bpe/workers"), 7), pytest.param(("bpe", "cores"), 1, marks=pytest.mark.slow)],
)
def test_an_error_at_any_line_leaves_no_worker_behind(small_blocks, files, every):
    """Neither running nor as a zombie, whatever the line; the next count is right."""

    def count(processes):
        return count_words(small_corpus(), splitter("gpt4"), special_tokens=("<a>",), processes=processes)

    before, threads, expected, raised = children(), threading.active_count(), count(1), 0
    for number, line in enumerate(lines(lambda: count(3), *files)[::every]):
        error = (KeyboardInterrupt, Fault)[number % 2]
        try:
            with failing_at(line, error, 1 + number % 2):
                count(3)
        except error:
            raised += 1
        assert children() == before, line
        assert threading.active_count() == threads, line
    assert raised > 20 / every and count(3) == expected


# A trace function, unlike a signal, can come between the end of a `with` and the closing of its file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])  # lines
def test_an_error_at_any_line_of_this_process(small_blocks, tmp_path, every):
    """Nothing is kept between counts."""
    (tmp_path / "file").write_text(long_text("odd", 20))

    def count(scheme):
        return count_words([tmp_path / "file", *small_corpus()], splitter(scheme), special_tokens=("a",), processes=1)

    for scheme in ("gpt4", r"\w+"):
        expected = count(scheme)
        for number, line in enumerate(lines(lambda scheme=scheme: count(scheme), "bpe")[::every]):
            error = (KeyboardInterrupt, Fault)[number % 2]
            with suppress(error), failing_at(line, error, 1 + number % 3):
                count(scheme)
            assert count(scheme) == expected, line


COUNTED_FOR_EVER = """
from jaxopt_lite.bpe import corpus, readers
from jaxopt_lite.bpe.patterns import splitter
from tests.bpe.test_corpus import children

def texts():
    while True:
        yield "to be or not to be " * 1000
        if pids := children():
            print(*pids, flush=True)

corpus.SMALL = 10
corpus.count_words(texts(), splitter("gpt4"), processes=3)
"""


@linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_process_that_is_killed(number):
    """They are not told, and see that nobody talks to them any more."""
    command = [sys.executable, "-c", COUNTED_FOR_EVER]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    workers = process.stdout.readline().split()
    process.send_signal(number)
    process.communicate()
    assert workers and is_soon(lambda: not any(map(is_running, workers)))


def is_running(pid: str) -> bool:
    """Not ended, and not waiting for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@linux
def test_a_worker_that_dies_is_reported(small_blocks):
    """Not waited for, and nobody is left."""
    before = children()

    def texts():
        while True:
            yield long_text("ascii", 20)
            for pid in children() - before:
                os.kill(int(pid), 9)

    with pytest.raises(RuntimeError, match="exit code -9.*processes=1"):
        count_words(texts(), splitter("gpt4"), processes=2)
    assert children() == before


def test_errors_in_a_worker_are_reported(small_blocks):
    """With the worker's own words."""
    task = counting.Tally, "no splitter", Finder()
    with (
        pytest.raises(RuntimeError, match="counting words failed in a worker(.|\n)*'str' object"),
        workers.Workers("counting words", counting.Tally(splitter("gpt4")), task, 2, print) as pool,
    ):
        pool.put(["text"] * 3, 1)
        assert is_soon(lambda: pool.failure is not None)
        pool.end()


def test_workers_need_neither_jax_nor_a_guarded_script(tmp_path):
    """A script without `if __name__ == "__main__"` can count, and workers do not load the package's `__init__`."""
    script = tmp_path / "script.py"
    script.write_text(
        "from jaxopt_lite.bpe import corpus, readers, workers\n"
        "from jaxopt_lite.bpe.patterns import splitter\n"
        "corpus.SMALL = 10\n"
        "workers.START = workers.START.replace('serve()', 'assert \"jax\" not in sys.modules; serve()')\n"
        "print(corpus.count_words(['to be or not to be'] * 3, splitter('whitespace'), processes=2)['be'])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(corpus.__file__).parents[2])}
    ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=100)
    assert (ended.stdout, ended.returncode) == ("6\n", 0), ended.stderr
