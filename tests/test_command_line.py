"""`jaxopt-lite`, or `python -m jaxopt_lite`: its commands, and what they end with."""

import errno
import io
import re
import sys
import time
from importlib.metadata import version

import pytest
from rich.console import Console

import jaxopt_lite.__main__ as command_line
from jaxopt_lite import progress
from jaxopt_lite.demo import command, confidence, encoding, lowest_voltage, specialists
from jaxopt_lite.demo.batches import Tally
from tests.commands.console import run

pytestmark = pytest.mark.hardly_optimized


def test_work_that_takes_long_is_told_again_and_again(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_OFTEN", 0.01)
    with progress.working("thinking"):
        time.sleep(0.2)
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "thinking ..." and set(others) == {"thinking ... 0 s"}


@pytest.mark.parametrize(
    ("words", "counts"),
    [
        ((), (10_000, 10_000, 250)),
        (("--quick",), (1000, 1000, 25)),
        (("--quick", "--refits", "7", "--specialists", "300"), (1000, 7, 300)),
        (("demo", "--scenarios", "3"), (3, 10_000, 250)),
    ],
)
def test_counts_that_are_given_win_over_those_of_quick(monkeypatch, words, counts):
    arrived = []
    monkeypatch.setattr(command, "demo", lambda options, _: arrived.append(options) or 0)
    assert run(*words)[0] == 0
    (options,) = arrived
    assert (options.scenarios, options.refits, options.specialists) == counts


def test_quick_takes_fewer_texts_and_trains_less(monkeypatch):
    pretend(monkeypatch)
    asked = []
    monkeypatch.setattr(encoding, "run", lambda paths, console, tallies, every: asked.append(every))
    monkeypatch.setattr(specialists, "run", lambda *_, steps: asked.append(steps))
    assert run(*FIVE)[0] == 0 and "Quick" in run("--quick", *FIVE)[1]
    assert asked == [1, 400, 10, 100]


def pretend(monkeypatch, *, verified: int = 5, stop: bool = False):
    """Parts that solve nothing: five power flows and a file done, and five refits that end as told."""

    def power_flow(_, count, seed, console, tallies):
        tallies.append(Tally("power flow", count, reached=count, solved=count, verified=count))

    def regression(name, count, seed, console, tallies):
        tallies.append(Tally(f"{name} refits", count, reached=3, solved=3))
        if stop:
            raise KeyboardInterrupt
        tallies[-1] = Tally(f"{name} refits", count, reached=count, solved=count, verified=verified)

    monkeypatch.setattr(lowest_voltage, "prepare", lambda compiler: None)
    monkeypatch.setattr(confidence, "prepare", lambda name, compiler: name)
    monkeypatch.setattr(lowest_voltage, "run", power_flow)
    monkeypatch.setattr(confidence, "run", regression)
    monkeypatch.setattr(encoding, "run", lambda *words: words[2].append(Tally("text", 1, 1, 1, 1)))
    monkeypatch.setattr(specialists, "run", lambda *words, steps: words[3].append(Tally("specialists", 1, 1, 1, 1)))


FIVE = ("--scenarios", "5", "--refits", "5")


@pytest.mark.parametrize("words", [FIVE, ("demo", *FIVE)], ids=["default", "demo"])
def test_all_verified_exits_with_zero(monkeypatch, words):
    pretend(monkeypatch)
    status, text = run(*words)
    assert status == 0 and text.startswith("Four jobs") and text.endswith("\n\nAll solved and verified.\n")


def test_something_not_verified_exits_with_one_and_is_named(monkeypatch):
    pretend(monkeypatch, verified=4)
    status, text = run(*FIVE)
    assert status == 1
    last = "Not all solved and verified: " + ", ".join(f"{name} refits" for name in confidence.SUBJECTS)
    assert text.splitlines()[-1] == last


def test_a_stop_lists_what_was_done(monkeypatch):
    pretend(monkeypatch, stop=True)
    status, text = run(*FIVE)
    assert status == 130
    assert "power flow: 5 problems, 5 reached, 5 solved" in text
    assert "Chwirut2 refits: 5 problems, 3 reached, 3 solved" in text


def test_a_stop_before_anything_is_done_is_no_traceback(monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "demo", stopped)
    assert run("--quick") == (130, "\nStopped.\n")


@pytest.mark.parametrize(
    ("called", "named"),
    [("/usr/bin/jaxopt-lite", "jaxopt-lite"), ("/there/jaxopt_lite/__main__.py", "python -m jaxopt_lite")],
)
def test_the_usage_is_told_by_the_name_that_was_called(monkeypatch, capsys, called, named):
    monkeypatch.setattr(sys, "argv", [called, "--help"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    text = capsys.readouterr().out
    assert ended.value.code == 0 and text.startswith(f"usage: {named} ")
    for name in ("demo", "doctor", "bench", "bpe"):
        assert f"\n    {name} " in text
        with pytest.raises(SystemExit):
            command_line.main([name, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: {named} {name} ")


def test_the_version_is_that_of_the_installed_package(capsys):
    for words in (["--version"], ["bpe", "--version"]):
        with pytest.raises(SystemExit) as ended:
            command_line.main(words)
        assert ended.value.code == 0 and capsys.readouterr().out == f"jaxopt_lite {version('jaxopt-lite')}\n"


def test_texts_that_are_not_there_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit) as refused:
        run("--text", "none.txt")
    assert refused.value.code == 2
    assert "there is no file 'none.txt'" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["-1", "one", "1.5", str(2**63)])
def test_a_seed_that_something_drawn_cannot_have_is_refused_before_the_work(capsys, word):
    with pytest.raises(SystemExit) as refused:
        run(f"--seed={word}")
    assert refused.value.code == 2
    assert f"expected a whole number from 0 to 2^63 - 1, got '{word}'" in capsys.readouterr().err


def test_a_command_that_is_none_is_named_beside_those_that_are(capsys):
    with pytest.raises(SystemExit) as refused:
        run("docter")
    error = capsys.readouterr().err
    assert refused.value.code == 2 and "invalid choice: 'docter'" in error and "doctor" in error


def test_what_cannot_be_printed_is_one_line_and_exits_with_one(monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command_line, "Console", lambda **_: Console(file=Full()))
    assert command_line.main(["doctor"]) == 1
    assert re.fullmatch(r"[^\n]+ doctor: error: [^\n]+ No space left on device\n", capsys.readouterr().err)


def test_a_batch_that_memory_cannot_hold_is_one_line_and_exits_with_one(monkeypatch, capsys):
    def too_many(*_):
        raise MemoryError("Unable to allocate 146. TiB")

    monkeypatch.setattr(command, "demo", too_many)
    assert run("demo")[0] == 1
    assert capsys.readouterr().err.endswith(" demo: error: Unable to allocate 146. TiB\n")


def test_what_an_encoding_lacks_is_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    command_line._console().print("3 × cpu")
    assert written.getvalue() == b"3 \\xd7 cpu\n"


@pytest.mark.parametrize("word", ["0", "-5", "many", "1.5"])
def test_senseless_counts_are_refused(monkeypatch, capsys, word):
    with pytest.raises(SystemExit) as refused:
        run(f"--scenarios={word}")
    assert refused.value.code == 2
    assert f"expected a whole number above zero, got '{word}'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("demo", "--quick"), ("bench",), ("bpe", "inspect", "none.json")], ids=" ".join)
def test_a_senseless_number_of_cores_is_refused_before_anything_runs(monkeypatch, capsys, words):
    monkeypatch.setenv("JAXOPT_LITE_CORES", "none")
    with pytest.raises(SystemExit) as refused:
        run(*words)
    assert refused.value.code == 2
    assert "JAXOPT_LITE_CORES is 'none': expected a number of cores" in capsys.readouterr().err
