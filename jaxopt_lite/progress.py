"""A long job shows how far it is, by a bar on standard error, and Ctrl-C stops it: the same for all of them."""

import _thread
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["interruptible", "progress_bar", "working"]

_SOON = 0.01  # seconds
_OFTEN = 3.0  # seconds; whoever reads a log begins to wonder after five


def progress_bar(shown: bool | None, *counters: ProgressColumn) -> Progress:
    """A bar for one task, whose description stands before it; the counters behind it say how many of how many.

    Where it is None whether it is shown, it is on a terminal and in a notebook.
    """
    console = Console(stderr=True)
    shown = console.is_terminal or console.is_jupyter if shown is None else shown
    columns = (TextColumn("{task.description}"), BarColumn(), *(counters or (MofNCompleteColumn(),)))
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown)


@contextmanager
def working(on: str) -> Iterator[None]:
    """Within, standard error shows what is worked on: a spinner on a terminal, elsewhere a line now and then.

    For work that cannot say how far it is, such as compiling. Nothing else may print meanwhile.
    """
    console = Console(stderr=True, highlight=False)
    if console.is_interactive:
        with console.status(on):
            yield
        return
    console.print(on, "...")
    start, over = time.monotonic(), threading.Event()

    def repeat() -> None:
        while not over.wait(_OFTEN):
            console.print(on, f"... {time.monotonic() - start:.0f} s")

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C is never lost. For the main thread, where Python raises it.

    Python ignores what is raised while it collects garbage or cleans up an object, and JAX has it call a function at
    every collection. Such an interrupt is repeated a moment later.
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
