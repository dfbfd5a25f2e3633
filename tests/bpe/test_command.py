"""`python -m jaxopt_lite bpe`: training, encoding, decoding and inspecting from the command line."""

import argparse
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Console

import jaxopt_lite.__main__ as command_line
from jaxopt_lite import bpe
from jaxopt_lite.bpe import command
from jaxopt_lite.bpe.patterns import STOCK

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "jaxopt_lite", "bpe"]
TEXT = "low low lower, newest newest\r\nwidest Ünïcode 今日は\n\nno end"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with a text."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_bytes(TEXT.encode())
    return tmp_path


@pytest.fixture
def run(place, monkeypatch, capfdbinary):
    """Runs a command in this process: its status, standard output and standard error."""

    def run(*words, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        monkeypatch.setattr(command_line, "Console", lambda **_: Console(highlight=False, width=120))
        capfdbinary.readouterr()
        try:
            status = command_line.main(["bpe", *words])
        except SystemExit as stop:
            status = stop.code
        sys.stdout.flush()
        found = capfdbinary.readouterr()
        return status, found.out, without_serving(found.err.decode())

    return run


def without_serving(err):
    """Standard error without the warning that tokenizers 1.0 does not take the default pattern."""
    return "".join(line for line in err.splitlines(keepends=True) if "tokenizers 1.0 does not take" not in line)


TRAIN = ("train", "text.txt", "--merges", "9", "--output", "t.json")


def test_train_learns_what_the_library_does(run):
    status, out, err = run(*TRAIN)
    assert (status, err) == (0, "")
    assert out.decode() == "t.json: Tokenizer(265 tokens, 9 merges, byte level, gpt4)\n"
    assert bpe.load("t.json").vocabulary.tokens == bpe.train([TEXT], merges=9).vocabulary.tokens


def test_every_setting_arrives(run, monkeypatch):
    seen = []

    def train(corpus, vocab_size=None, **settings):
        seen.append((corpus, vocab_size, settings))
        return bpe.train(["a"], merges=0, pattern="whitespace", end_of_word="_")

    monkeypatch.setattr(command, "train", train)
    words = "--vocab-size 300 --pattern whitespace --end-of-word _ --level char --byte-fallback --unknown ? "
    words += "--min-frequency 2 --max-token-length 5 --special-token <a> --special-token <b> --tie subword-nmt "
    words += "--errors replace --field body --processes 2 --checkpoint c.npz --output t.json --format jaxopt_lite"
    assert run("train", "text.txt", *words.split())[0] == 0
    assert seen[-1] == (
        [Path("text.txt")], 300,
        dict(
            merges=None, pattern="whitespace", end_of_word="_", level="char", byte_fallback=True, unknown="?",
            min_frequency=2, max_token_length=5, special_tokens=["<a>", "<b>"], tie="subword-nmt", errors="replace",
            field="body", processes=2, checkpoint="c.npz",
        ),
    )  # fmt: skip
    assert json.loads(Path("t.json").read_text())["format"].startswith("jaxopt_lite")


def test_options_stand_anywhere(run):
    Path("more.txt").write_text("low low")
    assert run("train", "text.txt", "--merges", "9", "more.txt", "--pattern", "llama3", "-o", "t.json")[0] == 0
    rows = {
        run("encode", *words)[1]
        for words in (
            ("--lines", "t.json", "text.txt", "more.txt"),
            ("t.json", "--lines", "text.txt", "more.txt"),
            ("t.json", "text.txt", "--lines", "more.txt"),
            ("t.json", "text.txt", "more.txt", "--lines"),
        )
    }
    assert len(rows) == 1 and rows.pop().count(b"\n") == TEXT.count("\n") + 2
    assert run("train", "text.txt", "--merges")[0] == 2 and run("encode", "--nothing", "t.json")[0] == 2


def test_names_behind_two_dashes_are_those_of_files(run):
    """Whatever they begin with; options are taken before the dashes, and "-" is standard input."""
    Path("-x").write_text("low low")
    assert run("train", "--merges", "2", "-o", "t.json", "--", "-x")[::2] == (0, "")
    assert run("train", "text.txt", "-o", "u.json", "--merges", "2", "--", "-x")[::2] == (0, "")
    wanted = run("encode", "t.json", "./-x")
    assert wanted[::2] == (0, "")
    assert run("encode", "--", "t.json", "-x") == run("encode", "t.json", "--", "-x") == wanted
    assert run("encode", "--", "t.json", "-", stdin=b"low low") == wanted


def test_version(run):
    status, out, _ = run("--version")
    assert status == 0 and out.startswith(b"jaxopt_lite ")


def test_folders_and_records_by_a_field(run):
    Path("docs").mkdir()
    Path("docs/a.jsonl").write_text('{"body": "low low"}\n{"body": "lower"}\n')
    assert run("train", "docs", "--field", "body", "--merges", "2", "-o", "t.json")[0] == 0
    assert bpe.load("t.json").vocabulary.tokens[-1] == b"low"
    status, _, err = run("train", "docs", "--merges", "2", "-o", "t.json")
    assert status == 1 and "expected a record with 'text'; there is 'body'" in err


@pytest.mark.skipif(os.name == "nt", reason="streams are closed by a shell of POSIX")
def test_closed_streams_are_said_in_one_line(run, place):
    run(*TRAIN, "--pattern", "llama3")
    shell = f"PYTHONPATH={ROOT} {' '.join(COMMAND)}"
    for words, status, said in (
        ("encode t.json text.txt >&-", 1, "standard output is closed"),
        ("encode t.json <&-", 1, "standard input is closed"),
        ("decode t.json <&-", 1, "standard input is closed"),
        ("train - --merges 2 -o u.json <&-", 1, "standard input is closed"),
        ("train text.txt --merges 2 -o u.json --pattern gpt2 >&-", 0, ""),
        ("encode missing.json text.txt 2>&-", 1, ""),
    ):
        done = subprocess.run(f"{shell} {words}", shell=True, capture_output=True, text=True, cwd=place)
        assert (done.returncode, done.stdout) == (status, ""), words
        assert said in done.stderr and done.stderr.count("\n") == bool(said), words


def test_extend_learns_on(run):
    run(*TRAIN)
    status, out, _ = run("train", "text.txt", "--merges", "3", "--extend", "t.json", "--output", "longer.json")
    assert status == 0 and b"12 merges" in out
    assert bpe.load("longer.json").vocabulary.tokens == bpe.train([TEXT], merges=12).vocabulary.tokens


def test_fewer_merges_than_asked_for_is_a_warning(run):
    status, _, err = run("train", "text.txt", "--merges", "999", "--output", "t.json")
    assert status == 0 and "warning: nothing left to merge after" in err and err.count("\n") == 1


def test_standard_input_and_output_stand_where_files_do():
    done = subprocess.run(
        [*COMMAND, "train", "-", "--merges", "9", "-o", "-"], cwd=ROOT, input=TEXT.encode(), capture_output=True
    )
    assert (done.returncode, without_serving(done.stderr.decode())) == (0, "")
    assert len(json.loads(done.stdout)["model"]["merges"]) == 9


@pytest.mark.skipif(not os.path.exists("/dev/stdin"), reason="there is no name of standard input")
def test_what_was_read_of_standard_input_does_not_come_again(place, monkeypatch):
    """As of a file of which the shell has read the first lines."""
    options = argparse.Namespace(files=["-"], errors="strict")
    with open("text.txt", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert command._corpus(options) == [Path("/dev/stdin")]
        file.buffer.seek(4)
        assert command._corpus(options) == [TEXT[4:]]


@pytest.mark.parametrize("lines", [(), ("--lines",)], ids=["whole", "lines"])
def test_encode_and_decode_give_every_byte_back(run, lines):
    run(*TRAIN)
    data = TEXT.encode() + b"\xff\xfe\n"
    status, ids, err = run("encode", "t.json", *lines, stdin=data)
    assert (status, err) == (0, "")
    assert len(ids.splitlines()) == (4 if lines else 1)
    assert run("decode", "t.json", *lines, stdin=ids) == (0, data, "")


def test_every_file_is_a_line_of_ids(run):
    run(*TRAIN)
    Path("empty.txt").write_bytes(b"")
    status, ids, _ = run("encode", "t.json", "text.txt", "empty.txt", "-", stdin=b"low")
    tokenizer = bpe.load("t.json")
    rows = [list(map(int, line.split())) for line in ids.decode().split("\n")]
    assert status == 0 and rows == [tokenizer.encode(TEXT), [], tokenizer.encode("low"), []]
    Path("ids").write_bytes(ids)
    assert run("decode", "t.json", "ids")[1] == f"{TEXT}low".encode()


def test_special_tokens_are_refused_unless_asked_for(run):
    run(*TRAIN, "--special-token", "<end>")
    status, out, err = run("encode", "t.json", stdin=b"low<end>")
    assert (status, out) == (1, b"") and "<end>" in err and err.count("\n") == 1
    _, _, err = run("encode", "t.json", "--lines", stdin=b"low\n\nlow<end>\n")
    assert "-, line 3: the text has the special token '<end>' at character 3" in err
    one, several = (run("encode", "t.json", "--special", way, stdin=b"low<end>")[1] for way in ("encode", "ignore"))
    assert one.split()[-1] == b"0" and len(several.split()) > len(one.split())
    assert run("decode", "t.json", "--skip-special", stdin=one)[1] == b"low"


def test_inspect_shows_merges_compression_and_frequent_tokens(run):
    bpe.train(["aaaa [b] aaaa"], merges=2).save("own.json", "jaxopt_lite")
    Path("b.txt").write_text("aaaa[b]")
    status, out, err = run("inspect", "own.json", "b.txt", "text.txt")
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.decode().splitlines()]
    assert rows[0][0] == "Tokenizer(258"
    assert ["1", "'a'", "'a'", "'aa'", "256", "6"] in rows
    assert ["b.txt", "7", "4", "1.75"] in rows
    assert any(row and row[0] == "all" for row in rows)
    assert ["'['", "91", "1"] in [row[:3] for row in rows]  # brackets are no markup


WRONG = {
    "no size": ("train", "text.txt", "-o", "t.json"),
    "two sizes": ("train", "text.txt", "--merges", "1", "--vocab-size", "300", "-o", "t.json"),
    "no merges": ("train", "text.txt", "--merges", "0", "-o", "t.json"),
    "no output": ("train", "text.txt", "--merges", "1"),
    "a mark without whitespace": (*TRAIN, "--end-of-word", "_"),
    "a name of no form": ("train", "text.txt", "--merges", "1", "-o", "t.bin"),
    "a form that cannot say it": (*TRAIN, "--pattern", "whitespace", "--end-of-word", "_", "--format", "tiktoken"),
    "a folder to standard output": ("train", "text.txt", "--merges", "1", "-o", "-", "--format", "gpt2"),
    "standard input twice": ("train", "-", "-", "--merges", "1", "-o", "t.json"),
    "no command": (),
    "no name": ("train", "text.txt", "--merges", "1", "-o", ""),
    "an unknown name of a pattern": (*TRAIN, "--pattern", "gpt-99"),
    "an empty pattern, as of an unset variable": (*TRAIN, "--pattern", ""),
    "the text itself": ("train", "text.txt", "--merges", "1", "-o", "text.txt", "--format", "huggingface"),
    "the text itself, by another name": (
        "train",
        "text.txt",
        "--merges",
        "1",
        "-o",
        "./text.txt",
        "--format",
        "tiktoken",
    ),
    "the checkpoint": (*TRAIN, "--checkpoint", "t.json"),
    "a pattern that the form reads otherwise": (*TRAIN, "--pattern", r"\X+"),
    "a folder where a file is": ("train", "text.txt", "--merges", "1", "-o", "text.txt", "--format", "gpt2"),
}


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_wrong_arguments_end_with_status_2_before_the_work(run, words):
    status, out, err = run(*words)
    assert (status, out) == (2, b"") and "error: " in err and "Traceback" not in err
    assert sorted(os.listdir()) == ["text.txt"]


@pytest.mark.parametrize("words", [
    ("-o", "file"), ("-o", "file", "--format", "gpt2"), ("-o", "folder.json", "--format", "huggingface"),
    ("-o", "pipe"), ("-o", "link", "--format", "gpt2"), ("-o", "loose", "--format", "gpt2", "--pattern", r"\b"),
])  # fmt: skip
def test_places_that_are_something_else_are_refused_before_the_work(run, words):
    """Nothing there is touched."""
    Path("file").write_text("precious")
    Path("folder.json").mkdir()
    os.mkfifo("pipe")
    os.symlink("file", "link")
    status, out, err = run("train", "text.txt", "--merges", "1", *words)
    assert (status, out) == (2, b"") and "error: " in err and err.count("Traceback") == 0
    assert Path("file").read_text() == "precious" and Path("pipe").is_fifo() and Path("link").is_symlink()
    assert not list(Path("folder.json").iterdir()) and sorted(os.listdir()) == [
        "file", "folder.json", "link", "pipe", "text.txt",
    ]  # fmt: skip


def test_links_and_folders_are_written_through(run):
    """A link to a file of any name, to nothing yet, and to a folder; a checkpoint behind a link."""
    Path("folder").mkdir()
    for name, target in {"a.json": "real.bin", "b.json": "none.json", "c": "folder", "d.npz": "run.npz"}.items():
        os.symlink(target, name)
    Path("real.bin").write_text("{}")
    for name in ("a.json", "b.json", "c"):
        status, _, err = run("train", "text.txt", "--merges", "9", "-o", name, "--checkpoint", "d.npz")
        assert (status, err) == (0, "") and Path(name).is_symlink() and Path("d.npz").is_symlink()
        assert len(bpe.load(name).vocabulary.merges) == 9
    assert Path("real.bin").stat().st_size > 1000 and Path("run.npz").is_file()
    assert sorted(os.listdir("folder")) == ["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices of POSIX")
def test_pipes_and_devices_are_written_to(run, place):
    """They stay what they are; what cannot be written says so."""
    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], cwd=place, stdout=subprocess.PIPE)
    status, _, err = run("train", "text.txt", "--merges", "9", "-o", "pipe", "--format", "huggingface")
    assert (status, err) == (0, "") and Path("pipe").is_fifo()
    assert len(json.loads(reader.communicate(timeout=30)[0])["model"]["merges"]) == 9
    status, out, err = run("train", "text.txt", "--merges", "9", "-o", "/dev/stdout", "--format", "jaxopt_lite")
    assert (status, err) == (0, "") and json.loads(out)["format"] == "jaxopt_lite.bpe"
    if Path("/dev/full").exists():
        status, _, err = run("train", "text.txt", "--merges", "9", "-o", "/dev/full", "--format", "huggingface")
        assert status == 1 and "No space left" in err and Path("/dev/full").is_char_device()
    status, _, err = run("train", "text.txt", "--merges", "9", "-o", "t.json", "--checkpoint", "none/run")
    assert status == 1 and "there is no folder none" in err
    status, _, err = run("train", "text.txt", "--merges", "9", "-o", "t.json", "--checkpoint", ".")
    assert status == 1 and "is a directory" in err and not Path("t.json").exists()


