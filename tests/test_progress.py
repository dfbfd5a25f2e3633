"""Ctrl-C stops a long job whenever it comes."""

import gc
import signal
import sys
import threading
import time

import pytest

from jaxopt_lite.progress import interruptible


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
