"""Long jobs: a bar on standard error shows their progress, and Ctrl-C stops them.

Where output cannot be overwritten, as in a file, in a notebook without ipywidgets, or on a terminal without a cursor, a
line is printed now and then instead.
"""

import _thread
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["interruptible", "progress_bar", "working"]

_SOON = 0.01  # seconds
_OFTEN = 3.0  # seconds; readers of a log begin to wonder after five
_RARER = 0.1  # of the time elapsed: after an hour a log has some sixty lines, not a thousand


def progress_bar(shown: bool | None, *counters: ProgressColumn) -> Progress:
    """A bar for one task, after the task's description and before the counters, which show how much is done.

    If `shown` is None, it is shown on a terminal and in a notebook.
    """
    console = Console(stderr=True)
    shown = _is_terminal(console) or console.is_jupyter if shown is None else shown
    columns = (TextColumn("{task.description}"), BarColumn(), *(counters or (MofNCompleteColumn(),)))
    kind = Progress if _draws_over(console) else _Lines
    return kind(*columns, TimeRemainingColumn(), console=console, disable=not shown)


def _is_terminal(console: Console) -> bool:
    """Whether it is a real terminal. FORCE_COLOR, which is often set for logs, only says that colors are wanted."""
    return console.is_terminal and console.file.isatty()


def _draws_over(console: Console) -> bool:
    """Whether what was written can be overwritten."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return _is_terminal(console) and console.is_interactive


class _Lines(Progress):
    """The columns of a bar as a line now and then, and once more at the end."""

    def start(self) -> None:
        if not self.disable:
            self._writing = ExitStack()
            self._writing.callback(self._write)
            self._writing.enter_context(_now_and_then(lambda _: self._write()))

    def stop(self) -> None:
        if not self.disable:
            self._writing.close()

    def _write(self) -> None:
        self.console.print(self.make_tasks_table(self.tasks))


@contextmanager
def working(on: str) -> Iterator[None]:
    """A context in which standard error shows what is going on: a spinner on a terminal, elsewhere a line now and then.

    For work without known progress, such as compiling. Nothing else may print meanwhile.
    """
    console = Console(stderr=True, highlight=False)
    if _draws_over(console) and not console.is_jupyter:
        with console.status(on):
            yield
        return
    console.print(on, "...")
    with _now_and_then(lambda seconds: console.print(on, f"... {seconds:.0f} s")):
        yield


@contextmanager
def _now_and_then(say: Callable[[float], None]) -> Iterator[None]:
    """A context in which another thread calls `say(seconds)` now and then, with the time elapsed."""
    start, over = time.monotonic(), threading.Event()

    def repeat() -> None:
        while not over.wait(max(_OFTEN, _RARER * (time.monotonic() - start))):
            say(time.monotonic() - start)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def interruptible() -> Iterator[None]:
    """A context in which Ctrl-C is never lost. For the main thread, where Python raises it.

    Python ignores exceptions that are raised while it collects garbage or cleans up an object, and JAX has it call a
    function at every collection. An interrupt that is lost like this is repeated a moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = sys.unraisablehook

    def repeat(ignored: "sys.UnraisableHookArgs") -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            threading.Timer(_SOON, _thread.interrupt_main).start()  # at once it would be ignored again
        else:
            before(ignored)

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        sys.unraisablehook = before