@pytest.mark.parametrize("words", ["train {} --merges 1 -o u.json", "encode t.json {}", "encode t.json {} --lines"])
def test_files_that_are_no_text_are_refused_everywhere(run, words):
    """By name and by how they begin."""
    run(*TRAIN)
    Path("docs.jsonl").write_text("{}")
    Path("wide.txt").write_bytes("text".encode("utf-16"))
    record = "expected a record" if words.startswith("train") else "is not plain text"
    for name, said in {"docs.jsonl": record, "wide.txt": "UTF-16"}.items():
        status, out, err = run(*words.format(name).split())
        assert (status, out) == (1, b"") and said in err and name in err and err.count("\n") == 1


FAILING = {
    "no such text": (("train", "none.txt", "--merges", "1", "-o", "t.json"), "none.txt"),
    "no such folder": (("train", "text.txt", "--merges", "1", "-o", "none/t.json"), "none"),
    "a text that is not UTF-8": (("train", "bad.txt", "--merges", "1", "-o", "t.json"), "bad.txt: byte 1 "),
    "no such tokenizer": (("encode", "none.json", "text.txt"), "none.json"),
    "a text as tokenizer": (("encode", "text.json", "text.txt"), "text.json: expected JSON"),
    "nothing to encode": (("encode", "t.json", "none.txt"), "none.txt"),
    "strict": (("encode", "t.json", "bad.txt", "--errors", "strict"), "bad.txt: expected UTF-8"),
    "no ids": (("decode", "t.json", "text.txt"), "text.txt, line 1: expected ids"),
    "ids of another": (("decode", "t.json", "ids"), "ids, line 2: ids[1]=9999"),
    "ids beyond all": (("decode", "t.json", "huge"), "huge, line 1: "),
    "an id with a sign": (("decode", "t.json", "signs"), "signs, line 2: expected ids, whole numbers; got '+1'"),
    "an id for Python": (("decode", "t.json", "python"), "python, line 1: expected ids, whole numbers; got '1_0'"),
}


