"""Ctrl-C stops a long job whenever it comes; how far it is, is shown in a way that fits where it is shown."""

import gc
import io
import os
import re
import signal
import sys
import threading
import time
from contextlib import redirect_stderr
from functools import partial
from types import SimpleNamespace

import pytest
import rich.jupyter
from rich.console import Console

from jaxopt_lite import progress
from jaxopt_lite.progress import interruptible, progress_bar, working


@pytest.fixture
def interrupted_collection():
    """Ctrl-C during the next collection, in a function that Python calls then, where it ignores what is raised."""
    left = [1]

    def press(phase, _):
        if phase == "start" and left[0]:
            left[0] -= 1
            signal.raise_signal(signal.SIGINT)

    gc.callbacks.append(press)
    yield left
    gc.callbacks.remove(press)


def test_an_interrupt_that_comes_in_a_collection_is_not_lost(interrupted_collection):
    before, end = sys.unraisablehook, time.monotonic() + 60
    with pytest.raises(KeyboardInterrupt), interruptible():
        gc.collect()
        while time.monotonic() < end:
            time.sleep(0.001)
    assert interrupted_collection == [0] and sys.unraisablehook is before


def test_what_else_is_ignored_is_said_as_before(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)

    class Bad:
        def __del__(self):
            raise ValueError("in the end")

    with interruptible():
        bad = Bad()
        del bad
    assert [each.exc_type for each in said] == [ValueError]


def test_in_another_thread_nothing_changes():
    hooks = []

    def work():
        with interruptible():
            hooks.append(sys.unraisablehook)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert hooks == [sys.unraisablehook]


class Terminal:
    """A terminal of which all that is written is kept; a thread reads it, for what it holds itself is little."""

    def __init__(self):
        self._reads, writes = os.openpty()
        self.file, self._got = open(writes, "w"), []
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    def _keep(self):
        try:
            while got := os.read(self._reads, 4096):
                self._got.append(got)
        except OSError:  # which is how Linux says that it was closed
            pass

    def written(self) -> str:
        self.file.close()
        self._thread.join()
        os.close(self._reads)
        return b"".join(self._got).decode()


@pytest.fixture
def terminal(monkeypatch):
    made = Terminal()
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return made


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(progress, "_OFTEN", 0.02)


def work(shown: bool | None = None) -> None:
    """Two of three parts, and the third some time later."""
    with progress_bar(shown) as bar:
        task = bar.add_task("solving", total=3)
        bar.update(task, advance=2)
        time.sleep(0.2)
        bar.update(task, advance=1)


def test_a_terminal_has_one_line_that_is_drawn_over(terminal):
    with redirect_stderr(terminal.file):
        work()
    written = terminal.written()
    assert written.count("\n") == 1 and "\r\x1b[2K" in written and "3/3" in written


@pytest.mark.usefixtures("often")
def test_a_terminal_without_a_cursor_gets_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with redirect_stderr(terminal.file):
        work()
    written = terminal.written()
    assert "\x1b" not in written and "2/3" in written and written.rstrip().endswith("3/3 0:00:00")


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}, {"TERM": "xterm"}])
def test_a_file_gets_lines_where_they_are_asked_for(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work()
    assert sys.stderr.getvalue() == ""
    work(True)
    lines = re.sub(r"\x1b\[[\d;]*m", "", sys.stderr.getvalue()).splitlines()  # colors, if those are forced
    assert len(lines) > 2 and all(line.startswith("solving") and "\x1b" not in line for line in lines)
    assert all("2/3" in line for line in lines[:-1]) and "3/3" in lines[-1]


@pytest.mark.usefixtures("often")
def test_a_notebook_without_widgets_gets_lines_and_no_warning(monkeypatch):
    shown = []
    monkeypatch.setattr(progress, "Console", partial(Console, force_jupyter=True))
    monkeypatch.setattr(rich.jupyter, "display", lambda segments, text: shown.append(text))
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    work()
    assert len(shown) > 2 and "2/3" in shown[0] and "3/3" in shown[-1]
    monkeypatch.setattr(progress, "find_spec", lambda name: "there")
    assert type(progress_bar(None)) is type(progress_bar(True)) is progress.Progress


def test_lines_become_rarer(monkeypatch):
    """A log of an hour has some sixty of them; here an hour passes at once."""
    clock, said = [0.0], []

    class Event(threading.Event):
        def wait(self, timeout=None):
            clock[0] += timeout or 0
            return clock[0] > 3600

    monkeypatch.setattr(progress, "threading", SimpleNamespace(Event=Event, Thread=threading.Thread))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with progress._now_and_then(said.append):
        while clock[0] <= 3600:
            pass
    assert said[:3] == [3, 6, 9] and 40 < len(said) < 80


@pytest.mark.usefixtures("often")
def test_work_without_a_measure_says_that_it_goes_on(capsys):
    with working("compiling"):
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "compiling ..." and len(lines) > 1 and lines[1].startswith("compiling ... 0 s")
