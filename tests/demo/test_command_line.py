"""`python -m jaxopt_lite`: what it prints, and its exit status."""

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from rich.console import Console

import jaxopt_lite.__main__ as command_line
from jaxopt_lite.demo import confidence, encoding, lowest_voltage, specialists
from jaxopt_lite.demo.batches import Tally

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "jaxopt_lite"]
PLAIN = {**os.environ, "NO_COLOR": "1", "COLUMNS": "160"}
PIPES = dict(cwd=ROOT, env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")


def test_the_demonstration_solves_and_verifies_everything():
    words = ("--scenarios", "200", "--refits", "100", "--specialists", "8", "--text", "README.md", "pyproject.toml")
    quickly = {**PLAIN, "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # most of its time is to compile
    done = subprocess.run([*COMMAND, "demo", *words], **PIPES | {"env": quickly})
    assert done.returncode == 0, done.stdout
    for kind in ("solved", "verified"):
        counts = re.findall(rf"^{kind} +([\d,]+) of ([\d,]+):", done.stdout, re.MULTILINE)
        texts = [("2", "2"), ("8", "8")] * (kind == "verified")  # and the specialists
        assert counts == [("200", "200"), ("100", "100"), ("100", "100"), ("100", "100"), *texts], done.stdout
    heights = re.findall(r"^[\d.]+ to [\d.]+ [█ ]+ ([\d,]+) *$", done.stdout, re.MULTILINE)
    assert sum(map(int, heights)) == 200
    assert len(re.findall(r"compiling \d+\.\d s, solving \d+\.\d\d s \([\d,]+ a second\)", done.stdout)) == 4
    digits = re.findall(r"agree with the certified values to ([\d.]+) and ([\d.]+) digits", done.stdout)
    assert len(digits) == 3 and min(float(each) for pair in digits for each in pair) >= 6
    assert "Byte-pair encoding: your text" in done.stdout and "2 of 2 files" in done.stdout
    for certified in ("1288.14", "0.1665767", "1.674506"):
        assert certified in done.stdout
    assert done.stdout.rstrip().endswith("All solved and verified.")


def test_ctrl_c_stops_it_and_says_so():
    running = subprocess.Popen([*COMMAND, "--scenarios", "1000"], **PIPES)
    heading = running.stdout.readline()
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=120)
    assert heading.startswith("Root finding") and "Stopped. Until then:" in rest and "Traceback" not in rest
    assert running.returncode == 130


def run(monkeypatch, *words):
    """The exit status of a command and what it printed, in this process."""
    console = Console(file=io.StringIO(), width=120)
    monkeypatch.setattr(command_line, "Console", lambda **_: console)
    status = command_line.main(words)
    return status, console.file.getvalue()


def pretend(monkeypatch, *, verified: int = 5, stop: bool = False):
    """Parts that solve nothing: five power flows and a file done, and five refits that end as told."""

    def power_flow(count, seed, console, tallies):
        tallies.append(Tally("power flow", count, reached=count, solved=count, verified=count))

    def regression(name, count, seed, console, tallies):
        tallies.append(Tally(f"{name} refits", count, reached=3, solved=3))
        if stop:
            raise KeyboardInterrupt
        tallies[-1] = Tally(f"{name} refits", count, reached=count, solved=count, verified=verified)

    monkeypatch.setattr(lowest_voltage, "run", power_flow)
    monkeypatch.setattr(confidence, "run", regression)
    monkeypatch.setattr(encoding, "run", lambda paths, console, tallies: tallies.append(Tally("text", 1, 1, 1, 1)))
    monkeypatch.setattr(specialists, "run", lambda *words: words[-1].append(Tally("specialists", 1, 1, 1, 1)))


FIVE = ("--scenarios", "5", "--refits", "5")


@pytest.mark.parametrize("words", [FIVE, ("demo", *FIVE)], ids=["default", "demo"])
def test_all_verified_exits_with_zero(monkeypatch, words):
    pretend(monkeypatch)
    status, text = run(monkeypatch, *words)
    assert (status, text.strip()) == (0, "All solved and verified.")


def test_something_not_verified_exits_with_one_and_is_named(monkeypatch):
    pretend(monkeypatch, verified=4)
    status, text = run(monkeypatch, *FIVE)
    assert status == 1
    assert text.strip() == "Not all solved and verified: " + ", ".join(f"{name} refits" for name in confidence.SUBJECTS)


def test_a_stop_lists_what_was_done(monkeypatch):
    pretend(monkeypatch, stop=True)
    status, text = run(monkeypatch, *FIVE)
    assert status == 130
    assert "power flow: 5 problems, 5 reached, 5 solved" in text
    assert "Chwirut2 refits: 5 problems, 3 reached, 3 solved" in text


def test_devices_names_the_version_and_the_backend(monkeypatch):
    status, text = run(monkeypatch, "devices")
    assert status == 0
    assert jax.__version__ in text and jax.default_backend() in text and "lanes" in text


def test_texts_that_are_not_there_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, "--text", "none.txt")
    assert refused.value.code == 2
    assert "there is no file 'none.txt'" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["0", "-5", "many", "1.5"])
def test_senseless_counts_are_refused(monkeypatch, capsys, word):
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, f"--scenarios={word}")
    assert refused.value.code == 2
    assert f"expected a whole number above zero, got '{word}'" in capsys.readouterr().err
