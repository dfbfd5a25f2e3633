"""How far a long job is: a bar on standard error, the same for all of them."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["progress_bar"]


def progress_bar(shown: bool, *counters: ProgressColumn) -> Progress:
    """A bar for one task, whose description stands before it; the counters behind it say how many of how many."""
    columns = (TextColumn("{task.description}"), BarColumn(), *(counters or (MofNCompleteColumn(),)))
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not shown)