@pytest.mark.parametrize(("words", "message"), FAILING.values(), ids=FAILING)
def test_failures_are_one_line_and_leave_the_output_alone(run, words, message):
    run(*TRAIN)
    before = Path("t.json").read_bytes()
    Path("bad.txt").write_bytes(b"a\xff")
    Path("text.json").write_text("no JSON")
    Path("ids").write_text("1 2\n3 9999\n")
    Path("huge").write_text("9" * 40)
    Path("signs").write_text("1\n2 +1\n")
    Path("python").write_text("1 1_0\n")
    status, _, err = run(*words)
    assert status == 1 and message in err and err.count("\n") == 1, err
    assert err.startswith(f"python -m jaxopt_lite bpe {words[0]}: error: ")
    assert Path("t.json").read_bytes() == before and not list(Path().glob("*.part"))


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="a folder that nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(run):
    for folder in ("/proc", "/proc/self"):
        status, _, err = run("train", "none.txt", "--merges", "1", "-o", f"{folder}/t.json")
        assert status == 1 and f"nothing can be written to this folder: '{os.path.realpath(folder)}" in err
        assert "none.txt" not in err and err.count("\n") == 1


@pytest.mark.parametrize(("name", "package"), [("a.zst", "zstandard"), ("a.parquet", "pyarrow")])
def test_packages_that_are_missing_are_said_in_one_line(run, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    Path(name).write_bytes(b"\x28\xb5\x2f\xfd" if package == "zstandard" else b"PAR1")
    status, out, err = run("train", name, "--merges", "1", "-o", "t.json", "--processes", "1")
    assert (status, out) == (1, b"") and f"pip install {package}" in err and err.count("\n") == 1


def test_ctrl_c_ends_with_130_and_leaves_the_output_alone(run, monkeypatch):
    run(*TRAIN)
    before = Path("t.json").read_bytes()

    def interrupted(*_, merges, **settings):
        if merges:
            warnings.warn("interrupted after 3 of 9 merges", stacklevel=1)
        return bpe.train([], merges=0, **settings)

    monkeypatch.setattr(command, "train", lambda *a, processes=None, checkpoint=None, **k: interrupted(*a, **k))
    status, out, err = run(*TRAIN)
    assert (status, out) == (130, b"") and "interrupted after 3 of 9 merges" in err and err.endswith("Stopped.\n")
    assert Path("t.json").read_bytes() == before


def test_other_warnings_that_speak_of_interruptions_lose_nothing(run, monkeypatch):
    def train(*_, merges, processes=None, checkpoint=None, **settings):
        if merges:
            warnings.warn("checkpoint='interrupted/run' cannot be written (No space left on device)", stacklevel=1)
        return bpe.train([TEXT], merges=merges, **settings)

    monkeypatch.setattr(command, "train", train)
    status, _, err = run(*TRAIN)
    assert status == 0 and "warning: checkpoint='interrupted/run'" in err and bpe.load("t.json").vocab_size == 265


def test_help_names_every_pattern(run):
    status, out, _ = run("train", "--help")
    assert status == 0 and all(name in out.decode() for name in ("whitespace", *STOCK))


def test_ctrl_c_while_reading(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    run(*TRAIN)
    monkeypatch.setattr(command, "_text", interrupted)
    assert run("encode", "t.json", "text.txt") == (130, b"", "\nStopped.\n")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_closed_pipe_ends_it_quietly(run, place):
    run(*TRAIN)
    Path("long.txt").write_text(TEXT * 20_000)
    pipes = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    running = subprocess.Popen([*COMMAND, "encode", "--lines", str(place / "t.json"), str(place / "long.txt")], **pipes)
    running.stdout.read(1)
    running.stdout.close()
    assert running.stderr.read() == b"" and running.wait(60) in (0, 1)  # 0 where a pipe takes what nobody reads
    running.stderr.close()
