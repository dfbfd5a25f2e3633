"""Failing at every line: whatever changes in several steps must be whole or untouched when any of them fails.

`lines` says which lines of the package an action runs, and `failing_at` raises at one of them, as an error, a full disk
or Ctrl-C would.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jaxopt_lite

__all__ = ["Fault", "failing_at", "lines"]

_PACKAGE = str(Path(jaxopt_lite.__file__).parent)
Line = tuple[str, int]


class Fault(Exception):
    """What is raised."""


def lines(action: Callable[[], object], *files: str) -> list[Line]:
    """The lines that an action runs in this thread, each once, in the order in which they are first run.

    Args:
        action: the action.
        files: only of files whose paths in the package begin like one of these; of all by default.
    """
    seen: dict[Line, None] = {}

    def note(frame, event, _):
        if event == "line":
            seen[frame.f_code.co_filename, frame.f_lineno] = None
        return note

    with _traced(files, note):
        action()
    return list(seen)


@contextmanager
def failing_at(line: Line, error: type[BaseException] = Fault, times: int = 1) -> Iterator[None]:
    """Raise an error when this thread comes to a line for the `times`-th time."""
    left = times

    def check(frame, event, _):
        nonlocal left
        if event == "line" and (frame.f_code.co_filename, frame.f_lineno) == line:
            left -= 1
            if left == 0:
                raise error(f"at {line[0]}:{line[1]}")
        return check

    with _traced((), check):
        yield


@contextmanager
def _traced(files: tuple[str, ...], trace) -> Iterator[None]:
    """With a trace function for what runs in files of the package."""
    before = sys.gettrace()
    starts = tuple(f"{_PACKAGE}/{file}" for file in files) or (_PACKAGE,)
    sys.settrace(lambda frame, *_: trace if frame.f_code.co_filename.startswith(starts) else None)
    try:
        yield
    finally:
        sys.settrace(before)
